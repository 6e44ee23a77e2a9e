"""A source of units for crews, and the tree they work on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cortical.core import rules
from cortical.core.budget import Budget
from cortical.core.journal import Journal
from cortical.core.outcome import Ok, Outcome
from cortical.core.ports import Clock, Store
from cortical.core.run import Run
from cortical.engine.crew import Crew, Step
from cortical.engine.hands import Unit
from cortical.store import MemoryStore
from cortical.testing import FakeClock

ROOT = "root"


def plant(store: Store | None = None, *, clock: Clock = time, budget: Budget | None = None) -> Journal:
    """A journal with a batch that has been started."""
    journal = Journal(store or MemoryStore(strict=True), clock=clock)
    metadata = None if budget is None else {"budget": budget.limits()}
    journal.plant(ROOT, rules.start, "batch", "all", place="work", metadata=metadata)
    return journal


class Waiting(FakeClock):
    """A clock that goes on by as much as somebody sleeps; `slept` are these times."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Let the time pass."""
        self.slept.append(seconds)
        self.advance(seconds)


class Given:
    """A source that gives these units, and keeps what it hears.

    `after` holds the names of units that have to have settled before another is given; `raises` what a method raises,
    by the names of method and unit.
    """

    def __init__(
        self,
        units: Iterable[Unit],
        *,
        after: Mapping[str, Iterable[str]] | None = None,
        raises: Mapping[tuple[str, str], BaseException] | None = None,
    ) -> None:
        self.waiting = list(units)
        self.after = {name: set(names) for name, names in (after or {}).items()}
        self.raises = dict(raises or {})
        self.outcomes: dict[str, Outcome] = {}
        self.settlings: list[str] = []
        self.given: list[str] = []

    def next(self) -> Unit | None:
        for index, unit in enumerate(self.waiting):
            if self.after.get(unit.name, set()) <= self.outcomes.keys():
                self._raise("next", unit)
                self.given.append(unit.name)
                return self.waiting.pop(index)
        return None

    def outcome(self, unit: Unit, returned: Any) -> Outcome:
        self._raise("outcome", unit)
        return Ok(returned)

    def steps(self, unit: Unit, outcome: Outcome) -> Sequence[Step]:
        self._raise("steps", unit)
        return [(rules.change, {unit.name: type(outcome).__name__})]

    def settled(self, unit: Unit, outcome: Outcome) -> None:
        self.settlings.append(unit.name)
        self.outcomes[unit.name] = outcome
        self._raise("settled", unit)

    def _raise(self, method: str, unit: Unit) -> None:
        if (error := self.raises.get((method, unit.name))) is not None:
            raise error


def drive(journal: Journal, source: Given, **settings: Any) -> Crew:
    """Drive the batch's items."""
    crew = Crew(journal, ROOT, "item", **settings)
    crew.drive(source)
    return crew


def items(journal: Journal) -> dict[str, Run]:
    """The items by name."""
    return {run.name: run for run in journal.run(ROOT).children}


def statuses(journal: Journal) -> dict[str, str]:
    """How the items stand, by name, in the order they were started."""
    return {run.name: run.status.value for run in journal.run(ROOT).children}


def crew_threads() -> list[str]:
    """The names of the threads of crews that live."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("cortical-crew", "cortical-t"))]


def until(holds: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until this holds."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < end, "it took too long"
        pause.wait(0.002)
