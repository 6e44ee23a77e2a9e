"""What a store must do with leases: the part of its contract by which a tree has one driver at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from cortical.core.errors import LeaseHeld, LeaseLost
from cortical.core.events import Moved, Noted, Paused
from cortical.testing.store_steps import Check, Open, append, in_threads, started


def leases_have_one_holder(open_store: Open) -> None:
    """A lease is refused, with the holder's name, until it has run out or was let go; each new one is fenced higher."""
    store, other = open_store(), open_store()
    append(store, "a", 0, [started("a")])
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
    released = store.lease_of("a")
    assert released is not None
    assert (released.holder, released.fence, released.expires_at) == ("ben", second.fence, 0.0)
    third = store.take_lease("a", "carl", now=119.0, seconds=10.0)
    assert third.fence > second.fence
    assert store.take_lease("b", "anna", now=0.0, seconds=1.0).holder == "anna"


def late_writers_are_fenced_off(open_store: Open) -> None:
    """What a driver writes after another took over is refused, alone and among others; unfenced writes go on."""
    store, other = open_store(), open_store()
    append(store, "a", 0, [started("a")])
    first = store.take_lease("a", "anna", now=0.0, seconds=10.0)
    store.append(store.prepare("a", 1, [Moved("a", 2, 2.0, "answer")], first.fence))
    second = other.take_lease("a", "ben", now=11.0, seconds=10.0)
    late = store.prepare("a", 2, [Moved("a", 3, 3.0, "produce")], first.fence)
    _lost(lambda: store.append(late))
    _lost(lambda: store.append(store.prepare("b", 0, [started("b")]), late))
    assert len(other.read("a")) == 2
    assert other.read("b") == []
    other.append(other.prepare("a", 2, [started("child", "a"), Paused("a", 3, 3.0)], second.fence))
    append(store, "a", 4, [Noted("a", 4, 4.0, "note", "from outside")])
    assert [event.seq for event in other.read("a")] == [1, 2, 1, 3, 4]


def many_take_one_lease(open_store: Open) -> None:
    """Of many threads that take one lease at the same moment, one gets it."""
    store = open_store()
    append(store, "a", 0, [started("a")])
    won: list[str] = []

    def take(name: str) -> None:
        try:
            store.take_lease("a", name, now=0.0, seconds=10.0)
        except LeaseHeld:
            return
        won.append(name)

    in_threads(*(lambda n=n: take(f"t{n}") for n in range(8)))
    newest = store.lease_of("a")
    assert newest is not None
    assert won == [newest.holder]


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


LEASE_CHECKS: Final[Sequence[Check]] = (leases_have_one_holder, late_writers_are_fenced_off, many_take_one_lease)
