"""The turns of a run, of whatever kind: each begins at a place of `TURN_PLACES`."""

from __future__ import annotations

from typing import Final

from cortical.core.figures import numbers
from cortical.core.outcome import Ok
from cortical.core.phases import ITERATION, TURN_PLACES
from cortical.core.run import Run
from cortical.core.topics import ATTEMPT, DRIVEN, RECOVERY, RESULT, SKIPPED

#: What the metadata of a run that goes on in another's place say: how many turns were finished before.
ITERATIONS_BEFORE: Final = "iterations_before"
#: The notes that finish a turn, though the next has not begun.
FINISHING: Final = frozenset({RESULT, SKIPPED})


def finished_here(run: Run) -> bool:
    """Whether the turn at which a run stands is finished, and only the next is still to be entered."""
    here = run.entries_here
    return bool(here) and any(entry.topic in FINISHING for entry in here)


def attempts_here(run: Run) -> int:
    """How many attempts at what a run is doing have failed since it came to where it stands."""
    here = run.entries_here
    return sum(entry.topic == ATTEMPT for entry in here) if here else 0


def failures_in_row(run: Run) -> int:
    """How many attempts in a row have failed where a run stands: since it came there, or was recovered."""
    count = 0
    for entry in reversed(run.entries_here):
        if entry.topic == RECOVERY:
            break
        count += entry.topic == ATTEMPT
    return count


def turns_begun(run: Run) -> int:
    """How many turns a run has begun."""
    if run.visit is None:
        return 0
    turns = run.turns or {run.visit.place: run.visit.turn}
    return sum(turns.get(place, 0) for place in TURN_PLACES)


def turns_done(run: Run) -> int:
    """How many turns of a run are finished, those of earlier lives apart.

    All, where it has ended well; except of a controlled loop, which may end well before an iteration that it has begun.
    """
    begun = turns_begun(run)
    ended_well = isinstance(run.outcome, Ok) and run.place != ITERATION
    return begun if not begun or ended_well or finished_here(run) else begun - 1


def turns_before(run: Run) -> int:
    """How many turns were finished in the lives that a run goes on from."""
    before = run.metadata.get(ITERATIONS_BEFORE, 0)
    return before if isinstance(before, int) else 0


def iterations_done(run: Run) -> int:
    """How many turns of a run are finished, those of its earlier lives included."""
    return turns_before(run) + turns_done(run)


def seconds_waited(run: Run, until: float) -> float:
    """For how many seconds a run was paused or blocked, up to `until`."""
    return run.waited + (0.0 if run.waits_since is None else max(0.0, until - run.waits_since))


def seconds_driven(run: Run, until: float) -> float | None:
    """For how many seconds a loop was driven, up to `until`, pauses apart; None where it never was.

    That is what it noted when it was taken up last, and since then.
    """
    last = next((entry for entry in reversed(run.entries or ()) if entry.topic == DRIVEN), None)
    if last is None:
        return None
    before = numbers(last.value)
    waited = seconds_waited(run, until) - before.get("waited", 0.0)
    return before.get("elapsed", 0.0) + max(0.0, until - last.at - waited)
