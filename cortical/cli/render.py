"""Trees and lists of trees in a terminal, fitted to its width; plain text elsewhere."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from attrs import frozen
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text
from rich.tree import Tree

from cortical.cli.text import age, duration, id_length, moment, phase_text
from cortical.core.drawing import SIGNS
from cortical.core.ports import Root
from cortical.core.run import Run
from cortical.core.safe_text import one_line
from cortical.core.status import Status
from cortical.looking.why import why_it_stands

STYLES: Final[dict[Status, str]] = {
    Status.NOT_STARTED: "dim",
    Status.ACTIVE: "bold cyan",
    Status.PAUSED: "yellow",
    Status.BLOCKED: "bold magenta",
    Status.COMPLETED: "green",
    Status.FAILED: "bold red",
    Status.SKIPPED: "blue",
    Status.ABANDONED: "bright_black",
}

_HEADINGS: Final = ("id", "status", "reason", "started", "took", "goal")
_UNBOUNDED: Final = 1_000_000_000
_NARROWEST: Final = 40
_NARROW: Final = 90
_GUIDE: Final = 4
_LEAST_GOAL: Final = 16


def console(*, stderr: bool = False) -> Console:
    """The terminal. Where there is none nothing is cut off, unless COLUMNS says how wide it is.

    With NO_COLOR it gets no escape codes at all, not those for bold either.
    """
    unbounded = not (sys.stderr if stderr else sys.stdout).isatty() and "COLUMNS" not in os.environ
    out = Console(
        stderr=stderr,
        width=_UNBOUNDED if unbounded else None,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        highlight=False,
        markup=False,
        emoji=False,
    )
    if out.width < _NARROWEST:
        out.width = _NARROWEST
    return out


def cut(text: str, width: int) -> str:
    """`text` on one line, with an ellipsis where it is longer than `width` cells."""
    most = max(1, width) * 4  # enough characters for the width, whatever they are
    line = one_line(text) if len(text) <= most else f"{one_line(text[:most])}…"
    if cell_len(line) <= width:
        return line
    shortened = Text(line)
    shortened.truncate(max(1, width), overflow="ellipsis")
    return shortened.plain


def signed(status: Status, word: str | None = None) -> Text:
    """The sign of a status and a word, in its colour."""
    return Text(f"{SIGNS[status]} {status.value if word is None else one_line(word)}", STYLES[status])


def took(started_at: float, ended_at: float | None, now: float) -> float:
    """Seconds from the start to the end, or to now."""
    return (now if ended_at is None else ended_at) - started_at


# Trees


def print_tree(out: Console, top: Run, now: float, *, levels: int | None = None) -> None:
    """Print `top` and what is below it, down to so many levels; those that are left out are counted.

    A tree too deep for the terminal is printed wider than it, not cut off.
    """
    runs = list(top.tree.walk(top))
    lowest = max(run.depth for run in runs)
    if levels is not None:
        lowest = min(lowest, top.depth + levels)
    hidden = Counter(run.tree.path(run)[lowest].id for run in runs if run.depth > lowest)
    width = out.width
    out.width = max(width, _GUIDE * (lowest - top.depth) + _NARROWEST)
    out.print(drawing([run for run in runs if run.depth <= lowest], now, hidden), crop=False)
    out.width = width


def drawing(runs: Sequence[Run], now: float, hidden: Mapping[str, int] | None = None) -> Tree:
    """Runs as a tree, to be printed: the top first, parents before children; `hidden` counts what is left out below."""
    top, *below = runs
    hidden = hidden or {}
    length = id_length(run.id for run in runs)
    drawn = Tree(_Line(top, now, length, hidden.get(top.id, 0)), guide_style="dim", highlight=False)
    branches = {top.id: drawn}
    for run in below:
        if run.parent is not None:
            branches[run.id] = branches[run.parent.id].add(_Line(run, now, length, hidden.get(run.id, 0)))
    return drawn


def under_way_first(runs: Sequence[Run], room: int) -> Sequence[Run]:
    """As many as there is room for, in their order: what is under way before what is not; none without its parent."""
    if len(runs) <= room:
        return runs
    ranked = sorted(runs, key=lambda run: run.reason is not None or run.status is Status.NOT_STARTED)
    kept = {run.id for run in ranked[:room]}  # the sort keeps parents before children, and an open child's is open
    return [run for run in runs if run.id in kept]


def counted_runs(runs: Iterable[Run]) -> str:
    """How many runs stand how: ``3 active, 1 completed``."""
    statuses = Counter(run.status for run in runs)
    return ", ".join(f"{statuses[status]:,} {status.value.replace('_', ' ')}" for status in Status if statuses[status])


@frozen
class _Line:
    """A run in a tree, as wide as there is room."""

    run: Run
    now: float
    id_length: int
    hidden: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield tree_line(self.run, now=self.now, id_length=self.id_length, width=options.max_width, hidden=self.hidden)


def tree_line(run: Run, *, now: float, id_length: int, width: int, hidden: int = 0) -> Text:
    """One run: sign, id, phase and turn, age or ("in 5m") how long it took, goal, and why it stands so.

    It is `width` cells long at most. What is of least use goes first: that it waits for its children, which are
    drawn below it, then the time, then the phase. Goal and reason share what is left.
    """
    sign = signed(run.status, run.id[:id_length])
    sign.append(f"  (+{hidden} below)" if hidden else "", "default")
    phase = phase_text(run.place, run.visit.turn if run.visit else None)
    since = age(took(run.started_at, run.ended_at, now))
    since = f"in {since}" if run.reason else since
    why = why_it_stands(run)
    least = _LEAST_GOAL + (_LEAST_GOAL if why and not run.waits_for_children else 0)
    for details in ((phase, since), (phase,), ()):
        line = sign.copy()
        for detail in filter(None, details):
            line.append(f"  {detail}", "dim" if detail is since else "")
        room = width - line.cell_len - 2
        if room >= least:
            break
    goal, why = _shared(run.name, why, room, dispensable=run.waits_for_children)
    line.append(f"  {goal}", "bold" if run.reason is None else "")
    if why:
        line.append(f" – {why}", STYLES[run.status])
    return line


def _shared(goal: str, why: str, room: int, *, dispensable: bool) -> tuple[str, str]:
    """Goal and reason cut to `room` cells together; neither takes more than half unless the other leaves it.

    A dispensable reason is left out when it does not fit.
    """
    if not why:
        return cut(goal, room), ""
    both = room - len(" – ")
    goal_cells, why_cells = cell_len(cut(goal, both)), cell_len(cut(why, both))
    if goal_cells + why_cells <= both:
        return cut(goal, both), cut(why, both)
    if dispensable or both < _LEAST_GOAL:
        return cut(goal, room), ""
    for_why = min(why_cells, max(both // 2, both - goal_cells))
    return cut(goal, both - for_why), cut(why, for_why)


# Lists


def print_columns(
    out: Console, rows: Sequence[Sequence[Text]], *, headings: Sequence[str] = (), indent: int = 0, fold: bool = False
) -> None:
    """Print rows of cells as `columns` aligns them."""
    for line in columns(out, rows, headings=headings, indent=indent, fold=fold):
        print_line(out, line)


def columns(
    out: Console, rows: Sequence[Sequence[Text]], *, headings: Sequence[str] = (), indent: int = 0, fold: bool = False
) -> Iterator[Text]:
    """Rows of cells as lines, aligned, without anything behind the last cell.

    The last cell is cut off at the terminal's edge, or folded into its column.
    """
    lines = [[Text(heading, "dim") for heading in headings], *rows] if headings else rows
    widths = [max(cell.cell_len for cell in column) for column in zip(*lines, strict=True)][:-1]
    for *cells, last in lines:
        line = Text(" " * indent)
        for cell, width in zip(cells, widths, strict=True):
            line.append_text(cell).append(" " * (width - cell.cell_len + 2))
        lead = " " * line.cell_len
        room = max(_LEAST_GOAL, out.width - len(lead))
        if not fold:
            last.truncate(room, overflow="ellipsis")
        for part in last.wrap(out, room, overflow="fold") if fold else [last]:
            line.append_text(part).rstrip()
            yield line
            line = Text(lead)


def print_line(out: Console, line: Text) -> None:
    """Print a line that has been fitted already."""
    line.rstrip()
    out.print(line, no_wrap=True, overflow="ignore", crop=False)


def print_roots(out: Console, roots: Sequence[Root], now: float) -> None:
    """Print trees, one a row; a narrow terminal gets an age for the start, and no reasons."""
    length = id_length(root.id for root in roots)
    narrow = out.width < _NARROW
    headings = ("id", "status", "age", "took", "goal") if narrow else _HEADINGS
    print_columns(out, [_cells(out, root, now, length, narrow=narrow) for root in roots], headings=headings)


def _cells(out: Console, root: Root, now: float, length: int, *, narrow: bool) -> list[Text]:
    took_text = "" if root.ended_at is None else duration(root.ended_at - root.started_at)
    started = (
        [Text(age(now - root.started_at), "dim")]
        if narrow
        else [Text(root.reason.value if root.reason else ""), Text(moment(root.started_at), "dim")]
    )
    run_id = Text(one_line(root.id[:length]), STYLES[root.status])
    return [run_id, signed(root.status), *started, Text(took_text), Text(cut(root.goal, out.width))]


def print_runs(out: Console, runs: Iterable[Run], length: int) -> None:
    """Print runs, one a row: id, status, goal, and why they stand so."""
    rows = [
        [
            signed(run.status, run.id[:length]),
            Text(run.status.value),
            Text(cut(" – ".join(filter(None, (run.name, why_it_stands(run)))), out.width)),
        ]
        for run in runs
    ]
    print_columns(out, rows, indent=2)
