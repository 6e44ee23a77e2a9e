"""Pipelines as the log has them: which run is which stage, what had succeeded, and with what it began.

A pipeline's own data are the values that it began with, and a stage's what it wrote. A pipeline's metadata hold the
definition and the weights that are not 1, a stage's its `mark`; a stage is named by its id. One that takes the place
of another, which has ended, names it in `carries_on`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from zlib import crc32

from cortical.core.checks import shown
from cortical.core.errors import InvalidInput, RunNotFound
from cortical.core.journal import Journal
from cortical.core.kinds import PIPELINE, STAGE
from cortical.core.outcome import Ok, Skipped
from cortical.core.run import Run
from cortical.core.topics import UNDONE
from cortical.engine.below import CARRIES_ON
from cortical.recovery.lives import lives
from cortical.stages.context import StageContext
from cortical.stages.errors import DefinitionChanged
from cortical.stages.pipeline import Pipeline

#: Under which a pipeline's metadata hold its definition.
DEFINITION: Final = "pipeline"

Changed = Literal["refuse", "keep", "run again"]


def mark_of(pipeline: Pipeline, stage_id: str) -> str:
    """A short text that changes when a stage does, or which others it waits for."""
    stage = pipeline.members[stage_id].stage
    above = pipeline.dependencies.graph._pred[stage_id]
    told = "" if stage is None else stage.digest
    return f"{told}-{crc32(' '.join(sorted(above)).encode()):08x}" if above else told


def recorded_context(run: Run, pipeline: Pipeline) -> StageContext:
    """The context with which a pipeline began, as the log has it."""
    metadata = run.metadata
    return StageContext(
        run.data or {},
        configuration=metadata.get("configuration"),
        arguments=metadata.get("arguments"),
        declared_writers=pipeline.writers,
    )


def family_of(journal: Journal, run_id: str) -> list[Run]:
    """All runs of one pipeline, the first to the newest: its lives, and those in whose place it was begun.

    Raises:
        RunNotFound: no run has this id, or it is no pipeline.
    """
    found = lives(journal, run_id)
    if found[-1].kind != PIPELINE:
        raise RunNotFound(run_id)
    while isinstance(before := found[0].metadata.get(CARRIES_ON), str):
        found = [*lives(journal, before), *found]
    return found


def succeeded(family: Sequence[Run]) -> dict[str, Run]:
    """By stage id, the newest run of each that has succeeded or was skipped, and was not taken back."""
    undone = {note.get("run") for run in family for note in run.noted(UNDONE)}
    return {
        child.name: child
        for run in family
        for child in run.children
        if child.kind == STAGE and isinstance(child.outcome, Ok | Skipped) and child.id not in undone
    }


def still_good(pipeline: Pipeline, family: Sequence[Run], changed: Changed) -> dict[str, Run]:
    """What had succeeded and still counts: not what waits for a stage that was taken back.

    Raises:
        DefinitionChanged: stages are others now, and it was not said what becomes of them.
    """
    if changed not in ("refuse", "keep", "run again"):
        raise InvalidInput(f"changed is 'refuse', 'keep' or 'run again', not {shown(changed)}")
    done = succeeded(family)
    now = {stage_id: run for stage_id, run in done.items() if stage_id in pipeline.members}
    others = [stage_id for stage_id, run in now.items() if is_other(pipeline, stage_id, run)]
    if changed == "refuse" and (others or len(now) < len(done)):
        raise DefinitionChanged(family[-1].id, [one for one in done if one in others or one not in now])
    again = {note["stage"] for run in family for note in run.noted(UNDONE)}.difference(now)
    if changed == "run again":
        again.update(others)
    waiting = pipeline.dependencies.below([one for one in again if one in pipeline.members])
    return {stage_id: run for stage_id, run in now.items() if stage_id not in waiting}


def is_other(pipeline: Pipeline, stage_id: str, run: Run) -> bool:
    """Whether a stage is another now than when this run of it was begun."""
    return bool(run.metadata.get("mark") != mark_of(pipeline, stage_id))


def definition_of(run: Run) -> Mapping[str, Any]:
    """The definition of a pipeline, as it was when it was begun."""
    told: Mapping[str, Any] = run.metadata.get(DEFINITION) or {}
    return told
