"""Runs that tests walk by hand."""

from __future__ import annotations

from typing import Any

from cortical.core import rules
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.outcome import Ok, Outcome
from cortical.core.phases import ITERATION
from cortical.core.status import TerminationReason
from cortical.store import MemoryStore, Store
from cortical.testing import FakeClock


class Walked:
    """Runs walked by hand on a clock that stands still."""

    def __init__(self, clock: FakeClock, store: Store | None = None) -> None:
        self.clock = clock
        self.journal = Journal(store or MemoryStore(), clock=clock)

    def loop(
        self, run_id: str = "r", *, kind: str = LOOP, name: str = "a loop", place: str = ITERATION, **metadata: Any
    ) -> None:
        """Start a root."""
        self.journal.plant(run_id, rules.start, kind, name, place=place, metadata=metadata or None)

    def turn(self, seconds: float = 1.0, run_id: str = "r") -> None:
        """Finish an iteration that took so long, and begin the next."""
        self.clock.advance(seconds)
        self.journal.change(run_id, rules.move, ITERATION)

    def note(self, topic: str, value: object, run_id: str = "r") -> None:
        """Note something, wherever the run stands."""
        self.journal.change(run_id, rules.annotate, topic, value)

    def end(
        self,
        outcome: Outcome | None = None,
        run_id: str = "r",
        reason: TerminationReason = TerminationReason.COMPLETED,
    ) -> None:
        """End a run, well by default."""
        self.journal.change(run_id, rules.end, outcome or Ok(), reason)

    def child(
        self, child_id: str, seconds: float | None = None, outcome: Outcome | None = None, parent: str = "r"
    ) -> None:
        """Begin a child; with `seconds` it is ended after so long."""
        self.journal.change(parent, rules.spawn, "item", {child_id: child_id}, place=None)
        self.journal.change(child_id, rules.begin, "work")
        if seconds is not None:
            self.clock.advance(seconds)
            self.end(outcome, child_id)
