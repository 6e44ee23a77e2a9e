"""A tree of loops as a drawing: text, Mermaid, dot, or JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import msgspec

from cortical.core.codec import to_plain
from cortical.core.errors import EncodeError, InvalidInput
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome, Skipped
from cortical.core.run import Run
from cortical.core.status import Status

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


def why_it_stands(run: Run) -> str:
    """What there is to say about a run's status: why it is paused or blocked, or how it ended. Empty when nothing."""
    match run.outcome:
        case None:
            return run.why
        case Ok():
            return run.reason.value if run.reason and run.reason.value != "success" else ""
        case Failed(error=error):
            return f"{error.type}: {error.message}"
        case Skipped(reason=reason) | Abandoned(reason=reason):
            return reason


def _tree(top: Run) -> str:
    lines = []
    waiting = [(top, "", "")]
    while waiting:
        run, lead, lead_below = waiting.pop()
        phase = _phase(run)
        why = why_it_stands(run)
        why = f" – {_line(why)}" if why else ""
        lines.append(f"{lead}{SIGNS[run.status]} {run.id[:8]} [{run.status.value}{phase}] {_line(run.name)}{why}")
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
        label = f"{_line(run.name)}<br/>{run.id[:8]} · {run.status.value}{' · ' + run.place if run.place else ''}"
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
    plain = [as_plain(run) for run in top.tree.walk(top)]
    return msgspec.json.format(msgspec.json.encode({"root": top.id, "loops": plain}), indent=2).decode()


def as_plain(run: Run) -> dict[str, Any]:
    """A run as plain values, for JSON: times in ISO 8601, a value that cannot be written as its repr."""
    return {
        "id": run.id,
        "parent_id": run.parent_id,
        "kind": run.kind,
        "goal": run.name,
        "depth": run.depth,
        "status": run.status.value,
        "phase": run.place,
        "turn": run.visit.turn if run.visit else None,
        "visits": [
            {
                "phase": visit.place,
                "turn": visit.turn,
                "entered_at": _iso(visit.entered_at),
                "left_at": _iso(visit.left_at),
                "reason": visit.reason,
                "entries": [{"topic": entry.topic, "value": _plain(entry.value)} for entry in run.entries_of(index)],
            }
            for index, visit in enumerate(run.visits)
        ],
        "metadata": _plain(run.data or {}),
        "children": [child.id for child in run.children],
        "why": why_it_stands(run),
        "started_at": _iso(run.started_at),
        "ended_at": _iso(run.ended_at),
        "reason": run.reason.value if run.reason else None,
        "outcome": _outcome(run.outcome),
    }


def _outcome(outcome: Outcome | None) -> Any:
    if isinstance(outcome, Ok):
        return {"ok": _plain(outcome.value)}
    if isinstance(outcome, Failed):
        return {"failed": {"type": outcome.error.type, "message": outcome.error.message, "attempts": outcome.attempts}}
    return None if outcome is None else {type(outcome).__name__.lower(): outcome.reason}


def _plain(value: Any) -> Any:
    try:
        return to_plain(value)
    except EncodeError:
        return repr(value)


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def _numbered(top: Run) -> list[tuple[Run, int]]:
    return [(run, number) for number, run in enumerate(top.tree.walk(top))]


def _edges(numbers: Sequence[tuple[Run, int]]) -> list[tuple[int, int]]:
    number_of = {run.id: number for run, number in numbers}
    return [(number_of[run.parent.id], number) for run, number in numbers[1:] if run.parent]


def _line(text: str) -> str:
    return " ".join(text.split())


def _mermaid_text(text: str) -> str:
    escaped = text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
    return escaped.replace("#lt;br/#gt;", "<br/>", 1)


def _dot_text(text: str) -> str:
    return _line(text).replace("\\", "\\\\").replace('"', '\\"')


_DRAWINGS: Final[dict[str, Callable[[Run], str]]] = {"tree": _tree, "mermaid": _mermaid, "dot": _dot, "json": _json}
