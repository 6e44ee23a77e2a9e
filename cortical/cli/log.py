"""The command `log`: what happened in a loop and below it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import typer

from cortical.cli.options import AsJson, Id, StorePlace
from cortical.cli.session import opened_journal, pause

if TYPE_CHECKING:
    from cortical.core.events import Event
    from cortical.core.run import Run
    from cortical.store import Store

_POLL_SECONDS: Final = 0.1


def log(
    id: Id,
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on as events are added, until the loop has ended."),
    store: StorePlace = None,
    as_json: AsJson = False,
) -> None:
    """Show what happened in a loop and below it, oldest first.

    With --json it is one object a line.
    """
    from cortical.cli.events import event_line
    from cortical.cli.render import console, print_line
    from cortical.cli.text import id_length
    from cortical.looking.plain import event_as_plain

    with opened_journal(store) as journal:
        run = journal.find(id)
        length = id_length(below.id for below in run.tree.walk())
        out = console()
        for position, event in events_below(journal.store, run, follow=follow):
            if as_json:
                print_json_line(event_as_plain(position, event))
            else:
                print_line(out, event_line(out, event, id_length=length))


def print_json_line(value: object) -> None:
    """Print a plain value as JSON on one line."""
    import msgspec

    typer.echo(msgspec.json.encode(value))


def events_below(store: Store, run: Run, *, follow: bool) -> Iterator[tuple[int, Event]]:
    """The events of `run` and all below it, each with its position in the tree's log.

    With `follow` also those that are still to come, from this process or another, until `run` has ended.
    """
    from cortical.core.events import Ended, Started

    belonging = {run.id}
    position = 0
    while True:
        added = store.read(run.tree.root.id, position)
        for event in added:
            if isinstance(event, Started) and event.parent_id in belonging:
                belonging.add(event.run_id)
            if event.run_id in belonging:
                yield position, event
            if isinstance(event, Ended) and event.run_id == run.id:
                return
            position += 1
        if not follow:
            return
        if not added:
            pause(_POLL_SECONDS)
