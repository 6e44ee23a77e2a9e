"""A loop that is driven in a thread of its own, for whoever started it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context

from cortical.control.results import Body, LoopResult


class LoopHandle:
    """Waits for a loop that was started, and tells its result."""

    def __init__(self, context: Context, run: Callable[[Body], LoopResult], body: Body) -> None:
        self._done: Future[LoopResult] = Future()
        self._thread = threading.Thread(
            target=context.run, args=(self._drive, run, body), name="cortical-loop", daemon=True
        )
        self._thread.start()

    def wait(self, timeout: float | None = None) -> LoopResult:
        """The result, once the loop has ended or is blocked.

        Raises:
            TimeoutError: it is still driven after `timeout` seconds.
            Whatever `run` raises.
        """
        return self._done.result(timeout)

    @property
    def result(self) -> LoopResult | None:
        """The result, or None while the loop is driven. Raises what `run` raised."""
        return self._done.result() if self._done.done() else None

    @property
    def is_running(self) -> bool:
        """Whether the loop is still driven."""
        return not self._done.done()

    def _drive(self, run: Callable[[Body], LoopResult], body: Body) -> None:
        try:
            self._done.set_result(run(body))
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            self._done.set_exception(error)
