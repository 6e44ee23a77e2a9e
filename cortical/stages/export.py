"""A pipeline as a drawing: text, Mermaid, dot; with the status and the seconds of each stage where a run is given.

And a run of it, or any other run with what is below it, as a Gantt chart: an SVG, drawn by matplotlib (the extra
``charts``).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from attrs import frozen

from cortical.core.checks import require_count
from cortical.core.drawing import FILLS, SIGNS, Box, dot, mermaid, seconds_text
from cortical.core.errors import InvalidInput
from cortical.core.extras import require_extra
from cortical.core.outcome import STATUS_OF
from cortical.core.run import Run
from cortical.core.safe_text import one_line
from cortical.core.status import Status
from cortical.stages.results import PipelineResult, StageResult

if TYPE_CHECKING:
    from cortical.stages.pipeline import Pipeline

Format = Literal["text", "mermaid", "dot"]


@frozen
class Standing:
    """How a stage stands in a run, and from when until when it worked; None where it has not, or not yet ended."""

    status: Status = Status.NOT_STARTED
    started_at: float | None = None
    ended_at: float | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took; None until it has ended, and for one that never began."""
        if self.started_at is None or self.ended_at is None:
            return None
        return self.ended_at - self.started_at


def standings(run: Run | PipelineResult) -> dict[str, Standing]:
    """By stage id, how the stages of a pipeline stand: the children of its run, or what came of them."""
    if isinstance(run, PipelineResult):
        return {one.id: _standing_of(one) for one in run.stages.values()}
    return {child.name: _standing(child) for child in run.children}


def _standing(run: Run) -> Standing:
    began = run.visits[0].entered_at if run.visit is not None else None
    return Standing(run.status, began, run.ended_at)


def _standing_of(stage: StageResult) -> Standing:
    if stage.outcome is None:
        return Standing(Status.NOT_STARTED if stage.started_at is None else Status.ACTIVE, stage.started_at)
    return Standing(STATUS_OF[type(stage.outcome)], stage.started_at, stage.ended_at)


def export(pipeline: Pipeline, format: Format = "text", run: Run | PipelineResult | None = None) -> str:
    """A pipeline drawn in `format`, without a line end at its end.

    Args:
        run: a run of it, or its result: status and seconds are drawn too.

    Raises:
        InvalidInput: there is no such format.
        DependencyCycle: stages wait for each other.
    """
    draw = _DRAWINGS.get(format)
    if draw is None:
        raise InvalidInput(f"{format!r} is no export format; choose {', '.join(get_args(Format))}")
    return draw(pipeline, {} if run is None else standings(run))


def gantt(run: Run | PipelineResult, *, levels: int = 1, most: int | None = None) -> str:
    """A run as a Gantt chart in SVG: of a pipeline a bar for each stage that has begun, in the order they began.

    Of other runs a bar for each child; with more levels the bars of a run's own children follow it, their names further
    to the right. What still runs reaches to the last moment that the run knows of.

    Args:
        levels: how many levels below the run are drawn.
        most: how many children of one run are drawn, the last of which then stands for all the others; all by default.

    Raises:
        WrongType, InvalidInput: `levels` or `most` is no whole number from 1 on.
        MissingExtra: matplotlib is not installed.
    """
    require_count(levels, "levels", 1)
    if most is not None:
        require_count(most, "most", 1)
    matplotlib = require_extra("matplotlib", "charts", "drawing a Gantt chart")
    require_extra("matplotlib.backends.backend_svg", "charts", "drawing a Gantt chart")
    figures = require_extra("matplotlib.figure", "charts", "drawing a Gantt chart")
    bars = list(_bars(run, levels, most))
    out = io.StringIO()
    # The same run gives the same file: no ids by chance, no date; and text that can be searched.
    style = {"svg.hashsalt": "cortical", "svg.fonttype": "none"}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # A letter that the font for measuring lacks is there in that of whoever looks at the chart.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure = figures.Figure(figsize=(10, 1 + 0.35 * max(1, len(bars))), layout="constrained")
        _draw_bars(figure.subplots(), bars, run)
        figure.savefig(out, format="svg", metadata={"Date": None, "Title": one_line(run.name)})
    return out.getvalue()


@frozen
class _Bar:
    """One bar of a chart: its name, how many levels below the top it is, and whether bars of its children follow."""

    name: str
    level: int
    standing: Standing
    parts: bool = False


def _bars(run: Run | PipelineResult, levels: int, most: int | None) -> Iterator[_Bar]:
    if isinstance(run, Run):
        return _bars_below(run, levels, most)
    begun = [(name, one) for name, one in standings(run).items() if one.started_at is not None]
    begun.sort(key=lambda pair: pair[1].started_at or 0.0)
    return iter([_Bar(name, 0, one) for name, one in begun])


def _bars_below(run: Run, levels: int, most: int | None, level: int = 0) -> Iterator[_Bar]:
    begun = [child for child in run.children if child.visit is not None]
    begun.sort(key=lambda child: child.visits[0].entered_at)
    drawn = len(begun) if most is None or len(begun) <= most else most - 1
    for child in begun[:drawn]:
        below = list(_bars_below(child, levels, most, level + 1)) if level + 1 < levels else []
        yield _Bar(child.name, level, _standing(child), bool(below))
        yield from below
    if rest := begun[drawn:]:
        yield _Bar(f"{len(rest):,} more", level, _all_of([_standing(child) for child in rest]))


def _all_of(some: Sequence[Standing]) -> Standing:
    """Several as one: at work while one of them is, and with success when all of them ended so."""
    began = min(one.started_at for one in some if one.started_at is not None)
    ended = [one.ended_at for one in some if one.ended_at is not None]
    if len(ended) < len(some):
        return Standing(Status.ACTIVE, began)
    worst = next((one.status for one in some if one.status is not Status.COMPLETED), Status.COMPLETED)
    return Standing(worst, began, max(ended))


def _draw_bars(axes: Any, bars: Sequence[_Bar], run: Run | PipelineResult) -> None:
    zero = bars[0].standing.started_at or 0.0 if bars else 0.0
    moments = [
        moment for bar in bars for moment in (bar.standing.started_at, bar.standing.ended_at) if moment is not None
    ]
    last = run.tree.at if isinstance(run, Run) else max(moments, default=0.0)
    lowest = max((bar.level for bar in bars), default=0)
    for number, bar in enumerate(bars):
        one = bar.standing
        start = (one.started_at or 0.0) - zero
        length = (one.ended_at or max(last, zero + start)) - zero - start
        height = 0.3 if bar.parts else 0.7
        axes.barh(number, length, left=start, color=FILLS[one.status], edgecolor="#555555", height=height)
        # A bar may be too short for its words, so they stand beside it.
        axes.annotate(f" {SIGNS[one.status]} {seconds_text(length)}", (start + length, number), va="center", fontsize=8)
    # "$" would begin a formula. The names end at the axis; spaces that do not collapse shift those of higher levels.
    names = [one_line(bar.name).replace("$", r"\$") + "\N{NO-BREAK SPACE}" * 4 * (lowest - bar.level) for bar in bars]
    axes.set_yticks(range(len(bars)), names)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("seconds")
    axes.set_title(one_line(run.name).replace("$", r"\$"))
    axes.spines[["top", "right"]].set_visible(False)


def _text(pipeline: Pipeline, stand: Mapping[str, Standing]) -> str:
    above = pipeline.dependencies.graph.pred
    lines = [one_line(pipeline.name)]
    for number, wave in enumerate(pipeline.waves(), 1):
        for stage_id in wave:
            one = stand.get(stage_id)
            sign = f"{SIGNS[one.status]} " if one else ""
            after = f" ← {', '.join(map(one_line, above[stage_id]))}" if above[stage_id] else ""
            lead = f"{number:>3} " if stage_id == wave[0] else "    "
            lines.append(f"{lead} {sign}{one_line(stage_id)}{after}{f'  {_took(one)}' if one else ''}".rstrip())
    return "\n".join(lines)


def _took(one: Standing) -> str:
    seconds = "" if one.seconds is None else f" · {seconds_text(one.seconds)}"
    return f"[{one.status.value}{seconds}]"


def _boxes(pipeline: Pipeline, stand: Mapping[str, Standing]) -> tuple[list[Box], list[tuple[int, int]]]:
    order = pipeline.order()
    number = {stage_id: n for n, stage_id in enumerate(order)}
    edges = [(number[one], number[other]) for one, other in pipeline.dependencies.graph.edges]
    return [_box(stage_id, stand.get(stage_id)) for stage_id in order], sorted(edges)


def _box(stage_id: str, one: Standing | None) -> Box:
    return Box(stage_id, _took(one)[1:-1] if one else "", one.status if one else Status.NOT_STARTED)


def _mermaid(pipeline: Pipeline, stand: Mapping[str, Standing]) -> str:
    return mermaid(*_boxes(pipeline, stand), direction="LR")


def _dot(pipeline: Pipeline, stand: Mapping[str, Standing]) -> str:
    return dot(*_boxes(pipeline, stand), "pipeline")


_DRAWINGS: Final[dict[str, Callable[[Pipeline, Mapping[str, Standing]], str]]] = {
    "text": _text,
    "mermaid": _mermaid,
    "dot": _dot,
}
