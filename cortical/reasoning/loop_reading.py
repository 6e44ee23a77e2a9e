"""From a form that was read back to a loop: the events that lead there are built and folded.

So a loop that was read obeys every rule. It is then put into the form once more and compared with what was
read: a text that contradicts itself is refused, and told where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from math import isclose
from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec import UNSET, Struct

from cortical.core.checks import shown
from cortical.core.codec import from_plain
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.events import Blocked, Changed, Ended, Event, Moved, Noted, Paused, Started
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.outcome import STATUS_OF, Abandoned, Failed, Failure, Ok, Outcome, Skipped
from cortical.core.phases import LoopPhase
from cortical.core.status import MOVES, Status, TerminationReason
from cortical.core.times import to_datetime
from cortical.core.topics import DECISION, VISIT_ENDED
from cortical.reasoning.cognitive_loop import CognitiveLoop
from cortical.reasoning.loop_forms import EntryForm, LoopForm, OutcomeForm, loop_form
from cortical.reasoning.phases import TIME_BOX_MINUTES

_Form = TypeVar("_Form", bound=Struct)
_Choice = TypeVar("_Choice", bound=Enum)


def read_form(text: str | bytes, form: type[_Form]) -> _Form:
    if not isinstance(text, str | bytes):
        raise WrongType(f"loops are read from a JSON text, not from {type(text).__name__}")
    try:
        return msgspec.json.decode(text, type=form)
    except msgspec.ValidationError as error:
        raise _located(error) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidInput(f"the text is not JSON that can be read: {error}") from error


def convert_form(fields: Mapping[str, Any], form: type[_Form], spot: str = "") -> _Form:
    try:
        return msgspec.convert(fields, type=form)
    except msgspec.ValidationError as error:
        raise _located(error, spot) from None


def _located(error: msgspec.ValidationError, spot: str = "") -> InvalidInput:
    problem, _, path = str(error).partition(" - at `$")
    return wrong_at(f"{spot}{path.rstrip('`')}".lstrip("."), problem)


def wrong_at(spot: str, problem: str) -> InvalidInput:
    return InvalidInput(f"{spot or 'the whole'}: {problem}")


def require_member(kind: type[_Choice], text: str, spot: str) -> _Choice:
    for member in kind:
        if text.casefold() in (member.value, member.name.casefold()):
            return member
    raise wrong_at(spot, f"{text!r} is none of {', '.join(member.value for member in kind)}")


def _value(plain: Any, spot: str) -> Any:
    try:
        return from_plain(plain)
    except Exception as error:
        # A registered class may raise anything when it is made anew.
        raise wrong_at(spot, f"the value cannot be read: {error}") from error


def require_mapping(plain: Any, spot: str) -> dict[str, Any]:
    value = _value(plain, spot)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise wrong_at(spot, "this is to be an object with names as keys")
    return value


def require_minutes(plain: Any, spot: str) -> float:
    value = _value(plain, spot)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_at(spot, f"minutes are a number, not {shown(value)}")
    return value


def to_seconds(moment: datetime, spot: str) -> float:
    at = moment.timestamp()
    try:
        to_datetime(at)
    except (ValueError, OverflowError, OSError) as error:
        raise wrong_at(spot, f"{shown_as(moment)} is out of range ({error})") from None
    return at


def read_entry_value(entry: EntryForm, spot: str) -> Any:
    if entry.topic == VISIT_ENDED:
        raise wrong_at(f"{spot}topic", f"{VISIT_ENDED!r} is no topic; the end of a visit is its ended_at")
    value = _value(entry.value, f"{spot}value")
    if entry.topic == DECISION and not (isinstance(value, dict) and value.keys() >= {"decision", "rationale"}):
        raise wrong_at(f"{spot}value", "a decision is an object with `decision` and `rationale`")
    return value


def _outcome(form: OutcomeForm | None, spot: str) -> Outcome:
    given = [] if form is None else [name for name in form.__struct_fields__ if getattr(form, name) is not UNSET]
    if form is None or [name for name in given if name != "by"] not in (["ok"], ["failed"], ["skipped"], ["abandoned"]):
        raise wrong_at(spot, "a loop that has ended has one of ok, failed, skipped, abandoned")
    if form.by is not UNSET and form.abandoned is UNSET:
        raise wrong_at(f"{spot}.by", "who did it is said of a loop that was abandoned")
    if form.skipped is not UNSET:
        return Skipped(form.skipped)
    if form.abandoned is not UNSET:
        return Abandoned(form.abandoned, "" if form.by is UNSET else form.by)
    if form.failed is UNSET:
        return Ok(_value(form.ok, f"{spot}.ok"))
    failed = convert_form(_value(form.failed, f"{spot}.failed"), _Failed, f"{spot}.failed")
    error, *causes = (Failure(**msgspec.structs.asdict(part)) for part in (failed.error, *failed.causes))
    return Failed(error, tuple(causes), failed.attempts)


class _Failure(Struct, forbid_unknown_fields=True):
    type: str
    message: str
    traceback: str


class _Failed(Struct, forbid_unknown_fields=True):
    error: _Failure
    causes: list[_Failure]
    attempts: int


class Reading:
    """One loop of a text, and the events that lead to it, in the order in which they came."""

    def __init__(self, form: LoopForm, spot: str, depth: int) -> None:
        self.form, self.spot, self.depth = form, spot, depth
        self.events: list[Event] = []
        self._at = "its beginning", float("-inf")

    def build(self, *, children_elsewhere: bool) -> None:
        """Make the events; the children's ids are kept with the loop if they are not in the text."""
        form, spot = self.form, self.spot
        if not form.goal.strip():
            raise wrong_at(f"{spot}goal", "it is empty")
        settings = require_mapping(form.settings, f"{spot}settings")
        require_minutes(settings.get("time_box_minutes", TIME_BOX_MINUTES), f"{spot}settings.time_box_minutes")
        settings |= {"child_ids": list(form.child_ids)} if children_elsewhere and form.child_ids else {}
        self._add(Started, form.created_at, "created_at", LOOP, form.goal, form.parent_id, None, settings or None)
        if metadata := require_mapping(form.metadata, f"{spot}metadata"):
            self._add(Changed, form.created_at, "metadata", metadata)
        if len(form.transitions) != len(form.phase_contexts):
            counts = f"{len(form.transitions)} steps lead to {len(form.phase_contexts)} visits"
            raise wrong_at(f"{spot}transitions", f"{counts}; each visit has the step that led to it")
        for index in range(len(form.phase_contexts)):
            self._visit(index)
        self._stand(require_member(Status, form.status, f"{spot}status"))

    def _visit(self, index: int) -> None:
        form, here = self.form.phase_contexts[index], f"phase_contexts[{index}]."
        step, there = self.form.transitions[index], f"{self.spot}transitions[{index}]."
        form.phase = require_member(LoopPhase, form.phase, f"{self.spot}{here}phase").value
        step.to_phase = require_member(LoopPhase, step.to_phase, f"{there}to_phase").value
        if step.from_phase is not None:
            step.from_phase = require_member(LoopPhase, step.from_phase, f"{there}from_phase").value
        self._add(Moved, form.started_at, f"{here}started_at", form.phase, step.reason)
        left = None if form.ended_at == self._until(index) else form.ended_at
        for number, entry in enumerate(form.entries):
            value = read_entry_value(entry, f"{self.spot}{here}entries[{number}].")
            if left is not None and left < entry.at:
                self._add(Noted, left, f"{here}ended_at", VISIT_ENDED)
                left = None
            self._add(Noted, entry.at, f"{here}entries[{number}].at", entry.topic, value)
        if left is not None:
            self._add(Noted, left, f"{here}ended_at", VISIT_ENDED)

    def _until(self, index: int) -> datetime | None:
        """When the visit would have been left, had nothing ended it before."""
        contexts = self.form.phase_contexts
        return contexts[index + 1].started_at if index + 1 < len(contexts) else self.form.completed_at

    def _stand(self, status: Status) -> None:
        form, spot = self.form, self.spot
        form.status = status.value
        if form.current_phase is not None:
            form.current_phase = require_member(LoopPhase, form.current_phase, f"{spot}current_phase").value
        if not form.phase_contexts and status is not Status.NOT_STARTED and status not in MOVES[Status.NOT_STARTED]:
            raise wrong_at(f"{spot}status", f"a loop that has visited no phase is not {status.value}")
        if status is Status.PAUSED:
            self._again(Paused, form.pause_reason or "", form.waits_for_children)
        elif status is Status.BLOCKED:
            self._again(Blocked, form.block_reason or "")
        elif status.ended:
            if form.completed_at is None or form.termination_reason is None:
                missing = "completed_at" if form.completed_at is None else "termination_reason"
                raise wrong_at(f"{spot}{missing}", f"a loop that is {status.value} has one")
            reason = require_member(TerminationReason, form.termination_reason, f"{spot}termination_reason")
            form.termination_reason = reason.value
            outcome = _outcome(form.outcome, f"{spot}outcome")
            if STATUS_OF[type(outcome)] is not status:
                raise wrong_at(f"{spot}outcome", f"{type(outcome).__name__.lower()} is no end of a {status.value} loop")
            self._add(Ended, form.completed_at, "completed_at", outcome, reason)

    def _add(self, kind: type[Any], moment: datetime, spot: str, *facts: object) -> None:
        at = to_seconds(moment, f"{self.spot}{spot}")
        before, last = self._at
        if at < last:
            raise wrong_at(f"{self.spot}{spot}", f"{shown_as(moment)} is before {before}; time does not go backwards")
        self._at = f"{spot}, {shown_as(moment)}", at
        self.events.append(kind(self.form.id, len(self.events) + 1, at, *facts))

    def _again(self, kind: type[Any], *facts: object) -> None:
        """Add an event at the time of the last one."""
        self.events.append(kind(self.form.id, len(self.events) + 1, self._at[1], *facts))


def index_by_id(readings: Sequence[Reading]) -> dict[str, Reading]:
    by_id: dict[str, Reading] = {}
    for reading in readings:
        if by_id.setdefault(reading.form.id, reading) is not reading:
            raise wrong_at(f"{reading.spot}id", f"{reading.form.id!r} is the id of an earlier loop too")
    return by_id


def walk_readings(top: Reading, by_id: Mapping[str, Reading]) -> Iterator[Reading]:
    """`top` and all below it, parents before children, as far as each names the other."""
    waiting = [top]
    while waiting:
        reading = waiting.pop()
        yield reading
        children = [by_id[child] for child in dict.fromkeys(reading.form.child_ids) if child in by_id]
        for child in reversed(children):
            if child.form.parent_id != reading.form.id:
                raise wrong_at(f"{reading.spot}child_ids", f"{child.form.id!r} is a child of {child.form.parent_id!r}")
            child.depth = reading.depth + 1
            waiting.append(child)


def plant_tree(journal: Journal, readings: Sequence[Reading], by_id: Mapping[str, Reading]) -> None:
    """Make one tree of these loops, parents before children, and see that it says what the text says."""
    families = {reading.form.parent_id for reading in readings}
    for reading in readings:
        reading.build(children_elsewhere=reading.form.id not in families)
    for reading in readings:
        if reading.depth:
            _require_within(reading, by_id[cast("str", reading.form.parent_id)])
    for reading in readings:
        _require_awaited(reading.form, reading.spot, by_id)
    journal.plant(readings[0].form.id, _given, _in_order(readings))
    for reading in readings:
        form = reading.form
        shown = loop_form(CognitiveLoop.of(journal, form.id), with_children=form.completed_children is not UNSET)
        _compare(form, shown, reading.spot)


def _given(run_id: str, at: float, events: Sequence[Event]) -> Sequence[Event]:
    return events


def _in_order(readings: Sequence[Reading]) -> list[Event]:
    """The events of all loops by time; at the same moment ends come last, the deepest first."""
    place = {child: place for reading in readings for place, child in enumerate(reading.form.completed_children or ())}
    keyed = [
        (
            (event.at, True, -reading.depth, place.get(event.run_id, 0)) if type(event) is Ended else (event.at, False),
            event,
        )
        for reading in readings
        for event in reading.events
    ]
    keyed.sort(key=lambda entry: entry[0])
    return [event for _, event in keyed]


def _require_within(child: Reading, parent: Reading) -> None:
    """Refuse a child that began before its parent, or outlives it."""
    if child.form.created_at < parent.form.created_at:
        raise wrong_at(f"{child.spot}created_at", "this is before its parent's; time does not go backwards")
    over = parent.form.completed_at
    if over is not None and (child.form.completed_at is None or child.form.completed_at > over):
        raise wrong_at(
            f"{child.spot}completed_at", f"its parent {parent.form.id!r} ended at {shown_as(over)}, before it"
        )


def _require_awaited(form: LoopForm, spot: str, by_id: Mapping[str, Reading]) -> None:
    """Refuse a loop paused for children of which none is open."""
    if not form.waits_for_children:
        return
    if not any(child not in by_id or by_id[child].form.completed_at is None for child in form.child_ids):
        raise wrong_at(f"{spot}waits_for_children", "it has no open child to wait for")


#: What is taken from the text as it is, so that there is nothing to compare it with.
_TAKEN: Final = frozenset({"value", "settings", "metadata", "ok", "failed"})


def _compare(said: Any, shown: Any, spot: str) -> None:
    """Refuse a text that says one thing where the rest of it leads to another."""
    if isinstance(said, Struct) and isinstance(shown, Struct):
        for name in said.__struct_fields__:
            if name not in _TAKEN:
                _compare(getattr(said, name), getattr(shown, name), f"{spot}{name}.")
    elif isinstance(said, list) and isinstance(shown, list) and len(said) == len(shown):
        for index, (one, other) in enumerate(zip(said, shown, strict=True)):
            _compare(one, other, f"{spot[:-1]}[{index}].")
    elif isinstance(said, dict) and isinstance(shown, dict) and said.keys() == shown.keys():
        for name in said:
            _compare(said[name], shown[name], f"{spot}{name}.")
    elif isinstance(said, float) and isinstance(shown, float) and isclose(said, shown, rel_tol=1e-9, abs_tol=1e-6):
        return
    elif said != shown:
        raise wrong_at(
            spot[:-1], f"{shown_as(said)} contradicts the rest of the text, which leads to {shown_as(shown)}"
        )


def shown_as(value: object) -> str:
    if isinstance(value, OutcomeForm):
        return "an outcome"
    return value.isoformat() if isinstance(value, datetime) else repr(value)
