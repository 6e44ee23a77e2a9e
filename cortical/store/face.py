"""What every face stands on: a journal, of a store that is opened here or was opened by somebody else."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Any, Self, TypeAlias

from cortical.core.errors import WrongType
from cortical.core.journal import Journal
from cortical.core.ports import Clock, Store
from cortical.store import MemoryStore, open_store


class Face:
    """Holds a journal, and closes the store with itself if it has opened it.

    Args:
        store: a path or URL for `open_store`; an open store; a journal, or another face, whose journal is then shared,
            so that both see each other's changes at once; None for a store in memory.
        clock: tells the time (anything with `time()`); that of the journal where one is given.
        create: make the store if it is not there; otherwise that is refused.
        options: of the `Journal` that is made; of no meaning where one is given.
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


def _journal(place: Place | None, clock: Clock, create: bool, options: dict[str, Any]) -> Journal:
    match place:
        case Journal():
            return place
        case Face(journal=journal):
            return journal
        case str() | os.PathLike():
            return Journal(open_store(place, create=create), clock=clock, **options)
        case None:
            return Journal(MemoryStore(), clock=clock, **options)
    if not hasattr(place, "append"):
        raise WrongType(f"a store is a path, a URL, an open store, a journal or another face, not {place!r}")
    return Journal(place, clock=clock, **options)
