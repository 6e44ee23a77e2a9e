"""Many loops: made, found by how they stand, and handlers told as they move and end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from cortical.core import rules
from cortical.core.checks import require_callable, require_text
from cortical.core.errors import RunNotFound
from cortical.core.events import Ended, Event, Moved, Started
from cortical.core.index import Shelf
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.phases import PHASE_OF, LoopPhase
from cortical.core.ports import Clock
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.reasoning.cognitive_loop import CognitiveLoop, create_child
from cortical.reasoning.phases import LoopTransition
from cortical.store import MemoryStore

#: The reasons that count as success.
SUCCESSES: Final = (TerminationReason.SUCCESS, TerminationReason.USER_APPROVED)

TransitionHandler = Callable[["CognitiveLoop", LoopTransition], object]
CompletionHandler = Callable[["CognitiveLoop", TerminationReason], object]


class CognitiveLoopManager:
    """Keeps loops, finds them by how they stand, and calls handlers as they move and end.

    Args:
        journal: where the loops are kept; a new one in memory by default.
        clock: tells the time to that new one.
    """

    def __init__(self, *, journal: Journal | None = None, clock: Clock = time) -> None:
        self.journal = journal or Journal(MemoryStore(), clock=clock)
        # The index's generation at which all (open) trees were loaded; a store of its own holds no others.
        self._open_loaded: int | None = 0 if journal is None else None
        self._all_loaded = self._open_loaded

    def create_loop(self, goal: str, parent_id: str | None = None) -> CognitiveLoop:
        """A new loop, not started, below `parent_id` or on its own.

        Raises:
            RunNotFound: there is no such parent.
            RunStateError: the parent has ended.
        """
        if parent_id is not None:
            return create_child(self.journal, parent_id, goal)
        loop_id = self.journal.new_id()
        self.journal.plant(loop_id, rules.start, LOOP, require_text(goal, "a goal"))
        return CognitiveLoop.of(self.journal, loop_id)

    def get_loop(self, loop_id: str) -> CognitiveLoop | None:
        """The loop of this id, or None when there is none."""
        try:
            self.journal.run(loop_id)
        except RunNotFound:
            return None
        return CognitiveLoop.of(self.journal, loop_id)

    def get_all_loops(self) -> list[CognitiveLoop]:
        """Every loop of the store; all its trees are loaded for it."""
        self._load_all()
        with self.journal.index.lock:
            ids = [run.id for run in self.journal.index.runs.values() if run.kind == LOOP]
        return self._loops(ids)

    def get_active_loops(self) -> list[CognitiveLoop]:
        """The loops that are active now; empty when none is."""
        return self._with_status(Status.ACTIVE)

    def get_blocked_loops(self) -> list[CognitiveLoop]:
        """The loops that wait for something outside them; empty when none does."""
        return self._with_status(Status.BLOCKED)

    def get_stuck_loops(self, iteration_threshold: int = 3) -> list[CognitiveLoop]:
        """The open loops that have come to one phase `iteration_threshold` times or more."""
        return self._loops(run.id for run in self._open() if _most_visits(run) >= iteration_threshold)

    def get_overdue_loops(self, max_minutes: float = 120) -> list[CognitiveLoop]:
        """The open loops that were started more than `max_minutes` ago."""
        now = self.journal.clock.time()
        return self._loops(
            run.id for run in self._open() if run.visit and now - run.visit_at(0).entered_at > max_minutes * 60
        )

    def refresh_all(self) -> None:
        """Read what other processes have added: to the open trees, and as new ones."""
        self.journal.refresh_all()
        self._open_loaded = self._all_loaded = None

    def register_transition_handler(self, handler: TransitionHandler) -> Callable[[], None]:
        """Call `handler(loop, transition)` after each step of any loop into a phase; returns what ends it.

        One that raises is reported to the `cortical` logger and hurts nothing.
        """
        require_callable(handler)

        def tell(event: Event) -> None:
            if isinstance(event, Moved | Started) and event.place in PHASE_OF:
                run = self.journal.run(event.run_id)
                if run.kind == LOOP:
                    step = LoopTransition.of(self.journal, run, run.visit_by(event.seq))
                    handler(CognitiveLoop.of(self.journal, run.id), step)

        return self.journal.subscribe(tell)

    def register_completion_handler(self, handler: CompletionHandler) -> Callable[[], None]:
        """Call `handler(loop, reason)` after any loop has ended, however it did; returns what ends it."""
        require_callable(handler)

        def tell(event: Event) -> None:
            if isinstance(event, Ended) and self.journal.run(event.run_id).kind == LOOP:
                handler(CognitiveLoop.of(self.journal, event.run_id), event.reason)

        return self.journal.subscribe(tell)

    def get_summary(self) -> dict[str, Any]:
        """Counts of all loops of the store.

        `total_loops`, `by_status` (status → count, only those there are), `active_count`, `blocked_count`,
        `stuck_count`, `phases` (phase → `visits`, `total_seconds`, `mean_seconds` of the visits that are over) and
        `success_rate` (those ended with success or the user's approval, among all ended; None when none has).
        """
        self._load_all()
        stuck = sum(1 for run in self._open() if _most_visits(run) >= 3)
        with self.journal.index.lock:
            shelf = self.journal.index.shelf(LOOP)
            by_status = {status.value: count for status, count in shelf.counts.items() if count}
            ended = sum(shelf.reasons.values())
            return {
                "total_loops": sum(by_status.values()),
                "by_status": by_status,
                "active_count": shelf.counts[Status.ACTIVE],
                "blocked_count": shelf.counts[Status.BLOCKED],
                "stuck_count": stuck,
                "phases": {phase.value: _seconds_in(shelf, phase) for phase in LoopPhase},
                "success_rate": sum(shelf.reasons[reason] for reason in SUCCESSES) / ended if ended else None,
            }

    def _with_status(self, status: Status) -> list[CognitiveLoop]:
        self._load_open()
        with self.journal.index.lock:
            ids = list(self.journal.index.shelf(LOOP).open[status])
        return self._loops(ids)

    def _open(self) -> list[Run]:
        self._load_open()
        with self.journal.index.lock:
            return [run for run in self.journal.index.open_runs() if run.kind == LOOP]

    def _loops(self, ids: Iterable[str]) -> list[CognitiveLoop]:
        return [CognitiveLoop.of(self.journal, loop_id) for loop_id in ids]

    def _load_open(self) -> None:
        generation = self.journal.index.generation
        if self._open_loaded != generation:
            self.journal.load_trees(open_only=True)
            self._open_loaded = generation

    def _load_all(self) -> None:
        generation = self.journal.index.generation
        if self._all_loaded != generation:
            self.journal.load_trees()
            self._all_loaded = self._open_loaded = generation


def _most_visits(run: Run) -> int:
    """How often it came to the phase to which it came most often; a controlled loop is meant to come again."""
    if run.turns is None:
        return int(run.place in PHASE_OF)
    return max((count for place, count in run.turns.items() if place in PHASE_OF), default=0)


def _seconds_in(shelf: Shelf, phase: LoopPhase) -> dict[str, Any]:
    stay = shelf.stays.get(phase.value)
    if stay is None:
        return {"visits": 0, "total_seconds": 0.0, "mean_seconds": None}
    return {
        "visits": stay.visits,
        "total_seconds": stay.seconds,
        "mean_seconds": stay.seconds / stay.over if stay.over else None,
    }
