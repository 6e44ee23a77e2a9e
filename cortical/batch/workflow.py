"""Workflows: a list of steps, each a task or a batch, that run in the order of what they wait for, and resume.

::

    workflow = Workflow.from_file("count.yaml")
    workflow.validate()                                   # all that is wrong, as texts
    print(workflow.plan({"folder": "texts"}))             # what it would do
    result = workflow.run({"folder": "texts"}, store="runs.db")
    result.steps["count"].value["stats"]

A workflow is a pipeline of `cortical.stages`, and each of its steps a stage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from attrs import frozen

from cortical.batch.settings import as_path, is_folder
from cortical.batch.workflow_checks import InvalidWorkflow, cycles_of, problems_of, require_parameters
from cortical.batch.workflow_definition import WorkflowDefinition, plain_of, workflow_of
from cortical.batch.workflow_order import Surroundings, surroundings_of
from cortical.batch.workflow_steps import (
    WORKSPACE,
    StepStage,
    error_key,
    scope_of,
    stage_id,
    step_id,
    value_key,
)
from cortical.batch.workflow_values import PARAMETERS
from cortical.core.checks import shown
from cortical.core.errors import RunNotFound, RunStateError
from cortical.core.journal import Journal
from cortical.core.kinds import PIPELINE
from cortical.core.outcome import Skipped
from cortical.core.ports import Clock
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.recovery.lives import lives
from cortical.stages.context import StageContext
from cortical.stages.definition import read_values
from cortical.stages.dry_run import Plan
from cortical.stages.execution import execute, resume
from cortical.stages.pipeline import Pipeline
from cortical.stages.recorded import Changed, succeeded
from cortical.stages.results import PipelineResult, StageResult
from cortical.store.face import Face, Place

#: Where a run keeps the definition of its workflow.
WORKFLOW: Final = "workflow"

OnStep = Callable[[StageResult], object]


@frozen
class StepResult:
    """What came of one step.

    `status` is that of its stage, or ``tolerated`` where it failed and the workflow went on. `value` is what it gave:
    of a batch its ``stats`` and ``run_id``. `why` tells why it did not succeed.
    """

    id: str
    status: str
    value: Any
    why: str
    attempts: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it has succeeded."""
        return self.status == "ok"


@frozen
class WorkflowResult:
    """What came of a workflow; `steps` has every step, in the order in which one worker would run them."""

    run_id: str
    name: str
    status: Status
    reason: TerminationReason | None
    steps: Mapping[str, StepResult]
    seconds: float
    why: str
    pipeline: PipelineResult

    @property
    def ok(self) -> bool:
        """Whether it has ended well: every step has succeeded, was skipped, or its failure was tolerated."""
        return self.status is Status.COMPLETED

    def raise_for_failure(self) -> Self:
        """This result, if the workflow succeeded.

        Raises:
            StageFailed: of the first step that failed, what it raised being the cause.
            PipelineFailed: it did not succeed, though no step failed.
        """
        self.pipeline.raise_for_failure()
        return self


class Workflow:
    """Steps, read from a definition.

    Args:
        definition: the plain values of it.
        workspace: the folder that its steps work in.
    """

    def __init__(self, definition: Mapping[str, Any], *, workspace: str | Path = ".") -> None:
        self.workspace = as_path(workspace)
        self._definition, self._problems = workflow_of(definition)
        self.name = "" if self._definition is None else self._definition.name
        self._around = surroundings_of([] if self._definition is None else self._definition.steps)

    @classmethod
    def from_file(cls, path: str | Path, *, workspace: str | Path | None = None) -> Self:
        """The workflow that a TOML, YAML or JSON file defines; it works in the folder of the file by default.

        Raises:
            DefinitionError: it cannot be read.
            MissingExtra: it is YAML, and PyYAML is not installed.
        """
        values = read_values(path, "a workflow's file")
        return cls(values, workspace=Path(path).parent if workspace is None else workspace)

    @property
    def definition(self) -> WorkflowDefinition:
        """What it is made of.

        Raises:
            InvalidWorkflow: it cannot be run.
        """
        self.require_valid()
        assert self._definition is not None
        return self._definition

    def validate(self) -> list[str]:
        """All that is wrong with it; an empty list when it can be run."""
        definition = self._definition
        if definition is None:
            return self._problems
        found = [*self._problems, *problems_of(definition, self._around)]
        if not is_folder(self.workspace):
            found.append(f"the workspace {shown(str(self.workspace))} is no folder; make it first")
        return found or list(cycles_of(self._pipeline(definition)))

    def require_valid(self) -> Self:
        """The workflow itself, if it can be run.

        Raises:
            InvalidWorkflow: it cannot; it holds everything that is wrong.
        """
        problems = self.validate()
        if problems:
            raise InvalidWorkflow(self.name, problems)
        return self

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline that it is: each step the stage ``step:<id>``.

        Raises:
            InvalidWorkflow: it cannot be run.
        """
        return self._pipeline(self.definition)

    def plan(self, parameters: Mapping[str, Any] | None = None) -> Plan:
        """What running it would do; nothing is executed.

        Raises:
            InvalidWorkflow: it cannot be run, or a parameter is missing.
        """
        return self.pipeline.dry_run(self._context(parameters))

    def run(
        self,
        parameters: Mapping[str, Any] | None = None,
        *,
        store: Place | None = None,
        clock: Clock = time,
        on_step: OnStep | None = None,
        **options: Any,
    ) -> WorkflowResult:
        """Run it until every step has ended, or been found not to be run.

        Args:
            parameters: values by name, in the place of the defaults.
            store: where it is kept: a path or URL, an open store, a journal, or a face; in memory by default.
            on_step: called with the `StageResult` of each step, once it is recorded.
            options: of `cortical.stages.execute`: parent, budget, lease_seconds, sleep.

        Raises:
            InvalidWorkflow: it cannot be run, or a parameter is missing; nothing was begun.
            What `cortical.stages.execute` raises.
        """
        definition = self.definition
        context = self._context(parameters)
        found = execute(
            self.pipeline,
            context,
            store=store,
            clock=clock,
            max_concurrency=definition.max_concurrency,
            on_failure=definition.on_failure,
            on_stage=on_step,
            **options,
        )
        return _result(found)

    def surroundings(self, step: str) -> Surroundings:
        """What a step knows of the others; nothing of one that it does not have."""
        return self._around.get(step, Surroundings())

    def _context(self, parameters: Mapping[str, Any] | None) -> StageContext:
        definition = self.definition
        given = require_parameters(definition, parameters or {})
        return StageContext(
            configuration={WORKFLOW: plain_of(definition)},
            arguments={PARAMETERS: given, WORKSPACE: str(self.workspace.absolute())},
        )

    def _pipeline(self, definition: WorkflowDefinition) -> Pipeline:
        stages = [StepStage(step, self._around[step.id]) for step in definition.steps]
        return Pipeline(definition.name, stages, description=definition.description)


def resume_workflow(
    store: Place,
    run_id: str,
    workflow: Workflow | None = None,
    *,
    changed: Changed = "refuse",
    clock: Clock = time,
    on_step: OnStep | None = None,
    **options: Any,
) -> WorkflowResult:
    """Carry on a workflow whose process has died, or that has failed: run what has not succeeded.

    Of a batch only those items are run again that have no result.

    Args:
        run_id: its id, or a prefix that no other id begins with.
        workflow: as it is now; by default as it was when it was run.
        changed: what becomes of steps that have succeeded and are others now, as in `cortical.stages.resume`.

    Raises:
        RunNotFound: no run has this id.
        RunStateError: it is the run of something else.
        What `cortical.stages.resume` raises.
    """
    with Face(store, clock=clock, create=False) as face:
        run = face.journal.find(run_id)
        workflow = recorded_workflow(run) if workflow is None else workflow
        definition = workflow.definition
        found = resume(
            face,
            run.id,
            workflow.pipeline,
            changed=changed,
            clock=face.journal.clock,
            max_concurrency=definition.max_concurrency,
            on_failure=definition.on_failure,
            on_stage=on_step,
            **options,
        )
    return _result(found)


def is_workflow(run: Run) -> bool:
    """Whether a run is that of a workflow, and not of another pipeline."""
    configuration = run.metadata.get("configuration")
    return run.kind == PIPELINE and isinstance(configuration, Mapping) and WORKFLOW in configuration


def recorded_workflow(run: Run) -> Workflow:
    """The workflow that a run is of, as it was then.

    Raises:
        RunStateError: the run is of something else.
    """
    if not is_workflow(run):
        raise RunStateError(f"{run.kind} {run.id!r} is no workflow; give the id of one", run.id)
    metadata = run.metadata
    return Workflow(metadata["configuration"][WORKFLOW], workspace=metadata["arguments"][WORKSPACE])


def recorded_scope(journal: Journal, batch: Run) -> dict[str, Any]:
    """What the references of a batch lead to: nothing, unless it was begun by a step of a workflow.

    Raises:
        RunNotFound: the workflow is not in the store.
    """
    stage = next((life.parent for life in reversed(lives(journal, batch.id)) if life.parent is not None), None)
    if stage is None:
        return {}
    if stage.parent is None:
        raise RunNotFound(batch.id)
    around = recorded_workflow(stage.parent).surroundings(step_id(stage.name))
    done = succeeded(lives(journal, stage.parent.id))
    data = {key: value for run in done.values() for key, value in (run.data or {}).items()}
    parameters = stage.parent.metadata["arguments"][PARAMETERS]
    return scope_of(data.get, parameters, around.above, around.batches, journal)


def _result(found: PipelineResult) -> WorkflowResult:
    steps = {step_id(one): _step(stage, found.values) for one, stage in found.stages.items()}
    why = _of_steps(found.why)
    return WorkflowResult(found.run_id, found.name, found.status, found.reason, steps, found.seconds, why, found)


def _step(stage: StageResult, values: Mapping[str, Any]) -> StepResult:
    name = step_id(stage.id)
    error = values.get(error_key(name))
    status, why = stage.status, _of_steps(stage.why)
    if error is not None:
        status, why = "tolerated", f"{error['type']}: {error['message']}"
    elif isinstance(stage.outcome, Skipped):
        why = "its condition, or what became of the steps that it waits for, says that it is not needed"
    return StepResult(name, status, values.get(value_key(name)), why, stage.attempts, stage.seconds)


def _of_steps(told: str) -> str:
    """What is told of stages, told of the steps that they are."""
    return told.replace(f"stage '{stage_id('')}", "step '").replace(f"'{stage_id('')}", "'")
