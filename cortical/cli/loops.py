"""The commands that show loops: `list`, `tree`, `show` and `export`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cortical.cli.options import AsJson, Id, MaybeId, StorePlace
from cortical.cli.session import NOBODY, driver_of, opened_journal, opened_store, print_json, say

if TYPE_CHECKING:
    from cortical.core.journal import Journal
    from cortical.core.run import Run
    from cortical.store import Root, Store

#: How many trees are shown when none is open.
_RECENT: Final = 3

Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many trees at most.")]


class Drawing(Enum):
    """The forms of an export, as typer wants choices."""

    TREE = "tree"
    MERMAID = "mermaid"
    DOT = "dot"
    JSON = "json"


def list_trees(
    open_only: bool = typer.Option(False, "--open", help="Only trees that have not ended."),
    limit: Limit = 20,
    store: StorePlace = None,
    as_json: AsJson = False,
) -> None:
    """List the trees of loops, newest first."""
    with opened_store(store) as opened_one:
        roots, more = _roots(opened_one, limit, open_only=open_only)
    if as_json:
        from cortical.looking.plain import root_as_plain

        print_json([root_as_plain(root) for root in roots])
    elif roots:
        from cortical.cli.render import console, print_roots

        print_roots(console(), roots, time.time())
    else:
        say("no tree is open" if open_only else "the store is empty")
    if more:
        say(f"there are more; --limit {limit * 2} shows twice as many")


def tree(
    id: MaybeId = None,
    levels: Annotated[
        int | None, typer.Option("--levels", metavar="N", min=0, help="Draw so many levels below the top.")
    ] = None,
    limit: Limit = 20,
    store: StorePlace = None,
    as_json: AsJson = False,
) -> None:
    """Draw a loop and all below it, or every open tree.

    When none is open, the most recent are drawn. --limit is for the trees that are drawn without ID. With --json
    there is an array of whole trees, even for one.
    """
    with opened_journal(store) as journal:
        tops = _open_or_recent(journal, limit) if id is None else [journal.find(id)]
        if as_json:
            from cortical.looking.plain import tree_as_plain

            print_json([{**tree_as_plain(top), "held_by": _holder(journal.store, top)} for top in tops])
            return
        from cortical.cli.render import console, print_tree

        out = console()
        for number, top in enumerate(tops):
            if number:
                out.print()
            print_tree(out, top, time.time(), levels=levels)
        _say_holders(journal.store, [top for top in tops if top.tree.root.reason is None])


def show(id: Id, store: StorePlace = None, as_json: AsJson = False) -> None:
    """Show everything about one loop.

    Its visits with their notes, decisions and answers, its children and results.
    """
    with opened_journal(store) as journal:
        run = journal.find(id)
        if as_json:
            from cortical.looking.plain import run_as_plain

            print_json({**run_as_plain(run), "held_by": _holder(journal.store, run)})
        else:
            from cortical.cli.page import print_page
            from cortical.cli.render import console

            still_open = run.tree.root.reason is None
            holder = (_holder(journal.store, run) or NOBODY) if still_open else ""
            print_page(console(), run, time.time(), holder)


def export(
    id: Id,
    format: Annotated[Drawing, typer.Option("--format", help="What to write it as.")] = Drawing.TREE,
    store: StorePlace = None,
) -> None:
    """Write a loop and all below it as text, Mermaid, dot or JSON."""
    from cortical.looking.export import export as drawn

    with opened_journal(store) as journal:
        typer.echo(drawn(journal.find(id), format.value))


def _holder(store: Store, run: Run) -> str | None:
    """Who drives the tree of a run, if somebody does."""
    return driver_of(store, run.tree.root.id)


def _say_holders(store: Store, tops: Sequence[Run]) -> None:
    holders = {top.tree.root.id: _holder(store, top) for top in tops}
    for root_id, holder in holders.items():
        if holder is not None:
            say(f"{root_id} is held by {holder}")


def _roots(store: Store, limit: int, *, open_only: bool) -> tuple[list[Root], bool]:
    """Trees, newest first, `limit` at most, and whether there are more."""
    roots = store.roots(open_only=open_only, limit=limit + 1)
    return roots[:limit], len(roots) > limit


def _open_or_recent(journal: Journal, limit: int) -> list[Run]:
    roots, more = _roots(journal.store, limit, open_only=True)
    if more:
        say(f"only the newest {limit} open trees are drawn; `cortical list --open` lists them, --limit draws more")
    if not roots:
        roots = journal.store.roots(limit=min(limit, _RECENT))
        say("no tree is open; the most recent:" if roots else "the store is empty")
    return [journal.run(root.id) for root in roots]
