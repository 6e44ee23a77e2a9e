"""A tree of loops as a drawing: text, Mermaid, dot, or JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, get_args

import msgspec

from cortical.core.errors import InvalidInput
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.reasoning.plain import tree_as_plain
from cortical.reasoning.safe_text import one_line
from cortical.reasoning.why import why_it_stands

Format = Literal["tree", "mermaid", "dot", "json"]

#: How each status is drawn: a sign for text, a fill colour for graphs.
SIGNS: Final = {
    Status.NOT_STARTED: "·",
    Status.ACTIVE: "▶",
    Status.PAUSED: "⏸",
    Status.BLOCKED: "■",
    Status.COMPLETED: "✓",
    Status.FAILED: "✗",
    Status.SKIPPED: "↷",
    Status.ABANDONED: "⊘",
}
_FILLS: Final = {
    Status.NOT_STARTED: "#eeeeee",
    Status.ACTIVE: "#cfe8ff",
    Status.PAUSED: "#fff3c4",
    Status.BLOCKED: "#ffd8b5",
    Status.COMPLETED: "#d3f2d3",
    Status.FAILED: "#ffcccc",
    Status.SKIPPED: "#e6e6fa",
    Status.ABANDONED: "#dddddd",
}


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
    numbers = _numbered(top)
    lines = ["graph TD"]
    for run, number in numbers:
        label = f"{one_line(run.name)}<br/>{run.id[:8]} · {run.status.value}{' · ' + run.place if run.place else ''}"
        lines.append(f'    n{number}["{_mermaid_text(label)}"]:::{run.status.value}')
    lines += [f"    n{parent} --> n{child}" for parent, child in _edges(numbers)]
    lines += [f"    classDef {status.value} fill:{fill},stroke:#555;" for status, fill in _FILLS.items()]
    return "\n".join(lines)


def _dot(top: Run) -> str:
    numbers = _numbered(top)
    lines = ["digraph loops {", "    node [shape=box, style=filled, fontname=sans];"]
    for run, number in numbers:
        standing = f"{run.id[:8]} · {run.status.value}{' · ' + run.place if run.place else ''}"
        lines.append(f'    n{number} [label="{_dot_text(run.name)}\\n{standing}", fillcolor="{_FILLS[run.status]}"];')
    lines += [f"    n{parent} -> n{child};" for parent, child in _edges(numbers)]
    return "\n".join([*lines, "}"])


def _json(top: Run) -> str:
    return msgspec.json.format(msgspec.json.encode(tree_as_plain(top)), indent=2).decode()


def _numbered(top: Run) -> list[tuple[Run, int]]:
    return [(run, number) for number, run in enumerate(top.tree.walk(top))]


def _edges(numbers: Sequence[tuple[Run, int]]) -> list[tuple[int, int]]:
    number_of = {run.id: number for run, number in numbers}
    return [(number_of[run.parent.id], number) for run, number in numbers[1:] if run.parent]


def _mermaid_text(text: str) -> str:
    escaped = text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
    return escaped.replace("#lt;br/#gt;", "<br/>", 1)


def _dot_text(text: str) -> str:
    return one_line(text).replace("\\", "\\\\").replace('"', '\\"')


_DRAWINGS: Final[dict[str, Callable[[Run], str]]] = {"tree": _tree, "mermaid": _mermaid, "dot": _dot, "json": _json}
