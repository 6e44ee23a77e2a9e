"""What every face stands on: a journal, of a store that is opened here or was opened by somebody else."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, cast

from cortical.core.checks import require_keys, shown
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.journal import Journal
from cortical.core.ports import Clock, Store
from cortical.store import MemoryStore, open_store

#: What a journal can be told when it is made here.
_OPTIONS: Final = ("new_id", "lock_timeout", "max_depth")


class Face:
    """Holds a journal, and closes the store with itself if it has opened it.

    Args:
        store: a path or URL for `open_store`; an open store; a journal, or another face, whose journal is then shared,
            so that both see each other's changes at once; None for a store in memory.
        clock: tells the time (anything with `time()`); that of the journal where one is given.
        create: make the store if it is not there; otherwise that is refused.
        options: of the `Journal` that is made: `new_id`, `lock_timeout`, `max_depth`. Where one is shared, what it says
            itself holds, and nothing else may be given.

    Raises:
        WrongType: `store` is none of these.
        InvalidInput: an option means nothing, or is another than that of the journal which is shared.
    """

    def __init__(self, store: Place | None = None, *, clock: Clock = time, create: bool = True, **options: Any) -> None:
        self._owns_store = isinstance(store, str | os.PathLike)
        self.journal = _journal(store, clock, create, options)

    @property
    def store(self) -> Store:
        """Where the logs are kept."""
        return self.journal.store

    def close(self) -> None:
        """Close the store, if this was what opened it."""
        if self._owns_store:
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


Place: TypeAlias = str | os.PathLike[str] | Store | Journal | Face


def has_journal(place: Place | None) -> bool:
    """Whether this is a journal, or a face that has one, and not only a store."""
    return isinstance(place, Journal | Face)


def _journal(place: Place | None, clock: Clock, create: bool, options: dict[str, Any]) -> Journal:
    require_keys(options, _OPTIONS, "a journal")
    match place:
        case Journal():
            return _shared(place, options)
        case Face(journal=journal):
            return _shared(journal, options)
        case str() | os.PathLike():
            return Journal(open_store(place, create=create), clock=clock, **options)
    if place is None and create:
        return Journal(MemoryStore(), clock=clock, **options)
    if not callable(getattr(place, "root_of", None)):
        raise WrongType(f"a store is a path, a URL, an open store, a journal or another face, not {shown(place)}")
    return Journal(cast("Store", place), clock=clock, **options)


def _shared(journal: Journal, options: Mapping[str, Any]) -> Journal:
    for name, value in options.items():
        if value != getattr(journal, name):
            raise InvalidInput(
                f"{name} is said to the journal when it is made, and this one is shared; "
                "leave it out, or give the store itself"
            )
    return journal
