"""Eight children at a time, driven by several workers against one limit of nine, with drivers that die in between."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress

import pytest

from cortical import Agent, Budget, Loop, Verdict, resume, run
from cortical.agents import Result
from cortical.core.budget import Account
from cortical.core.errors import BudgetExhausted, StoreError
from cortical.core.events import Event, Moved, Noted, Started
from cortical.core.status import TerminationReason
from cortical.core.tree import Tree
from cortical.store import MemoryStore, Store
from cortical.testing import DyingStore, FakeClock, ProcessDied

LIMIT = 9
CHILDREN = 8


def agents_for(resource: str, seed: int) -> list[Agent]:
    """A parent, its children and theirs, who between them want more than there is, whatever the seed."""
    parent = Agent("parent", concurrency=CHILDREN, on_child_failure="carry on")
    child = Agent("child", on_child_failure="carry on", stuck=None)
    grandchild = Agent("grandchild")

    def dice_of(loop: Loop) -> random.Random:
        return random.Random(f"{seed} {loop.goal} {loop.phase.value} {loop.turn}")

    @parent.answer
    def divide(loop: Loop) -> None:
        dice = dice_of(loop)
        for number in range(CHILDREN):
            share = Budget(**{resource: dice.randrange(1, 4)}) if dice.random() < 0.2 else None
            with suppress(BudgetExhausted):
                loop.spawn(f"child {number}", agent=child, budget=share)

    @child.answer
    def use(loop: Loop) -> None:
        dice = dice_of(loop)
        if resource == "tokens":
            with suppress(BudgetExhausted), loop.reserve(tokens=dice.randrange(1, 5)) as reservation:
                loop.step("work", lambda: None)
                if dice.random() < 0.8:
                    reservation.used(tokens=1)
            loop.spend(tokens=2)
        for number in range(dice.randrange(1, 3) if resource == "descendants" else 0):
            loop.spawn(f"{loop.goal}.{number}", agent=grandchild)

    @child.verify
    def judge(loop: Loop) -> Verdict:
        turns = dice_of(loop).randrange(2, 4) if resource == "iterations" else 1
        return Verdict.passed(loop.goal) if loop.turn >= turns else Verdict.revise("once more")

    for agent in (parent, grandchild):
        agent.verify(lambda loop: Verdict.passed(loop.goal))
    return [parent, child, grandchild]


def drive_through_crashes(store: Store, resource: str, seed: int) -> Result:
    """Drive a tree to its end, by drivers of which all but the last die."""
    dice, clock, agents = random.Random(seed), FakeClock(), agents_for(resource, seed)
    workers = dice.choice([2, 4, 8])

    def drive(through: Store) -> Result:
        clock.advance(60)
        roots = through.roots()
        if roots:
            return resume(through, roots[0].id, agents=agents, workers=workers, clock=clock)
        budget = Budget(**{resource: LIMIT})
        return run(agents[0], "parent", store=through, budget=budget, workers=workers, clock=clock)

    for _ in range(dice.randrange(1, 4)):
        dying = DyingStore(store, dice.randrange(1, 40), "before" if dice.random() < 0.5 else "after")
        try:
            drive(dying)
        except (ProcessDied, StoreError):
            assert dying.dead
    return drive(store)


def used_by(event: Event, resource: str, reserved: dict[str, float]) -> float:
    """By how much an event raises what is used and reserved, told from the event alone."""
    match event:
        case Started(parent_id=str()) if resource == "descendants":
            return 1
        case Started(place="question") | Moved(place="question") if resource == "iterations":
            return 1
        case Noted(topic="spent", value=value) if resource == "tokens":
            return float(value["amounts"][resource])
        case Noted(topic="held", value=value) if resource == "tokens":
            reserved[value["key"]] = value["amounts"][resource]
            return float(value["amounts"][resource])
        case Noted(topic="settled", value={"key": key, "used": used}) if resource == "tokens":
            return 0 if used is None else float(used.get(resource, 0) - reserved[key])
    return 0


def require_within_limits(log: Sequence[Event], resource: str) -> float:
    """At every event of a log no account is above a limit, nor is what the events themselves say; what they say last.

    An account that has a limit of its own within another's is looked at too.
    """
    tree, accounts, reserved, used = Tree(), dict[str, Account](), dict[str, float](), 0.0
    for position, event in enumerate(log):
        tree.fold((event,))
        account = tree.index.runs[event.run_id].account
        assert account is not None
        accounts[account.run_id] = account
        for account in accounts.values():
            if resource in account.limit:
                held = account.held.get(resource, 0)
                assert held >= 0, f"event {position} of {account.run_id}"
                assert account.spent.get(resource, 0) + held <= account.limit[resource], f"event {position}: {event}"
        used += used_by(event, resource, reserved)
        assert used <= LIMIT, f"event {position}: {event}"
    return used


@pytest.mark.parametrize("seed", range(200))
@pytest.mark.parametrize("resource", ["tokens", "descendants", "iterations"])
def test_driven_children_against_one_limit(resource: str, seed: int) -> None:
    """Used and reserved are never above the limit, the loops that wanted more say so, and nothing stays reserved."""
    store = MemoryStore(strict=True)
    result = drive_through_crashes(store, resource, seed)
    log = store.read(result.run_id)
    assert result.spent == {resource: require_within_limits(log, resource)}
    loops = list(Tree.of(log).walk())
    assert all(loop.status.ended for loop in loops)
    limited = [loop for loop in loops if loop.reason is TerminationReason.BUDGET_EXHAUSTED]
    assert [loop.noted("limit") for loop in limited] == [[resource]] * len(limited)
    assert limited or len(loops[0].children) < CHILDREN  # of all eight one at least wants more than there is
    account = loops[0].account
    assert account is not None
    assert not any(account.held.values())
    assert not account.reserved
