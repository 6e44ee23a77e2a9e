"""What came of a batch: one outcome for each item, in the order of the input, and what is counted of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from attrs import field, frozen

from cortical.batch.errors import BatchFailed, ItemFailed
from cortical.batch.items import short_text
from cortical.core.outcome import Failed, Ok, Outcome, why_of
from cortical.core.status import Status, TerminationReason


@frozen
class BatchProgress:
    """How far a batch has come: how many items have ended, of how many (None while nobody knows).

    `processed` and `failed` are those that ended well, and that failed; `before` are those that had ended when this
    driving began, `seconds` ago. `rate` is how many ended a second since then, and `eta_seconds` how long the rest
    takes at that rate: None until it can be said.
    """

    done: int
    total: int | None
    processed: int
    failed: int
    before: int
    seconds: float

    @property
    def rate(self) -> float | None:
        new = self.done - self.before
        return new / self.seconds if new and self.seconds > 0 else None

    @property
    def eta_seconds(self) -> float | None:
        rate = self.rate
        return None if rate is None or self.total is None else max(0, self.total - self.done) / rate


@frozen(eq=False)
class BatchResult:
    """How a batch stands, or has ended.

    `outcomes` holds one outcome for each item that was read, in the order of the input: `Ok`, `Failed`, `Skipped`
    (it was not begun, or its handler skipped it) or `Abandoned` (it was under way when the batch was cancelled).
    `outcome` is the batch's own: `Ok` with the stats, `Failed` where no item ended well or more failed than are
    tolerated, `Abandoned` where it was stopped; None while it is open. `aggregated` is what the aggregator made of
    the results.
    """

    run_id: str
    name: str
    status: Status
    reason: TerminationReason | None
    outcome: Outcome | None
    outcomes: Sequence[Outcome]
    stats: Mapping[str, Any]
    aggregated: Any = None
    _item_at: Callable[[int], Any] = field(repr=False, default=lambda index: index)

    @property
    def ok(self) -> bool:
        """Whether the batch has ended well and no item failed."""
        return isinstance(self.outcome, Ok) and not self.stats["failed"]

    @property
    def results(self) -> list[Any]:
        """What the items that ended well gave, in the order of the input."""
        return [outcome.value for outcome in self.outcomes if isinstance(outcome, Ok)]

    @property
    def processed(self) -> list[Any]:
        """The items that ended well, in the order of the input.

        Of items that were read from an iterator numbers, None and short texts are there as they were, and others by
        the text that they are called.
        """
        return [self._item_at(index) for index, outcome in enumerate(self.outcomes) if isinstance(outcome, Ok)]

    @property
    def failed(self) -> dict[int, Failed]:
        """The outcomes of the items that failed, by their index in the input."""
        return {index: outcome for index, outcome in enumerate(self.outcomes) if isinstance(outcome, Failed)}

    @property
    def why(self) -> str:
        """Why it is not well: the batch's own failure or end, or how many items failed; empty where it is."""
        if self.outcome is None:
            return "it has not ended"
        failed = f"{self.stats['failed']} of {len(self.outcomes)} items failed" if self.stats["failed"] else ""
        return why_of(self.outcome) or failed

    @property
    def seconds(self) -> float | None:
        """How long it took, from its first item to its end; None while it is open."""
        seconds: float | None = self.stats["seconds"]
        return seconds

    def raise_for_failure(self) -> Self:
        """Itself, if every item ended well and so did the batch.

        Raises:
            BatchFailed: one did not; the first item's failure is the cause.
        """
        if self.ok:
            return self
        raise BatchFailed(f"batch {self.name!r} is {self.status.value}: {self.why}") from next(self._errors(), None)

    def raise_for_failures(self) -> Self:
        """Itself, if every item ended well and so did the batch.

        Raises:
            ExceptionGroup: of an `ItemFailed` for each item that failed.
            BatchFailed: no item failed, but the batch did not end well.
        """
        errors = list(self._errors())
        if errors:
            raise ExceptionGroup(f"{len(errors)} of {len(self.outcomes)} items of batch {self.name!r} failed", errors)
        return self.raise_for_failure()

    def _errors(self) -> Iterator[ItemFailed]:
        for index, failed in self.failed.items():
            item = self._item_at(index)
            yield ItemFailed(item, short_text(item), index, failed)
