"""A run and its visits: the records a tree holds, changed only by the tree's fold.

Msgspec structs for the same reason as the events: there is one visit for every transition ever kept.
A visit holds no value of the user's (its entries stand in the run, from `first_entry` on), so the
garbage collector need not know of it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from cortical.core.budget import Account
from cortical.core.events import Noted
from cortical.core.outcome import Ok, Outcome
from cortical.core.status import Status, TerminationReason

if TYPE_CHECKING:
    from cortical.core.tree import Tree


class Visit(Struct, eq=False, gc=False):
    """One stay at a place: its number among the stays there (`turn`: 1, 2, …), and since and until when.

    `seq` is that of the event by which the run came here; `waited` are the seconds of it, so far as they are over,
    during which the run was paused or blocked.
    """

    place: str
    turn: int
    entered_at: float
    reason: str
    seq: int
    first_entry: int
    left_at: float | None = None
    waited: float = 0.0


class Checkpoint(Struct, eq=False, frozen=True):
    """A run's data at a place in its log: `seq` is that of the event, `turn` that of the visit in which it was made."""

    run_id: str
    seq: int
    at: float
    label: str
    metadata: dict[str, Any] | None
    turn: int
    data: dict[str, Any]


class Run(Struct, eq=False):
    """One entered piece of work. Read it freely; only a fold changes it.

    `metadata` are empty where none were given.
    `waited` are the seconds, so far as they are over, during which it was paused or blocked.
    `born` are its children in the order they were started, None before the first.
    `account` is the nearest one from here up that has a budget: its own, or that of a run above it.
    """

    tree: Tree
    id: str
    kind: str
    name: str
    parent_id: str | None
    parent: Run | None
    depth: int
    metadata: Mapping[str, Any]
    started_at: float
    status: Status
    seq: int = 1
    visit: Visit | None = None
    past: list[Visit] | None = None
    turns: dict[str, int] | None = None
    entries: list[Noted] | None = None
    data: dict[str, Any] | None = None
    checkpoints: dict[int, Checkpoint] | None = None
    why: str = ""
    waits_for_children: bool = False
    waits_since: float | None = None
    waited: float = 0.0
    account: Account | None = None
    born: list[Run] | None = None
    open_children: int = 0
    completed_children: list[Run] | None = None
    outcome: Outcome | None = None
    reason: TerminationReason | None = None
    ended_at: float | None = None

    @property
    def place(self) -> str | None:
        """Where it stands, or stood last; None before its first visit."""
        return None if self.visit is None else self.visit.place

    def seconds(self, now: float) -> float:
        """How long it has taken: to its end, or to now."""
        return (now if self.ended_at is None else self.ended_at) - self.started_at

    def still_at(self, visit_seq: int) -> Visit | None:
        """The visit that the event of this count began, if it still stands there, or stood there last; else None."""
        visit = self.visit
        return visit if visit is not None and visit.seq == visit_seq else None

    @property
    def visits(self) -> list[Visit]:
        """All its visits in order, the last being `visit`; a new list."""
        return [] if self.visit is None else [*(self.past or ()), self.visit]

    def visit_at(self, index: int) -> Visit:
        """The visit of this index (0, 1, …)."""
        past = self.past or ()
        if index < len(past):
            return past[index]
        assert self.visit is not None
        return self.visit

    @property
    def value(self) -> Any:
        """What it brought back; None when it did not end well, or not yet."""
        return self.outcome.value if isinstance(self.outcome, Ok) else None

    @property
    def children(self) -> list[Run]:
        """Its children in the order they were started, without those that were undone; a new list."""
        born, runs = self.born, self.tree.index.runs
        if born is None:
            return []
        return [child for child in tuple(born) if child.id in runs]  # this run itself may have been read anew since

    def visit_by(self, seq: int) -> int:
        """The index (0, 1, …) of the visit that the event of this count began."""
        return bisect_left(self.past or (), seq, key=lambda visit: visit.seq)

    def entries_of(self, index: int) -> Sequence[Noted]:
        """What was noted during the visit of this index (0, 1, …)."""
        if self.entries is None:
            return ()
        after = self.visit_at(index + 1).first_entry if index < len(self.past or ()) else None
        return self.entries[self.visit_at(index).first_entry : after]

    @property
    def entries_here(self) -> Sequence[Noted]:
        """What was noted during the visit in which it stands, or stood last."""
        if self.entries is None or self.visit is None or len(self.entries) == self.visit.first_entry:
            return ()
        return self.entries[self.visit.first_entry :]

    def newest(self, topic: str) -> Iterator[Any]:
        """The values noted on `topic`, the newest first: who looks for the last of them need not read them all."""
        return (entry.value for entry in reversed(self.entries or ()) if entry.topic == topic)

    def noted(self, topic: str) -> list[Any]:
        """The values noted on `topic` in all visits, in order."""
        return [entry.value for entry in self.entries or () if entry.topic == topic]
