"""Whether a tree is as its log says, and whether the log can have come about.

The rules refuse what must not be before it is recorded, so all of this holds of itself. It is checked
for the day when it does not: a file that was changed by hand, a writer with an error of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import fields_dict, frozen

from cortical.core import rules
from cortical.core.comparing import differences
from cortical.core.errors import StoreDamaged
from cortical.core.events import Ended, Event, Moved, Noted, Started
from cortical.core.ports import Root, Store
from cortical.core.run import Run
from cortical.core.status import MOVES, Status
from cortical.core.tree import Tree
from cortical.store.listing import root_of_log, status_after


def unsound(log: Sequence[Event], tree: Tree | None = None) -> list[str]:
    """What is wrong with a tree, a sentence each; empty when all is well.

    Looked at are `log`, all events of one tree from the first; the tree that they fold into; and whether `tree`,
    the one in memory, equals the fold of as much of the log as it has seen. Hold `tree`, and read the log while
    holding it, if others may change it.
    """
    problems = list(_log_problems(log))
    if problems:
        return problems  # such a log need not fold
    try:
        problems += _left_waiting(Tree.of_log(log[0].run_id, log))
    except StoreDamaged as damaged:
        return [str(damaged)]
    if tree is not None:
        problems += _differences(tree, log)
    return problems


@frozen
class OpenTree:
    """A tree that has not ended, and when something last happened in it (seconds since the epoch)."""

    root: Root
    last_event_at: float


@frozen
class Examination:
    """What a store holds: counts, the trees that are open, and what is wrong, a sentence each."""

    trees: int
    runs: int
    events: int
    open_trees: tuple[OpenTree, ...]
    problems: tuple[str, ...]


def examine(store: Store) -> Examination:
    """Read everything in `store`, one tree after another, and say how it is."""
    problems = store.check()
    trees = store.roots()
    runs = events = 0
    open_trees = []
    for root in trees:
        try:
            log = store.read(root.id)
        except StoreDamaged:
            continue  # the store's own check has told it
        runs += sum(isinstance(event, Started) for event in log)
        events += len(log)
        wrong = unsound(log)
        problems += [f"tree {root.id!r}: {problem}" for problem in wrong or _mislisted(store, root, log)]
        if root.ended_at is None:
            open_trees.append(OpenTree(root, log[-1].at if log else root.started_at))
    return Examination(len(trees), runs, events, tuple(open_trees), tuple(problems))


def _mislisted(store: Store, root: Root, log: Sequence[Event]) -> Iterator[str]:
    """What the store says of a tree, without reading its log, and the log says otherwise."""
    true = root_of_log(log)
    differing = [name for name in fields_dict(Root) if getattr(root, name) != getattr(true, name)]
    if differing:
        yield f"the listing differs from its log in {', '.join(differing)}"
    for event in log:
        if isinstance(event, Started) and store.root_of(event.run_id) != true.id:
            yield f"run {event.run_id!r} of its log is listed in another tree, or in none"


def _log_problems(log: Sequence[Event]) -> Iterator[str]:
    if not log:
        yield "the log is empty"
        return
    reader = _Reader()
    at = log[0].at
    for position, event in enumerate(log):
        if event.at < at:
            yield f"time goes back by {at - event.at:g} s at position {position}"
        at = event.at
        if event.run_id in reader.spoilt:
            continue
        problem = reader.problem(event, first=position == 0)
        if problem:
            yield f"{problem} (event {event.seq} of run {event.run_id!r}, at position {position})"
            reader.spoilt.add(event.run_id)
        else:
            reader.take(event)


class _Reader:
    """How the runs of a log stand at the event that is being read. Of a spoilt run nothing more is said."""

    def __init__(self) -> None:
        self.seqs: dict[str, int] = {}
        self.statuses: dict[str, Status] = {}
        self.open_children: dict[str, int] = {}
        self.parents: dict[str, str] = {}
        self.spoilt: set[str] = set()

    def problem(self, event: Event, *, first: bool) -> str:
        """Why this event cannot come next; empty when it can."""
        due = self.seqs.get(event.run_id, 0) + 1
        if event.seq != due:
            return f"the count has a gap: {due} is due"
        if isinstance(event, Started):
            return "" if first else self._problem_of_start(event)
        if due == 1:
            return "a run goes on that was never started"
        before = self.statuses[event.run_id]
        if before.ended:
            if isinstance(event, Noted) and event.topic in rules.AFTERWARDS:
                return ""
            return f"a run goes on that has ended ({before.value})"
        return self._problem_of_move(event, before)

    def take(self, event: Event) -> None:
        """Go on to the next event."""
        self.seqs[event.run_id] = event.seq
        after = status_after(event)
        if after is not None:
            self.statuses[event.run_id] = after
        if isinstance(event, Started) and event.parent_id in self.statuses:
            self.parents[event.run_id] = event.parent_id
            self.open_children[event.parent_id] = self.open_children.get(event.parent_id, 0) + 1
        elif isinstance(event, Ended) and event.run_id in self.parents:
            self.open_children[self.parents[event.run_id]] -= 1

    def _problem_of_start(self, event: Started) -> str:
        if event.seq != 1:
            return "a run is started twice"
        if event.parent_id is None:
            return "a second root is started"
        above = self.statuses.get(event.parent_id)
        if above is None:
            return "" if event.parent_id in self.spoilt else f"its parent {event.parent_id!r} is not in the tree"
        return f"its parent {event.parent_id!r} had ended ({above.value})" if above.ended else ""

    def _problem_of_move(self, event: Event, before: Status) -> str:
        after = status_after(event)
        if after is None:
            return ""
        if isinstance(event, Moved):
            moves = before in (Status.ACTIVE, Status.NOT_STARTED)
            return "" if moves else f"a run moves that is {before.value}"
        if after not in MOVES[before]:
            return f"a run that is {before.value} becomes {after.value}"
        if isinstance(event, Ended) and self.open_children.get(event.run_id):
            return "a run ends before its children"
        return ""


def _left_waiting(tree: Tree) -> Iterator[str]:
    for run in tree.walk():
        if run.waits_for_children and not run.open_children:
            yield f"{_named(run)} waits for its children, but none is open"


def _differences(tree: Tree, log: Sequence[Event]) -> Iterator[str]:
    """How the tree in memory differs from the fold of the part of the log that it has seen."""
    if tree.position > len(log):
        yield f"the tree in memory has seen {tree.position} events, but its log has only {len(log)}"
        return
    for found in differences(tree, log[: tree.position]):
        if found.alone:
            yield f"run {found.run.id!r} is only in {'memory' if found.alone == 'memory' else 'its log'}"
        else:
            yield f"{_named(found.run)} in memory differs from its log in {', '.join(found.fields)}"


def _named(run: Run) -> str:
    return f"{run.kind} {run.id!r}"
