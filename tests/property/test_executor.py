"""Any sequence of calls, lawful or not, keeps the rules; and the tree always equals the fold of its log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cortical.core.errors import CorticalError, InvalidInput, RunNotFound, RunStateError
from cortical.core.events import Event, Paused, Resumed
from cortical.core.run import Run
from cortical.core.status import MOVES, Status
from cortical.core.tree import Tree
from cortical.looking.plain import as_plain
from cortical.reasoning import CognitiveLoop, LoopPhase, NestedLoopExecutor, TerminationReason
from cortical.store import MemoryStore, Store
from cortical.testing import FakeClock
from tests.property.on_file import OnFile

MAX_DEPTH = 4
VALUES = (
    st.none()
    | st.integers()
    | st.text(max_size=3)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2)
)


class Executor(RuleBasedStateMachine):
    """Calls on one executor, the store reopened between them now and then."""

    loops: Bundle[str] = Bundle("loops")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.ids: list[str] = []
        self.statuses: dict[str, Status] = {}
        self.lengths: dict[str, int] = {}

    @initialize()
    def begin(self) -> None:
        self.store = self.open()
        self.executor = self.executor_on(self.store)
        self.told: list[Event] = []
        self.executor.journal.subscribe(self.told.append)

    def open(self) -> Store:
        raise NotImplementedError

    def executor_on(self, store: Store) -> NestedLoopExecutor:
        return NestedLoopExecutor(MAX_DEPTH, store=store, clock=self.clock)

    def attempt(self, call: Callable[[], Any]) -> Any:
        """Make the call; if it is refused, nothing may have changed."""
        before = self.picture()
        try:
            return call()
        except CorticalError:
            assert self.picture() == before
            return None

    def picture(self) -> list[Any]:
        return [as_plain(self.executor.get_loop(loop_id).run) for loop_id in self.ids]

    @rule(target=loops, goal=st.text(max_size=4))
    def start_root(self, goal: str) -> Any:
        return self.added(self.attempt(lambda: self.executor.start_root(goal)))

    @rule(target=loops, parent=loops, goal=st.sampled_from(["a", "b", " "]))
    def spawn_child(self, parent: str, goal: str) -> Any:
        return self.added(self.attempt(lambda: self.executor.spawn_child(parent, goal)))

    @rule(target=loops, parent=loops, count=st.integers(0, 3))
    def spawn_children(self, parent: str, count: int) -> Any:
        return self.added(*(self.attempt(lambda: self.executor.spawn_children(parent, ["g"] * count)) or ()))

    @rule(target=loops, parent=loops)
    def create_waiting_child(self, parent: str) -> Any:
        child = self.attempt(lambda: self.executor.get_loop(parent).spawn_child("waiting"))
        return self.added(child.id if child else None)

    @rule(loop=loops, phase=st.sampled_from(LoopPhase))
    def start(self, loop: str, phase: LoopPhase) -> None:
        self.attempt(lambda: self.loop(loop).start(phase))

    @rule(loop=loops)
    def advance(self, loop: str) -> None:
        self.attempt(lambda: self.executor.advance(loop))

    @rule(loop=loops, phase=st.sampled_from(LoopPhase))
    def transition(self, loop: str, phase: LoopPhase) -> None:
        self.attempt(lambda: self.loop(loop).transition(phase, "chosen"))

    @rule(loop=loops, answer=VALUES)
    def record_answer(self, loop: str, answer: object) -> None:
        self.attempt(lambda: self.executor.record_answer(loop, answer))

    @rule(loop=loops)
    def end_phase(self, loop: str) -> None:
        self.attempt(lambda: self.loop(loop).current_context().end_phase())

    @rule(loop=loops, values=st.dictionaries(st.sampled_from("ab"), VALUES, max_size=2))
    def update_metadata(self, loop: str, values: dict[str, Any]) -> None:
        self.attempt(lambda: self.executor.update_metadata(loop, values))

    @rule(loop=loops, result=VALUES)
    def complete(self, loop: str, result: object) -> None:
        self.attempt(lambda: self.executor.complete(loop, result))

    @rule(loop=loops, reason=st.sampled_from(TerminationReason))
    def complete_with_reason(self, loop: str, reason: TerminationReason) -> None:
        self.attempt(lambda: self.loop(loop).complete(reason))

    @rule(loop=loops)
    def fail(self, loop: str) -> None:
        self.attempt(lambda: self.executor.fail(loop, ValueError("no")))

    @rule(loop=loops)
    def break_loop(self, loop: str) -> None:
        self.attempt(lambda: self.executor.break_loop(loop, "enough"))

    @rule(loop=loops)
    def pause(self, loop: str) -> None:
        self.attempt(lambda: self.executor.pause(loop, "lunch"))

    @rule(loop=loops)
    def block(self, loop: str) -> None:
        self.attempt(lambda: self.executor.block(loop, "no key"))

    @rule(loop=loops)
    def resume(self, loop: str) -> None:
        self.attempt(lambda: self.executor.resume(loop))

    @rule(target=loops, pick=st.integers(0, 9), children=st.integers(0, 3))
    def work_on_an_active_loop(self, pick: int, children: int) -> Any:
        """A lawful call, which drawing any loop for any call seldom makes."""
        active = self.executor.get_active_loops()
        if not active:
            return multiple()
        loop = active[pick % len(active)].id
        if children and self.loop(loop).depth + 1 < MAX_DEPTH:
            return self.added(*self.executor.spawn_children(loop, ["g"] * children))
        if not self.loop(loop).run.open_children:
            self.executor.complete(loop, pick)
        return multiple()

    @rule(seconds=st.sampled_from([0.0, 1.0, 90.0, -5.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now = self.clock.time() + seconds

    @rule(loop=st.text(max_size=3))
    def unknown(self, loop: str) -> None:
        try:
            self.executor.advance(loop)
        except RunNotFound:
            return
        raise AssertionError("an unknown id was taken")

    @rule(loop=loops, steps=st.integers(1, 3), undo=st.booleans())
    def transaction(self, loop: str, steps: int, undo: bool) -> None:
        before = self.picture()
        try:
            with self.executor.transaction():
                for _ in range(steps):
                    self.executor.advance(loop)
                if undo:
                    raise InvalidInput("undo")
        except (InvalidInput, RunStateError):
            assert self.picture() == before

    @precondition(lambda self: self.ids)
    @rule()
    def reopen(self) -> None:
        before = self.picture()
        self.store = self.reopened()
        self.executor = self.executor_on(self.store)
        assert self.picture() == before
        self.told.clear()
        self.executor.journal.subscribe(self.told.append)

    def reopened(self) -> Store:
        raise NotImplementedError

    def loop(self, loop_id: str) -> CognitiveLoop:
        return self.executor.get_loop(loop_id)

    def added(self, *ids: str | None) -> Any:
        new = [loop_id for loop_id in ids if loop_id is not None]
        self.ids += new
        return multiple(*new)

    @invariant()
    def rules_hold(self) -> None:
        for loop_id in self.ids:
            run = self.executor.get_loop(loop_id).run
            self.check_run(run)
            before = self.statuses.get(run.id, run.status)
            # Between two looks a run may have moved more than once, but never out of an end.
            assert run.status is before or not before.ended
            self.statuses[run.id] = run.status

    def check_run(self, run: Run) -> None:
        assert run.depth == (run.parent.depth + 1 if run.parent else 0) < MAX_DEPTH
        assert run.status is Status.PAUSED or not run.waits_for_children
        open_children = [child for child in run.children if child.reason is None]
        assert run.open_children == len(open_children)
        assert not (run.status.ended and open_children), "an ended run has an open child"
        if run.status is Status.PAUSED:
            by_hand = not any(event.for_children for event in self.last_pause(run))
            assert open_children or by_hand, "a paused run waits for nobody"
            assert run.waits_for_children is not by_hand
        assert (run.outcome is None) == (run.reason is None) == (run.ended_at is None) == (not run.status.ended)
        for earlier, later in zip(run.visits, run.visits[1:], strict=False):
            assert earlier.left_at is not None
            assert earlier.entered_at <= earlier.left_at <= later.entered_at

    def last_pause(self, run: Run) -> list[Paused]:
        log = self.store.read(run.tree.root.id)
        return [event for event in log if event.run_id == run.id and isinstance(event, Paused)][-1:]

    @invariant()
    def tree_equals_fold_of_log(self) -> None:
        for root in self.store.roots():
            log = self.store.read(root.id)
            assert len(log) >= self.lengths.get(root.id, 0), "a log became shorter"
            self.lengths[root.id] = len(log)
            tree = self.executor.journal.run(root.id).tree
            folded = Tree.of(log)
            assert [as_plain(run) for run in folded.walk()] == [as_plain(run) for run in tree.walk()]
            assert (root.status, root.reason, root.ended_at) == (tree.root.status, tree.root.reason, tree.root.ended_at)
            self.check_log(log)

    def check_log(self, log: list[Event]) -> None:
        tree = Tree()
        for event in log:
            run = tree.index.runs.get(event.run_id)
            before = run.status if run else None
            if isinstance(event, Resumed) and run and run.waits_for_children:
                assert run.open_children == 0, "a parent was resumed above an open child"
            assert event.seq == (run.seq + 1 if run else 1), "a run's events are not counted without gaps"
            assert event.at >= tree.at
            tree.fold((event,))
            after = tree.index.runs[event.run_id].status
            assert before is None or after is before or after in MOVES[before], f"{before} → {after}"

    @invariant()
    def summary_counts_what_there_is(self) -> None:
        runs = [self.executor.get_loop(loop_id).run for loop_id in self.ids]
        summary = self.executor.get_summary()
        assert summary["total_loops"] == len(runs)
        assert summary["active_loops"] == sum(run.status is Status.ACTIVE for run in runs)
        assert summary["max_depth_reached"] == max((run.depth for run in runs), default=0)
        assert sum(summary["status_counts"].values()) == len(runs)
        assert {loop.id for loop in self.executor.get_active_loops()} == {
            run.id for run in runs if run.status is Status.ACTIVE
        }

    @invariant()
    def told_in_order(self) -> None:
        counts: dict[str, int] = {}
        for event in self.told:
            assert event.seq > counts.get(event.run_id, 0)
            counts[event.run_id] = event.seq


class InMemory(Executor):
    """On a store in memory."""

    def open(self) -> Store:
        return MemoryStore(strict=True)

    def reopened(self) -> Store:
        return self.store


class OnDisk(OnFile, Executor):
    """On a file."""


def test_any_calls_in_memory() -> None:
    """Whatever is called in whatever order, a store in memory keeps every rule."""
    run_state_machine_as_test(InMemory, settings=settings(max_examples=200, stateful_step_count=50, deadline=None))


def test_any_calls_on_disk() -> None:
    """Whatever is called in whatever order, with the file reopened in between, every rule is kept."""
    run_state_machine_as_test(OnDisk, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))
