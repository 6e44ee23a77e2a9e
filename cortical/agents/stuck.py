"""Whether a loop still gets anywhere: what its log says about turns that bring nothing new.

Nothing here changes or records anything. A finding is graded by how long its pattern lasts, in turns: ``low`` when
it is only seen, ``medium`` when it has lasted as many turns as the policy allows, ``high`` when twice as many.

Two turns are alike when they brought the same answers, the same artifacts, and children with the same goals and
results. Feedback is alike when it differs in nothing but seconds, memory addresses and blanks. Turns up to the last
answer of a person are left out: what a person said is news.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile
from typing import Any, Final, Literal, TypeAlias, get_args

from attrs import field, frozen

from cortical.core.checks import checked, require_count, shown
from cortical.core.digest import print_of
from cortical.core.errors import InvalidInput
from cortical.core.phases import FIRST_PLACE
from cortical.core.run import Run
from cortical.core.topics import ANSWER, ARTIFACT, PROVIDED, VERDICT

Severity: TypeAlias = Literal["low", "medium", "high"]
Action: TypeAlias = Literal["escalate", "break", "warn"]

#: The most that a finding quotes of a feedback or goal.
_MOST_QUOTED: Final = 200

_GRADES: Final[dict[Severity, int]] = {"high": 0, "medium": 1, "low": 2}
_UNSTEADY: Final = re.compile(r"\d+(\.\d+)? ?(s|ms|sec|seconds)\b|0x[0-9a-f]+")


def _action(_: object, __: object, value: object) -> None:
    if value not in get_args(Action):
        raise InvalidInput(f"then of a Stuck is one of {', '.join(get_args(Action))}, not {shown(value)}")


@frozen
class Stuck:
    """What becomes of a loop that gets nowhere for so many turns: a person is asked, it ends, or it is only noted."""

    after_turns: int = field(default=3, validator=checked(require_count, of="a Stuck", least=2))
    then: Action = field(default="escalate", validator=_action)


@frozen
class Finding:
    """One sign that a loop gets nowhere; `evidence` holds plain values, so that it can be noted."""

    code: Literal["turns_repeat", "turns_swing", "feedback_repeats", "asked_above"]
    severity: Severity
    message: str
    evidence: dict[str, Any]


@frozen
class Turn:
    """A turn that came to VERIFY. `work` is empty when nothing was answered, made or had from children."""

    number: int
    work: tuple[bytes, ...]
    feedback: str


def judge(
    run: Run, policy: Stuck, *, feedback: str | None = None, seen: dict[int, Turn] | None = None
) -> tuple[Action, str] | None:
    """What the policy says of a loop whose work was just sent back, and why; None when it may go on.

    Args:
        feedback: that of the verdict, while it is not in the log yet.
        seen: the past turns of this loop as they were read before, changed here: they need not be read again.
    """
    grave = [one for one in findings(run, policy.after_turns, feedback=feedback, seen=seen) if one.severity != "low"]
    return (policy.then, f"stuck: {grave[0].message}") if grave else None


def findings(
    run: Run, after_turns: int = 3, *, feedback: str | None = None, seen: dict[int, Turn] | None = None
) -> list[Finding]:
    """What is seen in a loop, the gravest first; empty when it gets on.

    Args:
        after_turns: how many turns a pattern lasts before it is ``medium``.
        feedback: that of the present turn's verdict, while it is not in the log yet.
        seen: as for `judge`.
    """
    turns = _turns(run, 4 * after_turns, feedback, {} if seen is None else seen)
    found = [*_repeats(turns, after_turns), *_swings(turns, after_turns), *_same_feedback(turns, after_turns)]
    above = asked_above(run)
    if above is not None:
        found.append(_asked_again(run, above))
    return sorted(found, key=lambda one: _GRADES[one.severity])


def asked_above(run: Run) -> Run | None:
    """The nearest loop above that was asked the same: the same goal but for case, blanks and closing marks, and equal
    inputs; None when there is none.
    """
    goal, inputs = normalised(run.name), _inputs(run)
    above = run.parent
    while above is not None and (normalised(above.name) != goal or _inputs(above) != inputs):
        above = above.parent
    return above


def normalised(goal: str) -> str:
    """A goal without what makes no difference: case, blanks, and the marks it ends with."""
    return " ".join(goal.casefold().split()).rstrip(" .!?…")


# The signs


def _repeats(turns: Sequence[Turn], after_turns: int) -> Iterator[Finding]:
    if not turns or not turns[-1].work:
        return
    alike = _last_while(turns, lambda turn: turn.work == turns[-1].work)
    if len(alike) > 1:
        message = f"{_named(alike)} brought the same answers, artifacts and child results"
        yield Finding("turns_repeat", _grade(len(alike), after_turns), message, {"turns": _numbers(alike)})


def _swings(turns: Sequence[Turn], after_turns: int) -> Iterator[Finding]:
    works = [turn.work for turn in reversed(turns)]
    if len(works) < 3 or works[0] == works[1] or not (works[0] and works[1]):
        return
    back = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(works, works[2:], strict=False)))
    if back:
        swinging = turns[-(back + 2) :]
        message = f"{_named(swinging)} swing between two states of answers, artifacts and child results"
        yield Finding("turns_swing", _grade(len(swinging), after_turns), message, {"turns": _numbers(swinging)})


def _same_feedback(turns: Sequence[Turn], after_turns: int) -> Iterator[Finding]:
    if not turns or not turns[-1].feedback:
        return
    alike = _last_while(turns, lambda turn: turn.feedback == turns[-1].feedback)
    if len(alike) < 2:
        return
    # Work that changes may be a search that is still to succeed: it is given twice the time.
    searching = any(one.work != other.work for one, other in pairwise(alike))
    lasted = len(alike) // 2 if searching else len(alike)
    quoted = turns[-1].feedback[:_MOST_QUOTED]
    message = f"{_named(alike)} were sent back with the same feedback: {quoted}"
    evidence = {"turns": _numbers(alike), "feedback": quoted, "work_changed": searching}
    yield Finding("feedback_repeats", _grade(lasted, after_turns), message, evidence)


def _asked_again(run: Run, above: Run) -> Finding:
    same_agent = _agent(run) == _agent(above)
    message = f"loop {run.id!r} was asked what loop {above.id!r} above it was asked: {run.name[:_MOST_QUOTED]}"
    evidence = {"above": above.id, "same_agent": same_agent}
    return Finding("asked_above", "medium" if same_agent else "low", message, evidence)


# What is read from the log


def _turns(run: Run, most: int, feedback: str | None, seen: dict[int, Turn]) -> list[Turn]:
    """The last turns that came to VERIFY since a person answered, oldest first, `most` at most.

    They are read from the end, so that the cost does not grow with the history. Past turns whose children have ended
    do not change any more, and are kept in `seen`, by where they ended.
    """
    turns: list[Turn] = []
    kept: dict[int, Turn] = {}
    visits: list[int] = []
    children = _children_by_visit(run)
    for index in range(len(run.past or ()), -1, -1) if run.visit is not None else ():
        if any(entry.topic == PROVIDED for entry in run.entries_of(index)):
            break
        visits.append(index)
        if run.visit_at(index).place == FIRST_PLACE or index == 0:
            last = run.visit_at(visits[0])
            if last.place == "verify":
                begun = [child for visit in visits[::-1] for child in children.get(run.visit_at(visit).seq, ())]
                turn = seen.get(last.seq) or _turn(run, visits[::-1], begun, None if turns else feedback)
                if turns and all(child.reason is not None for child in begun):
                    kept[last.seq] = turn
                turns.append(turn)
            visits = []
            if len(turns) == most:
                break
    seen.clear()
    seen.update(kept)
    turns.reverse()
    return turns


def _children_by_visit(run: Run) -> dict[Any, list[Run]]:
    """The children that a loop's functions spawned, by the visit at which they did, in order."""
    found: dict[Any, list[Run]] = {}
    for child in run.children:
        if (visit := child.metadata.get("visit")) is not None:
            found.setdefault(visit, []).append(child)
    return found


def _turn(run: Run, visits: Sequence[int], children: Sequence[Run], feedback: str | None) -> Turn:
    answers: list[bytes] = []
    artifacts: dict[Any, bytes] = {}
    said = ""
    for index in visits:
        for entry in run.entries_of(index):
            if entry.topic == ANSWER and (answer := print_of(entry.value)) not in answers:
                answers.append(answer)
            elif entry.topic == ARTIFACT:
                artifacts[_name_of(entry.value)] = print_of(entry.value)
            elif entry.topic == VERDICT:
                said = entry.value["text"]
    had = [print_of((normalised(child.name), child.value)) for child in children]
    work = (*answers, *artifacts.values(), *had)
    return Turn(run.visit_at(visits[-1]).turn, work, _steady(said if feedback is None else feedback))


def _name_of(artifact: object) -> object:
    return artifact.get("name") if isinstance(artifact, dict) else artifact if isinstance(artifact, str) else None


def _steady(feedback: str) -> str:
    return " ".join(_UNSTEADY.sub("…", feedback).split())


def _inputs(run: Run) -> object:
    inputs = run.metadata.get("inputs")
    return print_of(inputs) if inputs else None


def _agent(run: Run) -> object:
    return (run.metadata.get("agent") or {}).get("name")


# Small change


def _last_while(turns: Sequence[Turn], holds: Any) -> list[Turn]:
    return list(takewhile(holds, reversed(turns)))[::-1]


def _grade(lasted: int, after_turns: int) -> Severity:
    if lasted < after_turns:
        return "low"
    return "medium" if lasted < 2 * after_turns else "high"


def _numbers(turns: Sequence[Turn]) -> list[int]:
    return [turn.number for turn in turns]


def _named(turns: Sequence[Turn]) -> str:
    first, last = turns[0].number, turns[-1].number
    return f"turns {first} and {last}" if len(turns) == 2 else f"turns {first} to {last}"
