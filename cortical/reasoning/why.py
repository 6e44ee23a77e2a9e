"""Why a run stands where it stands: told from its tree and the tree's log."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from cortical.core.events import Ended, Event
from cortical.core.outcome import Abandoned, Failed, Ok, Skipped
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.store.listing import status_after


@frozen
class Standing:
    """Where a run stands, and how it came there.

    `since` is when it came to its status, in seconds since the epoch. `because` says why it stands so, and `next_step`
    what would take it on (empty when nothing will: it has ended). `path` leads from the root down to it.
    `waits_for` are the runs below it that have to end first and wait for no children themselves; `waited_for_by` are
    those above that are paused for it, the nearest first. `ended_with` is the run above it whose end took this one
    along, if one did. `last_events` are its own, oldest first, each with its position in the tree's log.
    """

    run: Run
    since: float
    because: str
    next_step: str
    path: tuple[Run, ...]
    waits_for: tuple[Run, ...]
    waited_for_by: tuple[Run, ...]
    ended_with: Run | None
    last_events: tuple[tuple[int, Event], ...]


def explain(run: Run, log: Sequence[Event], *, last: int = 5) -> Standing:
    """Why `run` stands where it stands; `log` holds all events of its tree, `last` says how many to quote."""
    own = [(position, event) for position, event in enumerate(log) if event.run_id == run.id]
    above = _ended_with(run, log)
    return Standing(
        run=run,
        since=_since([event for _, event in own]),
        because=_because(run, above),
        next_step=_next_step(run),
        path=tuple(run.tree.path(run)),
        waits_for=tuple(_waits_for(run)),
        waited_for_by=tuple(_waited_for_by(run)),
        ended_with=above,
        last_events=tuple(own[-last:]) if last > 0 else (),
    )


def why_it_stands(run: Run) -> str:
    """What there is to say about a run's status: why it is paused or blocked, or how it ended. Empty when nothing."""
    match run.outcome:
        case None:
            return run.why
        case Ok():
            return run.reason.value if run.reason and run.reason.value != "success" else ""
        case Failed(error=error):
            return f"{error.type}: {error.message}"
        case Skipped(reason=reason) | Abandoned(reason=reason):
            return reason


def _since(own: Sequence[Event]) -> float:
    at, status = own[0].at, status_after(own[0])
    for event in own:
        after = status_after(event)
        if after is not None and after is not status:
            at, status = event.at, after
    return at


def _because(run: Run, above: Run | None) -> str:
    if run.outcome is not None:
        return _how_it_ended(run, above)
    match run.status:
        case Status.NOT_STARTED:
            return "it has not been started"
        case Status.BLOCKED:
            return f"it is blocked: {run.why}" if run.why else "it is blocked, nobody said by what"
        case Status.PAUSED if run.waits_for_children:
            return f"it waits for {_counted(run.open_children, 'open child', 'open children')}"
        case Status.PAUSED:
            return f"it was paused by hand: {run.why}" if run.why else "it was paused by hand, nobody said why"
    children = _counted(run.open_children, "open child", "open children")
    return "nothing holds it" + (f", but it cannot end before its {children}" if run.open_children else "")


def _how_it_ended(run: Run, above: Run | None) -> str:
    ended = f"it ended ({run.reason.value})" if run.reason else "it ended"
    match run.outcome:
        case Failed() as failed:
            root = f", caused by {failed.root.type}: {failed.root.message}" if failed.causes else ""
            tries = f" after {failed.attempts} attempts" if failed.attempts > 1 else ""
            return f"it failed{tries}: {failed.error.type}: {failed.error.message}{root}"
        case Skipped(reason=reason):
            return f"it was skipped: {reason}" if reason else "it was skipped"
        case Abandoned(reason=reason):
            with_it = f" together with {above.id!r} above it" if above else ""
            return f"it was abandoned{with_it}" + (f": {reason}" if reason else "")
    return f"{ended} without a result" if run.value is None else f"{ended} with a result"


def _next_step(run: Run) -> str:
    if run.reason is not None:
        return ""
    if run.waits_for_children:
        return "complete or break the runs it waits for: the last one resumes it"
    return {
        Status.NOT_STARTED: "start it",
        Status.PAUSED: "resume it",
        Status.BLOCKED: "resume it when what blocks it is gone",
    }.get(run.status, "whoever drives it goes on")


def _waits_for(run: Run) -> list[Run]:
    if not run.waits_for_children:
        return []
    return [below for below in run.tree.walk(run) if below.reason is None and not below.waits_for_children]


def _waited_for_by(run: Run) -> list[Run]:
    waiting: list[Run] = []
    above = run.parent
    while run.reason is None and above is not None and above.waits_for_children:
        waiting.append(above)
        above = above.parent
    return waiting


def _ended_with(run: Run, log: Sequence[Event]) -> Run | None:
    """The highest run above whose end stands in one row with this one's: they were ended together, deepest first."""
    if not isinstance(run.outcome, Abandoned):
        return None
    above = {ancestor.id: ancestor for ancestor in run.tree.path(run)[:-1]}
    start = next(index for index, event in enumerate(log) if event.run_id == run.id and isinstance(event, Ended))
    found: Run | None = None
    for event in log[start + 1 :]:
        if not isinstance(event, Ended) or event.at != run.ended_at or event.outcome != run.outcome:
            break
        found = above.get(event.run_id, found)
    return found


def _counted(count: int, one: str, many: str) -> str:
    return f"1 {one}" if count == 1 else f"{count} {many}"
