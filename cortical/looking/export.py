"""A tree of loops as a drawing: text, Mermaid, dot, or JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

import msgspec

from cortical.core.drawing import SIGNS, Box, dot, mermaid
from cortical.core.errors import InvalidInput
from cortical.core.run import Run
from cortical.core.safe_text import one_line
from cortical.looking.plain import tree_as_plain
from cortical.looking.why import why_it_stands

Format = Literal["tree", "mermaid", "dot", "json"]


def export(run: Run, format: Format) -> str:
    """`run` and all below it, drawn in `format`.

    Raises:
        InvalidInput: there is no such format.
    """
    draw = _DRAWINGS.get(format)
    if draw is None:
        raise InvalidInput(f"{format!r} is no export format; choose {', '.join(get_args(Format))}")
    return draw(run)


def _tree(top: Run) -> str:
    lines = []
    waiting = [(top, "", "")]
    while waiting:
        run, lead, lead_below = waiting.pop()
        phase = _phase(run)
        why = why_it_stands(run)
        why = f" – {one_line(why)}" if why else ""
        lines.append(f"{lead}{SIGNS[run.status]} {run.id[:8]} [{run.status.value}{phase}] {one_line(run.name)}{why}")
        children = run.children
        for child in reversed(children):
            last = child is children[-1]
            waiting.append(
                (child, lead_below + ("└── " if last else "├── "), lead_below + ("    " if last else "│   "))
            )
    return "\n".join(lines)


def _phase(run: Run) -> str:
    if run.visit is None:
        return ""
    return f" {run.place}" + (f" #{run.visit.turn}" if run.visit.turn > 1 else "")


def _mermaid(top: Run) -> str:
    return mermaid(*_drawn(top))


def _dot(top: Run) -> str:
    return dot(*_drawn(top), "loops")


def _json(top: Run) -> str:
    return msgspec.json.format(msgspec.json.encode(tree_as_plain(top)), indent=2).decode()


def _drawn(top: Run) -> tuple[list[Box], list[tuple[int, int]]]:
    runs = list(top.tree.walk(top))
    number_of = {run.id: number for number, run in enumerate(runs)}
    edges = [(number_of[run.parent.id], number) for number, run in enumerate(runs) if number and run.parent]
    return [_box(run) for run in runs], edges


def _box(run: Run) -> Box:
    place = f" · {run.place}" if run.place else ""
    return Box(run.name, f"{run.id[:8]} · {run.status.value}{place}", run.status)


_DRAWINGS: Final[dict[str, Callable[[Run], str]]] = {"tree": _tree, "mermaid": _mermaid, "dot": _dot, "json": _json}
