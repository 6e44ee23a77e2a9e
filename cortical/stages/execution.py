"""Carries out pipelines: stages that do not need each other at the same time, each a run, and what failures mean.

A stage that has succeeded keeps its output as its outcome and what it wrote as its data, in one record. So a pipeline
whose process has died is taken up where it stood: what had succeeded is read from the log, and not run again.

`execute` is longer than other functions: what it takes, and when it refuses, is told there one by one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from cortical.core import rules
from cortical.core.budget import Budget
from cortical.core.checks import require_text, shown
from cortical.core.errors import InvalidInput, LeaseLost, WrongType
from cortical.core.journal import Journal
from cortical.core.kinds import PIPELINE
from cortical.core.ports import Clock
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.core.topics import UNDONE
from cortical.engine.below import BEGUN_AS, CARRIES_ON, begun_below, found_by, let_go
from cortical.engine.event_loop import refuse_event_loop
from cortical.engine.lease import holding_lease
from cortical.recovery.lives import begin_next_life
from cortical.stages.context import StageContext
from cortical.stages.driving import Driving
from cortical.stages.how import Execution, chosen_execution
from cortical.stages.pipeline import Pipeline
from cortical.stages.recorded import DEFINITION, Changed, family_of, recorded_context, still_good, succeeded
from cortical.stages.results import PipelineResult, StageFailed, StageResult
from cortical.store.face import Face, Place

__all__ = ["Execution", "PipelineResult", "StageFailed", "StageResult", "execute", "resume", "start"]

Context = StageContext | Mapping[Any, Any]


def execute(
    pipeline: Pipeline,
    context: Context | None = None,
    *,
    store: Place | None = None,
    how: Execution | None = None,
    parent: str | None = None,
    key: str | None = None,
    changed: Changed = "refuse",
    budget: Budget | None = None,
    clock: Clock = time,
    **options: Any,
) -> PipelineResult:
    """Run a pipeline until every stage has ended, or been found not to be run.

    Below a parent it is found again: where the parent, or what the parent is another try of, has begun the same
    pipeline already during its present visit, that one is carried on, with what it had begun with; one that has
    succeeded is not run again.

    Args:
        context: what there is at the beginning: a context, or values by key or name. A durable store has to be able to
            keep its values, configuration and arguments. It stays as it is.
        store: a path or URL, an open store, a journal, or another face to share; in memory by default.
        how: how it is carried out; or give the fields of `Execution` by name.
        parent: an open run of the same store below which the pipeline is to stand, such as a stage or a loop.
        key: by what it is found below the parent; its name by default. Needed where a parent runs one pipeline twice.
        changed: for one that is found again and whose stages are others now; see `resume`.
        budget: what the pipeline and all below it may use.

    Raises:
        InvalidPipeline: something is wrong with it; all of it is told, and nothing was begun.
        WrongType, InvalidInput: an option does not exist, or makes no sense; the context is for dry runs.
        LeaseHeld: somebody else drives it, or the tree that it is to be part of.
        LeaseLost: this process stood still for too long, and somebody else took over.
        EncodeError: the store cannot keep what the context begins with.
        RuntimeError: called inside an event loop; there, ``await asyncio.to_thread(execute, …)``.
    """
    refuse_event_loop("execute", "asyncio.to_thread")
    chosen = chosen_execution(how, options)
    given = _own(context, _require_pipeline(pipeline))
    pipeline.require_valid(given)
    if key is not None and require_text(key, "a key") and parent is None:
        raise InvalidInput("a key finds a pipeline below its parent; give the parent too")
    with Face(store, clock=clock) as face:
        journal = face.journal
        found = (
            None if parent is None else begun_below(journal, parent, PIPELINE, key or pipeline.name, keeps=DEFINITION)
        )
        if found is not None:
            if key is None:
                _require_same(family_of(journal, found.id)[-1], given)
            return _gone_on(journal, pipeline, found.id, chosen, changed, parent)
        run_id = start(journal, pipeline, given, parent=parent, key=key, budget=budget)
        return _begun(journal, pipeline, run_id, given, chosen)


def resume(
    store: Place,
    run_id: str,
    pipeline: Pipeline,
    *,
    changed: Changed = "refuse",
    how: Execution | None = None,
    clock: Clock = time,
    **options: Any,
) -> PipelineResult:
    """Carry on a pipeline whose process has died, or that has failed: run what has not succeeded.

    Where it had ended, another run goes on in its place (`PipelineResult.run_id`). One that has succeeded is only told
    about. A paused one is waited for.

    Args:
        run_id: its id, or a prefix that no other id begins with.
        pipeline: as it is now, with the stages themselves.
        changed: what becomes of stages that have succeeded and are others now, or wait for others now: refuse to go on,
            keep what they gave, or run them again, and all that wait for them.

    Raises:
        RunNotFound: there is no such pipeline.
        DefinitionChanged: stages that have succeeded are others now.
        InvalidInput: it has succeeded, and had not these stages.
        InvalidPipeline, WrongType, InvalidInput: as `execute`.
        LeaseHeld: somebody else drives it.
    """
    refuse_event_loop("resume", "asyncio.to_thread")
    chosen = chosen_execution(how, options)
    _require_pipeline(pipeline)
    with Face(store, clock=clock, create=False) as face:
        journal = face.journal
        run = family_of(journal, journal.resolve(run_id))[-1]
        pipeline.require_valid(run.data or {})
        return _gone_on(journal, pipeline, run.id, chosen, changed, None)


def start(
    journal: Journal,
    pipeline: Pipeline,
    context: StageContext,
    *,
    parent: str | None = None,
    key: str | None = None,
    carries_on: str | None = None,
    budget: Budget | None = None,
) -> str:
    """Enter a pipeline in the store, to be driven; returns its id. What `execute` does first.

    Args:
        key: by what it is found below the parent; its name by default.
        carries_on: the id of a pipeline that has ended with the run above it, in whose place this one goes on.

    Raises:
        RunNotFound, RunStateError: there is no such parent, or it has ended.
        EncodeError: the store cannot keep what the context begins with.
    """
    weights = {one: stage.declared.weight for one, stage in pipeline.stages.items() if stage.declared.weight != 1.0}
    metadata: dict[str, Any] = {
        DEFINITION: pipeline.to_dict(),
        "configuration": dict(context.configuration),
        "arguments": dict(context.arguments),
        "weights": weights,
        "budget": None if budget is None else budget.limits(),
        CARRIES_ON: carries_on,
    }
    metadata = {name: value for name, value in metadata.items() if value}
    run_id = journal.new_id()
    data = context.values()
    if parent is None:
        journal.plant(run_id, rules.start, PIPELINE, pipeline.name, metadata=metadata, data=data)
        return run_id
    metadata |= found_by(journal.run(parent), key or pipeline.name)
    children = {run_id: pipeline.name}
    journal.change(parent, rules.spawn, PIPELINE, children, place=None, metadata=metadata, data=data)
    return run_id


def _begun(
    journal: Journal,
    pipeline: Pipeline,
    run_id: str,
    context: StageContext,
    how: Execution,
    done: Mapping[str, Run] | None = None,
    family: Sequence[Run] = (),
) -> PipelineResult:
    """What comes of a pipeline that was just entered; another process may have taken it up before this one holds it."""
    root = journal.run(run_id).tree.root
    with holding_lease(journal, root.id, seconds=how.lease_seconds, join=root.id != run_id):
        run = journal.refresh(run_id)
        if run.visit is None:
            return Driving(journal, pipeline, run_id, context, how, done, family).drive()
        if run.reason is not None:
            raise LeaseLost(root.id)
        return _carried_on(journal, pipeline, run_id, how, "refuse", None)


def _gone_on(
    journal: Journal,
    pipeline: Pipeline,
    run_id: str,
    how: Execution,
    changed: Changed,
    parent: str | None,
) -> PipelineResult:
    """What comes of the newest run of this pipeline, or of the one that goes on in its place."""
    run = let_go(journal, family_of(journal, run_id)[-1])
    root = run.tree.root
    with holding_lease(journal, root.id, seconds=how.lease_seconds, join=root.id != run.id):
        return _carried_on(journal, pipeline, run.id, how, changed, parent)


def _carried_on(
    journal: Journal,
    pipeline: Pipeline,
    run_id: str,
    how: Execution,
    changed: Changed,
    parent: str | None,
) -> PipelineResult:
    """The same, by who holds the lease on its tree."""
    family = family_of(journal, run_id)
    run = family[-1]
    context = recorded_context(run, pipeline)
    if run.status is Status.COMPLETED and not run.noted(UNDONE):
        done = succeeded(family)
        if changed == "refuse":
            _require_made_of(pipeline, run, done)
        return Driving(journal, pipeline, run.id, context, how, done).told()
    done = still_good(pipeline, family, changed)
    if run.reason is None:
        return Driving(journal, pipeline, run.id, context, how, done, family).drive()
    if parent not in (None, run.parent_id):
        key = str(run.metadata.get(BEGUN_AS, run.name))
        going_on = start(journal, pipeline, context, parent=parent, key=key, carries_on=run.id)
    else:
        going_on = begin_next_life(journal, run.id, {"strategy": "resume", "success": True}, run.data or {})
    return _begun(journal, pipeline, going_on, context, how, done, family)


def _require_made_of(pipeline: Pipeline, run: Run, done: Mapping[str, Run]) -> None:
    """Refuse to tell of a pipeline that has succeeded as if it had been another."""
    others = sorted(pipeline.members.keys() ^ done.keys())
    if others:
        names = ", ".join(map(repr, others[:5])) + (", …" if len(others) > 5 else "")
        raise InvalidInput(
            f"pipeline {run.name!r} ({run.id}) has succeeded, and was made of other stages: it differs in {names}; "
            "give it as it was, or execute this one anew"
        )


def _require_pipeline(pipeline: object) -> Pipeline:
    if not isinstance(pipeline, Pipeline):
        raise WrongType(f"what is executed is a Pipeline, not {shown(pipeline)}")
    return pipeline


def _own(context: Context | None, pipeline: Pipeline) -> StageContext:
    """A context of the execution's own, with what is given."""
    if not isinstance(context, StageContext | Mapping | None):
        raise WrongType(f"a context is a StageContext, or values by name, not {shown(context)}")
    if not isinstance(context, StageContext):
        return StageContext(context, declared_writers=pipeline.writers)
    if context.dry:
        raise InvalidInput("this context is for dry runs; call pipeline.dry_run(context), or make it with Mode.LIVE")
    return StageContext(
        context.values(),
        configuration=context.configuration,
        arguments=context.arguments,
        copies=context.copies,
        writers={name: writer for name in context if (writer := context.writer(name)) is not None},
        declared_writers=pipeline.writers,
    )


def _require_same(run: Run, given: StageContext) -> None:
    """Refuse to take one pipeline for another that has the same name and begins with other values."""
    if run.status is not Status.COMPLETED:
        return
    recorded, values = run.data or {}, given.values()
    if recorded.keys() == values.keys() and all(_alike(recorded[name], values[name]) for name in values):
        return
    raise InvalidInput(
        f"pipeline {run.name!r} has run below {run.parent_id!r} already, and began with other values; "
        "give each its own key, execute(…, key=…), so that it is found again after a crash"
    )


def _alike(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001  # whatever a user's own value may raise
        return True
