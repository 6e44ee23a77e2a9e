"""The nested executor: contexts, basic calls, hierarchy, results, early ends, and edges."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest

from cortical import Agent, Loop, Verdict
from cortical.agents.spawn_policy import Decision, DefaultSpawnPolicy, SpawnContext
from cortical.core.errors import (
    CorticalError,
    DepthLimitReached,
    EncodeError,
    InvalidInput,
    RunNotFound,
    RunStateError,
    WrongType,
)
from cortical.core.journal import Journal
from cortical.core.outcome import Abandoned, Failed
from cortical.core.tree import Tree
from cortical.engine.callers import this_process
from cortical.reasoning import (
    CognitiveLoop,
    LoopContext,
    LoopPhase,
    LoopStatus,
    NestedLoopExecutor,
    TerminationReason,
)
from cortical.store import MemoryStore, Store, open_store
from cortical.testing import FakeClock


class TestLoopContext:
    """A context made by hand."""

    def test_initialization(self) -> None:
        """A new context has its place and goal, and nothing gathered."""
        context = LoopContext(depth=2, parent_id="p", goal="g")
        assert (context.depth, context.parent_id, context.goal) == (2, "p", "g")
        assert (context.accumulated_answers, context.child_results, context.metadata) == ([], {}, {})

    def test_answers_accumulate(self) -> None:
        """Answers are kept in order."""
        context = LoopContext(0, None, "g")
        context.add_answer("a")
        context.add_answer({"b": 1})
        assert context.accumulated_answers == ["a", {"b": 1}]

    def test_child_results_are_tracked(self) -> None:
        """Results are kept by child, in the order they came."""
        context = LoopContext(0, None, "g")
        context.add_child_result("z", 1)
        context.add_child_result("a", 2)
        assert list(context.child_results.items()) == [("z", 1), ("a", 2)]

    def test_answers_are_handed_out_as_a_copy(self) -> None:
        """Changing the list that was handed out changes nothing in the context."""
        context = LoopContext(0, None, "g", ["a"])
        context.get_all_answers().append("b")
        assert context.get_all_answers() == ["a"]

    def test_contexts_do_not_share_lists(self) -> None:
        """Each context has lists of its own."""
        LoopContext(0, None, "g").add_answer("a")
        assert LoopContext(0, None, "g").accumulated_answers == []


class TestBasicOperations:
    """Starting and walking one loop."""

    def test_initialization(self, executor: NestedLoopExecutor) -> None:
        """A new executor is empty and allows five levels."""
        assert executor.max_depth == 5
        assert executor.get_all_loops() == executor.get_active_loops() == []
        assert executor.get_summary() == {
            "total_loops": 0,
            "active_loops": 0,
            "max_depth_limit": 5,
            "max_depth_reached": 0,
            "status_counts": {},
        }

    @pytest.mark.parametrize(
        ("depth", "error"), [(0, ValueError), (-1, ValueError), ("5", TypeError), (True, TypeError), (2.0, TypeError)]
    )
    def test_max_depth_is_checked(self, depth: Any, error: type[Exception]) -> None:
        """A depth that leaves no room for a root, or is no whole number, is refused."""
        with pytest.raises(error, match="max_depth"):
            NestedLoopExecutor(max_depth=depth)

    def test_start_root(self, executor: NestedLoopExecutor) -> None:
        """A root is active at QUESTION, at depth 0, without a parent."""
        root = executor.start_root("Build it")
        loop = executor.get_loop(root)
        assert isinstance(loop, CognitiveLoop)
        assert (loop.id, loop.goal, loop.status, loop.current_phase) == (
            root,
            "Build it",
            LoopStatus.ACTIVE,
            LoopPhase.QUESTION,
        )
        assert executor.get_context(root) == LoopContext(0, None, "Build it")

    def test_advance_goes_round_the_cycle(self, executor: NestedLoopExecutor) -> None:
        """The phases follow each other, and VERIFY leads into the next turn."""
        root = executor.start_root("g")
        phases = [executor.advance(root) for _ in range(5)]
        assert phases == [LoopPhase.ANSWER, LoopPhase.PRODUCE, LoopPhase.VERIFY, LoopPhase.QUESTION, LoopPhase.ANSWER]
        loop = executor.get_loop(root)
        assert loop.current_context().iteration == 2
        assert [loop.get_iteration_count(phase) for phase in LoopPhase] == [2, 2, 1, 1]

    def test_record_answer(self, executor: NestedLoopExecutor) -> None:
        """An answer is kept in the context, and in the visit during which it was given."""
        root = executor.start_root("g")
        executor.record_answer(root, "first")
        executor.advance(root)
        executor.record_answer(root, {"second": 2})
        assert executor.get_context(root).accumulated_answers == ["first", {"second": 2}]
        assert [context.answers for context in executor.get_loop(root).phase_contexts] == [["first"], [{"second": 2}]]

    @pytest.mark.parametrize(
        "call",
        [
            lambda ex: ex.advance("nope"),
            lambda ex: ex.record_answer("nope", 1),
            lambda ex: ex.complete("nope"),
            lambda ex: ex.fail("nope", ValueError()),
            lambda ex: ex.break_loop("nope", "r"),
            lambda ex: ex.spawn_child("nope", "g"),
            lambda ex: ex.spawn_children("nope", ["g"]),
            lambda ex: ex.pause("nope"),
            lambda ex: ex.resume("nope"),
            lambda ex: ex.block("nope", "b"),
            lambda ex: ex.update_metadata("nope", {}),
            lambda ex: ex.get_loop("nope"),
            lambda ex: ex.get_context("nope"),
            lambda ex: ex.get_loop_hierarchy("nope"),
            lambda ex: ex.get_children("nope"),
            lambda ex: ex.get_subtree("nope"),
            lambda ex: list(ex.walk("nope")),
            lambda ex: ex.export("nope"),
            lambda ex: ex.refresh("nope"),
            lambda ex: ex.get_loop(None),
        ],
    )
    def test_unknown_ids(self, executor: NestedLoopExecutor, call: Any) -> None:
        """Every call refuses an id that no loop has, as a KeyError that says so in a sentence."""
        with pytest.raises(KeyError, match="no run has the id") as caught:
            call(executor)
        assert isinstance(caught.value, RunNotFound)
        assert executor.get_summary()["total_loops"] == 0

    def test_metadata(self, executor: NestedLoopExecutor) -> None:
        """Metadata given at the start, or set later, stand in the context."""
        root = executor.start_root("g", metadata={"a": 1, "b": 2})
        executor.update_metadata(root, {"b": None, "c": 3})
        child = executor.spawn_child(root, "sub", metadata={"own": True})
        assert executor.get_context(root).metadata == {"a": 1, "b": None, "c": 3}
        assert executor.get_context(child).metadata == {"own": True}

    def test_the_context_records_answers(self, executor: NestedLoopExecutor) -> None:
        """An answer added to a loop's context is an answer of the loop; child results come only from children."""
        root = executor.start_root("g")
        executor.get_context(root).add_answer("a")
        assert executor.get_context(root).get_all_answers() == ["a"]
        with pytest.raises(RunStateError, match="complete the child"):
            executor.get_context(root).add_child_result("x", 1)

    def test_pause_block_resume(self, executor: NestedLoopExecutor) -> None:
        """A loop can be paused and blocked by hand, with the reason shown, and resumed."""
        root = executor.start_root("g")
        loop = executor.get_loop(root)
        executor.pause(root, "lunch")
        assert (loop.status, loop.pause_reason, loop.block_reason) == (LoopStatus.PAUSED, "lunch", None)
        executor.resume(root)
        assert (loop.status, loop.pause_reason) == (LoopStatus.ACTIVE, None)
        executor.block(root, "no key")
        assert (loop.status, loop.block_reason) == (LoopStatus.BLOCKED, "no key")
        with pytest.raises(RunStateError, match="not active"):
            executor.advance(root)
        executor.resume(root)
        assert executor.advance(root) is LoopPhase.ANSWER


class TestNestingAndHierarchy:
    """Trees of loops."""

    def test_spawn_child(self, executor: NestedLoopExecutor) -> None:
        """A child is active at QUESTION one level down, and its parent pauses."""
        root = executor.start_root("g")
        child = executor.spawn_child(root, "sub")
        assert executor.get_context(child) == LoopContext(1, root, "sub")
        assert executor.get_loop(child).status is LoopStatus.ACTIVE
        assert executor.get_loop(child).current_phase is LoopPhase.QUESTION
        assert executor.get_loop(root).status is LoopStatus.PAUSED
        assert executor.get_loop(root).pause_reason == "waiting for a child"
        assert executor.get_loop(root).child_ids == [child]

    def test_many_levels(self, executor: NestedLoopExecutor) -> None:
        """Each level pauses the one above it."""
        ids = [executor.start_root("0")]
        for level in range(1, 5):
            ids.append(executor.spawn_child(ids[-1], str(level)))
        assert [executor.get_loop(loop).status for loop in ids] == [LoopStatus.PAUSED] * 4 + [LoopStatus.ACTIVE]
        assert [executor.get_context(loop).depth for loop in ids] == [0, 1, 2, 3, 4]

    def test_hierarchy(self, executor: NestedLoopExecutor) -> None:
        """The path leads from the root to the loop, both included."""
        root = executor.start_root("a")
        child = executor.spawn_child(root, "b")
        grandchild = executor.spawn_child(child, "c")
        assert executor.get_loop_hierarchy(grandchild) == [root, child, grandchild]
        assert executor.get_loop_hierarchy(root) == [root]

    @pytest.mark.parametrize("limit", [1, 2, 5])
    def test_depth_limit(self, limit: int) -> None:
        """A limit of n allows n levels, the root among them, and the refusal changes nothing."""
        executor = NestedLoopExecutor(max_depth=limit)
        loop = executor.start_root("0")
        for level in range(1, limit):
            loop = executor.spawn_child(loop, str(level))
        before = executor.get_summary()
        for spawn in (
            lambda: executor.spawn_child(loop, "x"),
            lambda: executor.spawn_children(loop, ["x", "y"]),
            lambda: executor.get_loop(loop).spawn_child("x"),
            lambda: executor.manager.create_loop("x", loop),
        ):
            with pytest.raises(RecursionError, match=rf"'{loop}' may not spawn: depth limit {limit} reached; raise"):
                spawn()
        assert executor.get_summary() == before
        assert executor.get_loop(loop).status is LoopStatus.ACTIVE
        assert before["max_depth_reached"] == limit - 1

    def test_parent_pauses_and_resumes(self, executor: NestedLoopExecutor) -> None:
        """The parent goes on where it stood when its child completes, as often as it spawns."""
        root = executor.start_root("g")
        executor.advance(root)
        for _ in range(3):
            child = executor.spawn_child(root, "sub")
            assert executor.get_loop(root).status is LoopStatus.PAUSED
            assert executor.complete(child) == root
            assert executor.get_loop(root).status is LoopStatus.ACTIVE
        assert executor.get_loop(root).current_phase is LoopPhase.ANSWER

    def test_several_children_at_once(self, executor: NestedLoopExecutor) -> None:
        """The parent waits for the last of several open children, however each ends."""
        root = executor.start_root("g")
        first, second, third = executor.spawn_children(root, ["a", "b", "c"])
        assert len(executor.get_active_loops()) == 3
        executor.complete(second, 2)
        executor.break_loop(first, "no need")
        assert executor.get_loop(root).status is LoopStatus.PAUSED
        executor.fail(third, OSError("disk"))
        assert executor.get_loop(root).status is LoopStatus.ACTIVE
        assert executor.get_context(root).child_results == {second: 2}

    def test_children_subtree_walk(self, executor: NestedLoopExecutor) -> None:
        """The tree can be looked at: children in order, the subtree with parents before children."""
        root = executor.start_root("g")
        a, b = executor.spawn_children(root, ["a", "b"])
        deep = executor.spawn_child(a, "deep")
        assert [loop.id for loop in executor.get_children(root)] == [a, b]
        assert [loop.id for loop in executor.get_subtree(root)] == [root, a, deep, b]
        assert list(executor.walk(root)) == executor.get_subtree(root)
        assert [loop.id for loop in executor.get_active_loops(within=a)] == [deep]
        assert executor.get_subtree(deep) == [executor.get_loop(deep)]
        assert executor.get_children(deep) == []

    def test_wait_for_children_cannot_be_lifted_by_hand(self, executor: NestedLoopExecutor) -> None:
        """A parent that waits for its children is not resumed by hand; the refusal names them."""
        root = executor.start_root("g")
        child = executor.spawn_child(root, "sub")
        with pytest.raises(RunStateError, match=f"waits for its open child '{child}'"):
            executor.resume(root)
        assert executor.get_loop(root).status is LoopStatus.PAUSED

    def test_ids_do_not_collide(self, executor: NestedLoopExecutor) -> None:
        """Ids are long and random, and a prefix finds the loop."""
        ids = {executor.start_root("g") for _ in range(500)}
        assert len(ids) == 500
        assert {len(loop_id) for loop_id in ids} == {20}
        some = min(ids)
        assert executor.journal.resolve(some[:12]) == some


class TestResultAggregation:
    """What children bring back."""

    def test_single_child(self, executor: NestedLoopExecutor) -> None:
        """A child's result stands in its parent's context by the child's id."""
        root = executor.start_root("g")
        child = executor.spawn_child(root, "sub")
        executor.complete(child, {"tables": ["users"]})
        assert executor.get_context(root).child_results == {child: {"tables": ["users"]}}
        assert executor.get_loop(child).result == {"tables": ["users"]}

    def test_order_of_completion(self, executor: NestedLoopExecutor) -> None:
        """Results come in the order in which the children completed, None among them."""
        root = executor.start_root("g")
        a, b, c = executor.spawn_children(root, ["a", "b", "c"])
        for child, result in ((c, 3), (a, None), (b, 2)):
            executor.complete(child, result)
        assert list(executor.get_context(root).child_results.items()) == [(c, 3), (a, None), (b, 2)]

    def test_nested_results(self, executor: NestedLoopExecutor) -> None:
        """A grandchild's result is its parent's alone; what goes up is what the child makes of it."""
        root = executor.start_root("g")
        child = executor.spawn_child(root, "sub")
        grandchild = executor.spawn_child(child, "subsub")
        assert executor.complete(grandchild, 1) == child
        assert executor.complete(child, executor.get_context(child).child_results) == root
        assert executor.get_context(root).child_results == {child: {grandchild: 1}}
        assert executor.complete(root, "done") is None

    def test_a_value_is_never_judged(self, executor: NestedLoopExecutor) -> None:
        """A result that says it failed is still a result."""
        root = executor.start_root("g")
        executor.complete(root, {"success": False})
        assert executor.get_loop(root).status is LoopStatus.COMPLETED


class TestEarlyTermination:
    """Breaking and failing."""

    def test_break_root(self, executor: NestedLoopExecutor) -> None:
        """A broken root is abandoned, with the reason and who did it: this process, unless another is named."""
        root = executor.start_root("g")
        assert executor.break_loop(root, "not needed") is None
        loop = executor.get_loop(root)
        assert (loop.status, loop.termination_reason) == (LoopStatus.ABANDONED, TerminationReason.MANUAL)
        assert loop.outcome == Abandoned("not needed", this_process())

    def test_break_child_resumes_parent(self, executor: NestedLoopExecutor) -> None:
        """Breaking a child leaves the parent going on, without a result of it."""
        root = executor.start_root("g")
        child = executor.spawn_child(root, "sub")
        assert executor.break_loop(child, "deprecated") == root
        assert executor.get_loop(root).status is LoopStatus.ACTIVE
        assert executor.get_context(root).child_results == {}

    def test_break_ends_everything_below(self, executor: NestedLoopExecutor) -> None:
        """All open loops below are ended too, deepest first, with the reason and by whom; what had ended stays so."""
        root = executor.start_root("g")
        top = executor.spawn_child(root, "top")
        left, right = executor.spawn_children(top, ["left", "right"])
        deep = executor.spawn_child(left, "deep")
        executor.complete(right, "kept")
        order: list[str] = []
        executor.manager.register_completion_handler(lambda loop, reason: order.append(loop.id))
        executor.break_loop(top, "enough", by="Ada")
        assert order == [deep, left, top]
        for loop in (top, left, deep):
            assert executor.get_loop(loop).run.outcome == Abandoned("enough", "Ada")
        assert executor.get_loop(right).result == "kept"
        assert [loop.id for loop in executor.get_active_loops()] == [root]

    def test_break_leaves_siblings(self, executor: NestedLoopExecutor) -> None:
        """A break ends the one subtree; its siblings run on and the parent waits for them."""
        root = executor.start_root("g")
        a, b = executor.spawn_children(root, ["a", "b"])
        executor.break_loop(a, "no")
        assert executor.get_loop(b).status is LoopStatus.ACTIVE
        assert executor.get_loop(root).status is LoopStatus.PAUSED

    def test_fail_keeps_the_root_cause(self, executor: NestedLoopExecutor) -> None:
        """A failed loop keeps its error and what caused it, and hands no result on."""
        root = executor.start_root("g")
        child = executor.spawn_child(root, "sub")
        error = RuntimeError("no answer")
        error.__cause__ = ConnectionError("refused")
        assert executor.fail(child, error) == root
        outcome = executor.get_loop(child).run.outcome
        assert isinstance(outcome, Failed)
        assert (outcome.error.type, outcome.error.message) == ("RuntimeError", "no answer")
        assert (outcome.root.type, outcome.root.message) == ("ConnectionError", "refused")
        assert executor.get_loop(child).status is LoopStatus.FAILED
        assert executor.get_loop(root).status is LoopStatus.ACTIVE
        with pytest.raises(WrongType, match="an exception"):
            executor.fail(root, "a text")  # type: ignore[arg-type]


class TestEdgeCases:
    """Refusals, and what they leave."""

    def test_spawn_from_inactive_parent(self, executor: NestedLoopExecutor) -> None:
        """Only an active loop spawns; the refusal says how it stands and what to do."""
        root = executor.start_root("g")
        child = executor.spawn_child(root, "sub")
        with pytest.raises(
            ValueError, match=f"not active: it is paused for its open child '{child}'; complete or break"
        ):
            executor.spawn_child(root, "again")
        executor.complete(child)
        executor.pause(root, "lunch")
        with pytest.raises(ValueError, match="not active but paused; resume it first"):
            executor.spawn_child(root, "again")
        executor.break_loop(root, "no")
        with pytest.raises(ValueError, match="not active: it has ended, abandoned; start another"):
            executor.spawn_child(root, "again")

    def test_completion_is_refused_while_a_child_is_open(self, executor: NestedLoopExecutor) -> None:
        """A loop cannot complete or fail above an open child; the refusal names it."""
        root = executor.start_root("g")
        child = executor.spawn_child(root, "sub")
        ends: list[Callable[[], object]] = [
            lambda: executor.complete(root, 1),
            lambda: executor.fail(root, ValueError()),
        ]
        for end in ends:
            with pytest.raises(RunStateError, match=f"its open child '{child}' has not ended; complete or break"):
                end()
        assert executor.get_loop(root).status is LoopStatus.PAUSED

    def test_an_ended_loop_stays_as_it_ended(self, executor: NestedLoopExecutor) -> None:
        """After its end a loop refuses everything, and its outcome stands."""
        root = executor.start_root("g")
        executor.complete(root, "first")
        calls: list[Any] = [
            lambda: executor.complete(root, "second"),
            lambda: executor.break_loop(root, "r"),
            lambda: executor.fail(root, ValueError()),
            lambda: executor.advance(root),
            lambda: executor.record_answer(root, 1),
            lambda: executor.update_metadata(root, {"a": 1}),
            lambda: executor.pause(root),
            lambda: executor.resume(root),
            lambda: executor.block(root, "b"),
        ]
        for call in calls:
            with pytest.raises(RunStateError, match=r"ended|completed"):
                call()
        assert executor.get_loop(root).result == "first"

    @pytest.mark.parametrize(
        ("goal", "error"),
        [
            ("", InvalidInput),
            ("  \n", InvalidInput),
            (None, WrongType),
            (3, WrongType),
            (b"g", WrongType),
            ("\udc80", InvalidInput),
        ],
    )
    def test_goals_are_checked_at_the_door(
        self, executor: NestedLoopExecutor, goal: Any, error: type[Exception]
    ) -> None:
        """A goal is a text that says something; anything else is refused, and nothing is started."""
        root = executor.start_root("g")
        for call in (
            lambda: executor.start_root(goal),
            lambda: executor.spawn_child(root, goal),
            lambda: executor.spawn_children(root, ["fine", goal]),
            lambda: executor.manager.create_loop(goal),
        ):
            with pytest.raises(error, match="a goal"):
                call()
        assert executor.get_summary()["total_loops"] == 1
        assert executor.get_loop(root).status is LoopStatus.ACTIVE

    def test_children_are_given_as_a_list(self, executor: NestedLoopExecutor) -> None:
        """A single text, or no goal at all, is no list of goals."""
        root = executor.start_root("g")
        with pytest.raises(WrongType, match="use spawn_child for one"):
            executor.spawn_children(root, "abc")
        with pytest.raises(InvalidInput, match="give at least one"):
            executor.spawn_children(root, [])
        assert executor.get_children(root) == []

    @pytest.mark.parametrize("reason", [None, 1, "\ud800"])
    def test_reasons_are_texts(self, executor: NestedLoopExecutor, reason: Any) -> None:
        """A reason that is no text is refused before anything happens."""
        root = executor.start_root("g")
        for call in (executor.break_loop, executor.pause, executor.block):
            with pytest.raises(CorticalError, match="a reason"):
                call(root, reason)
        assert executor.get_loop(root).status is LoopStatus.ACTIVE

    def test_a_shared_journal_says_how_deep_trees_may_be(self, clock: FakeClock) -> None:
        """However a child is started, the limit is one: that of the journal; another is refused with it."""
        first = NestedLoopExecutor(2, clock=clock)
        for shared in (first, first.journal):
            with pytest.raises(InvalidInput, match="max_depth is said to the journal"):
                NestedLoopExecutor(3, store=shared)
            for option in ({"lock_timeout": 1.0}, {"new_id": lambda: "id"}):
                with pytest.raises(InvalidInput, match=f"{next(iter(option))} is said to the journal"):
                    NestedLoopExecutor(store=shared, **option)
            again = NestedLoopExecutor(store=shared)
            assert (again.max_depth, again.get_summary()["max_depth_limit"]) == (2, 2)
        child = again.spawn_child(again.start_root("root"), "child")
        with pytest.raises(DepthLimitReached):
            again.spawn_child(child, "too deep")
        with pytest.raises(DepthLimitReached):
            again.get_loop(child).spawn_child("too deep")
        endless = NestedLoopExecutor(store=Journal(MemoryStore(), clock=clock))
        assert (endless.max_depth, endless.get_summary()["max_depth_limit"]) == (sys.maxsize, None)

    def test_a_busy_loop_is_paused_from_outside(self, any_store: Store) -> None:
        """Whatever another writer has recorded meanwhile, a pause, a block and a resumption hold; nothing is lost."""
        driving, outside = NestedLoopExecutor(store=any_store), NestedLoopExecutor(store=any_store)
        root = driving.start_root("busy")
        outside.get_loop(root)
        driving.advance(root)
        outside.pause(root, "lunch")
        driving.refresh(root)
        driving.resume(root)
        outside.refresh(root)
        driving.advance(root)
        outside.block(root, "the disk")
        driving.refresh(root)
        driving.update_metadata(root, {"seen": 1})
        outside.resume(root)
        assert driving.refresh(root).status is LoopStatus.ACTIVE
        assert [visit.place for visit in driving.journal.run(root).visits] == ["question", "answer", "produce"]

    def test_metadata_are_values_by_name(self, executor: NestedLoopExecutor) -> None:
        """Metadata that are no mapping of names are refused."""
        for metadata in ([("a", 1)], {1: 2}, "a"):
            with pytest.raises(WrongType, match="metadata is values by name"):
                executor.start_root("g", metadata=metadata)  # type: ignore[arg-type]

    def test_complex_integration(self, any_store: Store, clock: FakeClock) -> None:
        """A tree with all kinds of ends tells its story the same from memory and from any store read anew."""
        executor = NestedLoopExecutor(4, store=any_store, clock=clock)
        root = executor.start_root("Build e-commerce platform")
        executor.advance(root)
        backend, frontend = executor.spawn_children(root, ["Build backend", "Build frontend"])
        auth = executor.spawn_child(backend, "Implement auth")
        executor.record_answer(auth, "JWT")
        jwt = executor.spawn_child(auth, "Setup JWT")
        clock.advance(60)
        executor.complete(jwt, {"lib": "pyjwt"})
        executor.complete(auth, executor.get_context(auth).get_all_answers())
        executor.complete(backend, "api")
        executor.break_loop(frontend, "out of scope")
        executor.advance(root)
        executor.complete(root, "shop")
        again = NestedLoopExecutor(4, store=any_store, clock=clock)
        for looked in (executor, again):
            assert looked.get_context(root).child_results == {backend: "api"}
            assert looked.get_summary()["status_counts"] == {"completed": 4, "abandoned": 1}
            assert looked.get_loop_hierarchy(jwt) == [root, backend, auth, jwt]
            assert looked.get_summary()["max_depth_reached"] == 3
        assert executor.export(root, format="json") == again.export(root, format="json")

    def test_unencodable_results(self, durable: Store) -> None:
        """A durable loop refuses a result that cannot be kept, names the spot, and stays open; memory takes it."""
        executor = NestedLoopExecutor(store=durable)
        root = executor.start_root("g")
        with pytest.raises(EncodeError, match=r"result\['conn'\]: .*MemoryStore cannot be kept"):
            executor.complete(root, {"conn": MemoryStore()})
        assert executor.get_loop(root).status is LoopStatus.ACTIVE
        assert len(durable.read(root)) == 1
        in_memory = NestedLoopExecutor()
        conn = MemoryStore()
        loop = in_memory.start_root("g")
        in_memory.complete(loop, conn)
        assert in_memory.get_loop(loop).result is conn

    def test_executor_closes_what_it_opened(self, tmp_path: Path) -> None:
        """An executor given a path closes its store at the end of its context, and one given a store does not."""
        with NestedLoopExecutor(store=tmp_path / "a.db") as executor:
            root = executor.start_root("g")
            executor.flush()
        with pytest.raises(OSError, match="closed"):
            executor.advance(root)
        store = open_store(tmp_path / "a.db")
        with NestedLoopExecutor(store=store) as executor:
            assert executor.get_loop(root).goal == "g"
        assert executor.advance(root) is LoopPhase.ANSWER
        store.close()

    def test_depth_limit_is_a_recursion_error_with_facts(self, executor: NestedLoopExecutor) -> None:
        """The facts stand in the error as attributes."""
        one = NestedLoopExecutor(max_depth=1)
        root = one.start_root("g")
        with pytest.raises(DepthLimitReached) as caught:
            one.spawn_child(root, "x")
        assert (caught.value.run_id, caught.value.limit) == (root, 1)


APART = ("Which database fits?", "Who signs the contract?", "How long may the outage last?")


class Always:
    """A policy that spawns whatever it sees, and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[SpawnContext] = []

    def should_spawn(self, context: SpawnContext) -> Decision:
        self.seen.append(context)
        return Decision(True, "always")

    def suggest_goals(self, context: SpawnContext) -> list[str]:
        return [f"{context.goal}, closer"]


def asking(executor: NestedLoopExecutor) -> str:
    """A loop with three open questions that do not need each other."""
    root = executor.start_root("Move the shop")
    for question in APART:
        executor.get_loop(root).current_context().record_question(question)
    return root


class TestSpawnAdvice:
    """Whether to spawn, and what."""

    def test_independent_questions_are_worth_children(self, executor: NestedLoopExecutor) -> None:
        """The advice is true as a condition and says why; its goals can be spawned as they are."""
        root = asking(executor)
        context = executor.get_context(root)
        advice = executor.should_spawn_child(context)
        assert advice
        assert advice.why == "3 of 3 open questions can be answered independently"
        goals = executor.suggest_child_goals(context)
        assert goals == list(APART)
        children = executor.spawn_children(root, goals)
        assert [executor.get_loop(child).goal for child in children] == goals

    def test_asking_changes_nothing(self, executor: NestedLoopExecutor) -> None:
        """Neither loop nor log."""
        root = asking(executor)
        before = executor.store.read(root)
        executor.should_spawn_child(root)
        executor.suggest_child_goals(root)
        assert executor.store.read(root) == before

    def test_it_is_the_present_state_that_counts(self, executor: NestedLoopExecutor) -> None:
        """A context that was taken before the questions came is as good as the id."""
        root = executor.start_root("Move the shop")
        context = executor.get_context(root)
        assert not executor.should_spawn_child(context)
        for question in APART:
            executor.get_loop(root).current_context().record_question(question)
        assert (
            executor.should_spawn_child(context)
            == executor.should_spawn_child(root)
            == Decision(True, "3 of 3 open questions can be answered independently")
        )

    def test_a_loop_that_may_not_spawn_should_not(self, executor: NestedLoopExecutor) -> None:
        """Paused, blocked, waiting or ended, whatever the policy says; and none at the depth limit."""
        executor.spawn_policy = Always()
        root = asking(executor)
        executor.pause(root)
        assert executor.should_spawn_child(root) == Decision(False, "it is paused, and only an active loop may spawn")
        executor.resume(root)
        child = executor.spawn_child(root, "part")
        assert not executor.should_spawn_child(root)
        executor.complete(child)
        assert executor.should_spawn_child(root)
        executor.complete(root)
        assert executor.should_spawn_child(root).why.startswith("it is completed")
        shallow = NestedLoopExecutor(max_depth=1)
        top = asking(shallow)
        assert shallow.should_spawn_child(top).why == "the tree may not be deeper than here (depth 0)"
        assert shallow.suggest_child_goals(top) == []

    def test_time_goes_by_the_box_and_stops_while_it_waits(self, clock: FakeClock) -> None:
        """Late in its time box a loop should not spawn any more; time that it was paused is left out."""
        executor = NestedLoopExecutor(clock=clock, time_box_minutes=10)
        executor.spawn_policy = policy = Always()
        root = asking(executor)
        clock.advance(300)
        executor.pause(root)
        clock.advance(3000)
        run = executor.get_loop(root).run
        assert SpawnContext.of(run, now=clock.time()).elapsed == pytest.approx(0.5)
        executor.resume(root)
        executor.should_spawn_child(root)
        assert policy.seen[-1].elapsed == pytest.approx(0.5)
        executor.spawn_policy = None
        clock.advance(200)
        assert "of the time box is used" in executor.should_spawn_child(root).why

    def test_the_policy_can_be_replaced(self) -> None:
        """When the executor is made, or later; None brings the default back."""
        policy = Always()
        executor = NestedLoopExecutor(spawn_policy=policy)
        assert executor.spawn_policy is policy
        root = executor.start_root("g")
        assert executor.should_spawn_child(root) == Decision(True, "always")
        assert executor.suggest_child_goals(root) == ["g, closer"]
        executor.spawn_policy = None
        assert executor.spawn_policy == DefaultSpawnPolicy()

    def test_the_policy_is_called_with_no_tree_held(self) -> None:
        """It may look at the loops itself, from another thread too."""
        executor = NestedLoopExecutor(lock_timeout=0.2)
        root = executor.start_root("g")

        class Looking(Always):
            def should_spawn(self, context: SpawnContext) -> Decision:
                thread = Thread(target=executor.record_answer, args=(root, "meanwhile"))
                thread.start()
                thread.join()
                return super().should_spawn(context)

        executor.spawn_policy = Looking()
        assert executor.should_spawn_child(root)
        assert executor.get_context(root).accumulated_answers == ["meanwhile"]

    @pytest.mark.parametrize("wrong", [DefaultSpawnPolicy, object(), 5, lambda context: True])
    def test_what_is_no_policy_is_refused(self, executor: NestedLoopExecutor, wrong: Any) -> None:
        """At once, not when it is asked."""
        with pytest.raises(WrongType, match="should_spawn"):
            NestedLoopExecutor(spawn_policy=wrong)
        with pytest.raises(WrongType, match="should_spawn"):
            executor.spawn_policy = wrong

    def test_what_a_policy_may_not_answer_is_refused(self, executor: NestedLoopExecutor) -> None:
        """The message says what it should be."""

        class Wrong:
            def should_spawn(self, context: SpawnContext) -> Any:
                return True

            def suggest_goals(self, context: SpawnContext) -> Any:
                return "one goal"

        executor.spawn_policy = Wrong()
        root = executor.start_root("g")
        with pytest.raises(WrongType, match="Decision"):
            executor.should_spawn_child(root)
        with pytest.raises(WrongType, match="list of goals"):
            executor.suggest_child_goals(root)

    def test_only_loops_of_this_executor_are_advised(self, executor: NestedLoopExecutor) -> None:
        """An unknown id, another executor's loop, a context made by hand and anything else are refused."""
        elsewhere = NestedLoopExecutor()
        for ask in (executor.should_spawn_child, executor.suggest_child_goals):
            with pytest.raises(RunNotFound):
                ask("nope")
            with pytest.raises(RunNotFound):
                ask(elsewhere.get_context(elsewhere.start_root("g")))
            with pytest.raises(InvalidInput, match="made by hand"):
                ask(LoopContext(0, None, "g"))
            with pytest.raises(WrongType, match="context or its id"):
                ask(cast("Any", 5))

    def test_a_driven_tree_can_follow_the_policy(self, executor: NestedLoopExecutor) -> None:
        """With `auto_spawn` the executor's policy is asked; without, nobody is."""
        executor.spawn_policy = policy = Always()
        agent = Agent("by_itself")
        agent.verify(lambda loop: Verdict.passed(loop.depth))
        assert executor.execute_with_nesting("g", agent).children == {}
        assert policy.seen == []
        result = executor.execute_with_nesting("g", agent, auto_spawn=True, workers=2, lease_seconds=5)
        assert list(result.children.values()) == [1]
        assert max(seen.depth for seen in policy.seen) == executor.max_depth - 1

    def test_a_driven_tree_follows_the_default(self, executor: NestedLoopExecutor) -> None:
        """Open questions that do not need each other become children."""
        agent = Agent("asks")

        @agent.question
        def ask(loop: Loop) -> None:
            if loop.depth == 0:
                for question in APART:
                    loop.ask(question)

        agent.verify(lambda loop: Verdict.passed(loop.goal))
        result = executor.execute_with_nesting("Move the shop", agent, auto_spawn=True)
        assert list(result.children.values()) == list(APART)


class TestEvents:
    """A loop's events, for programs."""

    def test_they_fold_to_the_same_loop(self, any_store: Store) -> None:
        """A loop's own, oldest first; with what is below it, to the same tree."""
        executor = NestedLoopExecutor(store=any_store)
        root = executor.start_root("top")
        child = executor.spawn_child(root, "part")
        executor.record_answer(executor.spawn_child(child, "leaf"), "42")
        executor.break_loop(child, "plans")
        executor.advance(root)
        loop = executor.get_loop(child)
        own, all_of_it = loop.events(), executor.get_loop(root).events(below=True)
        assert {event.run_id for event in own} == {child}
        assert [event.seq for event in own] == list(range(1, loop.run.seq + 1))
        folded = Tree.of(own).root
        assert (folded.name, folded.outcome, folded.ended_at) == (loop.goal, loop.outcome, loop.run.ended_at)
        assert all_of_it == any_store.read(root)
        below = loop.events(below=True)
        assert {event.run_id for event in below} == {one.id for one in executor.get_subtree(child)}
        again = Tree.of(below)
        assert [run.status for run in again.walk()] == [one.status for one in executor.get_subtree(child)]
        assert list(again.walk())[1].noted("answer") == ["42"]

    def test_an_open_transaction_is_not_among_them(self, executor: NestedLoopExecutor) -> None:
        """They are what the store has; an unknown id has none."""
        root = executor.start_root("g")
        with executor.transaction():
            executor.advance(root)
            assert len(executor.get_loop(root).events()) == 1
        assert len(executor.journal.events(root)) == 2
        with pytest.raises(RunNotFound):
            executor.journal.events("nope")

    def test_a_loop_of_its_own_has_them_too(self) -> None:
        """In memory, without an executor."""
        loop = CognitiveLoop("g")
        loop.start()
        assert [type(event).__name__ for event in loop.events()] == ["Started", "Moved"]
