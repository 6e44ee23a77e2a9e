"""Subscriptions that cannot hurt or slow a run, and following a store from outside."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cortical.control import LoopController
from cortical.core import rules
from cortical.core.errors import InvalidInput, RunNotFound, StoreError, StoreNotFound, WrongType
from cortical.core.events import Ended, Event, Moved, Noted, Started
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.outcome import Ok
from cortical.core.phases import ITERATION
from cortical.core.status import TerminationReason
from cortical.monitoring import EventBus, Missed, Subscription, follow
from cortical.store import MemoryStore, Store
from cortical.testing import FakeClock
from tests.threads import in_threads
from tests.unit.kept import keys


class Blocked:
    """A handler that begins, and does not return before it is released."""

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()
        self.heard: list[Event | Missed] = []

    def hear(self, event: Event) -> None:
        self.heard.append(event)
        self.begun.set()
        assert self.released.wait(20)


@pytest.fixture
def journal(clock: FakeClock) -> Journal:
    """A journal in memory, with the run ``r``."""
    journal = Journal(MemoryStore(), clock=clock)
    journal.plant("r", rules.start, LOOP, "a loop", place=ITERATION)
    return journal


@pytest.fixture
def bus(journal: Journal) -> Iterator[EventBus]:
    """A bus on that journal."""
    with EventBus(journal) as bus:
        yield bus


def note(journal: Journal, count: int = 1, run_id: str = "r") -> None:
    for number in range(count):
        journal.change(run_id, rules.note, "n", number)


def end(journal: Journal, run_id: str = "r") -> None:
    journal.change(run_id, rules.end, Ok(), TerminationReason.COMPLETED)


def child(journal: Journal, child_id: str, parent: str = "r") -> None:
    journal.change(parent, rules.spawn, "step", {child_id: child_id}, place=None)


def test_each_event_is_told_once_and_in_order(journal: Journal, bus: EventBus) -> None:
    """A handler hears what is recorded from now on, in the order of the log, each event once."""
    heard: list[Event] = []
    bus.on(heard.append)
    note(journal, 500)
    assert bus.flush()
    assert keys(heard) == [("r", seq) for seq in range(2, 502)]


def test_types_and_runs_are_chosen(journal: Journal, bus: EventBus) -> None:
    """A subscription hears only of the types and runs it asked for; those below are its own choice."""
    child(journal, "a")
    child(journal, "b", "a")
    journal.plant("other", rules.start, LOOP, "another", place=ITERATION)
    ends: list[Event] = []
    below: list[Event] = []
    alone: list[Event] = []
    bus.on(ends.append, events=(Ended,))
    bus.on(below.append, runs=["a"])
    bus.on(alone.append, runs=["a"], below=False)
    for run_id in ("b", "a", "other"):
        journal.change(run_id, rules.change, {"x": 1}) if run_id == "other" else journal.change(
            run_id, rules.begin, "work"
        )
    child(journal, "c", "b")
    end(journal, "other")
    assert bus.flush()
    assert [type(event) for event in ends] == [Ended]
    assert {event.run_id for event in below} == {"a", "b", "c"}
    assert {event.run_id for event in alone} == {"a"}


def test_a_replay_tells_nothing(durable: Store, clock: FakeClock) -> None:
    """Loading a tree, reading it anew and catching up with another writer tell nothing; what is recorded then does."""
    first = Journal(durable, clock=clock)
    first.plant("r", rules.start, LOOP, "a loop", place=ITERATION)
    second = Journal(durable, clock=clock)
    heard: list[Event] = []
    with EventBus(second) as bus:
        bus.on(heard.append)
        second.run("r")
        note(first)
        second.refresh("r")
        second.forget()
        second.run("r")
        note(second)
        assert bus.flush()
    assert keys(heard) == [("r", 3)]


def test_a_slow_handler_is_told_what_it_missed(journal: Journal, bus: EventBus) -> None:
    """A handler that blocks does not stop the run; what its queue had no room for is told in its place."""
    slow = Blocked()
    subscription = bus.on(slow.hear, buffer=10, on_missed=slow.heard.append)
    note(journal)
    assert slow.begun.wait(20)
    note(journal, 100)
    assert journal.run("r").seq == 102
    assert subscription.waiting == 10
    slow.released.set()
    assert bus.flush(20)
    note(journal)
    assert bus.flush(20)
    missed = slow.heard[11]
    assert isinstance(missed, Missed)
    assert (missed.count, missed.first.seq, missed.last.seq) == (90, 13, 102)
    assert [event.seq for event in slow.heard if not isinstance(event, Missed)] == [*range(2, 13), 103]
    assert (subscription.missed, subscription.told) == (90, 12)


def test_a_gap_is_told_without_another_event(journal: Journal, bus: EventBus) -> None:
    """What was missed is told as soon as the queue is empty, also when nothing more is recorded."""
    slow = Blocked()
    told = threading.Event()
    bus.on(slow.hear, buffer=1, on_missed=lambda _: told.set())
    note(journal)
    assert slow.begun.wait(20)
    note(journal, 5)
    slow.released.set()
    assert told.wait(20)


def test_nothing_is_lost_between_events_and_gaps(journal: Journal, bus: EventBus) -> None:
    """With a small queue and a handler that now and then is too slow, told and missed make up all that was recorded."""
    heard: list[Event | Missed] = []
    subscription = bus.on(heard.append, buffer=3, on_missed=heard.append)
    note(journal, 5000)
    assert bus.flush(20)
    counted = sum(one.count if isinstance(one, Missed) else 1 for one in heard)
    assert counted == 5000 == subscription.told + subscription.missed
    spans = [(one.first.seq, one.last.seq) if isinstance(one, Missed) else (one.seq, one.seq) for one in heard]
    assert all(before[1] + 1 == after[0] for before, after in pairwise(spans))


def test_a_slow_subscriber_does_not_hold_up_another(journal: Journal, bus: EventBus) -> None:
    """While one handler blocks another hears everything."""
    slow = Blocked()
    heard: list[Event] = []
    bus.on(slow.hear)
    quick = bus.on(heard.append)
    note(journal, 50)
    assert slow.begun.wait(20)
    assert quick.flush(20)
    assert len(heard) == 50
    slow.released.set()


def test_a_handler_that_raises_is_reported_and_dropped(
    journal: Journal, bus: EventBus, caplog: pytest.LogCaptureFixture
) -> None:
    """Each failure is logged; after five in a row the handler hears nothing more, and that is told."""
    heard: list[Event] = []

    def broken(event: Event) -> None:
        heard.append(event)
        if event.seq != 4:
            raise ValueError("no")

    with caplog.at_level(logging.ERROR, logger="cortical"):
        subscription = bus.on(broken)
        note(journal, 20)
        assert bus.flush(20)
    assert [event.seq for event in heard] == list(range(2, 10))  # two failures, a success, five failures
    assert not subscription.active
    assert isinstance(subscription.dropped, ValueError)
    assert "dropped" in caplog.records[-1].message


def test_a_handler_may_exit_and_hurts_nothing(
    journal: Journal, bus: EventBus, caplog: pytest.LogCaptureFixture
) -> None:
    """SystemExit in a handler is a failure like any other."""

    def leave(_: Event) -> None:
        raise SystemExit(3)

    subscription = bus.on(leave)
    note(journal, 3)
    assert bus.flush(20)
    assert subscription.active
    assert "raised at Noted (2) of run r" in caplog.text


def test_a_handler_may_stop_itself(journal: Journal, bus: EventBus) -> None:
    """A handler that stops its own subscription hears nothing after that, what was queued included."""
    heard: list[Event] = []
    ready = threading.Event()
    subscriptions: list[Subscription] = []

    def once(event: Event) -> None:
        assert ready.wait(20)
        heard.append(event)
        subscriptions[0].stop()

    subscriptions.append(bus.on(once))
    note(journal, 10)
    ready.set()
    assert subscriptions[0].flush(20)
    note(journal)
    assert len(heard) == 1
    assert not subscriptions[0].active


def test_a_handler_may_record(journal: Journal, bus: EventBus) -> None:
    """What a handler records is told to it too, and deadlocks nothing."""
    done = threading.Event()

    def answer(event: Event) -> None:
        assert isinstance(event, Noted)
        if event.value < 10:
            journal.change("r", rules.note, "n", event.value + 1)
        else:
            done.set()

    bus.on(answer, events=(Noted,))
    note(journal)
    assert done.wait(20)
    assert journal.run("r").noted("n") == list(range(11))


def test_a_handler_may_not_wait_for_itself(journal: Journal, bus: EventBus) -> None:
    """Asked from its own handler, `flush` says at once that not everything is told."""
    answers: list[bool] = []
    bus.on(lambda _: answers.append(bus.flush()))
    note(journal)
    assert bus.flush(20)
    assert answers == [False]


def test_a_bus_that_is_closed_hears_nothing(journal: Journal) -> None:
    """Closing lets handlers hear what is queued, and ends them; closing again is fine."""
    heard: list[Event] = []
    bus = EventBus(journal)
    subscription = bus.on(heard.append)
    note(journal, 3)
    bus.close()
    note(journal)
    bus.close()
    assert len(heard) == 3
    assert not subscription.active


def test_events_that_are_undone_are_not_told(journal: Journal, bus: EventBus) -> None:
    """A transaction that raises tells nothing."""
    heard: list[Event] = []
    bus.on(heard.append)

    def undone() -> None:
        with journal.transaction():
            note(journal)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        undone()
    note(journal)
    assert bus.flush()
    assert keys(heard) == [("r", 2)]


def test_threads_that_record_at_once(journal: Journal, bus: EventBus) -> None:
    """Events of several threads are each told once, those of each tree in order."""
    heard: list[Event] = []
    bus.on(heard.append)
    for number in range(4):
        journal.plant(f"t{number}", rules.start, LOOP, "a loop", place=ITERATION)
    together = threading.Barrier(4)

    def work(run_id: str) -> None:
        together.wait(20)
        note(journal, 200, run_id)

    in_threads(work, [f"t{number}" for number in range(4)])
    note(journal)  # whoever records last has told for all
    assert bus.flush(20)
    for number in range(4):
        assert [event.seq for event in heard if event.run_id == f"t{number}"] == list(range(1, 202))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"handler": 3}, WrongType),
        ({"handler": print, "events": (str,)}, WrongType),
        ({"handler": print, "runs": ["nobody"]}, RunNotFound),
        ({"handler": print, "buffer": 0}, InvalidInput),
        ({"handler": print, "buffer": True}, WrongType),
        ({"handler": print, "on_missed": 3}, WrongType),
    ],
)
def test_what_cannot_be_subscribed(bus: EventBus, arguments: dict[str, Any], error: type[Exception]) -> None:
    """What is of no use is refused when it is asked for, and starts nothing."""
    before = threading.active_count()
    with pytest.raises(error):
        bus.on(**arguments)
    assert threading.active_count() == before


# Following


def test_following_hears_of_other_writers(any_store: Store, clock: FakeClock) -> None:
    """What any writer records is heard once, in the order of each tree's log; what was there before is not."""
    writer = Journal(any_store, clock=clock)
    writer.plant("old", rules.start, LOOP, "an old loop", place=ITERATION)
    follower = follow(any_store)
    assert follower.poll() == []
    note(writer, 2, "old")
    writer.plant("new", rules.start, LOOP, "a new loop", place=ITERATION)
    end(writer, "new")
    assert sorted(keys(follower.poll())) == [("new", 1), ("new", 2), ("old", 2), ("old", 3)]
    assert follower.poll() == []
    writer.change("new", rules.annotate, "recovery", {})
    assert keys(follower.poll()) == [("new", 3)]


def test_following_many_trees_at_once(clock: FakeClock) -> None:
    """Trees that began and ended between two looks are all heard of, however many."""
    store = MemoryStore()
    writer = Journal(store, clock=clock)
    follower = follow(store, events=(Started, Ended))
    for number in range(350):
        writer.plant(f"t{number}", rules.start, LOOP, "a loop", place=ITERATION)
        end(writer, f"t{number}")
    heard = follower.poll()
    assert len(heard) == 700
    assert heard[0].run_id == "t0"
    assert follower.poll() == []


def test_following_the_past(clock: FakeClock) -> None:
    """With `past` all that is recorded is heard first."""
    store = MemoryStore()
    writer = Journal(store, clock=clock)
    for number in range(120):
        writer.plant(f"t{number}", rules.start, LOOP, "a loop", place=ITERATION)
        end(writer, f"t{number}")
    assert len(follow(store, past=True).poll()) == 240
    assert follow(store).poll() == []


def test_following_a_tree_to_its_end(journal: Journal) -> None:
    """Asked for one run, the iteration ends with its tree, and waits as it was told to meanwhile."""
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        note(journal) if len(waits) < 3 else end(journal)

    heard = list(follow(journal.store, runs="r", past=True, wait=wait, poll_seconds=0.5))
    assert [type(event) for event in heard] == [Started, Noted, Noted, Ended]
    assert waits == [0.5, 0.5, 0.5]


def test_whatever_has_a_store_is_followed(tmp_path: Path, clock: FakeClock) -> None:
    """A path, an open store, a journal and a face; what was opened is closed with it, and none is made."""
    path = tmp_path / "runs.db"
    with pytest.raises(StoreNotFound):
        follow(path)
    with LoopController("r", store=path, clock=clock) as face:
        followers = [follow(place) for place in (path, face.store, face.journal, face)]
        face.update_state(seen=1)
        for follower in followers:
            assert keys(follower.poll()) == [("r", 2)]
            follower.close()
            assert list(follower) == []
        with pytest.raises(StoreError):
            followers[0].poll()
        assert face.store.roots()


def test_following_is_stopped(journal: Journal) -> None:
    """`stop` from another thread ends an iteration that waits."""
    follower = follow(journal.store, poll_seconds=60)
    heard: list[Event] = []
    thread = threading.Thread(target=lambda: heard.extend(follower))
    thread.start()
    follower.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert heard == []


class Failing(MemoryStore):
    """A store that cannot be read while `failing`."""

    failing: str | None = None

    def read(self, root_id: str, start: int = 0) -> list[Event]:
        if root_id == self.failing:
            raise StoreError("no such disk")
        return super().read(root_id, start)


def test_following_goes_on_after_an_error(clock: FakeClock) -> None:
    """A look that fails half-way loses nothing: the next one goes on where it stood."""
    store = Failing()
    writer = Journal(store, clock=clock)
    for run_id in ("a", "b"):
        writer.plant(run_id, rules.start, LOOP, run_id, place=ITERATION)
    follower = follow(store)
    for run_id in ("a", "b"):
        writer.change(run_id, rules.move, ITERATION)
    store.failing = follower.poll()[-1].run_id
    for run_id in ("a", "b"):
        writer.change(run_id, rules.move, ITERATION)
    with pytest.raises(StoreError):
        follower.poll()
    store.failing = None
    heard = follower.poll()
    assert sorted(keys(heard)) == [("a", 3), ("b", 3)]
    assert all(isinstance(event, Moved) for event in heard)


def test_what_cannot_be_followed(journal: Journal) -> None:
    """An unknown run, a time of nothing and what is no store are refused."""
    with pytest.raises(RunNotFound):
        follow(journal.store, runs=["nobody"])
    with pytest.raises(InvalidInput):
        follow(journal.store, poll_seconds=0)
    with pytest.raises(WrongType):
        follow(5)  # type: ignore[arg-type]
