"""A process as a drawing: its stages, their loops, iterations and substages, with status and seconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from cortical.core.drawing import SIGNS, Box, mermaid
from cortical.core.errors import InvalidInput
from cortical.core.run import Run
from cortical.core.safe_text import one_line
from cortical.core.status import Status
from cortical.stages.loop.summary import error_text
from cortical.stages.loop.views import Books, Line, StageView, attempt_of, number_of

FORMATS: Final = ("text", "mermaid", "json")
#: How many iterations of a loop are drawn, the first of them apart, before the rest is only counted.
_MOST_DRAWN: Final = 20


def export(process: Run, at: float, books: Books, format: str) -> str:
    """A process, drawn.

    Raises:
        InvalidInput: there is no such format.
    """
    if format == "text":
        return "\n".join(_text(process, at, books))
    if format == "mermaid":
        return _mermaid(process, at, books)
    if format == "json":
        return msgspec.json.format(msgspec.json.encode(_plain(process, at, books)), indent=2).decode()
    raise InvalidInput(f"{format!r} is no export format; choose {', '.join(FORMATS)}")


def _drawn(view: StageView) -> Iterator[Run | int]:
    """The iterations that are drawn, and in their place how many are left out."""
    runs = view.runs
    if len(runs) <= _MOST_DRAWN:
        yield from runs
        return
    yield runs[0]
    yield len(runs) - _MOST_DRAWN
    yield from runs[1 - _MOST_DRAWN :]


# Text


def _text(process: Run, at: float, books: Books) -> Iterator[str]:
    yield _line(process, process.name, at)
    names = list(books.config.stages)
    for name in names:
        last = name == names[-1]
        lead, below = ("└── ", "    ") if last else ("├── ", "│   ")
        view = books.stage(process, name)
        if view is None:
            yield f"{lead}{SIGNS[Status.NOT_STARTED]} {one_line(name)}"
            continue
        yield lead + _line(view.run, name, at)
        for line in _text_of_stage(view, at):
            yield below + line


def _text_of_stage(view: StageView, at: float) -> Iterator[str]:
    if view.config.loop is None:
        for run in view.runs:
            yield _line(run, run.name, at)
        return
    for one in _drawn(view):
        if isinstance(one, int):
            yield f"… {one:,} iterations more"
            continue
        signs = "".join(SIGNS[step.status] for step in Line.of(one).by_name.values())
        yield _line(one, _iteration_name(view, one), at) + (f"  {signs}" if signs else "")


def _line(run: Run, name: str, at: float) -> str:
    error = error_text(run)
    why = f" – {one_line(error)}" if error else ""
    return f"{SIGNS[run.status]} {one_line(name)} {_seconds(run, at)}{why}"


def _iteration_name(view: StageView, run: Run) -> str:
    attempt = f", attempt {attempt_of(run)}" if attempt_of(run) > 1 else ""
    undone = view.undone.get(run.id)
    back = ", rolled back" if undone is not None and undone["rolled_back"] else ""
    return f"iteration {number_of(run)}{attempt}{back}"


def _seconds(run: Run, at: float) -> str:
    return f"{run.seconds(at):.2f} s"


# Mermaid


def _mermaid(process: Run, at: float, books: Books) -> str:
    boxes = [Box(process.name, _standing(process, at), process.status)]
    edges: list[tuple[int, int]] = []

    def draw(above: int, name: str, standing: str, status: Status) -> int:
        boxes.append(Box(name, standing, status))
        edges.append((above, len(boxes) - 1))
        return len(boxes) - 1

    for name in books.config.stages:
        view = books.stage(process, name)
        if view is None:
            draw(0, name, "", Status.NOT_STARTED)
            continue
        stage = draw(0, name, _standing(view.run, at), view.run.status)
        for one in _drawn(view):
            if isinstance(one, int):
                draw(stage, f"… {one:,} iterations more", "", Status.COMPLETED)
                continue
            loops = view.config.loop is not None
            box = draw(stage, _iteration_name(view, one) if loops else one.name, _standing(one, at), one.status)
            for step in _steps(one) if loops else ():
                draw(box, step.name, _standing(step, at), step.status)
    return mermaid(boxes, edges)


def _steps(run: Run) -> list[Run]:
    return Line.of(run).runs


def _standing(run: Run, at: float) -> str:
    return f"{run.status.value}, {_seconds(run, at)}"


# JSON


def _plain(process: Run, at: float, books: Books) -> dict[str, Any]:
    stages = []
    for name in books.config.stages:
        view = books.stage(process, name)
        if view is None:
            stages.append({"name": name, "status": Status.NOT_STARTED.value})
            continue
        told = _told(view.run, at)
        if view.config.loop is None:
            told["substages"] = [_told(run, at) for run in view.runs]
        else:
            told["iterations"] = [_iteration(view, run, at) for run in view.runs]
        stages.append(told)
    return {**_told(process, at), "stages": stages}


def _iteration(view: StageView, run: Run, at: float) -> dict[str, Any]:
    undone = view.undone.get(run.id)
    return {
        **_told(run, at),
        "number": number_of(run),
        "attempt": attempt_of(run),
        "rolled_back": undone is not None and bool(undone["rolled_back"]),
        "substages": [_told(step, at) for step in _steps(run)],
    }


def _told(run: Run, at: float) -> dict[str, Any]:
    status, seconds = run.status.value, run.seconds(at)
    return {"name": run.name, "id": run.id, "status": status, "seconds": seconds, "error": error_text(run)}
