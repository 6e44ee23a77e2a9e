"""How much of a run is done, and how long the rest may take.

`cortical.core.conditions.Progress` is what a loop's conditions are asked about: what was used up so far. The report
made here looks the other way, at what is left.
"""

from __future__ import annotations

import math

from attrs import frozen

from cortical.core.figures import as_number, numbers
from cortical.core.run import Run
from cortical.core.topics import LIMITS, RESULT, SKIPPED, TOTAL
from cortical.core.turns import turns_before, turns_done
from cortical.monitoring.turns import has_turns, last_noted
from cortical.store.face import Face, Place


@frozen
class ProgressReport:
    """What is done of a run, out of what.

    `done` counts iterations of a loop, children of any other run, else the run itself. `total` is None where nobody
    knows it; then so are `fraction` (0 to 1) and `eta_seconds`. `rate` is how many were done a second, up to the last
    that was, and `eta_seconds` how long the rest takes at this rate, from then on: both None until one is done.
    """

    run_id: str
    done: int
    total: int | None
    fraction: float | None
    rate: float | None
    eta_seconds: float | None

    @classmethod
    def of(cls, place: Place, run_id: str) -> ProgressReport:
        """How far a run has come, whoever drives it.

        A controlled loop counts its iterations, against the limit it has. Another run with children counts those that
        have ended, against the number that it noted on the topic ``total``, or else those that were started. A loop
        without children counts its turns; how many there will be, nobody knows.

        Raises:
            RunNotFound: no run has this id.
            StoreError: the store cannot be read.
        """
        with Face(place, create=False) as face:
            journal = face.journal
            run = journal.refresh(run_id)
            with journal.holding(run.tree):
                return _report(run)


def _report(run: Run) -> ProgressReport:
    limit = numbers(last_noted(run, LIMITS)).get("max_iterations")
    children = run.children
    noted = as_number(last_noted(run, TOTAL))
    if limit is not None or (has_turns(run) and not children and noted is None):
        done, last_at = turns_done(run), _turn_done_at(run)
        before = turns_before(run)
        return _reported(run, before + done, limit, _rate(run, done, last_at))
    if children or noted is not None:
        ended = [child.ended_at for child in children if child.ended_at is not None]
        total = float(len(children)) if noted is None else noted
        return _reported(run, len(ended), total, _rate(run, len(ended), max(ended, default=None)))
    done = int(run.reason is not None)
    return _reported(run, done, 1, _rate(run, done, run.ended_at))


def _reported(run: Run, done: int, total: float | None, rate: float | None) -> ProgressReport:
    if total is None or math.isinf(total):
        return ProgressReport(run.id, done, None, None, rate, None)
    fraction = min(1.0, done / total) if total > 0 else 1.0
    left = 0.0 if run.reason is not None else max(0.0, total - done)
    eta = None if rate is None else left / rate
    return ProgressReport(run.id, done, int(total), fraction, rate, eta)


def _rate(run: Run, done: int, last_at: float | None) -> float | None:
    """How many a second, from the run's first visit to when the last was done, without the time it was held up."""
    visits = run.visits
    if not done or last_at is None:
        return None
    since = visits[0].entered_at if visits else run.started_at
    held_up = sum(visit.waited for visit in visits) if has_turns(run) and not run.children else 0.0
    seconds = last_at - since - held_up
    return done / seconds if seconds > 0 else None


def _turn_done_at(run: Run) -> float | None:
    """When the turn that was finished last was: the present visit began then, or has brought its result."""
    if run.visit is None:
        return None
    here = [entry.at for entry in run.entries_here if entry.topic in (RESULT, SKIPPED)]
    return here[-1] if here else run.ended_at or run.visit.entered_at
