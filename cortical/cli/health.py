"""The command `health`: what is wrong, or may be, with the runs that are open."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

import typer

from cortical.cli.options import AsJson, MaybeId, StorePlace
from cortical.cli.session import opened_journal, print_json, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from cortical.monitoring import Finding

#: What makes it a "no"; the others are advice.
GRAVE: Final = ("critical", "high")
#: How many findings are shown.
_MOST: Final = 40


def health(id: MaybeId = None, store: StorePlace = None, as_json: AsJson = False) -> None:
    """Say what is wrong, or may be, with runs that are open: in all trees, or in a loop and all below it.

    Exits 1 when a finding is high or critical; the rest is advice.
    """
    from cortical.monitoring import check

    with opened_journal(store) as journal:
        run_id = None if id is None else journal.resolve(id)
        found = check(journal, run_id)
        open_trees = len(journal.store.roots(open_only=True))
    well = not any(finding.severity in GRAVE for finding in found)
    if as_json:
        from attrs import asdict

        from cortical.looking.plain import value_as_plain

        print_json({"well": well, "findings": [value_as_plain(asdict(finding)) for finding in found]})
    else:
        _print(found, ("open trees", f"{open_trees:,}") if run_id is None else ("checked", run_id), well=well)
    if not well:
        raise typer.Exit(1)


def _print(found: Sequence[Finding], checked: tuple[str, str], *, well: bool) -> None:
    from rich.text import Text

    from cortical.cli.page import print_heading, print_rows
    from cortical.cli.render import console, print_columns
    from cortical.cli.text import id_length
    from cortical.core.safe_text import counted, one_line

    out = console()
    told = Text("well", "green") if well else Text("not well", "bold red")
    told.append(f", {counted(len(found), 'finding')}" if found else ", nothing found", "default")
    print_rows(out, [checked, ("health", told)], indent=0)
    length = id_length(finding.run_id for finding in found if finding.run_id)
    for severity, alike in groupby(found[:_MOST], key=lambda finding: finding.severity):
        print_heading(out, severity)
        rows: list[list[Text]] = []
        for finding in alike:
            rows.append(finding_cells(finding, length))
            if finding.suggestion:
                rows.append([Text(), Text(), Text(f"→ {one_line(finding.suggestion)}", "dim")])
        print_columns(out, rows, indent=2, fold=True)
    if len(found) > _MOST:
        say(f"and {len(found) - _MOST:,} more; --json has all")


def finding_cells(finding: Finding, id_length: int) -> list[Text]:
    """A finding in a row: what, of which run, and a sentence."""
    from rich.text import Text

    from cortical.core.safe_text import one_line

    return [
        Text(finding.code.replace("_", " "), "red" if finding.severity in GRAVE else "yellow"),
        Text(one_line((finding.run_id or "")[:id_length]), "bold"),
        Text(one_line(finding.message)),
    ]
