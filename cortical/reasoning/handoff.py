"""A Markdown page for whoever takes a loop over, made from the loop's own record.

Text that people or models wrote is escaped, so that a goal such as ``# done`` neither becomes a heading nor
breaks one; values that are not text are shown as Python writes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cortical.core.drawing import SIGNS
from cortical.core.events import Noted
from cortical.core.outcome import Failed
from cortical.core.run import Run, Visit
from cortical.core.safe_text import written
from cortical.core.status import Status
from cortical.core.times import to_datetime
from cortical.core.topics import ANSWER, ARTIFACT, DECISION, NOTE, QUESTION
from cortical.looking.why import why_it_stands
from cortical.reasoning.cognitive_loop import CognitiveLoop
from cortical.reasoning.phases import TIME_BOX_MINUTES

_MOST_SHOWN: Final = 2_000
_LAST_STEPS: Final = 5

_TO_DO: Final = {
    "question": "settle what is asked, then move to ANSWER",
    "answer": "record what was found and decided, and why; then move to PRODUCE, or back to QUESTION",
    "produce": "make what was decided and record it as artifacts; then move to VERIFY",
    "verify": "note what was checked; then complete the loop, or begin the next turn at QUESTION",
}

# An underscore between letters or digits is no mark-up: max_depth stays as it is.
_MARK_UP: Final = re.compile(r"[\\`*\[\]<|~$#]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")
_LINE_START: Final = re.compile(r"^(\d*)([.)]|(?<!\d)[-+=>])")
_UNSHOWABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_Said = tuple[Noted, Visit]


def handoff(loop: CognitiveLoop) -> str:
    """The page. A section that would be empty says so if its emptiness is news, and is left out if not."""
    run = loop.run
    now = loop.journal.clock.time()
    with loop.journal.holding(run.tree):
        said = [(entry, visit) for index, visit in enumerate(run.visits) for entry in run.entries_of(index)]
        open_questions, earlier_questions = _questions(said)
        sections = [
            ("Where it stands", list(_standing(run, now)), ""),
            ("What comes next", [_next(run)], ""),
            ("Decisions", [_decision(*pair) for pair in said if pair[0].topic == DECISION], "None recorded."),
            ("Answers", _noted(said, ANSWER), ""),
            ("Open questions", open_questions, "None: something was answered or decided after each."),
            ("Earlier questions", earlier_questions, ""),
            ("Blockers", list(_blockers(run)), "None."),
            ("Artifacts", _noted(said, ARTIFACT), "None recorded."),
            ("Children", _children(run), ""),
            ("Notes", _noted(said, NOTE), ""),
            ("Last steps", _last_steps(run), ""),
        ]
    if not open_questions and not earlier_questions:
        sections[4] = ("Open questions", [], "None were raised.")
    lines = [f"# Handoff: {_line(run.name)}"]
    for title, content, otherwise in sections:
        if content or otherwise:
            lines += ["", f"## {title}", "", *(content or [otherwise])]
    return "\n".join([*lines, ""])


# Sections, each as lines


def _standing(run: Run, now: float) -> Iterator[str]:
    yield f"- **Loop:** {_code(run.id)}"
    yield f"- **Status:** {_status(run)}"
    if isinstance(run.outcome, Failed) and run.outcome.causes:
        root = run.outcome.root
        yield f"- **Root cause:** {_line(str(root))}"
    if run.value is not None:
        yield f"- **Result:** {_shown(run.value)}"
    if run.visit is not None:
        yield f"- **Phase:** {_place(run, run.visit, now)}"
    if run.ended_at is not None:
        took = _length(run.ended_at - run.started_at)
        yield f"- **Took:** {took}, from {_moment(run.started_at)} to {_moment(run.ended_at)}"
    else:
        yield f"- **Age:** {_length(now - run.started_at)}, since {_moment(run.started_at)}"
    if run.parent_id is not None:
        goal = f" – {_line(run.parent.name)}" if run.parent else ""
        yield f"- **Parent:** {_code(run.parent_id)}{goal}"


def _place(run: Run, visit: Visit, now: float) -> str:
    left = visit.left_at
    stayed = max(0.0, (now if left is None else left) - visit.entered_at)
    place = f"{visit.place.upper()}, visit {visit.turn}, "
    place += f"for {_length(stayed)}" if left is None else f"left after {_length(stayed)}"
    box = float(run.metadata.get("time_box_minutes", TIME_BOX_MINUTES))
    return f"{place}; overdue, its time box is {box:g} min" if stayed > box * 60 else place


def _next(run: Run) -> str:
    if run.reason is not None:
        well = run.status is Status.COMPLETED
        return "Nothing: it is done." if well else "Nothing here: start another loop if the goal still stands."
    if run.visit is None:
        return "Start it: nothing has been done yet."
    to_do = _TO_DO.get(run.visit.place, "go on with what it is for")
    phase = f"It stands in {run.visit.place.upper()}: {to_do}."
    if run.waits_for_children:
        return f"Finish its open children; it becomes active again when the last has ended. {phase}"
    if run.status is Status.PAUSED:
        return f"Resume it. {phase}"
    if run.status is Status.BLOCKED:
        return f"Remove what blocks it, then resume it. {phase}"
    if run.open_children:
        return f"{phase} It cannot complete before its open children have ended."
    return phase


def _decision(entry: Noted, visit: Visit) -> str:
    noted = entry.value if isinstance(entry.value, Mapping) else {}
    decision = noted.get("decision", entry.value)
    what = _line(decision) if isinstance(decision, str) else _shown(decision)
    why = noted.get("rationale") or "no reason given"
    return f"- **{what}** – {_shown(why)} {_when(entry, visit)}"


def _noted(said: Sequence[_Said], topic: str) -> list[str]:
    return [f"- {_shown(entry.value)} {_when(entry, visit)}" for entry, visit in said if entry.topic == topic]


def _questions(said: Sequence[_Said]) -> tuple[list[str], list[str]]:
    """The questions after which nothing was answered or decided, and those before; a record tells no more."""
    last = max((number for number, (entry, _) in enumerate(said) if entry.topic in (ANSWER, DECISION)), default=-1)
    earlier = _noted(said[: last + 1], QUESTION)
    if earlier:
        earlier[:0] = ["Something was answered or decided after these; the record does not say which it settled.", ""]
    return _noted(said[last + 1 :], QUESTION), earlier


def _blockers(run: Run) -> Iterator[str]:
    if run.status is Status.BLOCKED:
        yield f"- {_shown(run.why)}"
    for child in run.children:
        if child.status is Status.BLOCKED:
            yield f"- Its child {_code(child.id)}, {_line(child.name)}: {_shown(child.why)}"


def _children(run: Run) -> list[str]:
    if not run.children:
        return [f"- {_code(child)}: its record is not here" for child in run.metadata.get("child_ids", ())]
    return [
        f"- {SIGNS[child.status]} {_line(child.name)} ({_code(child.id)}): {_child(child)}" for child in run.children
    ]


def _child(child: Run) -> str:
    if child.value is not None:
        return f"{_status(child)}, with {_shown(child.value)}"
    return _status(child, f" in {child.visit.place.upper()}" if child.visit and child.reason is None else "")


def _last_steps(run: Run) -> list[str]:
    visits = run.visits
    lines = []
    for index in range(max(0, len(visits) - _LAST_STEPS), len(visits)):
        visit = visits[index]
        origin = visits[index - 1].place if index else "begun"
        reason = f" – {_shown(visit.reason)}" if visit.reason else ""
        lines.append(f"- {_moment(visit.entered_at)}: {origin} → {visit.place}{reason}")
    return [f"The last {len(lines)} of {len(visits)}:", "", *lines] if len(lines) < len(visits) else lines


# Words


def _status(run: Run, where: str = "") -> str:
    status = run.status.value.replace("_", " ") + where
    if run.reason is not None:
        status = f"{status} ({run.reason.value})"
    why = why_it_stands(run)
    return f"{status} – {_line(why)}" if why and not (run.reason and why == run.reason.value) else status


def _when(entry: Noted, visit: Visit) -> str:
    return f"*({visit.place} {visit.turn}, {_moment(entry.at)})*"


def _moment(at: float) -> str:
    return f"{to_datetime(at):%Y-%m-%d %H:%M} UTC"


def _length(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


# Markdown


def _shown(value: Any) -> str:
    """A value inside a list item: text with its line breaks, anything else as code."""
    if not isinstance(value, str):
        return _code(written(value))
    cut, rest = _cut(value)
    lines = [line for line in map(_line, cut.splitlines()) if line]
    return ("\\\n  ".join(lines) or "(empty)") + rest


def _line(text: str) -> str:
    """Text as one line without mark-up."""
    flat = _UNSHOWABLE.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
    return _LINE_START.sub(r"\1\\\2", _MARK_UP.sub(r"\\\g<0>", flat))


def _code(text: str) -> str:
    cut, rest = _cut(_UNSHOWABLE.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split())))
    longest = max((len(run) for run in re.findall("`+", cut)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{cut}{pad}{fence}{rest}"


def _cut(text: str) -> tuple[str, str]:
    if len(text) <= _MOST_SHOWN:
        return text, ""
    return text[:_MOST_SHOWN], f" … ({_MOST_SHOWN:,} of {len(text):,} characters)"
