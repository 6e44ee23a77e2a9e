"""A store with a tree of every kind, some open and some ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from cortical import Agent, Loop, Verdict, run
from cortical.batch import BatchProcessor, register_task
from cortical.batch.workflow import Workflow
from cortical.control import LoopController, State, max_iterations
from cortical.core import rules
from cortical.core.journal import Journal
from cortical.reasoning import NestedLoopExecutor
from cortical.recovery import CheckpointManager
from cortical.stages import Pipeline, StageContext, StageRegistry, execute, stage
from cortical.stages.loop import StageHandler
from cortical.store import Store
from cortical.testing import FakeClock


@register_task("forest.double")
def double(item: Any, task: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
    """Twice the item; fails for 3."""
    if item == 3:
        raise ValueError("3 cannot be doubled")
    return [item, item]


@stage("forest:load", writes=["rows"])
def load(context: StageContext) -> int:
    context["rows"] = [1, 2, 3]
    return 3


@stage("forest:sum", after=["forest:load"], reads=["rows"])
def add_up(context: StageContext) -> int:
    return sum(context["rows"])


@stage("forest:fail", after=["forest:sum"])
def fail(context: StageContext) -> None:
    raise OSError("no room")


FOREST = StageRegistry([load, add_up, fail])

leaf = Agent("forest-leaf")
trunk = Agent("forest-trunk")


@leaf.verify
def enough(loop: Loop) -> Verdict:
    return Verdict.passed(loop.goal.upper())


@trunk.answer
def divide(loop: Loop) -> None:
    loop.spawn("bark", agent=leaf)
    loop.spawn("wood", agent=leaf)


@trunk.verify
def joined(loop: Loop) -> Verdict:
    return Verdict.passed(sorted(loop.child_results.values()))


def plant(store: Store) -> list[str]:
    """Plant the trees, and return the ids of their roots."""
    clock = FakeClock()
    executor = NestedLoopExecutor(store=store, clock=clock)
    root = executor.start_root("Grow", metadata={"owner": "anna", "sizes": (1, 2)})
    executor.advance(root)
    one, two = executor.spawn_children(root, ["leaves 葉", "roots"])
    executor.record_answer(one, {"colour": "green", "count": 12, "text": "x" * 300})
    executor.complete(one, ["done", None, 1.5])
    executor.pause(two, "winter")
    broken = executor.start_root("Break")
    executor.spawn_child(broken, "below")
    executor.break_loop(broken, "storm")
    run(trunk, "a tree", store=store, clock=clock)
    execute(Pipeline("forest", [load, add_up]), store=store, clock=clock)
    execute(Pipeline("forest", [load, add_up, fail]), store=store, clock=clock)
    BatchProcessor(".", "doubled", "forest.double", store=store, clock=clock).run([1, 2, 3, "four"])
    steps = [{"id": "a", "task": "forest.double", "items": [1, 2]}, {"id": "b", "task": "forest.double"}]
    Workflow({"name": "flow", "steps": steps}).run(store=store, clock=clock)
    with LoopController("turning", store=store, clock=clock, stop_when=max_iterations(3)) as controller:
        controller.set_checkpoint_interval(1)
        controller.run(lambda state: State(n=state.get("n", 0) + 1))
    kept = CheckpointManager(store, clock=clock)
    executor.update_metadata(two, {"rings": 1})
    checkpoint = kept.create_checkpoint(two, "before")
    kept.journal.refresh(two)
    kept.restore(checkpoint.id)
    handler = StageHandler(
        {"stages": {"s": {"loop_config": {"type": "fixed", "count": 2}, "substages": {"u": {}}}}},
        store=store,
        clock=clock,
    )
    handler.initialize_process("staged")
    handler.start_stage("s")
    handler.initialize_loop("s")
    handler.start_iteration("s")
    ids = [tree.id for tree in store.roots()]
    store.compact(ids[2], float("inf"))
    return ids


#: Values that are kept, and not easily shown.
ODDITIES: dict[str, Any] = {
    "big": 7**6000,
    "text": "\udc80 \x1b[31m \u202e \0",
    "deep": [[[[[[(1, {2})]]]]]],
    "nan": math.nan,
    "zoned": datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
    "\udc80": {3: b"\xff"},
}


def plant_oddities(store: Store) -> None:
    """Plant a tree, called odd, in which everything that can hold a value holds such."""
    journal = Journal(store, clock=FakeClock(), new_id=iter(["odd", "odd child", "odd other"]).__next__)
    executor = NestedLoopExecutor(store=journal)
    root = executor.start_root("odd \x1b[31m\u202e", metadata={"odd": ODDITIES})
    executor.record_answer(root, ODDITIES)
    executor.update_metadata(root, {"odd": ODDITIES})
    CheckpointManager(journal).create_checkpoint(root, "odd \x1b[2J")
    for topic in ("question", "decision", "artifact", "note", "check", "step", "limits", "resources", "no topic"):
        journal.change(root, rules.note, topic, ODDITIES)
        journal.change(root, rules.note, topic, 7**6000)
    one, two = executor.spawn_children(root, ["a", "b"])
    executor.complete(one, ODDITIES)
    executor.fail(two, ValueError(ODDITIES["text"]))
    executor.complete(root, 7**6000)
