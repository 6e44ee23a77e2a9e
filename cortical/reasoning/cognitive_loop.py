"""One reasoning loop: a face on a run of kind ``loop``, which holds an id and a journal and no state of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from cortical.core import rules
from cortical.core.checks import require_reason, require_text, shown
from cortical.core.errors import RunStateError, WrongType
from cortical.core.events import Event
from cortical.core.ids import new_id
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.outcome import Abandoned, Ok, Outcome
from cortical.core.phases import PHASE_OF, LoopPhase
from cortical.core.ports import Clock
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.core.times import to_datetime
from cortical.core.topics import ARTIFACT, DECISION, QUESTION
from cortical.core.views import ReadOnlyList
from cortical.engine.callers import this_process
from cortical.reasoning.phases import (
    TIME_BOX_MINUTES,
    LoopTransition,
    PhaseContext,
    enter,
    require_phase,
    require_phases,
)
from cortical.store import MemoryStore

LoopStatus = Status


class CognitiveLoop:
    """A loop through question, answer, produce and verify::

        loop = CognitiveLoop("Choose a database")
        loop.start()
        loop.current_context().record_question("How many writers?")
        loop.transition(LoopPhase.ANSWER, "the question is clear")

    Made like this it works alone, in memory. A manager or executor hands out loops that belong to its store.
    Every refusal is a `RunStateError` (a ValueError) and changes nothing.
    """

    __slots__ = ("_journal", "id")

    id: str

    def __init__(
        self,
        goal: str,
        *,
        time_box_minutes: float = TIME_BOX_MINUTES,
        clock: Clock = time,
        new_id: Callable[[], str] = new_id,
    ) -> None:
        journal = Journal(MemoryStore(), clock=clock, new_id=new_id)
        self._journal = journal
        self.id = new_id()
        journal.plant(
            self.id, rules.start, LOOP, require_text(goal, "a goal"), metadata=loop_metadata(time_box_minutes)
        )

    @classmethod
    def of(cls, journal: Journal, loop_id: str) -> CognitiveLoop:
        """The loop of this id in `journal`."""
        loop = cls.__new__(cls)
        loop._journal, loop.id = journal, loop_id
        return loop

    # What it is

    @property
    def goal(self) -> str:
        """What it is for."""
        return self.run.name

    @property
    def status(self) -> Status:
        """Where it stands in its life."""
        return self.run.status

    @property
    def current_phase(self) -> LoopPhase | None:
        """Where it stands, or stood when it ended; None before its start, and for a controlled loop."""
        place = self.run.place
        return None if place is None else PHASE_OF.get(place)

    @property
    def phase_contexts(self) -> Sequence[PhaseContext]:
        """All visits of phases, in order; a controlled loop has none."""
        run = self.run
        return ReadOnlyList(PhaseContext.of(self._journal, run, index) for index in _visits_of_phases(run))

    @property
    def transitions(self) -> Sequence[LoopTransition]:
        """All steps into phases, in order; a controlled loop has none."""
        run = self.run
        return ReadOnlyList(LoopTransition.of(self._journal, run, index) for index in _visits_of_phases(run))

    @property
    def parent_id(self) -> str | None:
        """The id of the loop above it; None for a root."""
        return self.run.parent_id

    @property
    def child_ids(self) -> Sequence[str]:
        """The ids of its children, in the order they were started."""
        run = self.run
        return ReadOnlyList([child.id for child in run.children] or run.metadata.get("child_ids", ()))

    @property
    def depth(self) -> int:
        """How many loops stand above it."""
        return self.run.depth

    @property
    def created_at(self) -> datetime:
        """When it was made, in UTC; it may have been started later."""
        return to_datetime(self.run.started_at)

    @property
    def completed_at(self) -> datetime | None:
        """When it ended, however it did; None while it is open."""
        ended = self.run.ended_at
        return None if ended is None else to_datetime(ended)

    @property
    def termination_reason(self) -> TerminationReason | None:
        """Why it ended; None while it is open."""
        return self.run.reason

    @property
    def block_reason(self) -> str | None:
        """What blocks it; None when nothing does."""
        run = self.run
        return run.why if run.status is Status.BLOCKED else None

    @property
    def pause_reason(self) -> str | None:
        """Why it is paused; None when it is not."""
        run = self.run
        return run.why if run.status is Status.PAUSED else None

    @property
    def result(self) -> Any:
        """What it was completed with; None when there is nothing, or not yet."""
        return self.run.value

    @property
    def outcome(self) -> Outcome | None:
        """How it ended, with its result, error or reason; None while it is open."""
        return self.run.outcome

    @property
    def run(self) -> Run:
        """The run under this face. To be read only."""
        return self._journal.run(self.id)

    @property
    def journal(self) -> Journal:
        """The journal that its log is kept by."""
        return self._journal

    # What it does

    def start(self, initial_phase: LoopPhase = LoopPhase.QUESTION) -> None:
        """Enter the first phase, whichever it is.

        Raises:
            RunStateError: it has been started before.
        """
        self._journal.change(self.id, rules.begin, require_phase(initial_phase).value, "started")

    def transition(self, to_phase: LoopPhase, reason: str = "") -> None:
        """Go to a phase, ending the visit of the one where it stands.

        Raises:
            RunStateError: it is not active, or a controlled loop, which has no phases.
        """
        self._journal.change(self.id, enter, require_phase(to_phase).value, require_reason(reason))

    def complete(self, reason: TerminationReason = TerminationReason.SUCCESS, result: object = None) -> None:
        """End it with a result.

        Raises:
            RunStateError: it has not been started, has ended, or a child of it is open.
            EncodeError: a durable store cannot keep the result.
        """
        if not isinstance(reason, TerminationReason):
            raise WrongType(f"a loop completes with a TerminationReason, not {shown(reason)}")
        self._journal.change(self.id, rules.end, Ok(result), reason)

    def abandon(self, reason: str = "", *, by: str | None = None) -> None:
        """End it, and all open loops below it first, without a result; the reason, and who did it, stand on each.

        Args:
            by: who; this process by default.

        Raises:
            RunStateError: it has ended.
        """
        outcome = Abandoned(require_reason(reason), this_process() if by is None else require_text(by, "by whom"))
        self._journal.insist(self.id, rules.end_subtree, outcome, TerminationReason.MANUAL)

    def pause(self, reason: str = "") -> None:
        """Pause it until `resume`.

        Raises:
            RunStateError: it is not active.
        """
        self._journal.change(self.id, rules.pause, require_reason(reason))

    def block(self, blocker: str) -> None:
        """Block it: it waits for something outside it, until `resume`.

        Raises:
            RunStateError: it is not active.
        """
        self._journal.change(self.id, rules.block, require_reason(blocker))

    def resume(self) -> None:
        """Make it active again.

        Raises:
            RunStateError: it is neither paused nor blocked, or waits for its children.
        """
        self._journal.change(self.id, rules.resume)

    def spawn_child(self, goal: str) -> CognitiveLoop:
        """A new loop below this one, not started; this one goes on, and cannot complete before it has ended.

        Raises:
            RunStateError: this loop has ended.
            DepthLimitReached: it belongs to an executor whose depth limit the child would reach.
        """
        return create_child(self._journal, self.id, goal)

    def add_note(self, note: str) -> None:
        """Keep a remark in the current visit."""
        self.current_context().add_note(note)

    def current_context(self) -> PhaseContext:
        """The visit in which it stands, or stood when it ended.

        Raises:
            RunStateError: it has not been started, or is a controlled loop, which has no phases.
        """
        run = self.run
        require_phases(run, "give a context")
        if run.visit is None:
            raise RunStateError(
                f"loop {run.id!r} has no current visit: it has not been started; start it first", run.id
            )
        return PhaseContext.of(self._journal, run, len(run.past or ()))

    def get_all_contexts(self, phase: LoopPhase | None = None) -> list[PhaseContext]:
        """The visits of `phase`, or of all phases, in order."""
        return [context for context in self.phase_contexts if phase is None or context.phase is phase]

    def get_iteration_count(self, phase: LoopPhase) -> int:
        """How often `phase` was visited."""
        return _visits_of(self.run, require_phase(phase).value)

    def total_elapsed_minutes(self) -> float:
        """Minutes from its start to its end, or to now; 0.0 before its start."""
        run = self.run
        if run.visit is None:
            return 0.0
        until = self._journal.clock.time() if run.ended_at is None else run.ended_at
        return max(0.0, until - run.visit_at(0).entered_at) / 60

    def get_summary(self) -> dict[str, Any]:
        """Where it stands, as plain values."""
        run = self.run
        phase = self.current_phase
        return {
            "id": run.id,
            "goal": run.name,
            "status": run.status.value,
            "current_phase": phase.value if phase else None,
            "iterations": {phase.value: _visits_of(run, phase.value) for phase in LoopPhase},
            "transitions": len(run.visits),
            "elapsed_minutes": self.total_elapsed_minutes(),
            "parent_id": run.parent_id,
            "child_ids": list(self.child_ids),
            "questions_raised": run.noted(QUESTION),
            "decisions_made": run.noted(DECISION),
            "artifacts_produced": run.noted(ARTIFACT),
            "block_reason": self.block_reason,
            "termination_reason": run.reason.value if run.reason else None,
        }

    def events(self, *, below: bool = False) -> list[Event]:
        """Its events, oldest first, as its store has them; with `below`, those of all loops below it too."""
        return self._journal.events(self.id, below=below)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CognitiveLoop):
            return NotImplemented
        return self.id == other.id and self._journal is other._journal

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        run = self._journal.index.runs.get(self.id)
        return f"CognitiveLoop({self.id!r}, {run.name!r}, {run.status.value})" if run else f"CognitiveLoop({self.id!r})"


def loop_metadata(time_box_minutes: float) -> dict[str, Any] | None:
    """What a loop's start records besides its goal."""
    return None if time_box_minutes == TIME_BOX_MINUTES else {"time_box_minutes": time_box_minutes}


def create_child(journal: Journal, parent_id: str, goal: str) -> CognitiveLoop:
    """A new loop below another, not started; what `CognitiveLoop.spawn_child` and the manager do."""
    children = {journal.new_id(): require_text(goal, "a goal")}
    journal.change(parent_id, rules.spawn, LOOP, children, place=None, max_depth=journal.max_depth)
    return CognitiveLoop.of(journal, *children)


def _visits_of_phases(run: Run) -> list[int]:
    return [index for index, visit in enumerate(run.visits) if visit.place in PHASE_OF]


def _visits_of(run: Run, place: str) -> int:
    if run.turns is not None:
        return run.turns.get(place, 0)
    return 1 if run.place == place else 0
