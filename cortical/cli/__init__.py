"""The command `cortical`: set agents to work, look at trees of loops in a store, and stop what should not go on.

Here stands what the commands are called and an example of each; what they do is in the modules, a file for each
group. Those import what they need when they run, so that `cortical --help` does not wait for it.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

import cortical
from cortical.cli import (
    agents,
    batch,
    change,
    check,
    checkpoint,
    demo,
    health,
    log,
    loops,
    pipeline,
    recover,
    stages,
    stats,
    store,
    watch,
    why,
    workflow,
)
from cortical.cli.session import interrupt, interrupted_status, on_stop

__all__ = ["app", "main"]

app: Final = typer.Typer(
    name="cortical",
    help="Set agents to work, look at trees of reasoning loops in a store, and stop what should not go on.",
    epilog="Example: cortical tree --store runs.db",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_COMMANDS: Final[tuple[tuple[str, Callable[..., None], str], ...]] = (
    ("demo", demo.demo, "demo --package attr --store demo.db --report demo.md"),
    ("run", agents.run, 'run my_agents:greeter "greet the world" --input name=Ada --store runs.db'),
    ("resume", agents.resume, "resume 3f2a --store runs.db"),
    ("answer", agents.answer, 'answer 3f2a "yes, publish it" --store runs.db'),
    ("drain", agents.drain, "drain 3f2a --store runs.db"),
    ("list", loops.list_trees, "list --open --store runs.db"),
    ("tree", loops.tree, "tree 3f2a --store runs.db"),
    ("show", loops.show, "show 3f2a --store runs.db"),
    ("log", log.log, "log 3f2a --follow --store runs.db"),
    ("why", why.why, "why 3f2a --store runs.db"),
    ("check", check.check, "check 3f2a --store runs.db"),
    ("break", change.break_loop, 'break 3f2a --reason "no longer needed" --store runs.db'),
    ("pause", change.pause, 'pause 3f2a --reason "wait for the review" --store runs.db'),
    ("unpause", change.unpause, "unpause 3f2a --store runs.db"),
    ("recover", recover.recover, "recover 3f2a --store runs.db"),
    ("watch", watch.watch, "watch --store runs.db"),
    ("health", health.health, "health --store runs.db"),
    ("stats", stats.stats, "stats --store runs.db"),
    ("export", loops.export, "export 3f2a --format mermaid --store runs.db"),
    ("doctor", store.doctor, "doctor --store runs.db"),
)

#: Groups of commands: what each is called and for, an example of it, and the commands.
_GROUPS: Final[tuple[tuple[str, str, str, tuple[tuple[str, Callable[..., None], str], ...]], ...]] = (
    (
        "checkpoint",
        "Keep a run's data, and have them back.",
        "list 3f2a --store runs.db",
        (
            ("list", checkpoint.list_checkpoints, "list 3f2a --store runs.db"),
            ("create", checkpoint.create, 'create 3f2a --label "before the move" --store runs.db'),
            ("restore", checkpoint.restore, "restore 3f2a@8 --store runs.db"),
        ),
    ),
    (
        "stages",
        "Look at the stages that there are.",
        "list my_stages",
        (("list", stages.list_stages, "list my_stages"),),
    ),
    (
        "pipeline",
        "Plan, run and carry on pipelines of stages.",
        "run report.yaml --stages my_stages --store runs.db",
        (
            ("validate", pipeline.validate, "validate report.yaml --stages my_stages"),
            ("plan", pipeline.plan, "plan report.yaml --stages my_stages"),
            ("run", pipeline.run, "run report.yaml --stages my_stages --store runs.db"),
            ("resume", pipeline.resume, "resume 3f2a --stages my_stages --store runs.db"),
        ),
    ),
    (
        "batch",
        "Carry out a task for many items.",
        "run my_tasks:count_lines --files '*.txt' --store runs.db",
        (
            ("run", batch.run, "run my_tasks:count_lines --files '*.txt' --store runs.db"),
            ("show", batch.show, "show 3f2a --store runs.db"),
            ("failed", batch.failed, "failed 3f2a --store runs.db"),
            ("retry", batch.retry, "retry 3f2a --store runs.db"),
        ),
    ),
    (
        "workflow",
        "Plan, run and carry on workflows: steps that a file defines.",
        "run count.yaml --set folder=texts --store runs.db",
        (
            ("validate", workflow.validate, "validate count.yaml"),
            ("plan", workflow.plan, "plan count.yaml --set folder=texts"),
            ("run", workflow.run, "run count.yaml --set folder=texts --store runs.db"),
            ("resume", workflow.resume, "resume 3f2a --store runs.db"),
        ),
    ),
)

for _name, _command, _example in _COMMANDS:
    app.command(_name, epilog=f"Example: cortical {_example}")(_command)
for _group, _help, _example, _commands in _GROUPS:
    _app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    for _name, _command, _of_command in _commands:
        _app.command(_name, epilog=f"Example: cortical {_group} {_of_command}")(_command)
    app.add_typer(_app, name=_group, help=_help, epilog=f"Example: cortical {_group} {_example}")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(cortical.__version__)
        raise typer.Exit


@app.callback()
def _everywhere(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take what belongs to no command."""


def main() -> None:
    """Run the command with the arguments of this process; the console script."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `cortical log X | head -1` ends as quietly as `cat`
    on_stop(interrupt)
    _prepare_output()
    try:
        app(prog_name="cortical")
    except KeyboardInterrupt:
        sys.exit(interrupted_status())
    except OSError as error:
        if error.filename is not None:
            raise  # of the work of a user, and no output of this command
        typer.echo(f"the output could not be written: {error.strerror or error}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered would fail once more at the exit
        sys.exit(1)


def _prepare_output() -> None:
    """Let a terminal that lacks a sign show another, and a process without standard output write to nothing."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
