"""A driver among others: what they start, drain and answer; what the tree's start says; questions of every origin."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from cortical.agents import Agent, Loop, Reconciled, Verdict, human, provide, resume, run
from cortical.core import rules
from cortical.core.journal import Journal
from cortical.core.questions import question_of
from cortical.core.status import Status
from cortical.core.topics import DRAIN
from cortical.core.tree import Tree
from cortical.reasoning import NestedLoopExecutor
from cortical.store import MemoryStore, Store
from cortical.testing import FakeClock, ProcessDied
from tests.integration.agent_scenarios import agent_with, until
from tests.unit.kept import root_of


def beside(work: Callable[[], Any]) -> threading.Thread:
    """A thread that does this meanwhile."""
    thread = threading.Thread(target=work)
    thread.start()
    return thread


# A tree that is never quiet


def busy(store: Store) -> Agent:
    """An agent that spawns for ever, so that workers always report something."""
    child = agent_with("child")

    def spawn(loop: Loop) -> None:
        for number in range(8):
            loop.spawn(str(number), agent=child)

    return agent_with("busy", answer=spawn, verify=lambda loop: Verdict.revise("more"), concurrency=8, stuck=None)


@pytest.mark.timeout(30)
def test_a_drain_of_a_busy_tree(store: MemoryStore) -> None:
    """A drain that another process asks for is heard though there is always something finished to see to."""

    def ask() -> None:
        root = until(lambda: len(store.roots()) and len(root_of(store).children) > 30 and root_of(store))
        Journal(store, clock=FakeClock()).insist(root.id, rules.note, DRAIN, "maintenance")

    asking = beside(ask)
    result = run(busy(store), "goal", store=store)
    asking.join()
    assert result.reason is None
    assert result.status in (Status.ACTIVE, Status.PAUSED)


@pytest.mark.timeout(30)
def test_a_question_runs_out_of_time_in_a_busy_tree(store: MemoryStore) -> None:
    """A default is taken for an answer while siblings work."""
    over = threading.Event()
    asks = agent_with("asks", answer=lambda loop: loop.answer(loop.ask_human("Go?", timeout=0, default="no")))
    asks.produce(lambda loop: over.set())
    works = agent_with("works", answer=lambda loop: loop.answer(over.wait(timeout=20)))

    def spawn(loop: Loop) -> None:
        loop.spawn("asks", agent=asks)
        loop.spawn("works", agent=works)

    assert run(agent_with(answer=spawn, concurrency=2), "goal", store=store).status is Status.COMPLETED
    assert [child.noted("answer") for child in root_of(store).children] == [["no"], [True]]
    (provided,) = root_of(store).children[0].noted("provided")
    assert provided["by"] == "rule"


# What others start in the tree


@pytest.mark.timeout(30)
@pytest.mark.parametrize("end", ["while the phase is open", "afterwards"])
def test_a_child_started_by_hand(store: MemoryStore, end: str) -> None:
    """A phase may start a child stepwise; whoever did drives it, and its parent goes on when it ends, entered once."""
    entered: list[str] = []

    def answer(loop: Loop) -> None:
        entered.append(loop.goal)
        child = executor.spawn_child(loop.id, "by hand")
        if end == "afterwards":
            walking.append(beside(lambda: walk(child)))
        else:
            walk(child)

    def walk(child: str) -> None:
        if end == "afterwards":
            until(lambda: (visit := root_of(store).visit) and visit.left_at is not None)
        for _ in range(3):
            executor.advance(child)
        executor.complete(child, "done")

    executor = NestedLoopExecutor(store=store)
    walking: list[threading.Thread] = []
    agent = agent_with(answer=answer, verify=lambda loop: Verdict.passed(list(loop.child_results.values())))
    result = run(agent, "goal", store=store)
    for thread in walking:
        thread.join()
    assert result.value == ["done"]
    assert entered == ["goal"]
    assert [visit.place for visit in root_of(store).visits] == ["question", "answer", "produce", "verify"]
    assert [visit.place for visit in root_of(store).children[0].visits] == ["question", "answer", "produce", "verify"]


@pytest.mark.timeout(30)
def test_children_of_both_sorts(store: MemoryStore) -> None:
    """Beside a child started by hand those of agents run, are joined, and fail by their policies."""

    def answer(loop: Loop) -> None:
        loop.spawn("good", agent=agent_with("good"))
        loop.spawn("bad", agent=agent_with("bad", answer=lambda loop: loop.inputs["missing"]))
        by_hand.append(executor.spawn_child(loop.id, "by hand"))

    def finish() -> None:
        until(lambda: store.roots() and sum(child.reason is not None for child in root_of(store).children) == 2)
        executor.refresh(by_hand[0])
        executor.fail(by_hand[0], KeyError("k"))

    executor = NestedLoopExecutor(store=store)
    by_hand: list[str] = []
    finishing = beside(finish)
    agent = agent_with(
        answer=answer,
        verify=lambda loop: Verdict.passed([list(loop.child_results.values()), len(loop.child_failures)]),
        on_child_failure="carry on",
    )
    assert run(agent, "goal", store=store).value == [["good"], 2]
    finishing.join()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("held", ["pause", "block"])
def test_a_child_by_hand_that_waits_for_people(store: MemoryStore, held: str) -> None:
    """The driver does not stay for a child started by hand that is held up; once that ended, the tree is taken up."""

    def answer(loop: Loop) -> None:
        if not by_hand:
            by_hand.append(executor.spawn_child(loop.id, "by hand"))
            getattr(executor, held)(by_hand[0], "lunch")

    executor = NestedLoopExecutor(store=store)
    by_hand: list[str] = []
    agent = agent_with(answer=answer)
    result = run(agent, "goal", store=store)
    assert result.status is Status.PAUSED
    executor.break_loop(by_hand[0], "not needed")
    assert resume(store, result.run_id, agents=[agent]).status is Status.COMPLETED


def test_a_loop_moved_on_by_others(store: MemoryStore) -> None:
    """A loop that somebody moves on in the middle of a phase is entered at the phase where it then stands."""
    entered: list[str] = []

    def answer(loop: Loop) -> None:
        entered.append("answer")
        NestedLoopExecutor(store=store).advance(loop.id)

    agent = agent_with(answer=answer, produce=lambda loop: entered.append("produce"))
    assert run(agent, "goal", store=store).status is Status.COMPLETED
    assert entered == ["answer", "produce"]


# What the start says


def test_depth_is_recorded(store: MemoryStore) -> None:
    """Who takes a tree up keeps to the depth it was started with, unless another is given."""
    for given, depth in (({}, 3), ({"max_depth": 5}, 5)):
        died: list[str] = []

        def dive(loop: Loop, died: list[str] = died) -> None:
            if not died:
                died.append(loop.id)
                raise ProcessDied
            loop.spawn("deeper")

        agent = agent_with(answer=dive)
        with pytest.raises(ProcessDied):
            run(agent, "goal", store=store, max_depth=3)
        assert "DepthLimitReached" in _deepest(resume(store, died[0], agents=[agent], **given).run_id, store)  # type: ignore[arg-type]
        assert max(run.depth for run in Tree.of(store.read(died[0])).walk()) == depth - 1


def _deepest(root_id: str, store: Store) -> str:
    return repr(list(Tree.of(store.read(root_id)).walk())[-1].outcome)


# Questions to people, whoever asks


def blocking(store: Store) -> Any:
    """The question that blocks the root."""
    return question_of(root_of(store))


def test_an_escalation_is_a_question(store: MemoryStore) -> None:
    """A verdict that escalates asks like a phase does: answered by its key, and found by VERIFY."""

    def verify(loop: Loop) -> Verdict:
        return Verdict.passed(loop.ask_human("ship it?")) if loop.feedback else Verdict.escalate("ship it?")

    agent = agent_with(verify=verify)
    result = run(agent, "goal", store=store)
    assert result.why.endswith("escalated: ship it?")
    assert blocking(store) == {
        "key": "ship it?",
        "question": "ship it?",
        "until": None,
        "default": None,
        "by": "function",
    }
    provide(store, result.run_id, "ship it?", "yes")
    assert blocking(store) is None
    assert resume(store, result.run_id, agents=[agent]).value == "yes"
    assert root_of(store).noted("provided") == [{"key": "ship it?", "value": "yes", "by": "person"}]


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        (agent_with("stuck", answer=lambda loop: loop.answer(1), verify=lambda loop: Verdict.revise("no")), "stuck: "),
        (agent_with("unsure", verify=lambda loop: Verdict.inconclusive("the net is down")), "the net is down"),
        (agent_with("raises", verify=lambda loop: loop.inputs["x"]), "verify raised KeyError: 'x'"),
    ],
)
def test_escalations_by_rule(store: MemoryStore, agent: Agent, told: str) -> None:
    """What the driver has to ask a person for is a question as well, and says that a rule chose it."""
    result = run(agent, "goal", store=store)
    asked = blocking(store)
    assert result.status is Status.BLOCKED
    assert told in asked["question"]
    assert (asked["key"], asked["by"]) == (asked["question"], "rule")


def test_a_question_is_the_newest_that_blocks(store: MemoryStore) -> None:
    """A loop that runs, was answered, or is blocked by hand waits for no answer."""
    journal = Journal(store, clock=FakeClock())
    agent = agent_with(answer=lambda loop: loop.ask_human("First?"))
    result = run(agent, "goal", store=store)
    assert blocking(store)["key"] == "First?"
    NestedLoopExecutor(store=store).resume(result.run_id)
    assert blocking(store) is None
    journal.change(result.run_id, rules.block, "a strike")
    assert blocking(store) is None


def test_who_chose(store: MemoryStore) -> None:
    """A verdict that no verify function gave says so; one of its own says nothing."""
    verdicts = [None, Verdict.revise("more"), Verdict.passed()]
    agent = agent_with(verify=lambda loop: verdicts.pop(0))
    run(agent, "goal", store=store)
    assert [said.get("by") for said in root_of(store).noted("verdict")] == ["rule", None, None]


def test_a_person_chose(store: MemoryStore) -> None:
    """A verdict that a person gave says so."""
    agent = agent_with(verify=human("Good?"))
    result = run(agent, "goal", store=store)
    provide(store, result.run_id, blocking(store)["key"], "yes")
    assert resume(store, result.run_id, agents=[agent]).status is Status.COMPLETED
    assert [said["by"] for said in root_of(store).noted("verdict")] == ["person"]


def test_stuck_is_noted(store: MemoryStore) -> None:
    """What is done about a loop that gets nowhere stands in the log, with the reason."""
    agent = agent_with(answer=lambda loop: loop.answer(1), verify=lambda loop: Verdict.revise("no"))
    run(agent, "goal", store=store)
    (noted,) = root_of(store).noted("stuck")
    assert (noted["then"], noted["by"]) == ("escalate", "rule")
    assert noted["why"].startswith("stuck: turns 1 to 3")


def test_log_and_note(store: MemoryStore) -> None:
    """What is logged for people and what is noted as work are two topics."""

    def say(loop: Loop) -> None:
        loop.log("half way")
        loop.note("the index is stale")

    run(agent_with(answer=say), "goal", store=store)
    assert (root_of(store).noted("log"), root_of(store).noted("note")) == (["half way"], ["the index is stale"])


@pytest.mark.parametrize(("told", "calls"), [("Done.", 1), (" again", 2), ("SKIP", 1)])
def test_an_answer_that_is_none(store: MemoryStore, told: str, calls: int) -> None:
    """A person who is asked about an effect, and says something else, is asked again, and nothing is done till then."""
    tokens: list[str] = []

    def send(token: str) -> None:
        tokens.append(token)
        if len(tokens) == 1:
            raise ProcessDied

    agent = agent_with(answer=lambda loop: loop.effect("mail", send, reconcile=lambda token: Reconciled("ask")))
    with pytest.raises(ProcessDied):
        run(agent, "goal", store=store)
    root = root_of(store).id
    resume(store, root, agents=[agent])
    for answer in ("maybe", None):
        provide(store, root, blocking(store)["key"], answer)
        result = resume(store, root, agents=[agent])
        assert (result.status, len(tokens)) == (Status.BLOCKED, 1)
        assert blocking(store)["question"].startswith(f"{answer!r} is none of the answers. Did 'mail' happen?")
    provide(store, root, blocking(store)["key"], told)
    assert resume(store, root, agents=[agent]).status is Status.COMPLETED
    assert len(tokens) == calls
