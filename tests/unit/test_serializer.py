"""Loops as text and back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from cortical.core import rules
from cortical.core.errors import EncodeError, InvalidInput, RunStateError, WrongType
from cortical.core.events import Ended, Started
from cortical.core.outcome import Skipped
from cortical.reasoning import (
    CognitiveLoop,
    CognitiveLoopManager,
    LoopPhase,
    LoopStateSerializer,
    LoopStatus,
    LoopTransition,
    NestedLoopExecutor,
    PhaseContext,
    TerminationReason,
)
from cortical.testing import FakeClock

START = 1_740_821_400.0  # 2025-03-01 09:30 UTC


def ids(*names: str) -> Callable[[], str]:
    return iter(names).__next__


def shown_visit(context: PhaseContext) -> dict[str, Any]:
    return {
        "phase": context.phase,
        "iteration": context.iteration,
        "started_at": context.started_at,
        "ended_at": context.ended_at,
        "duration": pytest.approx(context.duration_seconds, abs=2e-6) if context.duration_seconds is not None else None,
        "elapsed": pytest.approx(context.elapsed_minutes(), abs=1e-7),
        "time_box": context.time_box_minutes,
        "notes": list(context.notes),
        "questions": list(context.questions_raised),
        "answers": list(context.answers),
        "decisions": list(context.decisions_made),
        "artifacts": list(context.artifacts_produced),
    }


def shown_step(step: LoopTransition) -> dict[str, Any]:
    snapshot = dict(step.context_snapshot)
    if "elapsed_minutes" in snapshot:
        snapshot["elapsed_minutes"] = pytest.approx(snapshot["elapsed_minutes"], abs=1e-7)
    return {
        "from": step.from_phase,
        "to": step.to_phase,
        "at": step.timestamp,
        "reason": step.reason,
        "snapshot": snapshot,
    }


def shown(loop: CognitiveLoop) -> dict[str, Any]:
    """All that a loop shows."""
    run = loop.run
    return {
        "id": loop.id,
        "goal": loop.goal,
        "status": loop.status,
        "phase": loop.current_phase,
        "parent_id": loop.parent_id,
        "child_ids": list(loop.child_ids),
        "created_at": loop.created_at,
        "completed_at": loop.completed_at,
        "reason": loop.termination_reason,
        "outcome": run.outcome,
        "result": loop.result,
        "block_reason": loop.block_reason,
        "pause_reason": loop.pause_reason,
        "waits_for_children": run.waits_for_children,
        "data": run.data or {},
        "iterations": [loop.get_iteration_count(phase) for phase in LoopPhase],
        "elapsed": pytest.approx(loop.total_elapsed_minutes(), abs=1e-7),
        "visits": [shown_visit(context) for context in loop.phase_contexts],
        "steps": [shown_step(step) for step in loop.transitions],
    }


def shown_all(manager: CognitiveLoopManager) -> dict[str, Any]:
    everything = {loop.id: shown(loop) for loop in manager.get_all_loops()}
    for loop_id, told in everything.items():
        run = manager.journal.run(loop_id)
        told |= {"depth": run.depth, "results": [child.id for child in run.completed_children or ()]}
    return everything


# Random legal histories

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=4)
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text("$ab", max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)
TEXTS = st.text(min_size=1, max_size=12).filter(lambda text: not text.isspace())
REASONS = st.just("") | TEXTS
PHASES = st.sampled_from(LoopPhase)
CALLS = st.one_of(
    st.tuples(st.just("tick"), st.floats(0, 5000) | st.integers(0, 3)),
    st.tuples(st.just("start"), PHASES),
    st.tuples(st.just("transition"), PHASES, REASONS),
    st.tuples(st.just("advance")),
    st.tuples(st.just("note"), TEXTS),
    st.tuples(st.just("question"), TEXTS),
    st.tuples(st.just("decision"), TEXTS, REASONS),
    st.tuples(st.just("artifact"), VALUES),
    st.tuples(st.just("answer"), VALUES),
    st.tuples(st.just("metadata"), st.dictionaries(st.text("$ab", max_size=3), VALUES, max_size=2)),
    st.tuples(st.just("end_phase")),
    st.tuples(st.just("pause"), REASONS),
    st.tuples(st.just("block"), REASONS),
    st.tuples(st.just("resume")),
    st.tuples(st.just("spawn"), TEXTS),
    st.tuples(st.just("spawn_not_started"), TEXTS),
)
ENDS = st.one_of(
    st.tuples(st.just("complete"), st.sampled_from(TerminationReason), VALUES),
    st.tuples(st.just("fail"), TEXTS),
    st.tuples(st.just("skip"), REASONS),
    st.tuples(st.just("abandon"), REASONS),
)
HISTORIES = st.lists(st.tuples(st.integers(0, 6), CALLS | CALLS | ENDS), max_size=25)


def carry_out(executor: NestedLoopExecutor, clock: FakeClock, loop_id: str, name: str, *facts: Any) -> None:
    loop = executor.get_loop(loop_id)
    calls: dict[str, Callable[..., object]] = {
        "start": loop.start,
        "transition": loop.transition,
        "advance": partial(executor.advance, loop_id),
        "note": lambda text: loop.add_note(text),
        "question": lambda text: loop.current_context().record_question(text),
        "decision": lambda what, why: loop.current_context().record_decision(what, why),
        "artifact": lambda value: loop.current_context().record_artifact(value),
        "answer": partial(executor.record_answer, loop_id),
        "metadata": partial(executor.update_metadata, loop_id),
        "end_phase": lambda: loop.current_context().end_phase(),
        "pause": loop.pause,
        "block": loop.block,
        "resume": loop.resume,
        "spawn": partial(executor.spawn_child, loop_id),
        "spawn_not_started": loop.spawn_child,
        "complete": loop.complete,
        "fail": lambda text: executor.fail(loop_id, failure(text)),
        "skip": lambda why: executor.journal.change(loop_id, rules.end, Skipped(why), TerminationReason.CONDITION_MET),
        "abandon": loop.abandon,
    }
    if name == "tick":
        clock.now += facts[0]
        return
    try:
        calls[name](*facts)
    except (RunStateError, RecursionError):
        return  # not legal where the loop stands


def failure(text: str) -> Exception:
    error = RuntimeError(text)
    error.__cause__ = KeyError(text)
    return error


def lived(history: Sequence[tuple[int, tuple[Any, ...]]], *, roots: int, time_box: float = 30.0) -> NestedLoopExecutor:
    """An executor after a history: calls, each on one of the loops there are by then."""
    clock = FakeClock(START)
    executor = NestedLoopExecutor(4, clock=clock, time_box_minutes=time_box)
    known = [executor.start_root(f"root {number}") for number in range(roots)]
    known.append(executor.manager.create_loop("not started").id)
    for target, (name, *facts) in history:
        carry_out(executor, clock, known[target % len(known)], name, *facts)
        known = [loop.id for loop in executor.get_all_loops()]
    return executor


@settings(max_examples=150, deadline=None)
@given(HISTORIES)
def test_any_loop_survives_the_way_through_text(history: list[tuple[int, tuple[Any, ...]]]) -> None:
    """Whatever happened to a loop, what is read from its text shows the same, and is written the same again."""
    executor = lived(history, roots=1)
    serializer = LoopStateSerializer(clock=executor.journal.clock)
    for loop in executor.get_all_loops():
        text = serializer.serialize(loop)
        restored = serializer.deserialize(text)
        assert shown(restored) == shown(loop)
        assert serializer.serialize(restored) == text


@settings(max_examples=150, deadline=None)
@given(HISTORIES, st.sampled_from([30.0, 45, math.inf]))
def test_any_set_of_trees_survives_the_way_through_text(
    history: list[tuple[int, tuple[Any, ...]]], time_box: float
) -> None:
    """Whatever happened in a manager, its trees come back whole: links, depths, and results in their order."""
    executor = lived(history, roots=2, time_box=time_box)
    serializer = LoopStateSerializer(clock=executor.journal.clock)
    text = serializer.serialize_manager(executor.manager)
    restored = serializer.deserialize_manager(text)
    assert shown_all(restored) == shown_all(executor.manager)
    assert serializer.serialize_manager(restored) == text
    assert restored.get_summary()["by_status"] == executor.manager.get_summary()["by_status"]


@settings(max_examples=50, deadline=None)
@given(HISTORIES)
def test_what_was_read_has_a_log_in_order(history: list[tuple[int, tuple[Any, ...]]]) -> None:
    """The log under loops that were read counts each run without gaps, begins with its root, and never goes back."""
    executor = lived(history, roots=1)
    serializer = LoopStateSerializer()
    store = serializer.deserialize_manager(serializer.serialize_manager(executor.manager)).journal.store
    for root in store.roots():
        log = store.read(root.id)
        assert log[0].run_id == root.id
        assert [event.at for event in log] == sorted(event.at for event in log)
        for run_id in {event.run_id for event in log}:
            counts = [event.seq for event in log if event.run_id == run_id]
            assert counts == list(range(1, len(counts) + 1))


def test_a_log_that_was_read_ends_children_first() -> None:
    """Runs that ended at one moment end from the deepest up, as they did."""
    executor = NestedLoopExecutor(clock=FakeClock(START), new_id=ids("root", "a", "b", "b1"))
    root = executor.start_root("whole")
    _, second = executor.spawn_children(root, ["a", "b"])
    executor.spawn_child(second, "b1")
    executor.break_loop(root, "not needed")
    serializer = LoopStateSerializer()
    log = serializer.deserialize_manager(serializer.serialize_manager(executor.manager)).journal.store.read(root)
    assert [event.run_id for event in log if isinstance(event, Started)] == ["root", "a", "b", "b1"]
    assert [event.run_id for event in log if isinstance(event, Ended)] == ["b1", "a", "b", "root"]


# The text

WHOLE_TEXT = """\
{
  "format": "cortical.loop/1",
  "id": "a1",
  "goal": "Choose a database",
  "status": "blocked",
  "current_phase": "answer",
  "parent_id": null,
  "child_ids": [],
  "created_at": "2025-03-01T09:30:00Z",
  "completed_at": null,
  "termination_reason": null,
  "outcome": null,
  "pause_reason": null,
  "waits_for_children": false,
  "block_reason": "the DBA is away",
  "settings": {},
  "metadata": {},
  "phase_contexts": [
    {
      "phase": "question",
      "iteration": 1,
      "started_at": "2025-03-01T09:30:00Z",
      "ended_at": "2025-03-01T09:31:30.250000Z",
      "time_box_minutes": 30.0,
      "entries": [
        {
          "topic": "question",
          "at": "2025-03-01T09:30:00Z",
          "value": "How many writers? 一"
        }
      ]
    },
    {
      "phase": "answer",
      "iteration": 1,
      "started_at": "2025-03-01T09:31:30.250000Z",
      "ended_at": null,
      "time_box_minutes": 30.0,
      "entries": []
    }
  ],
  "transitions": [
    {
      "from_phase": null,
      "to_phase": "question",
      "timestamp": "2025-03-01T09:30:00Z",
      "reason": "started",
      "context_snapshot": {}
    },
    {
      "from_phase": "question",
      "to_phase": "answer",
      "timestamp": "2025-03-01T09:31:30.250000Z",
      "reason": "it is clear",
      "context_snapshot": {
        "phase": "question",
        "iteration": 1,
        "elapsed_minutes": 1.5041666666666667,
        "notes_count": 0,
        "questions_count": 1,
        "decisions_count": 0,
        "artifacts_count": 0
      }
    }
  ]
}"""


def blocked_loop() -> CognitiveLoop:
    clock = FakeClock(START)
    loop = CognitiveLoop("Choose a database", clock=clock, new_id=ids("a1"))
    loop.start()
    loop.current_context().record_question("How many writers? 一")
    clock.now += 90.25
    loop.transition(LoopPhase.ANSWER, "it is clear")
    loop.block("the DBA is away")
    return loop


def test_a_text_is_for_people() -> None:
    """A loop is written as indented JSON, enums by value, times in ISO 8601, text as it is."""
    text = LoopStateSerializer().serialize(blocked_loop())
    assert text == WHOLE_TEXT


def test_names_and_values_of_enums_are_read_in_any_case() -> None:
    """A text written by hand may say ANSWER or Answer, and BLOCKED, for the same."""
    by_hand = (
        WHOLE_TEXT.replace('"answer"', '"ANSWER"').replace('"question",', '"Question",').replace("blocked", "BLOCKED")
    )
    by_hand = by_hand.replace('"topic": "Question"', '"topic": "question"')
    by_hand = by_hand.replace(
        '"context_snapshot": {\n        "phase": "Question"', '"context_snapshot": {\n        "phase": "question"'
    )
    assert shown(LoopStateSerializer(clock=FakeClock(START)).deserialize(by_hand))["steps"][1]["to"] is LoopPhase.ANSWER


def test_times_may_come_with_any_offset() -> None:
    """A time is the same moment wherever its writer stood."""
    elsewhere = WHOLE_TEXT.replace("2025-03-01T09:3", "2025-03-01T14:3").replace("Z", "+05:00")
    loop = LoopStateSerializer().deserialize(elsewhere.encode())
    assert loop.created_at == datetime(2025, 3, 1, 9, 30, tzinfo=UTC)


def test_a_loop_that_was_read_goes_on() -> None:
    """A loop that was read resumes, moves, takes notes and ends, at its own pace, and then takes nothing more."""
    clock = FakeClock(START + 600)
    loop = LoopStateSerializer(clock=clock).deserialize(WHOLE_TEXT)
    loop.resume()
    loop.current_context().record_decision("SQLite", "one writer")
    loop.transition(LoopPhase.PRODUCE)
    loop.complete(TerminationReason.USER_APPROVED, {"database": "SQLite"})
    assert loop.get_all_contexts(LoopPhase.ANSWER)[0].ended_at == loop.completed_at
    assert loop.total_elapsed_minutes() == 10
    with pytest.raises(RunStateError, match="it has ended"):
        loop.add_note("one more")


def test_a_clock_behind_the_text_does_not_turn_time_back() -> None:
    """What is recorded on a loop from a faster clock's past is no earlier than what it holds."""
    loop = LoopStateSerializer(clock=FakeClock(START - 3600)).deserialize(WHOLE_TEXT)
    loop.resume()
    loop.transition(LoopPhase.PRODUCE)
    assert loop.transitions[2].timestamp == loop.transitions[1].timestamp


def test_pauses_by_hand_and_for_children_stay_apart() -> None:
    """A loop paused by hand resumes by hand; one paused for its children does not, though these are elsewhere."""
    executor = NestedLoopExecutor()
    serializer = LoopStateSerializer()
    by_hand, waiting = executor.start_root("by hand"), executor.start_root("waiting")
    executor.pause(by_hand, "lunch")
    child = executor.spawn_child(waiting, "part")
    restored = serializer.deserialize(serializer.serialize(executor.get_loop(by_hand)))
    restored.resume()
    assert restored.status is LoopStatus.ACTIVE
    alone = serializer.deserialize(serializer.serialize(executor.get_loop(waiting)))
    assert list(alone.child_ids) == [child]
    with pytest.raises(RunStateError, match="waits for"):
        alone.resume()


def test_a_tree_that_was_read_lives_by_its_rules() -> None:
    """In trees that were read, a parent resumes with its last child, and breaking it ends what is below."""
    executor = NestedLoopExecutor()
    root = executor.start_root("whole")
    first, second = executor.spawn_children(root, ["first", "second"])
    other = executor.start_root("other")
    below = executor.spawn_child(other, "below")
    serializer = LoopStateSerializer()
    manager = serializer.deserialize_manager(serializer.serialize_manager(executor.manager))
    loops = {loop.id: loop for loop in manager.get_all_loops()}
    loops[first].complete(result=1)
    assert loops[root].status is LoopStatus.PAUSED
    loops[second].complete(result=2)
    assert loops[root].status is LoopStatus.ACTIVE
    loops[other].abandon("not needed")
    assert loops[below].status is LoopStatus.ABANDONED


def test_results_keep_the_order_in_which_they_came() -> None:
    """Children that completed at one moment come back in the order of their completion."""
    executor = NestedLoopExecutor(clock=FakeClock(START))
    root = executor.start_root("whole")
    first, second, third = executor.spawn_children(root, ["1", "2", "3"])
    for child in (third, first, second):
        executor.complete(child)
    serializer = LoopStateSerializer()
    manager = serializer.deserialize_manager(serializer.serialize_manager(executor.manager))
    completed = manager.journal.run(root).completed_children or []
    assert [child.id for child in completed] == [third, first, second]


def test_a_visit_ended_before_its_last_answer_survives() -> None:
    """An answer recorded after `end_phase` keeps its place, and the visit the end it had."""
    clock = FakeClock(START)
    executor = NestedLoopExecutor(clock=clock)
    loop = executor.get_loop(executor.start_root("whole"))
    for seconds, step in ((5, loop.current_context().end_phase), (5, partial(executor.record_answer, loop.id, "late"))):
        clock.now += seconds
        step()
    executor.advance(loop.id)
    serializer = LoopStateSerializer(clock=clock)
    restored = serializer.deserialize(serializer.serialize(loop))
    assert shown(restored) == shown(loop)
    assert restored.phase_contexts[0].duration_seconds == 5


def test_parents_come_before_children() -> None:
    """A text of many loops goes tree by tree, each parent before its children."""
    executor = NestedLoopExecutor(new_id=ids("r1", "r2", "b", "a", "a1"))
    first, second = executor.start_root("1"), executor.start_root("2")
    executor.spawn_child(second, "of 2")
    executor.spawn_child(executor.spawn_child(first, "of 1"), "deeper")
    text = LoopStateSerializer().serialize_manager(executor.manager)
    assert [loop["id"] for loop in json.loads(text)["loops"]] == ["r1", "a", "a1", "r2", "b"]


def test_a_deep_tree_is_read() -> None:
    """A tree of four hundred levels is no trouble."""
    executor = NestedLoopExecutor(400)
    loop_id = executor.start_root("0")
    for level in range(1, 400):
        loop_id = executor.spawn_child(loop_id, str(level))
    serializer = LoopStateSerializer()
    manager = serializer.deserialize_manager(serializer.serialize_manager(executor.manager))
    assert manager.journal.run(loop_id).depth == 399


def test_a_loop_cut_from_a_larger_text_stands_alone() -> None:
    """One loop of a text of many can be read by itself, and a part of the loops together, its parent known by id."""
    executor = NestedLoopExecutor()
    root = executor.start_root("whole")
    child = executor.spawn_child(root, "part")
    executor.complete(executor.spawn_child(child, "part of part"), "done")
    serializer = LoopStateSerializer()
    loops = json.loads(serializer.serialize_manager(executor.manager))["loops"]
    alone = serializer.deserialize(json.dumps(loops[1]))
    assert (alone.id, alone.parent_id, alone.depth) == (child, root, 0)
    below = serializer.deserialize_manager(json.dumps({"loops": loops[1:]}))
    assert [(loop.parent_id, loop.depth) for loop in below.get_all_loops()] == [(root, 0), (child, 1)]


def test_an_empty_manager_is_a_text_too() -> None:
    """A manager without loops comes back without loops."""
    serializer = LoopStateSerializer()
    assert serializer.deserialize_manager(serializer.serialize_manager(CognitiveLoopManager())).get_all_loops() == []


def test_a_value_that_cannot_be_written_is_named() -> None:
    """A value no text can hold is refused, and the message says where it is."""
    executor = NestedLoopExecutor()
    executor.start_root("sound")
    root = executor.start_root("whole")
    executor.record_answer(root, {"connection": lambda: None})
    serializer = LoopStateSerializer()
    spot = r"phase_contexts\[0\].entries\[0\].value\['connection'\]: function cannot be kept"
    with pytest.raises(EncodeError, match=f"^{spot}"):
        serializer.serialize(executor.get_loop(root))
    with pytest.raises(EncodeError, match=rf"^loops\[1\].{spot}"):
        serializer.serialize_manager(executor.manager)


def test_a_reason_that_is_no_text_for_a_file_is_refused() -> None:
    """An id with a lone surrogate, which no UTF-8 file can hold, is refused with an error of ours."""
    loop = CognitiveLoop("a goal", new_id=ids("\ud800"))
    with pytest.raises(EncodeError, match="lone surrogate"):
        LoopStateSerializer().serialize(loop)


# What is refused


def spoilt(*changes: tuple[str, object]) -> str:
    """A text of three loops (root, its ended child, its open child) with values set at paths; `...` removes."""
    clock = FakeClock(START)
    executor = NestedLoopExecutor(clock=clock, new_id=ids("root", "done", "open"))
    root = executor.start_root("whole")
    clock.now += 60
    executor.advance(root)
    executor.get_loop(root).current_context().record_decision("split", "it is large")
    done, _ = executor.spawn_children(root, ["first", "second"])
    clock.now += 60
    executor.complete(done, 1)
    text = json.loads(LoopStateSerializer().serialize_manager(executor.manager))
    for path, value in changes:
        *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
        place: Any = text
        for part in parents:
            place = place[part]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return json.dumps(text)


TEN = "2025-03-01T10:00:00Z"

REFUSALS: list[tuple[list[tuple[str, object]], str]] = [
    ([("loops.2.goal", ...)], r"loops[2]: Object missing required field `goal`"),
    ([("loops.0.stauts", 1)], r"loops[0]: Object contains unknown field `stauts`"),
    ([("loops.0.phase_contexts.0.phase", "anser")], "loops[0].phase_contexts[0].phase: 'anser' is none of question, "),
    ([("loops.0.phase_contexts.0.phase", 3)], "loops[0].phase_contexts[0].phase: Expected `str`, got `int`"),
    ([("loops.0.status", "running")], "loops[0].status: 'running' is none of not_started, active"),
    ([("loops.1.termination_reason", "bored")], "loops[1].termination_reason: 'bored' is none of success"),
    ([("loops.0.transitions.0.to_phase", "x")], "loops[0].transitions[0].to_phase: 'x' is none of"),
    ([("loops.0.transitions.1.from_phase", "x")], "loops[0].transitions[1].from_phase: 'x' is none of"),
    ([("loops.0.current_phase", "x")], "loops[0].current_phase: 'x' is none of"),
    ([("loops.0.created_at", "yesterday")], "loops[0].created_at: Invalid RFC3339"),
    ([("loops.0.created_at", "2025-03-01T09:30:00")], "loops[0].created_at: Expected `datetime` with a timezone"),
    ([("loops.0.created_at", TEN)], "loops[0].phase_contexts[0].started_at: 2025-03-01T09:30:00+00:00 is before"),
    ([("loops.0.phase_contexts.1.started_at", "2025-03-01T09:00:00Z")], "time does not go backwards"),
    ([("loops.0.phase_contexts.1.entries.0.at", "2025-03-01T09:30:30Z")], "loops[0].phase_contexts[1].entries[0].at"),
    ([("loops.0.phase_contexts.0.ended_at", TEN)], "loops[0].phase_contexts[1].started_at: 2025-03-01T09:31:00+00:00"),
    ([("loops.0.phase_contexts.0.ended_at", None)], "loops[0].phase_contexts[0].ended_at: None contradicts the rest"),
    ([("loops.1.completed_at", "9999-12-31T23:59:59.999999Z")], "loops[1].completed_at: 9999-12-31"),
    ([("loops.0.phase_contexts.1.iteration", 2)], "loops[0].phase_contexts[1].iteration: 2 contradicts the rest"),
    ([("loops.0.phase_contexts.0.time_box_minutes", 5)], "loops[0].phase_contexts[0].time_box_minutes: 5 contradicts"),
    ([("loops.0.settings", {"time_box_minutes": "long"})], "loops[0].settings.time_box_minutes: minutes are a number"),
    ([("loops.0.settings", [])], "loops[0].settings: this is to be an object"),
    (
        [("loops.0.metadata", {"a": {"$new": 1}})],
        "loops[0].metadata: the value cannot be read: a value is tagged '$new'",
    ),
    ([("loops.0.metadata", {"$dict": [[1, 2]]})], "loops[0].metadata: this is to be an object with names as keys"),
    ([("loops.1.outcome", {"ok": {"$decimal": "x"}})], "loops[1].outcome.ok: the value cannot be read"),
    (
        [("loops.0.phase_contexts.1.entries.0.value", "split")],
        "loops[0].phase_contexts[1].entries[0].value: a decision",
    ),
    ([("loops.0.phase_contexts.1.entries.0.topic", "visit_ended")], "entries[0].topic: 'visit_ended' is no topic"),
    ([("loops.0.transitions", [])], "loops[0].transitions: 0 steps lead to 2 visits"),
    ([("loops.0.transitions.1.from_phase", "verify")], "transitions[1].from_phase: 'verify' contradicts the rest"),
    ([("loops.0.transitions.1.to_phase", "verify")], "transitions[1].to_phase: 'verify' contradicts the rest"),
    ([("loops.0.transitions.1.timestamp", TEN)], "transitions[1].timestamp: 2025-03-01T10:00:00+00:00 contradicts"),
    ([("loops.0.transitions.1.context_snapshot.elapsed_minutes", 2.5)], "context_snapshot.elapsed_minutes: 2.5 contr"),
    ([("loops.0.transitions.1.context_snapshot", {})], "loops[0].transitions[1].context_snapshot: {} contradicts"),
    ([("loops.0.current_phase", "verify")], "loops[0].current_phase: 'verify' contradicts the rest"),
    ([("loops.0.status", "active")], "loops[0].pause_reason: 'waiting for 2 children' contradicts"),
    (
        [("loops.0.status", "not_started"), ("loops.0.waits_for_children", False)],
        "loops[0].status: 'not_started' contr",
    ),
    ([("loops.0.pause_reason", None)], "loops[0].pause_reason: None contradicts the rest"),
    ([("loops.2.block_reason", "rain")], "loops[2].block_reason: 'rain' contradicts the rest"),
    ([("loops.2.outcome", {"ok": 1})], "loops[2].outcome: an outcome contradicts the rest"),
    ([("loops.1.outcome", None)], "loops[1].outcome: a loop that has ended has one of ok, failed"),
    ([("loops.1.outcome", {"ok": 1, "skipped": "x"})], "loops[1].outcome: a loop that has ended has one of ok, failed"),
    ([("loops.1.outcome", {"abandoned": "x"})], "loops[1].outcome: abandoned is no end of a completed"),
    ([("loops.1.outcome", {"failed": {"error": {}}})], "loops[1].outcome.failed.error: Object missing required field"),
    ([("loops.1.outcome", {"failed": 3})], "loops[1].outcome.failed: Expected `object`, got `int`"),
    ([("loops.1.completed_at", None)], "loops[1].completed_at: a loop that is completed has one"),
    ([("loops.1.termination_reason", None)], "loops[1].termination_reason: a loop that is completed has one"),
    ([("loops.2.status", "paused"), ("loops.2.phase_contexts", []), ("loops.2.transitions", [])], "visited no phase"),
    ([("loops.0.goal", " ")], "loops[0].goal: it is empty"),
    ([("loops.0.id", "")], "loops[0].id: Expected `str` of length >= 1"),
    ([("loops.2.id", "done")], "loops[2].id: 'done' is the id of an earlier loop too"),
    ([("loops.0.child_ids", ["done"])], "loops[2].parent_id: no root leads here"),
    ([("loops.0.child_ids", ["done", "open", "lost"])], "loops[0].child_ids: ['done', 'open', 'lost'] contradicts"),
    ([("loops.2.child_ids", ["done"])], "loops[2].child_ids: 'done' is a child of 'root'"),
    ([("loops.0.parent_id", "open")], "loops[0].parent_id: no root leads here"),
    ([("loops.0.parent_id", "root")], "loops[0].parent_id: no root leads here"),
    ([("loops.0.completed_children", ["open"])], "loops[0].completed_children[0]: 'open' contradicts the rest"),
    ([("loops.2.created_at", "2025-03-01T09:00:00Z")], "loops[2].created_at: this is before its parent's"),
    ([("loops.2.waits_for_children", True)], "loops[2].waits_for_children: it has no open child to wait for"),
    ([("format", "cortical.loop/1")], "format: Invalid value"),
    ([("loops", 3)], "loops: Expected `array`, got `int`"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSALS, ids=[message[:60] for _, message in REFUSALS])
def test_a_bad_text_is_refused_and_told_where(changes: list[tuple[str, object]], message: str) -> None:
    """A text that is wrong somewhere raises one error, which names the place and the trouble."""
    with pytest.raises(InvalidInput) as refused:
        LoopStateSerializer().deserialize_manager(spoilt(*changes))
    assert message in str(refused.value)


def test_a_child_that_outlives_its_parent_is_refused() -> None:
    """An ended parent has no open child, in a text either."""
    ended: list[tuple[str, object]] = [
        ("loops.0.status", "abandoned"),
        ("loops.0.completed_at", TEN),
        ("loops.0.termination_reason", "manual"),
        ("loops.0.outcome", {"abandoned": ""}),
        ("loops.0.pause_reason", None),
        ("loops.0.waits_for_children", False),
        ("loops.0.phase_contexts.1.ended_at", TEN),
    ]
    with pytest.raises(InvalidInput, match=r"^loops\[2\].completed_at: its parent 'root' ended at"):
        LoopStateSerializer().deserialize_manager(spoilt(*ended))


@pytest.mark.parametrize("text", ["", "hello", '{"id": "a"', "\ud800", "[" * 5000, '{"id": "a"}}', '{"id": "\\ud800"}'])
def test_what_is_no_json_is_refused(text: str) -> None:
    """A text that is no JSON, or only part of one, is refused as input of no use."""
    with pytest.raises(InvalidInput):
        LoopStateSerializer().deserialize(text)


def test_what_is_no_object_is_refused() -> None:
    """JSON that is a list or a number is not a loop, and a loop is not many."""
    serializer = LoopStateSerializer()
    with pytest.raises(InvalidInput, match=r"^the whole: Expected `object`, got `array`"):
        serializer.deserialize("[]")
    with pytest.raises(InvalidInput, match=r"^the whole: Expected `object`, got `int`"):
        serializer.deserialize_context(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"^format: Invalid value 'cortical.loops/1'"):
        serializer.deserialize(serializer.serialize_manager(CognitiveLoopManager()))
    with pytest.raises(WrongType, match="not from dict"):
        serializer.deserialize({})  # type: ignore[arg-type]


ODD = st.sampled_from([None, True, -1, 1e300, "", "x", "question", "completed", TEN, [], {}, [1], {"$set": 3}, "a\x00"])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_text_breaks_the_reader(data: st.DataObject) -> None:
    """Whatever value stands in whatever place of a text, it is read or refused as bad input, nothing else."""
    text = json.loads(spoilt())
    place: Any = text
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        if data.draw(st.booleans()) and isinstance(place, dict):
            del place[key]
        else:
            place[key] = data.draw(ODD)
        break
    serializer = LoopStateSerializer()
    try:
        manager = serializer.deserialize_manager(json.dumps(text))
    except InvalidInput:
        return
    written = serializer.serialize_manager(manager)
    assert serializer.serialize_manager(serializer.deserialize_manager(written)) == written


# Visits and steps by themselves


def test_a_visit_made_by_hand_survives() -> None:
    """A visit that belongs to no loop keeps its entries, their times and its end, and then takes nothing more."""
    clock = FakeClock(START)
    context = PhaseContext(LoopPhase.PRODUCE, iteration=3, time_box_minutes=5, clock=clock)
    context.record_artifact(("report.md", 3))
    clock.now += 1.5
    context.record_decision("ship it", "it works")
    context.add_note("a note")
    context.record_question("and then?")
    serializer = LoopStateSerializer(clock=clock)
    going_on = serializer.deserialize_context(serializer.serialize_context(context))
    assert shown_visit(going_on) == shown_visit(context)
    going_on.add_note("one more")
    clock.now += 10
    context.end_phase()
    fields = serializer.serialize_context(context)
    over = serializer.deserialize_context(fields)
    assert json.loads(json.dumps(fields)) == fields
    assert shown_visit(over) == shown_visit(context)
    assert over.counts() == {"notes_count": 1, "questions_count": 1, "decisions_count": 1, "artifacts_count": 1}
    with pytest.raises(RunStateError):
        over.add_note("too late")


def test_a_visit_of_a_loop_survives_without_its_loop() -> None:
    """A visit taken from a loop shows the same when it is read, answers included, and belongs to no loop."""
    clock = FakeClock(START)
    executor = NestedLoopExecutor(clock=clock)
    root = executor.start_root("whole")
    executor.record_answer(root, {"ten", "writers"})
    context = executor.get_loop(root).current_context()
    serializer = LoopStateSerializer(clock=clock)
    restored = serializer.deserialize_context(serializer.serialize_context(context))
    assert shown_visit(restored) == shown_visit(context)
    restored.add_note("apart")
    assert list(context.notes) == []


def test_a_bad_visit_is_refused_and_told_where() -> None:
    """A visit that ends before it starts, lacks a key or is of no phase is refused."""
    serializer = LoopStateSerializer()
    fields = serializer.serialize_context(PhaseContext(LoopPhase.ANSWER, clock=FakeClock(START)))
    with pytest.raises(InvalidInput, match=r"^ended_at: 2025-03-01T09:00:00.* is before its start"):
        serializer.deserialize_context({**fields, "ended_at": "2025-03-01T09:00:00Z"})
    with pytest.raises(InvalidInput, match=r"^phase: 'doubt' is none of question, answer, produce, verify"):
        serializer.deserialize_context({**fields, "phase": "doubt"})
    with pytest.raises(InvalidInput, match=r"^the whole: Object missing required field `phase`"):
        serializer.deserialize_context({key: fields[key] for key in fields if key != "phase"})
    with pytest.raises(InvalidInput, match=r"^entries\[0\].topic: Expected `str`"):
        serializer.deserialize_context({**fields, "entries": [{"topic": 1, "at": TEN, "value": 1}]})
    with pytest.raises(InvalidInput, match=r"^time_box_minutes: minutes are a number, not True"):
        serializer.deserialize_context({**fields, "time_box_minutes": True})


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2025, 3, 1, 9, 30, 0, 123456, tzinfo=UTC),
        datetime(2025, 3, 1, 9, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(2025, 3, 1, 9, 30, 5),
    ],
)
def test_a_step_survives(moment: datetime) -> None:
    """A step made by hand equals what is read from its dictionary, whatever clock its time is told by."""
    step = LoopTransition(LoopPhase.ANSWER, LoopPhase.PRODUCE, moment, "clear", {"phase": "answer", "odd": (1, b"x")})
    serializer = LoopStateSerializer()
    fields = serializer.serialize_transition(step)
    assert json.loads(json.dumps(fields)) == fields
    assert serializer.deserialize_transition(fields) == step
    first = LoopTransition(None, LoopPhase.VERIFY, moment)
    assert serializer.deserialize_transition(serializer.serialize_transition(first)) == first


def test_a_bad_step_is_refused_and_told_where() -> None:
    """A step to nowhere, or with a snapshot that is no object, is refused."""
    serializer = LoopStateSerializer()
    fields = serializer.serialize_transition(LoopTransition(None, LoopPhase.QUESTION))
    assert serializer.deserialize_transition({**fields, "to_phase": "Verify"}).to_phase is LoopPhase.VERIFY
    with pytest.raises(InvalidInput, match=r"^to_phase: 'complete' is none of"):
        serializer.deserialize_transition({**fields, "to_phase": "complete"})
    with pytest.raises(InvalidInput, match=r"^context_snapshot: this is to be an object"):
        serializer.deserialize_transition({**fields, "context_snapshot": [1]})
    with pytest.raises(InvalidInput, match=r"^timestamp: Invalid RFC3339"):
        serializer.deserialize_transition({**fields, "timestamp": "noon"})
