"""Figures of runs, counted from their events: as they happen, or from a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from threading import Lock
from typing import Any, Self

from attrs import Factory, define

from cortical.core import topics
from cortical.core.checks import require_count
from cortical.core.events import Ended, Event, Noted, Started
from cortical.core.figures import numbers
from cortical.core.journal import Journal
from cortical.core.outcome import STATUS_OF, Failed
from cortical.monitoring.histogram import Histogram, add_to
from cortical.monitoring.prometheus import prometheus_text
from cortical.monitoring.turns import TurnWatch
from cortical.store.face import Face, Place


@define
class Figures:
    """What is counted: of one run, of a kind of run, or of all.

    `failures` are attempts that failed, and runs that ended `Failed` without the attempt having been told before.
    `resources` holds what was told last of each, `most` the largest.
    """

    iterations: int = 0
    failures: int = 0
    recoveries: int = 0
    seconds: Histogram = Factory(Histogram)
    resources: dict[str, float] = Factory(dict)
    most: dict[str, float] = Factory(dict)

    def use(self, name: str, used: float) -> None:
        """Take in what is used of a resource."""
        self.resources[name] = used
        self.most[name] = max(used, self.most.get(name, used))

    def snapshot(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "iterations": self.iterations,
            "failures": self.failures,
            "recoveries": self.recoveries,
            "seconds_per_iteration": self.seconds.snapshot(),
            "resources": dict(sorted(self.resources.items())),
            "resources_most": dict(sorted(self.most.items())),
        }


@define
class RunFigures(Figures):
    """The figures of one run; where its start was not heard and nobody knows it, kind and name are empty."""

    kind: str = ""
    name: str = ""
    status: str = "open"
    _seq: int = 0
    _turns: TurnWatch = Factory(TurnWatch)
    _attempt_failed: bool = False

    def snapshot(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.name, "status": self.status, **super().snapshot()}


class Metrics:
    """Iterations, failures, recoveries, seconds per iteration and resource use: per run, per kind and overall.

    ::

        happened = Metrics.of("runs.db")

        bus = EventBus("runs.db")
        happening = Metrics(bus.journal)
        bus.on(happening.take)

    An event that was taken in already is passed over. What is kept of each run is small and of one size; of runs that
    have ended only the latest are kept, the others are in the sums alone.

    Args:
        journal: for the kind and name of a run that was started before anything was heard.
        keep_ended: how many runs that have ended are kept one by one.
    """

    def __init__(self, journal: Journal | None = None, *, keep_ended: int = 1000) -> None:
        self._journal, self._keep_ended = journal, require_count(keep_ended, "keep_ended", 0)
        self._lock = Lock()
        self._overall = Figures()
        self._kinds: dict[str, Figures] = {}
        self._open: dict[str, RunFigures] = {}
        self._ended: dict[str, RunFigures] = {}
        self._started: Counter[str] = Counter()
        self._ends: Counter[tuple[str, str]] = Counter()

    @classmethod
    def of(cls, place: Place, run_id: str | None = None, *, keep_ended: int = 1000) -> Self:
        """The figures of what a store has recorded: of one run and those below it, or of all trees.

        Raises:
            RunNotFound: no run has this id.
            StoreError: the store cannot be read.
        """
        metrics = cls(keep_ended=keep_ended)
        with Face(place, create=False) as face:
            journal = face.journal
            if run_id is not None:
                metrics.take_all(journal.events(run_id, below=True))
                return metrics
            for root in reversed(journal.store.roots()):
                metrics.take_all(journal.store.read(root.id))
        return metrics

    def take(self, event: Event) -> None:
        """Count one event, unless it was counted before."""
        with self._lock:
            run = self._open.get(event.run_id) or self._ended.get(event.run_id)
            if run is None:
                run = self._unheard(event)
                if not (isinstance(event, Noted) and event.topic == topics.RECOVERY):  # the run may have ended long ago
                    self._open[event.run_id] = run
            if event.seq > run._seq:
                run._seq = event.seq
                self._count(run, event)

    def take_all(self, events: Iterable[Event]) -> None:
        """Count events, those of each run in the order of its log."""
        for event in events:
            self.take(event)

    def snapshot(self) -> dict[str, Any]:
        """Plain values: `overall`, `kinds` and `runs` (by id) of the same figures, and how many runs began and ended.

        ``{"overall": {"iterations": …, "failures": …, "recoveries": …, "seconds_per_iteration": {"count", "total",
        "mean", "p50", "p95", "max"}, "resources": {…}, "resources_most": {…}}, "kinds": {"loop": …}, "runs": {id: …},
        "started": {"loop": 3}, "ended": {"loop": {"completed": 2}}}``
        """
        with self._lock:
            ended: dict[str, dict[str, int]] = {}
            for (kind, status), count in sorted(self._ends.items()):
                ended.setdefault(kind, {})[status] = count
            return {
                "overall": self._overall.snapshot(),
                "kinds": {kind: figures.snapshot() for kind, figures in sorted(self._kinds.items())},
                "runs": {run_id: run.snapshot() for run_id, run in sorted((self._open | self._ended).items())},
                "started": dict(sorted(self._started.items())),
                "ended": ended,
            }

    def prometheus(self, *, per_run: bool = False) -> str:
        """The figures by kind of run, and with `per_run` by run too, in Prometheus's text format 0.0.4.

        Always in the same order. Figures of single runs have names of their own (``cortical_run_…``), so that nothing
        is counted twice in a sum; each run is some ten time series, so ask for them where runs are few.
        """
        return prometheus_text(self.snapshot(), per_run=per_run)

    def _unheard(self, event: Event) -> RunFigures:
        if self._journal is None or isinstance(event, Started):
            return RunFigures()
        known = self._journal.run(event.run_id)
        return RunFigures(kind=known.kind, name=known.name)

    def _count(self, run: RunFigures, event: Event) -> None:
        if isinstance(event, Started):
            run.kind, run.name = event.kind, event.name
            self._started[event.kind] += 1
        alike = self._kinds.get(run.kind)
        if alike is None:
            alike = self._kinds[run.kind] = Figures()
        levels = (run, alike, self._overall)
        seconds = run._turns.take(event)
        if seconds is not None:
            run._attempt_failed = False
            for figures in levels:
                figures.iterations += 1
            add_to([figures.seconds for figures in levels], seconds)
        if isinstance(event, Noted):
            self._noted(run, event, levels)
        elif isinstance(event, Ended):
            self._end(run, event, levels)

    @staticmethod
    def _noted(run: RunFigures, event: Noted, levels: Iterable[Figures]) -> None:
        match event.topic:
            case topics.ATTEMPT:
                run._attempt_failed = True
                for figures in levels:
                    figures.failures += 1
            case topics.RECOVERY:
                run._attempt_failed = False
                for figures in levels:
                    figures.recoveries += 1
            case topics.RESOURCES:
                for name, used in numbers(event.value).items():
                    for figures in levels:
                        figures.use(name, used)

    def _end(self, run: RunFigures, event: Ended, levels: Iterable[Figures]) -> None:
        run.status = STATUS_OF[type(event.outcome)].value
        self._ends[run.kind, run.status] += 1
        if isinstance(event.outcome, Failed) and not run._attempt_failed:
            for figures in levels:
                figures.failures += 1
        self._open.pop(event.run_id, None)
        self._ended[event.run_id] = run
        while len(self._ended) > self._keep_ended:
            del self._ended[next(iter(self._ended))]
