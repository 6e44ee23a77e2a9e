"""The command `check`: did loops follow the practice, and is their tree as its log says?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import typer

from cortical.cli.options import AsJson, Id, StorePlace
from cortical.cli.session import opened_store, print_json

if TYPE_CHECKING:
    from cortical.cli.findings import Checked, Finding

#: How many findings of a kind are shown.
_MOST: Final = 5


def check(id: Id, store: StorePlace = None, as_json: AsJson = False) -> None:
    """Check a tree, and the practice of a loop and all below it.

    Exits 1 when the tree is unsound, or a finding is an error, high or critical; the rest is advice.
    """
    from cortical.cli.findings import check_below

    with opened_store(store) as opened:
        checked = check_below(opened, id)
    if as_json:
        print_json(_as_plain(checked))
    else:
        _print(checked)
    if not checked.well:
        raise typer.Exit(1)


def _print(checked: Checked) -> None:
    from rich.text import Text

    from cortical.cli.findings import GRAVE
    from cortical.cli.page import print_heading, print_rows
    from cortical.cli.render import console
    from cortical.cli.text import id_length
    from cortical.core.safe_text import counted, one_line

    out = console()
    sound = Text("unsound", "bold red") if checked.problems else Text("sound", "green")
    sound.append(f", {checked.events:,} events")
    found = counted(len(checked.findings), "finding") if checked.findings else "nothing found"
    practice = f"{found} in {counted(checked.loops, 'loop')}"
    print_rows(out, [("checked", checked.id), ("tree", sound), ("practice", practice)], indent=0)
    for problem in checked.problems:
        out.print(Text(f"  {one_line(problem)}", "red"))
    length = id_length(finding.id for finding in checked.findings)
    for (severity, rule), findings in _grouped(checked.findings).items():
        print_heading(out, f"{severity}: {rule}, in {counted(len({finding.id for finding in findings}), 'loop')}")
        style = "red" if severity in GRAVE else "yellow"
        print_rows(out, [(finding.id[:length], Text(one_line(finding.message), style)) for finding in findings[:_MOST]])
        if len(findings) > _MOST:
            out.print(Text(f"  and {len(findings) - _MOST:,} more; --json has all"))
        print_rows(out, [("→", suggestion) for suggestion in findings[0].suggestions])


def _grouped(findings: Iterable[Finding]) -> dict[tuple[str, str], list[Finding]]:
    """The findings by how grave they are, and the rule."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.rule), []).append(finding)
    return groups


def _as_plain(checked: Checked) -> dict[str, Any]:
    from attrs import asdict

    return {"well": checked.well, **asdict(checked)}
