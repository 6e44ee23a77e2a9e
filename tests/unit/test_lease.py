"""Holding the lease on a tree for as long as a context lasts."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cortical.batch import BatchProcessor
from cortical.core import rules
from cortical.core.errors import LeaseHeld, LeaseLost
from cortical.core.journal import Journal
from cortical.engine.lease import holding_lease
from cortical.stages import Pipeline, StageContext, execute, resume, stage
from cortical.store import MemoryStore
from cortical.testing import FakeClock
from tests.integration.agent_scenarios import until


@pytest.fixture
def journal() -> Journal:
    """A journal with a tree in it."""
    journal = Journal(MemoryStore(strict=True), clock=FakeClock())
    journal.plant("root", rules.start, "loop", "goal", place="question")
    return journal


def another(journal: Journal) -> Journal:
    """A journal on the same store, as another process has it."""
    return Journal(journal.store, clock=journal.clock)


def in_a_thread(work: Any) -> list[BaseException]:
    """Do this in a thread of its own; what it raised."""
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    return raised


def test_it_is_held_and_let_go(journal: Journal) -> None:
    """Inside, writes are fenced and others refused, who hear by whom; afterwards the next takes it at once."""

    def take() -> None:
        with holding_lease(another(journal), "root"):
            raise AssertionError("it was given twice")

    with holding_lease(journal, "root"):
        assert journal.fences == {"root": 1}
        (refused,) = in_a_thread(take)
        assert isinstance(refused, LeaseHeld)
        assert refused.holder.startswith("process ")
    assert journal.fences == {}
    with holding_lease(another(journal), "root"):
        lease = journal.store.lease_of("root")
        assert lease is not None
        assert lease.fence == 2


def test_it_is_let_go_by_an_error(journal: Journal) -> None:
    """An error inside comes through, and the lease is free."""
    with pytest.raises(KeyError), holding_lease(journal, "root"):
        raise KeyError
    assert not in_a_thread(lambda: holding_lease(another(journal), "root").__enter__())


def test_one_inside_another_is_joined(journal: Journal) -> None:
    """Where the journal holds the lease it goes on under it, in other threads too, and lets the outer one let go."""

    def inside() -> None:
        with holding_lease(journal, "root"):
            journal.change("root", rules.note, "note", "inside")

    with holding_lease(journal, "root"):
        inside()
        assert not in_a_thread(inside)
        assert journal.fences == {"root": 1}
    assert journal.fences == {}


def test_one_that_must_be_alone_does_not_join(journal: Journal) -> None:
    """Without joining, the same journal is refused as another one is."""

    def alone() -> None:
        with holding_lease(journal, "root", join=False):
            raise AssertionError("it was given twice")

    with holding_lease(journal, "root"):
        assert [type(error) for error in in_a_thread(alone)] == [LeaseHeld]
        assert journal.fences == {"root": 1}


def test_it_is_renewed(journal: Journal) -> None:
    """While the context lasts the lease runs on, by the journal's clock."""
    clock = journal.clock
    assert isinstance(clock, FakeClock)
    with holding_lease(journal, "root", seconds=0.03):
        clock.advance(1000)
        until(lambda: (lease := journal.store.lease_of("root")) and lease.expires_at > clock.time())


def test_losing_it_is_told_once(journal: Journal) -> None:
    """Who holds it is told when another took over; its writes are refused from then on, the other's are not."""
    lost: list[OSError] = []
    thief = another(journal)
    with holding_lease(journal, "root", seconds=0.03, on_lost=lost.append):
        taken = journal.store.take_lease("root", "thief", now=journal.clock.time() + 1000, seconds=1000)
        thief.fences["root"] = taken.fence
        until(lambda: lost)
        with pytest.raises(LeaseLost):
            journal.change("root", rules.note, "note", "late")
        thief.change("root", rules.note, "note", "in time")
    assert [type(error) for error in lost] == [LeaseLost]
    newest = journal.store.lease_of("root")
    assert newest is not None
    assert (newest.holder, newest.expires_at) == ("thief", taken.expires_at)


@pytest.mark.parametrize("seconds", [0, -1, "10", float("nan"), True])
def test_a_lease_runs_for_some_time(journal: Journal, seconds: Any) -> None:
    """What is no time that a lease could run for is refused, and nothing is taken."""
    with pytest.raises((TypeError, ValueError), match="lease_seconds"), holding_lease(journal, "root", seconds=seconds):
        raise AssertionError("it was given")
    assert journal.store.lease_of("root") is None


def test_a_late_batch_does_not_speak_for_another() -> None:
    """A batch that another driver took over and ended tells the late one so, and gives no result with items missing."""
    store, clock = MemoryStore(), FakeClock()
    first, begun, over = threading.Semaphore(2), threading.Barrier(3), threading.Event()

    def work(item: int, task: Any, context: Any) -> int:
        if first.acquire(blocking=False):
            begun.wait(30)
            assert over.wait(30)
        return item

    late = BatchProcessor(".", "b", work, store=store, clock=clock, max_concurrency=2)
    raised: list[BaseException] = []
    thread = threading.Thread(target=lambda: raised.extend(in_a_thread(lambda: late.run(range(5)))))
    thread.start()
    begun.wait(30)
    clock.advance(60)  # it stands still for longer than its lease
    assert BatchProcessor(".", "b", work, store=store, clock=clock).run(range(5)).results == [0, 1, 2, 3, 4]
    thread.join(30)  # it looks about, and finds the end
    over.set()
    assert [type(error) for error in raised] == [LeaseLost]
    assert late.run(range(5)).results == [0, 1, 2, 3, 4]


def test_a_late_pipeline_does_not_speak_for_another() -> None:
    """Nor does a pipeline give a result in which values are missing."""
    store, clock = MemoryStore(), FakeClock()
    taken_over: list[Any] = []

    @stage("p:first", writes=["x"])
    def first(context: StageContext) -> None:
        if not taken_over:
            taken_over.append({})
            clock.advance(60)
            taken_over.append(resume(store, store.roots()[0].id, pipeline, clock=clock).values)
            assert context.journal is not None
            context.journal.refresh(store.roots()[0].id)  # as a driver looks about, every tenth of a second
        context["x"] = 1

    @stage("p:second", after=["p:first"], writes=["y"])
    def second(context: StageContext) -> None:
        context["y"] = 2

    pipeline = Pipeline("p", [first, second])
    with pytest.raises(LeaseLost):
        execute(pipeline, store=store, clock=clock)
    assert taken_over[1] == {"x": 1, "y": 2}
    assert resume(store, store.roots()[0].id, pipeline, clock=clock).values == {"x": 1, "y": 2}
