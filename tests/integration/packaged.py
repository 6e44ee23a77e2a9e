"""What a stranger does with the package, on the bare installation and with each extra; it needs nothing of the tests.

Run as a program (``python packaged.py PART``) in a folder of its own it prints what came of that part, or the error
that told of a missing extra.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path

from cortical import Agent, Loop, Verdict, run
from cortical.batch import BatchProcessor, ItemContext
from cortical.batch.workflow import Workflow
from cortical.batch.workflow_checks import InvalidWorkflow
from cortical.core.extras import MissingExtra
from cortical.core.journal import Journal
from cortical.reasoning import NestedLoopExecutor
from cortical.stages import Pipeline, StageContext, StageRegistry, execute, gantt, stage
from cortical.stages.definition import SCHEMA
from cortical.store import open_store


@stage("words:load", writes=["words"])
def load(context: StageContext) -> None:
    """Give some words."""
    context["words"] = ["red", "wheel", "barrow"]


@stage("words:count", after=["words:load"], reads=["words"])
def count(context: StageContext) -> int:
    """Count them."""
    return len(context["words"])


def shout(item: str, task: object, context: ItemContext) -> str:
    """What a batch does with each item."""
    return item.upper()


def from_file(name: str, text: str) -> Pipeline:
    """A pipeline of the stages here, defined in a file."""
    Path(name).write_text(text)
    return Pipeline.from_file(name, StageRegistry([load, count]))


def loops() -> object:
    """Loops in a file, and in the same file opened anew."""
    with NestedLoopExecutor(store="loops.db") as executor:
        root = executor.start_root("Build authentication system")
        child = executor.spawn_child(root, "Design schema")
        executor.complete(child, {"tables": 2})
    with NestedLoopExecutor(store="loops.db") as executor:
        return list(executor.get_context(root).child_results.values())


def agent() -> object:
    """An agent that drives itself."""
    counter = Agent("counter")

    @counter.answer
    def answer(loop: Loop) -> None:
        loop.answer(len(loop.goal.split()))

    @counter.verify
    def check(loop: Loop) -> Verdict:
        return Verdict.passed(loop.answers[-1])

    return run(counter, "so much depends", store="agent.db").value


def batch() -> object:
    """A batch, kept."""
    return BatchProcessor(".", "shouting", shout, store="batch.db").run(["red", "wheel"]).results


def toml() -> object:
    """A pipeline that a file defines, for which no extra is needed; editors find its schema."""
    pipeline = from_file("words.toml", 'name = "words"\nstages = ["words:load", "words:count"]\n')
    return SCHEMA.is_file(), execute(pipeline, store="words.db")["words:count"].output


def yaml() -> object:
    """The same in YAML."""
    pipeline = from_file("words.yaml", 'name: words\nstages: ["words:load", "words:count"]\n')
    return execute(pipeline)["words:count"].output


def templates() -> object:
    """A workflow that fills in a text."""
    said = {"action": "write", "path": "said.txt", "content": {"template": "{{ parameters.word | upper }}"}}
    steps = [{"id": "say", "task": "file", "with": said}]
    result = Workflow({"name": "saying", "parameters": {"word": "red"}, "steps": steps}).run(store="saying.db")
    result.raise_for_failure()
    return Path("said.txt").read_text()


def charts() -> object:
    """A run as a chart."""
    result = execute(Pipeline("words", [load, count]), store="charts.db")
    with closing(open_store("charts.db")) as store:
        drawn = gantt(Journal(store, clock=time).run(result.run_id))
    return drawn.count("</svg>")


PARTS = {part.__name__: part for part in (loops, agent, batch, toml, yaml, templates, charts)}

if __name__ == "__main__":
    try:
        print(PARTS[sys.argv[1]]())
    except (MissingExtra, InvalidWorkflow) as error:
        print(f"{type(error).__name__}: {error}")
