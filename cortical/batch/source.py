"""What the crew of a batch works on: items as they are read, until there are no more or something says stop."""

from __future__ import annotations

from collections.abc import Sequence
from types import CoroutineType
from typing import Any, Final

from attrs import define, field

from cortical.batch.calling import Calling
from cortical.batch.items import metadata_of, short_text
from cortical.batch.ledger import Known
from cortical.batch.reading import Reading, Work
from cortical.core.conditions import NEVER, Condition, ConditionRaised, Met, Progress
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.outcome import Failed, Ok, Outcome, Skipped
from cortical.core.policy import Retry
from cortical.core.ports import Clock, seconds_on
from cortical.core.status import TerminationReason
from cortical.engine.crew import Step, Unit
from cortical.engine.meter import Meter

_NO_STEPS: Final[Sequence[Step]] = ()


@define
class Stop:
    """When no other item is begun.

    `failures` is how many items may fail, None for any number; `share` the same as a share of all.
    """

    condition: Condition = NEVER
    failures: int | None = None
    share: float | None = None

    @classmethod
    def beyond(cls, tolerated: float | None, condition: Condition = NEVER) -> Stop:
        """When more items have failed than are tolerated: a number of them, or (a float) a share of all."""
        return cls(condition, None, tolerated) if isinstance(tolerated, float) else cls(condition, tolerated)

    def allowed(self, total: int | None) -> int | None:
        """How many of `total` items may fail; None while that cannot be said."""
        if self.share is None:
            return self.failures
        # 0.29 × 100 is a little less than 29.
        return None if total is None else int(self.share * total + 1e-9)


@define
class BatchSource:
    """Gives a crew the items of a batch, and keeps count of how they end.

    Args:
        failed: how many items failed before, and are not run again.
        in_order: whether each item is given what the one before it gave.
    """

    reading: Reading
    calling: Calling
    retry: Retry
    stop: Stop
    clock: Clock
    meter: Meter | None = None
    failed: int = 0
    #: What ended the batch before all its items had been begun.
    met: Met | None = None
    processed: int = 0
    #: The error of a condition that was to be asked.
    error: Exception | None = None
    in_order: bool = False
    #: The items that ended in this driving: the id of the run of each, by index.
    ended: dict[int, str] = field(factory=dict)
    #: The units that were given and have not ended, by the index of each of their items.
    under_way: dict[int, Unit] = field(factory=dict)
    #: The works that have ended and were not told of yet, by the id of their run.
    untold: dict[str, Work] = field(factory=dict)
    iterations: int = 0
    _begun: int = 0
    _in_row: int = 0
    _last: Any = None
    _since: float = 0.0
    _most: float = field(init=False)
    #: Whether nothing more is to be begun, and the batch is to stay open.
    interrupted: bool = False

    def __attrs_post_init__(self) -> None:
        self._most = dict(self.stop.condition.limits()).get("max_iterations", float("inf"))
        self._begun = self.iterations
        self._since = seconds_on(self.clock)()

    def interrupt(self) -> None:
        """Give nothing more."""
        self.interrupted = True

    def next(self) -> Unit | None:
        """Another item, or chunk of items; None when there are none, or no more are wanted."""
        if self.interrupted or self.met is not None or self.reading.exhausted or self._stop():
            return None
        work = self.reading.next(self._most - self._begun) if self._begun < self._most else None
        if work is None:
            return None
        self._begun += len(work.items)
        self.calling.total = self.reading.total
        unit = self._unit(work)
        for item in work.items:
            self.under_way[item.index] = unit
        return unit

    def outcome(self, unit: Unit, returned: Any) -> Outcome:
        """How an item ends whose handler returned this; a chunk's has to be a list of as many results."""
        if isinstance(returned, CoroutineType):
            returned.close()
            raise WrongType("the handler returned a coroutine; give a coroutine function (async def) instead")
        if self.calling.chunk_size is None or isinstance(returned, Skipped):
            return returned if isinstance(returned, Skipped) else Ok(returned)
        if not isinstance(returned, list | tuple):
            raise WrongType(f"a handler of chunks returns a list of results, not {type(returned).__name__}")
        if len(returned) != len(unit.key.items):
            raise InvalidInput(
                f"the handler was given {len(unit.key.items)} items and returned {len(returned)} results"
            )
        return Ok(list(returned))

    def steps(self, unit: Unit, outcome: Outcome) -> Sequence[Step]:
        """Nothing is recorded of the batch itself when an item ends."""
        return _NO_STEPS

    def settled(self, unit: Unit, outcome: Outcome) -> None:
        """Count an item, or all of a chunk, that has ended."""
        assert unit.run_id is not None
        items = unit.key.items
        for item in items:
            self.ended[item.index] = unit.run_id
            self.under_way.pop(item.index, None)
        self.untold[unit.run_id] = unit.key
        self.iterations += len(items)
        if isinstance(outcome, Failed):
            self.failed += len(items)
            self._in_row += len(items)
            self._judge()
        elif isinstance(outcome, Ok):
            self.processed += len(items)
            self._in_row = 0
            self._last = outcome.value
            if self.in_order:
                self.calling.previous_result = outcome.value

    def found(self, done: dict[int, Known]) -> None:
        """Count what was done before."""
        for known in done.values():
            if isinstance(known.run.outcome, Failed):
                self.failed += 1
            else:
                self.processed += 1

    def _unit(self, work: Work) -> Unit:
        chunked = self.calling.chunk_size is not None
        name = short_text(work.items[0].value)
        more = f" and {len(work.items) - 1} more" if chunked and len(work.items) > 1 else ""
        return Unit(
            name + more,
            self.calling.function(work, name),
            is_async=self.calling.is_async,
            key=work,
            metadata=metadata_of(work.items, chunked=chunked),
            run_id=work.run_id,
            failed_before=work.failed_before,
            seconds=self.calling.own_limit,
            retry=self.retry,
        )

    def _judge(self) -> None:
        """Begin nothing more when more items failed than are tolerated."""
        allowed = self.stop.allowed(self.reading.total)
        if allowed is not None and self.failed > allowed and self.met is None:
            said = f"{self.failed} items failed, {allowed} tolerated"
            self.met = Met("tolerated_failures", TerminationReason.ERROR, said)

    def _stop(self) -> bool:
        """Whether a condition says stop."""
        condition = self.stop.condition
        if condition is NEVER:
            return False
        try:
            self.met = condition.met(self._progress())
        except ConditionRaised as raised:
            self.error = raised
            self.met = Met(raised.name, TerminationReason.ERROR, str(raised))
        return self.met is not None

    def _progress(self) -> Progress:
        used = {} if self.meter is None else self.meter.used()
        elapsed = seconds_on(self.clock)() - self._since
        return Progress(self.iterations, elapsed, self.failed, self._in_row, used, self._last)
