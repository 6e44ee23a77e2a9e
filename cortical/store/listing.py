"""What an event says about the listing of its root."""

from __future__ import annotations

from collections.abc import Sequence

from cortical.core.events import Blocked, Ended, Event, Moved, Paused, Resumed, Started
from cortical.core.outcome import STATUS_OF
from cortical.core.ports import Root
from cortical.core.status import Status


def status_after(event: Event) -> Status | None:
    """The status in which this event leaves its run, or None when it leaves it as it was."""
    match event:
        case Ended(outcome=outcome):
            return STATUS_OF[type(outcome)]
        case Paused():
            return Status.PAUSED
        case Blocked():
            return Status.BLOCKED
        case Resumed() | Moved():
            return Status.ACTIVE
        case Started(place=place):
            return Status.NOT_STARTED if place is None else Status.ACTIVE
    return None


def root_of_log(log: Sequence[Event]) -> Root:
    """The listing of a tree, from its log. The first event is the root's own start."""
    started = log[0]
    assert isinstance(started, Started)
    own = (event for event in reversed(log) if event.run_id == started.run_id)
    last, status = next((event, status) for event in own if (status := status_after(event)) is not None)
    ended = last if isinstance(last, Ended) else None
    return Root(
        started.run_id,
        started.kind,
        started.name,
        status,
        ended.reason if ended else None,
        started.at,
        ended.at if ended else None,
    )


def starts_later(events: Sequence[Event]) -> bool:
    """Whether the root of this log has not been started yet, so that its first move will change the listing."""
    root = events[0]
    return (
        type(root) is Started
        and root.place is None
        and not any(type(event) is Moved and event.run_id == root.run_id for event in events)
    )
