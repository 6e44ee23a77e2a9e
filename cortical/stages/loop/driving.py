"""Drives a stage: calls the work of its substages, iteration by iteration, by the handler's own calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from attrs import define

from cortical.control.calling import Body, BodyCalls
from cortical.core.checks import require_callable
from cortical.core.errors import EncodeError, StoreError
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.engine.event_loop import refuse_event_loop
from cortical.engine.lease import holding_lease
from cortical.stages.loop import continuing, stage_rules
from cortical.stages.loop.iteration_rules import given_again
from cortical.stages.loop.records import Iteration, StageRecord, own, plain
from cortical.stages.loop.stage_rules import outcome_of
from cortical.stages.loop.views import StageView
from cortical.stages.loop.words import CARRY, ITERATION, KEPT, LOOPED, WORK

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
    """One driving of a stage, from where it stands until it has ended or is paused."""

    def __init__(
        self, handler: StageHandler, name: str, work: Callable[[Work], Any], initial: Mapping[str, Any] | None
    ) -> None:
        require_callable(work)
        self._handler, self._name, self._initial = handler, name, initial
        self._config = handler.config.stage(name)
        self._calls = BodyCalls(cast("Body", work), lambda: False)

    def run(self) -> StageRecord:
        """Drive the stage under a lease."""
        refuse_event_loop("run_stage", "asyncio.to_thread")
        handler = self._handler
        found = handler.get_stage(self._name) if handler.has_process else None
        if found is None or found.status in ("failed", "abandoned"):
            handler.start_stage(self._name)
        root = handler.journal.refresh(handler.process_id).tree.root
        try:
            with holding_lease(
                handler.journal, root.id, seconds=handler.lease_seconds, join=root.id != handler.process_id
            ):
                handler.journal.refresh(root.id)
                return self._drive()
        finally:
            self._calls.close()

    def _drive(self) -> StageRecord:
        handler, name = self._handler, self._name
        record = handler.get_stage(name)
        assert record is not None
        if record.ended_at is not None:
            return record
        if self._config.loop is None:
            return self._plain()
        if self._view().run.place == WORK:
            handler.initialize_loop(name, self._initial)
        while not self._paused() and self._next():
            pass
        if self._paused():
            return handler._stage_record(name)
        summary = handler.complete_loop(name) if self._view().run.place != LOOPED else handler.get_loop_summary(name)
        return handler.complete_stage(
            name, summary.success, summary, error=None if summary.success else summary.stop_details
        )

    def _plain(self) -> StageRecord:
        handler, name = self._handler, self._name
        work = Work(handler, name, None, None)
        broken = self._substages(work, self._view().run)
        if self._paused() and broken.error is None:
            return handler._stage_record(name)
        with handler.journal.transaction():
            self._fail_substage(broken)
            return handler.complete_stage(name, broken.error is None, broken.results, error=broken.error)

    def _next(self) -> bool:
        """Go through one iteration; False when there is none."""
        handler, name = self._handler, self._name
        view = self._view()
        if view.open_iteration is not None:
            iteration = given_again(view)
        elif handler.has_next_iteration(name):
            delay = handler.retry_delay(name)
            if delay > 0:
                handler.sleep(delay)
            iteration = handler.start_iteration(name)
        else:
            return False
        self._one(iteration, handler.journal.run(iteration.run_id))
        return True

    def _one(self, iteration: Iteration, run: Run) -> None:
        handler, name = self._handler, self._name
        begun = (run.data or {}).get(CARRY, iteration.carry)  # by substages that are done already
        work = Work(handler, name, None, iteration, own(begun))
        came = self._substages(work, run)
        if run.reason is not None or (self._paused() and came.error is None):
            return  # by a decision of the work
        carry = KEPT if _same(work.carry, self._view().data, CARRY) else work.carry
        try:
            with handler.journal.transaction():  # a substage that failed, and what follows from it
                self._fail_substage(came)
                handler.complete_iteration(name, came.error is None, came.results or None, carry, error=came.error)
        except EncodeError as broken:
            handler.complete_iteration(name, False, error=broken)

    def _substages(self, work: Work, run: Run) -> Came:
        """What the substages of a run brought, up to the first that it needs and that fails: that is still open."""
        if not self._config.substages:
            value, error = self._called(work, run)
            return Came(value, error)
        results: dict[str, Any] = {}
        for name, config in self._config.substages.items():
            before = self._steps(run).get(name)
            if before is not None and before.status in _OVER:
                _join(results, name, before.value)
                continue
            if before is not None and before.status is Status.FAILED and config.optional:
                continue
            if before is None or before.reason is not None:
                if self._paused() or run.reason is not None:
                    return Came(results)
                self._handler.start_substage(self._name, name)
            work.substage = name
            error = self._substage(work, run, name, results)
            if error is not None and not config.optional:
                return Came(results, error, name)
            if error is not None:
                self._fail_substage(Came(None, error, name))
        return Came(results)

    def _substage(self, work: Work, run: Run, name: str, results: dict[str, Any]) -> Exception | None:
        """Do a substage, and complete it; why it is to fail, where it is."""
        value, error = self._called(work, run)
        if error is not None or self._steps(run)[name].reason is not None:  # the latter by the work itself
            return error
        outcome, reason = outcome_of(True, own(plain(value)), None, name)
        carried = KEPT if run.kind != ITERATION or _same(work.carry, run.data, CARRY) else own(plain(work.carry))
        try:
            self._handler._change(stage_rules.complete_substage, self._name, name, outcome, reason, carried)
        except EncodeError as broken:
            return broken
        _join(results, name, value)
        return None

    def _fail_substage(self, came: Came) -> None:
        run = self._view().open_iteration or self._view().run
        if came.substage is not None and self._steps(run)[came.substage].reason is None:
            self._handler.complete_substage(self._name, came.substage, False, error=came.error)

    def _called(self, work: Work, run: Run) -> tuple[Any, Exception | None]:
        try:
            return self._calls.call(cast("dict[str, Any]", work), self._seconds_left(run)), None
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  # for the policies of the loop
            return None, error

    def _seconds_left(self, run: Run) -> float | None:
        loop = self._config.loop
        if loop is None:
            return None
        view = self._view()
        at = self._handler.journal.time_in(view.run.tree)
        left = []
        if loop.iteration_timeout is not None:
            left.append(loop.iteration_timeout - continuing.iteration_seconds(view, at, run))
        if loop.timeout is not None:
            left.append(loop.timeout - continuing.loop_seconds(view, at))
        return max(0.0, min(left)) if left else None

    def _view(self) -> StageView:
        with self._handler._reading() as process:
            return self._handler._books.started(process, self._name, "be driven")

    def _steps(self, run: Run) -> dict[str, Run]:
        view = self._view()
        return dict((view if run is view.run else view.steps).by_name)

    def _paused(self) -> bool:
        run = self._view().run
        return run.reason is None and run.status is not Status.ACTIVE


def _same(carry: Any, data: Mapping[str, Any] | None, key: str) -> bool:
    before = (data or {}).get(key)
    return type(carry) is type(before) and bool(carry == before)


def _join(results: dict[str, Any], name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        results.update(value)
    elif value is not None:
        results[name] = value
