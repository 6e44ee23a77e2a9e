"""How a batch is read, carried out and told of."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cortical.batch import BatchProcessor, BatchProgress, Retry
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.events import Ended, Event
from cortical.core.outcome import Failed, Ok, Skipped
from cortical.store import Store
from cortical.testing import FakeClock


def same(item: Any, task: Any, context: Any) -> Any:
    return item


def fail(item: Any, task: Any, context: Any) -> Any:
    raise ValueError(item)


def whereabouts(item: Any, task: Any, context: Any) -> Any:
    return [os.getpid(), item, context.index, context.name, task["k"], context["shared"]]


def crash(item: int, task: Any, context: Any) -> int:
    if item == 1:
        os.kill(os.getpid(), 9)
    return item


def slow_here(item: float, task: Any, context: Any) -> float:
    threading.Event().wait(item)
    return item


class Odd(Exception):
    """Cannot be made from a text alone."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def raise_odd(item: Any, task: Any, context: Any) -> None:
    try:
        raise ConnectionResetError("below")
    except ConnectionResetError as error:
        raise Odd(1, 2) from error


# Order and context


def test_ten_items_in_order(tmp_path: Path) -> None:
    """Results stand in the order of the input, whatever order they came in."""
    started = [threading.Event() for _ in range(10)]

    def backwards(item: int, task: Any, context: Any) -> int:
        started[item].set()
        if item < 9:
            assert started[item + 1].wait(10)
        return item * 10

    result = BatchProcessor(tmp_path, "b", backwards, max_concurrency=10).run(range(10))
    assert result.results == [number * 10 for number in range(10)]
    assert result.ok
    assert result.raise_for_failures() is result
    assert result.stats["success_rate"] == 100.0


def test_the_context_of_every_item(tmp_path: Path) -> None:
    """Item, index, total, name, attempt, chunk and the values given; as attributes and as a mapping, read-only."""
    seen: list[Any] = []

    def look(item: str, task: Any, context: Any) -> None:
        seen.append((context.item, context.index, context.total, context.name, context.batch_name))
        assert (context.chunk_index, context.chunk_size, context.attempt) == (context.index, 1, 1)
        assert context.workspace == tmp_path
        assert context["index"] == context.index
        assert context["engine"] == context.given["engine"] == "e"
        assert context.get("nothing") is None
        assert {"item", "total", "engine"} <= set(context)
        with pytest.raises(TypeError):
            context.given["engine"] = "x"
        with pytest.raises(TypeError):
            task["k"] = 2
        with pytest.raises(AttributeError):
            context.index = 5

    result = BatchProcessor(tmp_path, "b", look).run(["a", "b"], {"k": 1}, context={"engine": "e"})
    result.raise_for_failures()
    assert sorted(seen) == [("a", 0, 2, "a", "b"), ("b", 1, 2, "b", "b")]


def test_items_reach_the_handler_unchanged(tmp_path: Path) -> None:
    """Not a copy, not a text: the very objects."""
    items = [object(), ["x"], {"y"}, None, float("nan"), "a/b", "n" * 300]
    results = BatchProcessor(tmp_path, "b", same).run(items).results
    assert all(given is got for given, got in zip(items, results, strict=True))


def test_a_handler_may_skip_an_item(tmp_path: Path) -> None:
    """A returned `Skipped` is the item's outcome."""
    result = BatchProcessor(tmp_path, "b", lambda item, *_: Skipped("odd") if item % 2 else item).run([1, 2])
    assert result.outcomes == [Skipped("odd"), Ok(2)]
    assert result.stats["skipped"] == 1
    assert result.ok


def test_a_forgotten_async_is_told(tmp_path: Path) -> None:
    """A function that returns a coroutine fails with what to do."""

    async def inner() -> None: ...

    result = BatchProcessor(tmp_path, "b", lambda *_: inner()).run([1])
    assert "give a coroutine function" in result.failed[0].error.message


# The window


def test_there_is_no_barrier(tmp_path: Path) -> None:
    """One slow item in each four holds up nobody: all quick ones are done while the slow ones wait."""
    quick, all_quick = [0], threading.Event()
    lock = threading.Lock()

    def work(item: int, task: Any, context: Any) -> int:
        if item % 4 == 0:
            assert all_quick.wait(10)
            return item
        with lock:
            quick[0] += 1
            if quick[0] == 12:
                all_quick.set()
        return item

    assert BatchProcessor(tmp_path, "b", work, max_concurrency=5).run(range(16)).ok


def test_peak_concurrency_is_the_limit(tmp_path: Path) -> None:
    """Never more at a time than asked for, and as many."""
    lock, barrier = threading.Lock(), threading.Barrier(3)
    now = peak = 0

    def work(item: int, task: Any, context: Any) -> None:
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(peak, now)
        barrier.wait(10)
        with lock:
            now -= 1

    assert BatchProcessor(tmp_path, "b", work, max_concurrency=3).run(range(30)).ok
    assert peak == 3


def test_a_million_items_are_read_lazily(tmp_path: Path) -> None:
    """No more are read than are begun; nobody knows how many there are."""
    read = 0

    def endless() -> Iterator[int]:
        nonlocal read
        for number in range(1_000_000):
            read = number + 1
            yield number

    totals: list[int | None] = []

    def work(item: int, task: Any, context: Any) -> None:
        totals.append(context.total)
        assert read <= item + 8
        if item == 100:
            batch.cancel()

    batch = BatchProcessor(tmp_path, "b", work, max_concurrency=4)
    batch.run(endless())
    assert 100 < read < 120
    assert set(totals) == {None}


def test_an_iterator_that_raises(tmp_path: Path, any_store: Store) -> None:
    """What was begun is finished and kept, the error raised, and the batch stays open."""

    def items(broken: bool) -> Iterator[int]:
        yield 0
        yield 1
        if broken:
            raise OSError("the disk is gone")
        yield 2

    ran: list[int] = []
    batch = BatchProcessor(tmp_path, "b", lambda item, *_: ran.append(item), store=any_store)
    with pytest.raises(OSError, match="the disk is gone"):
        batch.run(items(True))
    assert batch.run(items(False)).ok
    assert sorted(ran) == [0, 1, 2]


def test_many_items_take_no_threads_or_files(tmp_path: Path) -> None:
    """10,000 items: threads and descriptors stay as they are, and each takes little memory."""
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    most = [0, 0]

    def look(item: int, task: Any, context: Any) -> None:
        if item % 500 == 0:
            most[0] = max(most[0], len(os.listdir("/proc/self/fd")))
            most[1] = max(most[1], threading.active_count())

    tracemalloc.start()
    try:
        assert BatchProcessor(tmp_path, "b", look, max_concurrency=4).run(iter(range(10_000))).ok
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most[0] <= before + 3
    assert most[1] <= threads + 6
    assert peak / 10_000 < 4000


# Chunks, and results that are handed on


def test_chunks(tmp_path: Path, any_store: Store) -> None:
    """The handler is given lists of so many, and each item has its own outcome; the last may be shorter."""
    given: list[Any] = []

    def many(items: list[int], task: Any, context: Any) -> list[int]:
        given.append((items, context.index, context.chunk_index, context.chunk_size))
        return [item * 2 for item in items]

    batch = BatchProcessor(tmp_path, "b", many, chunk_size=3, max_concurrency=1, store=any_store)
    result = batch.run(range(8))
    assert result.results == [0, 2, 4, 6, 8, 10, 12, 14]
    assert given == [([0, 1, 2], 0, 0, 3), ([3, 4, 5], 3, 1, 3), ([6, 7], 6, 2, 2)]
    assert batch.run(range(8)).results == result.results
    assert len(given) == 3


def test_a_chunk_fails_whole_and_runs_again(tmp_path: Path, any_store: Store) -> None:
    """All its items failed; run again, only they are given, with a list of the wrong length told."""
    given: list[Any] = []
    answers: list[Any] = ["not a list", [1], [5, 6]]

    def many(items: list[int], task: Any, context: Any) -> Any:
        given.append(items)
        return items if items[0] == 0 else answers.pop(0)

    batch = BatchProcessor(tmp_path, "b", many, chunk_size=2, max_concurrency=1, store=any_store)
    first = batch.run([0, 1, 2, 3])
    assert sorted(first.failed) == [2, 3]
    assert "returns a list of results, not str" in first.failed[2].error.message
    assert "was given 2 items and returned 1 results" in batch.run([0, 1, 2, 3]).failed[3].error.message
    assert batch.run([0, 1, 2, 3]).results == [0, 1, 5, 6]
    assert given == [[0, 1], [2, 3], [2, 3], [2, 3]]


def test_previous_results_are_handed_on(tmp_path: Path, any_store: Store) -> None:
    """One after another; also after a failure, and when the batch is taken up again."""
    broken = {2}

    def add(item: int, task: Any, context: Any) -> int:
        if item in broken:
            raise ValueError(item)
        return item + (context.previous_result or 0)

    batch = BatchProcessor(tmp_path, "b", add, previous_result=True, store=any_store, fail_fast=True)
    assert batch.run([0, 1, 2, 3]).results == [0, 1]
    broken.clear()
    assert batch.run([0, 1, 2, 3]).results == [0, 1, 3, 6]


def test_the_aggregator_makes_one_value(tmp_path: Path, any_store: Store) -> None:
    """Of the results that are well, in order; it is kept with the batch."""
    batch = BatchProcessor(tmp_path, "b", lambda item, *_: 6 / item, store=any_store)
    result = batch.run([1, 0, 3], aggregator=sum)
    assert result.aggregated == 8
    assert batch.run([1, 0, 3], retry_failed=False).aggregated == 8


# Telling


def test_progress_is_told_after_it_is_recorded(tmp_path: Path, any_store: Store) -> None:
    """Each end is in the store when `on_progress` hears of it."""
    told: list[BatchProgress] = []

    def hear(progress: BatchProgress) -> None:
        kept = [event for event in batch.journal.store.read("b") if isinstance(event, Ended)]
        assert len(kept) >= progress.done
        told.append(progress)

    batch = BatchProcessor(tmp_path, "b", same, store=any_store, max_concurrency=3)
    batch.run(range(5), on_progress=hear)
    assert [(progress.done, progress.total, progress.processed) for progress in told] == [
        (count, 5, count) for count in range(1, 6)
    ]
    assert told[-1].eta_seconds == 0
    assert len(told) == 5


def test_rate_and_eta(tmp_path: Path) -> None:
    """By the clock, of what was done in this driving."""
    clock = FakeClock()
    told: list[BatchProgress] = []

    def work(item: int, task: Any, context: Any) -> None:
        clock.advance(2)

    BatchProcessor(tmp_path, "b", work, clock=clock, max_concurrency=1).run(range(4), on_progress=told.append)
    assert [progress.rate for progress in told] == [0.5] * 4
    assert [progress.eta_seconds for progress in told] == [6.0, 4.0, 2.0, 0.0]
    assert BatchProgress(3, None, 3, 0, 0, 1.0).eta_seconds is None
    assert BatchProgress(0, 5, 0, 0, 0, 0.0).rate is None


def test_the_rate_limit_spreads_calls(tmp_path: Path) -> None:
    """Calls are evenly apart, further attempts among them, and a time limit does not count the wait."""
    clock, calls = FakeClock(0.0), list[float]()

    def work(item: int, task: Any, context: Any) -> None:
        calls.append(clock.time())
        if item == 1 and context.attempt == 1:
            raise OSError("again")

    batch = BatchProcessor(
        *(tmp_path, "b", work),
        rate_limit=4,
        max_concurrency=1,
        clock=clock,
        sleep=clock.advance,
        retry=Retry(max_attempts=2, delay=0),
        timeout=0.2,
    )
    assert batch.run(range(4)).ok
    assert calls == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_the_rate_limit_holds_for_coroutines(tmp_path: Path) -> None:
    """They wait for their moment as tasks, and a time limit does not count the wait."""
    calls: list[float] = []

    async def work(item: int, task: Any, context: Any) -> int:
        calls.append(time.monotonic())
        await asyncio.sleep(item * 30)
        return item

    result = BatchProcessor(tmp_path, "b", work, rate_limit=20, timeout=0.04).run([0, 0, 0, 1])
    assert result.results == [0, 0, 0]
    assert result.failed[3].error.type.endswith("TimeIsUp")
    assert calls[-1] - calls[0] >= 0.14


def test_a_rate_limit_and_a_time_limit_for_functions(tmp_path: Path) -> None:
    """A function that takes too long is left behind, by whichever thread it was called."""
    batch = BatchProcessor(tmp_path, "b", slow_here, rate_limit=1000, timeout=0.1, max_concurrency=2)
    result = batch.run([0, 1.0, 0])
    assert result.results == [0, 0]
    assert sorted(result.failed) == [1]


# In processes


def test_workers_in_processes(tmp_path: Path) -> None:
    """The handler is called in other processes, as many as asked for, with the same context."""
    batch = BatchProcessor(tmp_path, "b", whereabouts, workers="process", max_concurrency=2)
    results = batch.run(["a", (1, 2), "c"], {"k": 7}, context={"shared": 9}).raise_for_failures().results
    assert os.getpid() not in {result[0] for result in results}
    assert [result[1:] for result in results] == [["a", 0, "a", 7, 9], [(1, 2), 1, "(1, 2)", 7, 9], ["c", 2, "c", 7, 9]]


def test_a_process_that_dies_fails_its_item_alone(tmp_path: Path) -> None:
    """Killed by a signal, its item fails and says so; the others are done."""
    result = BatchProcessor(tmp_path, "b", crash, workers="process", max_concurrency=2).run(range(4))
    assert result.results == [0, 2, 3]
    assert "killed by signal 9" in result.failed[1].error.message


def test_a_process_is_killed_in_time(tmp_path: Path) -> None:
    """When its time is over it is killed, and the next item has another, the start of which counts as its time."""
    result = BatchProcessor(tmp_path, "b", slow_here, workers="process", max_concurrency=1, timeout=6.0).run([60.0, 0])
    assert result.results == [0]
    assert result.failed[0].error.type.endswith("TimeIsUp")


def test_errors_come_back_from_processes(tmp_path: Path) -> None:
    """Type, text, cause chain and traceback are those of the other process; so is the hint whether to try again."""
    retry = Retry(max_attempts=2, delay=0)
    result = BatchProcessor(tmp_path, "b", raise_odd, workers="process", max_concurrency=1, retry=retry).run([1])
    failed = result.failed[0]
    assert (failed.error.type, failed.error.message) == ("tests.unit.test_batch_processor.Odd", "1 and 2")
    assert failed.root.type == "ConnectionResetError"
    assert "raise_odd" in failed.error.traceback
    assert failed.attempts == 2


# Wrong use


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_concurrency": 0}, "max_concurrency is 1 or more"),
        ({"max_concurrency": 1.5}, "max_concurrency is a whole number"),
        ({"max_concurrency": True}, "max_concurrency is a whole number"),
        ({"workers": "fibers"}, 'workers is "threads" or "process"'),
        ({"retry": 3}, "retry is a Retry"),
        ({"timeout": 0}, "timeout is more than 0"),
        ({"timeout": "1"}, "timeout is a number of seconds"),
        ({"rate_limit": 0}, "rate_limit is more than 0"),
        ({"rate_limit": "9"}, "rate_limit is a number"),
        ({"chunk_size": 0}, "chunk_size is 1 or more"),
        ({"key": "id"}, "key is called with an item"),
        ({"tolerated_failures": 1.5}, "a share from 0.0 to 1.0"),
        ({"tolerated_failures": -1}, "from 0 on"),
        ({"tolerated_failures": "2"}, "a number of items or a share"),
        ({"tolerated_failures": 2, "fail_fast": True}, "not both"),
        ({"stop_when": 10}, "stop_when is a condition"),
        ({"previous_result": True, "max_concurrency": 2}, "one item after another"),
        ({"task_handler": 5}, "cannot be called"),
        ({"name": ""}, "a batch's name is empty"),
        ({"name": 5}, "a batch's name is a text"),
        ({"workspace": "/no/such/folder"}, "is no folder"),
    ],
)
def test_wrong_configuration_raises_at_once(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Each with a message that says what is wrong with what."""
    given = {"workspace": tmp_path, "name": "b", "task_handler": same, **options}
    with pytest.raises((WrongType, InvalidInput), match=words):
        BatchProcessor(**given)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"items": "abc"}, "put the str into a list"),
        ({"items": 5}, "int cannot"),
        ({"items": [1], "task": 5}, "a task is what the handler is told"),
        ({"items": [1], "task": "shell"}, "the batch has a handler"),
        ({"items": [1], "context": [1]}, "context is values by name"),
        ({"items": [1], "match": "name"}, 'match is "list" or "key"'),
        ({"items": [1], "on_progress": 5}, "cannot be called"),
        ({"items": [1], "aggregator": "sum"}, "cannot be called"),
    ],
)
def test_wrong_arguments_run_nothing(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    """They are refused before the batch is begun."""
    batch = BatchProcessor(tmp_path, "b", same)
    with pytest.raises((WrongType, InvalidInput), match=words):
        batch.run(**arguments)
    assert batch.run_id is None


def test_a_batch_needs_a_handler(tmp_path: Path) -> None:
    """Given none, the task has to name one."""
    with pytest.raises(InvalidInput, match="has no handler"):
        BatchProcessor(tmp_path, "b").run([1], {"size": 3})


def test_a_handler_that_no_process_could_import(tmp_path: Path) -> None:
    """It is refused before anything is run."""
    with pytest.raises(InvalidInput, match="leads nowhere"):
        BatchProcessor(tmp_path, "b", lambda *_: None, workers="process").run([1])


def test_what_was_never_run_cannot_be_stopped(tmp_path: Path) -> None:
    """Cancel, pause and resume say so."""
    batch = BatchProcessor(tmp_path, "b", same)
    for call in (batch.cancel, batch.pause, batch.resume):
        with pytest.raises(ValueError, match="was never run"):
            call()


def test_events_tell_the_rest(tmp_path: Path) -> None:
    """What ends and what begins at the same moment is one record: subscribers hear ends before starts."""
    heard: list[Event] = []
    batch = BatchProcessor(tmp_path, "b", fail, max_concurrency=1)
    batch.journal.subscribe(heard.append)
    result = batch.run(["x"])
    kinds = [type(event).__name__ for event in heard if event.run_id != "b"]
    assert kinds == ["Started", "Ended"]
    assert isinstance(result.outcome, Failed)
