"""Results of all faces: what was driven tells how it stands by the same names, whatever it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cortical import Agent, Loop, Verdict, run, why
from cortical.batch import BatchProcessor, register_task
from cortical.batch.workflow import Workflow
from cortical.control import Done, LoopController
from cortical.core.errors import CorticalError, RunNotFound
from cortical.core.journal import Journal
from cortical.core.outcome import told
from cortical.core.policy import ONCE, Retry
from cortical.core.status import Status, TerminationReason
from cortical.stages import Pipeline, execute, stage
from cortical.stages.loop import StageHandler
from cortical.store import MemoryStore

Driven = Callable[[bool, Path], Any]


def work(well: bool) -> str:
    if not well:
        raise OSError("the disk is full")
    return "done"


def agent(well: bool, folder: Path) -> Any:
    worker = Agent("worker")

    @worker.produce
    def produce(loop: Loop) -> None:
        work(well)

    worker.verify(lambda loop: Verdict.passed())
    return run(worker, "goal")


def controlled(well: bool, folder: Path) -> Any:
    return LoopController("loop", retry=ONCE).run(lambda state: Done(work(well)))


def pipeline(well: bool, folder: Path) -> Any:
    return execute(Pipeline("p", [stage("t:a")(lambda context: work(well))]))


def batch(well: bool, folder: Path) -> Any:
    return BatchProcessor(folder, "b", lambda item, task, context: work(well)).run([1])


@register_task("test_results.work")
def task(item: Any, given: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
    return work(given["well"])


def workflow(well: bool, folder: Path) -> Any:
    step = {"id": "a", "task": "test_results.work", "with": {"well": well}}
    return Workflow({"name": "w", "steps": [step]}, workspace=folder).run()


def loop_stage(well: bool, folder: Path) -> Any:
    return StageHandler({"stages": {"s": {}}}).run_stage("s", lambda at: work(well))


ALL: list[Driven] = [agent, controlled, pipeline, batch, workflow, loop_stage]


@pytest.mark.parametrize("driven", ALL)
def test_what_went_well(driven: Driven, tmp_path: Path) -> None:
    """It is ok, has its status, reason and time, nothing to say why not, and passes itself on."""
    result = driven(True, tmp_path)
    assert result.ok
    assert Status(result.status) is Status.COMPLETED
    assert TerminationReason(result.reason) in (TerminationReason.SUCCESS, TerminationReason.COMPLETED)
    assert result.why == ""
    assert result.seconds >= 0
    assert result.raise_for_failure() is result


@pytest.mark.parametrize("driven", ALL)
def test_what_failed(driven: Driven, tmp_path: Path) -> None:
    """It is not ok, says why, and raises an error of this library, in whose text or cause the first one stands."""
    result = driven(False, tmp_path)
    assert not result.ok
    assert Status(result.status) is Status.FAILED
    assert TerminationReason(result.reason) in (TerminationReason.ERROR, TerminationReason.DEPENDENCY_FAILURE)
    assert result.why
    assert result.seconds >= 0
    with pytest.raises(CorticalError) as raised:
        result.raise_for_failure()
    assert "the disk is full" in f"{raised.value} {raised.value.__cause__}"


class Odd(Exception):
    """One whose text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("error", [OSError("gone"), RunNotFound("x"), Odd()])
def test_an_error_is_told_alike_wherever_it_is_told(error: Exception) -> None:
    """Of an attempt, at the end, and to a person: its type with the module, and what it says, if that can be had."""

    def body(state: dict[str, Any]) -> None:
        raise error

    controller = LoopController("loop", retry=Retry(max_attempts=2, delay=0))
    result = controller.run(body)
    assert [*controller.get_execution_history()[0].errors, result.why] == [told(error)] * 3
    assert why(controller, "loop").because == f"it failed after 2 attempts: {told(error)}"

    tried = Agent("tried", retry=Retry(max_attempts=2, delay=0))
    tried.produce(lambda loop: body({}))
    tried.verify(lambda loop: Verdict.passed())
    store = MemoryStore()
    ended = run(tried, "goal", store=store)
    (attempt,) = Journal(store, clock=time).run(ended.run_id).noted("attempt")
    assert (attempt["error"], ended.why) == (told(error), told(error))
