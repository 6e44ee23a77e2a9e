"""How figures are taken and shown.

Rates are medians over rounds. Where a floor (the least that the same work could cost) is given, the two take
turns, round by round, so that a machine that changes its speed changes both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Literal

from attrs import field, frozen
from rich.console import Console
from rich.table import Table


@frozen
class Figure:
    """One line of a table: what was asked, what was reached, and the floor beside it."""

    what: str
    reached: float
    unit: str
    #: The figure to reach, in `unit`; None where the floor alone is asked for.
    asked: float | None = None
    better: Literal["more", "less"] = "less"
    floor: float | None = None
    #: The most that reached/floor may be.
    within: float | None = None
    remark: str = field(default="", kw_only=True)

    @property
    def ratio(self) -> float | None:
        """How many times the floor it costs."""
        if not self.floor:
            return None
        return self.reached / self.floor if self.better == "less" else self.floor / self.reached

    @property
    def wanted(self) -> str:
        """What was asked, in words; empty where nothing was."""
        asked = [] if self.asked is None else [f"{'≥' if self.better == 'more' else '≤'} {number(self.asked)}"]
        asked += [] if self.within is None else [f"≤ {self.within:g} × floor"]
        return ", ".join(asked)

    @property
    def met(self) -> bool:
        """Whether it is as good as was asked."""
        good = True
        if self.asked is not None:
            good = self.reached >= self.asked if self.better == "more" else self.reached <= self.asked
        if self.within is not None and self.ratio is not None:
            good = good and self.ratio <= self.within
        return good


def rounds(*works: Callable[[], int], times: int = 7) -> list[float]:
    """Microseconds a call of each work, the median of so many rounds in turn; a work returns how many calls it made."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(times):
        for work, into in zip(works, taken, strict=True):
            began = time.perf_counter()
            calls = work()
            into.append((time.perf_counter() - began) / calls * 1e6)
    return [median(into) for into in taken]


def seconds(work: Callable[[], object], times: int = 5) -> float:
    """Seconds of one call, the median of so many."""
    return rounds(lambda: (work(), 1)[1], times=times)[0] / 1e6


def show(title: str, figures: list[Figure]) -> None:
    """Print the figures as a table."""
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    table.add_column("what", min_width=44)
    for column in ("asked", "reached", "floor", "× floor"):
        table.add_column(column, justify="right")
    table.add_column("", justify="center")
    for figure in figures:
        table.add_row(
            figure.what + (f" [dim]({figure.remark})[/dim]" if figure.remark else ""),
            figure.wanted,
            f"{number(figure.reached)} {figure.unit}",
            "" if figure.floor is None else number(figure.floor),
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            "[green]✓[/green]" if figure.met else "[red]✗[/red]",
        )
    Console(width=140).print(table)


def number(value: float) -> str:
    """A figure as it is shown: three digits, or whole thousands."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
