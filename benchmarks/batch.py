"""Batches of trivial items, in memory and durable, beside a thread pool; shell items beside the bare spawn."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, rounds
from cortical.batch import BatchProcessor

ITEMS = 20_000
MANY = 100_000
SPAWNS = 100
#: What each item of the comparison waits for: work, seen from its driver.
WAIT_SECONDS = 0.001


def figures() -> list[Figure]:
    """Items a second; cost by size; threads and descriptors of a large batch; programs; peers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        memory, durable = rounds(_batch(folder, ITEMS, None), _batch(folder, ITEMS, "runs"), times=3)
        large, small = rounds(_batch(folder, MANY, None), _batches(folder, 1_000, 20), times=3)
        large_kept, small_kept = rounds(_batch(folder, MANY, "large"), _batches(folder, 1_000, 20, "small"), times=3)
        threads, files = _used(folder)
        shell, spawn = rounds(_shell(folder), _spawn(folder), times=25)
    return [
        Figure("trivial items in memory", 1e6 / memory, "/s", 20_000, "more"),
        Figure("trivial items, durable", 1e6 / durable, "/s", 10_000, "more"),
        Figure("an item of 100,000, in memory", large, "µs", None, "less", small, 1.25, remark="floor: of 1,000"),
        Figure(
            "an item of 100,000, durable", large_kept, "µs", None, "less", small_kept, 1.25, remark="floor: of 1,000"
        ),
        Figure("threads that 100,000 items add, 8 at a time", threads, "", 10),
        Figure("descriptors that they add", files, "", 3),
        Figure("a program run for an item", shell, "µs", None, "less", spawn, 1.10, remark="floor: subprocess.run"),
        *_peers(),
    ]


def _nothing(item: Any, task: Any, context: Any) -> Any:
    return item


def _batch(folder: Path, items: int, name: str | None) -> Callable[[], int]:
    count = 0

    def work() -> int:
        nonlocal count
        count += 1
        store = None if name is None else folder / f"{name}-{count}.db"
        with BatchProcessor(folder, "b", _nothing, store=store) as batch:
            assert batch.run(range(items)).ok
        return items

    return work


def _batches(folder: Path, items: int, times: int, name: str | None = None) -> Callable[[], int]:
    one = _batch(folder, items, name)
    return lambda: sum(one() for _ in range(times))


def _used(folder: Path) -> tuple[int, int]:
    """The most threads and descriptors that a batch of many items adds."""
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    most = [0, 0]

    def look(item: int, task: Any, context: Any) -> None:
        if item % 5_000 == 0:
            most[0] = max(most[0], threading.active_count() - threads)
            most[1] = max(most[1], len(os.listdir("/proc/self/fd")) - files)

    assert BatchProcessor(folder, "b", look, max_concurrency=8).run(iter(range(MANY))).ok
    return most[0], most[1]


def _shell(folder: Path) -> Callable[[], int]:
    def work() -> int:
        batch = BatchProcessor(folder, "b", "shell", max_concurrency=1)
        assert batch.run(range(SPAWNS), {"command": ["true"]}).ok
        return SPAWNS

    return work


def _spawn(folder: Path) -> Callable[[], int]:
    """The same program in a folder, a session and with a variable of its own."""

    def work() -> int:
        for number in range(SPAWNS):
            given = {**os.environ, "ITEM": str(number)}
            subprocess.run(["true"], capture_output=True, check=True, cwd=folder, env=given, start_new_session=True)
        return SPAWNS

    return work


def _wait(item: int) -> int:
    time.sleep(WAIT_SECONDS)
    return item


def _peers() -> list[Figure]:
    """Items that wait a millisecond, 8 at a time: what each way of running them costs beside the bare pool."""
    items = 4_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways = {
            "1 ms items by a batch, in memory": _waiting(folder, items, durable=False),
            "1 ms items by a batch, durable": _waiting(folder, items, durable=True),
        }
        if importlib.util.find_spec("joblib") is not None:
            ways["1 ms items by joblib, threads"] = _joblib(items)
        *taken, pool = rounds(*ways.values(), _pool(items), times=3)
    return [
        Figure(what, cost, "µs/item", None, "less", pool, remark="floor: ThreadPoolExecutor.map")
        for what, cost in zip(ways, taken, strict=True)
    ]


def _waiting(folder: Path, items: int, *, durable: bool) -> Callable[[], int]:
    count = 0

    def work() -> int:
        nonlocal count
        count += 1
        store = folder / f"waiting-{count}.db" if durable else None
        with BatchProcessor(folder, "b", lambda item, *_: _wait(item), store=store, max_concurrency=8) as batch:
            assert batch.run(range(items)).ok
        return items

    return work


def _pool(items: int) -> Callable[[], int]:
    def work() -> int:
        with ThreadPoolExecutor(8) as pool:
            return len(list(pool.map(_wait, range(items))))

    return work


def _joblib(items: int) -> Callable[[], int]:
    def work() -> int:
        joblib = importlib.import_module("joblib")
        done = joblib.Parallel(n_jobs=8, prefer="threads")(joblib.delayed(_wait)(item) for item in range(items))
        return len(done)

    return work
