"""What commands share that drive pipelines, workflows and batches: Ctrl-C, bars, plans, and what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cortical.cli.session import command_line, interrupted_status, print_json, prints_as_talk, say

if TYPE_CHECKING:
    from cortical.batch import StepResult, WorkflowResult
    from cortical.core.journal import Journal
    from cortical.stages import Pipeline, PipelineResult, Plan, StageResult
    from cortical.store import Store

_STYLES: Final = {"ok": "green", "failed": "bold red", "tolerated": "yellow", "upstream failed": "red"}

File = Annotated[str, typer.Argument(metavar="FILE", help="The definition: TOML, YAML or JSON.")]


class Changed(Enum):
    """What becomes of what has succeeded and is other now, as typer wants choices."""

    REFUSE = "refuse"
    KEEP = "keep"
    RUN_AGAIN = "run-again"


ChangedOption = Annotated[
    Changed, typer.Option("--changed", help="What becomes of stages that have succeeded and are others now.")
]


def changed_word(changed: Changed) -> Any:
    """The choice, as the library calls it."""
    return changed.value.replace("-", " ")


def tell_problems(name: str, problems: Sequence[str], *, printed: bool) -> None:
    """Print all that is wrong, unless that was done; exit 1 where something is."""
    from cortical.core.safe_text import counted, one_line

    for problem in problems if not printed else ():
        typer.echo(one_line(problem))
    if problems:
        say(f"{name} cannot be run: {counted(len(problems), 'thing is', 'things are')} wrong with it")
        raise typer.Exit(1)
    say(f"{name} can be run")


def tell_plan(plan: Plan, pipeline: Pipeline, *, as_json: bool, part: str = "stage", prefix: str = "") -> None:
    """Print a plan: its stages as a table, the pipeline as a drawing, totals, and what is wrong.

    Args:
        part: what a stage is called here.
        prefix: what the ids begin with, and is not shown.
    """
    if as_json:
        print_json(plan.as_plain())
    else:
        _print_plan(plan, pipeline, part, prefix)
    if plan.problems or plan.conflicts:
        raise typer.Exit(1)


@contextmanager
def driving(store: Store, again: str, place: str | None, run_id: str | None = None) -> Iterator[Journal]:
    """A journal to drive with; what the work prints goes to standard error.

    After Ctrl-C (or SIGTERM, or SIGHUP) it is said how to go on, and the exit status is 130 (143, 129). So it is where
    the work has called `sys.exit`, and the status is that of `sys.exit`, or 1.

    Args:
        again: the command that goes on.
        run_id: what is driven; by default what the journal begins.
    """
    from cortical.core.events import Event, Started
    from cortical.core.journal import Journal

    driven: list[str] = [] if run_id is None else [run_id]

    def note(event: Event) -> None:
        if not driven and isinstance(event, Started):
            driven.append(event.run_id)

    journal = Journal(store, clock=time)
    journal.subscribe(note)
    try:
        with prints_as_talk():
            yield journal
    except KeyboardInterrupt:
        _say_stopped("stopped", driven, again, place)
        raise typer.Exit(interrupted_status()) from None
    except SystemExit as left:
        _say_stopped(f"stopped: the work has called sys.exit({left.code!r})", driven, again, place)
        raise typer.Exit(left.code if isinstance(left.code, int) and left.code else 1) from left


def _say_stopped(how: str, driven: Sequence[str], again: str, place: str | None) -> None:
    say(f"{how}; carry on: {command_line(again, driven[0], place)}" if driven else how)


@contextmanager
def stage_bar(name: str, total: int) -> Iterator[Callable[[StageResult], object] | None]:
    """A bar that moves with each stage that ends; on a terminal only, else None."""
    with bar(name) as move:
        if move is None:
            yield None
            return
        done: list[str] = []

        def ended(result: StageResult) -> None:
            done.append(result.id)
            move(len(done), total, None)

        move(0, total, None)
        yield ended


@contextmanager
def bar(name: str) -> Iterator[Callable[[int, int | None, float | None], object] | None]:
    """A progress bar on standard error: call it with how many are done, of how many, and how many it is a second.

    Where standard error is no terminal there is none.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from cortical.cli.render import console, cut

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console(stderr=True), transient=True, redirect_stdout=False) as drawn:
        task = drawn.add_task(cut(name, 30), total=None, rate="")

        def move(done: int, total: int | None, rate: float | None) -> None:
            drawn.update(task, completed=done, total=total, rate="" if rate is None else f"{rate:,.1f}/s")

        yield move


def print_stages(part: str, rows: Sequence[tuple[str, str, float, int, str]]) -> None:
    """Print what came of stages or steps (the `part`), one a row: name, status, seconds, attempts, why."""
    from rich.text import Text

    from cortical.cli.render import console, print_columns
    from cortical.cli.text import duration
    from cortical.core.safe_text import one_line

    cells = [
        [
            Text(one_line(name), "bold"),
            Text(status, _STYLES.get(status, "dim")),
            Text(duration(seconds) if attempts else ""),
            Text(str(attempts or "")),
            Text(one_line(why)),
        ]
        for name, status, seconds, attempts, why in rows
    ]
    print_columns(console(), cells, headings=(part, "status", "took", "attempts", "why"))


def tell_end(name: str, run_id: str, status: str, why: str, again: str | None) -> None:
    """Say how it ended, and how to go on; exit 1 where it has not succeeded (`again` is given)."""
    say(f"{name} {status}: {run_id}" + (f" – {why}" if why else ""))
    if again is not None:
        say(f"carry on: {again}")
        raise typer.Exit(1)


def tell(
    result: PipelineResult | WorkflowResult,
    parts: Iterable[StageResult | StepResult],
    part: str,
    command: str,
    store: str | None,
    plain: dict[str, Any] | None,
) -> None:
    """Print what came of each part, or `plain` as JSON, and how it ended; exit 1 where it has not succeeded."""
    if plain is not None:
        print_json(plain)
    else:
        print_stages(part, [(one.id, one.status, one.seconds, one.attempts, one.why) for one in parts])
    again = None if result.ok else command_line(command, result.run_id, store)
    tell_end(result.name, result.run_id, result.status.value, result.why, again)


def _print_plan(plan: Plan, pipeline: Pipeline, part: str, prefix: str) -> None:
    from rich.text import Text

    from cortical.cli.render import console, print_columns
    from cortical.core.safe_text import one_line
    from cortical.stages import export

    out = console()
    rows = [
        [
            Text(str(number)),
            Text(one_line(stage.id.removeprefix(prefix)), "bold"),
            Text(stage.state),
            Text(one_line(would)),
        ]
        for number, stage in enumerate(plan.stages, 1)
        for would in ([str(effect) for effect in stage.effects] or [stage.why or "nothing"])
    ]
    if rows:
        print_columns(out, rows, headings=("", part, "state", "would"))
        out.print()
        typer.echo(export(pipeline).replace(f" {prefix}", " ") if prefix else export(pipeline))
        out.print()
    _, begin, totals = str(plan).partition("\nin all:")
    typer.echo(f"{begin[1:]}{totals}")
