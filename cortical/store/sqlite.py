"""A store in one SQLite file, in WAL mode.

Writers of one process share a connection by turns. Whoever finds it free writes alone; those who come
while a write is under way queue up, and the first of them then commits for all: one sync for the lot.

Longer than other modules: the port, and the turns by which it is served, are read together.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import Final, Literal

from attrs import evolve

from cortical.core.codec import encode_events
from cortical.core.errors import Conflict, InvalidInput, LeaseLost, RecordsLost, StoreDamaged, StoreError
from cortical.core.events import Event
from cortical.core.ports import Lease, Record, Root
from cortical.store import sqlite_file, sqlite_leases, sqlite_packing, sqlite_reading
from cortical.store.listing import starts_later
from cortical.store.sqlite_packing import Pack
from cortical.store.sqlite_records import RecordTables
from cortical.store.sqlite_turns import LOOK_AGAIN_SECONDS, Gate, Grouping, Turn

Durability = Literal["process", "power", "relaxed"]

_SYNCHRONOUS: Final[dict[str, str]] = {"process": "NORMAL", "power": "FULL", "relaxed": "NORMAL"}
_BUSY_SECONDS: Final = 10.0
_MOST_OTHERS: Final = 1000  # packs of one tree that other processes put first


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
        self._gate = Gate()
        self._waiting: deque[Turn] = deque()
        self._tables = RecordTables()
        self._grouping = Grouping(self.name, weakref.WeakMethod(self.flush)) if durability == "relaxed" else None
        self._connection: sqlite3.Connection | None = sqlite_file.open_file(
            Path(path), create=create, busy_seconds=_BUSY_SECONDS, synchronous=_SYNCHRONOUS[durability]
        )
        self._exclusive: int | None = None  # the thread that writes exclusively
        self._closed = "has been closed; open it again"
        _opened.add(self)

    # The port

    def prepare(self, root_id: str, position: int, events: Sequence[Event], fence: int | None = None) -> Record:
        kept, body = encode_events(events)
        return Record(root_id, position, kept, body, fence)

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        with self._writing():
            self._exclusive = get_ident()
            try:
                yield
            except BaseException:
                self._tables.forget()
                raise
            finally:
                self._exclusive = None

    def append(self, *records: Record) -> None:
        if self._exclusive == get_ident():
            self._write_inside(records)
            return
        turn = None
        leads = self._gate.take()
        if not leads:
            turn = Turn(records)
            self._waiting.append(turn)
            while not (turn.done or (leads := self._gate.take())):
                if not turn.wait():
                    self._gate.notice()
        if leads:
            try:
                self._gate.enter()
                self._write(turn, records)
            finally:
                self._gate.inside = False
                self._gate.lock.release()
                self._wake()
        if turn is not None and turn.error is not None:
            raise turn.error

    def _write(self, turn: Turn | None, records: Sequence[Record]) -> None:
        if turn is None and not self._waiting:
            self._write_alone(records)
        elif turn is None:  # write with those who came before
            own = Turn(records)
            self._waiting.append(own)
            self._write_waiting(own)
            if own.error is not None:
                raise own.error
        elif not turn.done:
            self._write_waiting(turn)

    def read(self, root_id: str, start: int = 0) -> list[Event]:
        with self._reading() as connection:
            rows = sqlite_reading.records_from(connection, root_id, start)
        try:
            events = sqlite_reading.events_from(rows, start)
        except StoreDamaged as damaged:
            raise StoreDamaged(f"{self.name}: the log of {root_id!r} {damaged}") from damaged
        if start == 0 and events and starts_later(events):
            with self._reading() as connection:
                self._tables.waiting(connection).add(root_id)
        return events

    def compact(self, root_id: str, before: float) -> int:
        # Each pack is made before the transaction in which it is put, and has one of its own: nobody waits for long.
        with self._reading() as connection:
            base = sqlite_reading.base_of(connection, root_id)
            key = None if base is None else sqlite_packing.first_to_pack(connection, base)
        saved = others = 0
        while key is not None and (pack := self._next_pack(root_id, key, before)) is not None:
            if pack.body is not None:
                with self._writing() as connection:
                    if not sqlite_packing.put(connection, pack):
                        others += 1
                        if others > _MOST_OTHERS:
                            raise StoreDamaged(f"{self.name}: the records of {root_id!r} are not as they are read")
                        continue
            saved += pack.saved
            key = pack.end
        return max(saved, 0)

    def root_of(self, run_id: str) -> str | None:
        with self._reading() as connection:
            return sqlite_reading.root_of(connection, run_id)

    def find(self, prefix: str, limit: int = 10) -> list[str]:
        with self._reading() as connection:
            return sqlite_reading.find(connection, prefix, limit)

    def roots(self, *, open_only: bool = False, limit: int | None = None) -> list[Root]:
        try:
            with self._reading() as connection:
                return sqlite_reading.roots(connection, open_only=open_only, limit=limit)
        except (ValueError, TypeError) as error:
            raise StoreDamaged(f"{self.name}: the listing of trees cannot be read ({error})") from error

    def take_lease(self, root_id: str, holder: str, *, now: float, seconds: float) -> Lease:
        with self._writing() as connection:
            return sqlite_leases.take(connection, root_id, holder, now, seconds)

    def renew_lease(self, lease: Lease, *, now: float, seconds: float) -> Lease:
        with self._writing() as connection:
            sqlite_leases.set_expiry(connection, lease, now + seconds)
        return evolve(lease, expires_at=now + seconds)

    def release_lease(self, lease: Lease) -> None:
        with suppress(LeaseLost), self._writing() as connection:
            sqlite_leases.set_expiry(connection, lease, 0.0)

    def lease_of(self, root_id: str) -> Lease | None:
        with self._reading() as connection:
            return sqlite_leases.newest(connection, root_id)

    def flush(self) -> None:
        with self._reading() as connection:
            self._commit_group(connection)

    def check(self) -> list[str]:
        with self._reading() as connection:
            problems = sqlite_reading.problems(connection)
            ids = [row[0] for row in connection.execute("SELECT id FROM roots")]
        for root_id in ids:
            try:
                self.read(root_id)
            except StoreDamaged as damaged:
                problems.append(str(damaged))
        return problems

    def close(self) -> None:
        if self._grouping is not None:
            self._grouping.stop()
        with self._alone():
            connection, self._connection = self._connection, None
            if connection is None:
                return
            try:
                self._commit_group(connection)
            finally:
                connection.close()

    # Turns

    @contextmanager
    def _alone(self) -> Iterator[None]:
        while not self._gate.take(LOOK_AGAIN_SECONDS):
            continue
        try:
            self._gate.enter()
            yield
        finally:
            self._gate.inside = False
            self._gate.lock.release()
            self._wake()

    def _wake(self) -> None:
        """Wake the first of those who wait to write for all of them; the connection has been let go of."""
        if self._waiting:
            with suppress(IndexError):  # another has taken it since
                self._waiting[0].go()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, alone; what SQLite raises becomes an error of ours."""
        if self._exclusive == get_ident():
            yield self._open()
            return
        with self._alone():
            connection = self._open()
            try:
                yield connection
            except (sqlite3.Error, UnicodeError) as error:
                raise self._undo(connection) or self._failure(error) from error

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

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"{self.name} {self._closed}")
        return self._connection

    # Writing

    def _write_inside(self, records: Sequence[Record]) -> None:
        """Write as part of the transaction of `exclusively`."""
        try:
            self._tables.write(self._open(), records)
        except sqlite3.IntegrityError:
            raise Conflict(records[0].root_id, records[0].position) from None

    def _write_alone(self, records: Sequence[Record]) -> None:
        connection = self._open()
        try:
            if self._grouping is not None:
                self._grouping.begin(connection)
                self._tables.write_apart(connection, records)
            elif len(records) == 1 and records[0].position and self._tables.is_quiet(connection, records[0]):
                self._tables.insert(connection, records[0])
            else:
                connection.execute("BEGIN IMMEDIATE")
                self._tables.write(connection, records)
                connection.execute("COMMIT")
        except sqlite3.IntegrityError:
            self._undo(connection)
            raise Conflict(records[0].root_id, records[0].position) from None
        except sqlite3.Error as error:
            raise self._undo(connection) or self._failure(error) from error
        except BaseException:
            self._undo(connection)
            raise

    def _write_waiting(self, own: Turn) -> None:
        """Commit for all who wait. One writer's conflict is that writer's alone."""
        batch: list[Turn] = []
        while self._waiting:
            batch.append(self._waiting.popleft())
        error: Exception | None = StoreError(
            "a thread that was writing for several was interrupted; look, and call again"
        )
        try:
            if own in batch:  # else a leader took it, and was interrupted: nobody knows how far it came
                error = self._try_to_write(batch)
        finally:
            for turn in batch:
                if turn is not own:
                    turn.finish(error)
            own.finish(error)

    def _try_to_write(self, batch: Sequence[Turn]) -> Exception | None:
        try:
            connection = self._open()
        except StoreError as closed:
            return closed
        try:
            if self._grouping is not None:
                self._grouping.begin(connection)
                self._write_each(connection, batch)
            elif not self._write_at_once(connection, batch):
                connection.execute("BEGIN IMMEDIATE")
                self._write_each(connection, batch)
                connection.execute("COMMIT")
        except sqlite3.Error as cause:
            return self._undo(connection) or self._failure(cause)
        except StoreError as lost:
            self._undo(connection)
            return lost
        except BaseException:
            self._undo(connection)
            raise
        return None

    def _write_at_once(self, connection: sqlite3.Connection, batch: Sequence[Turn]) -> bool:
        for turn in batch:
            record = turn.records[0]
            if len(turn.records) > 1 or record.fence is not None or not record.position:
                return False
            if not self._tables.is_quiet(connection, record):
                return False
        return self._tables.insert_at_once(connection, [turn.records[0] for turn in batch])

    def _write_each(self, connection: sqlite3.Connection, batch: Sequence[Turn]) -> None:
        for turn in batch:
            try:
                self._tables.write_apart(connection, turn.records)
            except sqlite3.IntegrityError:
                turn.error = Conflict(turn.records[0].root_id, turn.records[0].position)
            except LeaseLost as lost:
                turn.error = lost

    def _undo(self, connection: sqlite3.Connection) -> RecordsLost | None:
        """Undo what is not committed; what a relaxed store has then lost of what it had accepted."""
        self._tables.forget()
        if self._grouping is not None:
            if connection.in_transaction or not self._grouping.open:
                return None
            self._grouping.open = False
            return self._grouping.lost("it was undone by an error")
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return None

    def _commit_group(self, connection: sqlite3.Connection) -> None:
        """Commit what a relaxed store has accepted."""
        if self._grouping is not None:
            try:
                self._grouping.commit(connection)
            except RecordsLost:
                self._tables.forget()
                raise

    def _next_pack(self, root_id: str, key: int, before: float) -> Pack | None:
        with self._reading() as connection:
            self._commit_group(connection)
            rows = sqlite_packing.neighbours(connection, key)
        try:
            return sqlite_packing.pack(rows, before)
        except StoreDamaged as damaged:
            raise StoreDamaged(f"{self.name}: the log of {root_id!r} cannot be packed: {damaged}") from damaged

    def _failure(self, error: sqlite3.Error | UnicodeError) -> StoreError:
        return sqlite_file.failure(self.name, error)

    def _after_fork(self) -> None:
        if self._connection is not None:
            _parents.append(self._connection)
            self._connection = None
            self._closed = "was opened before this process was forked; open it again in this process"
            self._gate = Gate()
            self._waiting.clear()


_opened: Final[weakref.WeakSet[SqliteStore]] = weakref.WeakSet()
_parents: Final[list[sqlite3.Connection]] = []  # a forked child must never close, only keep, its parent's connections


def _after_fork() -> None:
    for store in list(_opened):
        store._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
