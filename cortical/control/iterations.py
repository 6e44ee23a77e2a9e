"""What may happen to a controlled loop, in the words of the core's rules; each is one record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from cortical.control.results import State
from cortical.core import rules
from cortical.core.errors import RunStateError
from cortical.core.events import Event, Noted
from cortical.core.outcome import Outcome
from cortical.core.phases import ITERATION
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.core.topics import ATTEMPT, DRIVEN, LIMIT, LIMITS, RESULT, SKIPPED, STOPPED
from cortical.core.turns import attempts_here, finished_here, seconds_waited


@frozen
class Stay:
    """Which attempt at which iteration a body was called for; what it does later counts for nothing."""

    visit_seq: int
    attempt: int

    @classmethod
    def of(cls, run: Run) -> Stay:
        """The one at which a loop stands."""
        assert run.visit is not None
        return cls(run.visit.seq, attempts_here(run))

    def require(self, run: Run) -> None:
        """Refuse what belongs to another attempt than the loop is at, or to a loop that has ended."""
        here = run.still_at(self.visit_seq) is not None and attempts_here(run) == self.attempt
        if not here or run.reason is not None or finished_here(run):
            raise RunStateError(
                f"loop {run.id!r} has gone on without this call of its body, whose time was up or which was stopped; "
                "nothing was recorded",
                run.id,
            )


def take_up(run: Run, at: float, driven: float, limits: Mapping[str, float]) -> Sequence[Event]:
    """Begin a loop, or go on with it: say for how long it had been driven, and what limits it has now."""
    notes: list[tuple[str, Any]] = [(DRIVEN, {"elapsed": driven, "waited": seconds_waited(run, at)})]
    if limits and (run.noted(LIMITS) or [None])[-1] != limits:
        notes.append((LIMITS, dict(limits)))
    if run.status is Status.NOT_STARTED:
        begun = rules.begin(run, at, ITERATION)
        return (*begun, *(Noted(run.id, run.seq + 1 + n, at, *note) for n, note in enumerate(notes, 1)))
    rules.require_open(run, "be driven")
    return rules.noting(run, at, notes, nothing)


def finish(run: Run, at: float, stay: Stay, returned: State, *, checkpoint: str | None, go_on: bool) -> Sequence[Event]:
    """Record what an iteration gave, and the state it changed; and go on to the next, unless the loop was paused."""
    stay.require(run)
    go_on = go_on and run.status is Status.ACTIVE
    notes = [] if returned.result is None and go_on else [(RESULT, returned.result)]
    steps: list[tuple[Any, ...]] = [(rules.change, returned.values)] if returned.values else []
    if go_on and not (notes or steps or checkpoint):
        return rules.move(run, at, ITERATION)
    if go_on:
        steps.append((rules.move, ITERATION))
        if checkpoint is not None:
            steps.append((rules.checkpoint, checkpoint))
    return rules.noting(run, at, notes, rules.in_turn, steps)


def fail_attempt(run: Run, at: float, stay: Stay, told: Mapping[str, Any]) -> Sequence[Event]:
    """Record an attempt at an iteration that failed; the same iteration is still open."""
    stay.require(run)
    return rules.note(run, at, ATTEMPT, {"attempt": stay.attempt + 1, **told})


def go_on(run: Run, at: float, *, checkpoint: str | None) -> Sequence[Event]:
    """Enter the next iteration."""
    steps: list[tuple[Any, ...]] = [(rules.move, ITERATION)]
    if checkpoint is not None:
        steps.append((rules.checkpoint, checkpoint))
    return rules.in_turn(run, at, steps)


def skip(run: Run, at: float, why: str) -> Sequence[Event]:
    """Leave the present iteration unfinished for good; it counts as one."""
    rules.require_open(run, "skip an iteration")
    return rules.note(run, at, SKIPPED, why)


def end(run: Run, at: float, outcome: Outcome, reason: TerminationReason, name: str, details: str) -> Sequence[Event]:
    """End a loop, with the name of what ended it and why; open loops below it are ended first."""
    return rules.noting(run, at, [(LIMIT, name), (STOPPED, details)], rules.end_with_children, outcome, reason)


def change_state(
    run: Run, at: float, stay: Stay | None, values: Mapping[str, Any], removed: tuple[str, ...]
) -> Sequence[Event]:
    """Set and remove keys of a loop's state; from a body (`stay`) only while that call of it counts."""
    if stay is not None:
        stay.require(run)
    return rules.change(run, at, values, removed)


def nothing(run: Run, at: float) -> Sequence[Event]:
    """Decide nothing."""
    return ()
