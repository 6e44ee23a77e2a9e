"""Where logs are kept: in memory or in a SQLite file, opened by `open_store`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from cortical.core.errors import InvalidInput, WrongType
from cortical.core.ports import Record, Root, Store
from cortical.store.memory import MemoryStore

if TYPE_CHECKING:
    from cortical.store.sqlite import Durability

__all__ = ["MemoryStore", "Record", "Root", "Store", "open_store"]


def open_store(where: str | os.PathLike[str], *, durability: Durability = "process", create: bool = True) -> Store:
    """Open the store at `where`, making it if it is not there.

    Args:
        where: a path (``"runs.db"``), a URL (``"sqlite:///runs.db"``, with four slashes for an absolute path), or
            ``":memory:"`` for one that ends with the process.
        durability: what has survived when a call returns: ``"process"`` a kill -9, ``"power"`` a power cut;
            ``"relaxed"`` promises either only 50 ms later.
        create: False refuses to make a new one.

    Raises:
        StoreNotFound, StoreDamaged, StoreError: it cannot be opened; the message says why.
        InvalidInput: the address or the durability is of no known kind.
    """
    if not isinstance(where, str | os.PathLike):
        raise WrongType(f"a store is named by a path or URL, not by {type(where).__name__}")
    name = os.fspath(where)
    if name == ":memory:":
        return MemoryStore()
    scheme, colon, rest = name.partition("://")
    if colon:
        if scheme != "sqlite" or not rest.startswith("/") or rest == "/":
            raise InvalidInput(f"{name!r}: write sqlite:///file.db, or sqlite:////full/path/file.db")
        name = unquote(rest[1:])
    if not name or "\0" in name:
        raise InvalidInput(f"{name!r} names no file")
    # Imported here: a loop in memory should not pay for a database.
    from cortical.store.sqlite import SqliteStore

    return SqliteStore(Path(name), durability=durability, create=create)
