"""Write the figures that were kept into the one table of docs/performance.md.

::

    python -m benchmarks --json FIGURES
    python -m benchmarks.peers --json PEERS
    python -m benchmarks.report FIGURES PEERS
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import Figure, number

PAGE: Final = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN: Final = "<!-- figures: written by python -m benchmarks.report -->"
END: Final = "<!-- end of figures -->"
_HEAD: Final = ("", "what", "asked", "reached", "floor", "× floor", "others")
#: What each group is about, in the order of the table.
TITLES: Final = {
    "memory_speed": "In memory",
    "durable_speed": "On disk",
    "waiting_together": "Many threads that wait together",
    "driven": "Agents",
    "control": "Controlled loops",
    "monitoring": "Monitoring",
    "stages": "Pipelines",
    "loop_stages": "Loop stages",
    "batch": "Batches",
    "large_trees": "Large trees",
    "stores": "Stores",
    "million": "A million ended runs",
    "sizes": "Sizes",
    "start_up": "Start-up",
    "package": "The package",
}


def rows(group: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of a group in the table."""
    for one in group:
        figure = Figure(**one)
        what = figure.what + (f" ({figure.remark})" if figure.remark else "")
        asked = bool(figure.wanted)
        yield _line(
            ("✓" if figure.met else "✗") if asked else "",
            what,
            figure.wanted,
            f"{number(figure.reached)} {figure.unit}".strip(),
            "" if figure.floor is None else number(figure.floor),
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            "",
        )


def peer_rows(medians: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of the same work by other systems: under each promise, Cortical beside the floor and beside them."""
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for one in medians:
        found.setdefault((one["what"], one["kept"], one["unit"]), {})[one["system"]] = one["median"]
    for (what, kept, unit), systems in found.items():
        ours = systems.pop("Cortical")
        floor = systems.pop("sqlite3 alone (the floor)")
        ratio = ours / floor if unit == "MiB" else floor / ours
        others = "; ".join(f"{name}: {number(reached)}" for name, reached in systems.items())
        reached = f"{number(ours)} {unit}"
        yield _line("", f"{what}, kept through {kept}", "", reached, number(floor), f"{ratio:.2f}", others)


def table(figures: Mapping[str, Any], medians: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown, with what it was taken on."""
    lines = [f"Taken on {figures['machine']}.", "", _line(*_HEAD), _line(":-:", "---", *["---:"] * 4, "---")]
    groups = figures["groups"]
    for name in sorted(groups, key=list(TITLES).index):
        lines += [_line("", f"**{TITLES[name]}**", "", "", "", "", f"`{name}`"), *rows(groups[name])]
    if medians:
        lines += [_line("", "**Beside other systems**", "", "", "", "", "`benchmarks.peers`"), *peer_rows(medians)]
    return "\n".join(lines)


def written(page: str, told: str) -> str:
    """The page with another table in the place of its own.

    Raises:
        ValueError: the page has no place for one.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no lines {BEGIN!r} and {END!r} between which the table stands")
    return f"{before}{BEGIN}\n\n{told}\n\n{END}{after}"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main(words: list[str]) -> int:
    """Write the page anew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("figures", type=Path, metavar="FIGURES")
    parser.add_argument("peers", type=Path, metavar="PEERS", nargs="?")
    asked = parser.parse_args(words)
    medians = [] if asked.peers is None else json.loads(asked.peers.read_text(encoding="utf-8"))
    told = table(json.loads(asked.figures.read_text(encoding="utf-8")), medians)
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), told), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
