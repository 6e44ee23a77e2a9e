"""What was decided on a run's way, by whom and why: read from its log.

Notes are read leniently: a loop may be walked by programs that note what they like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from cortical.core import topics
from cortical.core.events import Blocked, Ended, Event, Moved, Noted, Paused, Restored, Resumed, Started
from cortical.core.outcome import Abandoned, Failed, Ok, Skipped
from cortical.core.phases import FIRST_PLACE
from cortical.core.safe_text import written
from cortical.core.status import TerminationReason

_REVISE: Final = "revise: "
_ESCALATED: Final = "escalated: "
_MOST_NAMED: Final = 3

#: Ends that a limit, a policy or another run's end brings about, whoever drives.
_BY_RULE: Final = frozenset(
    {
        TerminationReason.BUDGET_EXHAUSTED,
        TerminationReason.MAX_ITERATIONS,
        TerminationReason.CONDITION_MET,
        TerminationReason.TIMEOUT,
        TerminationReason.RESOURCE_LIMIT,
        TerminationReason.DEPENDENCY_FAILURE,
    }
)
#: What a verdict decides, and who does where the note does not say.
_VERDICTS: Final = {
    "passed": ("complete", "function"),
    "revise": ("revise", "function"),
    "impossible": ("break", "function"),
    "inconclusive": ("retry", "rule"),
    "escalate": ("escalate", "function"),
}
#: What a decision is, where the text of its note begins with one of these words and it says ``by`` whom.
_KNOWN: Final = frozenset({"continue", "revise", "spawn", "retry", "break", "escalate", "answer", "complete"})


@frozen
class Choice:
    """One decision on a run's way.

    `at` is when, in seconds since the epoch. `what` is continue, revise, spawn, retry, break, escalate (a person was
    asked), answer, complete or skip; warn, where a rule only said so; pause, block, resume, restore or drain; or
    decide, for what the run itself recorded as a decision. `by` is rule (a policy or a limit), function (of the agent),
    person, or caller (whoever called, by hand or in a program). `why` may be empty.
    """

    at: float
    what: str
    by: str
    why: str


def choices(run_id: str, log: Sequence[Event]) -> list[Choice]:
    """The decisions on a run's way, oldest first; `log` holds at least its events and its children's starts."""
    reading = _Reading(run_id)
    for event in log:
        if event.run_id == run_id:
            reading.own(event)
        elif isinstance(event, Started) and event.parent_id == run_id:
            reading.child(event)
    return reading.done()


class _Reading:
    """Reads one run's events, in order.

    What a rule or verdict decides is noted just before the event it leads to, in the same record: `_just` is what the
    last notes in a row decided, so that one decision is told once.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._driven = False
        self._begun = False
        self._found: list[Choice] = []
        self._just: set[str] = set()
        self._visited: set[str] = set()
        self._spawned: list[Started] = []

    def done(self) -> list[Choice]:
        self._tell_spawned()
        return self._found

    def child(self, started: Started) -> None:
        attempt = _field(started.metadata, "attempt")
        if attempt not in ("", "1"):
            self._tell_spawned()
            self._found.append(Choice(started.at, "retry", "rule", f"{started.name}, attempt {attempt}"))
        elif "spawn" not in self._just:
            self._spawned.append(started)

    def own(self, event: Event) -> None:
        if isinstance(event, Noted):
            self._noted(event)
            return
        self._tell_spawned()
        match event:
            case Started():
                self._driven = bool(_field(event.metadata, "agent"))
                self._begun = event.place is not None
                self._visited |= {event.place} if event.place else set()
            case Moved():
                self._moved(event)
            case Paused(for_children=False):
                self._add(event, "pause", "caller", event.reason)
            case Blocked():
                self._blocked(event)
            case Resumed(reason=reason) if reason not in ("answered", "no child is open"):
                self._add(event, "resume", "caller", reason)
            case Restored():
                self._add(event, "restore", "caller", f"to checkpoint {event.checkpoint} ({event.mode})")
            case Ended():
                self._ended(event)
        self._just.clear()

    def _noted(self, event: Noted) -> None:
        value = event.value
        match event.topic:
            case topics.VERDICT:
                self._just.clear()
                what, by = _VERDICTS.get(_field(value, "verdict"), ("", ""))
                self._note(event, what, by, _field(value, "text") or ("verify passed" if what == "complete" else ""))
            case topics.STUCK if _field(value, "then") in ("", "warn"):
                self._note(event, "warn", "rule", _field(value, "why") or _text(value))
            case topics.ASKED if "escalate" not in self._just:
                self._asked(event)
            case topics.ATTEMPT:
                self._note(event, "retry", "rule", _field(value, "error"))
            case topics.PROVIDED:
                self._note(event, "answer", "person", ": ".join(filter(None, (_field(value, "key"), _answer(value)))))
            case topics.DECISION:
                self._decided(event)
            case topics.DRAIN:
                self._note(event, "drain", "caller", _text(value))
            case topics.STUCK | topics.LIMIT | topics.ASKED | topics.VISIT_ENDED:
                pass  # told by what follows in the same record
            case _:
                self._just.clear()

    def _asked(self, event: Noted) -> None:
        if _field(event.value, "by") == "rule":
            self._take_back_retry()
        self._note(event, "escalate", "function", _field(event.value, "question"))

    def _decided(self, event: Noted) -> None:
        decision, rationale = _field(event.value, "decision"), _field(event.value, "rationale")
        told = " – ".join(filter(None, (decision or _text(event.value), rationale)))
        what = decision.partition(" ")[0]
        if what in _KNOWN and _field(event.value, "by"):
            self._note(event, what, "", rationale if decision == what else told)
        else:
            self._note(event, "decide", "function" if self._driven else "caller", told)

    def _moved(self, event: Moved) -> None:
        entered_again = event.place == FIRST_PLACE and event.place in self._visited
        if event.reason.startswith(_REVISE):
            if "revise" not in self._just:
                self._add(event, "revise", "function" if self._driven else "caller", event.reason[len(_REVISE) :])
        elif self._begun and (event.reason or entered_again):
            told = f"to {event.place}" + (f": {event.reason}" if event.reason else "")
            self._add(event, "continue", "rule" if self._driven else "caller", told)
        self._begun = True
        self._visited.add(event.place)

    def _blocked(self, event: Blocked) -> None:
        if "escalate" in self._just:
            return
        if event.reason.startswith(_ESCALATED):
            self._take_back_retry()
            self._add(event, "escalate", "rule", event.reason[len(_ESCALATED) :])
        else:
            self._add(event, "block", "caller", event.reason)

    def _ended(self, event: Ended) -> None:
        by = "rule" if event.reason in _BY_RULE else self._ender(event.reason)
        match event.outcome:
            case Ok() if "complete" not in self._just:
                why = "" if event.reason is TerminationReason.SUCCESS else event.reason.value
                self._add(event, "complete", by, why)
            case Failed(error=error):
                self._add(event, "break", by, str(error))
            case Abandoned(reason=reason) if "break" not in self._just:
                self._add(event, "break", by, reason)
            case Skipped(reason=reason):
                self._add(event, "skip", by, reason)

    def _ender(self, reason: TerminationReason) -> str:
        if reason is TerminationReason.USER_APPROVED:
            return "person"
        if reason is TerminationReason.MANUAL or not self._driven:
            return "caller"
        return "rule" if reason is TerminationReason.ESCALATED else "function"

    def _take_back_retry(self) -> None:
        """A verdict that was inconclusive once too often was not tried again."""
        if "retry" in self._just:
            self._just.discard("retry")
            self._found.pop()

    def _note(self, event: Noted, what: str, by: str, why: str) -> None:
        if what:
            self._add(event, what, _field(event.value, "by") or by, why)
            self._just.add(what)

    def _add(self, event: Event, what: str, by: str, why: str) -> None:
        self._tell_spawned()
        self._found.append(Choice(event.at, what, by, why))

    def _tell_spawned(self) -> None:
        if not self._spawned:
            return
        names = [started.name for started in self._spawned]
        more = ", …" if len(names) > _MOST_NAMED else ""
        told = names[0] if len(names) == 1 else f"{len(names)} children: {', '.join(names[:_MOST_NAMED])}{more}"
        first = self._spawned[0]
        by = "function" if _field(first.metadata, "agent") else "caller"
        self._found.append(Choice(first.at, "spawn", by, told))
        self._spawned = []


def _field(value: object, name: str) -> str:
    """A field of a note as a text; empty where the note is of another shape."""
    found = value.get(name) if isinstance(value, Mapping) else None
    return "" if found is None else _text(found)


def _answer(value: object) -> str:
    return _text(value["value"]) if isinstance(value, Mapping) and "value" in value else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else written(value)
