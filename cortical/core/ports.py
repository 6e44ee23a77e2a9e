"""What the core asks of the outside: a store for the log, and a clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from attrs import frozen
from msgspec import Struct

from cortical.core.events import Event
from cortical.core.status import Status, TerminationReason


class Clock(Protocol):
    """Tells the time. Python's own `time` module is one.

    One that has `monotonic()` too, as that module does, is asked by it how long something takes within this process:
    those seconds only ever go on, while the time may be set back or ahead.
    """

    def time(self) -> float:
        """Seconds since the epoch."""
        ...


def seconds_on(clock: Clock) -> Callable[[], float]:
    """What tells seconds that only ever go on, from a moment of its own; by a clock without such, its time."""
    monotonic: Callable[[], float] = getattr(clock, "monotonic", clock.time)
    return monotonic


class Record(Struct, frozen=True, gc=False):
    """Events that become true together: the next ones of one tree's log, from `position` on."""

    root_id: str
    position: int
    events: Sequence[Event]
    body: Any = None  # the store's own form of them
    fence: int | None = None  # of the lease under which it is written, if it is


@frozen
class Lease:
    """The right to drive a tree. Each new holder gets a higher `fence`, by which a late one's writes are known."""

    root_id: str
    holder: str
    fence: int
    #: Seconds since the epoch.
    expires_at: float


@frozen
class Root:
    """A tree in a listing: what is known of its root without reading its log."""

    id: str
    kind: str
    goal: str
    status: Status
    reason: TerminationReason | None
    started_at: float
    ended_at: float | None


class Store(Protocol):
    """Keeps the logs of trees. What `append` returned from is kept as the durability promises."""

    @property
    def name(self) -> str:
        """What a person calls this store: its path or address."""
        ...

    def prepare(self, root_id: str, position: int, events: Sequence[Event], fence: int | None = None) -> Record:
        """The record of these events, with values that nobody outside can change any more.

        With a `fence` it will be written only while the newest lease on the tree has that fence.

        Raises:
            EncodeError: a value cannot be kept. Nothing is written.
        """
        ...

    def append(self, *records: Record) -> None:
        """Write all records, of one tree or several, or none of them.

        Raises:
            Conflict: a tree's log does not end at its record's position.
            LeaseLost: a record's fence is not that of the tree's newest lease.
            StoreError: nothing was written.
        """
        ...

    def exclusively(self) -> AbstractContextManager[None]:
        """A context in which nobody else writes, in any process: for what has to be decided and written in one go.

        What its thread appends inside is kept when it ends, or not at all if it raises. Not to be nested, and short:
        everybody else waits.
        """
        ...

    def read(self, root_id: str, start: int = 0) -> list[Event]:
        """The events of this root's log from position `start` (0, 1, …) on; empty where there are none."""
        ...

    def compact(self, root_id: str, before: float) -> int:
        """Pack what this root's log holds of the time before `before` (seconds since the epoch) into less room.

        `read` gives the same events as ever, from any position. Others may read and write the tree meanwhile.
        Returns how many bytes were saved; 0 where there is nothing to pack, or the store does not pack.

        Raises:
            StoreDamaged: a record cannot be read; it stays as it is.
            StoreError: the rest could not be packed; calling again goes on.
        """
        ...

    def root_of(self, run_id: str) -> str | None:
        """The id of the root above this run (itself for a root), or None for an unknown id."""
        ...

    def find(self, prefix: str, limit: int = 10) -> list[str]:
        """The ids of runs that begin with `prefix`, sorted, `limit` at most."""
        ...

    def roots(self, *, open_only: bool = False, limit: int | None = None) -> list[Root]:
        """The trees, newest first, without reading their logs."""
        ...

    def take_lease(self, root_id: str, holder: str, *, now: float, seconds: float) -> Lease:
        """Take the lease on a tree until `now + seconds`.

        Raises:
            LeaseHeld: another holder's has not run out.
        """
        ...

    def renew_lease(self, lease: Lease, *, now: float, seconds: float) -> Lease:
        """The same lease, running until `now + seconds`.

        Raises:
            LeaseLost: another has been taken since.
        """
        ...

    def release_lease(self, lease: Lease) -> None:
        """Let another holder take the lease at once: its `expires_at` becomes 0.0. Nothing to do when one has."""
        ...

    def lease_of(self, root_id: str) -> Lease | None:
        """The newest lease on a tree, run out or not; None where none was ever taken."""
        ...

    def flush(self) -> None:
        """Wait until everything appended is kept.

        Raises:
            RecordsLost: some of it could not be.
        """
        ...

    def check(self) -> list[str]:
        """What is wrong with what is stored, a sentence each; empty when all is well. Reads everything."""
        ...

    def close(self) -> None:
        """Keep what was appended and let go of the files. Closing twice is fine; a closed store refuses use."""
        ...
