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

from cortical.core.errors import Conflict, EncodeError, LeaseHeld, LeaseLost, StoreError
from cortical.core.events import Blocked, Changed, Ended, Event, Moved, Noted, Paused, Resumed, Started
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome, Skipped
from cortical.core.ports import Store
from cortical.core.status import Status, TerminationReason

Open = Callable[[], Store]
Check = Callable[[Open], None]

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
    _append(store, "root", 0, events[:3])
    _append(store, "root", 3, events[3:])
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
    _append(store, "root", 0, [_started("root")])
    _append(other, "root", 1, [Moved("root", 2, 2.0, "answer")])
    for stale in (store, other):
        _refused(stale, "root", 1, [Noted("root", 2, 3.0, "note", "lost"), Moved("root", 3, 3.0, "verify")])
        _refused(stale, "root", 0, [_started("root")])
    assert store.read("root") == other.read("root") == [_started("root"), Moved("root", 2, 2.0, "answer")]


def a_run_is_started_once(open_store: Open) -> None:
    """A record that starts a run whose id another tree has is refused whole."""
    store = open_store()
    _append(store, "a", 0, [_started("a"), _started("child", "a")])
    _refused(store, "b", 0, [_started("b"), _started("child", "b")])
    assert store.read("b") == []
    assert store.root_of("b") is None
    assert [root.id for root in store.roots()] == ["a"]


def several_records_are_one(open_store: Open) -> None:
    """Records of several trees are kept together; when one conflicts, none is."""
    store = open_store()
    store.append(store.prepare("a", 0, [_started("a")]), store.prepare("b", 0, [_started("b")]))
    moved = store.prepare("a", 1, [Moved("a", 2, 2.0, "answer")])
    for stale in (store.prepare("b", 0, [_started("b")]), store.prepare("a", 1, [Moved("a", 2, 2.0, "verify")])):
        try:
            store.append(moved, stale)
        except Conflict:
            pass
        else:
            raise AssertionError("a conflict in the second record was not refused")
    assert store.read("a") == [_started("a")]
    store.append(moved, store.prepare("a", 2, [Moved("a", 3, 2.0, "produce")]))
    assert [event.seq for event in store.read("a")] == [1, 2, 3]


def runs_are_found(open_store: Open) -> None:
    """Every run leads to its root, and ids are found by their beginnings, sorted."""
    store = open_store()
    _append(store, "ab1", 0, [_started("ab1"), _started("ab2", "ab1")])
    _append(store, "b%_", 0, [_started("b%_")])
    assert [store.root_of(run) for run in ("ab1", "ab2", "b%_")] == ["ab1", "ab1", "b%_"]
    assert store.find("ab") == ["ab1", "ab2"]
    assert store.find("ab", limit=1) == ["ab1"]
    assert store.find("b%") == ["b%_"]
    assert store.find("%") == []
    assert store.find("") == ["ab1", "ab2", "b%_"]


def roots_are_listed(open_store: Open) -> None:
    """The listing shows each tree's root as it stands, newest first, without those that ended when asked."""
    store = open_store()
    _append(store, "a", 0, [_started("a"), _started("child", "a"), Paused("a", 2, 1.0, "", True)])
    _append(store, "b", 0, [Started("b", 1, 5.0, "pipeline", "later")])
    assert _standing(store) == [("b", Status.NOT_STARTED), ("a", Status.PAUSED)]
    _append(store, "a", 3, [Ended("child", 2, 2.0, Ok(), _SUCCESS), Resumed("a", 3, 2.0)])
    _append(store, "b", 1, [Moved("b", 2, 6.0, "first")])
    assert _standing(open_store()) == [("b", Status.ACTIVE), ("a", Status.ACTIVE)]
    _append(store, "a", 5, [Blocked("a", 4, 3.0, "no key")])
    assert _standing(store) == [("b", Status.ACTIVE), ("a", Status.BLOCKED)]
    _append(store, "b", 2, [Ended("b", 3, 9.0, Abandoned("enough"), TerminationReason.MANUAL)])
    newest = store.roots(limit=1)[0]
    assert (newest.id, newest.kind, newest.goal) == ("b", "pipeline", "later")
    assert (newest.started_at, newest.ended_at, newest.reason) == (5.0, 9.0, TerminationReason.MANUAL)
    assert [root.id for root in store.roots(open_only=True)] == ["a"]


def a_root_started_elsewhere_is_listed(open_store: Open) -> None:
    """A root that one opening entered and another began is listed as active by both."""
    first, second = open_store(), open_store()
    _append(first, "a", 0, [Started("a", 1, 1.0, "loop", "goal")])
    assert second.read("a") == [Started("a", 1, 1.0, "loop", "goal")]
    _append(second, "a", 1, [Moved("a", 2, 2.0, "question")])
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
    _append(store, "a", 0, [_started("a"), Noted("a", 2, 1.0, "answer", value)])
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
        _append(store, name, 0, [_started(name)])
        for turn in range(1, turns):
            _append(store, name, turn, [Moved(name, turn + 1, float(turn), "answer")])

    _in_threads(*(lambda name=f"t{n}": write(name) for n in range(writers)))
    for n in range(writers):
        assert [event.seq for event in open_store().read(f"t{n}")] == list(range(1, turns + 1))


def threads_race_for_a_position(open_store: Open) -> None:
    """Of many threads that write at one position of one tree, one succeeds and the others get Conflict."""
    store = open_store()
    _append(store, "a", 0, [_started("a")])
    for turn in range(1, 20):
        won: list[int] = []

        def write(n: int, turn: int = turn, won: list[int] = won) -> None:
            try:
                _append(store, "a", turn, [Noted("a", turn + 1, 1.0, "note", n)])
            except Conflict:
                return
            won.append(n)

        _in_threads(*(lambda n=n: write(n) for n in range(6)))
        last = store.read("a", turn)
        assert len(won) == 1, f"{len(won)} writers won"
        assert [event.value for event in last if isinstance(event, Noted)] == won


def leases_have_one_holder(open_store: Open) -> None:
    """A lease is refused, with the holder's name, until it has run out or was let go; each new one is fenced higher."""
    store, other = open_store(), open_store()
    _append(store, "a", 0, [_started("a")])
    assert store.lease_of("a") is None
    first = store.take_lease("a", "anna", now=100.0, seconds=10.0)
    assert (first.root_id, first.holder, first.expires_at) == ("a", "anna", 110.0)
    _refused_lease(lambda: other.take_lease("a", "ben", now=109.0, seconds=10.0), "anna")
    renewed = store.renew_lease(first, now=108.0, seconds=10.0)
    assert (renewed.fence, renewed.expires_at) == (first.fence, 118.0)
    _refused_lease(lambda: other.take_lease("a", "ben", now=112.0, seconds=10.0), "anna")
    second = other.take_lease("a", "ben", now=118.0, seconds=10.0)
    assert second.fence > first.fence
    assert store.lease_of("a") == second
    _lost(lambda: store.renew_lease(renewed, now=119.0, seconds=10.0))
    store.release_lease(renewed)
    _refused_lease(lambda: store.take_lease("a", "carl", now=119.0, seconds=10.0), "ben")
    other.release_lease(second)
    third = store.take_lease("a", "carl", now=119.0, seconds=10.0)
    assert third.fence > second.fence
    assert store.take_lease("b", "anna", now=0.0, seconds=1.0).holder == "anna"


def late_writers_are_fenced_off(open_store: Open) -> None:
    """What a driver writes after another took over is refused, alone and among others; unfenced writes go on."""
    store, other = open_store(), open_store()
    _append(store, "a", 0, [_started("a")])
    first = store.take_lease("a", "anna", now=0.0, seconds=10.0)
    store.append(store.prepare("a", 1, [Moved("a", 2, 2.0, "answer")], first.fence))
    second = other.take_lease("a", "ben", now=11.0, seconds=10.0)
    late = store.prepare("a", 2, [Moved("a", 3, 3.0, "produce")], first.fence)
    _lost(lambda: store.append(late))
    _lost(lambda: store.append(store.prepare("b", 0, [_started("b")]), late))
    assert len(other.read("a")) == 2
    assert other.read("b") == []
    other.append(other.prepare("a", 2, [_started("child", "a"), Paused("a", 3, 3.0)], second.fence))
    _append(store, "a", 4, [Noted("a", 4, 4.0, "note", "from outside")])
    assert [event.seq for event in other.read("a")] == [1, 2, 1, 3, 4]


def many_take_one_lease(open_store: Open) -> None:
    """Of many threads that take one lease at the same moment, one gets it."""
    store = open_store()
    _append(store, "a", 0, [_started("a")])
    won: list[str] = []

    def take(name: str) -> None:
        try:
            store.take_lease("a", name, now=0.0, seconds=10.0)
        except LeaseHeld:
            return
        won.append(name)

    _in_threads(*(lambda n=n: take(f"t{n}") for n in range(8)))
    newest = store.lease_of("a")
    assert newest is not None
    assert won == [newest.holder]


def check_finds_nothing_wrong(open_store: Open) -> None:
    """A store that was only written by the rules is sound."""
    store = open_store()
    _append(store, "a", 0, every_event("a"))
    assert store.check() == []


def flush_and_close(open_store: Open) -> None:
    """What was flushed is there for others; closing twice is fine, and a closed store refuses everything."""
    store = open_store()
    _append(store, "a", 0, [_started("a")])
    store.flush()
    assert open_store().read("a") == [_started("a")]
    store.close()
    store.close()
    uses: Sequence[Callable[[], object]] = (
        lambda: store.read("a"),
        lambda: store.root_of("a"),
        lambda: store.find("a"),
        lambda: store.lease_of("a"),
        lambda: store.take_lease("a", "anna", now=0.0, seconds=1.0),
        store.roots,
        store.check,
        store.flush,
        lambda: _append(store, "b", 0, [_started("b")]),
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
    events += [_started(child, run_id) for child in children]
    events.append(Paused(run_id, 2, 2.0, "waiting", True))
    events += [Ended(child, 2, 3.0, end, TerminationReason.MANUAL) for child, end in zip(children, ends, strict=True)]
    events += [
        Resumed(run_id, 3, 4.0, "no child is open"),
        Moved(run_id, 4, 5.0, "answer", "go"),
        Noted(run_id, 5, 6.0, "note", ("a", 1)),
        Changed(run_id, 6, 7.0, {"key": {"nested": None}}, ("gone",)),
        Blocked(run_id, 7, 8.0, "no key"),
    ]
    return events


def _started(run_id: str, parent_id: str | None = None) -> Started:
    return Started(run_id, 1, 1.0, "loop", "goal", parent_id, "question")


def _append(store: Store, root_id: str, position: int, events: Sequence[Event]) -> None:
    store.append(store.prepare(root_id, position, events))


def _refused(store: Store, root_id: str, position: int, events: Sequence[Event]) -> None:
    try:
        _append(store, root_id, position, events)
    except Conflict as conflict:
        assert conflict.root_id == root_id
        return
    raise AssertionError(f"a record of {root_id!r} at {position} was not refused")


def _refused_lease(take: Callable[[], object], holder: str) -> None:
    try:
        take()
    except LeaseHeld as held:
        assert held.holder == holder
        assert holder in str(held)
        return
    raise AssertionError("a lease that another holds was given")


def _lost(use: Callable[[], object]) -> None:
    try:
        use()
    except LeaseLost as lost:
        assert lost.root_id == "a"
        return
    raise AssertionError("a lease that was lost was good for writing")


def _standing(store: Store) -> list[tuple[str, Status]]:
    return [(root.id, root.status) for root in store.roots()]


def _in_threads(*functions: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def guarded(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as failure:  # noqa: BLE001  # told below, in the thread that asked
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, f"a thread failed: {failures[0]!r}"


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
    leases_have_one_holder,
    late_writers_are_fenced_off,
    many_take_one_lease,
    check_finds_nothing_wrong,
    flush_and_close,
)
