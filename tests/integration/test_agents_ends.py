"""Driven loops that do not simply pass: each comes to the one end, or the person, that it should."""

from __future__ import annotations

from collections import Counter

import pytest

from cortical import Agent, Budget, Loop, Verdict, run
from cortical.core.status import Status, TerminationReason
from cortical.core.tree import Tree
from cortical.reasoning import NestedLoopExecutor
from cortical.store import Store
from tests.integration.agent_scenarios import agent_with


@pytest.mark.parametrize("how", ["broken by hand", "by its number of turns"])
def test_inner_loops_that_are_broken(any_store: Store, how: str) -> None:
    """An inner loop that is broken in turn 5 of each of 5 outer turns: 25 inner turns, 5 outer ones, and a good end."""
    entered: Counter[str] = Counter()
    by_hand = how == "broken by hand"

    def inner_turn(loop: Loop) -> None:
        entered["inner"] += 1
        if by_hand and loop.turn == 5:
            NestedLoopExecutor(store=any_store).break_loop(loop.id, "five are enough")

    def outer_turn(loop: Loop) -> None:
        entered["outer"] += 1
        loop.spawn(f"inner of {loop.turn}", agent=inner)

    def judge(loop: Loop) -> Verdict:
        return Verdict.passed(loop.turn) if loop.turn == 5 else Verdict.revise(f"{5 - loop.turn} to go")

    inner = agent_with(
        "inner",
        question=inner_turn,
        verify=lambda loop: Verdict.revise("never good enough"),
        max_turns=None if by_hand else 5,
        stuck=None,
    )
    outer = agent_with("outer", question=outer_turn, verify=judge, on_child_failure="carry on", stuck=None)
    result = run(outer, "five times five", store=any_store)
    assert entered == {"inner": 25, "outer": 5}
    assert (result.status, result.value) == (Status.COMPLETED, 5)
    root = Tree.of(any_store.read(result.run_id)).root
    reason = TerminationReason.MANUAL if by_hand else TerminationReason.BUDGET_EXHAUSTED
    assert [child.reason for child in root.children] == [reason] * 5
    assert [len(child.visits) for child in root.children] == [17 if by_hand else 20] * 5
    assert root.reason is TerminationReason.SUCCESS


def never_passing(stuck: bool) -> Agent:
    """Each turn brings another draft, or always the same; the verdict is never a good one."""
    return agent_with(
        "never",
        produce=lambda loop: loop.produce("draft", "the same" if stuck else f"draft {loop.turn}"),
        verify=lambda loop: Verdict.revise("not yet" if stuck else f"not yet: {loop.turn}"),
    )


def test_a_verifier_that_never_passes(any_store: Store) -> None:
    """The loop ends at its budget, exactly there, with the last draft and the name of the limit."""
    result = run(never_passing(stuck=False), "try", store=any_store, budget=Budget(iterations=7))
    assert (result.status, result.reason) == (Status.ABANDONED, TerminationReason.BUDGET_EXHAUSTED)
    assert (result.limit, result.spent) == ("iterations", {"iterations": 7})
    assert result.artifacts == {"draft": "draft 7"}
    assert "iterations" in result.why
    root = Tree.of(any_store.read(result.run_id)).root
    assert [visit.turn for visit in root.visits if visit.place == "verify"] == list(range(1, 8))


def test_a_verifier_that_raises(any_store: Store) -> None:
    """It is inconclusive each time, tried three times in the same turn, and then a person is asked, who is told why."""
    asked: list[int] = []

    def raises(loop: Loop) -> Verdict:
        asked.append(loop.turn)
        raise ConnectionError("no judge to be had")

    result = run(agent_with(produce=lambda loop: loop.produce("draft", 1), verify=raises), "try", store=any_store)
    assert asked == [1, 1, 1]
    assert (result.status, result.reason) == (Status.BLOCKED, None)
    assert (result.verdict, result.artifacts) == ("inconclusive", {"draft": 1})
    assert "escalated: verify raised ConnectionError: no judge to be had" in result.why
    root = Tree.of(any_store.read(result.run_id)).root
    assert [said["verdict"] for said in root.noted("verdict")] == ["inconclusive"] * 3


def test_turns_that_repeat_themselves(any_store: Store) -> None:
    """A loop whose turns bring the same to the same verdict is handed to a person as stuck after the third of them."""
    result = run(never_passing(stuck=True), "try", store=any_store, budget=Budget(iterations=50))
    assert (result.status, result.reason, result.limit) == (Status.BLOCKED, None, None)
    assert result.spent == {"iterations": 3}
    assert "escalated: stuck: turns 1 to 3" in result.why
    assert result.artifacts == {"draft": "the same"}
