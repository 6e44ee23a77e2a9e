"""The command `recover`: lets a run go on that has failed, was stopped by a limit, or whose process has died."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cortical.cli.checkpoint import whole_checkpoint_id
from cortical.cli.options import AsJson, MaybeId, StorePlace
from cortical.cli.session import command_line, opened_store, print_json, say, way_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cortical.core.run import Run
    from cortical.recovery import Interrupted, RecoveryResult

FromCheckpoint = Annotated[
    str | None,
    typer.Option(
        "--checkpoint", metavar="CHECKPOINT_ID", show_default=False, help="Go on with the data of this checkpoint."
    ),
]


def recover(
    id: MaybeId = None, checkpoint: FromCheckpoint = None, store: StorePlace = None, as_json: AsJson = False
) -> None:
    """Let a run go on that has failed, was stopped by a limit, or whose process has died.

    In place of one that has ended another run goes on. Nothing is driven: what is to be done next is said. Exits 1 when
    it is not recovered. Without ID the trees are listed whose process has died.
    """
    from cortical.recovery import LoopRecoveryManager

    if id is None and checkpoint is not None:
        raise typer.BadParameter("say which run is to go on with it", param_hint="ID")
    with opened_store(store) as opened:
        manager = LoopRecoveryManager(opened)
        if id is None:
            _tell_interrupted(manager.interrupted(), store, as_json=as_json)
            return
        journal = manager.journal
        run_id = journal.resolve(id)
        if checkpoint is None:
            result = manager.recover_from_failure(run_id)
        else:
            result = manager.recover_from_checkpoint(run_id, whole_checkpoint_id(journal, checkpoint))
        goes_on = None if result.run_id is None else journal.refresh(result.run_id)
    _tell(run_id, result, goes_on, as_json=as_json)
    if not result.success:
        raise typer.Exit(1)
    if goes_on is not None:
        _say_next(goes_on, store)


def _tell(run_id: str, result: RecoveryResult, goes_on: Run | None, *, as_json: bool) -> None:
    if as_json:
        from attrs import asdict

        print_json({"recovered": run_id, **asdict(result)})
        return
    from rich.text import Text

    from cortical.cli.page import print_rows, standing
    from cortical.cli.render import STYLES, console
    from cortical.core.status import Status

    came_of_it = Text("recovered", "green") if result.success else Text("not recovered", "bold red")
    if goes_on is not None and goes_on.status is Status.BLOCKED:
        came_of_it = Text("waits for somebody", STYLES[Status.BLOCKED])
    rows: list[tuple[str, Text | str]] = [
        ("run", run_id),
        ("result", came_of_it),
        ("strategy", result.strategy.replace("_", " ")),
        ("done", "\n".join(result.actions)),
        ("because", result.details),
    ]
    if goes_on is not None:
        rows.append(("goes on", "" if goes_on.id == run_id else goes_on.id))
        rows.append(("status", Text(standing(goes_on), STYLES[goes_on.status])))
    print_rows(console(), rows, indent=0)


def _say_next(run: Run, store: str | None) -> None:
    """Say what a person does so that a recovered run is carried on."""
    from cortical.core.going_on import way_on
    from cortical.core.status import Status

    if run.status is Status.BLOCKED:
        say(f"it is blocked: {run.why}")
        say(f"when somebody has seen to it: {command_line('unpause', run.id, store)}")
    say(f"carry on: {way_line(way_on(run), store)}")


def _tell_interrupted(found: Sequence[Interrupted], store: str | None, *, as_json: bool) -> None:
    if as_json:
        print_json([_as_plain(one) for one in found])
        return
    if not found:
        say("no tree was interrupted")
        return
    from rich.text import Text

    from cortical.cli.render import console, print_columns
    from cortical.cli.text import duration, id_length
    from cortical.core.safe_text import one_line

    length = id_length(one.id for one in found)
    rows = [
        [
            Text(one_line(one.id[:length])),
            Text(f"{duration(time.time() - one.since)} ago", "dim"),
            Text(one_line(one.holder)),
            Text(one_line(one.goal)),
        ]
        for one in found
    ]
    print_columns(console(), rows, headings=("id", "interrupted", "was held by", "goal"))
    say(f"let one go on: {command_line('recover', found[0].id, store)}")


def _as_plain(one: Interrupted) -> dict[str, Any]:
    from attrs import asdict

    from cortical.looking.plain import iso

    return {**asdict(one), "since": iso(one.since)}
