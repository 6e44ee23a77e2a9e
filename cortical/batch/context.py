"""What a handler is told of the item it works on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

#: The names of the context's own fields, by which it can be read like a mapping.
OWN: Final = (
    "item",
    "index",
    "total",
    "name",
    "batch_name",
    "chunk_index",
    "chunk_size",
    "attempt",
    "workspace",
    "timeout",
    "previous_result",
)


@frozen(eq=False, slots=False)  # made for every attempt: without slots in a third of the time
class ItemContext(Mapping[str, Any]):
    """Where an item stands in its batch. Its fields can be read as attributes, and by name like a mapping's keys.

    `index` counts from 0; `total` is None while nobody knows how many items there are; `name` is what the item is
    called. `chunk_index` and `chunk_size` are those of the chunk that it is in: of one item each, unless the batch has
    a `chunk_size`; then `item` is a list and `index` that of its first. `attempt` counts from 1. `timeout` is how many
    seconds this attempt may take, None for any. `previous_result` is what the last item or chunk gave that ended
    well, where the batch was told to hand it on. `given` are the values given with the batch: read-only, and looked at
    for names that are not the context's own.
    """

    item: Any
    index: int
    total: int | None
    name: str
    batch_name: str
    chunk_index: int
    chunk_size: int
    attempt: int
    workspace: Path
    timeout: float | None
    previous_result: Any
    given: Mapping[str, Any]
    _over: Callable[[], bool] = field(repr=False, default=lambda: False)

    @property
    def stopped(self) -> bool:
        """Whether the batch has been cancelled, or has ended; a handler that works long may look."""
        return self._over()

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name) if name in OWN else self.given[name]

    def __iter__(self) -> Iterator[str]:
        yield from OWN
        yield from (name for name in self.given if name not in OWN)

    def __len__(self) -> int:
        return sum(1 for _ in self)
