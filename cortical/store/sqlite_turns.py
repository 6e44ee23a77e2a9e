"""How the threads of a process share one connection: by turns, and in a relaxed store by open transactions."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Final

from cortical.core.errors import RecordsLost, StoreError
from cortical.core.ports import Record

_GROUPING_SECONDS: Final = 0.05


class Turn:
    """A place in the queue for the connection; one without records wants it to itself."""

    __slots__ = ("_lock", "batch", "error", "records")

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.batch: list[Turn] = []
        self.error: Exception | None = None
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self) -> None:
        self._lock.acquire()

    def go(self) -> None:
        self._lock.release()


class Grouping:
    """The open transaction of a relaxed store, and the thread that commits it at most 50 ms late."""

    def __init__(self, name: str, flush: weakref.WeakMethod[Callable[[], None]]) -> None:
        # Weakly, so that this thread does not keep a store alive that nobody uses any more.
        self._name = name
        self._flush = flush
        self._begun = threading.Event()
        self._stopped = threading.Event()
        self._lost: RecordsLost | None = None
        self._thread: threading.Thread | None = None

    def begin(self, connection: sqlite3.Connection) -> None:
        """Open a transaction if none is; refuse, once, when the last could not be committed."""
        self._raise_lost()
        if connection.in_transaction:
            return
        connection.execute("BEGIN IMMEDIATE")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="cortical-commits", daemon=True)
            self._thread.start()
        self._begun.set()

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commit the open transaction, if there is one."""
        self._raise_lost()
        if connection.in_transaction:
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise RecordsLost(
                    f"{self._name}: what was recorded in the last 50 ms could not be "
                    f"committed ({error}); it is read anew from the disk, so look at it and repeat what is missing"
                ) from error

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._begun.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _raise_lost(self) -> None:
        lost, self._lost = self._lost, None
        if lost is not None:
            raise lost

    def _run(self) -> None:
        while True:
            self._begun.wait()
            if self._stopped.wait(_GROUPING_SECONDS):
                return
            self._begun.clear()
            flush = self._flush()
            if flush is None:
                return  # nobody has the store any more
            try:
                flush()
            except RecordsLost as lost:
                self._lost = lost
            except StoreError:
                return  # closed meanwhile
            del flush
