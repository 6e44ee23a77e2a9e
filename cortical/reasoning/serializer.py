"""Loops as JSON text that people can read, and back: for files, other programs, and whoever takes over.

A text holds what a loop shows: its goal and status, every visit with what was recorded in it and when, every
step, its outcome, its place among other loops. A value JSON has no word for stands in it as
`cortical.core.codec` writes it. What no face shows (that it was paused and resumed before) is only in the store.

Reading builds the events that lead there and folds them, so that a loop that was read obeys every rule. It is
then written once more and compared with the text: a text that contradicts itself is refused, and told where.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec import UNSET

from cortical.core.events import Noted
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.phases import LoopPhase
from cortical.core.ports import Clock
from cortical.reasoning.cognitive_loop import CognitiveLoop
from cortical.reasoning.handoff import handoff
from cortical.reasoning.loop_forms import (
    ContextForm,
    LoopForm,
    LoopsForm,
    TransitionForm,
    context_form,
    loop_form,
    text_of,
    transition_form,
)
from cortical.reasoning.loop_reading import (
    Reading,
    convert_form,
    index_by_id,
    plant_tree,
    read_entry_value,
    read_form,
    require_mapping,
    require_member,
    require_minutes,
    shown_as,
    to_seconds,
    walk_readings,
    wrong_at,
)
from cortical.reasoning.manager import CognitiveLoopManager
from cortical.reasoning.phases import LoopTransition, PhaseContext
from cortical.store import MemoryStore


class LoopStateSerializer:
    """Writes loops as text and reads them again::

        serializer = LoopStateSerializer()
        text = serializer.serialize(loop)
        same = serializer.deserialize(text)

    What was read equals what was written in everything a loop, a visit and a step show, times to the microsecond.
    It lives in memory, apart from the store it came from. `clock` is the clock of what is read.

    Texts and dictionaries hold enums by value, and are read with their names or values in any case; times are
    in ISO 8601 with their offset from UTC. Every call that reads raises `InvalidInput` (a ValueError) for what is
    no JSON, lacks a key, has one too many, or contradicts itself; the message begins with the spot, such as
    ``loops[2].phase_contexts[0].phase``. Every call that writes raises `EncodeError` (a TypeError) for a value that
    cannot be written, naming the spot.
    """

    def __init__(self, *, clock: Clock = time) -> None:
        self._clock = clock

    def serialize(self, loop: CognitiveLoop) -> str:
        """The loop alone as JSON text; of its parent and children only the ids."""
        with loop.journal.holding(loop.run.tree):
            return text_of(loop_form(loop))

    def deserialize(self, text: str | bytes) -> CognitiveLoop:
        """The loop of a text from `serialize`, on its own in memory.

        Its parent and children are known by their ids only, so its depth is 0; one that was paused for its children
        stays so, and can be completed or abandoned.
        """
        form = read_form(text, LoopForm)
        form.completed_children = UNSET
        journal = Journal(MemoryStore(), clock=self._clock)
        plant_tree(journal, [Reading(form, "", 0)], {})
        return CognitiveLoop.of(journal, form.id)

    def serialize_manager(self, manager: CognitiveLoopManager) -> str:
        """All loops of the manager as JSON text: tree by tree, parents before their children."""
        trees = {loop.run.tree: None for loop in manager.get_all_loops()}
        loops: list[LoopForm] = []
        for tree in trees:
            with manager.journal.holding(tree):
                for run in tree.walk():
                    if run.kind == LOOP:
                        loop = CognitiveLoop.of(manager.journal, run.id)
                        loops.append(loop_form(loop, f"loops[{len(loops)}].", with_children=True))
        return text_of(LoopsForm(loops))

    def deserialize_manager(self, text: str | bytes) -> CognitiveLoopManager:
        """A manager, in memory, with the loops of a text from `serialize_manager`.

        A loop whose parent is not in the text stands as a root, its `parent_id` kept.
        """
        readings = [Reading(form, f"loops[{index}].", 0) for index, form in enumerate(read_form(text, LoopsForm).loops)]
        by_id = index_by_id(readings)
        trees = [list(walk_readings(reading, by_id)) for reading in readings if reading.form.parent_id not in by_id]
        reached = {reading.form.id for tree in trees for reading in tree}
        for reading in readings:
            if reading.form.id not in reached:
                parent = reading.form.parent_id
                raise wrong_at(f"{reading.spot}parent_id", f"no root leads here, by the child_ids of {parent!r}")
        journal = Journal(MemoryStore(), clock=self._clock)
        for tree in trees:
            plant_tree(journal, tree, by_id)
        return CognitiveLoopManager(journal=journal)

    def serialize_context(self, context: PhaseContext) -> dict[str, Any]:
        """One visit as a dictionary that JSON can hold."""
        return cast("dict[str, Any]", msgspec.to_builtins(context_form(context, "")))

    def deserialize_context(self, fields: Mapping[str, Any]) -> PhaseContext:
        """The visit of a dictionary from `serialize_context`, belonging to no loop."""
        form = convert_form(fields, ContextForm)
        phase = require_member(LoopPhase, form.phase, "phase")
        minutes = require_minutes(form.time_box_minutes, "time_box_minutes")
        if form.ended_at is not None and form.ended_at < form.started_at:
            raise wrong_at("ended_at", f"{shown_as(form.ended_at)} is before its start, {shown_as(form.started_at)}")
        noted = [
            Noted("", number + 1, to_seconds(entry.at, f"entries[{number}].at"), entry.topic, value)
            for number, entry in enumerate(form.entries)
            for value in [read_entry_value(entry, f"entries[{number}].")]
        ]
        return PhaseContext(
            phase,
            form.started_at,
            form.iteration,
            ended_at=form.ended_at,
            entries=noted,
            time_box_minutes=minutes,
            clock=self._clock,
        )

    def serialize_transition(self, transition: LoopTransition) -> dict[str, Any]:
        """One step as a dictionary that JSON can hold."""
        return cast("dict[str, Any]", msgspec.to_builtins(transition_form(transition, "")))

    def deserialize_transition(self, fields: Mapping[str, Any]) -> LoopTransition:
        """The step of a dictionary from `serialize_transition`."""
        form = convert_form(fields, TransitionForm)
        return LoopTransition(
            None if form.from_phase is None else require_member(LoopPhase, form.from_phase, "from_phase"),
            require_member(LoopPhase, form.to_phase, "to_phase"),
            form.timestamp,
            form.reason,
            require_mapping(form.context_snapshot, "context_snapshot"),
        )

    def generate_handoff(self, loop: CognitiveLoop) -> str:
        """A Markdown page for whoever takes the loop over, made from its own record.

        Where it stands, what comes next, what was decided and why, answers, open questions, blockers, artifacts,
        its children and their results, notes, and the last steps. A value longer than 2,000 characters is cut,
        and the page says so.
        """
        return handoff(loop)
