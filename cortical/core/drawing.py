"""Runs as boxes and arrows: signs and colours for each status, and the two languages in which graphs are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from attrs import frozen

from cortical.core.safe_text import one_line
from cortical.core.status import Status

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
FILLS: Final = {
    Status.NOT_STARTED: "#eeeeee",
    Status.ACTIVE: "#cfe8ff",
    Status.PAUSED: "#fff3c4",
    Status.BLOCKED: "#ffd8b5",
    Status.COMPLETED: "#d3f2d3",
    Status.FAILED: "#ffcccc",
    Status.SKIPPED: "#e6e6fa",
    Status.ABANDONED: "#dddddd",
}


def seconds_text(seconds: float) -> str:
    """How long something took, for people: 0.013 s, 4.25 s, 3 min 7 s."""
    if seconds >= 3600:
        return f"{seconds // 3600:,.0f} h {seconds % 3600 // 60:.0f} min"
    if seconds >= 60:
        return f"{seconds // 60:.0f} min {int(seconds % 60)} s"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds:.3f}".rstrip("0").rstrip(".") + " s"


@frozen
class Box:
    """One box: what it is called, how it stands in a few words, and its status, by which it is coloured."""

    name: str
    standing: str
    status: Status


def mermaid(boxes: Sequence[Box], edges: Iterable[tuple[int, int]], direction: str = "TD") -> str:
    """The boxes, with an arrow for each pair of their numbers (0, 1, …), as Mermaid reads them."""
    lines = [f"graph {direction}"]
    for number, box in enumerate(boxes):
        label = "<br/>".join(_mermaid_text(one_line(text)) for text in (box.name, box.standing) if text)
        lines.append(f'    n{number}["{label}"]:::{box.status.value}')
    lines += [f"    n{start} --> n{end}" for start, end in edges]
    lines += [f"    classDef {status.value} fill:{fill},stroke:#555;" for status, fill in FILLS.items()]
    return "\n".join(lines)


def dot(boxes: Sequence[Box], edges: Iterable[tuple[int, int]], name: str) -> str:
    """The boxes, with an arrow for each pair of their numbers (0, 1, …), as Graphviz reads them."""
    lines = [f"digraph {name} {{", "    node [shape=box, style=filled, fontname=sans];"]
    for number, box in enumerate(boxes):
        label = "\\n".join(_dot_text(text) for text in (box.name, box.standing) if text)
        lines.append(f'    n{number} [label="{label}", fillcolor="{FILLS[box.status]}"];')
    lines += [f"    n{start} -> n{end};" for start, end in edges]
    return "\n".join([*lines, "}"])


def _mermaid_text(text: str) -> str:
    return text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")


def _dot_text(text: str) -> str:
    return one_line(text).replace("\\", "\\\\").replace('"', '\\"')
