"""The commands `pipeline validate`, `plan`, `run` and `resume`: pipelines that a file defines, of stages of modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from cortical.cli.session import command_line, opened_store, pairs, print_json, refusals
from cortical.cli.stages import StageModules, registry_of
from cortical.core.kinds import PIPELINE

if TYPE_CHECKING:
    from cortical.stages import Pipeline, PipelineResult

Values = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="KEY=VALUE", help="A text in the context at the start; can be given again."),
]
Arguments = Annotated[
    list[str] | None,
    typer.Option("--argument", metavar="KEY=VALUE", help="A text among the arguments; can be given again."),
]
Workers = Annotated[int, typer.Option("--workers", metavar="N", min=1, help="How many stages run at the same time.")]
KeepGoing = Annotated[
    bool, typer.Option("--keep-going", help="After a failure, run what does not wait for the failed stage.")
]


def validate(file: File, stages: StageModules = None, input: Values = None, as_json: AsJson = False) -> None:
    """Say all that is wrong with a pipeline.

    Exits 1 when it cannot be run.
    """
    with refusals():
        pipeline = _defined(file, stages)
        problems = pipeline.validate(pairs(input or (), "--input"))
    if as_json:
        print_json([{"kind": one.kind, "stages": list(one.stages), "message": one.message} for one in problems])
    tell_problems(pipeline.name, [str(one) for one in problems], printed=as_json)


def plan(
    file: File,
    stages: StageModules = None,
    input: Values = None,
    argument: Arguments = None,
    as_json: AsJson = False,
) -> None:
    """Show what a pipeline would do, stage by stage, and draw it. Nothing is run.

    Exits 1 when it could not be run, or stages would get in each other's way.
    """
    from cortical.stages import StageContext

    with refusals():
        pipeline = _defined(file, stages)
        context = StageContext(pairs(input or (), "--input"), arguments=pairs(argument or (), "--argument"))
        tell_plan(pipeline.dry_run(context), pipeline, as_json=as_json)


def run(
    file: File,
    stages: StageModules = None,
    input: Values = None,
    argument: Arguments = None,
    workers: Workers = 1,
    keep_going: KeepGoing = False,
    store: StorePlace = None,
    as_json: AsJson = False,
) -> None:
    """Run a pipeline, and print what came of each stage.

    Exits 1 when it has not succeeded.
    """
    from cortical.stages import StageContext, execute

    values, arguments = pairs(input or (), "--input"), pairs(argument or (), "--argument")
    with refusals():  # before the store is opened: a refusal is not to leave an empty one
        pipeline = _defined(file, stages).require_valid(values)
    with (
        opened_store(store, create=True) as opened,
        driving(opened, "pipeline resume", store) as journal,
        stage_bar(pipeline.name, len(pipeline)) as ended,
    ):
        result = execute(
            pipeline,
            StageContext(values, arguments=arguments),
            store=journal,
            max_concurrency=workers,
            on_failure="keep_going" if keep_going else "fail_fast",
            on_stage=ended,
        )
    tell_result(result, store, as_json=as_json)


def resume(
    id: Id,
    stages: StageModules = None,
    changed: ChangedOption = Changed.REFUSE,
    workers: Workers = 1,
    keep_going: KeepGoing = False,
    store: StorePlace = None,
    as_json: AsJson = False,
) -> None:
    """Carry on a pipeline whose process has died, or that has failed: run what has not succeeded.

    It is run as it was defined then. Exits 1 when it has not succeeded.
    """
    from cortical.batch.workflow import is_workflow
    from cortical.core.errors import RunStateError
    from cortical.stages import Pipeline, resume
    from cortical.stages.recorded import definition_of

    with opened_store(store) as opened, driving(opened, "pipeline resume", store, id) as journal:
        found = journal.find(id)
        definition = definition_of(found)
        if found.kind != PIPELINE or not definition:
            raise RunStateError(f"{found.kind} {found.id!r} is no pipeline; give the id of one", found.id)
        if is_workflow(found):
            again = command_line("workflow resume", found.id, store)
            raise RunStateError(f"{found.name!r} is a workflow; carry it on with: {again}", found.id)
        pipeline = Pipeline.from_dict(definition, registry_of(stages or ()))
        with stage_bar(pipeline.name, len(pipeline)) as ended:
            result = resume(
                journal,
                found.id,
                pipeline,
                changed=changed_word(changed),
                max_concurrency=workers,
                on_failure="keep_going" if keep_going else "fail_fast",
                on_stage=ended,
            )
    tell_result(result, store, as_json=as_json)


def tell_result(result: PipelineResult, store: str | None, *, as_json: bool) -> None:
    """Print what came of a pipeline; exit 1 where it has not succeeded."""
    tell(result, result.stages.values(), "stage", "pipeline resume", store, _as_plain(result) if as_json else None)


def _defined(file: str, stages: Sequence[str] | None) -> Pipeline:
    from cortical.stages import Pipeline

    return Pipeline.from_file(file, registry_of(stages or ()))


def _as_plain(result: PipelineResult) -> dict[str, Any]:
    from cortical.looking.plain import iso, value_as_plain

    stages = [
        {
            "id": one.id,
            "status": one.status,
            "why": one.why,
            "started_at": iso(one.started_at),
            "ended_at": iso(one.ended_at),
            "attempts": one.attempts,
            "output": value_as_plain(one.output),
        }
        for one in result.stages.values()
    ]
    return {
        "run_id": result.run_id,
        "name": result.name,
        "status": result.status.value,
        "reason": result.reason.value if result.reason else None,
        "why": result.why,
        "seconds": result.seconds,
        "critical_path": list(result.critical_path),
        "critical_seconds": result.critical_seconds,
        "stages": stages,
    }
