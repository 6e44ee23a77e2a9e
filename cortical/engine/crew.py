"""Carries out the children of a run: so many at a time, in threads or as tasks, each recorded as it begins and ends.

::

    crew = Crew(journal, parent_id, "stage", concurrency=4)
    crew.drive(source)

A `Source` says what can be begun, and hears what came of it: a pipeline's knows dependencies, a batch's reads items.
The one thread that drives records; what ends and what begins at the same moment are one record. Workers only call
functions. A child that failed and is to be tried again waits without a worker.
"""

from __future__ import annotations

import heapq
import random as chance
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final, Protocol

from attrs import define

from cortical.core import rules
from cortical.core.errors import BudgetExhausted, RunStateError
from cortical.core.events import Event, Noted
from cortical.core.journal import Journal
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome, Skipped
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.core.topics import ATTEMPT
from cortical.engine.hands import Hands, Result, Unit, called
from cortical.engine.limited import TimeIsUp

#: The place of a child that is carried out.
WORK: Final = "work"

_POLL_SECONDS: Final = 0.1
_ATOMS: Final = frozenset({str, int, float, bool, type(None)})
#: How many results that came at the same moment are recorded together.
_MOST_TOGETHER: Final = 64

Step = tuple[Any, ...]


class Source(Protocol):
    """What a crew works on. Called by the one thread that drives."""

    def next(self) -> Unit | None:
        """Another unit that can be begun now; None when there is none, or none yet."""
        ...

    def outcome(self, unit: Unit, returned: Any) -> Outcome:
        """How a unit ends whose function returned this."""
        ...

    def steps(self, unit: Unit, outcome: Outcome) -> Sequence[Step]:
        """What is to be recorded of the parent together with this end: rules of the core, with their arguments."""
        ...

    def settled(self, unit: Unit, outcome: Outcome) -> None:
        """A unit has ended; it is recorded next, together with what can be begun now."""
        ...


class Crew:
    """Drives children of one run.

    Args:
        journal: keeps the tree; whoever drives holds the lease on it.
        parent_id: the run whose children they are. It stays active; a pause holds the next ones back.
        kind: of the children.
        concurrency: how many are carried out at the same time. With 1, functions without a time limit are called by
            the thread that drives, in exactly the source's order.
        sleep: waits before another attempt when there is nothing else to do; by default a wait that looks about.
        random: numbers from 0 to 1, for the jitter of these waits.
    """

    def __init__(
        self,
        journal: Journal,
        parent_id: str,
        kind: str,
        *,
        concurrency: int = 1,
        sleep: Callable[[float], object] | None = None,
        random: Callable[[], float] = chance.random,
    ) -> None:
        self.journal = journal
        self.parent_id = parent_id
        #: The budget that had no room for another child; None while there is.
        self.exhausted: BudgetExhausted | None = None
        #: The most that were carried out at the same time.
        self.peak = 0
        self._kind = kind
        self._concurrency = concurrency
        self._sleep = sleep
        self._random = random
        self._running = 0
        self._results: deque[Result] = deque()
        self._delayed: list[tuple[float, int, Unit]] = []
        self._numbers = count()
        self._refused: deque[Unit] = deque()
        self._starting = True
        self._woken = threading.Event()
        self._look_at = 0.0
        self._hands = Hands(concurrency)

    def stop_starting(self) -> None:
        """Let what is under way finish, and begin nothing else."""
        self._starting = False
        self._woken.set()

    def drive(self, source: Source) -> None:
        """Carry out what the source gives until there is no more, or the parent has ended.

        Raises:
            LeaseLost, StoreError: what was done could not be recorded.
            SystemExit, KeyboardInterrupt: from a child's function, which stays open.
        """
        try:
            while (parent := self._look()).reason is None:
                finished = self._finished()
                ends = [end for result in finished if (end := self._end_of(source, result)) is not None]
                begun = list(self._beginning(source, parent))
                if ends or begun:
                    self._record(ends, begun)
                elif not (self._running or self._results or self._wait(parent)):
                    return
        finally:
            self._hands.close()

    # What has ended

    def _finished(self) -> list[Result]:
        """What was done since the last time; waits for it where there is nothing else to do."""
        found: list[Result] = []
        while self._results and len(found) < _MOST_TOGETHER:
            found.append(self._results.popleft())
        if self._running and not found:
            found = self._hands.done(self._patience(), _MOST_TOGETHER)
            self._running -= len(found)
        for result in found:
            if result.error is not None and not isinstance(result.error, Exception):
                raise result.error
        return found

    def _patience(self) -> float:
        due = self._delayed[0][0] - self.journal.clock.time() if self._delayed else _POLL_SECONDS
        return min(_POLL_SECONDS, max(0.0, due))

    def _end_of(self, source: Source, result: Result) -> _End | None:
        """What is recorded of a result: an end, or an attempt that failed; None where somebody has ended the child."""
        unit, error = result.unit, result.error
        assert unit.run_id is not None
        run = self.journal.run(unit.run_id)
        if run.outcome is not None:
            source.settled(unit, run.outcome)
            return None
        if error is None:
            try:
                outcome = source.outcome(unit, result.returned)
                steps = source.steps(unit, outcome)
                self._require_keepable(outcome, steps)
            except Exception as broken:  # noqa: BLE001  # what cannot be kept, or made an outcome of, is a failure
                error = broken
            else:
                source.settled(unit, outcome)
                return _End(unit.run_id, outcome, _REASON[type(outcome)], steps)
        return self._failed(source, unit, error)

    def _failed(self, source: Source, unit: Unit, error: BaseException) -> _End:
        assert unit.run_id is not None
        if unit.attempt < unit.retry.max_attempts and unit.retry.covers(error, unit.retried):
            due = self.journal.clock.time() + unit.retry.seconds_before(unit.attempt + 1, self._random)
            heapq.heappush(self._delayed, (due, next(self._numbers), unit))
            told = {"attempt": unit.attempt, "error": f"{type(error).__name__}: {error}"}
            return _End(unit.run_id, told=told)
        outcome = Failed.of(error, attempts=unit.attempt)
        reason = TerminationReason.TIMEOUT if isinstance(error, TimeIsUp) else TerminationReason.ERROR
        steps = source.steps(unit, outcome)
        source.settled(unit, outcome)
        return _End(unit.run_id, outcome, reason, steps)

    def _require_keepable(self, outcome: Outcome, steps: Sequence[Step]) -> None:
        """Refuse a value that the store cannot keep, while it still can be made a failure of this child alone."""
        if isinstance(outcome, Ok) and type(outcome.value) not in _ATOMS:
            self._prepare("result", outcome.value)
        for _, *facts in steps:
            self._prepare("written", facts)

    def _prepare(self, topic: str, value: object) -> None:
        self.journal.store.prepare(self.parent_id, 0, [Noted(self.parent_id, 1, 0.0, topic, value)])

    # What begins

    def _beginning(self, source: Source, parent: Run) -> Iterator[Unit]:
        """Units to begin now, as many as there is room for."""
        room = self._concurrency - self._running
        if parent.status is not Status.ACTIVE or self.exhausted is not None:
            return
        now = self.journal.clock.time() if self._delayed else 0.0
        while room > 0 and self._delayed and self._delayed[0][0] <= now:
            room -= 1
            yield heapq.heappop(self._delayed)[2]
        while room > 0 and self._starting and (unit := source.next()) is not None:
            room -= 1
            unit.attempt = unit.failed_before
            yield unit

    def _record(self, ends: Sequence[_End], begun: Sequence[Unit]) -> None:
        starts = {}
        for unit in begun:
            unit.attempt += 1
            if unit.run_id is None:
                unit.run_id = self.journal.new_id()
                starts[unit.run_id] = unit
        if ends or starts:
            begun = self._recorded(list(ends), starts, begun)
        for unit in begun:
            self._hand_over(unit)

    def _recorded(self, ends: list[_End], starts: Mapping[str, Unit], begun: Sequence[Unit]) -> Sequence[Unit]:
        """Record; returns the units that are to be carried out."""
        while True:
            try:
                self.journal.insist(self.parent_id, _turn_over, self._kind, ends, starts)
            except BudgetExhausted as exhausted:
                self.exhausted = exhausted
                begun = [unit for unit in begun if unit.run_id not in starts]
                starts = {}
            except RunStateError:
                if self.journal.refresh(self.parent_id).reason is not None:
                    return ()
                remaining = [end for end in ends if self.journal.run(end.run_id).reason is None]
                if len(remaining) == len(ends):
                    raise
                ends = remaining  # somebody has ended one of them at this moment
            else:
                return begun

    def _hand_over(self, unit: Unit) -> None:
        if self._concurrency == 1 and unit.seconds is None and not unit.is_async:
            self.peak = 1
            self._results.append(called(unit))
            return
        self._running += 1
        self.peak = max(self.peak, self._running)
        self._hands.take_on(unit)

    # Waiting, and looking about

    def _look(self) -> Run:
        """The parent, read anew now and then: other processes may have changed it."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _POLL_SECONDS
            self.journal.refresh(self.parent_id)
        return self.journal.run(self.parent_id)

    def _wait(self, parent: Run) -> bool:
        """Wait where nothing runs, for a pause to end or another attempt's time; False where nothing is to come."""
        held_back = parent.status is not Status.ACTIVE
        if not held_back and (not self._delayed or self.exhausted is not None):
            return False
        seconds = _POLL_SECONDS if held_back else max(0.0, self._delayed[0][0] - self.journal.clock.time())
        if self._sleep is not None:
            self._sleep(seconds)
        else:
            self._woken.wait(min(seconds, _POLL_SECONDS))
        return True


@define
class _End:
    """What is recorded of one child: its outcome, or else what is told of an attempt that failed."""

    run_id: str
    outcome: Outcome | None = None
    reason: TerminationReason = TerminationReason.SUCCESS
    steps: Sequence[Step] = ()
    told: dict[str, Any] | None = None


_REASON: Final[dict[type, TerminationReason]] = {
    Ok: TerminationReason.SUCCESS,
    Failed: TerminationReason.ERROR,
    Skipped: TerminationReason.CONDITION_MET,
    Abandoned: TerminationReason.DEPENDENCY_FAILURE,
}


def _turn_over(parent: Run, at: float, kind: str, ends: Sequence[_End], starts: Mapping[str, Unit]) -> Sequence[Event]:
    """What has ended and what begins, in one record."""
    rules.require_open(parent, "have children carried out")
    events: list[Event] = []
    steps: list[Step] = []
    runs = parent.tree.index.runs
    for end in ends:
        run = runs[end.run_id]
        if end.outcome is None:
            events += rules.note(run, at, ATTEMPT, end.told)
        else:
            events += rules.end_with_children(run, at, end.outcome, end.reason)
            steps += end.steps
    if steps:
        events += rules.in_turn(parent, at, steps)
    if starts:
        rules.require_room(parent, at, len(starts))
        for child_id, unit in starts.items():
            events += rules.start(
                child_id, at, kind, unit.name, parent_id=parent.id, place=WORK, metadata=unit.metadata
            )
    return events
