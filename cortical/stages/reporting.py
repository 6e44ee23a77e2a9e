"""What came of a pipeline, put together from the runs of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cortical.core.journal import Journal
from cortical.core.outcome import Abandoned, Failed, why_of
from cortical.core.run import Run
from cortical.core.topics import ATTEMPT
from cortical.stages.pipeline import Pipeline
from cortical.stages.results import PipelineResult, StageResult


def result_of(
    journal: Journal,
    pipeline: Pipeline,
    run: Run,
    known: Mapping[str, Run],
    errors: Mapping[str, BaseException],
    values: Mapping[str, Any],
    peak: int,
) -> PipelineResult:
    """What came of a pipeline.

    Args:
        known: by stage id, the newest run of each that has one.
        errors: what stages raised in this process.
        values: what stands in the context.
        peak: how many stages ran at the same time.
    """
    why = why_not(run)
    never = Abandoned(why) if run.reason is not None else None
    stages: dict[str, StageResult] = {}
    for stage_id in pipeline.order():
        child = known.get(stage_id)
        stages[stage_id] = (
            StageResult(stage_id, never) if child is None else stage_result(stage_id, child, errors.get(stage_id))
        )
    seconds = {one: stage.seconds for one, stage in stages.items()}
    path, longest = pipeline.critical_path(seconds)
    return PipelineResult(
        run_id=run.id,
        name=run.name,
        status=run.status,
        reason=run.reason,
        stages=stages,
        values=values,
        seconds=(run.ended_at or journal.clock.time()) - run.started_at,
        serial_seconds=sum(seconds.values()),
        critical_path=tuple(path),
        critical_seconds=longest,
        width=peak,
        why=why,
    )


def stage_result(stage_id: str, run: Run, error: BaseException | None = None) -> StageResult:
    """What came of one stage; `error` is what it raised, where this process has seen it."""
    visit = run.visit
    if visit is None:
        upstream = run.metadata.get("upstream") or None
        return StageResult(stage_id, run.outcome, upstream=upstream)
    attempts = 1 if run.entries is None else 1 + len(run.noted(ATTEMPT))
    failed = error if isinstance(run.outcome, Failed) else None
    return StageResult(stage_id, run.outcome, visit.entered_at, run.ended_at, attempts, None, failed)


def why_not(run: Run) -> str:
    """Why a pipeline did not succeed, or does not go on; empty where it did, or goes on."""
    if isinstance(run.outcome, Failed):
        return run.outcome.error.message  # its type is always that of a failed stage
    return run.why if run.outcome is None else why_of(run.outcome)
