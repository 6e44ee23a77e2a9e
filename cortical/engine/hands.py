"""Functions of units called in threads, and their coroutines run as tasks; for the one thread that drives them."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any

from msgspec import Struct

from cortical.core.policy import ONCE, Retry
from cortical.engine.calling import in_time
from cortical.engine.limited import LimitedCaller
from cortical.engine.local import LocalEngine


class Unit(Struct, eq=False):
    """One child to be carried out.

    Args:
        name: what the child is called.
        function: called with the number of the attempt (1, 2, …).
        is_async: whether it is a coroutine function, to be run as a task.
        key: the source's own word for it.
        metadata: of the child, when it is started.
        run_id: the child, where it has been started already; else it is started.
        failed_before: how many attempts have failed before this crew.
        seconds: how long one attempt may take.
        retry: how often it is tried; `retried` says after which exceptions where the policy does not.
        data: what is to stand in the child's own data when it ends well.
        error: what it failed with for good, as this process has seen it.
        attempt: the number of the attempt under way.
    """

    name: str
    function: Callable[[int], Any]
    is_async: bool = False
    key: Any = None
    metadata: dict[str, Any] | None = None
    run_id: str | None = None
    failed_before: int = 0
    seconds: float | None = None
    retry: Retry = ONCE
    retried: tuple[type[Exception], ...] = (Exception,)
    data: dict[str, Any] | None = None
    error: BaseException | None = None
    attempt: int = 0


class Result(Struct):
    """What came of one attempt: what its function returned, or the error."""

    unit: Unit
    returned: Any = None
    error: BaseException | None = None


def called(unit: Unit) -> Result:
    """What comes of calling a unit's function in this thread; what is no `Exception` is raised."""
    try:
        return Result(unit, copy_context().run(unit.function, unit.attempt))
    except Exception as error:  # noqa: BLE001  # for the policies of whoever gave the unit
        return Result(unit, error=error)


class Hands:
    """Threads and an event loop that call the functions of units; no more threads than were at work at once."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Context, Unit] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._threads = 0
        self._busy = 0
        self._engine: LocalEngine | None = None

    def take_on(self, unit: Unit) -> None:
        """Have a unit's function called."""
        if unit.is_async:
            self._engine = self._engine or LocalEngine(1)
            self._engine.run(self._awaited(unit))
            return
        self._busy += 1
        if self._threads < self._busy:
            threading.Thread(target=self._carry_out, name="cortical-crew", daemon=True).start()
            self._threads += 1
        self._work.put((copy_context(), unit))

    def done(self, seconds: float, most: int) -> list[Result]:
        """What was done, waiting for the first so long; empty when nothing was."""
        found: list[Result] = []
        with suppress(queue.Empty):
            found.append(self._done.get(timeout=seconds))
            while len(found) < most:
                found.append(self._done.get_nowait())
        self._busy -= sum(not result.unit.is_async for result in found)
        return found

    def close(self) -> None:
        """Let the threads end when they have done what they are at; tasks are cancelled."""
        for _ in range(self._threads):
            self._work.put(None)
        if self._engine is not None:
            self._engine.close()

    def _carry_out(self) -> None:
        with LimitedCaller("cortical-crew-limited") as limited:
            while (work := self._work.get()) is not None:
                context, unit = work
                self._done.put(context.run(self._one, limited, unit))
                del work, context, unit  # nothing is kept alive while there is nothing to do

    @staticmethod
    def _one(limited: LimitedCaller, unit: Unit) -> Result:
        try:
            if unit.seconds is None:
                return Result(unit, unit.function(unit.attempt))
            return Result(unit, limited.call(unit.seconds, unit.function, unit.attempt))
        except BaseException as error:  # noqa: BLE001  # raised again, or judged, by the thread that drives
            return Result(unit, error=error)

    async def _awaited(self, unit: Unit) -> None:
        try:
            result = Result(unit, await in_time(unit.seconds, unit.function, unit.attempt))
        except asyncio.CancelledError:
            result = Result(unit, error=RuntimeError("it was cancelled by something that it waited for"))
        except BaseException as error:  # noqa: BLE001  # raised again, or judged, by the thread that drives
            result = Result(unit, error=error)
        self._done.put(result)
