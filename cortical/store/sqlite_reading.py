"""What is asked of the tables of a SQLite store: logs, ids, the listing, and whether all is sound."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from cortical.core.errors import StoreDamaged
from cortical.core.events import Event
from cortical.core.ports import Root
from cortical.core.status import Status, TerminationReason
from cortical.store.sqlite_packing import Row, events_of

#: Of the tree whose keys begin at a base: from the record that holds a key on.
_RECORDS: Final = (
    "SELECT key, body, crc FROM records WHERE key < ? + (1 << 32) AND key >= coalesce("
    "(SELECT max(key) FROM records WHERE key BETWEEN ? AND ?), ?) ORDER BY key"
)
#: The largest number that SQLite counts with.
_MOST: Final = 2**63 - 1
_ROOTS: Final = "SELECT id, kind, goal, status, reason, started_at, ended_at FROM roots ORDER BY number DESC LIMIT ?"
_OPEN_ROOTS: Final = _ROOTS.replace("ORDER", "WHERE ended_at IS NULL ORDER")


def base_of(connection: sqlite3.Connection, root_id: str) -> int | None:
    """The key at which a tree's log begins; None for an unknown one.

    Raises:
        StoreDamaged: the listing has a number for it that no tree can have.
    """
    row = connection.execute("SELECT number FROM roots WHERE id = ?", (root_id,)).fetchone()
    if row is None:
        return None
    number: int = row[0]
    if not 0 <= number < 1 << 31:
        raise StoreDamaged(f"{root_id!r} is listed as tree {number}, which cannot be; restore the store from a copy")
    return number << 32


def records_from(connection: sqlite3.Connection, root_id: str, start: int) -> list[Row]:
    """A tree's records, from the one that holds position `start` on."""
    base = base_of(connection, root_id)
    return [] if base is None else connection.execute(_RECORDS, (base, base, base + start, base)).fetchall()


def events_from(rows: Sequence[Row], start: int) -> list[Event]:
    """The events of such records from position `start` on.

    Raises:
        StoreDamaged: one of them cannot be read, or is missing.
    """
    if not rows:
        return []
    events: list[Event] = []
    first = min(rows[0][0] & 0xFFFFFFFF, start)
    for row in rows:
        position = row[0] & 0xFFFFFFFF
        if position != first + len(events):
            raise StoreDamaged(f"has a gap before position {position}")
        try:
            events += events_of(row)
        except StoreDamaged as damaged:
            raise StoreDamaged(f"at position {position}: {damaged}") from damaged
    return events[start - first :]


def root_of(connection: sqlite3.Connection, run_id: str) -> str | None:
    """The root above a run."""
    row = connection.execute("SELECT root FROM runs WHERE id = ?", (run_id,)).fetchone()
    return row[0] if row else None


def find(connection: sqlite3.Connection, prefix: str, limit: int) -> list[str]:
    """The ids that begin with `prefix`."""
    rows = connection.execute(
        "SELECT id FROM runs WHERE id >= ? AND substr(id, 1, length(?)) = ? "
        "AND id < ? || char(1114111) ORDER BY id LIMIT ?",
        (prefix, prefix, prefix, prefix, min(limit, _MOST)),
    )
    return [row[0] for row in rows]


def roots(connection: sqlite3.Connection, *, open_only: bool, limit: int | None) -> list[Root]:
    """The listing, newest first.

    Raises:
        ValueError, TypeError: a row of it means nothing.
    """
    rows = connection.execute(_OPEN_ROOTS if open_only else _ROOTS, (_MOST if limit is None else min(limit, _MOST),))
    return [_root(row) for row in rows]


def problems(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with the file and its tables, their logs aside."""
    found = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
    strays = connection.execute("SELECT count(*) FROM records WHERE key >> 32 NOT IN (SELECT number FROM roots)")
    if (count := strays.fetchone()[0]) > 0:
        found.append(f"{count} records belong to no root")
    return found


def _root(row: Sequence[Any]) -> Root:
    run_id, kind, goal, status, reason, started_at, ended_at = row
    why = TerminationReason(reason) if reason else None
    return Root(run_id, kind, goal, Status(status), why, float(started_at), ended_at)
