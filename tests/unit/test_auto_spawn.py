"""Children that a spawn policy starts for a loop which leaves ANSWER with questions open."""

from __future__ import annotations

from typing import Any

import pytest

from cortical.agents import Agent, Decision, DefaultSpawnPolicy, Loop, Result, Retry, Verdict, resume, run
from cortical.agents.agent import Agents
from cortical.agents.driver import Driver
from cortical.agents.running import start
from cortical.agents.spawn_policy import SpawnContext
from cortical.core.budget import Budget
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.journal import Journal
from cortical.core.status import Status
from cortical.store import MemoryStore, Store
from cortical.testing import FakeClock, ProcessDied, crash_everywhere
from tests.integration.agent_scenarios import agent_with
from tests.unit.kept import root_of

QUESTIONS = ["Does a.py parse?", "Does b.py parse?"]


def asks(loop: Loop) -> None:
    """At the top, two questions that do not need each other."""
    if loop.depth == 0:
        for question in QUESTIONS:
            loop.ask(question)


def results(loop: Loop) -> Verdict:
    """Pass with what the children brought back, or with the goal."""
    return Verdict.passed(list(loop.child_results.values()) or loop.goal)


def asker(name: str = "asker", **given: Any) -> Agent:
    """An agent that asks, and leaves it to others to answer."""
    return agent_with(name, **{"question": asks, "verify": results, **given})


class Always:
    """A policy that always suggests the same."""

    def __init__(self, *goals: Any, decision: Any = None) -> None:
        self.goals: Any = list(goals)
        self.decision = decision or Decision(True, "because")
        self.contexts: list[SpawnContext] = []

    def should_spawn(self, context: SpawnContext) -> Decision:
        """Yes, below the top no."""
        self.contexts.append(context)
        return self.decision if context.depth == 0 else Decision(False, "deep enough")

    def suggest_goals(self, context: SpawnContext) -> list[str]:
        """The same."""
        return self.goals  # type: ignore[no-any-return]


def driven(store: Store, agent: Agent, **given: Any) -> Result:
    """What becomes of it."""
    return run(agent, "Parse it", store=store, auto_spawn=True, **given)


def test_open_questions_become_children(store: MemoryStore) -> None:
    """Children of the loop's own agent and inputs answer what it left open; the decision, by a rule, says why."""
    result = driven(store, asker(), inputs={"n": 1})
    root = root_of(store)
    assert result.value == QUESTIONS
    assert [child.name for child in root.children] == QUESTIONS
    assert {child.metadata["agent"]["name"] for child in root.children if child.metadata} == {"asker"}
    assert [child.metadata["inputs"] for child in root.children if child.metadata] == [{"n": 1}] * 2
    assert root.noted("decision") == [
        {
            "decision": "spawn 2 children",
            "rationale": "2 of 2 open questions can be answered independently",
            "by": "rule",
        }
    ]
    assert [visit.place for visit in root.visits] == ["question", "answer", "produce", "verify"]
    assert [child.noted("decision") for child in root.children] == [[], []]


def test_async_answers_too(store: MemoryStore) -> None:
    """So it is after an ANSWER that is a coroutine."""

    async def answer(loop: Loop) -> None:
        loop.note("nothing to say")

    assert driven(store, asker(answer=answer)).value == QUESTIONS


def test_not_unless_asked_for(store: MemoryStore) -> None:
    """Without auto_spawn there are no children."""
    assert run(asker(), "Parse it", store=store).value == "Parse it"
    assert root_of(store).children == []


def test_what_is_answered_needs_no_child(store: MemoryStore) -> None:
    """Only questions that ANSWER left open count; a decision against children is not noted."""
    agent = asker(answer=lambda loop: loop.answer({"question": QUESTIONS[0], "answer": "yes"}) if not loop.depth else 0)
    assert driven(store, agent).value == "Parse it"
    assert root_of(store).noted("decision") == []


def test_its_own_children_are_enough(store: MemoryStore) -> None:
    """A loop that spawned in this visit itself is not given more; gathered children count."""

    async def gathers(loop: Loop) -> None:
        if loop.depth == 0:
            loop.spawn("mine")
            await loop.gather()

    for answer in (gathers, lambda loop: loop.spawn("mine") if loop.depth == 0 else None):
        policy = Always("yours")
        assert driven(store, asker(answer=answer), spawn_policy=policy).value == ["mine"]
        assert {context.depth for context in policy.contexts} == {1}


def test_each_turn_is_asked_about(store: MemoryStore) -> None:
    """The next turn's ANSWER may be given children too."""
    agent = asker(verify=lambda loop: Verdict.passed() if loop.depth or loop.turn == 2 else Verdict.revise("more"))
    driven(store, agent, spawn_policy=Always("same"))
    assert [child.name for child in root_of(store).children] == ["same", "same"]


def test_who_resumes_follows(store: MemoryStore) -> None:
    """A driver that takes the tree up asks the policy as well, unless it is told not to."""
    for given, value in (({}, QUESTIONS), ({"auto_spawn": False}, "Parse it")):
        died: list[str] = []

        def die_once(loop: Loop, died: list[str] = died) -> None:
            if not died:
                died.append(loop.id)
                raise ProcessDied

        agent = asker(answer=die_once)
        with pytest.raises(ProcessDied):
            driven(store, agent)
        assert resume(store, died[0], agents=[agent], **given).value == value  # type: ignore[arg-type]


def test_a_policy_that_would_not_be_asked(store: MemoryStore) -> None:
    """A policy without auto_spawn, and what is no policy, are refused, and nothing is begun."""
    with pytest.raises(InvalidInput, match="auto_spawn=True"):
        run(asker(), "goal", store=store, spawn_policy=DefaultSpawnPolicy())
    with pytest.raises(WrongType, match="a spawn policy has"):
        run(asker(), "goal", store=store, auto_spawn=True, spawn_policy=DefaultSpawnPolicy)  # type: ignore[arg-type]
    assert store.roots() == []


def test_a_policy_that_raises(store: MemoryStore) -> None:
    """A policy's error is the phase's: it is tried again as the agent says, and then the loop fails by it."""

    class Raising(Always):
        def should_spawn(self, context: SpawnContext) -> Decision:
            super().should_spawn(context)
            raise ConnectionError("no model")

    policy = Raising()
    result = driven(store, asker(retry=Retry(2, delay=0)), spawn_policy=policy)
    assert (result.status, result.why) == (Status.FAILED, "ConnectionError: no model")
    assert len(policy.contexts) == 2


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (Always("a", decision=True), "returns a Decision(spawn, why), not True"),
        (Always(""), "a goal of a spawn policy is empty"),
        (Always("a", 7), "returns a list of goals"),
    ],
)
def test_a_policy_that_answers_wrongly(store: MemoryStore, policy: Always, told: str) -> None:
    """What is no decision, or no goal, fails the loop and says so; no child is there."""
    assert told in driven(store, asker(), spawn_policy=policy).why
    assert root_of(store).children == []


def test_goals_are_a_list(store: MemoryStore) -> None:
    """One text is not taken for a list of its letters."""
    policy = Always()
    policy.goals = "goal"
    assert "returns a list of goals" in driven(store, asker(), spawn_policy=policy).why


@pytest.mark.parametrize("given", [{"budget": Budget(descendants=1)}, {"max_depth": 1}])
def test_no_room(store: MemoryStore, given: dict[str, Any]) -> None:
    """Where not all of the children have room there are none, and the loop goes on by itself."""
    assert driven(store, asker(), spawn_policy=Always("a", "b"), **given).value == "Parse it"
    assert root_of(store).noted("decision") == []


def test_a_driver_by_hand(store: MemoryStore) -> None:
    """A driver may be told what was not recorded."""
    journal = Journal(store, clock=FakeClock())
    agent = asker()
    assert (
        Driver(journal, start(journal, agent, "Parse it"), Agents([agent]), auto_spawn=True).drive().value == QUESTIONS
    )


def test_every_crash() -> None:
    """Wherever the process dies, each question has one child, and the decision is noted once."""
    clock = FakeClock()
    agent = asker(answer=lambda loop: loop.note("thinking"), concurrency=2)

    def scenario(store: Store) -> None:
        clock.advance(60)
        roots = store.roots()
        if roots:
            resume(store, roots[0].id, agents=[agent], clock=clock, workers=1)
        else:
            run(agent, "Parse it", store=store, clock=clock, workers=1, auto_spawn=True)
        assert len(root_of(store).noted("decision")) == 1

    assert crash_everywhere(scenario).writes > 15
