"""The form in which a loop is written as JSON text: its shape, and how a loop is put into it.

A value JSON has no word for stands in it as `cortical.core.codec` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from cortical.core.codec import to_plain
from cortical.core.errors import EncodeError
from cortical.core.kinds import LOOP
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome, Skipped
from cortical.core.run import Run
from cortical.core.times import to_datetime
from cortical.reasoning.cognitive_loop import CognitiveLoop
from cortical.reasoning.phases import LoopTransition, PhaseContext

Moment = Annotated[datetime, Meta(tz=True)]


class EntryForm(Struct, forbid_unknown_fields=True):
    topic: str
    at: Moment
    value: Any


class ContextForm(Struct, forbid_unknown_fields=True):
    phase: str
    iteration: int
    started_at: Moment
    ended_at: Moment | None
    time_box_minutes: Any
    entries: list[EntryForm]


class TransitionForm(Struct, forbid_unknown_fields=True):
    from_phase: str | None
    to_phase: str
    timestamp: datetime
    reason: str
    context_snapshot: Any


class OutcomeForm(Struct, forbid_unknown_fields=True):
    """One of the four, under its name; with who did it, where that is said of one that was abandoned."""

    ok: Any = UNSET
    failed: Any = UNSET
    skipped: str | UnsetType = UNSET
    abandoned: str | UnsetType = UNSET
    by: str | UnsetType = UNSET


class LoopForm(Struct, forbid_unknown_fields=True, tag_field="format", tag="cortical.loop/1"):
    """`metadata` is the run's own data; `settings` what its start recorded besides the goal."""

    id: Annotated[str, Meta(min_length=1)]
    goal: str
    status: str
    current_phase: str | None
    parent_id: str | None
    child_ids: list[str]
    created_at: Moment
    completed_at: Moment | None
    termination_reason: str | None
    outcome: OutcomeForm | None
    pause_reason: str | None
    waits_for_children: bool
    block_reason: str | None
    settings: Any
    metadata: Any
    phase_contexts: list[ContextForm]
    transitions: list[TransitionForm]
    #: In the order of completion. Only in a text that holds the children too.
    completed_children: list[str] | UnsetType = UNSET


class LoopsForm(Struct, forbid_unknown_fields=True, tag_field="format", tag="cortical.loops/1"):
    loops: list[LoopForm]


def text_of(form: LoopForm | LoopsForm) -> str:
    try:
        return msgspec.json.format(msgspec.json.encode(form), indent=2).decode()
    except UnicodeEncodeError as error:
        raise EncodeError("text", f"a lone surrogate in an id or reason ({error})") from None


def loop_form(loop: CognitiveLoop, spot: str = "", *, with_children: bool = False) -> LoopForm:
    run = loop.run
    phase = loop.current_phase
    contexts = loop.phase_contexts
    completed = [child.id for child in run.completed_children or () if child.kind == LOOP]
    settings = {key: value for key, value in run.metadata.items() if key != "child_ids"}
    return LoopForm(
        id=run.id,
        goal=run.name,
        status=run.status.value,
        current_phase=phase.value if phase else None,
        parent_id=run.parent_id,
        child_ids=_child_ids(run),
        created_at=loop.created_at,
        completed_at=loop.completed_at,
        termination_reason=run.reason.value if run.reason else None,
        outcome=_outcome_form(run.outcome, f"{spot}outcome"),
        pause_reason=loop.pause_reason,
        waits_for_children=run.waits_for_children,
        block_reason=loop.block_reason,
        settings=to_plain(settings, f"{spot}settings"),
        metadata=to_plain(run.data or {}, f"{spot}metadata"),
        phase_contexts=[context_form(context, f"{spot}phase_contexts[{i}].") for i, context in enumerate(contexts)],
        transitions=list(_transition_forms(loop.transitions, contexts)),
        completed_children=completed if with_children else UNSET,
    )


def _child_ids(run: Run) -> list[str]:
    children = [child.id for child in run.children if child.kind == LOOP]
    return children or list(run.metadata.get("child_ids", ()))


def context_form(context: PhaseContext, spot: str) -> ContextForm:
    return ContextForm(
        context.phase.value,
        context.iteration,
        context.started_at,
        context.ended_at,
        to_plain(context.time_box_minutes, f"{spot}time_box_minutes"),
        [
            EntryForm(
                entry.topic,
                to_datetime(entry.at),
                to_plain(entry.value, f"{spot}entries[{number}].value"),
            )
            for number, entry in enumerate(context.entries)
        ],
    )


def _transition_forms(
    transitions: Sequence[LoopTransition], contexts: Sequence[PhaseContext]
) -> Iterator[TransitionForm]:
    """The steps of a loop, the minutes in their snapshots counted from the times that are written."""
    for index, transition in enumerate(transitions):
        form = transition_form(transition, f"transitions[{index}].")
        if index:
            left = contexts[index - 1]
            assert left.ended_at is not None
            form.context_snapshot["elapsed_minutes"] = (left.ended_at - left.started_at) / timedelta(minutes=1)
        yield form


def transition_form(transition: LoopTransition, spot: str) -> TransitionForm:
    at = transition.timestamp
    return TransitionForm(
        transition.from_phase.value if transition.from_phase else None,
        transition.to_phase.value,
        at.astimezone(UTC) if at.tzinfo else at,
        transition.reason,
        to_plain(dict(transition.context_snapshot), f"{spot}context_snapshot"),
    )


def _outcome_form(outcome: Outcome | None, spot: str) -> OutcomeForm | None:
    match outcome:
        case None:
            return None
        case Ok(value=value):
            return OutcomeForm(ok=to_plain(value, f"{spot}.ok"))
        case Failed(error=error, causes=causes, attempts=attempts):
            errors = [msgspec.structs.asdict(failure) for failure in (error, *causes)]
            failed = {"error": errors[0], "causes": errors[1:], "attempts": attempts}
            return OutcomeForm(failed=to_plain(failed, f"{spot}.failed"))
        case Skipped(reason=reason):
            return OutcomeForm(skipped=reason)
        case Abandoned(reason=reason, by=by):
            return OutcomeForm(abandoned=reason, by=by or UNSET)
