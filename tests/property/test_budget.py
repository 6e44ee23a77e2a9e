"""Whatever is spawned, spent, reserved, settled, ended and broken: spent and held never go above a limit."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from cortical.core import booking
from cortical.core.budget import CONSUMED, Account, Budget
from cortical.core.errors import CorticalError
from cortical.core.tree import Tree
from cortical.reasoning import NestedLoopExecutor
from cortical.store import MemoryStore

LIMIT = 9


def accounts(executor: NestedLoopExecutor, root: str) -> list[Account]:
    own = (loop.run for loop in executor.get_subtree(root))
    return [run.account for run in own if run.account is not None and run.account.run_id == run.id]


def call_something(dice: random.Random, executor: NestedLoopExecutor, loop: str, root: str) -> None:
    key, amount = f"{loop}{dice.randrange(4)}", dice.randrange(1, 5)
    limits = dice.choice(
        [
            None,
            Budget(tokens=amount),
            Budget(tokens=amount, iterations=2),
            Budget(descendants=amount, iterations=amount),
        ]
    )
    change = executor.journal.change
    calls: list[Callable[[], object]] = [
        lambda: executor.spawn_child(loop, "x", budget=limits),
        lambda: executor.spawn_children(loop, ["x", "y"]),
        lambda: change(loop, booking.spend, {"tokens": amount}),
        lambda: change(loop, booking.reserve, key, {"tokens": amount}),
        lambda: change(loop, booking.settle, key, {"tokens": amount - 1}),
        lambda: executor.advance(loop),
        lambda: executor.complete(loop),
        lambda: executor.break_loop(loop, "no") if loop != root else None,
    ]
    dice.choice(calls)()


@pytest.mark.parametrize("seed", range(200))
def test_random_schedules(seed: int) -> None:
    """In every schedule, with crashes in between, each account keeps its limits, and reading it anew agrees."""
    dice = random.Random(seed)
    store = MemoryStore(strict=True)
    executor = NestedLoopExecutor(store=store)
    root = executor.start_root("g", budget=Budget(tokens=LIMIT, descendants=LIMIT, iterations=LIMIT))
    executor.spawn_children(root, ["a", "b"])
    for step in range(60):
        open_loops = [loop.id for loop in executor.get_subtree(root) if not loop.status.ended]
        if not open_loops:
            break
        with suppress(CorticalError):
            call_something(dice, executor, dice.choice(open_loops), root)
        if dice.random() < 0.1:  # the process dies, and another takes the tree up
            executor = NestedLoopExecutor(store=store)
        for account in accounts(executor, root):
            for resource in CONSUMED:
                if resource in account.limit:
                    used = account.spent.get(resource, 0) + account.held.get(resource, 0)
                    assert used <= account.limit[resource], f"step {step}: {resource}"
                    assert account.held.get(resource, 0) >= 0
    folded = Tree.of(store.read(root)).root.account
    ours = executor.get_loop(root).run.account
    assert folded is not None
    assert ours is not None
    assert (folded.spent, folded.held) == (ours.spent, ours.held)
