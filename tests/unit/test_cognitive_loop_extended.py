"""One loop on its own, its phase contexts and transitions, and the manager of many."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cortical.core.errors import CorticalError, RunNotFound, RunStateError, WrongType
from cortical.core.outcome import Abandoned
from cortical.engine.callers import this_process
from cortical.reasoning import (
    CognitiveLoop,
    CognitiveLoopManager,
    LoopPhase,
    LoopStatus,
    LoopTransition,
    NestedLoopExecutor,
    PhaseContext,
    TerminationReason,
)
from cortical.store import Store
from cortical.testing import FakeClock


@pytest.fixture
def loop(clock: FakeClock) -> CognitiveLoop:
    """A loop on its own, not started."""
    return CognitiveLoop("Choose a database", clock=clock)


@pytest.fixture
def manager(clock: FakeClock) -> CognitiveLoopManager:
    """A manager in memory."""
    return CognitiveLoopManager(clock=clock)


class TestLoop:
    """The life of one loop."""

    def test_new_loop(self, loop: CognitiveLoop, clock: FakeClock) -> None:
        """A new loop waits: it has a goal and an id, and nothing else."""
        assert (loop.goal, loop.status, loop.current_phase) == ("Choose a database", LoopStatus.NOT_STARTED, None)
        assert (loop.parent_id, loop.completed_at, loop.termination_reason) == (None, None, None)
        assert loop.created_at == datetime.fromtimestamp(clock.time(), UTC)
        assert loop.phase_contexts == loop.transitions == loop.child_ids == []
        assert (loop.total_elapsed_minutes(), loop.depth, loop.result) == (0.0, 0, None)
        assert "Choose a database" in repr(loop)

    @pytest.mark.parametrize("phase", LoopPhase)
    def test_start_at_any_phase(self, loop: CognitiveLoop, phase: LoopPhase) -> None:
        """A loop may begin at any phase: debugging at VERIFY, spiking at PRODUCE."""
        loop.start(phase)
        assert (loop.status, loop.current_phase, loop.get_iteration_count(phase)) == (LoopStatus.ACTIVE, phase, 1)

    def test_transitions_tell_of_the_visit_that_was_left(self, loop: CognitiveLoop, clock: FakeClock) -> None:
        """Each step has its ends, time and reason, and counts what the visit before it held."""
        loop.start()
        context = loop.current_context()
        context.add_note("n")
        context.record_question("How many writers?")
        context.record_decision("one", "simple")
        context.record_artifact("table.md")
        clock.advance(90)
        loop.transition(LoopPhase.ANSWER, "clear")
        first, second = loop.transitions
        assert (first.from_phase, first.to_phase, first.context_snapshot) == (None, LoopPhase.QUESTION, {})
        assert (second.from_phase, second.to_phase, second.reason) == (LoopPhase.QUESTION, LoopPhase.ANSWER, "clear")
        assert second.timestamp - first.timestamp == timedelta(seconds=90)
        assert second.context_snapshot == {
            "phase": "question",
            "iteration": 1,
            "elapsed_minutes": 1.5,
            "notes_count": 1,
            "questions_count": 1,
            "decisions_count": 1,
            "artifacts_count": 1,
        }

    def test_leaving_a_phase_ends_its_visit(self, loop: CognitiveLoop, clock: FakeClock) -> None:
        """The visit that was left has its end and duration, and takes nothing more."""
        loop.start()
        left = loop.current_context()
        clock.advance(30)
        loop.transition(LoopPhase.ANSWER)
        clock.advance(5)
        assert left.ended_at is not None
        assert (left.duration_seconds, left.elapsed_minutes()) == (30.0, 0.5)
        assert loop.current_context().duration_seconds is None
        with pytest.raises(RunStateError, match=r"visit 1 of 'question' .* is over; record on its current one"):
            left.add_note("late")

    def test_visits_are_counted_by_phase(self, loop: CognitiveLoop) -> None:
        """Iterations count from 1 in each phase, and contexts can be asked for by phase."""
        loop.start()
        for phase in (LoopPhase.ANSWER, LoopPhase.QUESTION, LoopPhase.ANSWER, LoopPhase.ANSWER):
            loop.transition(phase)
        assert [context.iteration for context in loop.get_all_contexts(LoopPhase.ANSWER)] == [1, 2, 3]
        assert [context.phase.value for context in loop.get_all_contexts()] == [
            "question",
            "answer",
            "question",
            "answer",
            "answer",
        ]
        assert loop.get_iteration_count(LoopPhase.VERIFY) == 0

    def test_notes_of_each_visit_stay_apart(self, loop: CognitiveLoop) -> None:
        """What is recorded belongs to the visit during which it was."""
        loop.start()
        loop.add_note("a")
        loop.transition(LoopPhase.ANSWER)
        loop.transition(LoopPhase.PRODUCE)
        loop.add_note("b")
        loop.add_note("c")
        loop.transition(LoopPhase.VERIFY)
        assert [list(context.notes) for context in loop.phase_contexts] == [["a"], [], ["b", "c"], []]

    def test_complete(self, loop: CognitiveLoop, clock: FakeClock) -> None:
        """Completing ends the loop and its visit, with reason, time and result."""
        loop.start()
        clock.advance(120)
        loop.complete(TerminationReason.USER_APPROVED, {"db": "sqlite"})
        clock.advance(60)
        assert (loop.status, loop.termination_reason) == (LoopStatus.COMPLETED, TerminationReason.USER_APPROVED)
        assert loop.result == {"db": "sqlite"}
        assert loop.completed_at == datetime.fromtimestamp(clock.time() - 60, UTC)
        assert loop.total_elapsed_minutes() == 2.0
        assert loop.current_context().duration_seconds == 120

    def test_pause_block_resume_abandon(self, loop: CognitiveLoop) -> None:
        """A loop stops and goes on by hand, and can be given up."""
        loop.start()
        loop.pause("lunch")
        assert (loop.status, loop.pause_reason) == (LoopStatus.PAUSED, "lunch")
        loop.resume()
        loop.block("no access")
        assert (loop.status, loop.block_reason) == (LoopStatus.BLOCKED, "no access")
        loop.resume()
        assert (loop.status, loop.block_reason) == (LoopStatus.ACTIVE, None)
        loop.abandon("superseded")
        assert (loop.status, loop.run.outcome) == (LoopStatus.ABANDONED, Abandoned("superseded", this_process()))

    def test_children(self, loop: CognitiveLoop) -> None:
        """A child waits to be started, its parent goes on, and cannot complete before it has ended."""
        loop.start()
        child = loop.spawn_child("Measure")
        assert (child.status, child.parent_id, child.depth, loop.child_ids) == (
            LoopStatus.NOT_STARTED,
            loop.id,
            1,
            [child.id],
        )
        assert loop.status is LoopStatus.ACTIVE
        with pytest.raises(RunStateError, match=child.id):
            loop.complete()
        child.start(LoopPhase.PRODUCE)
        child.complete()
        loop.complete()
        assert loop.status is LoopStatus.COMPLETED

    def test_abandon_takes_children_along(self, loop: CognitiveLoop) -> None:
        """Giving a loop up gives up all that is open below it, started or not."""
        loop.start()
        child = loop.spawn_child("a")
        grandchild = child.spawn_child("b")
        loop.abandon("no")
        assert [below.status for below in (loop, child, grandchild)] == [LoopStatus.ABANDONED] * 3

    @pytest.mark.parametrize(
        ("prepare", "call", "match"),
        [
            ([], lambda it: it.transition(LoopPhase.ANSWER), "not active but not_started; start it first"),
            ([], lambda it: it.pause(), "not active"),
            ([], lambda it: it.block("b"), "not active"),
            ([], lambda it: it.resume(), "not paused or blocked"),
            ([], lambda it: it.complete(), "start it first"),
            ([], lambda it: it.current_context(), "has not been started"),
            ([], lambda it: it.add_note("n"), "has not been started"),
            (["start"], lambda it: it.start(), "started before"),
            (["start"], lambda it: it.resume(), "it is active, not paused or blocked"),
            (["start", "pause"], lambda it: it.transition(LoopPhase.ANSWER), "not active but paused; resume it first"),
            (["start", "pause"], lambda it: it.pause(), "not active"),
            (["start", "complete"], lambda it: it.start(), "started before"),
            (["start", "complete"], lambda it: it.transition(LoopPhase.ANSWER), "ended"),
            (["start", "complete"], lambda it: it.complete(), "ended"),
            (["start", "complete"], lambda it: it.abandon("a"), "ended"),
            (["start", "complete"], lambda it: it.pause(), "ended"),
            (["start", "complete"], lambda it: it.resume(), "completed"),
            (["start", "complete"], lambda it: it.add_note("n"), "ended"),
            (["start", "complete"], lambda it: it.spawn_child("g"), "ended"),
        ],
    )
    def test_refusals(
        self, loop: CognitiveLoop, prepare: list[str], call: Callable[[CognitiveLoop], Any], match: str
    ) -> None:
        """What a loop's status does not allow is refused as a ValueError that says why, and changes nothing."""
        for name in prepare:
            getattr(loop, name)()
        before = loop.get_summary()
        with pytest.raises(ValueError, match=match):
            call(loop)
        assert loop.get_summary() == before

    def test_wrong_types(self, loop: CognitiveLoop) -> None:
        """Phases and reasons of another type are refused."""
        with pytest.raises(WrongType, match="a phase is a LoopPhase"):
            loop.start("question")  # type: ignore[arg-type]
        loop.start()
        with pytest.raises(WrongType, match="a phase is a LoopPhase"):
            loop.transition("answer")  # type: ignore[arg-type]
        with pytest.raises(WrongType, match="TerminationReason"):
            loop.complete("done")  # type: ignore[arg-type]
        assert len(loop.transitions) == 1

    def test_summary(self, loop: CognitiveLoop, clock: FakeClock) -> None:
        """The summary tells where the loop stands in plain values."""
        loop.start()
        loop.current_context().record_decision("one", "simple")
        clock.advance(60)
        loop.block("no key")
        assert loop.get_summary() == {
            "id": loop.id,
            "goal": "Choose a database",
            "status": "blocked",
            "current_phase": "question",
            "iterations": {"question": 1, "answer": 0, "produce": 0, "verify": 0},
            "transitions": 1,
            "elapsed_minutes": 1.0,
            "parent_id": None,
            "child_ids": [],
            "questions_raised": [],
            "decisions_made": [{"decision": "one", "rationale": "simple"}],
            "artifacts_produced": [],
            "block_reason": "no key",
            "termination_reason": None,
        }

    def test_two_faces_of_one_loop_are_equal(self, executor: NestedLoopExecutor) -> None:
        """Loops handed out twice are the same loop; those of another store are not."""
        root = executor.start_root("g")
        assert executor.get_loop(root) == executor.get_loop(root)
        assert len({executor.get_loop(root), executor.get_loop(root)}) == 1
        assert executor.get_loop(root) != CognitiveLoop("g")
        assert executor.get_loop(root) != root

    def test_time_never_goes_back(self, loop: CognitiveLoop, clock: FakeClock) -> None:
        """A clock that jumps back cannot make a visit end before it began."""
        loop.start()
        clock.now = clock.time() - 3600
        loop.transition(LoopPhase.ANSWER)
        assert loop.phase_contexts[0].duration_seconds == 0
        assert loop.current_context().elapsed_minutes() == 0
        assert loop.total_elapsed_minutes() == 0


class TestPhaseContext:
    """A visit, of a loop or by hand."""

    @pytest.fixture(params=["by hand", "of a loop"])
    def context(self, request: pytest.FixtureRequest, loop: CognitiveLoop, clock: FakeClock) -> PhaseContext:
        """A visit of ANSWER that has just begun."""
        if request.param == "by hand":
            return PhaseContext(LoopPhase.ANSWER, clock=clock)
        loop.start(LoopPhase.ANSWER)
        return loop.current_context()

    def test_recording(self, context: PhaseContext, clock: FakeClock) -> None:
        """Notes, questions, decisions and artifacts are kept in order, decisions with their time."""
        context.add_note("a")
        context.add_note("b")
        context.record_question("why?")
        clock.advance(60)
        context.record_decision("x", "because")
        context.record_decision("y")
        context.record_artifact({"file": "f"})
        assert context.notes == ["a", "b"]
        assert context.questions_raised == ["why?"]
        moment = context.started_at + timedelta(seconds=60)
        assert context.decisions_made == [
            {"decision": "x", "rationale": "because", "timestamp": moment},
            {"decision": "y", "rationale": "", "timestamp": moment},
        ]
        assert context.artifacts_produced == [{"file": "f"}]
        assert context.answers == []
        assert "iteration=1" in repr(context)

    def test_lists_are_read_only(self, context: PhaseContext) -> None:
        """What is recorded cannot be changed behind the log's back."""
        context.add_note("a")
        with pytest.raises(AttributeError):
            context.notes.append("b")  # type: ignore[attr-defined]
        with pytest.raises(TypeError):
            context.notes[0] = "b"  # type: ignore[index]
        assert context.notes == ["a"]

    def test_time_box(self, context: PhaseContext, clock: FakeClock) -> None:
        """A visit is overdue once it takes longer than its time box."""
        assert context.time_box_minutes == 30
        clock.advance(30 * 60)
        assert (context.elapsed_minutes(), context.overdue) == (30.0, False)
        clock.advance(1)
        assert context.overdue

    def test_end_phase(self, context: PhaseContext, clock: FakeClock) -> None:
        """Ending a visit fixes its duration once; after that it takes nothing more."""
        clock.advance(60)
        context.end_phase()
        clock.advance(60)
        context.end_phase()
        assert (context.duration_seconds, context.elapsed_minutes()) == (60.0, 1.0)
        assert context.ended_at == context.started_at + timedelta(seconds=60)
        with pytest.raises(ValueError, match="is over"):
            context.add_note("late")

    def test_by_hand_with_a_start(self) -> None:
        """One made by hand may have begun earlier, and be a later visit."""
        began = datetime(2026, 1, 1, tzinfo=UTC)
        context = PhaseContext(LoopPhase.VERIFY, began, 3, time_box_minutes=5)
        assert (context.phase, context.started_at, context.iteration) == (LoopPhase.VERIFY, began, 3)
        assert context.overdue
        with pytest.raises(WrongType):
            PhaseContext("verify")  # type: ignore[arg-type]

    def test_an_ended_visit_can_be_moved_on_from(self, loop: CognitiveLoop, clock: FakeClock) -> None:
        """Time between the end of a visit and the next move belongs to neither."""
        loop.start()
        clock.advance(10)
        loop.current_context().end_phase()
        clock.advance(10)
        loop.transition(LoopPhase.ANSWER)
        assert loop.phase_contexts[0].duration_seconds == 10
        assert loop.current_context().notes == []

    def test_time_box_of_a_loop(self, clock: FakeClock) -> None:
        """A loop's time box holds for all its visits."""
        loop = CognitiveLoop("g", time_box_minutes=1, clock=clock)
        loop.start()
        loop.transition(LoopPhase.ANSWER)
        assert [context.time_box_minutes for context in loop.phase_contexts] == [1, 1]

    def test_a_transition_by_hand(self) -> None:
        """A transition is a plain value with sensible defaults."""
        step = LoopTransition(None, LoopPhase.QUESTION)
        assert (step.reason, step.context_snapshot) == ("", {})
        assert step.timestamp.tzinfo is UTC


class TestManager:
    """Many loops."""

    def test_create_and_get(self, manager: CognitiveLoopManager) -> None:
        """A loop is found by its id, an unknown id gives None, and a child is made below its parent."""
        loop = manager.create_loop("a")
        child = manager.create_loop("b", loop.id)
        assert manager.get_loop(loop.id) == loop
        assert manager.get_loop("nope") is None
        assert manager.get_loop(None) is None  # type: ignore[arg-type]
        assert child.parent_id == loop.id
        assert manager.get_all_loops() == [loop, child]
        with pytest.raises(RunNotFound):
            manager.create_loop("c", "nope")

    def test_by_status(self, manager: CognitiveLoopManager) -> None:
        """Active and blocked loops are found as they stand now."""
        active, blocked, waiting = (manager.create_loop(goal) for goal in "abc")
        active.start()
        blocked.start()
        blocked.block("b")
        assert manager.get_active_loops() == [active]
        assert manager.get_blocked_loops() == [blocked]
        blocked.resume()
        active.complete()
        assert manager.get_active_loops() == [blocked]
        assert manager.get_blocked_loops() == []
        assert waiting.status is LoopStatus.NOT_STARTED

    def test_stuck_loops(self, manager: CognitiveLoopManager) -> None:
        """A loop that comes to one phase too often is stuck, until it ends."""
        loop = manager.create_loop("a")
        loop.start()
        other = manager.create_loop("b")
        other.start()
        for _ in range(2):
            assert manager.get_stuck_loops() == []
            loop.transition(LoopPhase.ANSWER)
            loop.transition(LoopPhase.QUESTION)
        assert manager.get_stuck_loops() == [loop]
        assert manager.get_stuck_loops(4) == []
        assert manager.get_stuck_loops(1) == [loop, other]
        assert manager.get_summary()["stuck_count"] == 1
        loop.complete()
        assert manager.get_stuck_loops() == []

    def test_overdue_loops(self, manager: CognitiveLoopManager, clock: FakeClock) -> None:
        """A loop that was started long ago and is open is overdue; one that waits is not."""
        loop = manager.create_loop("a")
        manager.create_loop("waits")
        clock.advance(10_000)
        loop.start()
        clock.advance(120 * 60)
        assert manager.get_overdue_loops() == []
        clock.advance(1)
        assert manager.get_overdue_loops() == [loop]
        assert manager.get_overdue_loops(max_minutes=500) == []
        loop.pause("still open")
        assert manager.get_overdue_loops() == [loop]
        loop.abandon("done")
        assert manager.get_overdue_loops() == []

    def test_transition_handlers(self, manager: CognitiveLoopManager) -> None:
        """Handlers hear of each step of any loop, in order, until they are taken off."""
        seen: list[tuple[str, LoopTransition]] = []
        stop = manager.register_transition_handler(lambda loop, step: seen.append((loop.goal, step)))
        a, b = manager.create_loop("a"), manager.create_loop("b")
        a.start()
        b.start(LoopPhase.VERIFY)
        a.transition(LoopPhase.ANSWER, "why")
        assert [(goal, step.from_phase, step.to_phase) for goal, step in seen] == [
            ("a", None, LoopPhase.QUESTION),
            ("b", None, LoopPhase.VERIFY),
            ("a", LoopPhase.QUESTION, LoopPhase.ANSWER),
        ]
        assert seen[-1][1] == a.transitions[-1]
        stop()
        a.transition(LoopPhase.PRODUCE)
        assert len(seen) == 3

    def test_handlers_hear_of_each_step_of_a_transaction(self, executor: NestedLoopExecutor) -> None:
        """Steps made in one transaction are told one by one, after it."""
        seen: list[LoopPhase] = []
        executor.manager.register_transition_handler(lambda loop, step: seen.append(step.to_phase))
        with executor.transaction():
            root = executor.start_root("g")
            for _ in range(4):
                executor.advance(root)
            assert seen == []
        assert seen == [LoopPhase.QUESTION, LoopPhase.ANSWER, LoopPhase.PRODUCE, LoopPhase.VERIFY, LoopPhase.QUESTION]

    def test_completion_handlers(self, manager: CognitiveLoopManager) -> None:
        """Handlers hear of each end, however it came."""
        seen: list[tuple[str, TerminationReason]] = []
        stop = manager.register_completion_handler(lambda loop, reason: seen.append((loop.goal, reason)))
        a, b, c = (manager.create_loop(goal) for goal in "abc")
        for loop in (a, b, c):
            loop.start()
        a.complete(TerminationReason.BUDGET_EXHAUSTED)
        b.abandon("no")
        stop()
        c.complete()
        assert seen == [("a", TerminationReason.BUDGET_EXHAUSTED), ("b", TerminationReason.MANUAL)]

    def test_a_raising_handler_hurts_nothing(
        self, manager: CognitiveLoopManager, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A handler that raises is reported; the loop goes on and other handlers are called."""
        seen: list[str] = []
        manager.register_transition_handler(lambda loop, step: 1 / 0)
        manager.register_transition_handler(lambda loop, step: seen.append(step.to_phase.value))
        loop = manager.create_loop("a")
        with caplog.at_level(logging.ERROR, "cortical"):
            loop.start()
        assert (loop.status, seen) == (LoopStatus.ACTIVE, ["question"])
        assert "ZeroDivisionError" in caplog.text

    def test_a_handler_may_change_loops(self, manager: CognitiveLoopManager) -> None:
        """A handler may itself move loops; what it does is told after what it was told."""
        order: list[str] = []

        def push(loop: CognitiveLoop, step: LoopTransition) -> None:
            order.append(step.to_phase.value)
            if step.to_phase is LoopPhase.ANSWER:
                loop.transition(LoopPhase.PRODUCE)

        manager.register_transition_handler(push)
        manager.register_transition_handler(lambda loop, step: order.append(step.to_phase.value.upper()))
        loop = manager.create_loop("a")
        loop.start()
        loop.transition(LoopPhase.ANSWER)
        assert order == ["question", "QUESTION", "answer", "ANSWER", "produce", "PRODUCE"]

    def test_handlers_must_be_callable(self, manager: CognitiveLoopManager) -> None:
        """What cannot be called is refused when it is registered."""
        with pytest.raises(CorticalError, match="cannot be called"):
            manager.register_transition_handler("print")  # type: ignore[arg-type]
        with pytest.raises(CorticalError, match="cannot be called"):
            manager.register_completion_handler(None)  # type: ignore[arg-type]
        with pytest.raises(CorticalError, match="cannot be called"):
            manager.journal.subscribe(3)  # type: ignore[arg-type]

    def test_summary(self, manager: CognitiveLoopManager, clock: FakeClock) -> None:
        """Counts by status, time by phase, and the share that succeeded."""
        assert manager.get_summary()["success_rate"] is None
        a, b, c = (manager.create_loop(goal) for goal in "abc")
        a.start()
        clock.advance(10)
        a.transition(LoopPhase.ANSWER)
        b.start()
        clock.advance(20)
        a.complete()
        b.abandon("no")
        c.start()
        c.block("key")
        assert manager.get_summary() == {
            "total_loops": 3,
            "by_status": {"completed": 1, "abandoned": 1, "blocked": 1},
            "active_count": 0,
            "blocked_count": 1,
            "stuck_count": 0,
            "phases": {
                "question": {"visits": 3, "total_seconds": 30.0, "mean_seconds": 15.0},
                "answer": {"visits": 1, "total_seconds": 20.0, "mean_seconds": 20.0},
                "produce": {"visits": 0, "total_seconds": 0.0, "mean_seconds": None},
                "verify": {"visits": 0, "total_seconds": 0.0, "mean_seconds": None},
            },
            "success_rate": 0.5,
        }

    def test_managers_share_a_store(self, any_store: Store) -> None:
        """What one executor has started, the manager of another on the same store finds, open or ended."""
        first = NestedLoopExecutor(store=any_store)
        ended, active = first.start_root("ended"), first.start_root("active")
        first.complete(ended)
        second = NestedLoopExecutor(store=any_store).manager
        assert [loop.id for loop in second.get_active_loops()] == [active]
        assert second.get_summary()["by_status"] == {"completed": 1, "active": 1}
        assert {loop.id for loop in second.get_all_loops()} == {ended, active}
