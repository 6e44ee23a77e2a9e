"""What is shared between trees: every run by id, and per kind the open ones by status with counts of the rest.

Folds of all trees take `lock` for the length of one record, and so do readers, so that neither sees
the other's half. Nothing slow happens under it: no store, no subscriber, no user's code.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec import Struct

from cortical.core.run import Run, Visit
from cortical.core.status import Status, TerminationReason

_OPEN = tuple(status for status in Status if not status.ended)


class Stay(Struct):
    """All visits of one place: how many, how many of them are over, and the seconds of these."""

    visits: int = 0
    over: int = 0
    seconds: float = 0.0


class Shelf:
    """The runs of one kind."""

    __slots__ = ("counts", "depths", "open", "reasons", "stays")

    def __init__(self) -> None:
        self.open: dict[Status, dict[str, Run]] = {status: {} for status in _OPEN}
        self.counts: Counter[Status] = Counter()
        self.reasons: Counter[TerminationReason] = Counter()
        self.stays: dict[str, Stay] = {}
        #: How many runs there are of each depth of which there are any.
        self.depths: Counter[int] = Counter()

    @property
    def deepest(self) -> int:
        """The depth of the deepest run; 0 without any."""
        return max(self.depths, default=0)


class Index:
    """Runs by id, kind and status."""

    __slots__ = ("generation", "lock", "runs", "shelves")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.runs: dict[str, Run] = {}
        #: Goes up when everything is forgotten.
        self.generation = 0
        self.shelves: dict[str, Shelf] = {}

    def shelf(self, kind: str) -> Shelf:
        """The shelf of this kind, an empty one if there is no such run yet."""
        shelf = self.shelves.get(kind)
        if shelf is None:
            shelf = self.shelves[kind] = Shelf()
        return shelf

    def open_runs(self) -> Iterator[Run]:
        """All runs that have not ended."""
        for shelf in self.shelves.values():
            for runs in shelf.open.values():
                yield from runs.values()

    def enter(self, run: Run) -> None:
        """Take in a new run, and its first visit if there is one."""
        self.runs[run.id] = run
        shelf, status = self.shelf(run.kind), run.status
        shelf.counts[status] += 1
        shelf.open[status][run.id] = run
        shelf.depths[run.depth] += 1
        if run.visit is not None:
            self.visit(run, run.visit)

    def move(self, run: Run, status: Status) -> None:
        """Give `run` this status; its reason, if it ended, stands in it already."""
        shelf, before = self.shelves[run.kind], run.status
        del shelf.open[before][run.id]
        shelf.counts[before] -= 1
        shelf.counts[status] += 1
        if run.reason is not None:
            shelf.reasons[run.reason] += 1
        else:
            shelf.open[status][run.id] = run
        run.status = status

    def visit(self, run: Run, visit: Visit) -> None:
        """Count a visit that begins."""
        stays = self.shelves[run.kind].stays
        stay = stays.get(visit.place)
        if stay is None:
            stay = stays[visit.place] = Stay()
        stay.visits += 1

    def leave(self, run: Run, visit: Visit, at: float) -> None:
        """End a visit, if it has not ended yet, and count its seconds."""
        if visit.left_at is None:
            visit.left_at = at
            stay = self.shelves[run.kind].stays[visit.place]
            stay.over += 1
            stay.seconds += at - visit.entered_at

    def adopt(self, other: Index) -> None:
        """Take in all that `other` holds, at once."""
        self.runs.update(other.runs)
        for kind, theirs in other.shelves.items():
            ours = self.shelf(kind)
            ours.counts.update(theirs.counts)
            ours.reasons.update(theirs.reasons)
            ours.depths.update(theirs.depths)
            for status, runs in theirs.open.items():
                ours.open[status].update(runs)
            for place, stay in theirs.stays.items():
                mine = ours.stays.setdefault(place, Stay())
                mine.visits += stay.visits
                mine.over += stay.over
                mine.seconds += stay.seconds

    def clear(self) -> None:
        """Forget everything."""
        self.generation += 1
        self.runs.clear()
        self.shelves.clear()

    def drop(self, runs: Iterable[Run]) -> None:
        """Forget these runs, as if they had never been entered."""
        for run in runs:
            del self.runs[run.id]
            shelf = self.shelves[run.kind]
            shelf.counts[run.status] -= 1
            shelf.depths[run.depth] -= 1
            if not shelf.depths[run.depth]:
                del shelf.depths[run.depth]
            if run.reason is not None:
                shelf.reasons[run.reason] -= 1
            else:
                del shelf.open[run.status][run.id]
            for visit in run.visits:
                stay = shelf.stays[visit.place]
                stay.visits -= 1
                if visit.left_at is not None:
                    stay.over -= 1
                    stay.seconds -= visit.left_at - visit.entered_at
