"""Why a loop stands where it stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import cortical
from cortical import Agent, Budget, Loop, Retry, Verdict, why
from cortical.agents import Stuck
from cortical.core import rules
from cortical.core.errors import AmbiguousId, RunNotFound, StoreNotFound, WrongType
from cortical.core.events import Event, Noted, Started
from cortical.core.outcome import Failed, Ok, Skipped
from cortical.core.rules import end
from cortical.core.status import TerminationReason
from cortical.core.topics import ASKED, LIMIT, PROVIDED, VERDICT
from cortical.looking.choices import choices
from cortical.looking.why import Standing, explain
from cortical.reasoning import LoopPhase, NestedLoopExecutor
from cortical.store import MemoryStore, Store
from cortical.testing import FakeClock


def told(executor: NestedLoopExecutor, loop_id: str, *, last: int = 5) -> Standing:
    run = executor.journal.run(loop_id)
    return explain(run, executor.store.read(run.tree.root.id), last=last)


def test_nothing_holds_an_active_loop(executor: NestedLoopExecutor) -> None:
    """It is whoever drives it who takes the next step."""
    standing = told(executor, executor.start_root("goal"))
    assert (standing.because, standing.next_step) == ("nothing holds it", "whoever drives it goes on")
    assert (standing.waits_for, standing.waited_for_by, standing.ended_with) == ((), (), None)


def test_an_active_loop_may_have_children_that_hold_its_end(executor: NestedLoopExecutor) -> None:
    """Children that were made for later are named as what its end waits for."""
    root = executor.start_root("goal")
    executor.manager.create_loop("later", parent_id=root)
    assert told(executor, root).because == "nothing holds it, but it cannot end before its 1 open child"


def test_a_waiting_loop_names_those_at_the_bottom(executor: NestedLoopExecutor) -> None:
    """A chain of waiting loops ends at the ones that somebody has to do something about."""
    root = executor.start_root("goal")
    left, right = executor.spawn_children(root, ["left", "right"])
    leaf = executor.spawn_child(left, "leaf")
    executor.block(leaf, "no key")
    standing = told(executor, root)
    assert standing.because == "it waits for 2 open children"
    assert standing.next_step.startswith("complete or break")
    assert [run.id for run in standing.waits_for] == [leaf, right]
    below = told(executor, leaf)
    assert (below.because, below.next_step) == ("it is blocked: no key", "resume it when what blocks it is gone")
    assert [run.id for run in below.path] == [root, left, leaf]
    assert [run.id for run in below.waited_for_by] == [left, root]


def test_since_when_is_told(executor: NestedLoopExecutor, clock: FakeClock) -> None:
    """What counts is when the status came about, not what was recorded or visited after it."""
    start = clock.time()
    root = executor.start_root("goal")
    clock.advance(10)
    executor.advance(root)
    assert told(executor, root).since == start
    executor.pause(root, "lunch")
    clock.advance(10)
    executor.record_answer(root, "meanwhile")
    assert told(executor, root).since == start + 10
    executor.resume(root)
    assert told(executor, root).since == start + 20


def test_a_pause_by_hand_is_told_from_waiting(executor: NestedLoopExecutor) -> None:
    """The reason that somebody gave is quoted; that nobody gave one is said."""
    root = executor.start_root("goal")
    executor.pause(root, "lunch")
    assert (told(executor, root).because, told(executor, root).next_step) == (
        "it was paused by hand: lunch",
        "resume it",
    )
    executor.resume(root)
    executor.pause(root)
    assert told(executor, root).because == "it was paused by hand, nobody said why"
    executor.resume(root)
    executor.block(root, "")
    assert told(executor, root).because == "it is blocked, nobody said by what"


def test_a_loop_that_was_not_begun_says_so(executor: NestedLoopExecutor) -> None:
    """It is to be started."""
    standing = told(executor, executor.manager.create_loop("later").id)
    assert (standing.because, standing.next_step) == ("it has not been started", "start it")


def test_an_end_is_told_with_its_reason(executor: NestedLoopExecutor) -> None:
    """Completed, skipped and failed loops say how they ended, a failure with what caused it; no step is left."""
    done, empty, skipped, failed = (executor.start_root(goal) for goal in ("a", "b", "c", "d"))
    executor.complete(done, 42)
    executor.complete(empty)
    executor.journal.change(skipped, end, Skipped("not today"), TerminationReason.CONDITION_MET)
    error = RuntimeError("no luck")
    error.__cause__ = OSError("disk full")
    executor.journal.change(failed, end, Failed.of(error, attempts=3), TerminationReason.ERROR)
    assert told(executor, done).because == "it ended (success) with a result"
    assert told(executor, empty).because == "it ended (success) without a result"
    assert told(executor, skipped).because == "it was skipped: not today"
    assert told(executor, failed).because == (
        "it failed after 3 attempts: RuntimeError: no luck, caused by OSError: disk full"
    )
    assert {told(executor, loop).next_step for loop in (done, empty, skipped, failed)} == {""}


def test_a_loop_that_was_taken_along_says_by_whom(executor: NestedLoopExecutor, clock: FakeClock) -> None:
    """Below a loop that was broken, each names the highest above it that ended in the same stroke."""
    root = executor.start_root("goal")
    middle = executor.spawn_child(root, "middle")
    leaf, other = executor.spawn_children(middle, ["leaf", "other"])
    executor.break_loop(other, "plans", by="Ada")
    clock.advance(1)
    executor.break_loop(middle, "plans", by="Ada")
    standing = told(executor, leaf)
    assert standing.ended_with is not None
    assert standing.ended_with.id == middle
    assert standing.because == f"it was abandoned by Ada together with {middle!r} above it: plans"
    assert told(executor, middle).ended_with is None
    assert told(executor, other).ended_with is None, "it had ended before"
    assert told(executor, root).because == "nothing holds it"
    executor.break_loop(root, "plans", by="Ada")
    assert told(executor, root).because == "it was abandoned by Ada: plans"


def test_an_ended_loop_is_waited_for_by_nobody(executor: NestedLoopExecutor) -> None:
    """Its parent may wait, but for another."""
    root = executor.start_root("goal")
    first, second = executor.spawn_children(root, ["first", "second"])
    executor.complete(first)
    assert told(executor, first).waited_for_by == ()
    assert [run.id for run in told(executor, second).waited_for_by] == [root]


def test_the_last_events_are_its_own(executor: NestedLoopExecutor) -> None:
    """They come oldest first, each with its position in the log of the whole tree; with `last` 0 there are none."""
    root = executor.start_root("goal")
    executor.complete(executor.spawn_child(root, "part"))
    executor.get_loop(root).transition(LoopPhase.PRODUCE, "spike")
    quoted = told(executor, root, last=2).last_events
    log = executor.store.read(root)
    assert [event.run_id for _, event in quoted] == [root, root]
    assert [event for _, event in quoted] == [log[position] for position, _ in quoted] == log[-2:]
    assert told(executor, root, last=0).last_events == ()


# From a store


def test_why_opens_the_store_at_a_path(tmp_path: Path) -> None:
    """A prefix is enough; the store is closed again, and a path without a store is not made into one."""
    path = tmp_path / "runs.db"
    with NestedLoopExecutor(store=path) as executor:
        root = executor.start_root("goal")
    standing = why(path, root[:10])
    assert (standing.run.id, standing.because) == (root, "nothing holds it")
    assert str(why(str(path), root)) == str(standing)
    with pytest.raises(StoreNotFound):
        why(tmp_path / "none.db", root)
    assert not (tmp_path / "none.db").exists()


def test_why_leaves_an_open_store_open(any_store: Store) -> None:
    """It reads what is kept there, and writes nothing."""
    executor = NestedLoopExecutor(store=any_store)
    root = executor.start_root("goal")
    before = any_store.read(root)
    assert why(any_store, root).run.name == "goal"
    assert any_store.read(root) == before


def test_why_takes_whatever_has_a_store(any_store: Store) -> None:
    """A journal and a face do as well, and see what another has recorded meanwhile."""
    executor = NestedLoopExecutor(store=any_store)
    root = executor.start_root("goal")
    NestedLoopExecutor(store=any_store).pause(root, "lunch")
    told = [why(place, root).because for place in (executor, executor.journal, any_store)]
    assert told == ["it was paused by hand: lunch"] * 3


def test_why_of_an_unknown_run_is_refused(executor: NestedLoopExecutor) -> None:
    """So is a beginning that several ids have, or none at all."""
    for number in range(40):
        executor.start_root(f"goal {number}")
    for unknown in ("nope", ""):
        with pytest.raises(RunNotFound):
            why(executor.store, unknown)
    first = [run.id[0] for run in executor.store.roots()]
    with pytest.raises(AmbiguousId):
        why(executor.store, max(first, key=first.count))


@pytest.mark.parametrize("wrong", [None, 5, [], {}])
def test_what_is_no_store_is_refused(wrong: Any) -> None:
    """The message says what one is."""
    with pytest.raises(WrongType, match="a path, a URL"):
        why(wrong, "3f2a")


def test_why_is_among_the_names_of_the_package() -> None:
    """It is found when it is asked for."""
    assert cortical.why is why
    assert "why" in cortical.__all__


def test_every_kind_of_run_is_told(executor: NestedLoopExecutor, clock: FakeClock) -> None:
    """A run that is no loop stands, waits and ends as any other."""
    journal = executor.journal
    journal.plant("batch", rules.start, "batch", "All files", place="work")
    journal.change("batch", rules.spawn, "item", {"one": "a.txt", "two": "b.txt"}, place="work")
    assert "it waits for 2 open children" in str(why(executor.store, "batch"))
    journal.change("one", rules.end, Failed.of(OSError("disk full")), TerminationReason.ERROR)
    journal.change("two", rules.end, Ok(3), TerminationReason.COMPLETED)
    assert why(executor.store, "one").because == "it failed: OSError: disk full"
    assert why(executor.store, "batch").because == "nothing holds it"
    assert told_choices(executor.store, "batch") == [("spawn", "caller", "2 children: a.txt, b.txt")]


# Decisions


def told_choices(store: Store, run_id: str) -> list[tuple[str, str, str]]:
    return [(choice.what, choice.by, choice.why) for choice in why(store, run_id).decisions]


def driven(agent: Agent, *, store: Store | None = None, budget: Budget | None = None) -> tuple[Store, str]:
    """The store and root of a tree that the agent has driven."""
    store = store or MemoryStore()
    return store, cortical.run(agent, "goal", store=store, budget=budget).run_id


def verified(verify: Callable[[Loop], Verdict], name: str = "verified", **options: Any) -> Agent:
    agent = Agent(name, **options)
    agent.verify(verify)
    return agent


def test_the_topics_are_those_of_the_driver() -> None:
    """Decisions are read by the names under which the driver notes them."""
    assert (LIMIT, VERDICT, ASKED, PROVIDED) == ("limit", "verdict", "asked", "provided")


def test_turns_and_the_end_are_decisions_of_the_verify_function() -> None:
    """Each is told once, with its feedback."""

    def verify(loop: Loop) -> Verdict:
        return Verdict.passed() if loop.turn == 2 else Verdict.revise("too short")

    store, root = driven(verified(verify))
    assert told_choices(store, root) == [
        ("revise", "function", "too short"),
        ("complete", "function", "verify passed"),
    ]
    assert why(store, root).reason is TerminationReason.SUCCESS


def test_the_limit_that_fired_is_told() -> None:
    """The end is a rule's decision, and the limit is named in the text."""
    store, root = driven(verified(lambda loop: Verdict.revise("more"), max_turns=1))
    assert told_choices(store, root) == [
        ("revise", "function", "more"),
        ("break", "rule", "max_turns 1 reached: more"),
    ]
    standing = why(store, root)
    assert (standing.reason, standing.limit) == (TerminationReason.BUDGET_EXHAUSTED, "max_turns")
    assert "budget_exhausted (limit: max_turns)" in str(standing)
    store, root = driven(verified(lambda loop: Verdict.revise("more")), budget=Budget(iterations=1))
    assert why(store, root).limit == "iterations"
    assert [choice[:2] for choice in told_choices(store, root)][-1] == ("break", "rule")


def test_an_impossible_question_is_broken_once() -> None:
    """The verdict and the end that it leads to are one decision."""
    store, root = driven(verified(lambda loop: Verdict.impossible("no such file")))
    assert told_choices(store, root) == [("break", "function", "no such file")]


def test_tries_are_told_until_a_person_is_asked() -> None:
    """What verify could not say is tried again by rule, the last time a person is asked instead."""
    store, root = driven(verified(lambda loop: Verdict.inconclusive("no network")))
    assert told_choices(store, root) == [
        ("retry", "rule", "no network"),
        ("retry", "rule", "no network"),
        ("escalate", "rule", "no network"),
    ]


def test_a_phase_that_is_tried_again_says_after_which_error() -> None:
    """The rule that tries it again has chosen; the last error ends the loop."""
    agent = verified(lambda loop: Verdict.passed(), retry=Retry(2, delay=0))

    @agent.answer
    def fail(loop: Loop) -> None:
        raise OSError("disk full")

    store, root = driven(agent)
    assert told_choices(store, root) == [
        ("retry", "rule", "OSError: disk full"),
        ("break", "function", "OSError: disk full"),
    ]


def test_children_are_told_as_they_were_spawned() -> None:
    """Those of one phase are one decision; a child that replaces a failed one is a retry."""
    child = verified(lambda loop: Verdict.impossible("no"), "child")
    agent = verified(lambda loop: Verdict.passed(), on_child_failure=Retry(2, delay=0))

    @agent.answer
    def spawn(loop: Loop) -> None:
        for name in ("a", "b", "c", "d"):
            loop.spawn(name, agent=child)

    store, root = driven(agent)
    told = told_choices(store, root)
    assert told[:2] == [("spawn", "function", "4 children: a, b, c, …"), ("retry", "rule", "a, attempt 2")]
    assert told[-1][:2] == ("break", "rule")
    assert [choice[0] for choice in told] == ["spawn", *["retry"] * 4, "break"]


def test_questions_to_people_and_their_answers_are_told() -> None:
    """The next step says how to answer; once answered, it is who has answered that counts."""
    asking = Agent("asking")

    @asking.answer
    def ask(loop: Loop) -> None:
        loop.ask_human("Blue or red?", key="colour")

    asking.verify(lambda loop: Verdict.passed())
    store, root = driven(asking)
    standing = why(store, root)
    assert standing.because == "it is blocked: Blue or red?"
    assert standing.next_step == f"answer it: `cortical answer`, or provide(store, {root!r}, 'colour', …)"
    cortical.provide(store, root, "colour", "blue")
    assert told_choices(store, root) == [
        ("escalate", "function", "Blue or red?"),
        ("answer", "person", "colour: blue"),
    ]


@pytest.mark.parametrize(("then", "last"), [("escalate", "escalate"), ("break", "break"), ("warn", "warn")])
def test_a_stuck_loop_tells_what_the_rule_did(then: Any, last: str) -> None:
    """The person asked, the end or the warning is the rule's decision."""
    agent = verified(lambda loop: Verdict.revise("same"), max_turns=3, stuck=Stuck(after_turns=2, then=then))
    store, root = driven(agent)
    told = [choice for choice in told_choices(store, root) if choice[0] == last and choice[2].startswith("stuck: ")]
    assert [choice[:2] for choice in told] == [(last, "rule")]


def test_what_a_caller_does_by_hand_is_the_callers(executor: NestedLoopExecutor) -> None:
    """Steps of the cycle are no decisions; a new turn, a reason, a pause and an end are."""
    root = executor.start_root("goal")
    loop = executor.get_loop(root)
    loop.current_context().record_decision("SQLite", rationale="one writer")
    for _ in range(4):
        executor.advance(root)
    loop.transition(LoopPhase.PRODUCE, "spike first")
    executor.pause(root, "lunch")
    executor.resume(root)
    executor.block(root, "no key")
    executor.break_loop(root, "plans")
    assert told_choices(executor.store, root) == [
        ("decide", "caller", "SQLite – one writer"),
        ("continue", "caller", "to question"),
        ("continue", "caller", "to produce: spike first"),
        ("pause", "caller", "lunch"),
        ("resume", "caller", ""),
        ("block", "caller", "no key"),
        ("break", "caller", "plans"),
    ]


def test_the_end_of_a_loop_above_names_its_limit() -> None:
    """A child that was taken along tells which limit ended the loop above it."""
    agent = verified(lambda loop: Verdict.passed())

    @agent.answer
    def spawn_and_spend(loop: Loop) -> None:
        loop.spawn("part", key="part")
        loop.spend(tokens=11)

    store, root = driven(agent, budget=Budget(tokens=10))
    child = why(store, root).run.children[0]
    standing = why(store, child.id)
    assert standing.ended_with is not None
    assert (standing.ended_with.id, standing.limit) == (root, "tokens")


@pytest.mark.parametrize("value", [None, 7, "text", [], {}, {"verdict": 3}, {"decision": None}, {"by": 4, "key": []}])
@pytest.mark.parametrize("topic", ["verdict", "stuck", "asked", "attempt", "provided", "decision", "drain", "limit"])
def test_notes_of_any_shape_are_read(executor: NestedLoopExecutor, topic: str, value: Any) -> None:
    """A program that walks a loop may note what it likes under any topic."""
    root = executor.start_root("goal")
    executor.journal.change(root, rules.note, topic, value)
    executor.block(root, "")
    assert str(why(executor.store, root)).startswith(root)


def test_a_decision_of_a_rule_is_told_by_its_first_word() -> None:
    """Its children are not told a second time."""
    log: list[Event] = [
        Started("root", 1, 0.0, "loop", "goal", None, "question", {"agent": {"name": "a"}}),
        Noted("root", 2, 1.0, "decision", {"decision": "spawn 2 children", "rationale": "apart", "by": "rule"}),
        Started("one", 1, 1.0, "loop", "one", "root", None, {"by": "rule"}),
        Started("two", 1, 1.0, "loop", "two", "root", None, {"by": "rule"}),
    ]
    assert [(one.at, one.what, one.by, one.why) for one in choices("root", log)] == [
        (1.0, "spawn", "rule", "spawn 2 children – apart")
    ]


def test_a_value_without_a_text_hides_nothing_else(executor: NestedLoopExecutor) -> None:
    """A store in memory may hold what cannot even be shown."""

    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    root = executor.start_root("goal")
    executor.journal.change(root, rules.note, "decision", Shy())
    assert told_choices(executor.store, root) == [("decide", "caller", "<a Shy that cannot be shown: RuntimeError>")]


def test_why_can_be_asked_while_others_write(executor: NestedLoopExecutor) -> None:
    """What is told is one moment: the run as its last event left it."""
    root = executor.start_root("goal")
    walking = Thread(target=lambda: [executor.advance(root) for _ in range(5_000)])
    walking.start()
    told = [why(executor.store, root) for _ in range(20)]
    walking.join()
    assert all(standing.run.seq == standing.last_events[-1][1].seq for standing in told)


# As a text


def test_as_a_text_it_is_a_few_lines(executor: NestedLoopExecutor, clock: FakeClock) -> None:
    """Status, reason, next step, what it waits for, and decisions with their times."""
    root = executor.start_root("Build it")
    executor.spawn_children(root, [f"part {number}" for number in range(7)])
    child = executor.get_children(root)[0].id
    lines = str(why(executor.store, root)).splitlines()
    assert lines[0] == f"{root}  Build it"
    labels = [line[2:].split("  ")[0] for line in lines[1:]]
    assert labels[:4] == ["status", "because", "next", "waits for"]
    assert f"{child} part 0 (active)" in lines[4]
    assert lines[4].endswith("and 2 more")
    assert lines[5].endswith("UTC spawn (caller): 7 children: part 0, part 1, part 2, …")
    assert f"above it  {root} Build it" in str(why(executor.store, child))


def test_no_text_steers_a_terminal(executor: NestedLoopExecutor) -> None:
    """Control characters, line ends and turned text in goals and reasons are made visible; long ones are cut."""
    root = executor.start_root("go\x1b[2Jal\u202e\nnext 🌳 e\u0301")
    executor.block(root, "key\r\x07\x00 " + "x" * 100_000)
    text = str(why(executor.store, root))
    assert len(text) < 2500
    assert "🌳 e\u0301" in text
    assert all(line.isprintable() for line in text.splitlines())
    assert len(text.splitlines()) == 5


def test_only_the_last_decisions_are_in_the_text(executor: NestedLoopExecutor) -> None:
    """The record has all of them."""
    root = executor.start_root("goal")
    for number in range(30):
        executor.pause(root, f"pause {number}")
        executor.resume(root)
    standing = why(executor.store, root)
    assert len(standing.decisions) == 60
    assert len(standing.newest_decisions()) == 8
    assert "pause 29" in str(standing)
    assert "pause 25" not in str(standing)


def test_a_large_tree_is_told(tmp_path: Path) -> None:
    """In a durable tree of 5,000 loops, a loop at its end and the root are told as in a small one."""
    with NestedLoopExecutor(store=tmp_path / "runs.db") as executor:
        root = executor.start_root("goal")
        executor.spawn_children(root, [f"part {number}" for number in range(4_999)])
        leaf = executor.get_children(root)[-1].id
        executor.break_loop(leaf, "plans", by="Ada")
    assert why(tmp_path / "runs.db", root).because == "it waits for 4,998 open children"
    assert why(tmp_path / "runs.db", leaf).because == "it was abandoned by Ada: plans"
