"""What every store must do: one suite for all adapters, for whoever writes another.

::

    @pytest.mark.parametrize("check", store_checks(), ids=lambda check: check.__name__)
    def test_my_store(check, tmp_path):
        '''My store keeps the contract.'''
        check(lambda: MyStore(tmp_path / "a"))

A check takes a function that opens the store; called again, it opens the same one once more, as
another process would. It raises AssertionError where the store does not do what it must.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from cortical.core.errors import Conflict, EncodeError, StoreError
from cortical.core.events import (
    Blocked,
    Changed,
    Checkpointed,
    Ended,
    Event,
    Moved,
    Noted,
    Paused,
    Restored,
    Resumed,
    Started,
)
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome, Skipped
from cortical.core.ports import Store
from cortical.core.status import Status, TerminationReason
from cortical.testing.lease_checks import LEASE_CHECKS
from cortical.testing.packing_checks import PACKING_CHECKS
from cortical.testing.store_steps import Check, Open, append, conflicting, in_threads, refused, started

_SUCCESS: Final = TerminationReason.SUCCESS


def store_checks() -> list[Check]:
    """All checks of the contract, to be run one by one."""
    return list(_CHECKS)


def check_store(make: Callable[[], Open]) -> None:
    """Run every check, each on a new place: `make()` gives the function that opens a store there.

    Raises:
        AssertionError: the store breaks the contract; the message names the check.
    """
    for check in _CHECKS:
        try:
            check(make())
        except AssertionError as error:
            raise AssertionError(f"{check.__name__}: {(check.__doc__ or '').strip()} {error}") from error


def what_is_appended_is_read(open_store: Open) -> None:
    """Events come back equal and in order, from any position, also by another opening."""
    store = open_store()
    events = every_event()
    append(store, "root", 0, events[:3])
    append(store, "root", 3, events[3:])
    for opened in (store, open_store()):
        for start in range(len(events) + 2):
            assert opened.read("root", start) == events[start:], f"from {start}"


def unknown_ids_are_nothing(open_store: Open) -> None:
    """An unknown root has no events, an unknown run no root, an unknown prefix no matches."""
    store = open_store()
    assert store.read("nobody") == []
    assert store.root_of("nobody") is None
    assert store.find("nobody") == []
    assert store.roots() == []


def a_stale_position_conflicts(open_store: Open) -> None:
    """A record for a position that another has taken is refused, and nothing of it is kept."""
    store, other = open_store(), open_store()
    append(store, "root", 0, [started("root")])
    append(other, "root", 1, [Moved("root", 2, 2.0, "answer")])
    for stale in (store, other):
        refused(stale, "root", 1, [Noted("root", 2, 3.0, "note", "lost"), Moved("root", 3, 3.0, "verify")])
        refused(stale, "root", 0, [started("root")])
    assert store.read("root") == other.read("root") == [started("root"), Moved("root", 2, 2.0, "answer")]


def a_run_is_started_once(open_store: Open) -> None:
    """A record that starts a run whose id another tree has is refused whole."""
    store = open_store()
    append(store, "a", 0, [started("a"), started("child", "a")])
    refused(store, "b", 0, [started("b"), started("child", "b")])
    assert store.read("b") == []
    assert store.root_of("b") is None
    assert [root.id for root in store.roots()] == ["a"]


def several_records_are_one(open_store: Open) -> None:
    """Records of several trees are kept together; when one conflicts, none is."""
    store = open_store()
    store.append(store.prepare("a", 0, [started("a")]), store.prepare("b", 0, [started("b")]))
    moved = store.prepare("a", 1, [Moved("a", 2, 2.0, "answer")])
    again, late = store.prepare("b", 0, [started("b")]), store.prepare("a", 1, [Moved("a", 2, 2.0, "verify")])
    conflicting(lambda: store.append(moved, again))
    conflicting(lambda: store.append(moved, late))
    assert store.read("a") == [started("a")]
    store.append(moved, store.prepare("a", 2, [Moved("a", 3, 2.0, "produce")]))
    assert [event.seq for event in store.read("a")] == [1, 2, 3]


def runs_are_found(open_store: Open) -> None:
    """Every run leads to its root, and ids are found by their beginnings, sorted."""
    store = open_store()
    append(store, "ab1", 0, [started("ab1"), started("ab2", "ab1")])
    append(store, "b%_", 0, [started("b%_")])
    assert [store.root_of(run) for run in ("ab1", "ab2", "b%_")] == ["ab1", "ab1", "b%_"]
    assert store.find("ab") == ["ab1", "ab2"]
    assert store.find("ab", limit=1) == ["ab1"]
    assert store.find("ab", limit=2**64) == ["ab1", "ab2"]
    assert store.find("b%") == ["b%_"]
    assert store.find("%") == []
    assert store.find("") == ["ab1", "ab2", "b%_"]


def roots_are_listed(open_store: Open) -> None:
    """The listing shows each tree's root as it stands, newest first, without those that ended when asked."""
    store = open_store()
    append(store, "a", 0, [started("a"), started("child", "a"), Paused("a", 2, 1.0, "", True)])
    append(store, "b", 0, [Started("b", 1, 5.0, "pipeline", "later")])
    assert _standing(store) == [("b", Status.NOT_STARTED), ("a", Status.PAUSED)]
    append(store, "a", 3, [Ended("child", 2, 2.0, Ok(), _SUCCESS), Resumed("a", 3, 2.0)])
    append(store, "b", 1, [Moved("b", 2, 6.0, "first")])
    assert _standing(open_store()) == [("b", Status.ACTIVE), ("a", Status.ACTIVE)]
    append(store, "a", 5, [Blocked("a", 4, 3.0, "no key")])
    assert _standing(store) == [("b", Status.ACTIVE), ("a", Status.BLOCKED)]
    append(store, "b", 2, [Ended("b", 3, 9.0, Abandoned("enough"), TerminationReason.MANUAL)])
    newest = store.roots(limit=1)[0]
    assert (newest.id, newest.kind, newest.goal) == ("b", "pipeline", "later")
    assert (newest.started_at, newest.ended_at, newest.reason) == (5.0, 9.0, TerminationReason.MANUAL)
    assert [root.id for root in store.roots(open_only=True)] == ["a"]
    assert store.roots(limit=2**64) == store.roots()


def a_root_started_elsewhere_is_listed(open_store: Open) -> None:
    """A root that one opening entered and another began is listed as active by both."""
    first, second = open_store(), open_store()
    append(first, "a", 0, [Started("a", 1, 1.0, "loop", "goal")])
    assert second.read("a") == [Started("a", 1, 1.0, "loop", "goal")]
    append(second, "a", 1, [Moved("a", 2, 2.0, "question")])
    assert _standing(first) == _standing(second) == [("a", Status.ACTIVE)]


def values_are_kept_or_refused(open_store: Open) -> None:
    """A value comes back as it was; one that cannot is refused before anything is written, its spot named."""
    store = open_store()
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    value = {
        "t": (1, 2),
        "s": {3},
        "b": b"\x00",
        "d": moment,
        "m": Decimal("1.10"),
        "n": None,
        "i": 2**80,
        "é": "\udc80",
    }
    append(store, "a", 0, [started("a"), Noted("a", 2, 1.0, "answer", value)])
    kept = open_store().read("a")[1]
    assert isinstance(kept, Noted)
    assert kept.value == value
    try:
        record = store.prepare("a", 2, [Noted("a", 3, 1.0, "answer", {"conn": threading.Lock()})])
    except EncodeError as error:
        assert "answer['conn']" in str(error), str(error)
    else:
        store.append(record)  # a store in memory keeps values as they are
    assert len(store.read("a")) in (2, 3)


def threads_write_their_own_trees(open_store: Open) -> None:
    """Many threads that write to a tree each lose nothing."""
    store = open_store()
    writers, turns = 8, 25

    def write(name: str) -> None:
        append(store, name, 0, [started(name)])
        for turn in range(1, turns):
            append(store, name, turn, [Moved(name, turn + 1, float(turn), "answer")])

    in_threads(*(lambda name=f"t{n}": write(name) for n in range(writers)))
    for n in range(writers):
        assert [event.seq for event in open_store().read(f"t{n}")] == list(range(1, turns + 1))


def threads_race_for_a_position(open_store: Open) -> None:
    """Of many threads that write at one position of one tree, one succeeds and the others get Conflict."""
    store = open_store()
    append(store, "a", 0, [started("a")])
    for turn in range(1, 20):
        won: list[int] = []

        def write(n: int, turn: int = turn, won: list[int] = won) -> None:
            try:
                append(store, "a", turn, [Noted("a", turn + 1, 1.0, "note", n)])
            except Conflict:
                return
            won.append(n)

        in_threads(*(lambda n=n: write(n) for n in range(6)))
        last = store.read("a", turn)
        assert len(won) == 1, f"{len(won)} writers won"
        assert [event.value for event in last if isinstance(event, Noted)] == won


def one_writes_exclusively(open_store: Open) -> None:
    """While one thread writes exclusively the others wait, and what it appended stands when they come to write."""
    store, other = open_store(), open_store()
    append(store, "a", 0, [started("a")])
    inside, done = threading.Event(), threading.Event()

    def write_meanwhile() -> None:
        inside.wait(10)
        try:
            append(other, "a", 1, [Moved("a", 2, 2.0, "verify")])
        except Conflict:
            done.set()

    def write() -> None:
        with store.exclusively():
            assert len(store.read("a")) == 1
            inside.set()
            append(store, "a", 1, [Moved("a", 2, 2.0, "answer")])
            assert store.read("a")[1] == Moved("a", 2, 2.0, "answer")

    in_threads(write_meanwhile, write)
    assert done.is_set(), "a writer came between"
    assert other.read("a") == [started("a"), Moved("a", 2, 2.0, "answer")]
    append(other, "a", 2, [Moved("a", 3, 3.0, "produce")])
    append(store, "a", 3, [Moved("a", 4, 4.0, "verify")])


def check_finds_nothing_wrong(open_store: Open) -> None:
    """A store that was only written by the rules is sound."""
    store = open_store()
    append(store, "a", 0, every_event("a"))
    assert store.check() == []


def flush_and_close(open_store: Open) -> None:
    """What was flushed is there for others; closing twice is fine, and a closed store refuses everything."""
    store = open_store()
    append(store, "a", 0, [started("a")])
    store.flush()
    assert open_store().read("a") == [started("a")]
    store.close()
    store.close()
    uses: Sequence[Callable[[], object]] = (
        lambda: store.read("a"),
        lambda: store.root_of("a"),
        lambda: store.find("a"),
        lambda: store.compact("a", 2.0),
        lambda: store.lease_of("a"),
        lambda: store.take_lease("a", "anna", now=0.0, seconds=1.0),
        store.roots,
        store.check,
        store.flush,
        lambda: append(store, "b", 0, [started("b")]),
    )
    for use in uses:
        try:
            use()
        except StoreError:
            continue
        raise AssertionError("a closed store was used")


def every_event(run_id: str = "root") -> list[Event]:
    """A lawful log with every kind of event and every kind of outcome, beginning with the root's start."""
    ends: list[Outcome] = [Ok({"rows": [1, 2.5]}), Failed.of(ValueError("é")), Skipped("not needed"), Abandoned("why")]
    children = [f"{run_id}-{n}" for n in range(len(ends))]
    events: list[Event] = [Started(run_id, 1, 1.5, "loop", "goal", None, "question", {"time_box_minutes": 5})]
    events += [started(child, run_id) for child in children]
    events.append(Paused(run_id, 2, 2.0, "waiting", True))
    events += [Ended(child, 2, 3.0, end, TerminationReason.MANUAL) for child, end in zip(children, ends, strict=True)]
    events += [
        Resumed(run_id, 3, 4.0, "no child is open"),
        Moved(run_id, 4, 5.0, "answer", "go"),
        Noted(run_id, 5, 6.0, "note", ("a", 1)),
        Changed(run_id, 6, 7.0, {"key": {"nested": None}}, ("gone",)),
        Checkpointed(run_id, 7, 7.5, "before", {"rows": (1, 2)}),
        Restored(run_id, 8, 7.5, 7, "merge"),
        Blocked(run_id, 9, 8.0, "no key"),
    ]
    return events


def _standing(store: Store) -> list[tuple[str, Status]]:
    return [(root.id, root.status) for root in store.roots()]


_CHECKS: Final[Sequence[Check]] = (
    what_is_appended_is_read,
    unknown_ids_are_nothing,
    a_stale_position_conflicts,
    a_run_is_started_once,
    several_records_are_one,
    runs_are_found,
    roots_are_listed,
    a_root_started_elsewhere_is_listed,
    values_are_kept_or_refused,
    threads_write_their_own_trees,
    threads_race_for_a_position,
    *LEASE_CHECKS,
    *PACKING_CHECKS,
    one_writes_exclusively,
    check_finds_nothing_wrong,
    flush_and_close,
)
