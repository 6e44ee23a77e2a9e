"""Agents that stop by a condition, recover by the table, or run a controlled loop in a phase."""

from __future__ import annotations

from typing import Any

import pytest

from cortical import Agent, Budget, Loop, Retry, Verdict, open_store, provide, resume, run
from cortical.agents import AgentChanged, Result
from cortical.control import State
from cortical.core.conditions import max_iterations, resource, timeout, when
from cortical.core.errors import WrongType
from cortical.core.ports import Store
from cortical.core.status import Status, TerminationReason
from cortical.core.tree import Tree
from cortical.recovery import ErrorClass, RecoveryPolicy, escalate, restart, retry, skip
from cortical.store import MemoryStore
from cortical.testing import FakeClock, crash_everywhere


def never_done(**policies: Any) -> Agent:
    """An agent whose verdict is always to go on, each time for another reason."""
    agent = Agent("searcher", stuck=None, **policies)

    @agent.answer
    def answer(loop: Loop) -> None:
        loop.answer(loop.turn)

    @agent.verify
    def check(loop: Loop) -> Verdict:
        return Verdict.revise(f"turn {loop.turn}")

    return agent


def test_a_condition_ends_an_agents_loop_before_its_next_turn() -> None:
    """A loop ends without a passed verdict, abandoned, for the reason of the condition that is met, which is named."""
    result = run(never_done(stop_when=max_iterations(3) | timeout(60)), "g")
    assert (result.status, result.reason, result.limit) == (
        Status.ABANDONED,
        TerminationReason.MAX_ITERATIONS,
        "max_iterations",
    )
    found = run(never_done(stop_when=when(lambda progress: progress.last_result == 5, name="five")), "g")
    assert (found.reason, found.limit) == (TerminationReason.CONDITION_MET, "five")


def test_a_condition_sees_time_and_spending() -> None:
    """Elapsed time and what was spent of the budgets are there to be looked at."""
    clock = FakeClock()
    agent = never_done(stop_when=timeout(5))

    @agent.produce
    def work(loop: Loop) -> None:
        clock.advance(2)

    assert run(agent, "g", clock=clock).reason is TerminationReason.TIMEOUT
    spender = never_done(stop_when=resource("tokens", 20))

    @spender.produce
    def spend(loop: Loop) -> None:
        loop.spend(tokens=15)

    result = run(spender, "g", budget=Budget(tokens=100))
    assert (result.reason, result.spent["tokens"]) == (TerminationReason.RESOURCE_LIMIT, 30)


def test_a_condition_that_raises_fails_the_loop() -> None:
    """The exception of a condition fails the loop, and names the condition."""
    result = run(never_done(stop_when=when(lambda progress: 1 / 0, name="broken")), "g")
    assert (result.status, result.reason) == (Status.FAILED, TerminationReason.ERROR)
    assert "'broken' raised ZeroDivisionError" in result.why


@pytest.mark.parametrize("policies", [{"stop_when": 5}, {"recovery": "retry"}])
def test_policies_are_checked_at_the_door(policies: dict[str, Any]) -> None:
    """What is no condition or no recovery policy is refused when the agent is made."""
    with pytest.raises(WrongType, match="or None"):
        Agent("a", **policies)


def failing(errors: list[Exception | None], policy: RecoveryPolicy) -> tuple[Agent, list[str]]:
    """An agent whose PRODUCE raises these, one after another, and then goes well; and the phases that it entered."""
    entered: list[str] = []
    agent = Agent("worker", recovery=policy, retry=Retry(max_attempts=1))

    def enter(loop: Loop) -> None:
        entered.append(loop.phase.value)

    agent.question(enter)
    agent.answer(enter)

    @agent.produce
    def make(loop: Loop) -> None:
        entered.append("produce")
        error = errors.pop(0) if errors else None
        if error is not None:
            raise error

    @agent.verify
    def check(loop: Loop) -> Verdict:
        return Verdict.passed("done")

    return agent, entered


QUICK = RecoveryPolicy(retry=Retry(max_attempts=3, delay=0))


def test_a_failed_phase_is_recovered_by_the_table() -> None:
    """A transient error is tried again, one of another class follows its own line; the recoveries are in the log."""
    agent, entered = failing([ConnectionError("reset"), ConnectionError("reset")], QUICK)
    assert run(agent, "g").value == "done"
    assert entered == ["question", "answer", "produce", "produce", "produce"]
    again, entered = failing([ValueError("odd")], QUICK.with_line(ErrorClass.UNKNOWN, restart))
    store = MemoryStore()
    result = run(again, "g", store=store)
    assert result.value == "done"
    assert entered == ["question", "answer", "produce", "question", "answer", "produce"]
    noted = Tree.of(store.read(result.run_id)).root.noted("recovery")
    assert [(note["strategy"], note["class"], note["success"]) for note in noted] == [("restart", "unknown", True)]


def test_a_failed_phase_may_be_skipped_or_given_to_a_person() -> None:
    """A line may leave the phase for the next, or block the loop for a person, who lets the phase be entered again."""
    skipping, entered = failing([ValueError("odd")], QUICK.with_line(ErrorClass.UNKNOWN, skip))
    assert run(skipping, "g").value == "done"
    assert entered == ["question", "answer", "produce"]
    asking, entered = failing([ValueError("odd")], QUICK.with_line(ErrorClass.UNKNOWN, escalate))
    store = MemoryStore()
    result = run(asking, "g", store=store)
    assert result.status is Status.BLOCKED
    assert "ValueError: odd" in result.why
    provide(store, result.run_id, result.why.partition(": ")[2], "I have mended it")
    assert resume(store, result.run_id, agents=[asking]).value == "done"
    assert entered == ["question", "answer", "produce", "produce"]


def test_recovery_has_its_limit() -> None:
    """A phase that always fails ends its loop, failed, when the recoveries are used up."""
    agent, entered = failing([ValueError("odd")] * 99, QUICK.with_line(ErrorClass.UNKNOWN, retry))
    result = run(agent, "g")
    assert (result.status, result.reason) == (Status.FAILED, TerminationReason.ERROR)
    assert 2 <= entered.count("produce") <= 5


def polling() -> Agent:
    """An agent that runs a controlled loop in ANSWER."""
    agent = Agent("poller")

    @agent.answer
    def poll(loop: Loop) -> None:
        controller = loop.control("poll", stop_when=max_iterations(3))
        loop.answer(controller.run(lambda state: State(len(state), **{f"k{len(state)}": loop.goal})).value)

    @agent.verify
    def check(loop: Loop) -> Verdict:
        return Verdict.passed([*loop.answers, loop.child_results])

    return agent


def test_a_phase_may_run_a_controlled_loop() -> None:
    """It is a child in the tree, the phase has its result, and it survives a crash at every write."""

    def scenario(store: Store) -> Result:
        roots = store.roots()
        agent = polling()
        return resume(store, roots[0].id, agents=[agent]) if roots else run(agent, "g", store=store)

    store = MemoryStore()
    result = scenario(store)
    assert result.value == [2, {}]
    (child,) = Tree.of(store.read(result.run_id)).root.children
    assert (child.name, child.status, child.visit.turn if child.visit else 0) == ("poll", Status.COMPLETED, 3)
    assert crash_everywhere(scenario).crashes > 10


@pytest.mark.parametrize("spawn_first", [True, False])
def test_a_controlled_loop_is_no_child_that_was_spawned_under_its_name(spawn_first: bool) -> None:
    """Names of controlled loops and keys of spawned children are apart: neither takes over the other."""
    agent = Agent("poller")
    helper = Agent("helper")
    helper.verify(lambda loop: Verdict.passed("helped"))

    @agent.answer
    def poll(loop: Loop) -> None:
        if spawn_first:
            loop.spawn("poll", key="poll", agent=helper)
        controller = loop.control("poll", stop_when=max_iterations(1))
        assert controller.run(lambda state: "polled").value == "polled"
        assert loop.spawn("poll", key="poll", agent=helper) != controller.run_id

    @agent.verify
    def check(loop: Loop) -> Verdict:
        return Verdict.passed(sorted(loop.child_results.values()))

    assert run(agent, "g").value == ["helped"]


def test_a_controlled_loop_pays_from_the_agents_budget() -> None:
    """Iterations of a controlled loop below count against the tree's limit, exactly."""
    result = run(polling(), "g", budget=Budget(iterations=3))
    assert result.spent["iterations"] == 3


def test_a_recorded_tree_is_resumed_with_its_condition(tmp_path: Any) -> None:
    """The condition is part of the agent's definition: a changed one is noticed."""
    path = tmp_path / "s.db"
    agent = never_done(stop_when=max_iterations(2))

    @agent.question
    def ask(loop: Loop) -> None:
        loop.ask_human("May I?")

    result = run(agent, "g", store=path)
    assert result.status is Status.BLOCKED
    other = never_done(stop_when=max_iterations(3))
    other.question(ask)
    provide(path, result.run_id, "May I?", "yes")
    with pytest.raises(AgentChanged):
        resume(path, result.run_id, agents=[other])
    store = open_store(path)
    assert store.roots()[0].status is Status.ACTIVE
    store.close()
