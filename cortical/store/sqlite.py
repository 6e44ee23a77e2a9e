"""A store in one SQLite file, in WAL mode.

Writers of one process share a connection by turns. Whoever finds it free writes alone; those who come
while a write is under way queue up, and the first of them then commits for all: one sync for the lot.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from attrs import evolve

from cortical.core.codec import decode_events, encode_events
from cortical.core.errors import Conflict, InvalidInput, LeaseLost, RecordsLost, StoreDamaged, StoreError
from cortical.core.events import Changed, Ended, Event, Moved, Noted, Started
from cortical.core.ports import Lease, Record, Root
from cortical.core.status import Status, TerminationReason
from cortical.store import sqlite_file
from cortical.store.leases import next_lease
from cortical.store.listing import status_after
from cortical.store.sqlite_turns import Grouping, Turn

Durability = Literal["process", "power", "relaxed"]

_SYNCHRONOUS: Final[dict[str, str]] = {"process": "NORMAL", "power": "FULL", "relaxed": "NORMAL"}
_BUSY_SECONDS: Final = 10.0
_MOST_AT_ONCE: Final = 1000  # of SQLite's 32,766 parameters to a statement, three each
_INSERT: Final = "INSERT INTO records VALUES (?, ?)"
_INSERT_FENCED: Final = (
    "INSERT INTO records SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM leases WHERE root = ?3 AND fence = ?4)"
)
#: Of the tree whose keys begin at ?1: from the record that holds key ?2 on.
_RECORDS: Final = (
    "SELECT key, body FROM records WHERE key < ?1 + (1 << 32) AND key >= coalesce("
    "(SELECT max(key) FROM records WHERE key BETWEEN ?1 AND ?2), ?1) ORDER BY key"
)
_ROOTS: Final = "SELECT id, kind, goal, status, reason, started_at, ended_at FROM roots ORDER BY number DESC LIMIT ?"
_OPEN_ROOTS: Final = _ROOTS.replace("ORDER", "WHERE ended_at IS NULL ORDER")

#: Events that change neither the listing nor the set of runs.
_QUIET: Final = frozenset({Moved, Noted, Changed})


class SqliteStore:
    """The log in the file at `path`.

    Args:
        path: the file; made if it is not there (unless `create` is False), its folder must be.
        durability: what is true when `append` returns. ``"process"``: a kill -9 loses nothing.
            ``"power"``: a power cut loses nothing. ``"relaxed"``: it will be kept within 50 ms.

    Raises:
        StoreNotFound: there is no such file, or folder.
        StoreDamaged: the file is empty, torn, not a store, or from a newer version.
        StoreError: the file cannot be opened or written.
    """

    def __init__(self, path: str | Path, *, durability: Durability = "process", create: bool = True) -> None:
        if durability not in _SYNCHRONOUS:
            raise InvalidInput(f"durability is one of {', '.join(_SYNCHRONOUS)}; not {durability!r}")
        self.name = os.fspath(path)
        self.durability = durability
        self._turns = threading.Lock()
        self._busy = False
        self._waiting: deque[Turn] = deque()
        self._not_started: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._grouping = Grouping(self.name, weakref.WeakMethod(self.flush)) if durability == "relaxed" else None
        self._connection: sqlite3.Connection | None = sqlite_file.open_file(
            Path(path), create=create, busy_seconds=_BUSY_SECONDS, synchronous=_SYNCHRONOUS[durability]
        )
        self._closed = "has been closed; open it again"
        _opened.add(self)

    # The port

    def prepare(self, root_id: str, position: int, events: Sequence[Event], fence: int | None = None) -> Record:
        kept, body = encode_events(events)
        return Record(root_id, position, kept, body, fence)

    def append(self, *records: Record) -> None:
        with self._turns:
            turn = None if not self._busy else Turn(records)
            if turn is None:
                self._busy = True
            else:
                self._waiting.append(turn)
        if turn is None:
            try:
                self._write_alone(records)
            finally:
                self._next_turn()
            return
        turn.wait()
        if turn.batch:
            try:
                self._write_batch(turn.batch)
            finally:
                self._next_turn()
        if turn.error is not None:
            raise turn.error

    def read(self, root_id: str, start: int = 0) -> list[Event]:
        with self._reading() as connection:
            row = connection.execute("SELECT number FROM roots WHERE id = ?", (root_id,)).fetchone()
            base = row[0] << 32 if row else 0
            rows = connection.execute(_RECORDS, (base, base + start)).fetchall() if row else []
        events: list[Event] = []
        first = min(rows[0][0] - base, start) if rows else start
        for key, body in rows:
            position = key - base
            if position != first + len(events):
                raise StoreDamaged(f"{self.name}: the log of {root_id!r} has a gap before position {position}")
            events += self._decoded(root_id, position, body)
        if rows and start == 0 and self._starts_later(events):
            self._not_started.add(root_id)
        return events[start - first :]

    def root_of(self, run_id: str) -> str | None:
        with self._reading() as connection:
            row = connection.execute("SELECT root FROM runs WHERE id = ?", (run_id,)).fetchone()
        return row[0] if row else None

    def find(self, prefix: str, limit: int = 10) -> list[str]:
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT id FROM runs WHERE id >= ?1 AND substr(id, 1, length(?1)) = ?1 "
                "AND id < ?1 || char(1114111) ORDER BY id LIMIT ?2",
                (prefix, limit),
            ).fetchall()
        return [row[0] for row in rows]

    def roots(self, *, open_only: bool = False, limit: int | None = None) -> list[Root]:
        with self._reading() as connection:
            rows = connection.execute(
                _OPEN_ROOTS if open_only else _ROOTS,
                (-1 if limit is None else limit,),
            ).fetchall()
        return [
            Root(run_id, kind, goal, Status(status), TerminationReason(reason) if reason else None, started, ended)
            for run_id, kind, goal, status, reason, started, ended in rows
        ]

    def take_lease(self, root_id: str, holder: str, *, now: float, seconds: float) -> Lease:
        with self._writing() as connection:
            lease = next_lease(_lease_of(connection, root_id), root_id, holder, now, seconds)
            connection.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)", (root_id, holder, lease.fence, lease.expires_at)
            )
        return lease

    def renew_lease(self, lease: Lease, *, now: float, seconds: float) -> Lease:
        with self._writing() as connection:
            self._set_expiry(connection, lease, now + seconds)
        return evolve(lease, expires_at=now + seconds)

    def release_lease(self, lease: Lease) -> None:
        with suppress(LeaseLost), self._writing() as connection:
            self._set_expiry(connection, lease, 0.0)

    def lease_of(self, root_id: str) -> Lease | None:
        with self._reading() as connection:
            return _lease_of(connection, root_id)

    def flush(self) -> None:
        with self._reading() as connection:
            self._commit_group(connection)

    def check(self) -> list[str]:
        with self._reading() as connection:
            problems = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
            ids = [row[0] for row in connection.execute("SELECT id FROM roots")]
            strays = connection.execute(
                "SELECT count(*) FROM records WHERE key >> 32 NOT IN (SELECT number FROM roots)"
            )
            if (count := strays.fetchone()[0]) > 0:
                problems.append(f"{count} records belong to no root")
        for root_id in ids:
            try:
                self.read(root_id)
            except StoreDamaged as damaged:
                problems.append(str(damaged))
        return problems

    def close(self) -> None:
        if self._connection is None:
            return
        if self._grouping is not None:
            self._grouping.stop()
        try:
            with self._reading() as connection:
                self._commit_group(connection)
        finally:
            connection, self._connection = self._connection, None
            connection.close()

    # Turns

    def _next_turn(self) -> None:
        with self._turns:
            if not self._waiting:
                self._busy = False
                return
            first = self._waiting.popleft()
            first.batch = [first]
            while first.records and self._waiting and self._waiting[0].records:
                first.batch.append(self._waiting.popleft())
        first.go()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A turn alone with the connection; what SQLite raises becomes an error of ours."""
        with self._turns:
            turn = None if not self._busy else Turn(())
            if turn is None:
                self._busy = True
            else:
                self._waiting.append(turn)
        if turn is not None:
            turn.wait()
        try:
            yield self._open()
        except sqlite3.Error as error:
            raise self._failure(error) from error
        finally:
            self._next_turn()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A turn alone with the connection, for a transaction that is committed at once whatever the durability."""
        with self._reading() as connection:
            self._commit_group(connection)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @staticmethod
    def _set_expiry(connection: sqlite3.Connection, lease: Lease, expires_at: float) -> None:
        changed = connection.execute(
            "UPDATE leases SET expires_at = ? WHERE root = ? AND fence = ?", (expires_at, lease.root_id, lease.fence)
        )
        if not changed.rowcount:
            raise LeaseLost(lease.root_id)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"{self.name} {self._closed}")
        return self._connection

    # Writing

    def _write_alone(self, records: Sequence[Record]) -> None:
        connection = self._open()
        try:
            if self._grouping is not None:
                self._grouping.begin(connection)
                self._write_apart(connection, records)
            elif len(records) == 1 and self._is_quiet(records[0]):
                self._insert(connection, records[0])
            else:
                connection.execute("BEGIN IMMEDIATE")
                self._write(connection, records)
                connection.execute("COMMIT")
        except sqlite3.IntegrityError:
            self._roll_back(connection)
            raise Conflict(records[0].root_id, records[0].position) from None
        except sqlite3.Error as error:
            self._roll_back(connection)
            raise self._failure(error) from error
        except BaseException:
            self._roll_back(connection)
            raise

    def _write_batch(self, batch: Sequence[Turn]) -> None:
        """Commit for all who wait. One writer's conflict is that writer's alone."""
        error: Exception | None = StoreError("the thread that was writing for several was interrupted; call again")
        try:
            connection = self._open()
            if self._grouping is not None:
                self._grouping.begin(connection)
                self._write_each(connection, batch)
            elif not self._write_at_once(connection, batch):
                connection.execute("BEGIN IMMEDIATE")
                self._write_each(connection, batch)
                connection.execute("COMMIT")
            error = None
        except sqlite3.Error as cause:
            error = self._failure(cause)
        except StoreError as closed:
            error = closed
        finally:
            if error is not None and self._connection is not None:
                self._roll_back(self._connection)
            for turn in batch:
                turn.error = turn.error or error
                if turn is not batch[0]:
                    turn.go()

    def _write_at_once(self, connection: sqlite3.Connection, batch: Sequence[Turn]) -> bool:
        """Write quiet records by one statement, which lets go of the interpreter once; False if it was not possible."""
        records = [turn.records[0] for turn in batch if len(turn.records) == 1 and self._is_quiet(turn.records[0])]
        if not len(batch) == len(records) <= _MOST_AT_ONCE or any(record.fence is not None for record in records):
            return False
        try:
            values = [value for record in records for value in (self._key(connection, record), record.body)]
            connection.execute(_INSERT + ", (?, ?)" * (len(records) - 1), values)
        except sqlite3.IntegrityError:
            return False  # one of them conflicts: each for itself, then
        return True

    def _write_each(self, connection: sqlite3.Connection, batch: Sequence[Turn]) -> None:
        for turn in batch:
            try:
                self._write_apart(connection, turn.records)
            except sqlite3.IntegrityError:
                turn.error = Conflict(turn.records[0].root_id, turn.records[0].position)
            except LeaseLost as lost:
                turn.error = lost

    def _write_apart(self, connection: sqlite3.Connection, records: Sequence[Record]) -> None:
        """Write these records inside a larger transaction, or none of them."""
        if len(records) == 1 and self._is_quiet(records[0]):
            self._write(connection, records)
            return
        connection.execute("SAVEPOINT apart")
        try:
            self._write(connection, records)
        except BaseException:
            connection.execute("ROLLBACK TO apart")
            self._numbers.clear()
            raise
        finally:
            connection.execute("RELEASE apart")

    def _write(self, connection: sqlite3.Connection, records: Sequence[Record]) -> None:
        for record in records:
            if record.position == 0:
                self._enter_root(connection, record)
            self._insert(connection, record)
            if not self._is_quiet(record):
                for event in record.events:
                    self._list(connection, record.root_id, event)

    def _insert(self, connection: sqlite3.Connection, record: Record) -> None:
        if record.fence is None:
            connection.execute(_INSERT, (self._key(connection, record), record.body))
            return
        row = (self._key(connection, record), record.body, record.root_id, record.fence)
        if not connection.execute(_INSERT_FENCED, row).rowcount:
            raise LeaseLost(record.root_id)

    def _key(self, connection: sqlite3.Connection, record: Record) -> int:
        number = self._numbers.get(record.root_id)
        if number is None:
            row = connection.execute("SELECT number FROM roots WHERE id = ?", (record.root_id,)).fetchone()
            if row is None:
                raise sqlite3.IntegrityError(f"tree {record.root_id!r} is not there")
            number = self._numbers[record.root_id] = row[0]
        return number << 32 | record.position

    def _is_quiet(self, record: Record) -> bool:
        for event in record.events:
            if type(event) not in _QUIET:
                return False
        return record.root_id not in self._not_started

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
            self._not_started.add(record.root_id)

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
        self._not_started.discard(root_id)

    def _commit_group(self, connection: sqlite3.Connection) -> None:
        """Commit what a relaxed store has accepted."""
        if self._grouping is not None:
            try:
                self._grouping.commit(connection)
            except RecordsLost:
                self._numbers.clear()
                raise

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        self._numbers.clear()  # some may be of trees that are not there now
        if connection.in_transaction and self._grouping is None:
            connection.execute("ROLLBACK")

    # Reading

    def _decoded(self, root_id: str, position: int, body: bytes) -> list[Event]:
        try:
            return decode_events(bytes(body))
        except (StoreDamaged, TypeError) as damaged:
            raise StoreDamaged(f"{self.name}: the log of {root_id!r} at position {position}: {damaged}") from damaged

    @staticmethod
    def _starts_later(events: Sequence[Event]) -> bool:
        root = events[0]
        return (
            type(root) is Started
            and root.place is None
            and not any(type(event) is Moved and event.run_id == root.run_id for event in events)
        )

    def _failure(self, error: sqlite3.Error) -> StoreError:
        return sqlite_file.failure(self.name, error)

    def _after_fork(self) -> None:
        if self._connection is not None:
            _parents.append(self._connection)
            self._connection = None
            self._closed = "was opened before this process was forked; open it again in this process"
            self._turns = threading.Lock()
            self._busy = False
            self._waiting.clear()


def _lease_of(connection: sqlite3.Connection, root_id: str) -> Lease | None:
    row = connection.execute("SELECT root, holder, fence, expires_at FROM leases WHERE root = ?", (root_id,)).fetchone()
    return Lease(*row) if row else None


_opened: Final[weakref.WeakSet[SqliteStore]] = weakref.WeakSet()
_parents: Final[list[sqlite3.Connection]] = []  # a forked child must never close, only keep, its parent's connections


def _after_fork() -> None:
    for store in list(_opened):
        store._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
