"""The command `stats`: figures of what a store has recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import typer

from cortical.cli.options import AsJson, MaybeId, StorePlace
from cortical.cli.session import opened_journal, print_json, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

#: How many runs are shown one by one.
_MOST: Final = 10
_ENDS: Final = ("completed", "failed", "abandoned", "skipped")


def stats(
    id: MaybeId = None,
    prometheus: bool = typer.Option(False, "--prometheus", help="Print Prometheus's text format, for a scraper."),
    store: StorePlace = None,
    as_json: AsJson = False,
) -> None:
    """Count iterations, failures and recoveries, and how long iterations took: of all trees, or of one loop and below.

    All of the log is read for it. With --json there is every figure; with --prometheus and ID those of each run, too.
    """
    if prometheus and as_json:
        raise typer.BadParameter("it is either --json or --prometheus", param_hint="--prometheus")
    from cortical.monitoring import Metrics

    with opened_journal(store) as journal:
        metrics = Metrics.of(journal, None if id is None else journal.resolve(id))
    if prometheus:
        typer.echo(metrics.prometheus(per_run=id is not None), nl=False)
    elif as_json:
        print_json(metrics.snapshot())
    else:
        _print(metrics.snapshot())


def _print(told: Mapping[str, Any]) -> None:
    from cortical.cli.page import print_heading, print_rows
    from cortical.cli.render import console
    from cortical.cli.text import amount

    if not told["started"]:
        say("the store is empty")
        return
    out = console()
    _print_ends(out, told)
    print_heading(out, "work")
    kinds = [((kind,), figures) for kind, figures in told["kinds"].items()]
    overall = [(("all",), told["overall"])] if len(kinds) > 1 else []
    _print_figures(out, ("kind",), [*kinds, *overall])
    _print_busiest(out, told["runs"])
    used = told["overall"]["resources_most"]
    if used:
        print_heading(out, "resources, the most that was told")
        print_rows(out, [(name, amount(most)) for name, most in used.items()])


def _print_ends(out: Console, told: Mapping[str, Any]) -> None:
    from rich.text import Text

    from cortical.cli.render import print_columns

    rows = []
    for kind, started in told["started"].items():
        ended = told["ended"].get(kind, {})
        counts = [started, started - sum(ended.values()), *(ended.get(status, 0) for status in _ENDS)]
        rows.append([Text(kind), *(Text(f"{count:,}") for count in counts)])
    print_columns(out, rows, headings=("kind", "started", "open", *_ENDS))


def _print_figures(out: Console, headings: tuple[str, ...], rows: list[tuple[tuple[str, ...], Any]]) -> None:
    """Print what was done, and how long an iteration took."""
    from rich.text import Text

    from cortical.cli.render import print_columns
    from cortical.core.safe_text import one_line

    first, *last = headings
    cells = []
    for (leading, *trailing), figures in rows:
        seconds = figures["seconds_per_iteration"]
        counts = (f"{figures[name]:,}" for name in ("iterations", "failures", "recoveries"))
        times = (_time(seconds[name]) for name in ("mean", "p50", "p95", "max"))
        cells.append([Text(one_line(text)) for text in (leading, *counts, *times, *trailing)])
    print_columns(
        out, cells, headings=(first, "iterations", "failed", "recovered", "mean", "p50", "p95", "max", *last), indent=2
    )


def _print_busiest(out: Console, runs: Mapping[str, Any]) -> None:
    """Print the runs with the most iterations one by one, where there is more than one run."""
    from cortical.cli.page import print_heading
    from cortical.cli.text import id_length

    busiest = sorted(runs.items(), key=lambda item: -item[1]["iterations"])[:_MOST]
    if len(runs) < 2 or not busiest[0][1]["iterations"]:
        return
    print_heading(out, "runs" if len(busiest) == len(runs) else f"runs, the {_MOST} busiest of {len(runs):,}")
    length = id_length(run_id for run_id, _ in busiest)
    _print_figures(out, ("id", "goal"), [((run_id[:length], run["name"]), run) for run_id, run in busiest])


def _time(seconds: float | None) -> str:
    """How long an iteration took: ``–``, ``0.40ms``, ``12ms``, ``1.5s``, ``3m 05s``."""
    from cortical.cli.text import duration

    if seconds is None:
        return "–"
    if seconds < 0.0995:
        return f"{seconds * 1000:.2f}ms" if seconds < 0.00995 else f"{seconds * 1000:.0f}ms"
    return duration(seconds)
