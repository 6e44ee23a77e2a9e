"""Many threads that each wait for their own durable step: their commits share syncs."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from benchmarks.measure import Figure, rounds
from cortical.reasoning import NestedLoopExecutor
from cortical.store import open_store

LOOPS = 64
STEPS = 100


def figures() -> list[Figure]:
    """64 loops in 64 threads, beside one loop in one thread."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "a.db", durability="power")
        executor = NestedLoopExecutor(store=store)
        roots = [executor.start_root(str(number)) for number in range(LOOPS)]

        def together() -> int:
            threads = [threading.Thread(target=_walk, args=(executor, root, STEPS)) for root in roots]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return LOOPS * STEPS

        def alone() -> int:
            _walk(executor, roots[0], STEPS)
            return STEPS

        shared, single = rounds(together, alone)
        store.close()
    return [
        Figure("durable advance, power, 64 threads, in all", 1e6 / shared, "/s", 20_000, "more"),
        Figure("durable advance, power, one thread", 1e6 / single, "/s", None, "more"),
    ]


def _walk(executor: NestedLoopExecutor, root: str, steps: int) -> None:
    for _ in range(steps):
        executor.advance(root)
