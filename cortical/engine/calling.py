"""Calls a body: in this thread; in one that can be left behind, where its time is limited; or as a task."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Final, Generic, TypeVar

from cortical.engine.limited import LimitedCaller, TimeIsUp

S = TypeVar("S")
T = TypeVar("T")

#: How often something that waits looks whether another process has changed it, in seconds.
POLL_SECONDS: Final = 0.1


class BodyCalls(Generic[S]):
    """Calls one body again and again.

    Args:
        body: a function or a coroutine function.
        stopped: says whether what it does is no longer wanted; an async body is then cancelled.
    """

    def __init__(self, body: Callable[[S], Any], stopped: Callable[[], bool] = lambda: False) -> None:
        self._body = body
        self._stopped = stopped
        self._caller: LimitedCaller | None = None
        self._runner: asyncio.Runner | None = None

    def call(self, given: S, seconds: float | None) -> Any:
        """What the body gives for this.

        Raises:
            TimeIsUp: it took longer than `seconds`. A coroutine was cancelled, a function left behind.
            CancelledError: it was stopped meanwhile, or the body cancelled itself.
            Whatever the body raises.
        """
        if seconds is None or inspect.iscoroutinefunction(self._body):
            returned = self._body(given)
        else:
            self._caller = self._caller or LimitedCaller("cortical-body")
            returned = self._caller.call(seconds, self._body, given)
        if not inspect.isawaitable(returned):
            return returned
        self._runner = self._runner or asyncio.Runner()
        # A runner keeps the context of its first call, and with it which attempt the body was then called for.
        return self._runner.run(self._watched(returned, seconds), context=copy_context())

    def close(self) -> None:
        """Let go of the thread and the event loop that were used."""
        if self._caller is not None:
            self._caller.close()
        if self._runner is not None:
            self._runner.close()

    async def _watched(self, awaitable: Awaitable[Any], seconds: float | None) -> Any:
        task = asyncio.ensure_future(awaitable)
        loop = asyncio.get_running_loop()
        until = None if seconds is None else loop.time() + seconds
        try:
            while not task.done():
                left = POLL_SECONDS if until is None else min(POLL_SECONDS, until - loop.time())
                if left <= 0:
                    raise TimeIsUp(seconds or 0.0)
                await asyncio.wait({task}, timeout=left)
                if not task.done() and self._stopped():
                    raise asyncio.CancelledError
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        return task.result()


async def in_time(seconds: float | None, function: Callable[..., Awaitable[T]], *args: object) -> T:
    """What `await function(*args)` gives; it is cancelled when its time is up.

    Raises:
        TimeIsUp: it took longer than `seconds`, whatever it made of its cancellation.
    """
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            value = await function(*args)
    except Exception:
        if seconds is None or not scope.expired():
            raise
    else:
        if seconds is None or not scope.expired():
            return value
    raise TimeIsUp(seconds)
