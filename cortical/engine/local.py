"""Functions in threads, coroutines in one event loop beside them. It knows nothing of loops and owns no state."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from cortical.core.checks import require_count

T = TypeVar("T")


class LocalEngine:
    """Carries out work until it is closed.

    Args:
        workers: how many functions may run at the same time. Coroutines take no worker; their event loop starts
            with the first of them.
    """

    def __init__(self, workers: int) -> None:
        self._threads = ThreadPoolExecutor(require_count(workers, "workers"), thread_name_prefix="cortical-worker")
        self._starting = threading.Lock()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: threading.Thread | None = None

    def call(self, function: Callable[..., T], *args: object) -> Future[T]:
        """Have `function` called by a worker. Once the engine is being closed, the future is cancelled instead."""
        with self._starting:
            return _cancelled() if self._closed else self._threads.submit(function, *args)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Have `coroutine` run in the event loop. Once the engine is being closed, the future is cancelled instead."""
        with self._starting:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(coroutine, self._event_loop())
        coroutine.close()
        return _cancelled()

    def close(self) -> None:
        """Wait for the work under way; coroutines that wait for something are cancelled. Nothing new is begun."""
        with self._starting:
            self._closed = True
        if self._loop is not None and self._loop_thread is not None:
            asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop_thread.join()
            self._loop.close()
        self._threads.shutdown(wait=True)

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop_thread = threading.Thread(target=self._loop.run_forever, name="cortical-tasks", daemon=True)
            self._loop_thread.start()
        return self._loop


def _cancelled() -> Future[Any]:
    future: Future[Any] = Future()
    future.cancel()
    return future


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
