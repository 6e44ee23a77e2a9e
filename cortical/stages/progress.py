"""How far a pipeline has come, by the weights of its stages; for whoever looks, in this process or another."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from cortical.core.journal import Journal
from cortical.core.kinds import PIPELINE, STAGE
from cortical.core.run import Run
from cortical.engine.below import BEGUN_AS
from cortical.stages.recorded import definition_of, family_of, succeeded
from cortical.store.face import Face, Place


@frozen
class PipelineProgress:
    """What is done of a pipeline.

    `stages` says of each, in the pipeline's order as it was defined, how much of it is done, 0 to 1: one that has ended
    is done, however it did; one that runs is as far as the pipelines are that it runs itself. `fraction` is the whole,
    each stage counted by its weight.
    """

    run_id: str
    fraction: float
    done: int
    total: int
    stages: Mapping[str, float]


def progress(store: Place, run_id: str) -> PipelineProgress:
    """How far a pipeline has come, whoever drives it; what had succeeded before it was resumed counts.

    Args:
        run_id: its id, or a prefix that no other id begins with.

    Raises:
        RunNotFound: there is no such pipeline.
        StoreError: the store cannot be read.
    """
    with Face(store, create=False) as face:
        journal = face.journal
        return _progress(journal, family_of(journal, journal.resolve(run_id)))


def _progress(journal: Journal, family: list[Run]) -> PipelineProgress:
    run = family[-1]
    metadata = run.metadata
    known = {**succeeded(family), **{one.name: one for one in run.children if one.kind == STAGE}}
    stages = {entry["id"]: _done(journal, known.get(entry["id"])) for entry in definition_of(run)["stages"]}
    weights = {stage_id: metadata.get("weights", {}).get(stage_id, 1.0) for stage_id in stages}
    whole = sum(weights.values())
    fraction = sum(weights[one] * share for one, share in stages.items()) / whole if whole else 1.0
    ended = sum(one in known and known[one].reason is not None for one in stages)
    return PipelineProgress(run.id, fraction, ended, len(stages), stages)


def _done(journal: Journal, run: Run | None) -> float:
    if run is None:
        return 0.0
    if run.reason is not None:
        return 1.0
    inner: dict[object, Run] = {one.metadata.get(BEGUN_AS): one for one in run.children if one.kind == PIPELINE}
    if not inner:
        return 0.0
    return sum(_progress(journal, family_of(journal, one.id)).fraction for one in inner.values()) / len(inner)
