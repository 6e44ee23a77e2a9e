"""What a crew records at one moment: children that have ended, attempts that failed, and children that begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from cortical.core import rules
from cortical.core.errors import BudgetExhausted
from cortical.core.events import Event
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome, Skipped
from cortical.core.phases import WORK
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.core.topics import ATTEMPT
from cortical.engine.hands import Unit

Step = tuple[Any, ...]

REASON: Final[dict[type, TerminationReason]] = {
    Ok: TerminationReason.SUCCESS,
    Failed: TerminationReason.ERROR,
    Skipped: TerminationReason.CONDITION_MET,
    Abandoned: TerminationReason.DEPENDENCY_FAILURE,
}


class End(Struct):
    """What is recorded of one child: its outcome, or else what is told of an attempt that failed."""

    run_id: str
    outcome: Outcome | None = None
    reason: TerminationReason = TerminationReason.SUCCESS
    steps: Sequence[Step] = ()
    data: Mapping[str, Any] | None = None
    told: dict[str, Any] | None = None


class Turnover(Struct):
    """One record: what has ended, and the units to be started, by the ids of their children.

    `started` says how many of these, the first ones, it starts: none while the parent is paused, and no more than its
    budget has room for, of which `exhausted` then tells. Both are decided by `turn_over`, each time anew.
    """

    kind: str
    ends: Sequence[End]
    starts: Mapping[str, Unit]
    started: int = 0
    exhausted: BudgetExhausted | None = None


def turn_over(parent: Run, at: float, turnover: Turnover) -> Sequence[Event]:
    """What has ended and what begins, in one record."""
    rules.require_open(parent, "have children carried out")
    events: list[Event] = []
    steps: list[Step] = []
    runs = parent.tree.index.runs
    for end in turnover.ends:
        events += _ended(runs[end.run_id], at, end)
        steps += end.steps
    if steps:
        events += rules.in_turn(parent, at, steps)
    if turnover.starts:
        _decide_starts(parent, at, turnover)
        left = turnover.started
        for child_id, unit in turnover.starts.items():
            if not left:
                break
            left -= 1
            events += rules.start(
                child_id, at, turnover.kind, unit.name, parent_id=parent.id, place=WORK, metadata=unit.metadata
            )
    return events


def _ended(run: Run, at: float, end: End) -> Sequence[Event]:
    if end.outcome is None:
        return rules.note(run, at, ATTEMPT, end.told)
    if not end.data:
        return rules.end_with_children(run, at, end.outcome, end.reason)
    return rules.in_turn(run, at, [(rules.change, end.data), (rules.end_with_children, end.outcome, end.reason)])


def _decide_starts(parent: Run, at: float, turnover: Turnover) -> None:
    turnover.started, turnover.exhausted = 0, None
    if parent.status is not Status.ACTIVE:
        return
    for count in range(len(turnover.starts), 0, -1):
        try:
            rules.require_room(parent, at, count)
        except BudgetExhausted as exhausted:
            turnover.exhausted = exhausted
        else:
            turnover.started = count
            return
