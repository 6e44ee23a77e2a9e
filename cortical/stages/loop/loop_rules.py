"""What may happen to a loop: its beginning, its end, and what is decided about it; each is one record.

Every rule is called with the process, under the lock of its tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from cortical.core import rules
from cortical.core.checks import require_count
from cortical.core.errors import InvalidInput, RunStateError, WrongType
from cortical.core.events import Changed, Event, Moved
from cortical.core.outcome import Abandoned
from cortical.core.phases import WORK
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.core.topics import DECISION
from cortical.stages.loop import continuing, decisions
from cortical.stages.loop.continuing import Stop
from cortical.stages.loop.iteration_rules import skip, undo
from cortical.stages.loop.stage_rules import require_running
from cortical.stages.loop.views import Books, StageView
from cortical.stages.loop.words import COUNT, DECISIONS, GOES_ON, INITIAL_DATA, LOOPED, LOOPING, STOP


def initialize(
    process: Run,
    at: float,
    books: Books,
    stage: str,
    initial_data: dict[str, Any],
    decided: dict[str, Any] | None,
    known: Mapping[str, Any],
) -> Sequence[Event]:
    """Begin a loop: its data, the initial decision, and how many iterations that makes, if it says so."""
    view = books.open(process, stage, "begin its loop")
    loop = view.loop
    require_running(process, view, "begin its loop")
    if view.run.place != WORK:
        raise RunStateError(f"stage {stage!r} may not begin its loop: it has begun already", view.run.id)
    values: dict[str, Any] = {INITIAL_DATA: initial_data}
    notes: list[tuple[str, Any]] = []
    steps: list[tuple[Any, ...]] = []
    if loop.init_decision is not None:
        name = loop.init_decision
        effective = {**decisions.effective(view, name), **(decided or {})}
        told = {"action": None, "rationale": "the loop begins", "inherited": True, "before": (1, 1)}
        notes.append((DECISION, {"decision": name, "values": effective, **told}))
        values[DECISIONS] = {**(view.data.get(DECISIONS) or {}), name: effective}
        if loop.type == "fixed" and "count" in effective:
            values[COUNT] = require_count(effective["count"], "count", 0)
    elif decided:
        raise InvalidInput(f"stage {stage!r} has no init_decision; name one in its loop_config, or use make_decision")
    _require_end(view, initial_data, values, known)
    steps += [(rules.change, values), (rules.move, LOOPING)]
    return rules.noting(view.run, at, notes, rules.in_turn, steps)


def _require_end(
    view: StageView, initial: Mapping[str, Any], values: Mapping[str, Any], known: Mapping[str, Any]
) -> None:
    """Refuse a loop of which nobody knows when it is to go on, and when to end."""
    loop, name = view.loop, view.loop.continue_condition
    if loop.type == "fixed" and loop.count is None and COUNT not in values:
        raise InvalidInput(
            f"nothing says how often {view.name!r} loops: give count, or decide it in {loop.init_decision!r}"
        )
    key = loop.iteration_data_key
    has_data = loop.items is not None or (key is not None and (key in initial or "total_items" in initial))
    if has_data and loop.items is None:
        _require_data(key, initial)
    if loop.type == "dynamic" and not has_data and loop.max_iterations is None:
        raise InvalidInput(f"initial_data has neither {key!r} nor 'total_items', and there is no max_iterations")
    if loop.type == "condition-based" and name is None and loop.iteration_decision is None:
        raise InvalidInput(
            f"nothing decides whether {view.name!r} goes on; give a continue_condition, or an iteration_decision"
        )
    if name is not None and name not in known and name not in initial and not has_data:
        raise InvalidInput(
            f"nothing is known of the continue_condition {name!r}: register a predicate of this name, "
            f"or give initial_data={{{name!r}: True}} and the same key with the results of each iteration"
        )


def _require_data(key: str | None, initial: Mapping[str, Any]) -> None:
    items = initial.get(key)  # type: ignore[arg-type]
    if items is None:
        require_count(initial.get("total_items"), "total_items", 0)
    elif not isinstance(items, list | tuple):
        raise WrongType(f"initial_data[{key!r}] is a list or a tuple, not {type(items).__name__}")


def set_condition(process: Run, at: float, books: Books, stage: str, goes_on: bool) -> Sequence[Event]:
    """Have the loop go on, or end after the iteration under way."""
    view = books.looping(process, stage, "change its condition")
    if view.data.get(GOES_ON, True) is goes_on:
        return ()
    return rules.change(view.run, at, {GOES_ON: goes_on})


def pause(process: Run, at: float, books: Books, stage: str, why: str) -> Sequence[Event]:
    """Let nothing new begin in a loop."""
    return rules.pause(books.looping(process, stage, "pause").run, at, why)


def resume(process: Run, at: float, books: Books, stage: str) -> Sequence[Event]:
    """Let a paused loop go on where it stands."""
    return rules.resume(books.looping(process, stage, "resume").run, at)


def break_off(process: Run, at: float, books: Books, stage: str, why: str) -> Sequence[Event]:
    """Let no other iteration begin, and end the one under way as it stands."""
    view = books.looping(process, stage, "break off")
    if view.stopped() is not None:
        raise RunStateError(f"the loop of stage {stage!r} is stopped already; complete_loop", view.run.id)
    events: list[Event] = []
    run = view.open_iteration
    if run is not None:
        events += rules.end_with_children(
            run, at, Abandoned(why or "the loop was broken off"), TerminationReason.MANUAL
        )
    stop = Stop(TerminationReason.MANUAL, why or "broken off")
    steps: list[tuple[Any, ...]] = [(rules.change, {STOP: stop.kept()})]
    if view.run.status is Status.PAUSED and not view.run.waits_for_children:
        steps.append((rules.resume, "broken off"))
    return (*events, *rules.in_turn(view.run, at, steps))


def complete_loop(
    process: Run, at: float, books: Books, stage: str, wanted: bool | None, seen: object = None
) -> Sequence[Event]:
    """End a loop of which no other iteration is to come; where it was `seen`, as it was then."""
    view = books.looping(process, stage, "complete its loop")
    if seen is not None and view.version != seen:
        raise RunStateError(
            f"stage {stage!r} may not complete its loop: it has changed at this moment; call again", view.run.id
        )
    run = view.run
    if view.open_iteration is not None:
        raise RunStateError(
            f"stage {stage!r} may not complete its loop: {view.runs[-1].name} is still open; complete it first", run.id
        )
    require_running(process, view, "complete its loop")
    stop = continuing.stop_before_next(view, at, wanted)
    if stop is None:
        raise RunStateError(
            f"stage {stage!r} may not complete its loop: iteration {view.next_number} is still to come; run it, "
            "or end the loop with break_loop or update_loop_condition(continue_loop=False)",
            run.id,
        )
    stop = continuing.judged(view, stop)
    return (
        Changed(run.id, run.seq + 1, at, {STOP: stop.kept()}),
        Moved(run.id, run.seq + 2, at, LOOPED, stop.details),
    )


@frozen
class Decided:
    """A decision that is to be made."""

    name: str
    values: dict[str, Any]
    action: str | None
    reason: str
    inherited: bool


def decide(
    process: Run, at: float, books: Books, stage: str, decided: Decided, held: list[dict[str, Any]]
) -> Sequence[Event]:
    """Note a decision, and do what it says, in one record; `held` gets what holds under its name then."""
    view = books.open(process, stage, "take a decision")
    decisions.require_name(view, decided.name)
    told = {"action": decided.action, "rationale": decided.reason, "inherited": decided.inherited}
    held[:] = [{**decisions.effective(view, decided.name), **decided.values}]
    noted = decisions.note(view, at, decided.name, decided.values, told)
    return [*noted, *_acted(process, at, books, stage, decided, noted)]


def _acted(
    process: Run, at: float, books: Books, stage: str, decided: Decided, noted: Sequence[Event]
) -> Sequence[Event]:
    why = decided.reason or f"decided in {decided.name!r}"
    match decided.action:
        case "continue":
            events = set_condition(process, at, books, stage, True)
        case "break":
            events = break_off(process, at, books, stage, why)
        case "pause":
            events = pause(process, at, books, stage, why)
        case "skip":
            events = skip(process, at, books, stage, why)
        case "retry":
            events = undo(process, at, books, stage, why, back=False)
        case _:
            return ()
    ahead: dict[str, int] = {}
    for event in noted:
        ahead[event.run_id] = ahead.get(event.run_id, 0) + 1
    return [decisions.shifted(event, ahead.get(event.run_id, 0)) for event in events]
