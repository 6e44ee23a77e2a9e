"""How work goes on that nobody drives, for each kind of run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from cortical.agents import Agent, Verdict
from cortical.agents.running import start
from cortical.batch import BatchProcessor
from cortical.batch.workflow import Workflow
from cortical.control import Done, LoopController
from cortical.core.going_on import way_on
from cortical.core.journal import Journal
from cortical.reasoning import NestedLoopExecutor
from cortical.stages import Pipeline, execute
from cortical.stages.loop import StageHandler
from cortical.store import MemoryStore
from cortical.testing import FakeClock
from tests.unit.staged import made

MADE: Final = "if a program made it, that program by `cortical.stages.resume`"

reader = Agent("reader")


@reader.verify
def read(loop: object) -> Verdict:
    return Verdict.passed()


def by_agent(journal: Journal) -> str:
    return start(journal, reader, "read")


def by_agent_below(journal: Journal) -> str:
    return start(journal, reader, "read", parent=by_hand(journal))


def by_hand(journal: Journal) -> str:
    with NestedLoopExecutor(store=journal.store) as executor:
        return executor.start_root("by hand")


def controlled(journal: Journal) -> str:
    with LoopController("poll", store=journal) as controller:
        return controller.run(lambda state: Done()).run_id


def batch(journal: Journal) -> str:
    with BatchProcessor(".", "sizes", lambda item, task, context: item, store=journal) as processor:
        return processor.run([1]).run_id


def process(journal: Journal) -> str:
    return StageHandler({"stages": {"one": {}}}, store=journal).initialize_process("mending")


def pipeline(journal: Journal) -> str:
    return execute(Pipeline("shop", [made("a")]), store=journal).run_id


def workflow(journal: Journal) -> str:
    step = {"id": "a", "task": "file", "with": {"action": "list"}}
    return Workflow({"name": "lists", "steps": [step]}).run(store=journal).run_id


@pytest.mark.parametrize(
    ("begin", "told"),
    [
        (by_agent, "`cortical resume {id}`"),
        (by_agent_below, "`cortical resume {id}`"),
        (by_hand, "run its program again, which alone can drive it"),
        (controlled, "run its program again, which takes up 'poll' where it stands"),
        (batch, "run its program again, which takes up 'sizes' where it stands"),
        (process, "run its program again, which takes up 'mending' where it stands"),
        (workflow, "`cortical workflow resume {id}`"),
        (pipeline, "`cortical pipeline resume {id} --stages MODULE`, or " + MADE),
    ],
)
def test_it_is_said_how_each_kind_of_run_goes_on(begin: Callable[[Journal], str], told: str) -> None:
    """By a command where one can take it up, else by the program that it is of."""
    journal = Journal(MemoryStore(), clock=FakeClock())
    run_id = begin(journal)
    assert str(way_on(journal.refresh(run_id))) == told.format(id=run_id)
