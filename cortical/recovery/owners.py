"""Work that was under way when its process died, and that nobody drives."""

from __future__ import annotations

from attrs import frozen

from cortical.core.journal import Journal
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.engine.lease import holder_of


@frozen
class Interrupted:
    """An open tree that was driven and is no longer: its root, who held its lease last, and since when nobody does.

    `since` is in seconds since the epoch: when the lease ran out, or, where it was given back, the last event.
    """

    id: str
    goal: str
    kind: str
    holder: str
    since: float


def interrupted(journal: Journal) -> list[Interrupted]:
    """The trees that are active, or wait for their children, and whose last owner is gone; newest first.

    Not among them are trees that were never driven under a lease, and those that were paused by hand or are blocked.
    """
    found = []
    for root in journal.store.roots(open_only=True):
        lease = journal.store.lease_of(root.id)
        if lease is None or lease.expires_at > journal.clock.time():
            continue
        run = journal.refresh(root.id)
        if run.status is Status.ACTIVE or (run.status is Status.PAUSED and run.waits_for_children):
            found.append(Interrupted(root.id, root.goal, root.kind, lease.holder, lease.expires_at or run.tree.at))
    return found


def why_not_recoverable(journal: Journal, run: Run) -> str:
    """Why there is nothing to recover a run from; empty when there may be."""
    if run.status in (Status.COMPLETED, Status.SKIPPED):
        return f"it has ended well ({run.status.value}): there is nothing to recover"
    if run.reason is not None:
        return ""
    if run.status is Status.BLOCKED or (run.status is Status.PAUSED and not run.waits_for_children):
        return f"it is {run.status.value} ({run.why or 'no reason given'}): resume it"
    driven_by = holder_of(journal.store, run.tree.root.id, journal.clock.time())
    if driven_by is not None:
        return f"it is driven by {driven_by}, and has not failed"
    if journal.store.lease_of(run.tree.root.id) is None:
        return "it is open and was never driven, so that nothing can have interrupted it; go on with it"
    return ""
