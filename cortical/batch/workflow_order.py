"""Which step of a workflow comes before which, and which is run in the place of others after a failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from cortical.batch.workflow_definition import StepEntry


@frozen
class Surroundings:
    """What a step knows of the workflow: the steps that come before it, and which of them are batches.

    `handles` are the steps in whose failure it is run; `blocked_by` those whose failure lets another be run in its
    place.
    """

    above: Sequence[str] = ()
    batches: frozenset[str] = frozenset()
    waits_for: Sequence[str] = ()
    handles: Sequence[str] = ()
    blocked_by: Sequence[str] = ()


def surroundings_of(steps: Sequence[StepEntry]) -> dict[str, Surroundings]:
    """What each step has above it; also where steps wait for each other, or for some that do not exist."""
    by_id = {step.id: step for step in steps}
    handles: dict[str, list[str]] = {}
    for step in steps:
        if step.handler is not None:
            handles.setdefault(step.handler, []).append(step.id)
    waits = {
        one: list(dict.fromkeys([*(above for above in step.depends_on if above in by_id), *handles.get(one, ())]))
        for one, step in by_id.items()
    }
    batches = frozenset(one for one, step in by_id.items() if step.items is not None)
    found: dict[str, Surroundings] = {}
    for one in by_id:
        above = _above(one, waits)
        blocked = [
            other
            for other in above
            if (handler := by_id[other].handler) is not None and _reached(one, other, handler, waits)
        ]
        found[one] = Surroundings(above, batches, waits[one], handles.get(one, ()), blocked)
    return found


def _above(one: str, waits: Mapping[str, list[str]]) -> list[str]:
    found: dict[str, None] = {}
    waiting = list(waits[one])
    while waiting:
        above = waiting.pop()
        if above not in found:
            found[above] = None
            waiting += waits[above]
    return [above for above in found if above != one]


def _reached(one: str, failing: str, handler: str, waits: Mapping[str, list[str]]) -> bool:
    """Whether a step needs a failing one otherwise than by its handler, also through others."""
    waiting, seen = [one], {handler}
    if one == handler:
        return False
    while waiting:
        below = waiting.pop()
        if below in seen:
            continue
        seen.add(below)
        if failing in waits[below] and handler not in waits[below]:
            return True
        waiting += [above for above in waits[below] if above != failing]
    return False
