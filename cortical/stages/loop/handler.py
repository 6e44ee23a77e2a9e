"""Stages that loop, step by step: each call is one record in the log, or changes nothing.

::

    handler = StageHandler(default_config(), store="runs.db")
    handler.start_stage("data_processing")
    handler.initialize_loop("data_processing", initial_data={"total_items": 500})
    while handler.has_next_iteration("data_processing"):
        iteration = handler.start_iteration("data_processing")
        …
        handler.complete_iteration("data_processing", success=True, iteration_results={"processed_items": 100})
    summary = handler.complete_loop("data_processing")
    handler.complete_stage("data_processing", success=True, result_data=summary)

A process is a run, its stages are the children of it, a stage's iterations those of the stage, and substages those of
the iteration. So everything can be looked at, and gone on with, in another process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from cortical.core.checks import require_flag, require_reason
from cortical.core.conditions import ConditionRaised
from cortical.core.copies import detached
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.stages.loop import continuing, decisions, iteration_rules, loop_rules
from cortical.stages.loop.continuing import Stop
from cortical.stages.loop.deciding import DecidingFace, values_of
from cortical.stages.loop.driving import Driving, Work
from cortical.stages.loop.records import Iteration, IterationRecord, LoopStart, LoopSummary, StageRecord, own, plain
from cortical.stages.loop.stage_rules import outcome_of
from cortical.stages.loop.summary import collected, finished, iteration_record, require_functions
from cortical.stages.loop.views import StageView
from cortical.stages.loop.words import INITIAL_DATA, KEPT, LOOPING

#: The process while nobody changes it: with all that is recorded of it, or as it was known a moment ago.
Reading: TypeAlias = Callable[[], AbstractContextManager[Run]]


class StageHandler(DecidingFace):
    """Runs a process of stages, of which some loop, as a configuration says.

    Args:
        config: ``{"stages": {name: stage, …}}``; looked at at once, and everything that is wrong with it is told.
        store: a path or URL, an open store, a journal, or another face to share; in memory by default.
        clock: tells the time.
        functions: by name what the configuration names: predicates for continue_condition, aggregates, transforms.
        lease_seconds: how long after the process that drives a stage has died another may take over.
        sleep: waits between the attempts of a stage that is driven.
        random: numbers from 0 to 1 for the jitter of those waits.

    Calls about stages raise `InvalidInput` for a name that the configuration does not have, `RunStateError` where it is
    not their time, and `StoreError` when something could not be kept; whichever, everything is as it was. The handler
    may be used by several threads.
    """

    # The loop

    def initialize_loop(
        self, stage: str, initial_data: Mapping[str, Any] | None = None, *, decision: Mapping[str, Any] | None = None
    ) -> LoopStart:
        """Begin a stage's loop, and return how it is going to run.

        Args:
            initial_data: what it works on. Under iteration_data_key a list of which each iteration gets its part; or
                ``total_items``, of which it gets a range.
            decision: values of the initial decision, over its defaults.

        Raises:
            RunStateError: the stage is not open, or loops already.
            InvalidInput, WrongType: nothing says when the loop is to go on or to end; a function that the
                configuration names is not registered.
        """
        data = detached(values_of(initial_data, "initial_data"))
        decided = None if decision is None else detached(values_of(decision, "a decision's values"))
        config = self.config.stage(stage)
        if config.loop is not None:
            require_functions(config.loop, self.functions)
        self._change(loop_rules.initialize, stage, data, decided, self.functions)
        return self._loop_start(stage)

    start_loop = initialize_loop

    def has_next_iteration(self, stage: str) -> bool:
        """Whether `start_iteration` would start one; while one is open, whether another is to follow it.

        False while the stage is paused, and once its loop is over. Changes nothing.

        Raises:
            RunStateError: the loop has not begun.
            ConditionRaised: the loop's predicate did.
        """
        return self._has_next(stage, self._reading)

    def start_iteration(self, stage: str) -> Iteration:
        """Start the next iteration, or another attempt at the last, and return what it is given.

        Raises:
            RunStateError: one is open, none is to come, or the stage is paused.
            ConditionRaised: the loop's predicate did.
        """
        return self._start_next(stage, self._reading)

    def complete_iteration(
        self,
        stage: str,
        success: bool,
        iteration_results: Any = None,
        carry: Any = KEPT,
        *,
        error: BaseException | str | None = None,
    ) -> None:
        """End the iteration under way. After a failure the loop does what its on_error says.

        An iteration that took longer than its iteration_timeout fails, whatever `success` says.

        Args:
            carry: what the iterations after it are handed; without it they get what this one got.
            error: why it failed.

        Raises:
            RunStateError: none is open; or it cannot be called a success: a substage that it needs is not done.
        """
        results = iteration_results if iteration_results is None else own(plain(iteration_results))
        outcome, reason = outcome_of(success, results, error, "the iteration")
        carried = carry if carry is KEPT else own(plain(carry))
        self._change(iteration_rules.complete, stage, outcome, reason, results, carried)

    def retry_iteration(self, stage: str, reason: str = "") -> None:
        """Have the newest iteration tried again by the next `start_iteration`; one that is open is abandoned.

        A loop that this iteration's failure has stopped goes on. What was decided and carried stays.

        Raises:
            RunStateError: there is none, or its loop was ended.
        """
        self._insist(iteration_rules.undo, stage, require_reason(reason), back=False)

    def rollback_iteration(self, stage: str, reason: str = "") -> None:
        """As `retry_iteration`, and what was decided and carried is as it was before the iteration.

        Its record stays, marked as rolled back.

        Raises:
            RunStateError: there is none, or its loop was ended.
            CheckpointNotFound: somebody has deleted the checkpoint that was made before it.
        """
        self._insist(iteration_rules.undo, stage, require_reason(reason), back=True)

    def skip_iteration(self, stage: str, reason: str = "") -> None:
        """Leave the iteration under way unfinished for good; the next one follows.

        Raises:
            RunStateError: none is open.
        """
        self._insist(iteration_rules.skip, stage, require_reason(reason))

    def update_loop_condition(self, stage: str, continue_loop: bool = False) -> None:
        """Have the loop end after the iteration under way, or between two at once; True takes that back.

        Raises:
            RunStateError: the loop has not begun, or is over.
        """
        self._insist(loop_rules.set_condition, stage, require_flag(continue_loop, "continue_loop"))

    def pause_loop(self, stage: str, reason: str = "") -> None:
        """Let nothing new begin in the loop until `resume_loop`; what is under way may be completed.

        Raises:
            RunStateError: the loop is not active.
        """
        self._insist(loop_rules.pause, stage, require_reason(reason))

    def resume_loop(self, stage: str) -> None:
        """Let a paused loop go on where it stands: the same iteration, the same decisions.

        Raises:
            RunStateError: it is not paused.
        """
        self._insist(loop_rules.resume, stage)

    def break_loop(self, stage: str, reason: str = "") -> None:
        """End the loop at once: an iteration under way is abandoned as it stands. `complete_loop` follows.

        Raises:
            RunStateError: the loop has not begun, or is stopped already.
        """
        self._insist(loop_rules.break_off, stage, require_reason(reason))

    def complete_loop(self, stage: str) -> LoopSummary:
        """End a loop of which no other iteration is to come, and return what came of it. The stage stays open.

        Raises:
            RunStateError: an iteration is open or still to come, or the loop is paused.
            Whatever the functions raise that the configuration names as aggregate and transform.
        """
        wanted = self._wanted(stage)
        with self._reading() as process:
            view = self._books.looping(process, stage, "complete its loop")
            at = self.journal.time_in(process.tree)
            loop_rules.complete_loop(process, at, self._books, stage, wanted)  # may refuse
            seen, summary = view.version, self._collected(view, wanted)
        summary = finished(summary, view.loop, self.functions)
        self._change(loop_rules.complete_loop, stage, wanted, seen)
        return summary

    def get_loop_summary(self, stage: str) -> LoopSummary:
        """What came of a stage's loop, or has come of it so far.

        Raises:
            RunStateError: it has not begun.
        """
        wanted = self._wanted(stage)
        with self._reading() as process:
            view = self._books.started(process, stage, "tell of its loop")
            if not view.began:
                self._books.looping(process, stage, "tell of its loop")
            summary = self._collected(view, wanted)
        return finished(summary, view.loop, self.functions)

    def get_iterations(self, stage: str) -> list[IterationRecord]:
        """Every attempt at an iteration, in order; the last may still be open."""
        with self._reading() as process:
            view = self._books.started(process, stage, "tell of its iterations")
            view.loop  # noqa: B018  # refuses a plain stage
            return [iteration_record(view, run) for run in view.runs]

    # Driven

    def run_stage(
        self, name: str, work: Callable[[Work], Any], *, initial_data: Mapping[str, Any] | None = None
    ) -> StageRecord:
        """Drive a stage: call `work` for each substage of each iteration, from wherever the stage stands.

        `work`, a function or a coroutine function, is given a `Work`, and what it returns is the substage's result; of
        a stage without substages it is called once for each iteration. Together the results of the substages are the
        iteration's: mappings are joined, other values stand under the name of their substage. What it raises makes the
        substage fail, and the iteration, unless the substage is optional. What was done before, in a process that was
        killed too, is not done again; only a substage that was under way is. Returns how the stage stands: paused,
        completed (with the loop's summary as its result), or failed.

        Raises:
            LeaseHeld: somebody else drives the process.
            RuntimeError: called inside an event loop.
            KeyboardInterrupt: as it came; the stage stays open, and can be gone on with.
        """
        return Driving(self, name, work, initial_data).run()

    def retry_delay(self, stage: str) -> float:
        """How many seconds the policy still waits before the next attempt at an iteration that failed; or 0.0."""
        with self._reading() as process:
            view = self._books.looping(process, stage, "be tried again")
            last = view.last
            if last is None or last.ended_at is None or not view.comes_again or last.status is not Status.FAILED:
                return 0.0
            _, attempt = view.next_visit
            wait = iteration_rules.retry_of(view).seconds_before(attempt, self.random)
            return max(0.0, last.ended_at + wait - self.journal.time_in(process.tree))

    # Below

    def _has_next(self, stage: str, reading: Reading) -> bool:
        wanted = self._wanted(stage, reading)
        with reading() as process:
            view = self._books.started(process, stage, "go on with its loop")
            if view.run.reason is None and view.run.place != LOOPING:
                return self._none_more(process, stage)
            if view.run.status is not Status.ACTIVE or process.status is not Status.ACTIVE:
                return False
            return continuing.stop_before_next(view, self.journal.time_in(process.tree), wanted) is None

    def _start_next(self, stage: str, reading: Reading) -> Iteration:
        made: list[Iteration] = []
        self._change(iteration_rules.start, stage, self._wanted(stage, reading), made)
        return made[0]

    def _wanted(self, stage: str, reading: Reading | None = None) -> bool | None:
        """What the loop's predicate answers, asked once for each state; None where it has none."""
        loop = self.config.stage(stage).loop
        if loop is None or loop.continue_condition not in self.functions:
            return None
        with (reading or self._reading)() as process:
            view = self._books.stage(process, stage)
            if view is None or view.run.place != LOOPING or view.run.reason is not None:
                return None
            seen = view.version
            before = self._answers.get(stage)
            if before is not None and before[0] == seen:
                return before[1]
            state = continuing.state_of(view)
        try:
            answer = bool(self.functions[loop.continue_condition](state))
        except Exception as error:
            raise ConditionRaised(loop.continue_condition, error) from error
        self._answers[stage] = seen, answer
        return answer

    def _none_more(self, process: Run, stage: str) -> bool:
        view = self._books.started(process, stage, "go on with its loop")
        if not view.began:
            self._books.looping(process, stage, "go on with its loop")
        return False

    def _collected(self, view: StageView, wanted: bool | None) -> LoopSummary:
        at = self.journal.time_in(view.run.tree)
        kept = view.stopped()
        stop = Stop.of(kept) if kept is not None else continuing.stop_before_next(view, at, wanted)
        return collected(view, at, None if stop is None else continuing.judged(view, stop))

    def _loop_start(self, stage: str) -> LoopStart:
        with self._reading() as process:
            view = self._books.started(process, stage, "tell of its loop")
            given, loop = decisions.parameters(view), view.loop
            return LoopStart(
                stage,
                loop.type,
                continuing.total_of(view, given),
                loop.max_iterations,
                continuing.batch_size(view, given),
                view.source.length,
                loop.on_limit,
                loop.on_error,
                loop.continue_condition,
                detached({name: decisions.effective(view, name) for name in view.config.decisions}),
                detached(given),
                own(view.data[INITIAL_DATA]),
            )
