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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final, Protocol

from cortical.core import budget, rules
from cortical.core.checks import require_count
from cortical.core.errors import BudgetExhausted, RunStateError
from cortical.core.events import Noted
from cortical.core.journal import Journal
from cortical.core.outcome import Failed, Ok, Outcome, message_of
from cortical.core.phases import WORK
from cortical.core.ports import seconds_on
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.engine.hands import Hands, Result, Unit, called
from cortical.engine.lease import require_lease
from cortical.engine.limited import TimeIsUp
from cortical.engine.turnover import REASON, End, Step, Turnover, turn_over

__all__ = ["WORK", "Crew", "Source", "Step", "Unit"]

_POLL_SECONDS: Final = 0.1
_ATOMS: Final = frozenset({str, int, float, bool, type(None)})
#: How many results that came at the same moment are recorded together.
_MOST_TOGETHER: Final = 64


class Source(Protocol):
    """What a crew works on. Called by the one thread that drives.

    What `outcome` raises is a failure of its unit. What the others raise, `drive` raises, after what had ended until
    then was recorded.
    """

    def next(self) -> Unit | None:
        """Another unit that can be begun now; None when there is none, or none yet."""
        ...

    def outcome(self, unit: Unit, returned: Any) -> Outcome:
        """How a unit ends whose function returned this; it may set the unit's `data`."""
        ...

    def steps(self, unit: Unit, outcome: Outcome) -> Sequence[Step]:
        """What is to be recorded together with this end: rules on the parent, each with its arguments."""
        ...

    def settled(self, unit: Unit, outcome: Outcome) -> None:
        """A unit has ended; it is recorded next, together with what can be begun now.

        Also called, with the outcome that it has, for one that somebody else has ended. Should that happen at this very
        moment, or the parent end, then what they recorded holds.
        """
        ...


class Crew:
    """Drives children of one run, once.

    Args:
        journal: keeps the tree; whoever drives holds the lease on it.
        parent_id: the run whose children they are. It stays active; a pause holds the next ones back.
        kind: of the children.
        concurrency: how many are carried out at the same time. With 1, functions without a time limit are called by
            the thread that drives, in exactly the source's order.
        sleep: waits before another attempt when there is nothing else to do; by default a wait that looks about.
        random: numbers from 0 to 1, for the jitter of these waits.

    Raises:
        WrongType, InvalidInput: `concurrency` is no whole number from 1 on.
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
        self._seconds = seconds_on(journal.clock)
        self.parent_id = parent_id
        #: The budget that had no room for another child, or no time for another attempt; None while there is.
        self.exhausted: BudgetExhausted | None = None
        #: Units that the source gave and that were not begun, in its order: there was no room for them in the budget,
        #: the parent was paused or ended at that moment, or an error came up. `concurrency` of them at most.
        self.not_begun: deque[Unit] = deque()
        #: The most that were carried out at the same time.
        self.peak = 0
        self._kind = kind
        self._concurrency = require_count(concurrency, "concurrency")
        self._sleep = sleep
        self._random = random
        self._running = 0
        self._results: list[Result] = []  # of functions called by the thread that drives
        self._delayed: list[tuple[float, int, Unit]] = []
        self._numbers = count()
        self._starting = True
        self._driven = False
        self._woken = threading.Event()
        self._look_at = 0.0
        self._hands = Hands()

    def stop_starting(self) -> None:
        """Start no other child. Those that have been started are finished, with the attempts that they still have."""
        self._starting = False
        self._woken.set()

    def drive(self, source: Source) -> None:
        """Carry out what the source gives until there is no more, or the parent has ended.

        Whatever it raises, what had ended before is recorded (unless that is what failed); children under way stay
        open, and what is still done for them counts for nothing. So it is when the parent has ended. Once a budget is
        exhausted (`exhausted`), no other child is started, and those that wait for another attempt are tried again,
        except after its time: then they stay open.

        Raises:
            LeaseLost, StoreError: what was done could not be recorded.
            RunStateError: the parent has not been started, or this crew has driven before.
            SystemExit, KeyboardInterrupt: from a child's function; that child stays open too.
        """
        parent = self._look()
        if self._driven:
            raise RunStateError("a crew drives once; make another", self.parent_id)
        if parent.status is Status.NOT_STARTED:
            raise rules.not_active(parent, "have children carried out")
        self._driven = True
        try:
            while (parent := self._look()).reason is None:
                ends: list[End] = []
                begun: list[Unit] = []
                try:
                    self._settle(source, self._finished(parent), ends)
                    self._choose(source, parent, begun)
                except BaseException:
                    self.not_begun.extend(unit for unit in begun if unit.run_id is None)
                    self._record(ends, ())
                    raise
                if ends or begun:
                    self._record(ends, begun)
                elif not (self._running or self._results or self._wait(parent)):
                    break
            # Whoever has taken over may have ended it: what this crew knows of the children is then not all there is.
            require_lease(self.journal, parent.tree.root.id)
        finally:
            self._hands.close()

    # What has ended

    def _finished(self, parent: Run) -> list[Result]:
        """What was done since the last time; waits for it where there is nothing else to do."""
        found = self._results
        if found:
            self._results = []
        elif self._running:
            found = self._hands.done(self._patience(parent), _MOST_TOGETHER)
            self._running -= len(found)
        return found

    def _patience(self, parent: Run) -> float:
        if self._running < self._concurrency and parent.status is Status.ACTIVE and self._will_retry():
            return min(_POLL_SECONDS, self._seconds_left())
        return _POLL_SECONDS

    def _settle(self, source: Source, results: Sequence[Result], ends: list[End]) -> None:
        """Add what is to be recorded of these results to `ends`; what a source raises of one holds up no other."""
        trouble: BaseException | None = None
        for result in results:
            try:
                self._end(source, result, ends)
            except BaseException as error:  # noqa: BLE001  # raised below
                trouble = trouble or error
        if trouble is not None:
            raise trouble

    def _end(self, source: Source, result: Result, ends: list[End]) -> None:
        unit, error = result.unit, result.error
        if self._has_ended(source, unit):
            return
        assert unit.run_id is not None
        if error is None:
            try:
                outcome = source.outcome(unit, result.returned)
                if unit.data or (type(outcome) is Ok and type(outcome.value) not in _ATOMS):
                    self._require_keepable(outcome, unit.data)
            except Exception as broken:  # noqa: BLE001  # what cannot be kept, or made an outcome of, is a failure
                error = broken
            else:
                steps = source.steps(unit, outcome)
                ends.append(End(unit.run_id, outcome, REASON[type(outcome)], steps, unit.data))
                source.settled(unit, outcome)
                return
        if not isinstance(error, Exception):
            raise error
        self._fail(source, unit, error, ends)

    def _fail(self, source: Source, unit: Unit, error: Exception, ends: list[End]) -> None:
        assert unit.run_id is not None
        if unit.attempt < unit.retry.max_attempts and unit.retry.covers(error, unit.retried):
            due = self._seconds() + unit.retry.seconds_before(unit.attempt + 1, self._random)
            heapq.heappush(self._delayed, (due, next(self._numbers), unit))
            told = {"attempt": unit.attempt, "error": f"{type(error).__name__}: {message_of(error)}"}
            ends.append(End(unit.run_id, told=told))
            return
        unit.error = error
        outcome = Failed.of(error, attempts=unit.attempt)
        reason = TerminationReason.TIMEOUT if isinstance(error, TimeIsUp) else TerminationReason.ERROR
        ends.append(End(unit.run_id, outcome, reason, source.steps(unit, outcome)))
        source.settled(unit, outcome)

    def _has_ended(self, source: Source, unit: Unit) -> bool:
        """Whether somebody else has ended the child; the source is told."""
        assert unit.run_id is not None
        outcome = self.journal.run(unit.run_id).outcome
        if outcome is None:
            return False
        source.settled(unit, outcome)
        return True

    def _require_keepable(self, outcome: Outcome, data: Mapping[str, Any] | None) -> None:
        """Refuse a value that the store cannot keep, while it still can be made a failure of this child alone."""
        if type(outcome) is Ok and type(outcome.value) not in _ATOMS:
            self._prepare("result", outcome.value)
        if data:
            for key, value in data.items():
                self._prepare(f"data[{key!r}]", value)

    def _prepare(self, topic: str, value: object) -> None:
        self.journal.store.prepare(self.parent_id, 0, [Noted(self.parent_id, 1, 0.0, topic, value)])

    # What begins

    def _choose(self, source: Source, parent: Run, begun: list[Unit]) -> None:
        """Add the units to begin now to `begun`, as many as there is room for."""
        room = self._concurrency - self._running
        if parent.status is not Status.ACTIVE:
            return
        while (
            self._delayed and room > 0 and self._will_retry() and self._seconds_left() <= 0 and self._has_time(parent)
        ):
            delayed = heapq.heappop(self._delayed)[2]
            if not self._has_ended(source, delayed):
                room -= 1
                begun.append(delayed)
        while room > 0 and self._starting and self.exhausted is None and (unit := self._given(source)) is not None:
            if unit.run_id is None or not self._has_ended(source, unit):
                room -= 1
                begun.append(unit)

    def _given(self, source: Source) -> Unit | None:
        if self.not_begun:
            return self.not_begun.popleft()
        unit = source.next()
        if unit is not None:
            unit.attempt = unit.failed_before
        return unit

    def _will_retry(self) -> bool:
        return bool(self._delayed) and (self.exhausted is None or self.exhausted.limit != "seconds")

    def _seconds_left(self) -> float:
        """Until the next of those that wait is tried again."""
        return max(0.0, self._delayed[0][0] - self._seconds())

    def _has_time(self, parent: Run) -> bool:
        try:
            budget.require_time(parent.account, self.journal.time_in(parent.tree), parent.id)
        except BudgetExhausted as exhausted:
            self.exhausted = exhausted
        return self.exhausted is None or self.exhausted.limit != "seconds"

    def _record(self, ends: Sequence[End], begun: Sequence[Unit]) -> None:
        starts = {self.journal.new_id(): unit for unit in begun if unit.run_id is None}
        if ends or starts:
            started = 0
            try:
                started = self._started(ends, starts)
            finally:
                for number, (run_id, unit) in enumerate(starts.items()):
                    if number < started:
                        unit.run_id = run_id
                    else:
                        self.not_begun.append(unit)
            if not started and self.journal.run(self.parent_id).reason is not None:
                return
        for unit in begun:
            if unit.run_id is not None:
                self._hand_over(unit)

    def _started(self, ends: Sequence[End], starts: Mapping[str, Unit]) -> int:
        """Record; returns how many were started."""
        while True:
            turnover = Turnover(self._kind, ends, starts)
            try:
                self.journal.insist(self.parent_id, turn_over, turnover)
            except OSError:
                raise
            except Exception:
                if self.journal.refresh(self.parent_id).reason is not None:
                    return 0
                remaining = [end for end in ends if self.journal.run(end.run_id).reason is None]
                if len(remaining) == len(ends):
                    self._record_apart(ends, alone=not starts)
                    raise
                ends = remaining  # somebody has ended one of them at this moment
            else:
                self.exhausted = turnover.exhausted or self.exhausted
                return turnover.started

    def _record_apart(self, ends: Sequence[End], *, alone: bool) -> None:
        """Record each that can be, where one of them, or what was to begin, cannot."""
        if alone and len(ends) == 1:
            return
        for end in ends:
            with suppress(Exception):  # which the caller raises
                self.journal.insist(self.parent_id, turn_over, Turnover(self._kind, (end,), {}))

    def _hand_over(self, unit: Unit) -> None:
        unit.attempt += 1
        unit.data = None
        if self._concurrency == 1 and unit.seconds is None and not unit.is_async:
            self.peak = 1
            self._results.append(called(unit))
            return
        self._running += 1
        if self._running > self.peak:
            self.peak = self._running
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
        if not self._will_retry() and not (held_back and self._starting and self.exhausted is None):
            return False
        seconds = _POLL_SECONDS if held_back else self._seconds_left()
        if self._sleep is not None:
            self._sleep(seconds)
        else:
            self._woken.wait(min(seconds, _POLL_SECONDS))
            self._woken.clear()
        return True
