"""The arguments and options that several commands take, each written once."""

from __future__ import annotations

from typing import Annotated

import typer

Id = Annotated[str, typer.Argument(metavar="ID", help="The run: its id, or enough of its beginning.")]

MaybeId = Annotated[
    str | None, typer.Argument(metavar="ID", show_default=False, help="The run: its id, or enough of its beginning.")
]

StorePlace = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="FILE",
        envvar="CORTICAL_STORE",
        show_default=False,
        help="The store, a path or URL; cortical.db in this folder when nothing is said.",
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who does it; you by default.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept in the log.")]
