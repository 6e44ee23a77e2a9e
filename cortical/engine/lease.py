"""The right to drive a tree, held for as long as a context lasts: whoever drives one takes it, of whatever kind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from cortical.core.checks import require_seconds
from cortical.core.errors import LeaseHeld, LeaseLost
from cortical.core.journal import Journal
from cortical.core.ports import Lease, Store
from cortical.engine.callers import this_process

#: How many times a lease is renewed while it runs.
_RENEWALS: Final = 3
#: The leases that this process holds and that a driver of it stands behind, by root and fence.
_alive: Final[set[tuple[str, int]]] = set()


@contextmanager
def holding_lease(
    journal: Journal,
    root_id: str,
    *,
    seconds: float = 10.0,
    on_lost: Callable[[OSError], object] | None = None,
    join: bool = True,
) -> Iterator[None]:
    """Hold the lease on a tree until the context ends; what this journal writes to the tree meanwhile is fenced by it.

    A thread renews it three times in the time it runs for. Once it is lost, or cannot be renewed, that thread ends,
    and the journal's writes to the tree are refused as soon as another holder has taken over.

    Args:
        seconds: how long the lease runs without being renewed, by the journal's clock.
        on_lost: called from that thread, once, with what went wrong.
        join: where this journal holds the lease already (a driver within the phase of a driven tree), go on under
            it; it has to outlast this context, and `on_lost` is then not called. A driver that must be the only one
            gives False.

    Raises:
        LeaseHeld: somebody else holds it.
        WrongType, InvalidInput: `seconds` is no time that a lease could run for.
    """
    require_seconds(seconds, "lease_seconds", above_zero=True)
    if join and root_id in journal.fences:
        yield
        return
    lease = _taken(journal, root_id, seconds)
    journal.fences[root_id] = lease.fence
    over = threading.Event()
    renewing = threading.Thread(
        target=_renew, args=(journal, lease, seconds, over, on_lost), name="cortical-lease", daemon=True
    )
    renewing.start()
    try:
        yield
    finally:
        _alive.discard((root_id, lease.fence))
        over.set()
        renewing.join()
        del journal.fences[root_id]
        journal.store.release_lease(lease)


def require_lease(journal: Journal, root_id: str) -> None:
    """Refuse to speak for a tree that this journal drove, once another holder has taken over.

    Raises:
        LeaseLost: it has.
    """
    fence, newest = journal.fences.get(root_id), journal.store.lease_of(root_id)
    if fence is not None and newest is not None and newest.fence != fence:
        raise LeaseLost(root_id)


def holder_of(store: Store, root_id: str, now: float) -> str | None:
    """Who drives a tree at this time; None when nobody does, or whoever did has let the lease run out."""
    lease = store.lease_of(root_id)
    return lease.holder if lease is not None and lease.expires_at > now else None


def _taken(journal: Journal, root_id: str, seconds: float) -> Lease:
    """A store lets a holder take its own lease again, left by a driver that died; not while that one still drives."""
    store, now, holder = journal.store, journal.clock.time(), _holder()
    newest = store.lease_of(root_id)
    if newest is not None and newest.expires_at > now and (root_id, newest.fence) in _alive:
        raise LeaseHeld(root_id, newest.holder, newest.expires_at - now)
    lease = store.take_lease(root_id, holder, now=now, seconds=seconds)
    _alive.add((root_id, lease.fence))
    return lease


def _renew(
    journal: Journal,
    lease: Lease,
    seconds: float,
    over: threading.Event,
    on_lost: Callable[[OSError], object] | None,
) -> None:
    while not over.wait(seconds / _RENEWALS):
        try:
            lease = journal.store.renew_lease(lease, now=journal.clock.time(), seconds=seconds)
        except OSError as error:  # lost, or not to be written: then it runs out
            if on_lost is not None:
                on_lost(error)
            return


def _holder() -> str:
    thread = threading.current_thread()
    return f"{this_process()}, {thread.name} ({thread.ident})"
