"""A pipeline as a drawing: text, Mermaid, dot; with the status and the seconds of each stage where a run is given.

And a run of it as a Gantt chart: an SVG, drawn by matplotlib (the extra ``charts``).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from attrs import frozen

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
        return {one.id: _standing(one) for one in run.stages.values()}
    found: dict[str, Standing] = {}
    for child in run.children:
        began = child.visits[0].entered_at if child.visit is not None else None
        found[str((child.metadata or {}).get("key", child.name))] = Standing(child.status, began, child.ended_at)
    return found


def _standing(stage: StageResult) -> Standing:
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


def gantt(run: Run | PipelineResult) -> str:
    """A pipeline's run or result as a Gantt chart in SVG: a bar for each stage that has begun, in the order they began.

    A stage that still runs reaches to the last moment that the run knows of.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    matplotlib = require_extra("matplotlib", "charts", "drawing a Gantt chart")
    require_extra("matplotlib.backends.backend_svg", "charts", "drawing a Gantt chart")
    figures = require_extra("matplotlib.figure", "charts", "drawing a Gantt chart")
    begun = [(name, one) for name, one in standings(run).items() if one.started_at is not None]
    begun.sort(key=lambda named: named[1].started_at or 0.0)
    out = io.StringIO()
    # The same run gives the same file: no ids by chance, no date; and text that can be searched.
    style = {"svg.hashsalt": "cortical", "svg.fonttype": "none"}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # A letter that the font for measuring lacks is there in that of whoever looks at the chart.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure = figures.Figure(figsize=(10, 1 + 0.35 * max(1, len(begun))), layout="constrained")
        _bars(figure.subplots(), begun, run)
        figure.savefig(out, format="svg", metadata={"Date": None, "Title": one_line(run.name)})
    return out.getvalue()


def _bars(axes: Any, begun: list[tuple[str, Standing]], run: Run | PipelineResult) -> None:
    zero = begun[0][1].started_at or 0.0 if begun else 0.0
    moments = [moment for _, one in begun for moment in (one.started_at, one.ended_at) if moment is not None]
    last = run.tree.at if isinstance(run, Run) else max(moments, default=0.0)
    for number, (_, one) in enumerate(begun):
        start = (one.started_at or 0.0) - zero
        length = (one.ended_at or max(last, zero + start)) - zero - start
        axes.barh(number, length, left=start, color=FILLS[one.status], edgecolor="#555555", height=0.7)
        # A bar may be too short for its words, so they stand beside it.
        axes.annotate(f" {SIGNS[one.status]} {seconds_text(length)}", (start + length, number), va="center", fontsize=8)
    # "$" would begin a formula.
    names = [one_line(name).replace("$", r"\$") for name, _ in begun]
    axes.set_yticks(range(len(begun)), names)
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
