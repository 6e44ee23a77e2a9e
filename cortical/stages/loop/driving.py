"""Drives a stage: calls the work of its substages, iteration by iteration, by the handler's own calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from attrs import define

from cortical.core.checks import require_callable
from cortical.core.errors import Conflict, EncodeError, RunStateError, StoreError
from cortical.core.kinds import ITERATION
from cortical.core.outcome import Outcome
from cortical.core.phases import WORK
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.engine.calling import POLL_SECONDS, BodyCalls
from cortical.engine.event_loop import refuse_event_loop
from cortical.engine.lease import holding_lease
from cortical.stages.loop import continuing, iteration_rules, stage_rules
from cortical.stages.loop.iteration_rules import given_again
from cortical.stages.loop.records import Iteration, LoopSummary, StageRecord, own, plain
from cortical.stages.loop.stage_rules import outcome_of
from cortical.stages.loop.views import StageView
from cortical.stages.loop.words import CARRY, KEPT, LOOPED

if TYPE_CHECKING:
    from cortical.stages.loop.handler import StageHandler

_OVER = (Status.COMPLETED, Status.SKIPPED)


@define
class Work:
    """What the work of a substage is called with.

    `iteration` is None in a stage that does not loop, `substage` where there are none. Set `carry` to hand something
    on to the iterations after this one. `handler` takes decisions, and everything else.
    """

    handler: StageHandler
    stage: str
    substage: str | None
    iteration: Iteration | None
    carry: Any = None

    @property
    def data(self) -> Any:
        """The iteration's part of the data; None where there are none."""
        return None if self.iteration is None else self.iteration.data

    @property
    def parameters(self) -> dict[str, Any]:
        """What the iteration works with as it began; empty where there is none."""
        return {} if self.iteration is None else self.iteration.parameters


@define
class Came:
    """What came of the work below one run: its results, or why it fails, and in which substage that was."""

    results: Any
    error: Exception | None = None
    substage: str | None = None


class Driving:
    """One driving of a stage, from where it stands until it has ended or is paused.

    What others do to it meanwhile is seen within a tenth of a second, or when what is done here is at odds with it.
    """

    def __init__(
        self, handler: StageHandler, name: str, work: Callable[[Work], Any], initial: Mapping[str, Any] | None
    ) -> None:
        require_callable(work)
        self._handler, self._name, self._initial = handler, name, initial
        self._config = handler.config.stage(name)
        self._calls = BodyCalls(work)
        self._look_at = 0.0

    def run(self) -> StageRecord:
        """Drive the stage under a lease."""
        refuse_event_loop("run_stage", "asyncio.to_thread")
        handler = self._handler
        found = handler.get_stage(self._name) if handler.has_process else None
        if found is None or found.status in ("failed", "abandoned"):
            handler.start_stage(self._name)
        root = handler.journal.run(handler.process_id).tree.root
        try:
            with holding_lease(
                handler.journal, root.id, seconds=handler.lease_seconds, join=root.id != handler.process_id
            ):
                while self._pass():
                    pass
                return handler._stage_record(self._name)
        finally:
            self._calls.close()

    def _pass(self) -> bool:
        """Go on by one iteration, or one step of the stage; False when there is nothing more to do here."""
        view = self._view()
        if not _is_active(view):
            return False
        position = view.run.tree.position
        try:
            if self._config.loop is None:
                return self._plain(view)
            if view.run.place == LOOPED:
                return self._complete(self._handler.get_loop_summary(self._name))
            if view.run.place == WORK:
                self._handler.initialize_loop(self._name, self._initial)
            elif not self._next(view) and _is_active(self._view()):
                return self._complete(self._handler.complete_loop(self._name))
        except (Conflict, RunStateError):
            self._look_at = 0.0
            if self._view().run.tree.position == position:
                raise
            # Somebody else has changed it at this moment: what is to be done follows from how it stands now.
        return True

    def _complete(self, summary: LoopSummary) -> bool:
        error = None if summary.success else summary.stop_details
        self._handler.complete_stage(self._name, summary.success, summary, error=error)
        return False

    def _plain(self, view: StageView) -> bool:
        handler, name = self._handler, self._name
        came = self._substages(Work(handler, name, None, None), view.run.id)
        if came.error is None and not _is_active(self._view()):
            return False
        outcome, reason = outcome_of(came.error is None, own(plain(came.results)), came.error, f"stage {name!r}")
        handler._insist(stage_rules.complete_stage, name, outcome, reason, came.substage)
        return False

    def _next(self, view: StageView) -> bool:
        """Go through one iteration; False when there is none."""
        handler, name = self._handler, self._name
        if view.open_iteration is not None:
            iteration = given_again(view)
        elif handler._has_next(name, self._reading):
            delay = handler.retry_delay(name) if view.comes_again else 0.0
            if delay > 0:
                handler.sleep(delay)
            iteration = handler._start_next(name, self._reading)
        else:
            return False
        self._one(iteration)
        return True

    def _one(self, iteration: Iteration) -> None:
        handler, run_id = self._handler, iteration.run_id
        begun = (self._run(run_id).data or {}).get(CARRY, iteration.carry)  # by substages that are done already
        work = Work(handler, self._name, None, iteration, own(begun))
        came = self._substages(work, run_id)
        view = self._view()
        if self._run(run_id).reason is not None or (came.error is None and not _is_active(view)):
            return  # by a decision of the work, or somebody else's
        try:
            self._end(iteration, came, KEPT if _same(work.carry, view.data, CARRY) else work.carry)
        except EncodeError as broken:
            self._end(iteration, Came(None, broken), KEPT)
        except RunStateError:
            if self._run(run_id).reason is None:
                raise

    def _end(self, iteration: Iteration, came: Came, carry: Any) -> None:
        results = own(plain(came.results)) if came.results else None
        carried = carry if carry is KEPT else own(plain(carry))
        outcome, reason = outcome_of(came.error is None, results, came.error, "the iteration")
        self._handler._insist(iteration_rules.complete, self._name, outcome, reason, results, carried, came.substage)

    def _substages(self, work: Work, run_id: str) -> Came:
        """What the substages of a run brought, up to the first that it needs and that fails: that is still open."""
        if not self._config.substages:
            value, error = self._called(work, run_id)
            return Came(value, error)
        results: dict[str, Any] = {}
        for name, config in self._config.substages.items():
            view, run = self._view(), self._run(run_id)
            before = _step(view, run, name)
            if before is not None and before.status in _OVER:
                _join(results, name, before.value)
                continue
            if before is not None and before.status is Status.FAILED and config.optional:
                continue
            if before is None or before.reason is not None:
                if not _is_active(view) or run.reason is not None:
                    return Came(results)
                self._handler.start_substage(self._name, name)
            work.substage = name
            error = self._substage(work, run_id, name, results)
            if error is not None and not config.optional:
                return Came(results, error, name)
            if error is not None:
                self._complete_substage(run_id, name, *outcome_of(False, None, error, name))
        return Came(results)

    def _substage(self, work: Work, run_id: str, name: str, results: dict[str, Any]) -> Exception | None:
        """Do a substage, and complete it; why it is to fail, where it is."""
        value, error = self._called(work, run_id)
        if error is not None:
            return error
        run = self._run(run_id)
        carried = KEPT if run.kind != ITERATION or _same(work.carry, run.data, CARRY) else own(plain(work.carry))
        try:
            completed = self._complete_substage(run_id, name, *outcome_of(True, own(plain(value)), None, name), carried)
        except EncodeError as broken:
            return broken
        if completed:
            _join(results, name, value)
        return None

    def _complete_substage(
        self, run_id: str, name: str, outcome: Outcome, reason: TerminationReason, carried: Any = KEPT
    ) -> bool:
        """End a substage; False where the work itself, or somebody else, has ended it."""
        try:
            self._handler._insist(stage_rules.complete_substage, self._name, name, outcome, reason, carried)
        except RunStateError:
            step = _step(self._view(), self._run(run_id), name)
            if step is not None and step.reason is None:
                raise
            return False
        return True

    def _called(self, work: Work, run_id: str) -> tuple[Any, Exception | None]:
        try:
            return self._calls.call(work, self._seconds_left(run_id)), None
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  # for the policies of the loop
            return None, error

    def _seconds_left(self, run_id: str) -> float | None:
        loop = self._config.loop
        if loop is None or (loop.iteration_timeout is None and loop.timeout is None):
            return None
        view = self._view()
        at = self._handler.journal.time_in(view.run.tree)
        left = []
        if loop.iteration_timeout is not None:
            left.append(loop.iteration_timeout - continuing.iteration_seconds(view, at, self._run(run_id)))
        if loop.timeout is not None:
            left.append(loop.timeout - continuing.loop_seconds(view, at))
        return max(0.0, min(left))

    def _run(self, run_id: str) -> Run:
        return self._handler.journal.run(run_id)

    def _view(self) -> StageView:
        with self._reading() as process:
            return self._handler._books.started(process, self._name, "be driven")

    def _reading(self) -> AbstractContextManager[Run]:
        """The process, read anew now and then: other processes may have changed it."""
        now = time.monotonic()
        anew = now >= self._look_at
        if anew:
            self._look_at = now + POLL_SECONDS
        return self._handler._reading(anew=anew)


def _is_active(view: StageView) -> bool:
    return view.run.status is Status.ACTIVE


def _step(view: StageView, run: Run, name: str) -> Run | None:
    """The substage of this name, of the stage itself or of its newest iteration; None where it was not started."""
    line = view if run is view.run else view.steps
    return line.by_name.get(name) if line.run is run else None


def _same(carry: Any, data: Mapping[str, Any] | None, key: str) -> bool:
    before = (data or {}).get(key)
    return type(carry) is type(before) and bool(carry == before)


def _join(results: dict[str, Any], name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        results.update(value)
    elif value is not None:
        results[name] = value
