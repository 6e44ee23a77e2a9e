"""Questions asked of many loops: they cost their answer, not the number of loops held."""

from __future__ import annotations

from benchmarks.measure import Figure, seconds
from cortical.reasoning import NestedLoopExecutor


def figures() -> list[Figure]:
    """Active loops and summary among 200,000 ended ones; the path of a loop 10,000 levels deep."""
    executor = NestedLoopExecutor(max_depth=10_001)
    root = executor.start_root("many")
    for _ in range(200_000):
        executor.complete(executor.spawn_child(root, "sub"))
    for number in range(9):
        executor.start_root(str(number))
    assert len(executor.get_active_loops()) == 10
    found = [
        Figure("get_active_loops, 10 of 200,000", seconds(executor.get_active_loops, 50) * 1e3, "ms", 0.1),
        Figure("get_summary, 10 of 200,000 open", seconds(executor.get_summary, 50) * 1e3, "ms", 0.1),
    ]
    deep = executor.start_root("deep")
    for _ in range(9_999):
        deep = executor.spawn_child(deep, "deeper")
    assert len(executor.get_loop_hierarchy(deep)) == 10_000
    return [
        *found,
        Figure("hierarchy at depth 10,000", seconds(lambda: executor.get_loop_hierarchy(deep)) * 1e3, "ms", 5),
    ]
