"""The one door for change: what it promises when calls are refused, raise, race, or are undone."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cortical.core import rules
from cortical.core.errors import (
    AmbiguousId,
    Conflict,
    CorticalError,
    EncodeError,
    LockTimeout,
    RunNotFound,
    RunStateError,
    StoreDamaged,
)
from cortical.core.events import Event, Moved, Noted
from cortical.core.index import Index
from cortical.core.journal import Journal
from cortical.core.ports import Record
from cortical.core.run import Run
from cortical.core.tree import Tree
from cortical.reasoning import LoopPhase, LoopStatus, NestedLoopExecutor, PhaseContext
from cortical.store import MemoryStore, Store
from cortical.testing import FakeClock
from tests.threads import in_threads


def index_of(index: Index) -> dict[str, Any]:
    """What an index holds, to be compared."""
    return {
        "runs": sorted(index.runs),
        "shelves": {
            kind: {
                "counts": +shelf.counts,
                "reasons": +shelf.reasons,
                "open": {status: sorted(runs) for status, runs in shelf.open.items() if runs},
                "stays": {
                    place: (stay.visits, stay.over, round(stay.seconds, 6))
                    for place, stay in shelf.stays.items()
                    if stay.visits
                },
                "deepest": shelf.deepest,
            }
            for kind, shelf in index.shelves.items()
        },
    }


def assert_memory_equals_log(executor: NestedLoopExecutor) -> None:
    """Every tree in memory, and the index of them all, is what folding the logs anew gives."""
    fresh = NestedLoopExecutor(store=executor.store, clock=FakeClock())
    fresh.journal.load_trees()
    executor.journal.load_trees()
    assert index_of(executor.journal.index) == index_of(fresh.journal.index)
    for root in executor.store.roots():
        assert executor.export(root.id, format="json") == fresh.export(root.id, format="json")


class Crash(BaseException):
    """The process is gone."""


class FailingStore(MemoryStore):
    """A store that fails where it is told to: a stand-in for a disk, not for code of ours."""

    def __init__(self) -> None:
        super().__init__(strict=True)
        self.before: BaseException | None = None
        self.after: BaseException | None = None

    def append(self, *records: Record) -> None:
        if self.before is not None:
            raise self.before
        super().append(*records)
        if self.after is not None:
            raise self.after


class TestRefusals:
    """Nothing changes when a call fails."""

    @pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
    def test_a_store_that_fails_changes_nothing(self, error: BaseException) -> None:
        """When the store cannot write, memory stays as it was, and the call can be made again."""
        store = FailingStore()
        executor = NestedLoopExecutor(store=store)
        root = executor.start_root("g")
        executor.advance(root)
        store.before = error
        calls: list[Callable[[], object]] = [
            lambda: executor.advance(root),
            lambda: executor.spawn_child(root, "x"),
            lambda: executor.start_root("y"),
        ]
        for call in calls:
            with pytest.raises(type(error)):
                call()
        store.before = None
        assert executor.get_loop(root).current_phase is LoopPhase.ANSWER
        assert executor.get_summary()["total_loops"] == 1
        assert_memory_equals_log(executor)
        assert executor.advance(root) is LoopPhase.PRODUCE

    def test_ctrl_c_after_the_write(self) -> None:
        """A Ctrl-C between writing and folding loses nothing: memory is read anew from the log."""
        store = FailingStore()
        executor = NestedLoopExecutor(store=store)
        root = executor.start_root("g")
        store.after = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            executor.advance(root)
        with pytest.raises(KeyboardInterrupt):
            executor.start_root("second")
        store.after = None
        assert executor.get_loop(root).current_phase is LoopPhase.ANSWER
        assert executor.get_summary()["total_loops"] == 2
        assert_memory_equals_log(executor)
        assert executor.advance(root) is LoopPhase.PRODUCE

    def test_a_refused_rule_writes_nothing(self, any_store: Store) -> None:
        """A refusal leaves the log as long as it was."""
        executor = NestedLoopExecutor(store=any_store)
        root = executor.start_root("g")
        executor.spawn_child(root, "x")
        length = len(any_store.read(root))
        for call in (lambda: executor.advance(root), lambda: executor.complete(root), lambda: executor.resume(root)):
            with pytest.raises(RunStateError):
                call()
        assert len(any_store.read(root)) == length

    def test_values_changed_after_recording(self, durable: Store) -> None:
        """A value that its giver changes later stays in a durable tree as it was recorded."""
        executor = NestedLoopExecutor(store=durable)
        root = executor.start_root("g")
        answer = {"rows": [1]}
        executor.record_answer(root, answer)
        answer["rows"].append(2)
        assert executor.get_context(root).accumulated_answers == [{"rows": [1]}]
        assert_memory_equals_log(executor)


class TestTransactions:
    """Several calls, all or none."""

    def test_commit(self, any_store: Store) -> None:
        """Calls in a transaction see each other, and are kept together at its end, over several trees."""
        executor = NestedLoopExecutor(store=any_store)
        root = executor.start_root("a")
        with executor.transaction():
            executor.advance(root)
            child = executor.spawn_child(root, "sub")
            executor.complete(child, {"n": 1})
            other = executor.start_root("b")
            assert executor.get_context(root).child_results == {child: {"n": 1}}
            assert len(any_store.read(root)) == 1
            assert any_store.read(other) == []
        assert len(any_store.read(root)) == 6
        assert executor.get_loop(other).status is LoopStatus.ACTIVE
        assert_memory_equals_log(executor)

    @pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), Crash()])
    def test_undo(self, any_store: Store, error: BaseException) -> None:
        """An exception undoes all of it, in the store and in memory, and reaches the caller."""
        executor = NestedLoopExecutor(store=any_store)
        root = executor.start_root("a")
        executor.record_answer(root, {"rows": [1]})
        executor.update_metadata(root, {"k": {"deep": [1]}})
        before = executor.export(root, format="json")

        def work() -> None:
            with executor.transaction():
                executor.advance(root)
                context = executor.get_context(root)
                context.metadata["k"]["deep"].append(2)
                context.accumulated_answers[0]["rows"].append(2)
                executor.break_loop(executor.spawn_child(root, "sub"), "no")
                executor.start_root("b")
                raise error

        with pytest.raises(type(error)):
            work()
        assert executor.export(root, format="json") == before
        assert [root_.id for root_ in any_store.roots()] == [root]
        assert executor.get_summary()["total_loops"] == 1
        assert_memory_equals_log(executor)
        assert executor.advance(root) is LoopPhase.ANSWER

    def test_a_store_that_fails_at_the_end(self) -> None:
        """When the commit fails, all of it is undone and the error raised."""
        store = FailingStore()
        executor = NestedLoopExecutor(store=store)
        root = executor.start_root("a")

        def work() -> None:
            with executor.transaction():
                executor.advance(root)
                store.before = OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            work()
        store.before = None
        assert executor.get_loop(root).current_phase is LoopPhase.QUESTION
        assert_memory_equals_log(executor)

    def test_a_value_that_cannot_be_kept(self, durable: Store) -> None:
        """It is refused at the call that gives it, and later transactions work."""
        executor = NestedLoopExecutor(store=durable)
        root = executor.start_root("a")

        def work() -> None:
            with executor.transaction():
                executor.advance(root)
                executor.record_answer(root, object())

        with pytest.raises(EncodeError, match="answer: object cannot be kept"):
            work()
        with executor.transaction():
            executor.advance(root)
        assert executor.get_loop(root).current_phase is LoopPhase.ANSWER

    def test_caught_inside_goes_on(self, any_store: Store) -> None:
        """A refusal that is caught inside a transaction undoes nothing else of it."""
        executor = NestedLoopExecutor(store=any_store)
        root = executor.start_root("a")
        with executor.transaction():
            executor.advance(root)
            with pytest.raises(RunStateError):
                executor.resume(root)
            executor.advance(root)
        assert executor.get_loop(root).current_phase is LoopPhase.PRODUCE

    def test_inner_joins_outer(self, any_store: Store) -> None:
        """A transaction inside another is part of it, kept and undone with it."""
        executor = NestedLoopExecutor(store=any_store)
        root = executor.start_root("a")

        def work() -> None:
            with executor.transaction():
                with executor.transaction():
                    executor.advance(root)
                assert len(any_store.read(root)) == 1
                raise ValueError

        with pytest.raises(ValueError, match=r"^$"):
            work()
        assert executor.get_loop(root).current_phase is LoopPhase.QUESTION

    def test_empty(self, any_store: Store) -> None:
        """A transaction in which nothing happens writes nothing."""
        executor = NestedLoopExecutor(store=any_store)
        with executor.transaction():
            pass
        assert any_store.roots() == []

    def test_reads_inside(self, any_store: Store) -> None:
        """The tree that a transaction has changed can be read as a whole inside it."""
        executor = NestedLoopExecutor(store=any_store)
        root = executor.start_root("a")
        with executor.transaction():
            executor.advance(root)
            assert "answer" in executor.export(root)
            assert len(executor.get_subtree(root)) == 1

    def test_others_wait(self, executor: NestedLoopExecutor) -> None:
        """Another thread's call waits for the transaction, and then goes on from what it left."""
        root = executor.start_root("a")
        other = threading.Thread(target=lambda: executor.advance(root))
        with executor.transaction():
            executor.advance(root)
            other.start()
            executor.advance(root)
            assert executor.get_loop(root).current_phase is LoopPhase.PRODUCE
        other.join()
        assert executor.get_loop(root).current_phase is LoopPhase.VERIFY

    def test_conflict_with_another_writer(self, durable: Store, tmp_path: Path) -> None:
        """A transaction that another writer overtakes is refused whole, and memory shows what the other wrote."""
        executor = NestedLoopExecutor(store=durable)
        root = executor.start_root("a")
        with NestedLoopExecutor(store=tmp_path / "runs.db") as other:

            def work() -> None:
                with executor.transaction():
                    executor.record_answer(root, "mine")
                    other.advance(root)

            with pytest.raises(Conflict, match=f"tree '{root}' was changed by another writer"):
                work()
        assert executor.get_context(root).accumulated_answers == []
        assert executor.get_loop(root).current_phase is LoopPhase.ANSWER
        assert_memory_equals_log(executor)

    def test_a_transaction_begins_from_what_others_wrote(self, durable: Store, tmp_path: Path) -> None:
        """At its first touch of a tree, a transaction reads what other writers have added before."""
        executor = NestedLoopExecutor(store=durable)
        root = executor.start_root("a")
        with NestedLoopExecutor(store=tmp_path / "runs.db") as other:
            other.advance(root)
        with executor.transaction():
            assert executor.advance(root) is LoopPhase.PRODUCE


class TestWriters:
    """Several journals on one store."""

    def test_second_writer_of_a_run(self, any_store: Store) -> None:
        """The second to change one run gets Conflict, has read the first's change, and may decide again."""
        first, second = NestedLoopExecutor(store=any_store), NestedLoopExecutor(store=any_store)
        root = first.start_root("a")
        assert second.get_loop(root).current_phase is LoopPhase.QUESTION
        first.advance(root)
        with pytest.raises(Conflict, match=f"run '{root}' was changed by another writer") as caught:
            second.advance(root)
        assert (caught.value.root_id, caught.value.run_id) == (root, root)
        assert second.get_loop(root).current_phase is LoopPhase.ANSWER
        assert second.advance(root) is LoopPhase.PRODUCE
        assert [event.seq for event in any_store.read(root)] == [1, 2, 3]

    def test_writers_of_different_runs(self, any_store: Store) -> None:
        """Writers on different loops of one tree do not disturb each other, and rules that span loops hold."""
        first, second = NestedLoopExecutor(store=any_store), NestedLoopExecutor(store=any_store)
        root = first.start_root("a")
        a, b = first.spawn_children(root, ["a", "b"])
        second.advance(b)
        first.advance(a)
        first.complete(a, 1)
        assert second.complete(b, 2) == root
        assert second.get_loop(root).status is LoopStatus.ACTIVE
        assert first.refresh(root).status is LoopStatus.ACTIVE
        assert first.get_context(root).child_results == {a: 1, b: 2}

    def test_a_break_goes_through(self, any_store: Store) -> None:
        """Breaking holds whatever others did meanwhile: it ends what they have started too."""
        first, second = NestedLoopExecutor(store=any_store), NestedLoopExecutor(store=any_store)
        root = first.start_root("a")
        second.get_loop(root)
        child = first.spawn_child(root, "sub")
        second.break_loop(root, "enough")
        assert second.get_loop(child).status is LoopStatus.ABANDONED
        with pytest.raises(Conflict):
            first.advance(child)
        with pytest.raises(RunStateError, match="ended"):
            first.advance(child)

    def test_children_of_others_are_found(self, any_store: Store) -> None:
        """A loop that another writer has started in a loaded tree is found by its id."""
        first, second = NestedLoopExecutor(store=any_store), NestedLoopExecutor(store=any_store)
        root = first.start_root("a")
        second.get_loop(root)
        child = first.spawn_child(root, "sub")
        assert second.get_loop(child).goal == "sub"
        assert second.get_loop_hierarchy(child) == [root, child]

    def test_refresh(self, any_store: Store) -> None:
        """Reading shows what this process knows; refreshing reads what others have added."""
        first, second = NestedLoopExecutor(store=any_store), NestedLoopExecutor(store=any_store)
        root = first.start_root("a")
        loop = second.get_loop(root)
        first.advance(root)
        assert loop.current_phase is LoopPhase.QUESTION
        assert second.refresh(root) == loop
        assert loop.current_phase is LoopPhase.ANSWER

    def test_refresh_all(self, any_store: Store) -> None:
        """After refreshing all, what other writers have changed, ended and started is seen."""
        first, second = NestedLoopExecutor(store=any_store), NestedLoopExecutor(store=any_store)
        a, b = first.start_root("a"), first.start_root("b")
        assert len(second.get_active_loops()) == 2
        first.complete(a)
        c = first.start_root("c")
        assert {loop.id for loop in second.get_active_loops()} == {a, b}
        second.refresh_all()
        assert {loop.id for loop in second.get_active_loops()} == {b, c}
        assert second.get_summary()["total_loops"] == 3


class TestThreads:
    """Several threads on one executor."""

    def test_two_threads_on_one_loop(self, any_store: Store) -> None:
        """Threads that advance one loop lose no step and break no rule."""
        executor = NestedLoopExecutor(store=any_store)
        root = executor.start_root("g")
        in_threads(lambda _: [executor.advance(root) for _ in range(100)], range(4))
        assert len(executor.get_loop(root).transitions) == 401
        assert [event.seq for event in any_store.read(root)] == list(range(1, 402))
        assert_memory_equals_log(executor)

    def test_threads_spawn_and_complete(self, any_store: Store) -> None:
        """Threads that spawn and complete below one root leave a sound tree."""
        executor = NestedLoopExecutor(store=any_store)
        root = executor.start_root("g")
        branches = executor.spawn_children(root, ["a", "b", "c", "d"])

        def work(branch: str) -> None:
            for number in range(20):
                executor.complete(executor.spawn_child(branch, str(number)), number)
            executor.complete(branch, len(executor.get_context(branch).child_results))

        in_threads(work, branches)
        assert set(executor.get_context(root).child_results.values()) == {20}
        assert executor.get_loop(root).status is LoopStatus.ACTIVE
        assert executor.get_summary()["status_counts"] == {"completed": 84, "active": 1}
        assert_memory_equals_log(executor)

    def test_lock_timeout_names_the_holder(self, clock: FakeClock) -> None:
        """A call that waits too long for a tree says which thread holds it, and changes nothing."""
        executor = NestedLoopExecutor(clock=clock, lock_timeout=0.01)
        root = executor.start_root("g")
        entered, finish = threading.Event(), threading.Event()

        def hold() -> None:
            with executor.transaction():
                executor.advance(root)
                entered.set()
                finish.wait(30)

        thread = threading.Thread(target=hold, name="the-holder")
        thread.start()
        entered.wait(30)
        calls = (lambda: executor.advance(root), lambda: executor.export(root), lambda: executor.refresh(root))
        for call in calls:
            with pytest.raises(LockTimeout, match=rf"tree '{root}' is held by thread 'the-holder' .* 0.01 s") as caught:
                call()
            assert isinstance(caught.value, TimeoutError)

        def work() -> None:
            with executor.transaction(timeout=0.02):
                executor.advance(root)

        with pytest.raises(LockTimeout, match=r"0\.02 s"):
            work()
        finish.set()
        thread.join()
        assert executor.get_loop(root).current_phase is LoopPhase.ANSWER

    def test_trees_are_independent(self, executor: NestedLoopExecutor) -> None:
        """A transaction on one tree holds up no other."""
        a, b = executor.start_root("a"), executor.start_root("b")
        with executor.transaction():
            executor.advance(a)
            thread = threading.Thread(target=lambda: executor.advance(b))
            thread.start()
            thread.join(30)
            assert not thread.is_alive()
        assert executor.get_loop(b).current_phase is LoopPhase.ANSWER

    def test_a_killed_holder_is_told(self, executor: NestedLoopExecutor) -> None:
        """When the thread that held a tree has ended without letting go, the message says so."""
        executor.journal.lock_timeout = 0.01
        root = executor.start_root("g")
        tree = executor.get_loop(root).run.tree

        def take() -> None:
            tree.lock.acquire()
            tree.holder = threading.get_ident()

        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
        with pytest.raises(LockTimeout, match="a thread that has ended"):
            executor.advance(root)
        tree.lock.release()


class TestTelling:
    """Subscribers."""

    def test_each_event_once_in_order(self, any_store: Store) -> None:
        """A subscriber hears of each event once, in the order of the log; loading tells nothing."""
        executor = NestedLoopExecutor(store=any_store)
        seen: list[Event] = []
        executor.journal.subscribe(seen.append)
        root = executor.start_root("g")
        executor.complete(executor.spawn_child(root, "sub"), 1)
        executor.complete(root)
        assert seen == any_store.read(root)
        again = NestedLoopExecutor(store=any_store)
        told: list[Event] = []
        again.journal.subscribe(told.append)
        assert again.get_loop(root).status is LoopStatus.COMPLETED
        assert told == []

    def test_nothing_is_told_of_what_was_undone(self, executor: NestedLoopExecutor) -> None:
        """A transaction that is undone is never told."""
        seen: list[Event] = []
        executor.journal.subscribe(seen.append)

        def work() -> None:
            with executor.transaction():
                executor.start_root("g")
                raise ValueError

        with pytest.raises(ValueError, match=r"^$"):
            work()
        assert seen == []

    def test_order_holds_across_threads(self, executor: NestedLoopExecutor) -> None:
        """Events of one tree are told in order, whichever threads record them."""
        seen: list[int] = []
        executor.journal.subscribe(lambda event: seen.append(event.seq))
        root = executor.start_root("g")
        in_threads(lambda _: [executor.advance(root) for _ in range(200)], range(4))
        assert seen == list(range(1, 802))

    def test_a_ctrl_c_in_a_handler(self, executor: NestedLoopExecutor) -> None:
        """A Ctrl-C while telling reaches the caller after all have been told; what was recorded stays."""
        seen: list[Event] = []

        def interrupted(event: Event) -> None:
            raise KeyboardInterrupt

        executor.journal.subscribe(interrupted)
        executor.journal.subscribe(seen.append)
        with pytest.raises(KeyboardInterrupt):
            executor.start_root("g")
        assert len(seen) == 1
        assert executor.get_summary()["total_loops"] == 1

    def test_the_same_handler_twice(self, executor: NestedLoopExecutor) -> None:
        """A handler registered twice is called twice, and taken off one by one."""
        seen: list[Event] = []
        stop = executor.journal.subscribe(seen.append)
        executor.journal.subscribe(seen.append)
        executor.start_root("g")
        stop()
        stop()
        executor.start_root("h")
        assert len(seen) == 3


class TestLooking:
    """Finding runs."""

    def test_resolve(self) -> None:
        """A prefix finds the one run it begins; a whole id wins over longer ones; anything else is told."""
        ids = iter(["abc", "abcd", "b"])
        executor = NestedLoopExecutor(new_id=lambda: next(ids))
        for goal in "xyz":
            executor.start_root(goal)
        resolve = executor.journal.resolve
        assert [resolve("b"), resolve("abcd"), resolve("abc")] == ["b", "abcd", "abc"]
        assert executor.journal.find("abcd") is executor.journal.run("abcd")
        with pytest.raises(AmbiguousId, match=r"'a' begins several ids \(abc, abcd\); give more"):
            resolve("a")
        for unknown in ("zz", ""):
            with pytest.raises(RunNotFound):
                resolve(unknown)

    def test_ambiguous_ids_are_not_listed_for_ever(self) -> None:
        """Of very many matches the message shows a few."""
        ids = iter([f"a{n}" for n in range(9)])
        executor = NestedLoopExecutor(new_id=lambda: next(ids))
        for goal in range(9):
            executor.start_root(str(goal))
        with pytest.raises(AmbiguousId, match="a4, …"):
            executor.journal.resolve("a")

    def test_time_travel_is_a_fold_that_stops_early(self, any_store: Store) -> None:
        """Folding the first events of a log gives the tree as it stood then."""
        executor = NestedLoopExecutor(store=any_store)
        root = executor.start_root("g")
        child = executor.spawn_child(root, "sub")
        executor.complete(child)
        then = Tree.of(any_store.read(root)[:3])
        assert (then.root.status, then.position) == (LoopStatus.PAUSED, 3)
        assert [run.id for run in then.walk()] == [root, child]
        assert then.graph.number_of_nodes() == 2

    def test_graph_of_a_lone_root(self) -> None:
        """A root without children is a graph of one node."""
        executor = NestedLoopExecutor()
        tree = executor.get_loop(executor.start_root("g")).run.tree
        assert list(tree.graph.nodes) == [tree.root.id]
        assert tree.root.children == []

    def test_moves_and_notes_know_their_visit(self, executor: NestedLoopExecutor) -> None:
        """The visit that an event began is found by its count."""
        root = executor.start_root("g")
        executor.record_answer(root, 1)
        executor.advance(root)
        executor.advance(root)
        run = executor.get_loop(root).run
        log: Sequence[Event] = executor.store.read(root)
        assert [type(event) for event in log[1:]] == [Noted, Moved, Moved]
        assert [run.visit_by(event.seq) for event in log if isinstance(event, Moved)] == [1, 2]
        assert run.visit_by(1) == 0


def test_a_log_that_does_not_fold_is_told(any_store: Store) -> None:
    """A log in which a run goes on that was never started is refused with what to do, and nothing is loaded."""
    executor = NestedLoopExecutor(store=any_store)
    root = executor.start_root("g")
    any_store.append(any_store.prepare(root, 1, [Moved("nobody", 2, 1e12, "answer")]))
    again = NestedLoopExecutor(store=any_store)
    with pytest.raises(StoreDamaged, match=rf"the log of '{root}' does not fold .*cortical check {root}"):
        again.get_loop(root)
    assert again.journal.index.runs == {}


class TestHolding:
    """Whose a transaction is, and what becomes of one that was abandoned."""

    def test_an_inner_one_of_another_journal_does_not_hide_the_outer(self) -> None:
        """A call on the outer's journal inside another's transaction belongs to the outer, and is undone with it."""
        a, b = NestedLoopExecutor(), NestedLoopExecutor()
        root = a.start_root("a")

        def work() -> None:
            with a.transaction(), b.transaction():
                a.advance(root)
                b.start_root("b")
                raise ValueError

        with pytest.raises(ValueError, match=r"^$"):
            work()
        assert a.get_loop(root).current_phase is LoopPhase.QUESTION
        assert b.get_summary()["total_loops"] == 0

    def test_a_transaction_is_used_once(self, executor: NestedLoopExecutor) -> None:
        """Entering the same one again, or inside itself, is refused."""
        transaction = executor.transaction()
        with transaction, pytest.raises(RunStateError, match="used once"):
            transaction.__enter__()
        with pytest.raises(RunStateError, match="used once"):
            transaction.__enter__()

    def test_tasks_started_inside_are_not_in_it(self, any_store: Store) -> None:
        """A task that was started inside a transaction, and goes on after it, writes for itself."""
        executor = NestedLoopExecutor(store=any_store)

        async def later() -> str:
            await asyncio.sleep(0)
            return executor.start_root("later")

        async def work() -> str:
            with executor.transaction():
                executor.start_root("inside")
                task = asyncio.create_task(later())
            return await task

        root = asyncio.run(work())
        assert any_store.root_of(root) == root
        assert len(any_store.roots()) == 2

    def test_threads_started_inside_are_not_in_it(self, any_store: Store) -> None:
        """A thread that runs in the context of a transaction writes for itself."""
        executor = NestedLoopExecutor(store=any_store)
        with executor.transaction():
            context = contextvars.copy_context()
            thread = threading.Thread(target=lambda: context.run(executor.start_root, "beside"))
            thread.start()
            thread.join()
            assert [root.goal for root in any_store.roots()] == ["beside"]

    def test_an_abandoned_one_is_undone(self, executor: NestedLoopExecutor) -> None:
        """A transaction whose end never came, as after a Ctrl-C at the wrong moment, is undone when it is dropped."""
        root = executor.start_root("g")
        transaction = executor.transaction()
        transaction.__enter__()
        executor.advance(root)
        del transaction
        assert executor.get_loop(root).current_phase is LoopPhase.QUESTION
        assert not executor.journal.in_transaction
        assert executor.advance(root) is LoopPhase.ANSWER

    def test_everything_is_found_again_after_a_ctrl_c(self, any_store: Store) -> None:
        """After memory was read anew, listings and summaries show what there is."""
        executor = NestedLoopExecutor(store=any_store)
        root = executor.start_root("g")
        executor.start_root("h")
        assert executor.get_summary()["total_loops"] == 2

        def work() -> None:
            with executor.transaction():
                executor.advance(root)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            work()
        assert executor.get_summary()["total_loops"] == 2
        assert len(executor.get_active_loops()) == 2

    def test_a_visit_that_was_undone_takes_nothing(self, executor: NestedLoopExecutor) -> None:
        """A context of a visit that a transaction had made, and that was undone, is refused, and not another's."""
        root = executor.start_root("g")
        contexts: list[PhaseContext] = []

        def work() -> None:
            with executor.transaction():
                executor.advance(root)
                contexts.append(executor.get_loop(root).current_context())
                raise ValueError

        with pytest.raises(ValueError, match=r"^$"):
            work()
        for use in (lambda: contexts[0].add_note("n"), lambda: contexts[0].notes, lambda: contexts[0].iteration):
            with pytest.raises(RunStateError, match="was undone"):
                use()
        assert executor.get_loop(root).current_context().notes == []

    def test_waiting_for_oneself_is_refused_at_once(self, executor: NestedLoopExecutor) -> None:
        """A rule that calls back into its own tree is told so, instead of waiting for itself."""
        root = executor.start_root("g")

        def rule(run: Run, at: float) -> Sequence[Event]:
            executor.advance(root)
            return ()

        with pytest.raises(LockTimeout, match="this very thread"):
            executor.journal.change(root, rule)
        assert executor.advance(root) is LoopPhase.ANSWER

    def test_a_lock_that_nobody_holds_is_taken_over(self, executor: NestedLoopExecutor) -> None:
        """A lock left over by a Ctrl-C between taking and holding it does not block the tree for ever."""
        executor.journal.lock_timeout = 0.01
        root = executor.start_root("g")
        executor.get_loop(root).run.tree.lock.acquire()
        assert executor.advance(root) is LoopPhase.ANSWER
        assert executor.advance(root) is LoopPhase.PRODUCE

    def test_only_one_takes_over_what_nobody_holds(self, executor: NestedLoopExecutor) -> None:
        """Of several that wait for such a lock one has it at a time; the others are told so."""
        executor.journal.lock_timeout = 0.01
        tree = executor.get_loop(executor.start_root("g")).run.tree
        tree.lock.acquire()
        inside, most, finish = 0, 0, threading.Event()

        def hold() -> None:
            nonlocal inside, most
            try:
                with executor.journal.holding(tree):
                    inside += 1
                    most = max(most, inside)
                    finish.wait(30)
                    inside -= 1
            except LockTimeout:
                finish.set()

        in_threads(lambda _: hold(), range(4))
        assert (most, inside) == (1, 0)

    def test_a_lock_between_two_holders_is_not_taken_for_one_that_nobody_holds(
        self, executor: NestedLoopExecutor
    ) -> None:
        """Whoever waits while others take a tree and let go of it waits for them, however short the time-out."""
        executor.journal.lock_timeout = 0.01
        tree = executor.get_loop(executor.start_root("g")).run.tree
        tree.lock.acquire()  # as by a thread that has it, and is about to say so
        held = threading.Event()

        def hold() -> None:
            with executor.journal.holding(tree):
                held.set()

        thread = threading.Thread(target=hold)
        thread.start()
        assert not held.wait(0.3)
        tree.lock.release()
        thread.join(30)
        assert held.is_set()

    def test_a_call_inside_a_held_tree_does_not_let_go_of_it(self, executor: NestedLoopExecutor) -> None:
        """A call that is refused since its own thread holds the tree leaves the tree held; so does a transaction."""
        root = executor.start_root("g")
        tree = executor.get_loop(root).run.tree

        def in_a_transaction() -> None:
            with executor.transaction():
                executor.advance(root)

        with executor.journal.holding(tree):
            for call in (lambda: executor.advance(root), in_a_transaction):
                with pytest.raises(LockTimeout, match="this very thread"):
                    call()
                assert tree.lock.locked()
        assert not tree.lock.locked()
        assert executor.advance(root) is LoopPhase.ANSWER

    def test_a_store_that_fails_while_undoing(self, tmp_path: Path) -> None:
        """When the log cannot be read either, memory forgets the tree rather than run ahead of the disk."""
        executor = NestedLoopExecutor(store=tmp_path / "a.db")
        root = executor.start_root("g")

        def work() -> None:
            with executor.transaction():
                executor.advance(root)
                executor.close()

        with pytest.raises(OSError, match="closed"):
            work()
        with NestedLoopExecutor(store=tmp_path / "a.db") as again:
            assert again.get_loop(root).current_phase is LoopPhase.QUESTION
        assert executor.journal.index.runs == {}

    @pytest.mark.parametrize("seconds", [-1, "x", None, 1e12, float("nan")])
    def test_timeouts_are_checked(self, executor: NestedLoopExecutor, seconds: Any) -> None:
        """A time that cannot be waited for is refused at the door."""
        with pytest.raises(CorticalError, match="lock_timeout"):
            Journal(MemoryStore(), clock=FakeClock(), lock_timeout=seconds)
        if seconds is not None:
            with pytest.raises(CorticalError, match="timeout"):
                executor.transaction(timeout=seconds)

    @pytest.mark.parametrize("made", [5, "", "\ud800"])
    def test_ids_are_checked(self, made: Any) -> None:
        """A function that makes no ids is found out before anything is written."""
        executor = NestedLoopExecutor(new_id=lambda: made)
        with pytest.raises(CorticalError, match="an id"):
            executor.start_root("g")
        assert executor.store.roots() == []

    def test_equal_ids_for_children(self) -> None:
        """Two children with one id are refused, instead of being one."""
        ids = iter(["root", "twin", "twin"])
        executor = NestedLoopExecutor(new_id=lambda: next(ids))
        root = executor.start_root("g")
        with pytest.raises(CorticalError, match="one id twice"):
            executor.spawn_children(root, ["a", "b"])


def test_a_listed_run_without_a_start_is_told(tmp_path: Path) -> None:
    """A run that the store lists, but whose log is empty or does not start it, is damage, and told as such."""
    with NestedLoopExecutor(store=tmp_path / "a.db") as executor:
        root = executor.start_root("g")
        child = executor.spawn_child(root, "s")
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    connection.execute("DELETE FROM records WHERE key & 0xffffffff > 0")
    with NestedLoopExecutor(store=tmp_path / "a.db") as executor, pytest.raises(StoreDamaged, match="no start of it"):
        executor.get_loop(child)
    connection.execute("DELETE FROM records")
    connection.close()
    with NestedLoopExecutor(store=tmp_path / "a.db") as executor, pytest.raises(StoreDamaged, match="its log is empty"):
        executor.get_loop(root)


def test_what_must_hold_is_decided_while_nobody_else_writes(tmp_path: Path) -> None:
    """A writer that is quicker again and again does not keep a call from holding; it is recorded and told once."""
    with NestedLoopExecutor(store=tmp_path / "s.db") as mine, NestedLoopExecutor(store=tmp_path / "s.db") as theirs:
        root = mine.start_root("g")
        told: list[Event] = []
        mine.journal.subscribe(told.append)
        decided: list[int] = []

        def decide(run: Run, at: float) -> Sequence[Event]:
            decided.append(run.seq)
            if len(decided) <= 5:
                theirs.journal.insist(root, rules.note, "note", len(decided))
            return rules.note(run, at, "note", "mine")

        events = mine.journal.insist(root, decide)
        assert decided == [1, 2, 3, 4, 5, 6]
        assert [event.seq for event in events] == [7]
        assert told == list(events)
        assert mine.journal.run(root).noted("note") == [1, 2, 3, 4, 5, "mine"]
        assert theirs.journal.refresh(root).noted("note") == [1, 2, 3, 4, 5, "mine"]
        assert mine.journal.insist(root, lambda run, at: ()) == ()
