"""Functions that may take only so long: called in a thread of their own, and left behind when their time is up.

A thread cannot be stopped. One that was left behind runs on; whoever left it sees to it that nothing it still does
counts. It is a daemon, so that the process can end without it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class TimeIsUp(TimeoutError):
    """Work took longer than it was given, and was left behind; or `then` says what became of it."""

    def __init__(self, seconds: float, then: str = "left behind; what it still does counts for nothing") -> None:
        super().__init__(f"it took longer than {seconds:g} s and was {then}")
        self.seconds = seconds


class LimitedCaller:
    """Calls functions one after another, each with a time limit, in one thread that is used for all of them.

    Close it, or use it as a context: its thread ends then.
    """

    def __init__(self, name: str = "cortical-limited") -> None:
        self._name = name
        self._work: queue.SimpleQueue[_Call | None] | None = None

    def call(self, seconds: float, function: Callable[..., T], *args: object) -> T:
        """What `function(*args)` returns or raises; it sees the context variables of the caller.

        Raises:
            TimeIsUp: it took longer than `seconds`; the next call has another thread.
        """
        if self._work is None:
            self._work = queue.SimpleQueue()
            threading.Thread(target=_carry_out, args=(self._work,), name=self._name, daemon=True).start()
        done: Future[T] = Future()
        self._work.put((done, copy_context().run, (function, *args)))
        try:
            return done.result(timeout=min(seconds, threading.TIMEOUT_MAX))
        except TimeoutError:
            if done.done():
                return done.result()  # its own TimeoutError, or what it returned at the last moment
            self._leave_behind()
            raise TimeIsUp(seconds) from None
        except BaseException:
            if not done.done():  # a Ctrl-C while it waited
                self._leave_behind()
            raise

    def close(self) -> None:
        """Let the thread end when it has nothing to do any more."""
        self._leave_behind()

    def __enter__(self) -> LimitedCaller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _leave_behind(self) -> None:
        if self._work is not None:
            self._work.put(None)
            self._work = None


_Call = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]


def _carry_out(work: queue.SimpleQueue[_Call | None]) -> None:
    while (call := work.get()) is not None:
        done, function, args = call
        try:
            value = function(*args)
        except BaseException as error:  # noqa: BLE001  # raised again where the call was made
            done.set_exception(error)
        else:
            done.set_result(value)
        del call, done, function, args  # nothing that was called is kept alive while there is nothing to do
