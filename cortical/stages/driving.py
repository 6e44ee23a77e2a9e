"""One driving of a pipeline: what can be begun, what follows from an end, and how the whole ends."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from msgspec import Struct

from cortical.core import rules
from cortical.core.budget import UNCOUNTED
from cortical.core.errors import RunStateError
from cortical.core.events import Ended, Event, Started
from cortical.core.journal import Journal
from cortical.core.kinds import STAGE
from cortical.core.outcome import Abandoned, Failed, Failure, Ok, Outcome, Skipped, why_of
from cortical.core.phases import WORK
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.core.topics import ATTEMPT, LIMIT, TOTAL
from cortical.engine.below import CARRIES_ON, driven_below
from cortical.engine.crew import Crew, Step
from cortical.engine.hands import Unit
from cortical.engine.lease import require_lease
from cortical.stages.context import StageContext
from cortical.stages.how import Execution
from cortical.stages.pipeline import Pipeline
from cortical.stages.recorded import is_other, mark_of
from cortical.stages.reporting import result_of, stage_result
from cortical.stages.results import PipelineResult, StageFailed
from cortical.stages.stage import Stage
from cortical.stages.undoing import undo_stages


class Driving:
    """Carries a pipeline out, once: the source of its crew.

    Args:
        run_id: the pipeline, entered in the store.
        context: what it began with, for this driving alone.
        done: by stage id, the runs before that succeeded and still count.
        family: what this pipeline was before, the first to the newest.
    """

    def __init__(
        self,
        journal: Journal,
        pipeline: Pipeline,
        run_id: str,
        context: StageContext,
        how: Execution,
        done: Mapping[str, Run] | None = None,
        family: Sequence[Run] = (),
    ) -> None:
        self._journal = journal
        self._pipeline = pipeline
        self._run_id = run_id
        self._context = context
        self._how = how
        self._order = pipeline.order()
        self._number = {stage_id: number for number, stage_id in enumerate(self._order)}
        graph = pipeline.dependencies.graph
        self._below = graph._succ
        self._waiting = {stage_id: len(above) for stage_id, above in graph._pred.items()}
        self._ready: list[int] = []
        #: What stands from before this driving: what had succeeded, and what was under way and is tried again.
        self._done = dict(done or {})
        self._open: dict[str, Run] = {}
        #: All runs of stages from before this driving: the newest of each, and the ids of all.
        earlier = [child for run in family for child in run.children if child.kind == STAGE]
        self._newest = {child.name: child for child in earlier}
        self._earlier = {child.id for child in earlier}
        self._errors: dict[str, BaseException] = {}
        self._upstream: set[str] = set()
        self._failed: list[str] = []
        self._views: dict[str, StageContext] = {}
        self._units: dict[str, Unit] = {}
        self._crew = Crew(journal, run_id, STAGE, concurrency=how.max_concurrency, sleep=how.sleep)

    def drive(self) -> PipelineResult:
        """Carry the pipeline out to its end, by who holds the lease on its tree."""
        journal = self._journal
        run = journal.refresh(self._run_id)
        with driven_below(journal, run):
            if run.status is Status.NOT_STARTED:
                left = len(self._order) - len(self._done)
                journal.insist(run.id, rules.in_turn, [(rules.annotate, TOTAL, left), (rules.begin, WORK)])
            self._take_up(journal.run(self._run_id))
            with self._telling():
                self._crew.drive(self)
                self._end()
        return self._result()

    def told(self) -> PipelineResult:
        """What had come of one that has ended already."""
        self._bring_back()
        return self._result()

    def _take_up(self, run: Run) -> None:
        """Bring what had succeeded before back into the context, and find what can be begun."""
        for stage_id, child in self._newest.items():
            if child.reason is not None or child.parent_id != run.id or stage_id not in self._number:
                continue
            if is_other(self._pipeline, stage_id, child):
                changed = Abandoned("its stage is another now, and is begun again")
                self._journal.insist(child.id, rules.end_subtree, changed, TerminationReason.MANUAL)
            else:
                self._open[stage_id] = child
        self._bring_back()
        for stage_id in self._done:
            self._unlock(stage_id)
        ready = (n for n, one in enumerate(self._order) if not self._waiting[one] and one not in self._done)
        self._ready = list(ready)  # in order, and so a heap

    def _bring_back(self) -> None:
        for stage_id in self._order:
            if stage_id in self._done:
                self._context.put_back(stage_id, self._done[stage_id].data)

    # What the crew asks for

    def next(self) -> Unit | None:
        """The first stage in order that waits for nothing any more."""
        if not self._ready:
            return None
        stage_id = self._order[heapq.heappop(self._ready)]
        stage = self._pipeline.members[stage_id].stage
        assert stage is not None
        is_async, declared = stage.is_async, stage.declared
        call = partial(self._awaited if is_async else self._called, stage)
        metadata = {"mark": mark_of(self._pipeline, stage_id)}
        unit = Unit(stage_id, call, is_async, stage_id, metadata, seconds=declared.timeout, retry=declared.retry)
        if stage_id in self._newest:
            metadata[CARRIES_ON] = self._newest[stage_id].id
            under_way = self._open.get(stage_id)
            if under_way is not None:
                unit.run_id, unit.failed_before = under_way.id, len(under_way.noted(ATTEMPT))
        self._units[stage_id] = unit
        return unit

    def outcome(self, unit: Unit, returned: _Returned) -> Outcome:
        """Skipped, or its output; what it wrote becomes its data."""
        self._views[unit.key] = returned.view
        if not returned.wanted:
            return Skipped("its `when` says that it is not needed")
        unit.data = returned.view.written or None
        return Ok(returned.value)

    def steps(self, unit: Unit, outcome: Outcome) -> Sequence[Step]:
        """After a failure, and if the others are to go on: those that wait for it are not run."""
        if self._how.on_failure == "fail_fast" or not isinstance(outcome, Failed | Abandoned):
            return ()
        return self._upstream_failed(unit.key)

    def settled(self, unit: Unit, outcome: Outcome) -> None:
        """Let what a stage wrote be seen, and those be begun that wait for nothing any more."""
        stage_id = unit.key
        del self._units[stage_id]
        view = self._views.pop(stage_id, None)
        if view is not None:
            (self._context.accept if isinstance(outcome, Ok) else self._context.drop)(view)
        if isinstance(outcome, Ok | Skipped):
            self._unlock(stage_id)
            return
        if unit.error is not None:
            self._errors[stage_id] = unit.error
        self._failed.append(stage_id)
        if self._how.on_failure == "fail_fast":
            self._crew.stop_starting()

    def _unlock(self, stage_id: str) -> None:
        for below in self._below[stage_id]:
            self._waiting[below] -= 1
            if not self._waiting[below] and below not in self._done:
                heapq.heappush(self._ready, self._number[below])

    def _upstream_failed(self, stage_id: str) -> Sequence[Step]:
        """Record of all that wait for a stage, directly or not, and of which it is not recorded yet, that they are
        not run.
        """
        found: list[str] = []
        waiting = [stage_id]
        while waiting:
            for below in self._below[waiting.pop()]:
                if below not in self._upstream and below not in self._done:
                    self._upstream.add(below)
                    found.append(below)
                    waiting.append(below)
        found.sort(key=self._number.__getitem__)
        told = f"{stage_id!r}, which it waits for, has not succeeded"
        return [(_not_run, {self._journal.new_id(): one for one in found}, stage_id, told)] if found else ()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell whoever wants to hear of it what came of each stage, once it is recorded."""
        on_stage, run_id = self._how.on_stage, self._run_id
        if on_stage is None:
            yield
            return

        def tell(event: Event) -> None:
            if isinstance(event, Ended):
                run = self._journal.run(event.run_id)
                if run.parent_id == run_id and run.kind == STAGE:
                    stage_id = run.name
                    on_stage(stage_result(stage_id, run, self._errors.get(stage_id)))

        stop_telling = self._journal.subscribe(tell)
        try:
            yield
        finally:
            stop_telling()

    # What the workers call

    def _view_of(self, stage: Stage) -> StageContext:
        """A stage's own view of the context."""
        view = self._context.for_stage(stage.id, writes=stage.declared.writes)
        view.journal, view.run_id = self._journal, self._units[stage.id].run_id
        before = self._views.get(stage.id)
        if before is not None:
            self._context.drop(before)
        self._views[stage.id] = view
        return view

    def _called(self, stage: Stage, attempt: int) -> _Returned:
        view = self._view_of(stage)
        wanted = bool(stage.when(view))
        return _Returned(stage.run(view) if wanted else None, view, wanted)

    async def _awaited(self, stage: Stage, attempt: int) -> _Returned:
        view = self._view_of(stage)
        wanted = bool(stage.when(view))
        return _Returned(await stage.run(view) if wanted else None, view, wanted)

    # The end

    def _end(self) -> None:
        run = self._journal.refresh(self._run_id)
        if run.reason is not None:
            require_lease(self._journal, run.tree.root.id)  # whoever has taken over may know more than is known here
            return
        if self._failed:
            first = min(self._failed, key=self._number.__getitem__)
            failure = self._failure(first)
            if self._how.undo_on_failure:
                undo_stages(self._journal, self._pipeline, self._run_id, self._context)
            steps = [
                step
                for one in sorted(self._failed, key=self._number.__getitem__)
                for step in self._upstream_failed(one)
            ]
            self._end_as(failure, TerminationReason.ERROR, f"not begun after {first!r} had failed", steps)
        elif self._crew.exhausted is not None:
            limit, told = self._crew.exhausted.limit, str(self._crew.exhausted)
            noted: list[Step] = [(rules.annotate, LIMIT, limit)]
            self._end_as(Abandoned(told), TerminationReason.BUDGET_EXHAUSTED, told, noted)
        else:
            counts = Counter(run.status.value for run in self._known().values())
            self._end_as(Ok(dict(counts)), TerminationReason.SUCCESS, "", [])

    def _end_as(self, outcome: Outcome, reason: TerminationReason, why: str, steps: Sequence[Step]) -> None:
        known = self._known()
        left = [one for one in self._order if one not in known and one not in self._upstream]
        not_run: list[Step] = [(_not_run, {self._journal.new_id(): one for one in left}, "", why)] if left else []
        end = [*steps, *not_run, (rules.end_with_children, outcome, reason)]
        try:
            self._journal.insist(self._run_id, rules.in_turn, end)
        except RunStateError:  # somebody has ended it at this moment
            run = self._journal.refresh(self._run_id)
            if run.reason is None:
                raise
            require_lease(self._journal, run.tree.root.id)

    def _failure(self, stage_id: str) -> Failed:
        outcome = self._known()[stage_id].outcome
        told = outcome.error if isinstance(outcome, Failed) else Failure("stopped", why_of(outcome))
        failed = Failed.of(StageFailed(stage_id, f"{told.type}: {told.message}"))
        return Failed(failed.error, (told, *(outcome.causes if isinstance(outcome, Failed) else ())))

    # Looking

    def _result(self) -> PipelineResult:
        run = self._journal.run(self._run_id)
        values = self._context.values()
        return result_of(self._journal, self._pipeline, run, self._known(), self._errors, values, self._crew.peak)

    def _known(self) -> dict[str, Run]:
        """The newest run of each stage that counts: of this driving, or one before."""
        here = {
            child.name: child
            for child in self._journal.run(self._run_id).children
            if child.kind == STAGE and child.id not in self._earlier
        }
        return {**self._done, **self._open, **here}


class _Returned(Struct):
    value: Any
    view: StageContext
    wanted: bool


def _not_run(parent: Run, at: float, ids: Mapping[str, str], upstream: str, told: str) -> Sequence[Event]:
    """Enter stages that are not run, each ended as it begins."""
    events: list[Event] = []
    for run_id, stage_id in ids.items():
        metadata = {UNCOUNTED: True, "upstream": upstream} if upstream else {UNCOUNTED: True}
        events.append(Started(run_id, 1, at, STAGE, stage_id, parent.id, None, metadata))
        events.append(Ended(run_id, 2, at, Abandoned(told), TerminationReason.DEPENDENCY_FAILURE))
    return events
