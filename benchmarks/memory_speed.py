"""Walking, spawning and completing in memory.

The floor of a step is appending a tuple to a list; that of a child is a node and its edge in networkx.
"""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx

from benchmarks.measure import Figure, rounds
from cortical.reasoning import NestedLoopExecutor

STEPS = 20_000
PAIRS = 10_000


def figures() -> list[Figure]:
    """Steps of one loop near its beginning and far from it; children with few loops held, and with many."""
    early, late, append = rounds(_advance(100), _advance(100_000), _append)
    few, many, edge = rounds(_pairs(100), _pairs(200_000), _edges)
    return [
        Figure("advance, from the 100th step on", 1e6 / early, "/s", 250_000, "more", 1e6 / append),
        Figure("advance, from the 100,000th step on", 1e6 / late, "/s", 250_000, "more", 1e6 / append),
        Figure("spawn_child + complete, 100 loops held", 1e6 / few, "/s", 50_000, "more", 1e6 / edge),
        Figure("spawn_child + complete, 200,000 loops held", 1e6 / many, "/s", 50_000, "more", 1e6 / edge),
    ]


def _advance(steps_before: int) -> Callable[[], int]:
    def work() -> int:
        for _ in range(STEPS):
            advance(root)
        return STEPS

    executor = NestedLoopExecutor()
    root = executor.start_root("g")
    advance = executor.advance
    for _ in range(steps_before):
        advance(root)
    return work


def _append() -> int:
    log: list[tuple[str, str, float]] = []
    for _ in range(STEPS):
        log.append(("root", "answer", 1.0))  # noqa: PERF401  # one by one, as steps come
    return STEPS


def _pairs(held: int) -> Callable[[], int]:
    def work() -> int:
        for _ in range(PAIRS):
            complete(spawn(root, "sub"))
        return PAIRS

    executor = NestedLoopExecutor()
    root = executor.start_root("g")
    spawn, complete = executor.spawn_child, executor.complete
    for _ in range(held):
        complete(spawn(root, "sub"))
    return work


def _edges() -> int:
    graph: nx.DiGraph[str] = nx.DiGraph()
    for number in range(PAIRS):
        graph.add_edge("root", str(number))
    return PAIRS
