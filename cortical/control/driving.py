"""Drives a controlled loop: pass after pass, until a condition says stop.

::

    one pass:  progress → conditions, in the order they were added → checkpoint if due → body → record the iteration

What an iteration gave, the state it changed and the step to the next are one record. Where a condition calls code of
the user's, the iteration is recorded before that is asked, so that whatever it looks at is as it says.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from cortical.control import iterations
from cortical.control.controlled import Controlled
from cortical.control.iterations import Stay
from cortical.control.recovering import ControlledTarget
from cortical.control.results import (
    Body,
    Done,
    LoopResult,
    State,
    last_result,
)
from cortical.core import rules
from cortical.core.conditions import Condition, ConditionRaised, Met, Progress
from cortical.core.copies import detached
from cortical.core.errors import BudgetExhausted, EncodeError, RunStateError, StoreError
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome, told, why_of
from cortical.core.ports import seconds_on
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.core.topics import ATTEMPT, STOPPED
from cortical.core.turns import attempts_here, failures_in_row, finished_here, iterations_done, seconds_driven
from cortical.engine.calling import POLL_SECONDS, BodyCalls
from cortical.engine.limited import TimeIsUp

if TYPE_CHECKING:
    from cortical.engine.meter import Meter

#: The loop that the code which runs in this context is the body of, and for which attempt.
body_of: Final[ContextVar[tuple[Controlled, Stay] | None]] = ContextVar("cortical.body", default=None)

_FAILED: Final = frozenset({TerminationReason.ERROR, TerminationReason.DEPENDENCY_FAILURE})


class Driving:
    """One driving of a loop by one body, from where it stands until it ends or blocks."""

    def __init__(self, loop: Controlled, body: Body) -> None:
        self.loop = loop
        self.journal = loop.journal
        self._seconds = seconds_on(self.journal.clock)
        self._meter: Meter | None = None
        self.adopt(loop.settings.condition)
        self._calls = BodyCalls(body, self._stopped)
        self._error: BaseException | None = None
        self._checked = False  # whether the conditions were asked since the loop last changed
        self._paused = 0.0

    def adopt(self, condition: Condition) -> None:
        """Go by this condition from now on."""
        self.condition = condition
        self._timeout = dict(condition.limits()).get("timeout")
        if condition.measures and self._meter is None:
            self._meter = self.loop.settings.meter
            self._meter.start()

    def drive(self) -> LoopResult:
        """Drive the loop until it has ended, or is blocked."""
        started = self._seconds()
        try:
            self._take_up()
            while self._pass():
                pass
        finally:
            self._calls.close()
        return self._result(self._seconds() - started)

    # Beginning

    def _take_up(self) -> None:
        run = self._run
        self._driven_before = seconds_driven(run, run.tree.at) or 0.0
        self._since = self._seconds()
        self._failures = len(run.noted(ATTEMPT))
        self._checkpointed_at = self._since - (self.journal.time_in(run.tree) - self._last_checkpoint(run))
        try:
            self.journal.insist(run.id, iterations.take_up, self._driven_before, dict(self.condition.limits()))
        except BudgetExhausted as exhausted:
            self._exhausted(exhausted)
            return
        done = iterations_done(self._run)
        label = self._due(done)
        if label is not None and not run.checkpoints and done == 0:
            self.journal.insist(run.id, rules.checkpoint, label)
            self._checkpointed(label)

    @staticmethod
    def _last_checkpoint(run: Run) -> float:
        made = list((run.checkpoints or {}).values())
        return made[-1].at if made else run.started_at

    # One pass

    def _pass(self) -> bool:
        """Go on by one iteration, one attempt or one wait; False when there is nothing more to do here."""
        run = self._run
        if run.reason is not None or run.status is Status.BLOCKED:
            return False
        if run.status is Status.PAUSED:
            self._wait_while_paused()
            return True
        met = None if self._checked else self._met(self.progress(run))
        self._checked = False
        if met is not None:
            self._stop(met)
        elif finished_here(run):
            self._enter_next()
        else:
            self._attempt(run)
        return True

    def _attempt(self, run: Run) -> None:
        stay = Stay.of(run)
        try:
            returned = self._call(stay, detached(run.data or {}))
        except TimeIsUp as late:
            self._stop(self._late(late))
        except asyncio.CancelledError:
            if not self._stopped():
                self._attempt_failed(stay, RuntimeError("the body was cancelled by something that it waited for"))
        except StoreError:
            if not self._stopped():
                raise
        except Exception as error:  # noqa: BLE001  # for the policies of the loop
            self._attempt_failed(stay, error)
        else:
            self._finish(stay, returned if isinstance(returned, State) else State(returned))

    def _finish(self, stay: Stay, returned: State) -> None:
        """Record an iteration, and go on to the next by the same record where nothing stands against it."""
        run = self._run
        done = iterations_done(run) + 1
        stop_reason = self.loop.take_stop()
        merged = not (self.condition.calls_out or isinstance(returned, Done) or stop_reason is not None)
        met = self._met(self._progress_after(done, returned)) if merged else None
        go_on = merged and met is None
        label = self._due(done) if go_on else None
        try:
            self._record_finish(run.id, stay, returned, label, go_on)
        except RunStateError:
            if not self._stopped():
                raise
            return
        except EncodeError as error:
            self._attempt_failed(stay, error)
            return
        self._checkpointed(label)
        self._checked = go_on
        if isinstance(returned, Done):
            self._end(Met("done", TerminationReason.COMPLETED, "the body says that it is done"))
        elif stop_reason is not None:
            self._end(Met("stop", TerminationReason.MANUAL, stop_reason))

    def _record_finish(self, run_id: str, stay: Stay, returned: State, label: str | None, go_on: bool) -> None:
        try:
            self.journal.insist(run_id, iterations.finish, stay, returned, checkpoint=label, go_on=go_on)
        except BudgetExhausted as exhausted:
            self.journal.insist(run_id, iterations.finish, stay, returned, checkpoint=None, go_on=False)
            self._exhausted(exhausted)

    def _enter_next(self) -> None:
        run = self._run
        label = self._due(iterations_done(run))
        try:
            self.journal.insist(run.id, iterations.go_on, checkpoint=label)
        except BudgetExhausted as exhausted:
            self._exhausted(exhausted)
        except RunStateError:  # paused or stopped at this moment
            if not self._stopped():
                raise
        else:
            self._checked = True
            self._checkpointed(label)

    def _attempt_failed(self, stay: Stay, error: Exception) -> None:
        self._error = error
        self._failures += 1
        kind = self.loop.settings.classify(error)
        failed = {"error": told(error), "class": kind.value}
        try:
            self.journal.insist(self._run.id, iterations.fail_attempt, stay, failed)
        except RunStateError:
            if not self._stopped():
                raise
            return
        run = self._run
        retry = self.loop.settings.retry
        attempt = failures_in_row(run)
        met = self._met(self.progress(run))
        if met is None and not retry.covers(error, Exception):
            met = Met("errors", TerminationReason.ERROR, f"{type(error).__name__} is not tried again")
        if met is not None:
            self._stop(met)
        else:
            self._checked = True
            self.wait(retry.seconds_before(attempt + 1, self.loop.settings.random))

    def _call(self, stay: Stay, state: dict[str, Any]) -> Any:
        seconds = self._seconds_left()
        token = body_of.set((self.loop, stay))
        try:
            return self._calls.call(state, seconds)
        finally:
            body_of.reset(token)

    def _seconds_left(self) -> float | None:
        """How long the body may take; None for as long as it likes."""
        one = self.loop.settings.iteration_timeout
        if self._timeout is None:
            return one
        left = max(0.0, self._timeout - self._elapsed())
        return left if one is None else min(one, left)

    def _late(self, late: TimeIsUp) -> Met:
        one = self.loop.settings.iteration_timeout
        if one is not None and late.seconds == one:
            told = f"an iteration was still under way after {one:g} s"
            return Met("iteration_timeout", TerminationReason.TIMEOUT, told)
        told = f"an iteration was under way when the {self._timeout:g} s were over"
        return Met("timeout", TerminationReason.TIMEOUT, told)

    # Progress and conditions

    def progress(self, run: Run) -> Progress:
        """How far the loop has come."""
        return Progress(
            iterations_done(run),
            self._elapsed(),
            self._failures,
            failures_in_row(run),
            self._resources(),
            self._last_result(run),
            lambda: detached(run.data or {}),
        )

    def _progress_after(self, done: int, returned: State) -> Progress:
        return Progress(done, self._elapsed(), self._failures, 0, self._resources(), returned.result)

    def _last_result(self, run: Run) -> Any:
        return last_result(run) if self.condition.calls_out else None

    def _resources(self) -> dict[str, float]:
        measured = {} if self._meter is None else self._meter.used()
        return {**measured, **self.loop.told_usage}

    def _elapsed(self) -> float:
        return self._driven_before + self._seconds() - self._since - self._paused

    def _met(self, progress: Progress) -> Met | None:
        try:
            return self.condition.met(progress)
        except ConditionRaised as raised:
            self._error = raised
            return Met(raised.name, TerminationReason.ERROR, str(raised))

    def _due(self, done: int) -> str | None:
        """The label of the checkpoint that is due before the body is called after so many iterations; None for none."""
        every, seconds = self.loop.settings.checkpoint_every
        number = done + 1
        if every is not None and number % every == 0:
            return f"iteration {number}"
        if seconds is not None and self._seconds() - self._checkpointed_at >= seconds:
            return f"iteration {number}"
        return None

    def _checkpointed(self, label: str | None) -> None:
        if label is not None:
            self._checkpointed_at = self._seconds()

    # Ending

    def _stop(self, met: Met) -> None:
        """End the loop, unless it can be recovered."""
        if met.ends_well or not self._recovered(met):
            self._end(met)
        else:
            self._error = None
            self._failures = len(self._run.noted(ATTEMPT))

    def _recovered(self, met: Met) -> bool:
        recovery = self.loop.settings.recovery
        if recovery is None or not recovery.automatic:
            return False
        return recovery.recover(ControlledTarget(self.loop, self), met.reason, self._error, met.details).success

    def _end(self, met: Met) -> None:
        run = self._run
        try:
            self.journal.insist(run.id, iterations.end, self._outcome(run, met), met.reason, met.name, met.details)
        except RunStateError:
            if not self._stopped():
                raise

    def _outcome(self, run: Run, met: Met) -> Outcome:
        if met.ends_well:
            return Ok(last_result(run))
        if met.reason in _FAILED:
            error = self._error or RuntimeError(met.details)
            return Failed.of(error, attempts=max(1, attempts_here(run)))
        return Abandoned(met.details)

    def _exhausted(self, exhausted: BudgetExhausted) -> None:
        self._end(Met(exhausted.limit, TerminationReason.BUDGET_EXHAUSTED, str(exhausted)))

    def _stopped(self) -> bool:
        """Whether the loop was stopped or paused meanwhile, so that what is refused to it need not be told."""
        return self.journal.refresh(self._run.id).status is not Status.ACTIVE

    # Waiting

    def _wait_while_paused(self) -> None:
        since = self._seconds()
        while self._run.status is Status.PAUSED:
            self.loop.changed.wait(POLL_SECONDS)
            self.loop.changed.clear()
            self.journal.refresh(self._run.id)
        self._paused += self._seconds() - since

    def wait(self, seconds: float) -> None:
        """Let this time go by, or less if the loop is stopped meanwhile."""
        over = self.loop.settings.sleep
        if seconds > 0 and over is not None:
            over(seconds)
        elif seconds > 0:
            self.loop.changed.wait(min(seconds, threading.TIMEOUT_MAX))
            self.loop.changed.clear()

    def start_anew(self) -> None:
        """Count time and usage from here on."""
        self._driven_before, self._paused, self._since = 0.0, 0.0, self._seconds()
        if self._meter is not None:
            self._meter.start()

    @property
    def _run(self) -> Run:
        return self.loop.run

    def _result(self, seconds: float) -> LoopResult:
        return result_of(self._run, seconds)


def result_of(run: Run, seconds: float) -> LoopResult:
    """How a loop stands."""
    details = (run.noted(STOPPED) or [""])[-1]
    error = why_of(run.outcome) if isinstance(run.outcome, Failed) else None
    if isinstance(run.outcome, Abandoned | None):
        details = run.why if run.outcome is None else run.outcome.reason
    return LoopResult(run.id, run.status, run.reason, details, iterations_done(run), last_result(run), error, seconds)
