"""How the threads of a process share one connection: by turns, and in a relaxed store by open transactions."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from cortical.core.errors import RecordsLost, StoreError
from cortical.core.ports import Record

_GROUPING_SECONDS: Final = 0.05
#: How often a waiting thread looks whether it can go on, though nobody woke it.
LOOK_AGAIN_SECONDS: Final = 0.05


class Gate:
    """Lets one thread at a time to the connection.

    Take it, `enter`, and whatever comes, set `inside` to False and release `lock`, both where you are: a Ctrl-C may
    come as any function begins, and in one that is to let go it would leave the gate shut for good. It can still come
    between taking the gate and being inside. Then nobody is inside, yet nobody else gets in: those who wait notice
    it after a second, and open the gate.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = False
        self._entered = 0
        self._noticing = threading.Lock()
        self._empty_since: tuple[int, int] = (0, 0)

    def take(self, seconds: float = 0.0) -> bool:
        """Take the gate if it is free within so many seconds."""
        taken = self.lock.acquire(timeout=seconds) if seconds else self.lock.acquire(blocking=False)
        if not taken and seconds:
            self.notice()
        return taken

    def enter(self) -> None:
        """Be inside."""
        self.inside = True
        self._entered += 1

    def notice(self) -> None:
        """Look whether nobody is inside; to be called by those who wait, every `LOOK_AGAIN_SECONDS`."""
        with self._noticing:
            entered, looks = self._empty_since
            if self.inside or entered != self._entered or not self.lock.locked():
                self._empty_since = (self._entered, 0)
                return
            self._empty_since = (entered, looks + 1)
            if looks * LOOK_AGAIN_SECONDS > 1:
                self._entered += 1
                self.lock.release()


class Turn:
    """What a thread wants written, while it waits: for whoever is writing, to be woken when it is done, or to lead."""

    __slots__ = ("_woken", "done", "error", "records")

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.done = False
        self.error: Exception | None = None
        self._woken = threading.Lock()
        self._woken.acquire()

    def wait(self) -> bool:
        """Wait a little; whether somebody woke it."""
        return self._woken.acquire(timeout=LOOK_AGAIN_SECONDS)

    def go(self) -> None:
        """Wake it."""
        with suppress(RuntimeError):  # it has been woken before
            self._woken.release()

    def finish(self, error: Exception | None) -> None:
        """Wake it: its records are written, or they are not."""
        self.error = self.error or error
        self.done = True
        self.go()


class Grouping:
    """The open transaction of a relaxed store, and the thread that commits it at most 50 ms late."""

    def __init__(self, name: str, flush: weakref.WeakMethod[Callable[[], None]]) -> None:
        # Weakly, so that this thread does not keep a store alive that nobody uses any more.
        self._name = name
        self._flush = flush
        #: Whether there is something accepted that is not committed.
        self.open = False
        self._begun = threading.Event()
        self._stopped = threading.Event()
        self._lost: RecordsLost | None = None
        self._thread: threading.Thread | None = None

    def begin(self, connection: sqlite3.Connection) -> None:
        """Open a transaction if none is; refuse, once, when the last could not be committed."""
        self._raise_lost()
        if connection.in_transaction:
            return
        if self.open:
            self.open = False
            raise self.lost("it was undone by an error")
        connection.execute("BEGIN IMMEDIATE")
        self.open = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="cortical-commits", daemon=True)
            self._thread.start()
        self._begun.set()

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commit the open transaction, if there is one."""
        self._raise_lost()
        was_open, self.open = self.open, False
        if was_open and not connection.in_transaction:
            raise self.lost("it was undone by an error")
        if connection.in_transaction:
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise self.lost(str(error)) from error

    def lost(self, why: str) -> RecordsLost:
        """The error for what was accepted and could not be committed."""
        return RecordsLost(
            f"{self._name}: what was recorded in the last 50 ms could not be "
            f"committed ({why}); it is read anew from the disk, so look at it and repeat what is missing"
        )

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
            except StoreError as error:
                if self._stopped.is_set():
                    return
                self._lost = self.lost(str(error))
            del flush
