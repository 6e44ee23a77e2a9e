"""Memory and disk that a loop and a step take."""

from __future__ import annotations

import gc
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Figure
from cortical.core.ids import new_id
from cortical.reasoning import NestedLoopExecutor


def figures() -> list[Figure]:
    """Idle loops as roots and as children, kept steps, steps on disk, and ids by the million."""
    return [
        Figure("memory of an idle root", _bytes_each(_roots, 20_000), "B", 1536),
        Figure("memory of an idle child, networkx included", _bytes_each(_children, 20_000), "B", 1536),
        Figure("memory of a kept transition", _bytes_each(_steps, 50_000), "B", 300),
        Figure("disk of a transition", _disk(20_000), "B", 250),
        Figure("equal ids among ten million", float(_collisions(10_000_000)), "", 0),
    ]


def _bytes_each(make: Callable[[int], object], count: int) -> float:
    make(10)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    held = make(count)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del held
    return (after - before) / count


def _roots(count: int) -> object:
    executor = NestedLoopExecutor()
    for number in range(count):
        executor.start_root(f"goal number {number}")
    return executor


def _children(count: int) -> object:
    executor = NestedLoopExecutor()
    executor.spawn_children(executor.start_root("g"), [f"goal number {number}" for number in range(count)])
    return executor


def _steps(count: int) -> object:
    executor = NestedLoopExecutor()
    root = executor.start_root("g")
    for _ in range(count):
        executor.advance(root)
    return executor


def _disk(count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        with NestedLoopExecutor(store=path) as executor:
            roots = [executor.start_root(str(number)) for number in range(10)]
            for number in range(count):
                executor.advance(roots[number % 10])
        return path.stat().st_size / count


def _collisions(count: int) -> int:
    ids = {bytes.fromhex(new_id()) for _ in range(count)}
    return count - len(ids)
