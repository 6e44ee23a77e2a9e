"""One loop that drives itself: its phases, verdicts, steps, effects and people; and how it is taken up again."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import types
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cortical.agents import (
    Agent,
    AgentChanged,
    AgentNotFound,
    Loop,
    LoopFailed,
    Quorum,
    Reconciled,
    Result,
    Retry,
    Verdict,
    arun,
    provide,
    resume,
    run,
)
from cortical.agents.agent import Agents
from cortical.agents.consequences import MOST_INCONCLUSIVE
from cortical.agents.driver import Driver
from cortical.core import rules
from cortical.core.budget import Budget
from cortical.core.errors import (
    InvalidInput,
    LeaseHeld,
    LeaseLost,
    RunNotFound,
    RunStateError,
    StoreError,
    WrongType,
)
from cortical.core.events import Event
from cortical.core.journal import Journal
from cortical.core.outcome import Failed
from cortical.core.status import Status, TerminationReason
from cortical.core.topics import DRAIN
from cortical.core.tree import Tree
from cortical.reasoning import NestedLoopExecutor
from cortical.store import MemoryStore, Store
from cortical.testing import DyingStore, FakeClock, ProcessDied
from tests.integration.agent_scenarios import agent_with, asker, passes, until
from tests.unit.kept import root_of


def die(*_: object) -> Any:
    """What a phase function does whose process is killed."""
    raise ProcessDied


def dies(agent: Agent, store: Store) -> str:
    """Run an agent whose process dies; the id of its loop."""
    with pytest.raises(ProcessDied):
        run(agent, "goal", store=store)
    return store.roots()[0].id


# Definition


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"concurrency": 0}, InvalidInput, "concurrency"),
        ({"concurrency": True}, WrongType, "concurrency"),
        ({"concurrency": 1.5}, WrongType, "concurrency"),
        ({"join": "most"}, InvalidInput, "join"),
        ({"on_child_failure": "ignore"}, InvalidInput, "on_child_failure"),
        ({"max_turns": 0}, InvalidInput, "max_turns"),
        ({"max_turns": 2.0}, WrongType, "max_turns"),
        ({"max_turns": True}, WrongType, "max_turns"),
        ({"retry": 3}, WrongType, "retry is a Retry, or None, not 3"),
        ({"stuck": "warn"}, WrongType, "stuck is a Stuck, or None"),
    ],
)
def test_policies_are_checked(given: dict[str, Any], error: type[Exception], told: str) -> None:
    """A policy that makes no sense, or is of another type, is refused when the agent is defined, by its name."""
    with pytest.raises(error, match=told):
        Agent("a", **given)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"workers": 0}, InvalidInput),
        ({"workers": True}, WrongType),
        ({"lease_seconds": 0}, InvalidInput),
        ({"lease_seconds": "10"}, WrongType),
        ({"max_depth": 0}, InvalidInput),
        ({"max_depth": -3}, InvalidInput),
        ({"max_depth": 2.0}, WrongType),
    ],
)
def test_how_a_tree_is_driven_is_checked_before_it_is_begun(
    store: MemoryStore, given: dict[str, Any], error: type[Exception]
) -> None:
    """What makes no sense is refused by its name, whatever holds the store, and leaves no loop behind."""
    (name,) = given
    for place in (store, Journal(store, clock=time)):
        with pytest.raises(error, match=name):
            run(agent_with(), "goal", store=place, **given)
        with pytest.raises(error, match=name):
            resume(place, "nobody", **given)
    assert store.roots() == []


def test_names_and_functions_are_checked() -> None:
    """An agent has a name, and its phases functions."""
    with pytest.raises((InvalidInput, WrongType)):
        Agent("")
    with pytest.raises((InvalidInput, WrongType)):
        Agent("a").question("no function")  # type: ignore[type-var]


def test_a_quorum_is_checked() -> None:
    """A quorum is of one child at least."""
    with pytest.raises(InvalidInput, match="count of a Quorum is 1 or more, not 0"):
        Quorum(0)
    with pytest.raises(WrongType, match="count of a Quorum is a whole number, not True"):
        Quorum(True)


def test_one_function_for_a_phase() -> None:
    """A second function for one phase is refused, and the first stays."""
    agent = Agent("a")
    first = agent.verify(passes)
    with pytest.raises(InvalidInput, match="'a' has a function for verify already"):
        agent.verify(lambda loop: Verdict.passed())
    assert list(agent.functions.values()) == [first]
    assert repr(agent) == "Agent('a')"


def test_verify_there_must_be(store: MemoryStore) -> None:
    """An agent without verify is refused when it is run, and nothing is begun."""
    with pytest.raises(InvalidInput, match="has no verify function"):
        run(Agent("a"), "goal", store=store)
    assert store.roots() == []


def test_a_goal_there_must_be(store: MemoryStore) -> None:
    """An empty goal is refused, and so is what is no agent."""
    with pytest.raises((InvalidInput, WrongType)):
        run(agent_with(), "", store=store)
    with pytest.raises(WrongType, match="an Agent does the work"):
        run("agent", "goal", store=store)  # type: ignore[arg-type]
    assert store.roots() == []


# Phases and verdicts


def test_phases_in_order(store: MemoryStore) -> None:
    """The four phases are entered in order, each with the loop as it stands."""
    seen: list[tuple[str, int, str, int]] = []

    def look(loop: Loop) -> Verdict:
        seen.append((loop.phase.value, loop.turn, loop.goal, loop.depth))
        return Verdict.passed()

    assert run(agent_with(question=look, answer=look, produce=look, verify=look), "g", store=store).reason is (
        TerminationReason.SUCCESS
    )
    assert seen == [(phase, 1, "g", 0) for phase in ("question", "answer", "produce", "verify")]


def test_phases_without_function(store: MemoryStore) -> None:
    """A phase without a function is passed through, and stands in the history all the same."""
    run(agent_with(), "goal", store=store)
    assert [visit.place for visit in root_of(store).visits] == ["question", "answer", "produce", "verify"]


def test_passed(store: MemoryStore) -> None:
    """A passed verdict ends the loop with success; value, verdict and evidence are kept."""
    result = run(agent_with(verify=lambda loop: Verdict.passed({"rows": 3}, evidence="counted")), "goal", store=store)
    assert (result.status, result.reason, result.why) == (Status.COMPLETED, TerminationReason.SUCCESS, "")
    assert (result.value, result.verdict, result.evidence) == ({"rows": 3}, "passed", "counted")
    assert result.raise_for_failure() is result
    assert root_of(store).noted("verdict") == [{"verdict": "passed", "text": "", "evidence": "counted"}]


def test_revise(store: MemoryStore) -> None:
    """Revise begins the next turn, with the feedback at hand until the next verdict."""
    heard: list[tuple[int, str]] = []

    def listen(loop: Loop) -> None:
        heard.append((loop.turn, loop.feedback))

    def verify(loop: Loop) -> Verdict:
        return Verdict.revise(f"not {loop.turn}") if loop.turn < 3 else Verdict.passed()

    result = run(agent_with(question=listen, verify=verify), "goal", store=store)
    assert heard == [(1, ""), (2, "not 1"), (3, "not 2")]
    assert result.status is Status.COMPLETED
    assert [visit.reason for visit in root_of(store).visits if visit.place == "question"][1] == "revise: not 1"


def test_impossible(store: MemoryStore) -> None:
    """Impossible ends the loop as abandoned, its question invalid, and says why."""
    result = run(agent_with(verify=lambda loop: Verdict.impossible("no such package")), "goal", store=store)
    assert (result.status, result.reason) == (Status.ABANDONED, TerminationReason.QUESTION_INVALID)
    assert result.why == "no such package"
    with pytest.raises(LoopFailed, match="is abandoned: no such package") as failed:
        result.raise_for_failure()
    assert failed.value.result is result


def test_inconclusive(store: MemoryStore) -> None:
    """Inconclusive tries VERIFY again without another turn, three times in all; then a person is asked."""
    turns: list[int] = []

    def verify(loop: Loop) -> Verdict:
        turns.append(loop.turn)
        return Verdict.inconclusive("the network is down")

    result = run(agent_with(verify=verify), "goal", store=store)
    assert turns == [1] * MOST_INCONCLUSIVE == [1, 1, 1]
    assert (result.status, result.reason) == (Status.BLOCKED, None)
    assert "escalated: the network is down" in result.why
    with pytest.raises(LoopFailed, match="is blocked"):
        result.raise_for_failure()


def test_inconclusive_then_passed(store: MemoryStore) -> None:
    """A verify that can tell at its third try passes in the first turn; each turn has its own tries."""
    tries: list[int] = []

    def verify(loop: Loop) -> Verdict:
        tries.append(loop.turn)
        if len(tries) % 3:
            return Verdict.inconclusive("wait")
        return Verdict.revise("again") if loop.turn == 1 else Verdict.passed()

    assert run(agent_with(verify=verify), "goal", store=store).status is Status.COMPLETED
    assert tries == [1, 1, 1, 2, 2, 2]


def test_escalate(store: MemoryStore) -> None:
    """Escalate blocks the loop with the question; once resumed, VERIFY is entered again."""
    decided: list[str] = []
    agent = agent_with(verify=lambda loop: Verdict.passed() if decided else Verdict.escalate("ship it?"))
    result = run(agent, "goal", store=store)
    assert result.status is Status.BLOCKED
    assert result.why == f"{result.run_id}: escalated: ship it?"
    decided.append("yes")
    NestedLoopExecutor(store=store).resume(result.run_id)
    assert resume(store, result.run_id, agents=[agent]).status is Status.COMPLETED


@pytest.mark.parametrize("answer", [None, True, "passed"])
def test_no_verdict(store: MemoryStore, answer: object) -> None:
    """A verify that answers anything but a Verdict is inconclusive, however good its answer looks."""
    result = run(agent_with(verify=lambda loop: answer), "goal", store=store)
    assert result.status is Status.BLOCKED
    assert f"verify returns a Verdict, not {answer!r}" in result.why


def test_verify_that_raises(store: MemoryStore) -> None:
    """A verify that raises is inconclusive, not failed, and its error is told to the person asked."""
    result = run(agent_with(verify=lambda loop: loop.inputs["missing"], retry=Retry(9, delay=0)), "goal", store=store)
    assert result.status is Status.BLOCKED
    assert "verify raised KeyError: 'missing'" in result.why
    assert [said["verdict"] for said in root_of(store).noted("verdict")] == ["inconclusive"] * 3


@pytest.mark.parametrize("turns", [1, 4])
def test_max_turns_is_exact(store: MemoryStore, turns: int) -> None:
    """So many turns are made, not one more; then the budget is exhausted, and what was made is kept."""
    entered: list[int] = []

    def produce(loop: Loop) -> None:
        entered.append(loop.turn)
        loop.produce("draft", loop.turn)

    agent = agent_with(produce=produce, verify=lambda loop: Verdict.revise("shorter"), max_turns=turns)
    result = run(agent, "goal", store=store)
    assert entered == list(range(1, turns + 1))
    assert (result.status, result.reason) == (Status.ABANDONED, TerminationReason.BUDGET_EXHAUSTED)
    assert result.why == f"max_turns {turns} reached: shorter"
    assert result.artifacts == {"draft": turns}


def test_passing_in_the_last_turn(store: MemoryStore) -> None:
    """A verdict that passes in the last turn allowed counts."""
    agent = agent_with(
        verify=lambda loop: Verdict.passed(loop.turn) if loop.turn == 2 else Verdict.revise(""), max_turns=2
    )
    assert run(agent, "goal", store=store).value == 2


# Retry


def test_no_retry_by_default(store: MemoryStore) -> None:
    """A phase function that raises fails the loop at once, with error, cause and traceback kept."""

    def fail(loop: Loop) -> None:
        try:
            raise OSError("line cut")
        except OSError as error:
            raise ValueError("nothing read") from error

    result = run(agent_with(answer=fail), "goal", store=store)
    assert (result.status, result.reason, result.why) == (
        Status.FAILED,
        TerminationReason.ERROR,
        "ValueError: nothing read",
    )
    outcome = root_of(store).outcome
    assert isinstance(outcome, Failed)
    assert (outcome.attempts, outcome.root.type, outcome.root.message) == (1, "OSError", "line cut")
    assert "in fail" in outcome.error.traceback


def test_retry_until_it_goes(store: MemoryStore) -> None:
    """A phase is tried again in the same visit, and each failed attempt stands in the log."""
    tries: list[int] = []

    def flaky(loop: Loop) -> None:
        tries.append(loop.turn)
        if len(tries) < 3:
            raise ConnectionError(f"try {len(tries)}")

    assert run(agent_with(produce=flaky, retry=Retry(3, delay=0)), "goal", store=store).status is Status.COMPLETED
    assert tries == [1, 1, 1]
    assert root_of(store).noted("attempt") == [
        {"attempt": 1, "error": "ConnectionError: try 1", "by": "rule"},
        {"attempt": 2, "error": "ConnectionError: try 2", "by": "rule"},
    ]


def test_retry_is_exact(store: MemoryStore) -> None:
    """`max_attempts` in all are made, and the outcome says how many."""
    tries: list[int] = []

    async def fail(loop: Loop) -> None:
        tries.append(1)
        raise ConnectionError

    run(agent_with(answer=fail, retry=Retry(4, delay=0)), "goal", store=store)
    outcome = root_of(store).outcome
    assert isinstance(outcome, Failed)
    assert (len(tries), outcome.attempts) == (4, 4)


def test_retry_only_what_it_is_for(store: MemoryStore) -> None:
    """An error that the retry is not for fails the loop at the first attempt."""
    tries: list[int] = []

    def fail(loop: Loop) -> None:
        tries.append(1)
        raise (ConnectionError if len(tries) == 1 else KeyError)

    run(agent_with(answer=fail, retry=Retry(5, delay=0, retry_on=ConnectionError)), "goal", store=store)
    assert len(tries) == 2


def test_attempts_are_counted_per_visit(store: MemoryStore) -> None:
    """Each visit of a phase has all its attempts."""
    tries: list[int] = []

    def flaky(loop: Loop) -> None:
        tries.append(loop.turn)
        if tries.count(loop.turn) == 1:
            raise ConnectionError

    agent = agent_with(
        answer=flaky,
        verify=lambda loop: Verdict.passed() if loop.turn == 3 else Verdict.revise(""),
        retry=Retry(2, delay=0),
    )
    assert run(agent, "goal", store=store).status is Status.COMPLETED
    assert tries == [1, 1, 2, 2, 3, 3]


# Steps and effects


def test_steps_run_once(store: MemoryStore) -> None:
    """When a phase is entered again, steps that were done answer from the log, None too."""
    calls: list[str] = []
    values: list[object] = []

    def work(loop: Loop) -> None:
        values.append((loop.step("a", lambda: calls.append("a")), loop.step("b", sum, [1, 2])))
        if len(values) < 3:
            raise ConnectionError

    run(agent_with(answer=work, retry=Retry(3, delay=0)), "goal", store=store)
    assert calls == ["a"]
    assert values == [(None, 3)] * 3


def test_steps_of_another_visit(store: MemoryStore) -> None:
    """The next turn does its steps anew."""
    calls: list[int] = []
    agent = agent_with(
        answer=lambda loop: loop.step("a", calls.append, loop.turn),
        verify=lambda loop: Verdict.passed() if loop.turn == 2 else Verdict.revise(""),
    )
    run(agent, "goal", store=store)
    assert calls == [1, 2]


def test_steps_that_raise(store: MemoryStore) -> None:
    """A step that raised is not kept, and runs again; its key is a text."""
    calls: list[int] = []

    def flaky() -> int:
        calls.append(1)
        return 1 // (len(calls) - 1)

    result = run(
        agent_with(answer=lambda loop: loop.answer(loop.step("a", flaky)), retry=Retry(2, delay=0)), "goal", store=store
    )
    assert (len(calls), result.status) == (2, Status.COMPLETED)
    assert run(agent_with(answer=lambda loop: loop.step("", flaky)), "goal").status is Status.FAILED


def test_async_steps(store: MemoryStore) -> None:
    """A coroutine function as a step is awaited once, and its kept value is awaited afterwards."""
    calls: list[int] = []
    values: list[int] = []

    async def fetch(number: int) -> int:
        await asyncio.sleep(0)
        calls.append(number)
        return number

    async def work(loop: Loop) -> None:
        values.append(await loop.step("a", fetch, 7))
        if len(values) == 1:
            raise ConnectionError

    run(agent_with(answer=work, retry=Retry(2, delay=0)), "goal", store=store)
    assert (calls, values) == ([7], [7, 7])


def test_a_step_keeps_what_the_store_can_keep(store: MemoryStore) -> None:
    """A step's value that no store could keep fails the loop and names the spot."""
    result = run(agent_with(answer=lambda loop: loop.step("a", threading.Lock)), "goal", store=store)
    assert result.status is Status.FAILED
    assert "EncodeError" in result.why


def test_the_intent_comes_first(store: MemoryStore) -> None:
    """When an effect's function runs its intent is in the log; its value is kept, and it runs once."""
    seen: list[tuple[str, list[Any]]] = []

    def send(token: str) -> str:
        seen.append((token, root_of(store).noted("effect_intended")))
        return "sent"

    def work(loop: Loop) -> None:
        entries.append(loop.effect("mail", send))
        loop.answer(entries[-1])
        if len(entries) == 1:
            raise ConnectionError

    entries: list[object] = []
    run(agent_with(answer=work, retry=Retry(2, delay=0)), "goal", store=store)
    ((token, intents),) = seen
    assert intents == [{"key": "mail", "value": token}]
    assert entries == ["sent", "sent"]
    assert root_of(store).noted("answer") == ["sent"]


@pytest.mark.parametrize(
    ("found", "value", "calls"),
    [
        (Reconciled("done", "by then"), "by then", 1),
        (Reconciled("again"), "sent", 2),
        (Reconciled("skip"), None, 1),
    ],
)
def test_reconcile(store: MemoryStore, found: Reconciled, value: object, calls: int) -> None:
    """An effect that was open when the process died is what `reconcile` says: done, to be done again, or skipped."""
    tokens: list[str] = []
    asked: list[str] = []
    values: list[object] = []

    def send(token: str) -> str:
        tokens.append(token)
        return "sent" if len(tokens) == 2 else die()

    def reconcile(token: str) -> Reconciled:
        asked.append(token)
        return found

    agent = agent_with(answer=lambda loop: values.append(loop.effect("mail", send, reconcile=reconcile)))
    resume(store, dies(agent, store), agents=[agent])
    assert values == [value]
    assert len(tokens) == calls
    assert asked == tokens[:1]
    assert len(set(tokens)) == 1


@pytest.mark.parametrize(("told", "calls"), [("done", 1), ("again", 2), ("skip", 1)])
def test_reconcile_by_asking(store: MemoryStore, told: str, calls: int) -> None:
    """Where reconcile cannot know, a person is asked, and what they say is done."""
    tokens: list[str] = []

    def send(token: str) -> None:
        tokens.append(token)
        if len(tokens) == 1:
            die()

    agent = agent_with(answer=lambda loop: loop.effect("mail", send, reconcile=lambda token: Reconciled("ask")))
    root = dies(agent, store)
    assert "Did 'mail' happen?" in resume(store, root, agents=[agent]).why
    (asked,) = root_of(store).noted("asked")
    provide(store, root, asked["key"], told)
    assert resume(store, root, agents=[agent]).status is Status.COMPLETED
    assert len(tokens) == calls


def test_each_uncertain_effect_is_asked_about(store: MemoryStore) -> None:
    """What a person said of an effect in one turn is not taken for the same effect of the next."""
    tokens: list[str] = []

    def send(token: str) -> None:
        tokens.append(token)
        die()

    agent = agent_with(
        answer=lambda loop: loop.effect("mail", send, reconcile=lambda token: Reconciled("ask")),
        verify=lambda loop: Verdict.revise("") if loop.turn == 1 else Verdict.passed(),
    )
    root = dies(agent, store)
    resume(store, root, agents=[agent])
    provide(store, root, root_of(store).noted("asked")[-1]["key"], "done")
    with pytest.raises(ProcessDied):
        resume(store, root, agents=[agent])
    assert resume(store, root, agents=[agent]).status is Status.BLOCKED
    assert len(tokens) == 2


def test_an_uncertain_effect_without_reconcile(store: MemoryStore) -> None:
    """An effect that was begun is never called blindly a second time: the loop fails."""
    calls: list[str] = []

    def send(token: str) -> None:
        calls.append(token)
        die()

    agent = agent_with(answer=lambda loop: loop.effect("mail", send))
    result = resume(store, dies(agent, store), agents=[agent])
    assert result.status is Status.FAILED
    assert "EffectUncertain: effect 'mail'" in result.why
    assert "reconcile" in result.why
    assert len(calls) == 1


# What a loop has at hand


def test_inputs_and_artifacts(store: MemoryStore) -> None:
    """A loop finds its inputs, and the newest artifact of a name; what nobody made is a KeyError."""
    seen: list[object] = []

    def work(loop: Loop) -> None:
        seen.append(loop.inputs)
        loop.produce("r", 1)
        loop.produce("r", 2)
        seen.append(loop.artifact("r"))
        loop.artifact("s")

    result = run(agent_with(answer=work), "goal", store=store, inputs={"n": 3})
    assert seen == [{"n": 3}, 2]
    assert "has produced nothing called 's'" in result.why
    assert result.artifacts == {"r": 2}


def test_what_a_loop_says(store: MemoryStore) -> None:
    """Questions, answers, notes and decisions stand in the log, and answers are at hand in later phases."""
    later: list[Any] = []

    def say(loop: Loop) -> None:
        loop.ask("why?")
        loop.answer({"because": 1})
        loop.note("hm")
        loop.decide("go", "it is cheap")

    agent = agent_with(answer=say, produce=lambda loop: later.extend(loop.answers))
    assert run(agent, "goal", store=store).status is Status.COMPLETED
    root = root_of(store)
    assert [root.noted(topic) for topic in ("question", "answer", "note", "decision")] == [
        ["why?"],
        [{"because": 1}],
        ["hm"],
        [{"decision": "go", "rationale": "it is cheap"}],
    ]
    assert later == [{"because": 1}]


def test_without_inputs() -> None:
    """A loop that was given none has empty inputs."""
    assert run(agent_with(verify=lambda loop: Verdict.passed(dict(loop.inputs))), "goal").value == {}


def test_a_late_write_is_refused(store: MemoryStore) -> None:
    """What a phase function writes once its loop has been moved on belongs nowhere, and is refused."""
    refused: list[str] = []

    def work(loop: Loop) -> None:
        if loop.turn == 1 and not refused:
            NestedLoopExecutor(store=store).advance(loop.id)
            for write in (loop.note, loop.answer, lambda value: loop.step("s", str, value)):
                with pytest.raises(RunStateError, match="has left the visit"):
                    write("late")
            refused.append(loop.phase.value)

    result = run(agent_with(answer=work), "goal", store=store)
    assert refused == ["answer"]
    assert result.status is Status.COMPLETED
    assert [visit.place for visit in root_of(store).visits] == ["question", "answer", "produce", "verify"]
    assert root_of(store).entries is None or not root_of(store).noted("note")


# Sync and async


def test_sync_and_async_together(store: MemoryStore) -> None:
    """Sync phases run in worker threads, async ones in the event loop's, in one agent."""
    names: list[str] = []

    def sync(loop: Loop) -> None:
        names.append(threading.current_thread().name.rsplit("_", 1)[0])

    async def coroutine(loop: Loop) -> Verdict:
        await asyncio.sleep(0)
        sync(loop)
        return Verdict.passed(len(names))

    agent = agent_with(question=sync, answer=coroutine, produce=sync, verify=coroutine)
    assert run(agent, "goal", store=store).value == 4
    assert names == ["cortical-worker", "cortical-tasks"] * 2


def test_arun() -> None:
    """Inside an event loop `arun` drives, and the event loop goes on meanwhile."""

    async def main() -> tuple[Result, bool]:
        here, gone_on = asyncio.get_running_loop(), threading.Event()

        def answer(loop: Loop) -> None:
            here.call_soon_threadsafe(gone_on.set)
            loop.answer(gone_on.wait(timeout=10))

        return await arun(agent_with(answer=answer, verify=lambda loop: Verdict.passed(loop.answers)), "goal"), True

    assert asyncio.run(main())[0].value == [True]


def test_run_inside_an_event_loop(store: MemoryStore) -> None:
    """`run` and `resume` inside an event loop are refused, with what to do instead; nothing is begun."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"await arun\("):
            run(agent_with(), "goal", store=store)
        with pytest.raises(RuntimeError, match=r"await asyncio\.to_thread\("):
            resume(store, "x")

    asyncio.run(main())
    assert store.roots() == []


def test_a_cancelled_task_of_its_own(store: MemoryStore) -> None:
    """A phase that ends because a task of its own was cancelled fails its loop, and is not entered for ever."""

    async def give_up(loop: Loop) -> None:
        task = asyncio.ensure_future(asyncio.get_running_loop().create_future())
        asyncio.get_running_loop().call_soon(task.cancel)
        assert not loop.step("once", bool, loop.answers)
        loop.answer("entered")
        await task

    result = run(agent_with(answer=give_up), "goal", store=store)
    assert result.status is Status.FAILED
    assert root_of(store).noted("answer") == ["entered"]


# People


def test_ask_and_provide(store: MemoryStore) -> None:
    """A question blocks the loop until it is answered; then the phase is entered again and finds the answer."""
    entered: list[str] = []

    def ask(loop: Loop) -> None:
        entered.append(loop.phase.value)
        loop.answer([loop.ask_human("Which one?"), loop.ask_human("How many?", key="n")])

    agent = agent_with(answer=ask, verify=lambda loop: Verdict.passed(loop.answers[-1]))
    result = run(agent, "goal", store=store)
    assert (result.status, result.why) == (Status.BLOCKED, f"{result.run_id}: Which one?")
    provide(store, result.run_id[:8], "Which one?", "left")
    assert resume(store, result.run_id, agents=[agent]).why.endswith("How many?")
    provide(store, result.run_id, "n", 2)
    assert resume(store, result.run_id, agents=[agent]).value == ["left", 2]
    assert entered == ["answer"] * 3


def test_ask_in_an_async_phase(store: MemoryStore) -> None:
    """A coroutine may ask a person too."""

    async def ask(loop: Loop) -> Verdict:
        return Verdict.passed(loop.ask_human("Good?"))

    agent = agent_with(verify=ask)
    result = run(agent, "goal", store=store)
    assert result.status is Status.BLOCKED
    provide(store, result.run_id, "Good?", True)
    assert resume(store, result.run_id, agents=[agent]).value is True


def test_an_answer_while_driven(store: MemoryStore) -> None:
    """While others keep the driver busy, an answer from outside is noticed, and the loop goes on."""
    asks = agent_with(
        "asks", answer=lambda loop: loop.answer(loop.ask_human("Go?")), verify=lambda loop: Verdict.passed(loop.answers)
    )
    blocked = threading.Event()
    waits = agent_with("waits", answer=lambda loop: until(lambda: blocked.is_set() and answered(store)))

    def spawn(loop: Loop) -> None:
        loop.spawn("asks", agent=asks)
        loop.spawn("waits", agent=waits)

    def answer() -> None:
        root = until(lambda: store.roots())[0].id
        asking = until(lambda: [run for run in Tree.of(store.read(root)).walk() if run.status is Status.BLOCKED])
        provide(store, asking[0].id, "Go?", "yes")
        blocked.set()

    person = threading.Thread(target=answer)
    person.start()
    result = run(agent_with(answer=spawn, concurrency=2), "goal", store=store)
    person.join()
    assert list(result.children.values()) == [["yes"], "waits"]


def answered(store: Store) -> bool:
    """Whether the child that asks has ended, though its sibling still works."""
    return any(child.status is Status.COMPLETED for child in root_of(store).children)


def test_a_question_with_a_time_limit(store: MemoryStore) -> None:
    """When the time for an answer is over, the default is taken for it; the driver waits until then."""
    clock = FakeClock()

    def pass_time() -> None:
        until(lambda: store.roots() and store.roots()[0].status is Status.BLOCKED)
        clock.advance(60)

    agent = agent_with(answer=lambda loop: loop.answer(loop.ask_human("Go?", timeout=60, default="no")))
    passing = threading.Thread(target=pass_time)
    passing.start()
    result = run(agent, "goal", store=store, clock=clock)
    passing.join()
    assert result.status is Status.COMPLETED
    assert root_of(store).noted("answer") == ["no"]


def test_a_time_limit_over_between_two_drivers(store: MemoryStore) -> None:
    """A limit that ran out while nobody drove is seen by the next driver; an answer given in time comes first."""
    for told in (None, "yes"):
        clock = FakeClock()
        agent = agent_with(answer=lambda loop: loop.answer(loop.ask_human("Go?", timeout=60, default="no")))
        journal = Journal(store, clock=clock)
        recorded = {"agent": agent.as_recorded(), "inputs": None}
        root = journal.plant(journal.new_id(), rules.start, "loop", "goal", place="question", metadata=recorded)
        journal.change(root.id, rules.move, "answer")
        asked = {"key": "Go?", "question": "Go?", "until": clock.time() + 60, "default": "no"}
        journal.change(root.id, rules.noting, [("asked", asked)], rules.block, "Go?")
        if told:
            provide(store, root.id, "Go?", told)
        clock.advance(100)
        assert resume(store, root.id, agents=[agent], clock=clock).status is Status.COMPLETED
        assert Tree.of(store.read(root.id)).root.noted("answer") == [told or "no"]


@pytest.mark.timeout(20)
def test_an_escalation_is_no_question_with_a_limit(store: MemoryStore) -> None:
    """A loop that escalates stays blocked, though the time of a question it asked earlier is over."""
    clock = FakeClock()
    agent = agent_with(
        answer=lambda loop: loop.ask_human("Go?", timeout=60, default="no"),
        verify=lambda loop: Verdict.escalate("ship it?") if loop.turn == 1 else Verdict.passed(),
    )

    def pass_time() -> None:
        until(lambda: store.roots() and store.roots()[0].status is Status.BLOCKED)
        clock.advance(100)

    passing = threading.Thread(target=pass_time)
    passing.start()
    result = run(agent, "goal", store=store, clock=clock)
    passing.join()
    assert result.why.endswith("escalated: ship it?")
    assert len(root_of(store).noted("verdict")) == 1


class MeddlingClock(FakeClock):
    """Lets something happen at the so-manieth time that the driving thread asks for the time."""

    def __init__(self, at_call: int, meddle: Callable[[], None]) -> None:
        super().__init__()
        self._calls_left, self._meddle = at_call, meddle

    def time(self) -> float:
        """The time, after what is to happen."""
        if threading.current_thread() is threading.main_thread():
            self._calls_left -= 1
            if self._calls_left == 0:
                self._meddle()
        return super().time()


@pytest.mark.parametrize("at_call", range(1, 5))
def test_an_answer_as_the_time_runs_out(store: MemoryStore, at_call: int) -> None:
    """An answer that comes at the very moment of the default hurts nothing: one of the two is taken."""
    agent = agent_with(answer=lambda loop: loop.answer(loop.ask_human("Go?", timeout=60, default="no")))
    journal = Journal(store, clock=FakeClock())
    recorded = {"agent": agent.as_recorded(), "inputs": None}
    root = journal.plant(journal.new_id(), rules.start, "loop", "goal", place="question", metadata=recorded)
    journal.change(root.id, rules.move, "answer")
    asked = {"key": "Go?", "question": "Go?", "until": 0.0, "default": "no"}
    journal.change(root.id, rules.noting, [("asked", asked)], rules.block, "Go?")

    def answer() -> None:
        with suppress(RunStateError):
            provide(store, root.id, "Go?", "yes")

    assert resume(store, root.id, agents=[agent], clock=MeddlingClock(at_call, answer)).status is Status.COMPLETED
    assert len(root_of(store).noted("provided")) == 1
    assert root_of(store).noted("answer") == [root_of(store).noted("provided")[0]["value"]]


def test_provide_needs_a_question(store: MemoryStore) -> None:
    """An answer for a loop that is not blocked, has ended, or is not there is refused."""
    result = run(agent_with(), "goal", store=store)
    before = store.read(result.run_id)
    with pytest.raises(RunStateError):
        provide(store, result.run_id, "k", 1)
    with pytest.raises(RunNotFound):
        provide(store, "nobody", "k", 1)
    assert store.read(result.run_id) == before


def test_provide_does_not_unpause(store: MemoryStore) -> None:
    """A loop that was paused by hand is not made to go on by an answer nobody asked for."""
    agent = agent_with(answer=lambda loop: NestedLoopExecutor(store=store).pause(loop.id, "lunch"))
    result = run(agent, "goal", store=store)
    assert result.status is Status.PAUSED
    with pytest.raises(RunStateError):
        provide(store, result.run_id, "k", 1)
    assert root_of(store).status is Status.PAUSED


# Carrying on


def test_an_ended_tree_is_only_looked_at(store: MemoryStore) -> None:
    """Resuming a tree that has ended gives its result again, writes nothing and needs no agent."""
    result = run(agent_with(), "goal", store=store)
    log = store.read(result.run_id)
    assert resume(store, result.run_id) == result
    assert store.read(result.run_id) == log


def test_resume_from_any_process(tmp_path: Path) -> None:
    """A store given by its path is opened and closed by each call; an agent of a module is found by its path."""
    path = tmp_path / "runs.db"
    result = run(asker, "goal", store=path)
    assert result.status is Status.BLOCKED
    provide(path, result.run_id, "colour", "green")
    assert resume(path, result.run_id).value == "green"


def test_what_cannot_be_resumed(store: MemoryStore) -> None:
    """A loop that no agent was set to cannot be driven; one that is not there neither."""
    root = NestedLoopExecutor(store=store).start_root("by hand")
    with pytest.raises(AgentNotFound, match="run its program again, which alone can drive it"):
        resume(store, root)
    with pytest.raises(RunNotFound):
        resume(store, "nobody")


def test_a_local_agent_has_to_be_given(store: MemoryStore) -> None:
    """An agent that is in no module's attribute is not found again, and the error says what to do."""
    agent = agent_with(answer=die)
    root = dies(agent, store)
    log = store.read(root)
    with pytest.raises(AgentNotFound, match=r"resume\(store, run_id, agents=\[…\]\)"):
        resume(store, root)
    assert store.read(root) == log
    assert store.lease_of(root) is None or resume(store, root, agents=[agent_with()], allow_changed=True)


def test_an_agent_of_a_script_has_to_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent defined in `__main__` has no path that another process could import it by."""
    script = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", script)
    exec("from cortical.agents import Agent\nagent = Agent('a')", vars(script))
    assert script.agent.path == ""
    with pytest.raises(AgentNotFound):
        Agents().find(script.agent.as_recorded())


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("no_such_module:agent", "is no longer at"),
        ("tests.integration.agent_scenarios:nothing", "is no longer at"),
        ("tests.integration.agent_scenarios:calls", "is no agent called"),
        ("tests.integration.agent_scenarios:leaf", "is no agent called"),
    ],
)
def test_an_agent_that_has_gone(path: str, told: str) -> None:
    """An agent that is no longer where it was is named, with where that was."""
    with pytest.raises(AgentNotFound, match=told):
        Agents().find({"name": "asker", "path": path, "digest": ""})


def test_an_agent_that_has_changed(store: MemoryStore) -> None:
    """A loop does not go on with an agent whose code or policies are others, unless that is allowed."""
    root = dies(agent_with(answer=die), store)
    changed = agent_with(answer=lambda loop: None)
    for other in (changed, agent_with(answer=die, max_turns=3)):
        with pytest.raises(AgentChanged, match="allow_changed=True"):
            resume(store, root, agents=[other])
    assert resume(store, root, agents=[changed], allow_changed=True).status is Status.COMPLETED


def test_digests_tell_code_apart() -> None:
    """A digest is equal for equal functions, and another when a constant, a name, an inner function or a phase is."""

    def digest(source: str, phase: str = "verify") -> str:
        space: dict[str, Any] = {}
        exec(source, space)
        return agent_with(**{phase: space["f"]}).digest

    first = "def f(loop):\n    return (lambda: loop.goal in {'a', 'b'})() and 1"
    assert digest(first) == digest(f"# moved\n\n{first}")
    others = [
        first.replace("1", "2"),
        first.replace("goal", "id"),
        first.replace("'b'", "'c'"),
        first.replace("in", "not in"),
    ]
    assert len({digest(source) for source in [first, *others]} | {digest(first, "answer")}) == 6
    assert agent_with(answer=print).digest == agent_with(answer=print).digest != agent_with(answer=len).digest


def test_two_agents_of_one_name(store: MemoryStore) -> None:
    """In one tree an agent's name is its own."""
    with pytest.raises(InvalidInput, match="two agents are called 'a'"):
        Agents([agent_with("a"), agent_with("a")])
    result = run(agent_with("a", answer=lambda loop: loop.spawn("x", agent=agent_with("a"))), "goal", store=store)
    assert "two agents are called 'a'" in result.why


# Leases


def in_a_phase(store: MemoryStore, clock: FakeClock) -> tuple[threading.Thread, threading.Event, list[Any]]:
    """A driver in a thread that stands in its answer phase until the event is set; and what becomes of it."""
    entered, go_on = threading.Event(), threading.Event()
    ends: list[Any] = []

    def answer(loop: Loop) -> None:
        if not entered.is_set():
            entered.set()
            go_on.wait(timeout=20)
        loop.note("written")

    def drive() -> None:
        try:
            ends.append(run(held := agent_with(answer=answer), "goal", store=store, clock=clock))
        except StoreError as error:
            ends.append(error)
        ends.append(held)

    thread = threading.Thread(target=drive, name="first driver")
    thread.start()
    assert entered.wait(timeout=20)
    return thread, go_on, ends


def test_a_second_driver_is_refused(store: MemoryStore) -> None:
    """While a tree is driven a second driver is told who drives it, and does nothing; afterwards the lease is free."""
    clock = FakeClock()
    thread, go_on, ends = in_a_phase(store, clock)
    (root,) = store.roots()
    log = store.read(root.id)
    with pytest.raises(LeaseHeld, match="first driver"):
        resume(store, root.id, clock=clock)
    assert store.read(root.id) == log
    go_on.set()
    thread.join()
    assert ends[0].status is Status.COMPLETED
    assert store.take_lease(root.id, "anybody", now=clock.time(), seconds=1).holder == "anybody"


def test_threads_of_one_name_are_two_drivers(store: MemoryStore) -> None:
    """A thread that happens to be called like the one that drives is refused as well."""
    clock = FakeClock()
    thread, go_on, ends = in_a_phase(store, clock)
    refused: list[LeaseHeld] = []

    def second() -> None:
        try:
            resume(store, store.roots()[0].id, agents=[agent_with()], allow_changed=True, clock=clock)
        except LeaseHeld as held:
            refused.append(held)

    namesake = threading.Thread(target=second, name="first driver")
    namesake.start()
    namesake.join()
    go_on.set()
    thread.join()
    assert len(refused) == 1
    assert ends[0].status is Status.COMPLETED


def test_a_late_driver_writes_nothing(store: MemoryStore) -> None:
    """After another took over a lease that ran out, the first one's writes are refused and it ends by LeaseLost."""
    clock = FakeClock()
    thread, go_on, ends = in_a_phase(store, clock)
    (root,) = store.roots()
    clock.advance(60)
    taking_over = agent_with(answer=lambda loop: loop.ask_human("Go?"))
    assert resume(store, root.id, agents=[taking_over], allow_changed=True, clock=clock).status is Status.BLOCKED
    log = store.read(root.id)
    go_on.set()
    thread.join()
    assert isinstance(ends[0], LeaseLost)
    assert store.read(root.id) == log


def test_a_lease_is_renewed(store: MemoryStore) -> None:
    """A lease is renewed while its driver lives, however long a phase takes."""
    first: list[float] = []

    def answer(loop: Loop) -> None:
        def later() -> bool:
            lease = store.lease_of(loop.id)
            assert lease is not None
            first.append(lease.expires_at)
            return lease.expires_at > first[0]

        until(later)

    assert run(agent_with(answer=answer), "goal", store=store, lease_seconds=0.06).status is Status.COMPLETED


def test_a_lease_that_is_lost_while_idle(store: MemoryStore) -> None:
    """A driver that finds its lease gone when it would renew it ends by LeaseLost, though no phase writes."""

    def answer(loop: Loop) -> None:
        lease = store.lease_of(loop.id)
        assert lease is not None
        store.take_lease(loop.id, "thief", now=lease.expires_at + 100, seconds=100)

    with pytest.raises(LeaseLost):
        run(agent_with(answer=answer), "goal", store=store, lease_seconds=0.03)
    (root,) = store.roots()
    lease = store.lease_of(root.id)
    assert lease is not None
    assert lease.holder == "thief"


# Stopping


def driving(store: Store, agent: Agent) -> Driver:
    """A driver of a new tree."""
    journal = Journal(store, clock=FakeClock())
    recorded = {"agent": agent.as_recorded(), "inputs": None}
    root = journal.plant(journal.new_id(), rules.start, "loop", "goal", place="question", metadata=recorded)
    return Driver(journal, root.id, Agents([agent]))


def test_drain(store: MemoryStore) -> None:
    """A drained driver lets the open phase finish, begins no other, and leaves the tree to be taken up."""
    held: list[Driver] = []
    phases: list[str] = []

    def answer(loop: Loop) -> None:
        held[0].drain()
        phases.append("answer")
        loop.answer("finished")

    agent = agent_with(answer=answer, produce=lambda loop: phases.append("produce"))
    held.append(driving(store, agent))
    root = held[0].drive()
    assert (phases, root.status, root.place) == (["answer"], Status.ACTIVE, "produce")
    assert resume(store, root.id, agents=[agent]).status is Status.COMPLETED
    assert phases == ["answer", "produce"]


class WatchedStore(MemoryStore):
    """Counts how often the driver looks for what others have written."""

    def __init__(self) -> None:
        super().__init__(strict=True)
        self.looks = 0

    def read(self, root_id: str, start: int = 0) -> list[Event]:
        """As the store reads; counted."""
        self.looks += threading.current_thread() is threading.main_thread()
        return super().read(root_id, start)


def test_drain_from_outside() -> None:
    """A drain asked for by another process is noticed while a phase works; the next driver goes on to the end."""
    store = WatchedStore()
    drained: list[str] = []

    def answer(loop: Loop) -> None:
        if not drained:
            drained.append("asked")
            Journal(store, clock=FakeClock()).change(loop.id, rules.note, DRAIN, "maintenance")
        enough = store.looks + 2
        until(lambda: store.looks >= enough)

    agent = agent_with(answer=answer, produce=answer)
    result = run(agent, "goal", store=store)
    assert (result.status, root_of(store).place) == (Status.ACTIVE, "produce")
    assert resume(store, result.run_id, agents=[agent]).status is Status.COMPLETED


def test_a_store_that_fails(store: MemoryStore) -> None:
    """When nothing can be written any more the driver raises; what was kept can be carried on."""
    calls: list[str] = []
    agent = agent_with(answer=lambda loop: loop.step("a", calls.append, "a"))
    dying = DyingStore(store, 4)
    with pytest.raises((ProcessDied, StoreError)):
        run(agent, "goal", store=dying)
    assert dying.dead
    clock = FakeClock(2e9)
    assert resume(store, store.roots()[0].id, agents=[agent], clock=clock).status is Status.COMPLETED


def test_an_executor_drives_agents_too() -> None:
    """`execute_with_nesting` drives a tree that is the executor's own, to be looked at with all it offers."""
    executor = NestedLoopExecutor()
    child = agent_with("child", verify=lambda loop: Verdict.passed(loop.goal.upper()))
    agent = agent_with(answer=lambda loop: loop.spawn("a", agent=child), verify=_results)
    result = executor.execute_with_nesting("goal", agent, budget=Budget(descendants=1), inputs={"n": 1})
    assert result.value == ["A"]
    assert executor.get_summary()["status_counts"] == {"completed": 2}
    assert executor.get_loop(result.run_id).child_ids == list(result.children)
    poor = executor.execute_with_nesting("goal", agent, budget=Budget(descendants=0))
    assert (poor.status, poor.limit) == (Status.ABANDONED, "descendants")
    with pytest.raises(LoopFailed, match="limit of 0 descendants"):
        poor.raise_for_failure()


def _results(loop: Loop) -> Verdict:
    return Verdict.passed(list(loop.child_results.values()))
