"""What the library gives to those who test: agents that follow a script, captured events, trees compared."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest

import cortical.testing
from cortical.agents import Agent, AgentChanged, Loop, Retry, Verdict, provide, resume, run
from cortical.core.errors import CorticalError, InvalidInput, StoreError, WrongType
from cortical.core.events import Ended, Moved, Noted, Started
from cortical.core.outcome import Failed
from cortical.core.phases import LoopPhase
from cortical.core.status import Status, TerminationReason
from cortical.core.tree import Tree
from cortical.reasoning import NestedLoopExecutor
from cortical.store import MemoryStore, Store, open_store
from cortical.testing import (
    CapturedEvents,
    DyingStore,
    FakeClock,
    ProcessDied,
    ScriptedAgent,
    ScriptEnded,
    capture_events,
    crash_everywhere,
    outline,
)
from tests.threads import in_threads
from tests.unit.kept import strict

at_module_level = ScriptedAgent("at-module-level", answers=["found again"])


# An agent that follows a script


def test_a_script_is_followed_turn_by_turn() -> None:
    """Each turn takes the next answer, artifacts and verdict, and the last verdict's result is the value."""
    agent = ScriptedAgent(
        "reviewer",
        answers=["first", "second"],
        artifacts=[{"report": "draft"}, {"report": "final", "notes": [1]}],
        verdicts=[Verdict.revise("more"), Verdict.passed("done", evidence=2)],
    )
    store = strict()
    result = run(agent, "Review", store=store, inputs={"page": 7})
    assert (result.value, result.evidence, result.artifacts) == ("done", 2, {"report": "final", "notes": [1]})
    assert Tree.of(store.read(result.run_id)).root.noted("answer") == ["first", "second"]
    assert [(asked.phase.value, asked.turn, asked.feedback) for asked in agent.asked] == [
        ("answer", 1, ""),
        ("produce", 1, ""),
        ("verify", 1, ""),
        ("answer", 2, "more"),
        ("produce", 2, "more"),
        ("verify", 2, "more"),
    ]
    assert {(asked.loop_id, asked.goal, asked.inputs["page"]) for asked in agent.asked} == {
        (result.run_id, "Review", 7)
    }


def test_without_verdicts_the_answer_is_the_value() -> None:
    """A script of answers alone passes in the first turn; one of nothing at all too, with no value."""
    assert run(ScriptedAgent("a", answers=["x", "never"]), "g").value == "x"
    nothing = run(ScriptedAgent("b"), "g")
    assert (nothing.status, nothing.value) == (Status.COMPLETED, None)


def test_an_exception_in_the_script_is_raised() -> None:
    """The loop fails with it; in VERIFY it is inconclusive, and the next verdict is taken."""
    failed = run(ScriptedAgent("a", answers=[ConnectionError("away")]), "g")
    assert (failed.status, failed.reason) == (Status.FAILED, TerminationReason.ERROR)
    assert "ConnectionError: away" in failed.why
    asked_again = ScriptedAgent("b", verdicts=[OSError("disk"), Verdict.inconclusive("?"), Verdict.passed(3)])
    assert run(asked_again, "g").value == 3
    assert [asked.turn for asked in asked_again.asked] == [1, 1, 1]


def test_a_phase_tried_again_takes_the_next_entry() -> None:
    """After a failure that a policy covers, the script goes on, and in the next turn from there."""
    agent = ScriptedAgent(
        "a",
        answers=[ConnectionError("away"), "first", "second"],
        artifacts=[{"n": 1}, {"n": 2}],
        verdicts=[Verdict.revise("more"), Verdict.passed()],
        retry=Retry(2, delay=0),
    )
    result = run(agent, "g", store=(store := strict())).raise_for_failure()
    assert Tree.of(store.read(result.run_id)).root.noted("answer") == ["first", "second"]
    assert result.artifacts == {"n": 2}


def test_a_function_in_the_script_is_called_with_the_loop() -> None:
    """What it returns is the entry."""

    def shout(loop: Loop) -> str:
        return loop.goal.upper()

    agent = ScriptedAgent("a", answers=[shout], artifacts=[lambda loop: {"turn": loop.turn}])
    result = run(agent, "hello")
    assert (result.value, result.artifacts) == ("HELLO", {"turn": 1})


def test_children_are_spawned_and_each_has_the_script_to_itself() -> None:
    """Loops of one agent that run at the same time each follow it from its beginning, or that of their goal."""
    verdicts = [Verdict.revise("again"), lambda loop: Verdict.passed(list(loop.answers))]
    page = ScriptedAgent("page", answers=["x", "y"], verdicts=verdicts)
    named = ScriptedAgent("named", answers={"p": ["P"], "q": ["Q"]})
    top = ScriptedAgent(
        "top",
        children=[{"a": page, "b": page, "c": page, "p": named, "q": named}],
        verdicts=[lambda loop: Verdict.passed(list(loop.child_results.values()))],
        concurrency=5,
    )
    result = run(top, "all", store=strict())
    assert result.value == [["x", "y"]] * 3 + ["P", "Q"]
    assert list(top.asked[-1].child_results.values()) == result.value
    assert sorted(asked.goal for asked in page.asked if asked.phase is LoopPhase.ANSWER) == [
        "a",
        "a",
        "b",
        "b",
        "c",
        "c",
    ]


@pytest.mark.parametrize(
    ("given", "phase", "told"),
    [
        ({"answers": ["only"], "verdicts": [Verdict.revise("more")] * 2}, LoopPhase.ANSWER, "has 1 answers"),
        ({"artifacts": []}, LoopPhase.PRODUCE, "has 0 artifacts"),
        ({"verdicts": [Verdict.revise("more")]}, LoopPhase.VERIFY, "has 1 verdicts"),
        ({"answers": {"another goal": ["x"]}}, LoopPhase.ANSWER, "has 0 answers for the goal 'g'"),
    ],
)
def test_a_script_that_has_ended_is_told(given: dict[str, Any], phase: LoopPhase, told: str) -> None:
    """Running out of a list ends the driving with an error that names agent, phase and number."""
    with pytest.raises(ScriptEnded, match=told) as ended:
        run(ScriptedAgent("short", **given), "g")
    assert (ended.value.agent, ended.value.phase, ended.value.goal) == ("short", phase, "g")
    assert f"'short' has {ended.value.count}" in str(ended.value)
    assert f"asked in {phase.value} for number {ended.value.count + 1}" in str(ended.value)


def test_no_policy_hides_the_end_of_a_script() -> None:
    """Neither a parent that carries on nor a retry takes it for a failure."""
    child = ScriptedAgent("child", answers=[], retry=Retry(3, delay=0))
    parent = ScriptedAgent("parent", children=[{"c": child}], on_child_failure="carry on")
    with pytest.raises(ScriptEnded, match="'child'"):
        run(parent, "g")


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"answers": "one text"}, WrongType, "answers are a list"),
        ({"answers": 5}, WrongType, "answers are a list"),
        ({"answers": {"goal": "text"}}, WrongType, "answers are a list"),
        ({"verdicts": ["passed"]}, WrongType, "is a Verdict"),
        ({"verdicts": [Verdict.passed]}, InvalidInput, r"call it, as in Verdict\.passed\(\)"),
        ({"answers": [ValueError]}, InvalidInput, "give an exception"),
        ({"artifacts": ["report"]}, WrongType, "contents by name"),
        ({"children": [["a", "b"]]}, WrongType, "agents by goal"),
        ({"children": [{"a": "page"}]}, WrongType, "has an Agent for each goal"),
        ({"answers": ["x"], "concurrency": 0}, CorticalError, "concurrency"),
    ],
)
def test_what_makes_no_script_is_refused_when_it_is_written(
    given: dict[str, Any], error: type[Exception], told: str
) -> None:
    """A mistake in a list is an error at once, not in the middle of a run."""
    with pytest.raises(error, match=told):
        ScriptedAgent("a", **given)


def test_a_coroutine_function_is_no_entry() -> None:
    """It would be recorded as an answer instead of being awaited."""

    async def later(loop: Loop) -> str:
        return loop.goal

    with pytest.raises(WrongType, match="coroutine"):
        ScriptedAgent("a", answers=[later])


def test_what_a_function_returns_is_checked() -> None:
    """Children that are none fail the loop with an error that says what they should be."""
    result = run(ScriptedAgent("a", children=[lambda loop: ["b"]]), "g")
    assert "agents by goal" in result.why


def scripts() -> list[Callable[[], ScriptedAgent]]:
    """Scripts that differ from each other in one thing each."""
    child, other = Agent("child"), Agent("other")
    return [
        lambda: ScriptedAgent("a"),
        lambda: ScriptedAgent("a", answers=["x"]),
        lambda: ScriptedAgent("a", answers=["x", "y"]),
        lambda: ScriptedAgent("a", answers={"g": ["x"]}),
        lambda: ScriptedAgent("a", answers=[{"x"}]),
        lambda: ScriptedAgent("a", answers=[ValueError("x")]),
        lambda: ScriptedAgent("a", answers=[ValueError("y")]),
        lambda: ScriptedAgent("a", answers=[lambda loop: loop.goal]),
        lambda: ScriptedAgent("a", answers=[lambda loop: loop.turn]),
        lambda: ScriptedAgent("a", artifacts=[{"x": 1}]),
        lambda: ScriptedAgent("a", artifacts=[{"x": 2}]),
        lambda: ScriptedAgent("a", children=[{"x": child}]),
        lambda: ScriptedAgent("a", children=[{"x": other}]),
        lambda: ScriptedAgent("a", verdicts=[Verdict.passed(1)]),
        lambda: ScriptedAgent("a", verdicts=[Verdict.passed(2)]),
        lambda: ScriptedAgent("a", verdicts=[Verdict.revise("1")]),
        lambda: ScriptedAgent("a", verdicts=[Verdict.revise("1")], max_turns=3),
    ]


def test_the_digest_is_that_of_the_script() -> None:
    """The same script has the same digest each time it is written, and no two others share one."""
    digests = [make().digest for make in scripts()]
    assert digests == [make().digest for make in scripts()]
    assert len(set(digests)) == len(digests)


def test_the_digest_is_the_same_in_every_process() -> None:
    """Sets, functions and values that no store could keep change nothing about that."""
    program = (
        "from cortical.testing import ScriptedAgent\n"
        "print(ScriptedAgent('a', answers=[{'x', 'y', 'z'}, object(), lambda loop: {'p', 'q'} | set('abc')]).digest)"
    )
    said = {subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(said) == 1


def test_a_changed_script_is_noticed_at_resume() -> None:
    """A loop is not gone on with by a script that it was not started with, unless that is asked for."""
    store = strict()
    blocked = run(ScriptedAgent("a", answers=["x"], verdicts=[Verdict.escalate("is it?")]), "g", store=store)
    assert blocked.status is Status.BLOCKED
    NestedLoopExecutor(store=store).resume(blocked.run_id)
    changed = ScriptedAgent("a", answers=["x"], verdicts=[Verdict.escalate("is it?"), Verdict.passed("it is")])
    with pytest.raises(AgentChanged, match="'a' has changed"):
        resume(store, blocked.run_id, agents=[changed])
    assert resume(store, blocked.run_id, agents=[changed], allow_changed=True).value == "it is"


def test_one_at_module_level_is_found_by_its_path() -> None:
    """As every agent, it is imported again from where it was defined."""
    assert at_module_level.path == f"{__name__}:at_module_level"
    store = strict()
    with pytest.raises(ProcessDied):
        run(at_module_level, "g", store=DyingStore(store, 2), clock=(clock := FakeClock()))
    clock.advance(60)
    assert resume(store, store.roots()[0].id, clock=clock).value == "found again"


def test_scripts_survive_a_crash_at_every_write() -> None:
    """A phase that is entered again after a crash takes the same entry: the trees are those of a calm run."""
    clock = FakeClock()
    verdicts = [Verdict.revise("more"), Verdict.inconclusive("?"), Verdict.passed("done")]
    page = ScriptedAgent("page", answers=["x", OSError("disk"), "y"], verdicts=verdicts, retry=Retry(2, delay=0))
    top = ScriptedAgent("top", answers=["a"], artifacts=[{"n": [1]}], children=[{"p": page, "q": page}])

    def scenario(store: Store) -> None:
        clock.advance(60)
        roots = store.roots()
        if roots:
            result = resume(store, roots[0].id, agents=[top, page], clock=clock)
        else:
            result = run(top, "all", store=store, clock=clock)
        assert list(result.children.values()) == ["done", "done"]

    assert crash_everywhere(scenario).writes > 20


# Events captured


def test_events_of_an_executor_are_captured() -> None:
    """They stand in the list as they are told, and can be asked for by run, type and topic."""
    executor = NestedLoopExecutor()
    executor.start_root("before")
    with capture_events(executor) as events:
        root = executor.start_root("g")
        assert [type(event) for event in events] == [Started]
        executor.advance(root)
        executor.record_answer(root, "x")
        child = executor.spawn_child(root, "c")
        executor.complete(child, 1)
    executor.complete(root)
    assert [moved.place for moved in events.of_type(Moved)] == ["answer"]
    assert [type(event) for event in events.of(child)] == [Started, Ended]
    assert (events.topics(), events.noted("answer"), events.noted("note")) == (["answer"], ["x"], [])
    assert events.of("nobody") == []
    assert isinstance(events.of(child), CapturedEvents)
    assert len(events) == 7


def test_nothing_stays_subscribed() -> None:
    """After the block, however it ended, nobody listens any more."""
    executor = NestedLoopExecutor()
    with suppress(ValueError), capture_events(executor.journal) as events:
        executor.start_root("g")
        raise ValueError("out of here")
    executor.start_root("h")
    assert [event.name for event in events.of_type(Started)] == ["g"]
    assert executor.journal.subscribers._handlers == ()


def test_events_of_a_transaction_that_was_undone_are_not_captured() -> None:
    """What did not become true was not told."""
    executor = NestedLoopExecutor()
    with capture_events(executor) as events, suppress(RuntimeError), executor.transaction():
        executor.start_root("g")
        raise RuntimeError
    assert events == []


def test_events_of_several_threads_are_captured() -> None:
    """All that they record is there, each tree in order."""
    executor = NestedLoopExecutor()

    def walk(name: str) -> None:
        root = executor.start_root(name)
        for number in range(20):
            executor.record_answer(root, number)

    with capture_events(executor) as events:
        in_threads(walk, [f"t{n}" for n in range(6)])
    assert len(events) == 6 * 21
    for started in events.of_type(Started):
        assert events.of(started.run_id).noted("answer") == list(range(20))


@pytest.mark.parametrize("kind", ["memory", "sqlite", "path"])
def test_events_of_agents_are_captured_from_their_store(kind: str, tmp_path: Path) -> None:
    """What was added to a store while the block ran is there when it has ended, and nothing from before."""
    place: Store | Path = MemoryStore() if kind == "memory" else tmp_path / "runs.db"
    if kind == "sqlite":
        place = open_store(tmp_path / "runs.db")
    asking = ScriptedAgent("asking", answers=[lambda loop: loop.ask_human("Which?", key="which")])
    first = run(asking, "ask", store=place)
    with capture_events(place) as events:
        provide(place, first.run_id, "which", "that")
        resume(place, first.run_id, agents=[asking])
        second = run(ScriptedAgent("b", answers=["x"]), "g", store=place)
    assert [event.name for event in events.of_type(Started)] == ["g"]
    assert events.of(first.run_id).noted("answer") == ["that"]
    assert events.of(second.run_id).topics() == ["answer", "verdict"]
    assert [event.run_id for event in events.of_type(Ended)] == [first.run_id, second.run_id]
    if not isinstance(place, Path):
        place.close()


@pytest.mark.parametrize("source", [None, 5, [], object()])
def test_what_records_no_events_is_refused(source: Any) -> None:
    """Events come from an executor, a journal or a store."""
    with pytest.raises(WrongType, match="captured from"), capture_events(source):
        pass


# Trees compared


def ids(prefix: str, start: int = 1) -> Callable[[], str]:
    """Makes ids that begin with `prefix`, numbered from `start` on."""
    numbers = iter(range(start, 1000))
    return lambda: f"{prefix}{next(numbers)}"


def said(new_id: Callable[[], str], goals: tuple[str, ...] = ("g",), text: str = "") -> MemoryStore:
    """A store with a tree for each goal, in which ids occur wherever they can."""
    store, clock = MemoryStore(), FakeClock()
    executor = NestedLoopExecutor(store=store, clock=clock, new_id=new_id)
    for goal in goals:
        root = executor.start_root(goal)
        child = executor.spawn_child(root, "c")
        told = f"{child!r}: loop {root!r} above it{text}"
        value = {child: [child, (root, {root})], "text": told, "not a number": float("nan")}
        executor.record_answer(child, value)
        executor.update_metadata(child, {"above": root, "retried": Retry(3)})
        executor.fail(child, ValueError(f"no {child!r} below {root!r}"))
        executor.complete(root, value)
    return store


@pytest.mark.parametrize("prefix", ["", "r", "loop-", "ünï_", "3fa41c"])
def test_ids_are_not_compared_wherever_they_stand(prefix: str) -> None:
    """In texts, values, keys, errors and data they are replaced by the run's number."""
    found = outline(said(ids(prefix)))
    assert found == outline(said(ids("other-", 100)))
    (root,) = found
    (child,) = root["children"]
    assert child["notes"][0][1] == {
        "#2": ["#2", ("#1", {"#1"})],
        "text": "'#2': loop '#1' above it",
        "not a number": "nan",
    }
    assert child["data"]["above"] == "#1"
    assert "no '#2' below '#1'" in str(child["outcome"])


def test_ids_are_words_of_texts() -> None:
    """An id is replaced without quotes too, not inside a longer word; a number is then what it counts."""
    assert outline(said(ids("r"), text=" r1")) == outline(said(ids("s"), text=" s1"))
    assert outline(said(ids("r"), text=" xr1")) != outline(said(ids("s"), text=" xs1"))
    assert outline(said(ids(""), text=" 1 of 3")) == outline(said(ids("", 5), text=" 1 of 3"))


def test_other_differences_in_texts_are_seen() -> None:
    """Only ids are alike: a word, a number or another run in a text is not."""
    assert outline(said(ids("r"))) != outline(said(ids("r"), text=" 1"))
    assert outline(said(ids("r"), text=" 2")) != outline(said(ids("r"), text=" 3"))
    assert outline(said(ids("r"), text=" r1")) != outline(said(ids("r"), text=" r2"))
    assert outline(said(ids("r"), text=" r12")) != outline(said(ids("r"), text=" r13"))


def test_the_order_of_several_trees_is_not_compared() -> None:
    """Trees of different names stand in the order of these, and those of one name in the order of their age."""
    assert outline(said(ids("r"), ("b", "a"))) == outline(said(ids("s"), ("a", "b")))
    assert outline(said(ids("r"), ("a", "a"))) != outline(said(ids("r"), ("a", "b")))
    assert outline(MemoryStore()) == []


def test_failures_that_name_ids_are_the_same_after_every_crash() -> None:
    """The log of a failed tree is full of ids in texts; crashes leave it comparable."""
    clock = FakeClock()
    bad = ScriptedAgent("bad", answers=[ConnectionError("away")])
    fine = ScriptedAgent("fine", answers=["x"])
    top = ScriptedAgent("top", answers=[lambda loop: f"I am {loop.id}"], children=[{"b": bad, "f": fine}])

    def scenario(store: Store) -> None:
        clock.advance(60)
        roots = store.roots()
        if roots:
            result = resume(store, roots[0].id, agents=[top, bad, fine], clock=clock)
        else:
            result = run(top, "all", store=store, clock=clock)
        assert result.status is Status.FAILED

    assert crash_everywhere(scenario).writes > 5
    scenario(store := strict())
    (root,) = outline(store)
    assert "I am #1" in [value for topic, value in root["notes"] if topic == "answer"]
    assert "child '#2' (b) failed" in str(root["outcome"])
    assert store.roots()[0].id not in str(root)
    assert isinstance(Tree.of(store.read(store.roots()[0].id)).root.outcome, Failed)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_dies_while_it_compacts(moment: Literal["before", "after"]) -> None:
    """Packing a log is a durable write too, and refused as any other when the process is dead."""
    store = said(ids("r"))
    dying = DyingStore(store, 1, moment)
    with pytest.raises(ProcessDied):
        dying.compact("r1", 1.0)
    with pytest.raises(StoreError, match="this process is dead"):
        dying.compact("r1", 1.0)
    assert DyingStore(store).compact("r1", 1.0) == 0


def test_crash_everywhere_with_several_trees() -> None:
    """A scenario may make many trees, one after another or in one commit; one that forgets one is found out."""

    def scenario(store: Store) -> None:
        executor = NestedLoopExecutor(store=store)
        if not store.roots():
            with executor.transaction():
                for goal in ("b", "a"):
                    executor.start_root(goal)
        goals = {root.goal: root.id for root in store.roots()}
        last = goals.get("c") or executor.start_root("c")
        for loop_id in (*goals.values(), last):
            loop = executor.get_loop(loop_id)
            if loop.status is Status.ACTIVE:
                others = sorted(root.goal for root in store.roots() if root.id != loop_id)
                executor.complete(loop_id, {"others": others, "last": last})

    report = crash_everywhere(scenario)
    assert report.writes == 5

    def forgetful(store: Store) -> None:
        executor = NestedLoopExecutor(store=store)
        for goal in ("a", "b"):
            unfinished = {root.goal: root.id for root in store.roots(open_only=True)}
            executor.complete(unfinished.get(goal) or executor.start_root(goal))

    with pytest.raises(AssertionError, match="crashed after write 2"):
        crash_everywhere(forgetful)


# The face


def test_every_name_is_found() -> None:
    """The names of `cortical.testing` are there when asked for, sorted; another one is not."""
    assert cortical.testing.__all__ == sorted(cortical.testing.__all__)
    assert all(getattr(cortical.testing, name).__name__ == name for name in cortical.testing.__all__)
    assert set(cortical.testing.__all__) <= set(dir(cortical.testing))
    with pytest.raises(AttributeError, match="no attribute 'FakeClok'"):
        cortical.testing.FakeClok  # type: ignore[attr-defined]  # noqa: B018


def test_the_plugin_is_light() -> None:
    """Loading it with pytest imports nothing of the library that a test has not asked for."""
    program = (
        "import sys, pytest; before = set(sys.modules); import cortical.testing.plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "cortical",
        "cortical.core",
        "cortical.core.lazy",
        "cortical.testing",
        "cortical.testing.plugin",
    ]


def test_pytest_is_not_needed() -> None:
    """All but the plugin works where pytest is not installed."""
    program = (
        "import sys; sys.modules['pytest'] = None; import cortical.testing as t; "
        "print(all(getattr(t, name) for name in t.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_noted_is_what_topics_tells() -> None:
    """Events of other kinds have no topic."""
    events = CapturedEvents(
        [Moved("a", 1, 1.0, "answer"), Noted("a", 2, 1.0, "note", 1), Noted("a", 3, 1.0, "note", 2)]
    )
    assert (events.topics(), events.noted("note")) == (["note", "note"], [1, 2])
