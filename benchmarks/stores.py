"""Opening, loading and folding what is stored."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Figure, seconds
from cortical.reasoning import NestedLoopExecutor
from cortical.store import open_store


def figures() -> list[Figure]:
    """A store of 100 trees of 1,000 ended loops each."""
    with tempfile.TemporaryDirectory() as folder:
        path, empty = Path(folder) / "runs.db", Path(folder) / "empty.db"
        open_store(empty).close()
        with NestedLoopExecutor(store=path) as executor:
            for number in range(100):
                _tree(executor, number)
        return [
            Figure(
                "opening a store with 100,000 ended loops",
                seconds(_opened(path)),
                "s",
                0.1,
                floor=seconds(_opened(empty)),
                remark="floor: an empty one",
            ),
            Figure("loading one tree of 1,000 loops", seconds(_loaded(path, 1)), "s", 0.1),
            Figure("folding all 100,000 loops from the log", seconds(_loaded(path, 100), 3), "s", 3),
        ]


def _tree(executor: NestedLoopExecutor, number: int) -> None:
    with executor.transaction():
        root = executor.start_root(f"tree {number}")
        for child in executor.spawn_children(root, [f"part {part}" for part in range(999)]):
            executor.complete(child, {"part": child})
        executor.complete(root)


def _opened(path: Path) -> Callable[[], None]:
    def work() -> None:
        store = open_store(path)
        assert len(store.roots(limit=1)) <= 1
        store.close()

    return work


def _loaded(path: Path, trees: int) -> Callable[[], None]:
    def work() -> None:
        with NestedLoopExecutor(store=path) as executor:
            for root in executor.store.roots(limit=trees):
                assert len(executor.get_loop(root.id).child_ids) == 999

    return work
