"""Decisions: what was decided about a loop and its iterations, and what holds at a given moment.

Decisions are only ever added. What holds in an iteration is, each over the one before: what the configuration says by
default; what was decided for the loop and in earlier iterations, in the order in which that happened; what was decided
in the iteration itself. In the stage's own data stands what the next iteration will inherit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from attrs import frozen
from msgspec.structs import replace

from cortical.core import rules
from cortical.core.checks import meant, nearest, shown
from cortical.core.copies import detached
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.events import Event, Noted
from cortical.core.run import Run
from cortical.core.topics import DECISION
from cortical.stages.loop.records import Record
from cortical.stages.loop.views import StageView, attempt_of, number_of
from cortical.stages.loop.words import DECISIONS

#: What a decision may do to its loop.
ACTIONS: Final = ("continue", "break", "pause", "skip", "retry", "modify")


@frozen(eq=False)
class Decision(Record):
    """One decision: `iteration` is None for one of the loop; `undone`: its iteration was rolled back."""

    name: str
    decided: dict[str, Any]
    action: str | None
    reason: str
    iteration: int | None
    attempt: int | None
    at: float
    inherited: bool
    undone: bool


def note(view: StageView, at: float, name: str, values: dict[str, Any], told: Mapping[str, Any]) -> list[Event]:
    """The events of a decision; `told` are its action, its rationale, and whether later iterations inherit it."""
    iteration = view.open_iteration
    noted = {"decision": name, "values": values, **told}
    if iteration is not None:
        events: list[Event] = [Noted(iteration.id, iteration.seq + 1, at, DECISION, noted)]
        ahead = 0
    else:
        noted["before"] = view.next_visit
        events = [Noted(view.run.id, view.run.seq + 1, at, DECISION, noted)]
        ahead = 1
    if values and told["inherited"]:
        kept = {**(view.data.get(DECISIONS) or {}), name: {**view.decided(name), **values}}
        (changed,) = rules.change(view.run, at, {DECISIONS: kept})
        events.append(shifted(changed, ahead))
    return events


def shifted(event: Event, by: int) -> Event:
    """An event that comes so many later in its run's log than it was made for."""
    return replace(event, seq=event.seq + by) if by else event


def require_name(view: StageView, name: object) -> str:
    """`name`, if the stage has such a decision.

    Raises:
        WrongType, InvalidInput: it has not.
    """
    if not isinstance(name, str):
        raise WrongType(f"a decision is named by a text, not by {shown(name)}")
    known = view.config.decisions
    if name not in known:
        there = meant(name, known, "none: declare it in its decisions")
        raise InvalidInput(f"stage {view.name!r} has no decision {name!r}{there}")
    return name


def effective(view: StageView, name: str) -> dict[str, Any]:
    """What holds now under this name: in the iteration under way, or else for the next."""
    iteration = view.open_iteration
    return _merged(view, name, view.decided(name), iteration)


def effective_in(view: StageView, name: str, iteration: Run) -> dict[str, Any]:
    """What held in an iteration, this attempt at it."""
    kept = rules.require_checkpoint(view.run, iteration.metadata["checkpoint"]).data
    inherited = (kept.get(DECISIONS) or {}).get(name) or {}
    return _merged(view, name, inherited, iteration)


def _merged(view: StageView, name: str, inherited: Mapping[str, Any], iteration: Run | None) -> dict[str, Any]:
    merged = {**view.config.decisions[name], **inherited}
    if iteration is not None and iteration.entries is not None:
        for entry in iteration.entries:
            if entry.topic == DECISION and entry.value["decision"] == name:
                merged.update(entry.value["values"])
    return merged


def parameters(view: StageView, number: int | None = None) -> dict[str, Any]:
    """What an iteration works with: the configuration's parameters for it, and over them the decisions.

    Those of the next iteration, where no number is given.
    """
    loop = view.loop
    given = loop.parameters
    if isinstance(given, Mapping):
        found = dict(given)
    else:
        at = (view.next_number if number is None else number) - 1
        found = dict(given[at]) if at < len(given) else {}
    if loop.init_decision is not None:
        found.update(effective(view, loop.init_decision))
    if loop.iteration_decision is not None:
        found.update(effective(view, loop.iteration_decision))
    return found


def history(view: StageView) -> list[Decision]:
    """All decisions of a stage, in the order in which they were made."""
    found = [(tuple(entry.value["before"]), 0, _told(entry)) for entry in _noted(view.run)]
    for run in view.runs if view.config.loop is not None else ():
        visit = (number_of(run), attempt_of(run))
        undone = view.undone.get(run.id)
        back = undone is not None and bool(undone["rolled_back"])
        found += [(visit, 1, _told(entry, *visit, undone=back)) for entry in _noted(run)]
    found.sort(key=lambda one: one[:2])
    return [decision for _, _, decision in found]


def _noted(run: Run) -> Iterator[Noted]:
    return (entry for entry in run.entries or () if entry.topic == DECISION)


def _told(entry: Noted, number: int | None = None, attempt: int | None = None, *, undone: bool = False) -> Decision:
    told: Mapping[str, Any] = entry.value
    values = detached(told["values"])
    return Decision(
        told["decision"],
        values,
        told["action"],
        told["rationale"],
        number,
        attempt,
        entry.at,
        told["inherited"],
        undone,
    )


def require_action(action: Any) -> str | None:
    """`action`, if a decision may do that.

    Raises:
        InvalidInput: it may not.
    """
    if action is not None and action not in ACTIONS:
        raise InvalidInput(f"a decision may {', '.join(ACTIONS)}, not {shown(action)}{nearest(action, ACTIONS)}")
    return None if action is None else str(action)
