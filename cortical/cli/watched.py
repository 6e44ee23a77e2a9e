"""What `watch` sees, as a person reads it: a frame that is drawn over itself, or a line for each change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cortical.cli.health import finding_cells
from cortical.cli.render import (
    columns,
    console,
    counted_runs,
    cut,
    drawing,
    print_line,
    print_tree,
    signed,
    tree_line,
    under_way_first,
)
from cortical.cli.session import pause, say
from cortical.cli.text import amount, duration, id_length
from cortical.cli.watching import MOST_TREES, Measured, Sight, Watch
from cortical.core.run import Run
from cortical.core.safe_text import counted, one_line
from cortical.core.times import local_time
from cortical.monitoring import Finding

_TICK_SECONDS: Final = 0.5
#: Lines that runs whose progress is told, and findings, may have in a frame.
_MOST_MEASURED: Final = 8
_MOST_FINDINGS: Final = 5
#: Lines of the terminal that are not these, nor the trees': two headings, the summary, the hint, and the cursor.
_KEPT_LINES: Final = 7
_FEWEST_LINES: Final = 3
_NARROWEST_LINE: Final = 40
_EMPTY: Final = "no tree is open"


class View(Protocol):
    """What keeps a person informed."""

    def show(self, sight: Sight) -> None:
        """Show what was seen now."""
        ...


def follow(watching: Watch) -> None:
    """Show what there is to see, twice a second, until the run that is watched has ended; for ever, if it is all."""
    out = console()
    if not out.is_terminal or out.is_dumb_terminal:
        _follow(watching, Changes(out))
        return
    with Live(console=out, auto_refresh=False, redirect_stdout=False, vertical_overflow="visible") as live:
        _follow(watching, Screen(live))


def _follow(watching: Watch, view: View) -> None:
    while True:
        sight = watching.look()
        view.show(sight)
        if sight.over:
            return
        pause(_TICK_SECONDS)


def print_frame(sight: Sight) -> None:
    """Print what is seen now, all of it."""
    out = console()
    if not sight.tops:
        say(_EMPTY)
    for top in sight.tops:
        print_tree(out, top, sight.at)
    for line in _below(out, sight, list(sight.runs()), hidden=0):
        print_line(out, line)


class Screen:
    """The frame, drawn over itself."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, sight: Sight) -> None:
        """Draw what was seen now."""
        self._live.update(frame(self._live.console, sight), refresh=True)


class Changes:
    """A line for each run that stands elsewhere than when it was looked at before, and for each new finding."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._stood: dict[str, tuple[object, ...]] = {}
        self._found: set[tuple[str, str | None]] = set()
        self._was_empty = False

    def show(self, sight: Sight) -> None:
        """Print what is new."""
        runs = list(sight.runs())
        if not runs and not self._was_empty:
            say(f"{_EMPTY}; waiting for one")
        self._was_empty = not runs
        length = id_length(run.id for run in runs)
        stand = {run.id: _stand(run) for run in runs}
        for run in runs:
            if self._stood.get(run.id) != stand[run.id]:
                print_line(self._out, _change(self._out, run, sight, length))
        new = [finding for finding in sight.findings if (finding.code, finding.run_id) not in self._found]
        for finding in new:
            lead = Text.assemble((_clock(sight.at), "dim"), "  ", finding.severity, "  ")
            cells = Text("  ").join(cell for cell in finding_cells(finding, length) if cell)
            cells.truncate(max(_NARROWEST_LINE, self._out.width - lead.cell_len), overflow="ellipsis")
            print_line(self._out, lead.append_text(cells))
        self._stood, self._found = stand, {(finding.code, finding.run_id) for finding in sight.findings}


def frame(out: Console, sight: Sight) -> Group:
    """All that was seen, in as many lines as the terminal has: trees, progress, findings, and how many runs stand how.

    Of trees too large those runs are shown that are under way.
    """
    runs = list(sight.runs())
    measured = min(len(sight.measured), _MOST_MEASURED)
    found = min(len(sight.findings), _MOST_FINDINGS + 1)
    room = max(_FEWEST_LINES, out.height - _KEPT_LINES - measured - found)
    fitted = _fitted([list(top.tree.walk(top)) for top in sight.tops], room)
    parts: list[RenderableType] = [drawing(tree, sight.at) for tree in fitted]
    if not runs:
        parts.append(Text(f"{_EMPTY}; waiting for one", "dim"))
    below = _below(out, sight, runs, hidden=len(runs) - sum(map(len, fitted)))
    hint = [] if sight.over else [Text("Ctrl-C ends the watching; what is watched goes on", "dim")]
    return Group(*parts, *below, *map(_unwrapped, hint))


def _below(out: Console, sight: Sight, runs: Sequence[Run], *, hidden: int) -> Iterator[Text]:
    """The lines below the trees."""
    length = id_length(run.id for run in runs)
    if sight.measured:
        yield Text()
        busiest = sorted(sight.measured.items(), key=lambda one: -(one[1].rate or 0.0))[:_MOST_MEASURED]
        by_id = {run.id: run for run in runs}
        rows = [_progress_cells(by_id[run_id], measured, length) for run_id, measured in busiest]
        headings = ("id", "done", "share", "rate", "left", "goal")
        yield from map(_unwrapped, columns(out, rows, headings=headings, indent=2))
    if sight.findings:
        yield Text()
        shown = sight.findings[:_MOST_FINDINGS]
        yield from map(_unwrapped, columns(out, [_finding_row(one, length) for one in shown], indent=2))
        more = len(sight.findings) - len(shown)
        if more:
            yield _unwrapped(Text(f"  and {more:,} more findings: cortical health", "dim"))
    if runs:
        yield _unwrapped(Text(cut(_summary(sight, runs, hidden), out.width), "dim"))


def _summary(sight: Sight, runs: Sequence[Run], hidden: int) -> str:
    trees = counted(len(sight.tops), "tree")
    only = f" (the newest {MOST_TREES}; there are more)" if sight.more else ""
    not_shown = f" ({hidden:,} not shown)" if hidden else ""
    count = counted(len(runs), "run") + not_shown
    return f"{_clock(sight.at)}, {trees}{only}, {count}: {counted_runs(runs)}; {_rate(sight.rate)}"


def _fitted(trees: Sequence[Sequence[Run]], room: int) -> list[Sequence[Run]]:
    """Of each tree what there is room for: a line at least, as long as there are lines, and an equal share of the rest.

    What a small tree does not need is the others'.
    """
    shown = trees[:room]
    fitted = dict(enumerate(shown))
    left = room
    for count, index in enumerate(sorted(fitted, key=lambda index: len(fitted[index]))):
        fitted[index] = under_way_first(shown[index], left // (len(shown) - count))
        left -= len(fitted[index])
    return list(fitted.values())


def _progress_cells(run: Run, measured: Measured, length: int) -> list[Text]:
    report = measured.report
    done = f"{report.done:,}" + (f" of {report.total:,}" if report.total is not None else "")
    share = "" if report.fraction is None else f"{report.fraction:.0%}"
    left = "" if measured.eta is None else duration(measured.eta)
    rate = "" if measured.rate is None else _rate(measured.rate)
    texts = (done, share, rate, left)
    return [signed(run.status, run.id[:length]), *(Text(text) for text in texts), Text(one_line(run.name), "bold")]


def _finding_row(finding: Finding, length: int) -> list[Text]:
    return [Text(finding.severity), *finding_cells(finding, length)]


def _change(out: Console, run: Run, sight: Sight, length: int) -> Text:
    """Where a run stands now, and how far it has come."""
    lead = Text(f"{_clock(sight.at)}  ", "dim")
    measured = sight.measured.get(run.id)
    told = "" if measured is None else _measured_text(measured)
    room = max(_NARROWEST_LINE, out.width - lead.cell_len - len(told))
    line = tree_line(run, now=sight.at, id_length=length, width=room)
    return lead.append_text(line).append(told, "dim")


def _measured_text(measured: Measured) -> str:
    report = measured.report
    if report.total is None:
        return ""
    left = "" if measured.eta is None else f", {duration(measured.eta)} left"
    return f"  ({report.done:,} of {report.total:,}{left})"


def _stand(run: Run) -> tuple[object, ...]:
    """What of a run's standing is told when it changes."""
    return (run.status, run.place, None if run.visit is None else run.visit.turn, run.why)


def _rate(rate: float) -> str:
    return f"{amount(round(rate, 0 if rate >= 100 else 1))}/s"


def _clock(at: float) -> str:
    return local_time(at, "%H:%M:%S")


def _unwrapped(line: Text) -> Text:
    line.no_wrap, line.overflow = True, "ellipsis"
    return line
