"""What may happen to a run, for every face: each rule looks, refuses or answers with the events.

A rule takes the run and the time and returns the events of one record. It changes nothing; what it
raises leaves everything as it was. ``Journal.change(run_id, rule, …)`` calls it under the tree's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Literal

from msgspec.structs import replace

from cortical.core import budget
from cortical.core.errors import CheckpointNotFound, DepthLimitReached, RunStateError
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
from cortical.core.outcome import STATUS_OF, Abandoned, Outcome
from cortical.core.phases import TURN_PLACES
from cortical.core.run import Checkpoint, Run
from cortical.core.safe_text import counted
from cortical.core.status import MOVES, Status, TerminationReason
from cortical.core.topics import CHECKPOINTS_DELETED, RECOVERY, UNDONE, VISIT_ENDED

_ACTIVE = Status.ACTIVE

#: The topics of notes that may stand after a run's end: they say what became of it, and change nothing of it.
AFTERWARDS: Final = frozenset({RECOVERY, UNDONE})


def begin(run: Run, at: float, place: str, reason: str = "") -> Sequence[Event]:
    """Let a run that waits enter its first place."""
    if run.status is not Status.NOT_STARTED:
        raise _refusal(run, "start", "it has been started before", "move it instead")
    if run.account is not None:
        _require_turn(run, at, place)
    return (Moved(run.id, run.seq + 1, at, place, reason),)


def move(run: Run, at: float, place: str, reason: str = "") -> Sequence[Event]:
    """Leave the place where an active run stands for another."""
    if run.status is not _ACTIVE:
        raise not_active(run, "move")
    if run.account is not None:
        _require_turn(run, at, place)
    return (Moved(run.id, run.seq + 1, at, place, reason),)


def note(run: Run, at: float, topic: str, value: object) -> Sequence[Event]:
    """Note something during the visit in which an open run stands."""
    require_open(run, f"take a {topic}")
    if run.visit is None:
        raise _refusal(run, f"take a {topic}", "it has not been started", "start it first")
    return (Noted(run.id, run.seq + 1, at, topic, value),)


def annotate(run: Run, at: float, topic: str, value: object) -> Sequence[Event]:
    """Note something about a run wherever it stands, begun or not; on a topic of `AFTERWARDS` after its end too."""
    if topic not in AFTERWARDS:
        require_open(run, f"take a {topic}")
    return (Noted(run.id, run.seq + 1, at, topic, value),)


def noting(
    run: Run,
    at: float,
    notes: Sequence[tuple[str, Any]],
    rule: Callable[..., Sequence[Event]],
    *args: Any,
    **kwargs: Any,
) -> Sequence[Event]:
    """What `rule` decides, and before it, in the same record, notes (topic and value) of the run."""
    decided = rule(run, at, *args, **kwargs)
    said = [Noted(run.id, run.seq + count, at, topic, value) for count, (topic, value) in enumerate(notes, 1)]
    later = [replace(event, seq=event.seq + len(said)) if event.run_id == run.id else event for event in decided]
    return (*said, *later)


def in_turn(run: Run, at: float, steps: Sequence[tuple[Any, ...]]) -> Sequence[Event]:
    """What several rules decide, each given as (rule, arguments), in one record; each looks at the run as it is now."""
    events: list[Event] = []
    own = 0
    for rule, *args in steps:
        decided = rule(run, at, *args)
        events += [replace(event, seq=event.seq + own) if event.run_id == run.id else event for event in decided]
        own += sum(event.run_id == run.id for event in decided)
    return events


def leave(run: Run, at: float) -> Sequence[Event]:
    """End the visit in which a run stands, without moving on. Nothing to do when it has ended."""
    if run.visit is None or run.visit.left_at is not None:
        return ()
    return note(run, at, VISIT_ENDED, None)


def change(run: Run, at: float, values: Mapping[str, Any], removed: tuple[str, ...] = ()) -> Sequence[Event]:
    """Set and remove keys in the run's own data."""
    require_open(run, "change its data")
    return (Changed(run.id, run.seq + 1, at, dict(values), removed),)


def checkpoint(run: Run, at: float, label: str = "", metadata: dict[str, Any] | None = None) -> Sequence[Event]:
    """Keep the run's data as they stand, to be had back by `restore`."""
    require_open(run, "take a checkpoint")
    return (Checkpointed(run.id, run.seq + 1, at, label, metadata),)


def restore(run: Run, at: float, number: int, mode: Literal["replace", "merge"] = "replace") -> Sequence[Event]:
    """Give the run the data of a checkpoint of its own: in place of those it has, or beside keys set since."""
    require_open(run, "be restored")
    require_checkpoint(run, number)
    return (Restored(run.id, run.seq + 1, at, number, mode),)


def delete_checkpoints(run: Run, at: float, numbers: Sequence[int]) -> Sequence[Event]:
    """Let go of these checkpoints, of those there are; nothing when none of them is there."""
    require_open(run, "let go of its checkpoints")
    there = [number for number in numbers if number in (run.checkpoints or ())]
    return (Noted(run.id, run.seq + 1, at, CHECKPOINTS_DELETED, there),) if there else ()


def require_checkpoint(run: Run, number: int) -> Checkpoint:
    """The run's checkpoint of this number.

    Raises:
        CheckpointNotFound: it has none such, or none any more.
    """
    found = (run.checkpoints or {}).get(number)
    if found is None:
        raise CheckpointNotFound(run.id, number, list(run.checkpoints or ()))
    return found


def spawn(
    run: Run,
    at: float,
    kind: str,
    children: Mapping[str, str],
    *,
    place: str | None,
    metadata: dict[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    max_depth: int | None = None,
) -> Sequence[Event]:
    """Start a child for each id and name. With a place they are active, and the run is paused for them;
    without one they wait to be begun, and the run goes on.
    """
    if place is not None and run.status is not _ACTIVE:
        raise not_active(run, "spawn")
    require_open(run, "spawn")
    require_room(run, at, len(children), max_depth, limit=(metadata or {}).get("budget"), turns=place in TURN_PLACES)
    events: list[Event] = []
    for child_id, name in children.items():
        events += start(child_id, at, kind, name, parent_id=run.id, place=place, metadata=metadata, data=data)
    if place is not None:
        names = counted(len(children), "child", "children", single="a")
        events.append(Paused(run.id, run.seq + 1, at, f"waiting for {names}", True))
    return events


def start_below(
    run: Run,
    at: float,
    child_id: str,
    kind: str,
    name: str,
    place: str,
    *,
    metadata: dict[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    max_depth: int | None = None,
) -> Sequence[Event]:
    """Start a child that is active at once, of an open run that goes on."""
    require_open(run, f"have a {kind} below it")
    require_room(run, at, 1, max_depth, limit=(metadata or {}).get("budget"), turns=place in TURN_PLACES)
    return start(child_id, at, kind, name, parent_id=run.id, place=place, metadata=metadata, data=data)


def require_room(
    run: Run,
    at: float,
    new: int,
    max_depth: int | None = None,
    *,
    limit: Mapping[str, float] | None = None,
    turns: bool = False,
) -> None:
    """Refuse so many more children of an open run where its depth, or a budget, has no room for them.

    Args:
        limit: the budget that each of them gets, if any.
        turns: whether each begins a turn at once.

    Raises:
        DepthLimitReached: they would be deeper than `max_depth` allows.
        BudgetExhausted: a limit of a budget is reached.
    """
    if max_depth is not None and run.depth + 1 >= max_depth:
        raise DepthLimitReached(run.id, max_depth)
    if run.account is not None:
        _require_children(run, at, new, limit or {}, turns=turns)


def start(
    run_id: str,
    at: float,
    kind: str,
    name: str,
    *,
    parent_id: str | None = None,
    place: str | None = None,
    metadata: dict[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> Sequence[Event]:
    """The first events of a run that does not exist yet."""
    started = Started(run_id, 1, at, kind, name, parent_id, place, metadata)
    return (started, Changed(run_id, 2, at, dict(data))) if data else (started,)


def wait(run: Run, at: float) -> Sequence[Event]:
    """Pause an active run for its open children: the last of them to end resumes it. Nothing to do without any."""
    if run.status is not _ACTIVE:
        raise not_active(run, "wait")
    if not run.open_children:
        return ()
    names = counted(run.open_children, "child", "children", single="a")
    return (Paused(run.id, run.seq + 1, at, f"waiting for {names}", True),)


def during(run: Run, at: float, visit_seq: int, rule: Callable[..., Sequence[Event]], *args: Any) -> Sequence[Event]:
    """What `rule` decides if the run still stands at the visit that the event of this count began; else nothing."""
    if run.reason is None and run.still_at(visit_seq) is None:
        return ()
    return rule(run, at, *args)


def pause(run: Run, at: float, reason: str) -> Sequence[Event]:
    """Pause an active run by hand."""
    if run.status is not _ACTIVE:
        raise not_active(run, "pause")
    return (Paused(run.id, run.seq + 1, at, reason),)


def block(run: Run, at: float, blocker: str) -> Sequence[Event]:
    """Block an active run: it cannot go on before something outside it happens."""
    if run.status is not _ACTIVE:
        raise not_active(run, "be blocked")
    return (Blocked(run.id, run.seq + 1, at, blocker),)


def resume(run: Run, at: float, reason: str = "") -> Sequence[Event]:
    """Make a run active again that was paused by hand, or blocked."""
    if run.status is not Status.PAUSED and run.status is not Status.BLOCKED:
        raise _refusal(run, "resume", f"it is {run.status.value}, not paused or blocked", "nothing is needed")
    if run.waits_for_children:
        raise _refusal(
            run, "resume", f"it waits for {_open_children(run)}", "complete or break them: the last one resumes it"
        )
    return (Resumed(run.id, run.seq + 1, at, reason),)


def end(run: Run, at: float, outcome: Outcome, reason: TerminationReason) -> Sequence[Event]:
    """End a run that has no open child; a parent that waits for this one alone becomes active again."""
    status = STATUS_OF[type(outcome)]
    require_open(run, "end")
    if status not in MOVES[run.status]:
        raise _refusal(run, "end", f"it is {run.status.value}, which may not become {status.value}", "start it first")
    if run.open_children:
        have = "has" if run.open_children == 1 else "have"
        raise _refusal(run, "end", f"{_open_children(run)} {have} not ended", "complete or break them first")
    return (Ended(run.id, run.seq + 1, at, outcome, reason), *_parent_resumed(run, at))


def end_subtree(run: Run, at: float, outcome: Outcome, reason: TerminationReason) -> Sequence[Event]:
    """End a run and every open run below it, deepest first; a parent that waits for it becomes active again."""
    require_open(run, "be broken")
    open_runs = list(run.tree.walk_open(run))
    open_runs.reverse()  # every run after all that is below it
    open_runs.sort(key=lambda below: below.depth, reverse=True)
    ended = [Ended(below.id, below.seq + 1, at, outcome, reason) for below in open_runs]
    return (*ended, *_parent_resumed(run, at))


def end_with_children(run: Run, at: float, outcome: Outcome, reason: TerminationReason) -> Sequence[Event]:
    """End a run, and before it what is still open below it: abandoned, as the run above it has ended."""
    if not run.open_children:
        return end(run, at, outcome, reason)
    above = Abandoned(f"{run.kind} {run.id!r} above it has ended")
    ended = end_subtree(run, at, above, TerminationReason.DEPENDENCY_FAILURE)
    return [
        replace(event, outcome=outcome, reason=reason) if isinstance(event, Ended) and event.run_id == run.id else event
        for event in ended
    ]


def require_open(run: Run, verb: str) -> None:
    """Refuse what `verb` says when the run has ended."""
    if run.reason is not None:
        raise _refusal(run, verb, f"it has ended: {run.status.value} ({run.reason.value})", "start another")


def not_active(run: Run, verb: str) -> RunStateError:
    """The refusal of what only an active run may do."""
    standing = run.status.value
    if run.reason is not None:
        return _refusal(run, verb, f"it is not active: it has ended, {standing}", "start another")
    if run.waits_for_children:
        return _refusal(
            run, verb, f"it is not active: it is paused for {_open_children(run)}", "complete or break them first"
        )
    todo = "start it first" if run.status is Status.NOT_STARTED else "resume it first"
    return _refusal(run, verb, f"it is not active but {standing}", todo)


def _require_turn(run: Run, at: float, place: str) -> None:
    budget.require_time(run.account, at, run.id)
    if place in TURN_PLACES:
        budget.require(run.account, "iterations", 1, run.id)


def _require_children(run: Run, at: float, new: int, given: Mapping[str, float], *, turns: bool) -> None:
    budget.require_time(run.account, at, run.id)
    budget.require_room(run.account, run.id, len(run.born or ()), run.depth, new)
    for resource in budget.CONSUMED:
        # A child is a descendant itself; its first turn it pays from what it is given, if it is given any.
        own = resource == "descendants" or (turns and resource == "iterations" and resource not in given)
        budget.require(run.account, resource, (own + given.get(resource, 0)) * new, run.id)


def _parent_resumed(run: Run, at: float) -> Sequence[Event]:
    parent = run.parent
    if parent is None or not parent.waits_for_children or parent.open_children > 1:
        return ()
    return (Resumed(parent.id, parent.seq + 1, at, "no child is open"),)


def _open_children(run: Run) -> str:
    if not run.open_children:
        return "its children, which are kept elsewhere"
    count = run.open_children
    names = islice((repr(child.id) for child in run.children if child.reason is None), 5)
    shown = ", ".join(names) + (", …" if count > 5 else "")
    return f"its open child {shown}" if count == 1 else f"its {count} open children {shown}"


def _refusal(run: Run, verb: str, why: str, todo: str) -> RunStateError:
    return RunStateError(f"{run.kind} {run.id!r} may not {verb}: {why}; {todo}", run.id)
