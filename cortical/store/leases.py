"""Who may take the lease on a tree."""

from __future__ import annotations

from cortical.core.errors import LeaseHeld
from cortical.core.ports import Lease


def next_lease(newest: Lease | None, root_id: str, holder: str, now: float, seconds: float) -> Lease:
    """The lease that `holder` gets after the newest one on this tree: a new fence, unless it is this holder's own.

    Raises:
        LeaseHeld: the newest is another holder's and has not run out.
    """
    if newest is None:
        return Lease(root_id, holder, 1, now + seconds)
    if newest.expires_at > now and newest.holder != holder:
        raise LeaseHeld(root_id, newest.holder, newest.expires_at - now)
    return Lease(root_id, holder, newest.fence + 1, now + seconds)
