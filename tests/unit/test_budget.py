"""Limits that hold for a tree and its parts."""

from __future__ import annotations

from typing import Any

import pytest

from cortical.core import booking
from cortical.core.budget import Account, Budget
from cortical.core.errors import BudgetExhausted, InvalidInput, WrongType
from cortical.core.tree import Tree
from cortical.reasoning import NestedLoopExecutor
from cortical.testing import FakeClock


def account_of(executor: NestedLoopExecutor, loop_id: str) -> Account:
    account = executor.get_loop(loop_id).run.account
    assert account is not None
    return account


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"tokens": -1}, InvalidInput),
        ({"usd": "1"}, WrongType),
        ({"width": True}, WrongType),
        ({"seconds": float("nan")}, InvalidInput),
    ],
)
def test_limits_are_checked(limits: dict[str, Any], error: type[Exception]) -> None:
    """A limit is a number from 0 on."""
    with pytest.raises(error, match=f"{next(iter(limits))} of a budget"):
        Budget(**limits)


def test_iterations_are_exact(executor: NestedLoopExecutor) -> None:
    """Each coming to QUESTION anywhere in the tree counts, and the one above the limit is refused."""
    root = executor.start_root("g", budget=Budget(iterations=3))
    executor.complete(executor.spawn_child(root, "sub"))
    for _ in range(4):
        executor.advance(root)
    for _ in range(3):
        executor.advance(root)
    with pytest.raises(BudgetExhausted, match="its limit of 3 iterations is exhausted") as caught:
        executor.advance(root)
    assert (caught.value.limit, caught.value.account_id) == ("iterations", root)
    with pytest.raises(BudgetExhausted):
        executor.spawn_child(root, "one too many")
    assert (
        account_of(executor, root).spent == {"descendants": 1, "iterations": 3}
        or account_of(executor, root).spent["iterations"] == 3
    )


def test_descendants_and_width(executor: NestedLoopExecutor) -> None:
    """So many loops below, and so many children of each, and not one more; a refusal changes nothing."""
    root = executor.start_root("g", budget=Budget(descendants=4, width=3))
    children = executor.spawn_children(root, ["a", "b", "c"])
    with pytest.raises(BudgetExhausted, match="limit of 4 descendants"):
        executor.spawn_children(children[0], ["d", "e"])
    executor.complete(executor.spawn_child(children[0], "d"))
    with pytest.raises(BudgetExhausted, match=f"the budget of '{root}': its limit of 4 descendants"):
        executor.spawn_child(children[1], "e")
    wide = executor.start_root("wide", budget=Budget(width=2))
    with pytest.raises(BudgetExhausted, match="limit of 2 width"):
        executor.spawn_children(wide, ["a", "b", "c"])
    assert executor.get_children(wide) == []


def test_depth(executor: NestedLoopExecutor) -> None:
    """So many levels below the loop whose budget it is."""
    root = executor.start_root("g")
    top = executor.spawn_child(root, "top", budget=Budget(depth=1))
    below = executor.spawn_child(top, "below")
    with pytest.raises(BudgetExhausted, match=f"the budget of '{top}': its limit of 1 depth"):
        executor.spawn_child(below, "too deep")


def test_seconds(executor: NestedLoopExecutor, clock: FakeClock) -> None:
    """When the time is over no phase begins and no child is spawned, anywhere below."""
    root = executor.start_root("g", budget=Budget(seconds=10))
    child = executor.spawn_child(root, "sub")
    clock.advance(9)
    executor.advance(child)
    clock.advance(1)
    for call in (lambda: executor.advance(child), lambda: executor.spawn_child(child, "x")):
        with pytest.raises(BudgetExhausted, match="limit of 10 seconds"):
            call()
    executor.complete(child)


def test_what_a_child_was_given_comes_back(executor: NestedLoopExecutor) -> None:
    """A child's own budget is held above it until it ends; then what it used is spent, and the rest is free again."""
    root = executor.start_root("g", budget=Budget(tokens=10))
    child = executor.spawn_child(root, "sub", budget=Budget(tokens=6))
    assert account_of(executor, root).available("tokens") == 4
    executor.journal.change(child, booking.spend, {"tokens": 5})
    assert account_of(executor, child).available("tokens") == 1
    assert account_of(executor, root).available("tokens") == 4
    executor.complete(child)
    assert account_of(executor, root).available("tokens") == 5
    with pytest.raises(BudgetExhausted, match="limit of 10 tokens"):
        executor.spawn_child(root, "greedy", budget=Budget(tokens=6))
    assert executor.get_loop(root).status.value == "active"


def test_a_break_gives_back_too(executor: NestedLoopExecutor) -> None:
    """Breaking a subtree gives back what its loops held, at every level."""
    root = executor.start_root("g", budget=Budget(tokens=10))
    child = executor.spawn_child(root, "sub", budget=Budget(tokens=8))
    grandchild = executor.spawn_child(child, "subsub", budget=Budget(tokens=5))
    executor.journal.change(grandchild, booking.spend, {"tokens": 2})
    executor.journal.change(grandchild, booking.reserve, "r", {"tokens": 1})
    executor.break_loop(child, "enough")
    account = account_of(executor, root)
    assert (account.spent["tokens"], account.held["tokens"]) == (3, 0)


def test_spending_stops_at_the_limit(executor: NestedLoopExecutor) -> None:
    """What is above the limit is not booked, so that spent never goes above it."""
    root = executor.start_root("g", budget=Budget(tokens=10))
    executor.journal.change(root, booking.spend, {"tokens": 7, "usd": 100})
    executor.journal.change(root, booking.spend, {"tokens": 7})
    assert account_of(executor, root).spent["tokens"] == 10
    assert "usd" not in account_of(executor, root).spent


def test_reservations(executor: NestedLoopExecutor) -> None:
    """What is reserved is held; settling books what was used and lets go of the rest; an unsettled one is all spent."""
    root = executor.start_root("g", budget=Budget(tokens=10, usd=1))
    change = executor.journal.change
    change(root, booking.reserve, "a", {"tokens": 6, "usd": 0.5})
    with pytest.raises(BudgetExhausted):
        change(root, booking.reserve, "b", {"tokens": 5})
    change(root, booking.settle, "a", {"tokens": 2})
    account = account_of(executor, root)
    assert (account.spent["tokens"], account.held["tokens"], account.spent["usd"]) == (2, 0, 0)
    change(root, booking.reserve, "b", {"tokens": 8})
    assert not change(root, booking.settle, "unknown", None)
    child = executor.start_root("h")
    assert not change(child, booking.reserve, "free", {"tokens": 1e9})
    executor.complete(root)
    assert account.spent["tokens"] == 10


def test_accounts_are_folded_from_the_log(executor: NestedLoopExecutor) -> None:
    """The accounts of a tree read anew are those of the tree in memory."""
    root = executor.start_root("g", budget=Budget(tokens=10, iterations=9, descendants=9))
    a, b = executor.spawn_children(root, ["a", "b"])
    executor.journal.change(a, booking.spend, {"tokens": 3})
    executor.journal.change(b, booking.reserve, "r", {"tokens": 4})
    executor.complete(a)
    ours, folded = account_of(executor, root), Tree.of(executor.store.read(root)).root.account
    assert folded is not None
    assert (ours.spent, ours.held, ours.reserved) == (folded.spent, folded.held, folded.reserved)
    assert ours.spent == {"iterations": 3, "descendants": 2, "tokens": 3}
