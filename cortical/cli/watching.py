"""What `watch` has before its eyes: open trees as the store has them, how fast they get on, and what is wrong."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from attrs import frozen

from cortical.core.journal import Journal
from cortical.core.phases import ITERATION
from cortical.core.run import Run
from cortical.core.turns import turns_done
from cortical.monitoring import Finding, ProgressReport, check
from cortical.monitoring.findings import by_severity
from cortical.monitoring.turns import has_turns
from cortical.store import Store

#: How many trees are watched at most, and of how many runs progress is told.
MOST_TREES: Final = 20
_MOST_MEASURED: Final = 20
#: How many of those that have ended meanwhile are still shown.
_ENDED_SHOWN: Final = 3
#: Over how many looks a rate is taken.
_LOOKS: Final = 10
#: After so many trees that have ended, what is in memory is let go of.
_MOST_KEPT: Final = 100


@frozen
class Sight:
    """What was seen at one moment: runs with all below them, progress by run id, and findings, the gravest first.

    `rate` is how many turns all of them finish a second; `more` whether there are open trees that are not watched;
    `over` whether the run that is watched has ended.
    """

    at: float
    tops: tuple[Run, ...]
    measured: Mapping[str, Measured]
    findings: tuple[Finding, ...]
    rate: float
    more: bool
    over: bool

    def runs(self) -> Iterator[Run]:
        """All runs that are watched, each top followed by those below it."""
        for top in self.tops:
            yield from top.tree.walk(top)


@frozen
class Measured:
    """How far a run has come, and how many turns (or children) it finishes a second at present, where that is known."""

    report: ProgressReport
    rate: float | None
    counts_turns: bool

    @property
    def eta(self) -> float | None:
        """Seconds that the rest takes at the present rate; None when nobody knows."""
        if self.report.total is None or not self.rate:
            return None
        return max(0, self.report.total - self.report.done) / self.rate


class Watch:
    """Looks at a store again and again: at all its open trees, or at the run that a prefix names and all below it.

    Raises:
        RunNotFound, AmbiguousId: the prefix does not name one run.
    """

    def __init__(self, store: Store, prefix: str | None) -> None:
        self._journal = Journal(store, clock=time)
        self._run_id = None if prefix is None else self._journal.resolve(prefix)
        self._open: list[str] = []
        self._ended: deque[str] = deque(maxlen=_ENDED_SHOWN)
        self._let_go = 0
        #: When, and how many turns each run had finished by then.
        self._looks: deque[tuple[float, dict[str, int]]] = deque(maxlen=_LOOKS)

    def look(self) -> Sight:
        """What there is to see now, whichever process did it.

        Raises:
            StoreError: the store cannot be read.
        """
        tops, more = self._tops()
        over = self._run_id is not None and tops[0].reason is not None
        now = time.time()
        done = {run.id: turns_done(run) for top in tops for run in top.tree.walk(top) if has_turns(run)}
        rates = self._rates(now, done)
        measured = {run.id: self._measured(run, rates) for run in _worth_measuring(tops)}
        rate = sum(
            rates.values() if self._looks else (one.rate or 0.0 for one in measured.values() if one.counts_turns)
        )
        findings = [finding for top in tops for finding in check(self._journal, top.id, now=now)]
        self._looks.append((now, done))
        once = {(finding.code, finding.run_id, finding.message): finding for finding in findings}
        return Sight(now, tuple(tops), measured, tuple(by_severity(once.values())), rate, more, over)

    def _tops(self) -> tuple[list[Run], bool]:
        if self._run_id is not None:
            return [self._journal.refresh(self._run_id)], False
        roots = self._journal.store.roots(open_only=True, limit=MOST_TREES + 1)
        now_open = [root.id for root in roots]
        for root_id in self._open:
            if root_id not in now_open:
                self._ended.append(root_id)
                self._let_go += 1
        self._open = now_open[:MOST_TREES]
        if self._let_go >= _MOST_KEPT:
            self._let_go = 0
            self._journal.forget()
        shown = [*self._open, *(root_id for root_id in self._ended if root_id not in self._open)]
        return [self._journal.refresh(root_id) for root_id in shown], len(roots) > MOST_TREES

    def _rates(self, now: float, done: Mapping[str, int]) -> dict[str, float]:
        """How many turns each run has finished a second since the oldest look that is remembered."""
        if not self._looks:
            return {}
        at, before = self._looks[0]
        seconds = max(now - at, 0.001)
        return {run_id: (count - before[run_id]) / seconds for run_id, count in done.items() if run_id in before}

    def _measured(self, run: Run, rates: Mapping[str, float]) -> Measured:
        report = ProgressReport.of(self._journal, run.id)
        iterates = run.place == ITERATION
        now = rates.get(run.id) if iterates else None
        return Measured(report, report.rate if now is None else now, iterates)


def _worth_measuring(tops: Sequence[Run]) -> list[Run]:
    """The open runs of which it can be told how far they have come: those that repeat, then those near a root."""
    repeating: list[Run] = []
    waiting: list[Run] = []
    for top in tops:
        for run in () if top.reason is not None else top.tree.walk_open(top):
            if run.place == ITERATION:
                repeating.append(run)
            elif run.open_children:
                waiting.append(run)
    return [*repeating, *sorted(waiting, key=lambda run: run.depth)][:_MOST_MEASURED]
