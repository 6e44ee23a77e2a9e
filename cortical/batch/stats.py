"""What is counted of a batch, and its state in the shape of the document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from cortical.batch.items import short_text
from cortical.batch.retrying import was_retryable
from cortical.core.outcome import Failed, Ok, Outcome


def stats_of(outcomes: Sequence[Outcome], retried: int, start: float | None, end: float | None) -> dict[str, Any]:
    """The counts of a batch.

    `success_rate` is the share of the items that ended well, in percent; 100 where there are none. `skipped` counts
    the items that came to no end of their own: not begun, skipped or abandoned. `retried` counts attempts beyond the
    first. `start` and `end` are seconds since the epoch, `end` and `seconds` None while the batch is open.
    """
    counts = Counter(type(outcome) for outcome in outcomes)
    processed, failed, total = counts[Ok], counts[Failed], len(outcomes)
    return {
        "total": total,
        "processed": processed,
        "failed": failed,
        "retried": retried,
        "skipped": total - processed - failed,
        "success_rate": 100.0 * processed / total if total else 100.0,
        "start": start,
        "end": end,
        "seconds": None if start is None or end is None else end - start,
    }


def failure_of(item: Any, failed: Failed) -> dict[str, Any]:
    """What is told of an item that failed."""
    return {"success": False, "error": failed.error.message, "item": item, "retryable": was_retryable(failed)}


def state_of(outcomes: Sequence[Outcome], item_at: Callable[[int], Any], stats: dict[str, Any]) -> dict[str, Any]:
    """The state of a batch: ``processed`` (items in order), ``failed`` (item → what is told of it) and ``stats``.

    An item that cannot be a key, or is equal to one that failed before it, stands there by its text and index.
    """
    failed: dict[Hashable, dict[str, Any]] = {}
    processed = []
    for index, outcome in enumerate(outcomes):
        item = item_at(index)
        if isinstance(outcome, Ok):
            processed.append(item)
        elif isinstance(outcome, Failed):
            failed[_key(item, index, failed)] = failure_of(item, outcome)
    return {"processed": processed, "failed": failed, "stats": stats}


def _key(item: Any, index: int, taken: dict[Hashable, Any]) -> Hashable:
    try:
        free = item not in taken
    except TypeError:
        free = False
    return item if free else f"{short_text(item)} #{index}"
