"""Recorded things as plain values, for JSON: times in ISO 8601 and UTC, values as the store writes them."""

from __future__ import annotations

from typing import Any

import msgspec

from cortical.core.codec import to_plain
from cortical.core.errors import EncodeError
from cortical.core.events import Changed, Ended, Event, Noted, Started
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome
from cortical.core.ports import Root
from cortical.core.run import Run
from cortical.core.safe_text import written
from cortical.core.times import to_datetime
from cortical.looking.why import why_it_stands


def iso(at: float | None) -> str | None:
    """A time of events (seconds since the epoch); None stays None."""
    return None if at is None else to_datetime(at).isoformat()


def value_as_plain(value: Any) -> Any:
    """A recorded value as JSON can hold it; its repr where no store could keep it either."""
    try:
        return to_plain(value)
    except EncodeError:
        return written(value)


def root_as_plain(root: Root) -> dict[str, Any]:
    """A tree in a listing."""
    return {
        "id": root.id,
        "kind": root.kind,
        "goal": root.goal,
        "status": root.status.value,
        "reason": root.reason.value if root.reason else None,
        "started_at": iso(root.started_at),
        "ended_at": iso(root.ended_at),
    }


def as_plain(run: Run) -> dict[str, Any]:
    """A run as plain values, for JSON: times in ISO 8601, a value that cannot be written as its repr."""
    return {
        "id": run.id,
        "parent_id": run.parent_id,
        "kind": run.kind,
        "goal": run.name,
        "depth": run.depth,
        "status": run.status.value,
        "phase": run.place,
        "turn": run.visit.turn if run.visit else None,
        "visits": [
            {
                "phase": visit.place,
                "turn": visit.turn,
                "entered_at": iso(visit.entered_at),
                "left_at": iso(visit.left_at),
                "reason": visit.reason,
                "entries": [
                    {"topic": entry.topic, "value": value_as_plain(entry.value)} for entry in run.entries_of(index)
                ],
            }
            for index, visit in enumerate(run.visits)
        ],
        "metadata": value_as_plain(run.data or {}),
        "children": [child.id for child in run.children],
        "why": why_it_stands(run),
        "started_at": iso(run.started_at),
        "ended_at": iso(run.ended_at),
        "reason": run.reason.value if run.reason else None,
        "outcome": outcome_as_plain(run.outcome),
    }


def tree_as_plain(run: Run) -> dict[str, Any]:
    """A run and all below it, parents before children."""
    return {"root": run.id, "loops": [as_plain(below) for below in run.tree.walk(run)]}


def run_as_plain(run: Run) -> dict[str, Any]:
    """Everything about one run: as in its tree, with its path, its children's results and the whole of its failure."""
    return {
        **as_plain(run),
        "path": [above.id for above in run.tree.path(run)],
        "child_results": {child.id: value_as_plain(child.value) for child in run.completed_children or ()},
    }


def event_as_plain(position: int, event: Event) -> dict[str, Any]:
    """An event and where in its tree's log it stands (0, 1, …)."""
    plain = {"position": position, "event": event_word(event), **msgspec.structs.asdict(event), "at": iso(event.at)}
    match event:
        case Started(metadata=metadata):
            plain["metadata"] = value_as_plain(metadata)
        case Noted(value=value):
            plain["value"] = value_as_plain(value)
        case Changed(set=changed):
            plain["set"] = value_as_plain(changed)
        case Ended(outcome=outcome):
            plain["outcome"] = outcome_as_plain(outcome)
    return plain


def outcome_as_plain(outcome: Outcome | None) -> dict[str, Any] | None:
    """How a run ended, under one key that says so; None while it is open."""
    match outcome:
        case None:
            return None
        case Ok(value=value):
            return {"ok": value_as_plain(value)}
        case Failed(error=error, causes=causes, attempts=attempts):
            failure = {**msgspec.structs.asdict(error), "attempts": attempts}
            return {"failed": {**failure, "causes": [msgspec.structs.asdict(cause) for cause in causes]}}
    told = {type(outcome).__name__.lower(): outcome.reason}
    return {**told, "by": outcome.by} if isinstance(outcome, Abandoned) and outcome.by else told


def event_word(event: Event) -> str:
    """What an event is called: ``started``, ``moved``, …"""
    return type(event).__name__.lower()
