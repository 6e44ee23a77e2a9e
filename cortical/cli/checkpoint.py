"""The commands `checkpoint list`, `checkpoint create` and `checkpoint restore`: a run's data, kept and had back."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cortical.cli.options import AsJson, Id, StorePlace
from cortical.cli.session import command_line, driver_of, opened_store, print_json, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cortical.core.journal import Journal
    from cortical.recovery import Checkpoint

CheckpointId = Annotated[
    str, typer.Argument(metavar="CHECKPOINT_ID", help="As `checkpoint list` has it; of the run's id enough to know it.")
]
Label = Annotated[
    str | None, typer.Option("--label", metavar="TEXT", show_default=False, help="What it is to be known by.")
]


def list_checkpoints(id: Id, store: StorePlace = None, as_json: AsJson = False) -> None:
    """List a run's checkpoints, oldest first.

    In place of a run that was recovered after its end, those of the run that goes on are listed.
    """
    from cortical.recovery import CheckpointManager, newest_life

    with opened_store(store) as opened:
        manager = CheckpointManager(opened)
        run_id = manager.journal.resolve(id)
        found = manager.get_checkpoints(run_id)
        newest_id = newest_life(manager.journal, run_id).id
    if newest_id != run_id:
        say(f"{newest_id} goes on in the place of {run_id}; its checkpoints:")
    if as_json:
        print_json([_as_plain(checkpoint) for checkpoint in found])
    elif found:
        _print(found)
    else:
        say(f"{newest_id} has no checkpoint")


def create(id: Id, label: Label = None, store: StorePlace = None) -> None:
    """Keep a run's data as they stand, and print the checkpoint's id."""
    from cortical.recovery import CheckpointManager

    with opened_store(store) as opened:
        manager = CheckpointManager(opened)
        made = manager.create_checkpoint(manager.journal.resolve(id), label)
    typer.echo(made.id)
    say(f"have it back: {command_line('checkpoint restore', made.id, store)}")


def restore(
    checkpoint_id: CheckpointId,
    merge: bool = typer.Option(False, "--merge", help="Let keys stay that were set since."),
    store: StorePlace = None,
) -> None:
    """Give a run the data of a checkpoint of its own.

    Where it stands in its life, and its turns, stay as they are. Keys that were set since are gone, but for --merge.
    What has ended is not changed any more: `cortical recover` lets another run go on in its place.
    """
    from cortical.core.errors import RunStateError
    from cortical.core.safe_text import counted
    from cortical.recovery import CheckpointManager

    with opened_store(store) as opened:
        manager = CheckpointManager(opened)
        found = manager.get_checkpoint(whole_checkpoint_id(manager.journal, checkpoint_id))
        run = manager.journal.run(found.run_id)
        holder = driver_of(opened, run.tree.root.id)
        try:
            data = manager.restore(found.id, "merge" if merge else "replace")
        except RunStateError:
            if run.reason is not None:
                say(f"let another go on: {command_line('recover', run.id, store, '--checkpoint', quote(found.id))}")
            raise
    say(f"restored: {found.id}" + (f" ({found.label})" if found.label else "") + f", {counted(len(data), 'key')}")
    if holder is not None:
        say(f"{holder} drives it at this moment: what is under way there goes on with the data it was given before")


def whole_checkpoint_id(journal: Journal, given: str) -> str:
    """The id of a checkpoint whose run may be given by the beginning of its id.

    Raises:
        RunNotFound, AmbiguousId: no run's id begins so, or several do.
    """
    prefix, at, number = given.rpartition("@")
    if not prefix or not (number.isascii() and number.isdecimal()):
        raise typer.BadParameter(
            f"{given!r}: it is the run's id, @ and a number, such as 3f2a@8; `cortical checkpoint list ID` lists them",
            param_hint="CHECKPOINT_ID",
        )
    return f"{journal.resolve(prefix)}{at}{number}"


def _print(found: Sequence[Checkpoint]) -> None:
    from rich.text import Text

    from cortical.cli.render import console, print_columns
    from cortical.cli.text import moment
    from cortical.core.safe_text import counted, one_line

    rows = [
        [
            Text(one_line(checkpoint.id)),
            Text(moment(checkpoint.at), "dim"),
            Text(f"{checkpoint.turn}"),
            Text(counted(len(checkpoint.state), "key")),
            Text(one_line(checkpoint.label or "")),
        ]
        for checkpoint in found
    ]
    print_columns(console(), rows, headings=("id", "taken", "turn", "data", "label"))


def _as_plain(checkpoint: Checkpoint) -> dict[str, Any]:
    from cortical.looking.plain import iso, value_as_plain

    return {
        "id": checkpoint.id,
        "run_id": checkpoint.run_id,
        "number": checkpoint.number,
        "at": iso(checkpoint.at),
        "label": checkpoint.label,
        "metadata": value_as_plain(checkpoint.metadata),
        "turn": checkpoint.turn,
        "state": value_as_plain(checkpoint.state),
    }
