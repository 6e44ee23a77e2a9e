"""The leases kept in a SQLite store. Each call is part of whatever transaction the connection is in."""

from __future__ import annotations

import sqlite3

from cortical.core.errors import LeaseLost
from cortical.core.ports import Lease
from cortical.store.leases import next_lease


def newest(connection: sqlite3.Connection, root_id: str) -> Lease | None:
    """The newest lease on a tree, run out or not."""
    row = connection.execute("SELECT root, holder, fence, expires_at FROM leases WHERE root = ?", (root_id,)).fetchone()
    return Lease(*row) if row else None


def take(connection: sqlite3.Connection, root_id: str, holder: str, now: float, seconds: float) -> Lease:
    """Put a lease of this holder in place of the newest.

    Raises:
        LeaseHeld: another holder's has not run out.
    """
    lease = next_lease(newest(connection, root_id), root_id, holder, now, seconds)
    connection.execute(
        "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)", (root_id, holder, lease.fence, lease.expires_at)
    )
    return lease


def set_expiry(connection: sqlite3.Connection, lease: Lease, expires_at: float) -> None:
    """Let a lease run until `expires_at`.

    Raises:
        LeaseLost: another has been taken since.
    """
    changed = connection.execute(
        "UPDATE leases SET expires_at = ? WHERE root = ? AND fence = ?", (expires_at, lease.root_id, lease.fence)
    )
    if not changed.rowcount:
        raise LeaseLost(lease.root_id)
