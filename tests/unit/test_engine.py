"""The local engine: threads for functions, one event loop for coroutines."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError

import pytest

from cortical.engine.local import LocalEngine
from tests.threads import in_threads


def test_functions_run_at_the_same_time() -> None:
    """As many functions run at once as there are workers, in threads with a name of their own."""
    engine = LocalEngine(3)
    together = threading.Barrier(3)

    def meet(number: int) -> tuple[int, str]:
        together.wait(timeout=10)
        return number, threading.current_thread().name

    met = [engine.call(meet, number) for number in range(3)]
    assert [future.result(timeout=10)[0] for future in met] == [0, 1, 2]
    assert all(future.result()[1].startswith("cortical-worker") for future in met)
    engine.close()


def test_no_more_than_workers() -> None:
    """With one worker the second function begins when the first is done."""
    engine = LocalEngine(1)
    order: list[str] = []
    first, second = engine.call(order.extend, ["a", "b"]), engine.call(order.append, "c")
    assert (first.result(timeout=10), second.result(timeout=10)) == (None, None)
    assert order == ["a", "b", "c"]
    engine.close()


def test_coroutines_share_one_loop() -> None:
    """Coroutines run in one event loop, also when several threads bring the first of them."""
    engine = LocalEngine(1)
    loops: list[asyncio.AbstractEventLoop] = []

    async def told() -> None:
        loops.append(asyncio.get_running_loop())

    in_threads(lambda _: engine.run(told()).result(timeout=10), range(8))
    assert len(loops) == 8
    assert len(set(loops)) == 1
    engine.close()


def test_coroutines_take_no_worker() -> None:
    """A coroutine that waits leaves the only worker to a function, which it may be waiting for."""
    engine = LocalEngine(1)
    begun = threading.Event()

    async def waits() -> str:
        begun.set()
        return await asyncio.wrap_future(engine.call(str.upper, "done"))

    assert engine.run(waits()).result(timeout=10) == "DONE"
    assert begun.is_set()
    engine.close()


def test_close_waits_for_functions() -> None:
    """Closing comes back when the functions under way are done."""
    engine = LocalEngine(1)
    begun, go_on = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        go_on.wait(timeout=10)
        return "done"

    working = engine.call(work)
    begun.wait(timeout=10)
    closing = threading.Thread(target=engine.close)
    closing.start()
    go_on.set()
    closing.join(timeout=10)
    assert not closing.is_alive()
    assert working.result(timeout=0) == "done"


def test_close_cancels_coroutines() -> None:
    """Closing cancels coroutines that wait, which can still tidy up, and ends the event loop's thread."""
    engine = LocalEngine(1)
    begun, tidied = threading.Event(), threading.Event()

    async def wait_for_ever() -> None:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            tidied.set()

    waiting = engine.run(wait_for_ever())
    assert begun.wait(timeout=10)
    engine.close()
    assert tidied.is_set()
    with pytest.raises(CancelledError):
        waiting.result(timeout=10)
    assert "cortical-tasks" not in {thread.name for thread in threading.enumerate()}


def test_errors_come_back() -> None:
    """What a function or a coroutine raises is raised where its result is asked for."""
    engine = LocalEngine(1)

    async def fail() -> None:
        raise ConnectionError("away")

    with pytest.raises(ConnectionError, match="away"):
        engine.run(fail()).result(timeout=10)
    with pytest.raises(ZeroDivisionError):
        engine.call(divmod, 1, 0).result(timeout=10)
    engine.close()


def test_closed_begins_nothing() -> None:
    """What is brought to a closed engine is not begun: its future is cancelled, and nothing is raised."""
    engine = LocalEngine(1)
    engine.close()
    begun: list[str] = []

    async def begin() -> None:
        begun.append("coroutine")

    for future in (engine.call(begun.append, "function"), engine.run(begin())):
        with pytest.raises(CancelledError):
            future.result(timeout=10)
    assert begun == []
