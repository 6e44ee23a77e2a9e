"""One tree of runs: the fold of its log, with the hierarchy as a networkx graph for whoever asks.

Folding cannot fail and reads no clock: whatever may be refused was refused before the event was
recorded. Folding the same events again gives the same tree.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from cortical.core import budget
from cortical.core.errors import StoreDamaged
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
from cortical.core.index import Index
from cortical.core.outcome import STATUS_OF, Ok
from cortical.core.phases import TURN_PLACES
from cortical.core.run import Checkpoint, Run, Visit
from cortical.core.status import Status
from cortical.core.topics import CHECKPOINTS_DELETED, VISIT_ENDED

if TYPE_CHECKING:
    import networkx as nx

#: The metadata of a run that was given none.
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Tree:
    """A root and all below it.

    `position` counts the events folded: it is where in the log this tree stands. `at` is the time of the last one,
    `ahead` by how much it was found ahead of the seconds that the journal counts, after the clock was set back.
    `lock` is held by whoever is changing the tree, `holder` is that thread's id, and `releases` counts how often it
    was let go of.
    """

    __slots__ = ("ahead", "at", "holder", "index", "lock", "position", "releases", "root")

    root: Run

    def __init__(self, index: Index | None = None) -> None:
        self.index = index or Index()
        self.position = 0
        self.at = 0.0
        self.ahead = float("-inf")
        self.lock = threading.Lock()
        self.holder: int | None = None
        self.releases = 0

    @classmethod
    def of(cls, events: Iterable[Event]) -> Tree:
        """The tree that these events, a root's log from its beginning, fold into."""
        tree = cls()
        tree.fold(events)
        return tree

    @classmethod
    def of_log(cls, root_id: str, log: Sequence[Event]) -> Tree:
        """The tree that this root's log, as a store gave it, folds into.

        Raises:
            StoreDamaged: there is no log, it is another tree's, or it does not fold.
        """
        if not log:
            raise StoreDamaged(f"tree {root_id!r} is listed, but its log is empty; restore the store from a copy")
        first = log[0]
        if type(first) is not Started or first.run_id != root_id or first.parent_id is not None:
            raise StoreDamaged(
                f"the log of {root_id!r} does not begin with its start; `cortical check {root_id}` says what is wrong"
            )
        try:
            tree = cls.of(log)
            if sum(type(event) is Started for event in log) != len(tree.index.runs):
                raise ValueError("a run is started twice")
            if tree.root.id != root_id:
                raise ValueError(f"a second root is started, {tree.root.id!r}")
            return tree
        except Exception as error:  # whatever folding values that make no sense may raise
            raise StoreDamaged(
                f"the log of {root_id!r} does not fold ({error!r}); `cortical check {root_id}` says what is wrong"
            ) from error

    @property
    def graph(self) -> nx.DiGraph[str]:
        """The hierarchy as it is now: ids, with an edge from each parent to each of its children; a new graph."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_node(self.root.id)
        graph.add_edges_from((run.parent_id, run.id) for run in self.walk() if run.parent_id is not None)
        return graph

    def walk(self, run: Run | None = None) -> Iterator[Run]:
        """`run` (the root by default) and all below it, parents before children, depth first, as started."""
        waiting = [run or self.root]
        while waiting:
            run = waiting.pop()
            yield run
            waiting.extend(reversed(run.children))

    def walk_open(self, run: Run) -> Iterator[Run]:
        """`run` and all below it that have not ended, parents before children; below an ended run nothing is open."""
        waiting = [run]
        while waiting:
            run = waiting.pop()
            yield run
            if run.open_children:
                waiting.extend(child for child in reversed(run.children) if child.reason is None)

    def path(self, run: Run) -> list[Run]:
        """From the root down to `run`, both included."""
        path = [run]
        while (parent := path[-1].parent) is not None:
            path.append(parent)
        path.reverse()
        return path

    def fold(self, events: Iterable[Event]) -> None:
        """Change the tree by these facts, in order."""
        for event in events:
            _FOLD[type(event)](self, event)
            self.position += 1
            self.at = event.at

    def clear(self) -> None:
        """Forget everything folded, to be folded anew; the runs are to be dropped from the index first."""
        self.position, self.at = 0, 0.0

    def _started(self, event: Started) -> None:
        place, metadata = event.place, event.metadata or _NOTHING
        parent = self.index.runs.get(event.parent_id) if event.parent_id and self.position else None
        run = Run(
            self,
            event.run_id,
            event.kind,
            event.name,
            event.parent_id,
            parent,
            0 if parent is None else parent.depth + 1,
            metadata,
            event.at,
            Status.NOT_STARTED if place is None else Status.ACTIVE,
            1,
            None if place is None else Visit(place, 1, event.at, "", 1, 0),
        )
        self.index.enter(run)
        if parent is None:
            self.root = run
        else:
            parent.open_children += 1
            if parent.born is None:
                parent.born = [run]
            else:
                parent.born.append(run)
            run.account = parent.account
            if run.account is not None and not metadata.get(budget.UNCOUNTED):
                self._book(run.account, "descendants")
        if metadata and (limit := metadata.get("budget")):
            run.account = budget.opened(run.id, limit, event.at, run.depth, run.account)
        if run.account is not None and place in TURN_PLACES:
            self._book(run.account, "iterations")

    def _moved(self, event: Moved) -> None:
        run = self.index.runs[event.run_id]
        run.seq = event.seq
        place = event.place
        left = run.visit
        turn = 1
        if left is None:
            self.index.move(run, Status.ACTIVE)
        else:
            self.index.leave(run, left, event.at)
            turns = run.turns
            if turns is None or run.past is None:
                run.past = [left]
                turns = run.turns = {left.place: 1}
            else:
                run.past.append(left)
            turn = turns[place] = turns.get(place, 0) + 1
        entries = run.entries
        run.visit = Visit(place, turn, event.at, event.reason, event.seq, 0 if entries is None else len(entries))
        self.index.visit(run, run.visit)
        if run.account is not None and place in TURN_PLACES:
            self._book(run.account, "iterations")

    @staticmethod
    def _book(account: budget.Account, resource: str) -> None:
        paying = budget.payer(account, resource)
        if paying is not None:
            paying.spend(resource, 1)

    def _noted(self, event: Noted) -> None:
        run = self.index.runs[event.run_id]
        run.seq = event.seq
        if event.topic == VISIT_ENDED:
            if run.visit is not None:
                self.index.leave(run, run.visit, event.at)
            return
        if event.topic in budget.BOOKED and run.account is not None:
            budget.booked(run.account, event.topic, event.value)
        elif event.topic == CHECKPOINTS_DELETED:
            for number in event.value:
                (run.checkpoints or {}).pop(number, None)
        if run.entries is None:
            run.entries = [event]
        else:
            run.entries.append(event)

    def _changed(self, event: Changed) -> None:
        run = self.index.runs[event.run_id]
        run.seq = event.seq
        changed = {**(run.data or {}), **event.set}
        for key in event.removed:
            changed.pop(key, None)
        run.data = changed

    def _checkpointed(self, event: Checkpointed) -> None:
        run = self.index.runs[event.run_id]
        run.seq = event.seq
        turn = 0 if run.visit is None else run.visit.turn
        # The data are replaced at each change, never changed in place: keeping them costs nothing.
        made = Checkpoint(run.id, event.seq, event.at, event.label, event.metadata, turn, run.data or {})
        if run.checkpoints is None:
            run.checkpoints = {event.seq: made}
        else:
            run.checkpoints[event.seq] = made

    def _restored(self, event: Restored) -> None:
        run = self.index.runs[event.run_id]
        run.seq = event.seq
        kept = (run.checkpoints or {})[event.checkpoint].data
        run.data = {**(run.data or {}), **kept} if event.mode == "merge" else kept

    def _paused(self, event: Paused) -> None:
        run = self.index.runs[event.run_id]
        run.seq = event.seq
        run.why, run.waits_for_children, run.waits_since = event.reason, event.for_children, event.at
        self.index.move(run, Status.PAUSED)

    def _blocked(self, event: Blocked) -> None:
        run = self.index.runs[event.run_id]
        run.seq = event.seq
        run.why, run.waits_since = event.reason, event.at
        self.index.move(run, Status.BLOCKED)

    def _resumed(self, event: Resumed) -> None:
        run = self.index.runs[event.run_id]
        run.seq = event.seq
        self._stop_waiting(run, event.at)
        self.index.move(run, Status.ACTIVE)

    def _stop_waiting(self, run: Run, at: float) -> None:
        if run.waits_since is not None:
            run.waited += at - run.waits_since
            if run.visit is not None:
                run.visit.waited += at - run.waits_since
            run.why, run.waits_for_children, run.waits_since = "", False, None

    def _ended(self, event: Ended) -> None:
        run = self.index.runs[event.run_id]
        outcome = event.outcome
        run.seq, run.outcome, run.reason, run.ended_at = event.seq, outcome, event.reason, event.at
        self._stop_waiting(run, event.at)
        if run.visit is not None:
            self.index.leave(run, run.visit, event.at)
        if run.account is not None:
            budget.closed(run.account, run.id)
        self.index.move(run, STATUS_OF[type(outcome)])
        parent = run.parent
        if parent is None:
            return
        parent.open_children -= 1
        if type(outcome) is Ok:
            if parent.completed_children is None:
                parent.completed_children = [run]
            else:
                parent.completed_children.append(run)


_FOLD: Final[dict[type, Callable[[Tree, Any], None]]] = {
    Started: Tree._started,
    Moved: Tree._moved,
    Noted: Tree._noted,
    Changed: Tree._changed,
    Paused: Tree._paused,
    Blocked: Tree._blocked,
    Resumed: Tree._resumed,
    Checkpointed: Tree._checkpointed,
    Restored: Tree._restored,
    Ended: Tree._ended,
}
