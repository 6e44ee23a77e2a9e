"""The four phases of a loop, a visit to one of them, and the step from one to the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from attrs import Factory, field, frozen

from cortical.core import rules
from cortical.core.checks import shown
from cortical.core.errors import RunStateError, WrongType
from cortical.core.events import Event, Noted
from cortical.core.journal import Journal
from cortical.core.phases import PHASE_OF, LoopPhase
from cortical.core.ports import Clock
from cortical.core.run import Run, Visit
from cortical.core.times import to_datetime
from cortical.core.topics import ANSWER, ARTIFACT, DECISION, NOTE, QUESTION
from cortical.core.views import ReadOnlyList

#: Minutes that a visit may take before it is overdue, where nothing else was said.
TIME_BOX_MINUTES: Final = 30.0


def require_phase(phase: object) -> LoopPhase:
    """`phase`, if it is one.

    Raises:
        WrongType: it is not.
    """
    if not isinstance(phase, LoopPhase):
        raise WrongType(f"a phase is a LoopPhase, such as LoopPhase.ANSWER; not {shown(phase)}")
    return phase


def require_phases(run: Run, verb: str) -> None:
    """Refuse what `verb` says for a loop that goes through no phases: a controlled one.

    Raises:
        RunStateError: it is one.
    """
    if run.visit is not None and run.visit.place not in PHASE_OF:
        raise RunStateError(
            f"loop {run.id!r} may not {verb}: it stands at {run.visit.place!r}, which is no phase; "
            "a controlled loop is driven by its LoopController",
            run.id,
        )


def enter(run: Run, at: float, place: str, reason: str = "") -> Sequence[Event]:
    """Move a loop to a phase."""
    require_phases(run, "be moved")
    return rules.move(run, at, place, reason)


class _Source(Protocol):
    """Where a context's content is kept: in a loop's log, or in the context itself."""

    def visit(self) -> Visit: ...
    def entries(self) -> Sequence[Noted]: ...
    def record(self, topic: str, value: object) -> None: ...
    def end(self) -> None: ...
    def now(self) -> float: ...


class PhaseContext:
    """One visit of a phase: what was noted, asked, decided and made during it.

    A loop hands out its own visits (`CognitiveLoop.current_context`); what is recorded on them goes to
    the loop's log. One made by hand keeps its content itself::

        context = PhaseContext(LoopPhase.ANSWER)
        context.record_decision("use JWT", rationale="no session store")

    The lists cannot be changed; recording goes through the methods.
    """

    __slots__ = ("_source", "phase", "time_box_minutes")

    def __init__(
        self,
        phase: LoopPhase,
        started_at: datetime | None = None,
        iteration: int = 1,
        *,
        ended_at: datetime | None = None,
        entries: Sequence[Noted] = (),
        time_box_minutes: float = TIME_BOX_MINUTES,
        clock: Clock = time,
    ) -> None:
        entered = clock.time() if started_at is None else started_at.timestamp()
        left = None if ended_at is None else ended_at.timestamp()
        visit = Visit(require_phase(phase).value, iteration, entered, "", 1, 0, left)
        self._set(_ByHand(visit, clock, entries), phase, time_box_minutes)

    @classmethod
    def of(cls, journal: Journal, run: Run, index: int) -> PhaseContext:
        """The visit of this index (0, 1, …) of a loop's run."""
        context = cls.__new__(cls)
        minutes = run.metadata.get("time_box_minutes", TIME_BOX_MINUTES)
        context._set(
            _InLog(journal, run.id, index, run.visit_at(index).seq), PHASE_OF[run.visit_at(index).place], minutes
        )
        return context

    @property
    def iteration(self) -> int:
        """Which visit of this phase it is: 1, 2, …"""
        return self._source.visit().turn

    @property
    def started_at(self) -> datetime:
        """When the visit began, in UTC."""
        return to_datetime(self._source.visit().entered_at)

    @property
    def ended_at(self) -> datetime | None:
        """When the visit was left; None while it goes on."""
        left = self._source.visit().left_at
        return None if left is None else to_datetime(left)

    @property
    def duration_seconds(self) -> float | None:
        """How long the visit took; None while it goes on."""
        visit = self._source.visit()
        return None if visit.left_at is None else visit.left_at - visit.entered_at

    def elapsed_minutes(self) -> float:
        """Minutes since the visit began, until its end or now."""
        visit = self._source.visit()
        until = self._source.now() if visit.left_at is None else visit.left_at
        return max(0.0, until - visit.entered_at) / 60

    @property
    def overdue(self) -> bool:
        """Whether the visit took longer than its time box."""
        return self.elapsed_minutes() > self.time_box_minutes

    @property
    def entries(self) -> Sequence[Noted]:
        """All that was recorded, in order, as the events that recorded it."""
        return ReadOnlyList(self._source.entries())

    @property
    def notes(self) -> Sequence[str]:
        """The remarks, in order."""
        return self._noted(NOTE)

    @property
    def questions_raised(self) -> Sequence[str]:
        """The questions that came up, in order."""
        return self._noted(QUESTION)

    @property
    def answers(self) -> Sequence[Any]:
        """What `NestedLoopExecutor.record_answer` recorded during this visit."""
        return self._noted(ANSWER)

    @property
    def decisions_made(self) -> Sequence[dict[str, Any]]:
        """Each with `decision`, `rationale` and `timestamp`."""
        return ReadOnlyList(
            {**entry.value, "timestamp": to_datetime(entry.at)}
            for entry in self._source.entries()
            if entry.topic == DECISION
        )

    @property
    def artifacts_produced(self) -> Sequence[Any]:
        """What was made, or its name, in order."""
        return self._noted(ARTIFACT)

    def add_note(self, note: str) -> None:
        """Keep a remark.

        Raises:
            RunStateError: the visit, or its loop, has ended. So do the other recording methods.
        """
        self._source.record(NOTE, note)

    def record_question(self, question: str) -> None:
        """Keep a question that came up."""
        self._source.record(QUESTION, question)

    def record_decision(self, decision: str, rationale: str = "") -> None:
        """Keep what was decided, and why."""
        self._source.record(DECISION, {"decision": decision, "rationale": rationale})

    def record_artifact(self, artifact: object) -> None:
        """Keep what was made, or its name."""
        self._source.record(ARTIFACT, artifact)

    def end_phase(self) -> None:
        """End the visit now, before the loop moves on. Ending it twice changes nothing."""
        self._source.end()

    def counts(self) -> dict[str, int]:
        """How many notes, questions, decisions and artifacts there are."""
        topics = [entry.topic for entry in self._source.entries()]
        return {f"{topic}s_count": topics.count(topic) for topic in (NOTE, QUESTION, DECISION, ARTIFACT)}

    def __repr__(self) -> str:
        return f"PhaseContext({self.phase.value}, iteration={self.iteration}, {self.counts()})"

    def _noted(self, topic: str) -> ReadOnlyList[Any]:
        return ReadOnlyList(entry.value for entry in self._source.entries() if entry.topic == topic)

    def _set(self, source: _Source, phase: LoopPhase, minutes: float) -> None:
        self._source, self.phase, self.time_box_minutes = source, phase, minutes


class _InLog:
    """A visit of a loop: read from its run, recorded through its journal."""

    __slots__ = ("_index", "_journal", "_run_id", "_seq")

    def __init__(self, journal: Journal, run_id: str, index: int, seq: int) -> None:
        self._journal, self._run_id, self._index, self._seq = journal, run_id, index, seq

    def visit(self) -> Visit:
        return self._visit_of(self._journal.run(self._run_id))

    def entries(self) -> Sequence[Noted]:
        run = self._journal.run(self._run_id)
        self._visit_of(run)
        return run.entries_of(self._index)

    def _visit_of(self, run: Run) -> Visit:
        if self._index > len(run.past or ()) or run.visit is None or run.visit_at(self._index).seq != self._seq:
            raise RunStateError(f"this visit of {run.kind} {run.id!r} was undone; ask for its current one", run.id)
        return run.visit_at(self._index)

    def record(self, topic: str, value: object) -> None:
        self._journal.change(self._run_id, self._during, rules.note, topic, value)

    def end(self) -> None:
        if self.visit().left_at is None:
            self._journal.change(self._run_id, self._during, rules.leave)

    def now(self) -> float:
        return self._journal.clock.time()

    def _during(self, run: Run, at: float, rule: Callable[..., Sequence[Any]], *args: object) -> Sequence[Any]:
        visit = self._visit_of(run)
        if visit.left_at is not None and run.reason is None:
            raise RunStateError(
                f"visit {visit.turn} of {visit.place!r} in {run.kind} {run.id!r} is over; record on its current one",
                run.id,
            )
        return rule(run, at, *args)


class _ByHand:
    """A visit that belongs to no loop."""

    __slots__ = ("_clock", "_entries", "_visit")

    def __init__(self, visit: Visit, clock: Clock, entries: Sequence[Noted]) -> None:
        self._visit, self._clock = visit, clock
        self._entries = list(entries)

    def visit(self) -> Visit:
        return self._visit

    def entries(self) -> Sequence[Noted]:
        return self._entries

    def record(self, topic: str, value: object) -> None:
        if self._visit.left_at is not None:
            raise RunStateError(f"this visit of {self._visit.place!r} is over; make another context", "")
        self._entries.append(Noted("", len(self._entries) + 1, self._clock.time(), topic, value))

    def end(self) -> None:
        if self._visit.left_at is None:
            self._visit.left_at = max(self._visit.entered_at, self._clock.time())

    def now(self) -> float:
        return self._clock.time()


@frozen
class LoopTransition:
    """A step into a phase. `from_phase` is None for the first; `context_snapshot` tells of the visit that was left.

    The snapshot has `phase`, `iteration`, `elapsed_minutes`, and the counts `notes_count`, `questions_count`,
    `decisions_count` and `artifacts_count`; for the first step it is empty.
    """

    from_phase: LoopPhase | None
    to_phase: LoopPhase
    timestamp: datetime = field(factory=lambda: datetime.now(UTC))
    reason: str = ""
    context_snapshot: Mapping[str, Any] = Factory(dict)
    #: Which visit of its loop it began (0, 1, …); None for one made by hand.
    visit_index: int | None = field(default=None, eq=False, repr=False, kw_only=True)

    @classmethod
    def of(cls, journal: Journal, run: Run, index: int) -> LoopTransition:
        """The step by which a loop's run came to its visit of this index."""
        visit = run.visit_at(index)
        left: LoopPhase | None = None
        snapshot: dict[str, Any] = {}
        if index:
            context = PhaseContext.of(journal, run, index - 1)
            left = context.phase
            snapshot = {
                "phase": left.value,
                "iteration": context.iteration,
                "elapsed_minutes": context.elapsed_minutes(),
                **context.counts(),
            }
        at = to_datetime(visit.entered_at)
        return cls(left, PHASE_OF[visit.place], at, visit.reason, snapshot, visit_index=index)
