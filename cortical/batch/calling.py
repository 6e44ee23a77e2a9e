"""How a handler is called for an item: in a thread, as a task, or in a process of its own; at its time, in its time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from attrs import define, field

from cortical.batch.context import OWN, ItemContext
from cortical.batch.process import Processes
from cortical.batch.rate import RateLimit
from cortical.batch.reading import Work
from cortical.batch.tasks import Handler, RegisteredTask, handler_name, is_async, load_function
from cortical.engine.calling import in_time
from cortical.engine.limited import LimitedCaller

T = TypeVar("T")

_LONGEST_SLEEP: Final = 0.1
_GRACE_SECONDS: Final = 5.0


@define
class Calling:
    """Calls one handler for the items of one batch.

    Args:
        batch_name, workspace, values: what the item's context says of the batch.
        seconds: how long one call may take.
        processes: where it is called, if not in this process.
        sleep: waits for a call's moment; by default so that a stop is noticed.
        stopped: whether the batch has been stopped.
    """

    registered: RegisteredTask
    task: Mapping[str, Any]
    batch_name: str
    workspace: Path
    values: Mapping[str, Any]
    seconds: float | None = None
    chunk_size: int | None = None
    rate: RateLimit | None = None
    processes: Processes | None = None
    sleep: Callable[[float], object] | None = None
    stopped: Callable[[], bool] = lambda: False
    total: int | None = None
    previous_result: Any = None
    handler: Handler = field(init=False)
    #: After how many seconds a call is given up; later than its time where the handler itself keeps to that.
    _limit: float | None = field(init=False)
    is_async: bool = field(init=False)
    _reference: str = field(init=False)
    _local: threading.local = field(factory=threading.local, init=False)
    _callers: list[LimitedCaller] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.task = MappingProxyType(dict(self.task))
        self.values = MappingProxyType(dict(self.values))
        self.handler, prepare = self.registered.handler, self.registered.prepare
        self.is_async = is_async(self.handler)
        self._reference = handler_name(self.handler)
        if prepare is not None and self.processes is None and not self.is_async:
            self.handler = prepare(self.task)
        self._limit = self.seconds
        if self.seconds is not None and getattr(self.handler, "keeps_time", False):
            self._limit = self.seconds + _GRACE_SECONDS

    @property
    def own_limit(self) -> float | None:
        """The seconds that whoever calls the function has to see to; None where the function itself does."""
        return None if self.processes is not None or self.rate is not None else self._limit

    def function(self, work: Work, name: str) -> Callable[[int], Any]:
        """A function of the number of the attempt, that calls the handler for these items, the first called `name`."""
        if self.is_async:
            return partial(self._awaited, work, name)
        if self.rate is None and self.processes is None:
            return partial(self._directly, work, name)
        return partial(self._called, work, name)

    def call(self, value: Any, task: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
        """What the handler gives for an item that stands in no batch, in its time.

        Raises:
            TimeIsUp: it took longer.
            Whatever the handler raises.
        """
        if self.is_async:
            return _run_apart(self.handler, value, task, context, self.seconds)
        if self._limit is None:
            return self.handler(value, task, context)
        with LimitedCaller("cortical-batch-limited") as limited:
            return limited.call(self._limit, self.handler, value, task, context)

    def close(self) -> None:
        """Let go of the threads and processes that were used."""
        for caller in self._callers:
            caller.close()
        if self.processes is not None:
            self.processes.close()

    def _context(self, work: Work, name: str, attempt: int) -> ItemContext:
        first, size = work.items[0], self.chunk_size
        return ItemContext(
            first.value if size is None else [item.value for item in work.items],
            first.index,
            self.total,
            name,
            self.batch_name,
            first.index // (size or 1),
            len(work.items),
            attempt,
            self.workspace,
            self.seconds,
            self.previous_result,
            self.values,
            self.stopped,
        )

    def _directly(self, work: Work, name: str, attempt: int) -> Any:
        context = self._context(work, name, attempt)
        return self.handler(context.item, self.task, context)

    def _called(self, work: Work, name: str, attempt: int) -> Any:
        self._wait()
        context = self._context(work, name, attempt)
        if self.processes is not None:
            told = {name: value for name, value in context.items() if name not in ("item", "workspace")}
            return self.processes.call(
                f"{__name__}:call_apart",
                [],
                {
                    "reference": self._reference,
                    "item": context.item,
                    "task": dict(self.task),
                    "context": told,
                    "workspace": str(self.workspace),
                },
                seconds=self.seconds,
                stopped=self.stopped,
            )
        if self._limit is None:
            return self.handler(context.item, self.task, context)
        return self._limited().call(self._limit, self.handler, context.item, self.task, context)

    async def _awaited(self, work: Work, name: str, attempt: int) -> Any:
        if self.rate is not None:
            await asyncio.sleep(self.rate.seconds_to_wait())
        context = self._context(work, name, attempt)
        if self.own_limit is not None or self.seconds is None:
            return await self.handler(context.item, self.task, context)
        return await in_time(self.seconds, self.handler, context.item, self.task, context)

    def _wait(self) -> None:
        left = 0.0 if self.rate is None else self.rate.seconds_to_wait()
        if self.sleep is not None and left > 0:
            self.sleep(left)
            return
        until = time.monotonic() + left
        while left > 0 and not self.stopped():
            time.sleep(min(left, _LONGEST_SLEEP))
            left = until - time.monotonic()

    def _limited(self) -> LimitedCaller:
        caller: LimitedCaller | None = getattr(self._local, "caller", None)
        if caller is None:
            caller = self._local.caller = LimitedCaller("cortical-batch-limited")
            self._callers.append(caller)
        return caller


def call_apart(reference: str, item: Any, task: dict[str, Any], context: dict[str, Any], workspace: str) -> Any:
    """Call a handler in the process that this is."""
    facts = {name: context.pop(name) for name in OWN if name in context}
    told = ItemContext(item=item, workspace=Path(workspace), given=MappingProxyType(context), **facts)
    return load_function(reference)(item, MappingProxyType(task), told)


def _run_apart(handler: Handler, value: Any, task: Any, context: Any, seconds: float | None) -> Any:
    """Run a coroutine function to its end, also where the caller is in an event loop of its own."""
    with LimitedCaller("cortical-batch-task") as caller:
        return caller.call(threading.TIMEOUT_MAX, lambda: asyncio.run(in_time(seconds, handler, value, task, context)))
