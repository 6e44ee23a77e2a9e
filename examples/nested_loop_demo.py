"""Six scenes of loops inside loops. Every line they print comes from what the executor says of itself.

::

    python examples/nested_loop_demo.py
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, repeat
from typing import Final

from cortical.reasoning import NestedLoopExecutor


def basic_nesting() -> None:
    """A loop asks for help, and gets an answer."""
    executor = NestedLoopExecutor()
    root = start(executor, "Build web application")

    print("\n  Advancing through QAPV phases...")
    print(f"  → {executor.advance(root).value}")
    print(f"  → {executor.advance(root).value}\n")

    child = spawn(executor, root, "Implement backend API")
    executor.record_answer(child, "Flask, with PostgreSQL behind it")
    print(f"  Answers so far: {executor.get_context(child).get_all_answers()}\n")

    complete(executor, child, {"framework": "Flask", "db": "PostgreSQL"})
    print(f"\n  Parent received child result:\n  {executor.get_context(root).child_results[child]}")
    print(f"  and stands where it stood: {executor.get_loop(root).current_context().phase.value}")


def multi_level_nesting() -> None:
    """Four levels down, and back up again."""
    executor = NestedLoopExecutor()
    loop = start(executor, "Build e-commerce platform")
    for goal in ("Build backend", "Implement auth", "Set up JWT"):
        loop = spawn(executor, loop, goal)

    path = executor.get_loop_hierarchy(loop)
    print(f"\n  The way down, {len(path)} levels:")
    print("  " + " → ".join(executor.get_loop(above).goal for above in path))
    draw(executor, path[0])

    print("\n  And up again, each adding to what it was handed:")
    for depth, part in reversed(list(enumerate(["a shop", "its backend", "its login", "a token"]))):
        handed = executor.get_context(path[depth]).child_results.values()
        executor.complete(path[depth], [part, *chain.from_iterable(handed)])
        done = executor.get_loop(path[depth])
        print(f"  {'  ' * depth}✓ {done.goal}: {done.result}")


def result_aggregation() -> None:
    """One child alone, then two at once; their results gather in the parent."""
    executor = NestedLoopExecutor()
    root = start(executor, "Plan a dinner")
    complete(executor, spawn(executor, root, "Choose the soup"), "tomato")

    several = executor.spawn_children(root, ["Choose the main dish", "Choose the dessert"])
    print(f"\n✓ Spawned {len(several)} children at once; parent status: {status(executor, root)}")
    for child, dish in zip(several, ("risotto", "lemon cake"), strict=True):
        executor.complete(child, dish)
        print(f"✓ Completed: {executor.get_loop(child).goal}; parent status: {status(executor, root)}")

    print("\n  The menu, in the order it was decided:")
    for child, result in executor.get_context(root).child_results.items():
        print(f"  {executor.get_loop(child).goal}: {result}")


def early_termination() -> None:
    """A loop turns out to be pointless, and is broken off with all that hangs on it."""
    executor = NestedLoopExecutor()
    root = start(executor, "Research technology")
    investigation = spawn(executor, root, "Investigate framework X")
    spawn(executor, investigation, "Read its changelog")
    draw(executor, root)

    parent = executor.break_loop(investigation, "framework X is deprecated")
    broken = executor.get_subtree(investigation)
    print(f"\n✓ Broke the loop, and what was open below it: {len(broken)} loops")
    draw(executor, root)
    print(f"\n  Returned parent: {short(parent)}; its status: {status(executor, root)}")

    try:
        executor.advance(investigation)
    except ValueError as refusal:
        print(f"\n✗ What has ended stays ended:\n  {refusal}")


def depth_limit() -> None:
    """Turtles, but not all the way down."""
    levels = 3
    executor = NestedLoopExecutor(max_depth=levels)
    print(f"  A limit of {levels} levels: depths 0 to {levels - 1}\n")
    loop = root = start(executor, "What holds up the world?")
    try:
        for animal in chain(["elephant", "turtle"], repeat("turtle below")):
            loop = spawn(executor, loop, f"What holds up the {animal}?")
    except RecursionError as refusal:
        print(f"\n✗ {type(refusal).__name__}:\n  {refusal}")
    draw(executor, root)
    print(f"\n  The refusal changed nothing: the deepest loop is {status(executor, loop)}")


def executor_summary() -> None:
    """What an executor can tell of all its loops at once."""
    executor = NestedLoopExecutor()
    shop = executor.start_root("Build shop")
    catalogue, checkout = executor.spawn_children(shop, ["Build catalogue", "Build checkout"])
    executor.complete(executor.spawn_child(catalogue, "Choose search engine"), "SQLite FTS")
    executor.break_loop(executor.spawn_child(checkout, "Support cheques"), "nobody has one")
    executor.block(checkout, "waiting for the bank's contract")
    release = executor.start_root("Write release notes")
    for _ in range(5):
        executor.advance(release)

    for tree in (shop, release):
        draw(executor, tree)
    print()
    for name, value in executor.get_summary().items():
        print(f"  {name}: {dict(value) if isinstance(value, dict) else value}")
    print(f"\n  Active now: {', '.join(loop.goal for loop in executor.get_active_loops())}")


def start(executor: NestedLoopExecutor, goal: str) -> str:
    """Start a root, and tell of it."""
    loop = executor.get_loop(executor.start_root(goal))
    print(f"✓ Created root loop: {short(loop.id)}")
    print(f"  Goal: {loop.goal}")
    print(f"  Starting phase: {loop.current_context().phase.value}")
    return loop.id


def spawn(executor: NestedLoopExecutor, parent: str, goal: str) -> str:
    """Spawn a child, and tell of it and its parent."""
    child = executor.spawn_child(parent, goal)
    print(f"✓ Spawned child loop: {short(child)}")
    print(f"  Goal: {executor.get_loop(child).goal}")
    print(f"  Depth: {executor.get_context(child).depth}")
    print(f"  Parent status: {status(executor, parent)}")
    return child


def complete(executor: NestedLoopExecutor, child: str, result: object) -> None:
    """Complete a child, and tell what became of its parent."""
    parent = executor.complete(child, result)
    assert parent is not None
    print("✓ Completed child loop")
    print(f"  Returned parent: {short(parent)}")
    print(f"  Parent status: {status(executor, parent)}")


def draw(executor: NestedLoopExecutor, root: str) -> None:
    """Show the tree below a root."""
    print("\n  " + executor.export(root).replace("\n", "\n  "))


def status(executor: NestedLoopExecutor, loop_id: str) -> str:
    """How a loop stands."""
    return executor.get_loop(loop_id).status.name


def short(loop_id: str | None) -> str:
    """As much of an id as people read."""
    return str(loop_id)[:8]


SCENES: Final[dict[str, Callable[[], None]]] = {
    "Basic Nested Loops": basic_nesting,
    "Multi-Level Nesting": multi_level_nesting,
    "Result Aggregation": result_aggregation,
    "Early Termination": early_termination,
    "Depth Limiting": depth_limit,
    "Executor Summary": executor_summary,
}


def main() -> None:
    """Play all scenes."""
    for number, (title, scene) in enumerate(SCENES.items(), 1):
        print(f"\n{'=' * 60}\n  Demo {number}: {title}\n{'=' * 60}")
        scene()


if __name__ == "__main__":
    main()
