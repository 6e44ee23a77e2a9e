"""The commands `workflow validate`, `plan`, `run` and `resume`: steps that a file defines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cortical.cli.batch import Workspace
from cortical.cli.driving import (
    Changed,
    ChangedOption,
    File,
    changed_word,
    driving,
    stage_bar,
    tell,
    tell_plan,
    tell_problems,
)
from cortical.cli.options import AsJson, Id, StorePlace
from cortical.cli.session import from_json, let_import, opened_store, pairs, print_json, refusals

if TYPE_CHECKING:
    from cortical.batch.workflow import Workflow, WorkflowResult

Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A parameter: a text, or JSON where its default is no text; can be given again.",
    ),
]


def validate(file: File, workspace: Workspace = None, as_json: AsJson = False) -> None:
    """Say all that is wrong with a workflow.

    Exits 1 when it cannot be run.
    """
    with refusals():
        workflow = _defined(file, workspace)
        problems = workflow.validate()
    if as_json:
        print_json(problems)
    tell_problems(workflow.name or file, problems, printed=as_json)


def plan(file: File, set: Parameters = None, workspace: Workspace = None, as_json: AsJson = False) -> None:
    """Show what a workflow would do, step by step, and draw it. Nothing is run.

    Exits 1 when it could not be run, or steps would get in each other's way.
    """
    from cortical.batch.workflow_steps import stage_id

    with refusals():
        workflow = _defined(file, workspace)
        plan = workflow.plan(_parameters(workflow, set))
        tell_plan(plan, workflow.pipeline, as_json=as_json, part="step", prefix=stage_id(""))


def run(
    file: File,
    set: Parameters = None,
    workspace: Workspace = None,
    store: StorePlace = None,
    as_json: AsJson = False,
) -> None:
    """Run a workflow, and print what came of each step.

    Its steps work in the folder of FILE, unless another is named. Exits 1 when it has not succeeded.
    """
    from cortical.batch.workflow_checks import require_parameters

    with refusals():  # before the store is opened: a refusal is not to leave an empty one
        workflow = _defined(file, workspace)
        given = require_parameters(workflow.definition, _parameters(workflow, set))
    count = len(workflow.definition.steps)
    with (
        opened_store(store, create=True) as opened,
        driving(opened, "workflow resume", store) as journal,
        stage_bar(workflow.name, count) as ended,
    ):
        result = workflow.run(given, store=journal, on_step=ended)
    _tell(result, store, as_json=as_json)


def resume(
    id: Id,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="FILE", show_default=False, help="As it is defined now; else as it was then."),
    ] = None,
    changed: ChangedOption = Changed.REFUSE,
    store: StorePlace = None,
    as_json: AsJson = False,
) -> None:
    """Carry on a workflow whose process has died, or that has failed: run what has not succeeded.

    Of a batch only those items are run that have no result. Exits 1 when the workflow has not succeeded.
    """
    from cortical.batch.workflow import recorded_workflow, resume_workflow

    let_import()
    with opened_store(store) as opened, driving(opened, "workflow resume", store, id) as journal:
        found = journal.find(id)
        workflow = recorded_workflow(found)
        if file is not None:
            workflow = _defined(file, str(workflow.workspace))
        with stage_bar(workflow.name, len(workflow.definition.steps)) as ended:
            result = resume_workflow(journal, found.id, workflow, changed=changed_word(changed), on_step=ended)
    _tell(result, store, as_json=as_json)


def _defined(file: str, workspace: str | None) -> Workflow:
    from cortical.batch.workflow import Workflow

    let_import()
    return Workflow.from_file(file, workspace=workspace)


def _parameters(workflow: Workflow, given: list[str] | None) -> dict[str, Any]:
    """Parameters as the command line says them: texts, or JSON where the default is no text."""
    from msgspec import UNSET

    known = workflow.definition.parameters
    texts = pairs(given or (), "--set")
    return {
        name: text
        if name not in known or known[name].default is UNSET or isinstance(known[name].default, str)
        else from_json(text, "--set")
        for name, text in texts.items()
    }


def _tell(result: WorkflowResult, store: str | None, *, as_json: bool) -> None:
    tell(result, result.steps.values(), "step", "workflow resume", store, _as_plain(result) if as_json else None)


def _as_plain(result: WorkflowResult) -> dict[str, Any]:
    from cortical.looking.plain import value_as_plain

    return {
        "run_id": result.run_id,
        "name": result.name,
        "status": result.status.value,
        "reason": result.reason.value if result.reason else None,
        "why": result.why,
        "seconds": result.seconds,
        "steps": [
            {
                "id": one.id,
                "status": one.status,
                "why": one.why,
                "attempts": one.attempts,
                "seconds": one.seconds,
                "value": value_as_plain(one.value),
            }
            for one in result.steps.values()
        ],
    }
