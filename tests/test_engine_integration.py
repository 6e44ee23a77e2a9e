"""A batch on the engine: the same errors, retries, leases, budgets and trees as all other driven work."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from cortical.batch import BatchProcessor, BatchResult, Retry
from cortical.control import LoopController, cpu, errors, max_iterations, timeout, when
from cortical.core.budget import Budget
from cortical.core.outcome import Abandoned, Failed, Ok
from cortical.core.status import Status, TerminationReason
from cortical.reasoning import NestedLoopExecutor
from cortical.store import Store
from cortical.testing import FakeClock, crash_everywhere


def same(item: Any, task: Any, context: Any) -> Any:
    return item


def test_a_batch_is_a_run_with_items_below_it(tmp_path: Path, any_store: Store) -> None:
    """Kind, name and place are in the tree, and each item's outcome is its run's."""
    batch = BatchProcessor(tmp_path, "b", same, store=any_store)
    batch.run(["x", "y"])
    run = batch.journal.refresh("b")
    assert (run.kind, run.name, run.status) == ("batch", "b", Status.COMPLETED)
    assert [(child.kind, child.name, child.value) for child in run.children] == [("item", "x", "x"), ("item", "y", "y")]
    assert run.value["stats"]["processed"] == 2


def test_a_batch_stands_below_a_run(any_store: Store, tmp_path: Path) -> None:
    """Given a parent it is its child, is found there again, and ends with it."""
    executor = NestedLoopExecutor(store=any_store)
    root = executor.start_root("goal")
    results = [BatchProcessor(tmp_path, "b", same, store=executor, parent=root).run([1, 2]) for _ in range(2)]
    assert [result.results for result in results] == [[1, 2], [1, 2]]
    assert results[0].run_id == results[1].run_id
    assert executor.journal.run(results[0].run_id).parent_id == root


def test_a_batch_is_driven_from_a_loop(tmp_path: Path, any_store: Store) -> None:
    """A controlled loop may run a batch below itself in each iteration, under its own lease."""
    loop = LoopController("loop", store=any_store, stop_when=max_iterations(2))
    sums: list[int] = []

    def body(state: dict[str, Any]) -> None:
        name = f"round {len(sums)}"
        batch = BatchProcessor(tmp_path, name, same, store=loop, parent=loop.run_id)
        sums.append(sum(batch.run([1, 2, 3]).raise_for_failures().results))

    loop.run(body)
    assert sums == [6, 6]


def test_failed_attempts_are_noted(tmp_path: Path, any_store: Store) -> None:
    """Each attempt that failed is in the log of its item, the last one is its outcome."""

    def fails(item: Any, task: Any, context: Any) -> None:
        raise OSError(f"attempt {context.attempt}")

    batch = BatchProcessor(tmp_path, "b", fails, store=any_store, retry=Retry(max_attempts=3, delay=0))
    batch.run([1])
    (item,) = batch.journal.refresh("b").children
    assert item.noted("attempt") == [
        {"attempt": 1, "error": "OSError: attempt 1"},
        {"attempt": 2, "error": "OSError: attempt 2"},
    ]
    assert isinstance(item.outcome, Failed)
    assert item.outcome.error.message == "attempt 3"


@pytest.mark.parametrize(
    ("condition", "reason", "ended", "kind"),
    [
        (max_iterations(3), TerminationReason.MAX_ITERATIONS, 3, Ok),
        (max_iterations(0), TerminationReason.MAX_ITERATIONS, 0, Ok),
        (when(lambda progress: progress.last_result == 4), TerminationReason.CONDITION_MET, 5, Ok),
        (timeout(0), TerminationReason.TIMEOUT, 0, Abandoned),
        (cpu(seconds=1e9) | max_iterations(2), TerminationReason.MAX_ITERATIONS, 2, Ok),
        (when(lambda progress: 1 / 0), TerminationReason.ERROR, 0, Failed),
    ],
)
def test_stop_conditions_end_a_batch(
    condition: Any, reason: TerminationReason, ended: int, kind: type, tmp_path: Path
) -> None:
    """The conditions of the core say when nothing more is begun, exactly; the reason is the batch's."""
    batch = BatchProcessor(tmp_path, "b", same, stop_when=condition, max_concurrency=1)
    result = batch.run(range(10))
    assert (result.reason, len(result.results), type(result.outcome)) == (reason, ended, kind)


def test_a_limit_of_items_holds_for_many_workers(tmp_path: Path) -> None:
    """Exactly so many are begun in each life, and the batch goes on where it stopped."""
    ran: list[int] = []
    batch = BatchProcessor(tmp_path, "b", lambda item, *_: ran.append(item), stop_when=max_iterations(3))
    batch.run(range(7))
    assert sorted(ran) == [0, 1, 2]
    batch.run(range(7))
    assert sorted(ran) == [0, 1, 2, 3, 4, 5]
    assert batch.run(range(7)).stats["processed"] == 7


def test_errors_in_a_row_end_a_batch(tmp_path: Path) -> None:
    """So many failures without a success between them."""

    def odd(item: int, task: Any, context: Any) -> None:
        if item in (1, 3, 4):
            raise ValueError(item)

    result = BatchProcessor(tmp_path, "b", odd, stop_when=errors(2), max_concurrency=1).run(range(9))
    assert sorted(result.failed) == [1, 3, 4]
    assert len(result.results) == 2
    assert isinstance(result.outcome, Failed)


def test_a_budget_bounds_a_batch(tmp_path: Path, any_store: Store) -> None:
    """No more items are begun than the budget has room for; the batch says which limit it was."""
    batch = BatchProcessor(tmp_path, "b", same, store=any_store, budget=Budget(descendants=4), max_concurrency=3)
    result = batch.run(range(10))
    assert len(result.results) == 4
    assert result.reason is TerminationReason.BUDGET_EXHAUSTED
    assert "4 descendants is exhausted" in str(result.outcome)


def test_pause_and_resume(tmp_path: Path) -> None:
    """A paused batch begins nothing until it is resumed."""
    started, paused = threading.Event(), threading.Event()

    def slow(item: int, task: Any, context: Any) -> int:
        if item == 0:
            started.set()
            assert paused.wait(10)
        return item

    batch = BatchProcessor(tmp_path, "b", slow, max_concurrency=2)
    results: list[BatchResult] = []
    thread = threading.Thread(target=lambda: results.append(batch.run(range(50))))
    thread.start()
    assert started.wait(10)
    batch.pause("for a while")
    paused.set()
    thread.join(0.5)
    assert thread.is_alive()
    assert batch.journal.run("b").status is Status.PAUSED
    begun = len(batch.journal.run("b").children)
    thread.join(0.3)
    assert len(batch.journal.run("b").children) == begun
    batch.resume()
    thread.join(10)
    assert results[0].results == list(range(50))


def test_coroutines_run_as_tasks(tmp_path: Path) -> None:
    """As many at a time as asked, exactly, in one thread."""
    now = peak = 0
    threads = set()

    async def wait(item: int, task: Any, context: Any) -> int:
        nonlocal now, peak
        threads.add(threading.get_ident())
        now += 1
        peak = max(peak, now)
        await asyncio.sleep(0.01)
        now -= 1
        return item

    result = BatchProcessor(tmp_path, "b", wait, max_concurrency=7).run(range(40))
    assert result.results == list(range(40))
    assert peak == 7
    assert len(threads) == 1


def test_in_an_event_loop(tmp_path: Path) -> None:
    """`arun` lets the loop go on; `run` is refused there, and says what to call."""

    async def main() -> BatchResult:
        batch = BatchProcessor(tmp_path, "b", same)
        with pytest.raises(RuntimeError, match=r"await batch\.arun"):
            batch.run([1])
        return await batch.arun([1, 2])

    assert asyncio.run(main()).results == [1, 2]


def test_a_cancelled_arun_leaves_the_batch_open(tmp_path: Path) -> None:
    """What is under way finishes; run again, the rest is done and nothing twice."""
    ran: list[int] = []

    async def main() -> None:
        going = asyncio.Event()
        loop = asyncio.get_running_loop()

        def work(item: int, task: Any, context: Any) -> int:
            ran.append(item)
            loop.call_soon_threadsafe(going.set)
            return threading.Event().wait(0.05) or item

        batch = BatchProcessor(tmp_path, "b", work, max_concurrency=2)
        running = asyncio.create_task(batch.arun(range(40)))
        await going.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len(ran) < 10
        assert batch.journal.run("b").status is Status.ACTIVE
        assert (await batch.arun(range(40))).ok

    asyncio.run(main())
    assert sorted(ran) == list(range(40))


def test_dying_at_every_write(tmp_path: Path) -> None:
    """A process that dies before or after any durable write, and runs the batch again, leaves the same tree."""

    def flaky(item: int, task: Any, context: Any) -> int:
        if item == 1 and context.attempt == 1:
            raise OSError("once")
        return item * item

    def scenario(store: Store) -> None:
        clock = FakeClock()
        batch = BatchProcessor(
            tmp_path, "b", flaky, store=store, clock=clock, max_concurrency=1, retry=Retry(max_attempts=3, delay=0)
        )
        assert batch.run(range(4)).results == [0, 1, 4, 9]

    report = crash_everywhere(scenario)
    assert report.crashes > 10
