"""The command `doctor`: how a store is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import typer

import cortical
from cortical.cli.options import AsJson, StorePlace
from cortical.cli.session import driver_of, opened_store, print_json, say

if TYPE_CHECKING:
    from rich.console import Console

    from cortical.looking.soundness import Examination, OpenTree

_NOBODY: Final = "nobody holds an open tree: it goes on when a program takes it up"
_SOMEBODY: Final = "a tree that nobody holds goes on when a program takes it up"

#: Root id → who drives its tree now.
Holders: TypeAlias = Mapping[str, str | None]

#: How many open trees are shown.
_MOST: Final = 20


def doctor(store: StorePlace = None, as_json: AsJson = False) -> None:
    """Examine a store: health, sizes, and what is open.

    Everything is read. Exits 1 when something is wrong.
    """
    from cortical.looking.soundness import examine
    from cortical.store.sqlite_file import scripts

    with opened_store(store) as opened:
        examination = examine(opened)
        facts = {
            "version": cortical.__version__,
            "store": opened.name,
            "schema": scripts()[-1][0],  # opening a store brings it up to the newest
            "bytes": _bytes(Path(opened.name)),
        }
        holders = {tree.root.id: driver_of(opened, tree.root.id) for tree in examination.open_trees}
    if as_json:
        print_json({**facts, **_as_plain(examination, holders)})
    else:
        _print(facts, examination, holders)
    if examination.problems:
        raise typer.Exit(1)


def _bytes(path: Path) -> dict[str, int]:
    """The sizes of a store's files, the database and its write-ahead log; empty for a store in memory."""
    files = {"database": path, "log": path.with_name(path.name + "-wal")}
    return {name: file.stat().st_size for name, file in files.items() if file.exists()}


def _print(facts: dict[str, Any], examination: Examination, holders: Holders) -> None:
    from rich.text import Text

    from cortical.cli.page import print_heading, print_rows
    from cortical.cli.render import console
    from cortical.core.safe_text import one_line

    out = console()
    sizes = ", ".join(f"{name} {size:,} bytes" for name, size in facts["bytes"].items())
    print_rows(
        out,
        [
            ("store", facts["store"]),
            ("health", Text("damaged", "bold red") if examination.problems else Text("well", "green")),
            ("version", f"{facts['version']}, schema {facts['schema']}"),
            ("size", sizes),
            ("trees", f"{examination.trees:,}, {len(examination.open_trees):,} open"),
            ("runs", f"{examination.runs:,}"),
            ("events", f"{examination.events:,}"),
        ],
        indent=0,
    )
    if examination.problems:
        print_heading(out, "problems")
    for problem in examination.problems:
        out.print(Text(f"  {one_line(problem)}", "red"))
    if examination.open_trees:
        print_heading(out, "open")
        _print_open(out, examination.open_trees, holders)


def _print_open(out: Console, trees: Iterable[OpenTree], holders: Holders) -> None:
    """Print the open trees, those that have stood still for longest first."""
    from rich.text import Text

    from cortical.cli.render import cut, print_columns, signed
    from cortical.cli.text import duration, id_length
    from cortical.core.safe_text import one_line

    idle = sorted(trees, key=lambda tree: tree.last_event_at)
    length = id_length(tree.root.id for tree in idle)
    rows = [
        [
            Text(one_line(tree.root.id[:length])),
            signed(tree.root.status),
            Text(f"{duration(time.time() - tree.last_event_at)} ago"),
            Text(holders[tree.root.id] or "nobody"),
            Text(cut(tree.root.goal, out.width)),
        ]
        for tree in idle[:_MOST]
    ]
    print_columns(out, rows, headings=("id", "status", "last event", "held by", "goal"))
    if len(idle) > _MOST:
        say(f"and {len(idle) - _MOST:,} more, with later events; `cortical list --open` lists them")
    if not all(holders.values()):
        say(_SOMEBODY if any(holders.values()) else _NOBODY)


def _as_plain(examination: Examination, holders: Holders) -> dict[str, Any]:
    from cortical.looking.plain import iso, root_as_plain

    return {
        "well": not examination.problems,
        "problems": examination.problems,
        "trees": examination.trees,
        "runs": examination.runs,
        "events": examination.events,
        "open_trees": [
            {**root_as_plain(tree.root), "last_event_at": iso(tree.last_event_at), "held_by": holders[tree.root.id]}
            for tree in examination.open_trees
        ],
    }
