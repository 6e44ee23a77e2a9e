"""The runs of a process as its rules look at them: by name and number, without going through those that are over.

A view is an index over the tree and nothing else. It is brought up to date by what is new (whoever recorded it), and
made anew when the tree was read anew. Views are used while the tree is held, as the rules are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from cortical.core.errors import RunStateError
from cortical.core.kinds import ITERATION
from cortical.core.outcome import Ok
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.core.topics import UNDONE
from cortical.stages.loop.config import LoopConfig, ProcessConfig, StageConfig
from cortical.stages.loop.words import DECISIONS, INITIAL_DATA, LOOPED, LOOPING, STOP, child_id

_NOTHING: Final[dict[str, Any]] = {}
_GOOD: Final = frozenset({Status.COMPLETED, Status.SKIPPED})


class Line:
    """The children of one run that were started here, in their order, and the id that the next one gets."""

    __slots__ = ("by_name", "known", "next_id", "run", "runs")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.runs: list[Run] = []
        #: Of each name the last.
        self.by_name: dict[str, Run] = {}
        self.next_id = child_id(run.id, 1)
        self.known = run.tree.index.runs

    @classmethod
    def of(cls, run: Run, known: Line | None = None) -> Line:
        """The children that there are now; what is known is brought up to date where it is of this very run."""
        line = Line(run) if known is None or known.run is not run else known
        if line.next_id in line.known:
            line.catch_up()
        return line

    def catch_up(self) -> None:
        """Take in the children that are new."""
        while (found := self.known.get(self.next_id)) is not None:
            self.runs.append(found)
            self.next_id = child_id(self.run.id, len(self.runs) + 1)
            if found.kind != ITERATION:
                self.by_name[found.name] = found

    def is_good(self, name: str) -> bool:
        """Whether the child of this name is completed, or was skipped."""
        run = self.by_name.get(name)
        return run is not None and run.status in _GOOD


class Tally(Struct):
    """What has come of iterations: `started` numbers, each once, and `attempts` at them; `seconds` of the completed."""

    started: int = 0
    attempts: int = 0
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    rolled_back: int = 0
    abandoned: int = 0
    seconds: float = 0.0
    last_good: Run | None = None

    def add(self, run: Run, undone: Mapping[str, Any] | None) -> None:
        """Count one attempt; what is tried again is no more than that."""
        self.attempts += 1
        self.started += attempt_of(run) == 1
        if undone is not None:
            self.rolled_back += bool(undone["rolled_back"])
            if undone["again"]:
                return
        if run.reason is None:
            return
        if type(run.outcome) is Ok and run.ended_at is not None:
            self.completed += 1
            self.seconds += run.ended_at - run.started_at
            self.last_good = run
        elif run.status is Status.FAILED:
            self.failed += 1
        elif run.status is Status.SKIPPED:
            self.skipped += 1
        else:
            self.abandoned += 1


class StageView(Line):
    """A stage, with its iterations or, where it does not loop, its substages."""

    __slots__ = ("_counted", "_read", "_settled", "_source", "_steps", "config", "name", "undone")

    def __init__(self, run: Run, config: StageConfig) -> None:
        super().__init__(run)
        self.name = run.name
        self.config = config
        #: Of the iterations that are tried again or were rolled back, what was noted then, by their ids.
        self.undone: dict[str, dict[str, Any]] = {}
        self._settled = Tally()
        self._counted = 0
        self._read = 0
        self._steps: Line | None = None
        self._source: Source | None = None

    def catch_up(self) -> None:
        """Take in what is new: iterations, and what was noted about them."""
        if self.next_id in self.known:
            super().catch_up()
        entries = self.run.entries
        if entries is not None and len(entries) > self._read:
            for entry in entries[self._read :]:
                if entry.topic == UNDONE:
                    self.undone[entry.value["run"]] = entry.value
            self._read = len(entries)
        # The last may still be tried again, or rolled back.
        while self._counted < len(self.runs) - 1:
            if self.config.loop is not None:
                run = self.runs[self._counted]
                self._settled.add(run, self.undone.get(run.id))
            self._counted += 1

    @property
    def loop(self) -> LoopConfig:
        """How it loops.

        Raises:
            RunStateError: it does not.
        """
        found = self.config.loop
        if found is None:
            raise RunStateError(f"stage {self.name!r} does not loop; give it a loop_config", self.run.id)
        return found

    @property
    def data(self) -> dict[str, Any]:
        """The stage's own data."""
        return _NOTHING if self.run.data is None else self.run.data

    @property
    def version(self) -> tuple[Any, ...]:
        """Another one whenever something has happened to the loop, or to its newest iteration."""
        last = self.last
        return self.run.id, self.run.seq, len(self.runs), None if last is None else last.seq

    @property
    def began(self) -> bool:
        """Whether its loop has begun, be it over or not."""
        return INITIAL_DATA in self.data

    @property
    def last(self) -> Run | None:
        """The newest iteration."""
        return self.runs[-1] if self.runs and self.config.loop is not None else None

    @property
    def open_iteration(self) -> Run | None:
        """The iteration that is under way; None between two."""
        last = self.last
        return last if last is not None and last.reason is None else None

    @property
    def comes_again(self) -> bool:
        """Whether the newest iteration is over, and is to be tried again."""
        undone = self.undone.get(self.runs[-1].id) if self.runs and self.undone else None
        return undone is not None and bool(undone["again"])

    @property
    def next_number(self) -> int:
        """The number (1, 2, …) of the iteration that comes next."""
        last = self.last
        return 1 if last is None else number_of(last) + (not self.comes_again)

    @property
    def next_visit(self) -> tuple[int, int]:
        """The number of the iteration that comes next, and which attempt at it that will be."""
        if self.comes_again:
            return number_of(self.runs[-1]), attempt_of(self.runs[-1]) + 1
        return self.next_number, 1

    @property
    def last_good(self) -> Run | None:
        """The newest iteration that was completed, and not undone."""
        last = self.last
        if last is not None and type(last.outcome) is Ok and last.id not in self.undone:
            return last
        return self._settled.last_good

    @property
    def tally(self) -> Tally:
        """What has come of all iterations so far."""
        tally = copy.copy(self._settled)
        if self.runs:
            tally.add(self.runs[-1], self.undone.get(self.runs[-1].id))
        return tally

    @property
    def steps(self) -> Line:
        """The substages of the newest iteration."""
        steps = self._steps = Line.of(self.runs[-1], self._steps)
        return steps

    @property
    def source(self) -> Source:
        """What the iterations take their data from."""
        if self._source is None:
            self._source = Source.of(self.loop, self.data.get(INITIAL_DATA) or {})
        return self._source

    @property
    def next_start(self) -> int:
        """Where in the data the next iteration begins (0, 1, …)."""
        last = self.last
        if last is None:
            return 0
        begin, end = span_of(last)
        return begin if self.comes_again else end

    def stopped(self) -> dict[str, Any] | None:
        """What has stopped the loop for good; None while nothing has."""
        return self.data.get(STOP)

    def decided(self, name: str) -> dict[str, Any]:
        """What was decided under this name, by the loop and the iterations up to now."""
        found: dict[str, dict[str, Any]] = self.data.get(DECISIONS) or {}
        return found.get(name) or {}


class Source(Struct):
    """The data that iterations take their parts of; `length` is None where there are none."""

    items: Any = None
    length: int | None = None

    @classmethod
    def of(cls, loop: LoopConfig, initial: Mapping[str, Any]) -> Source:
        """Those of the configuration, or of the initial data: under its key, or as many as their total says."""
        if loop.items is not None:
            return cls(loop.items, len(loop.items))
        if loop.iteration_data_key is None:
            return cls()
        items = initial.get(loop.iteration_data_key)
        if items is None and "total_items" in initial:
            return cls(range(initial["total_items"]), initial["total_items"])
        return cls() if items is None else cls(items, len(items))


class Books:
    """The views of one handler, found by the runs that they are of."""

    def __init__(self, config: ProcessConfig) -> None:
        self.config = config
        self._processes: dict[str, Line] = {}
        self._stages: dict[str, StageView] = {}

    def process(self, run: Run) -> Line:
        """The stages of a process."""
        line = self._processes[run.id] = Line.of(run, self._processes.get(run.id))
        return line

    def stage(self, process: Run, name: str) -> StageView | None:
        """The stage of this name; None while it has not been started.

        Raises:
            WrongType, InvalidInput: the configuration has none such.
        """
        config = self.config.stage(name)
        run = self.process(process).by_name.get(name)
        if run is None:
            return None
        view = self._stages.get(name)
        if view is None or view.run is not run:
            view = self._stages[name] = StageView(run, config)
        view.catch_up()
        return view

    def started(self, process: Run, name: str, verb: str) -> StageView:
        """The stage of this name, which has been started.

        Raises:
            RunStateError: it has not.
            WrongType, InvalidInput: the configuration has none such.
        """
        view = self.stage(process, name)
        if view is None:
            raise RunStateError(f"stage {name!r} may not {verb}: it has not been started; start it first", process.id)
        return view

    def open(self, process: Run, name: str, verb: str) -> StageView:
        """The stage of this name, which has been started and has not ended.

        Raises:
            RunStateError: it has not, or has ended.
            WrongType, InvalidInput: the configuration has none such.
        """
        view = self.started(process, name, verb)
        run = view.run
        if run.reason is not None:
            raise RunStateError(f"stage {name!r} may not {verb}: it has ended, {run.status.value}", run.id)
        return view

    def looping(self, process: Run, name: str, verb: str) -> StageView:
        """The stage of this name, which stands at its loop.

        Raises:
            RunStateError: it does not loop, or its loop has not begun or is over.
            WrongType, InvalidInput: the configuration has none such.
        """
        view = self.open(process, name, verb)
        place = view.run.place
        if place != LOOPING:
            view.loop  # noqa: B018  # refuses a plain stage
            why = "its loop is over" if place == LOOPED else "its loop has not begun; initialize_loop first"
            raise RunStateError(f"stage {name!r} may not {verb}: {why}", view.run.id)
        return view


def number_of(run: Run) -> int:
    """The number of an iteration (1, 2, …)."""
    return int(run.metadata["number"])


def attempt_of(run: Run) -> int:
    """Which attempt at its number an iteration is (1, 2, …)."""
    return int(run.metadata["attempt"])


def span_of(run: Run) -> tuple[int, int]:
    """Which part of the data an iteration has: from, up to; (0, 0) where there are none."""
    span = run.metadata.get("span", (0, 0))
    if isinstance(span, int):
        return span, span + 1
    begin, end = span
    return begin, end
