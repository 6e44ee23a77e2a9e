"""Writing records into the tables of a SQLite store, and keeping its listing true with them.

What is remembered here of the tables (where each log ends, which roots have not been started) saves reading it before
each write. It is forgotten whenever a transaction is undone.

It may be out of date, as another process may have written since. So each insert asks whether the log goes on after the
key it is about to take, and if so takes a key of that later record instead, which is taken: a conflict. (That the key
itself is taken says too little: packing frees the keys of old records, but never that of the last.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from cortical.core.errors import LeaseLost
from cortical.core.events import Changed, Checkpointed, Ended, Event, Moved, Noted, Restored, Started
from cortical.core.ports import Record
from cortical.store.listing import status_after
from cortical.store.sqlite_packing import checksum, events_of
from cortical.store.sqlite_reading import base_of

_FREE: Final = "coalesce((SELECT key FROM records WHERE key > wanted AND key <= wanted | 0xffffffff LIMIT 1), wanted)"
# Numbered placeholders would be shorter; Python 3.12 up to 3.12.3 warns of each statement that has some.
_FREE_ASKED: Final = _FREE.replace("wanted", "?")  # asked for three times
_INSERT: Final = "INSERT INTO records VALUES (free, ?, ?)".replace("free", _FREE_ASKED)
_INSERT_FENCED: Final = (
    "INSERT INTO records SELECT free, ?, ? WHERE EXISTS (SELECT 1 FROM leases WHERE root = ? AND fence = ?)"
).replace("free", _FREE_ASKED)
_INSERT_MANY: Final = (
    "INSERT INTO records WITH given(wanted, body, crc) AS (VALUES (?, ?, ?), more) "
    "SELECT free, given.body, given.crc FROM given"
).replace("free", _FREE)
_LAST_RECORD: Final = (
    "SELECT key, body, crc FROM records WHERE key BETWEEN ? AND ? + 0xffffffff ORDER BY key DESC LIMIT 1"
)
_MOST_AT_ONCE: Final = 1000  # of SQLite's 32,766 parameters to a statement, three each

#: Events that change neither the listing nor the set of runs. Of runs that are no roots, only a start changes one.
_QUIET: Final = frozenset({Moved, Noted, Changed, Checkpointed, Restored})


class RecordTables:
    """The tables of one file. Each call is part of whatever transaction the connection is in.

    What conflicts with what is there raises `sqlite3.IntegrityError`.
    """

    def __init__(self) -> None:
        self._ends: dict[str, int] = {}  # root id → the key at which its log goes on
        self._not_started: set[str] | None = None

    def forget(self) -> None:
        """Forget what is remembered: a transaction was undone."""
        self._ends.clear()
        self._not_started = None

    def is_quiet(self, connection: sqlite3.Connection, record: Record) -> bool:
        """Whether writing this record is one insert and nothing else."""
        root_id = record.root_id
        for event in record.events:
            if type(event) not in _QUIET and (type(event) is Started or event.run_id == root_id):
                return False
        return not self.waiting(connection) or root_id not in self.waiting(connection)

    def waiting(self, connection: sqlite3.Connection) -> set[str]:
        """The roots that have not been started, as far as this process knows."""
        if self._not_started is None:
            rows = connection.execute("SELECT id FROM roots WHERE status = 'not_started'")
            self._not_started = {row[0] for row in rows}
        return self._not_started

    def insert(self, connection: sqlite3.Connection, record: Record) -> None:
        """Insert the row of a record.

        Raises:
            LeaseLost: the record's fence is not the newest.
        """
        key = self._key(connection, record)
        kept = (key, key, key, record.body, checksum(key, record.body))
        if record.fence is None:
            connection.execute(_INSERT, kept)
        elif not connection.execute(_INSERT_FENCED, (*kept, record.root_id, record.fence)).rowcount:
            raise LeaseLost(record.root_id)
        self._ends[record.root_id] = key + len(record.events)

    def insert_at_once(self, connection: sqlite3.Connection, records: Sequence[Record]) -> bool:
        """Insert quiet, unfenced records by one statement, which lets go of the interpreter once; or return False."""
        roots = {record.root_id for record in records}
        if len(roots) < len(records) or len(records) > _MOST_AT_ONCE:
            return False
        try:
            keys = [self._key(connection, record) for record in records]
            rows = [(key, record.body, checksum(key, record.body)) for key, record in zip(keys, records, strict=True)]
            statement = _INSERT_MANY.replace(", more", ", (?, ?, ?)" * (len(records) - 1))
            connection.execute(statement, [value for row in rows for value in row])
        except sqlite3.IntegrityError:
            return False  # one of them conflicts: each for itself, then
        for key, record in zip(keys, records, strict=True):
            self._ends[record.root_id] = key + len(record.events)
        return True

    def write(self, connection: sqlite3.Connection, records: Sequence[Record]) -> None:
        """Write records with all that they change in the listing."""
        for record in records:
            if record.position == 0:
                self._enter_root(connection, record)
            quiet = record.position > 0 and self.is_quiet(connection, record)
            self.insert(connection, record)
            if not quiet:
                for event in record.events:
                    self._list(connection, record.root_id, event)

    def write_apart(self, connection: sqlite3.Connection, records: Sequence[Record]) -> None:
        """Write these records inside a larger transaction, or none of them."""
        connection.execute("SAVEPOINT apart")
        try:
            self.write(connection, records)
        except BaseException:
            self.forget()
            if connection.in_transaction:  # else SQLite has undone all of it
                connection.execute("ROLLBACK TO apart")
                connection.execute("RELEASE apart")
            raise
        connection.execute("RELEASE apart")

    def _key(self, connection: sqlite3.Connection, record: Record) -> int:
        end = self._ends.get(record.root_id)
        if end is None or end & 0xFFFFFFFF != record.position:
            end = self._read_end(connection, record.root_id)
        if end & 0xFFFFFFFF != record.position:
            raise sqlite3.IntegrityError(f"the log of {record.root_id!r} does not end at position {record.position}")
        return end

    def _read_end(self, connection: sqlite3.Connection, root_id: str) -> int:
        base = base_of(connection, root_id)
        if base is None:
            raise sqlite3.IntegrityError(f"there is no tree {root_id!r}")
        last = connection.execute(_LAST_RECORD, (base, base)).fetchone()
        return base if last is None else last[0] + len(events_of(last))

    def _enter_root(self, connection: sqlite3.Connection, record: Record) -> None:
        started = record.events[0]
        if type(started) is not Started or started.run_id != record.root_id:
            raise sqlite3.IntegrityError(f"the log of {record.root_id!r} does not begin with its start")
        status = status_after(started)
        assert status is not None
        connection.execute(
            "INSERT INTO roots (id, kind, goal, status, started_at) VALUES (?, ?, ?, ?, ?)",
            (record.root_id, started.kind, started.name, status.value, started.at),
        )
        if started.place is None:
            self.waiting(connection).add(record.root_id)

    def _list(self, connection: sqlite3.Connection, root_id: str, event: Event) -> None:
        if type(event) is Started:
            connection.execute("INSERT INTO runs VALUES (?, ?)", (event.run_id, root_id))
            return
        if event.run_id != root_id or (status := status_after(event)) is None:
            return
        if type(event) is Ended:
            connection.execute(
                "UPDATE roots SET status = ?, reason = ?, ended_at = ? WHERE id = ?",
                (status.value, event.reason.value, event.at, root_id),
            )
        else:
            connection.execute("UPDATE roots SET status = ? WHERE id = ?", (status.value, root_id))
        self.waiting(connection).discard(root_id)
