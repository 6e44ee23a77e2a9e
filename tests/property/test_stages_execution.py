"""Pipelines of any shape, carried out with any stages failing: what becomes of each follows from its edges alone."""

from __future__ import annotations

import random
from typing import Any

import pytest

from cortical.stages import Pipeline, StageContext, execute, resume, stage
from cortical.store import MemoryStore


def shaped(dice: random.Random, trace: list[str], broken: set[str], skipped: set[str]) -> Pipeline:
    """Some stages, each after some of those before it, put in at random."""
    count = dice.randrange(1, 12)
    names = [f"t:{n}" for n in range(count)]
    above = {name: dice.sample(names[:n], dice.randrange(0, min(n, 3) + 1)) for n, name in enumerate(names)}

    def made(name: str) -> Any:
        def work(context: StageContext) -> int:
            trace.append(name)
            if name in broken:
                context[f"key {name}"] = "half"
                raise ValueError(name)
            known: list[int] = [context[f"key {one}"] for one in above[name] if one not in skipped]
            context[f"key {name}"] = 1 + sum(known)
            return 1 + sum(known)

        return stage(name, after=above[name], when=lambda context: name not in skipped)(work)

    return Pipeline("any", [made(name) for name in dice.sample(names, count)])


def expected(pipeline: Pipeline, broken: set[str], skipped: set[str]) -> dict[str, str]:
    """How each stage ends when all go on that can."""
    found: dict[str, str] = {}
    for stage_id in pipeline.order():
        above = pipeline.dependencies.graph.predecessors(stage_id)
        if any(found[one] in ("failed", "upstream failed") for one in above):
            found[stage_id] = "upstream failed"
        elif stage_id in skipped:
            found[stage_id] = "skipped"
        else:
            found[stage_id] = "failed" if stage_id in broken else "ok"
    return found


@pytest.mark.parametrize("seed", range(60))
def test_what_becomes_of_each_stage(seed: int) -> None:
    """Every stage ends as its edges say; once mended and resumed, each that had not succeeded runs, and none else."""
    dice = random.Random(seed)
    trace: list[str] = []
    broken = {f"t:{n}" for n in range(12) if dice.random() < 0.2}
    skipped = {f"t:{n}" for n in range(12) if dice.random() < 0.15} - broken
    pipeline = shaped(dice, trace, broken, skipped)
    store = MemoryStore(strict=True)
    first = execute(pipeline, store=store, max_concurrency=dice.randrange(1, 5), on_failure="keep_going")
    wanted = expected(pipeline, broken, skipped)
    assert {name: one.status for name, one in first.stages.items()} == wanted
    assert sorted(trace) == sorted(name for name, status in wanted.items() if status in ("ok", "failed"))
    assert set(first.values) == {f"key {name}" for name, status in wanted.items() if status == "ok"}

    trace.clear()
    broken.clear()
    second = resume(store, first.run_id, pipeline, max_concurrency=dice.randrange(1, 5))
    assert second.ok
    assert sorted(trace) == sorted(
        name for name, status in wanted.items() if status in ("failed", "upstream failed") and name not in skipped
    )
    assert second.values == execute(pipeline).values


@pytest.mark.parametrize("seed", range(30))
def test_one_at_a_time_is_the_order(seed: int) -> None:
    """With one at a time, and the first failure ending it, the stages called are the first of the order, exactly."""
    dice = random.Random(seed)
    trace: list[str] = []
    broken = {f"t:{n}" for n in range(12) if dice.random() < 0.15}
    pipeline = shaped(dice, trace, broken, set())
    result = execute(pipeline, store=MemoryStore(strict=True))
    order = pipeline.order()
    until = next((n for n, name in enumerate(order) if name in broken), len(order) - 1)
    assert trace == order[: until + 1]
    assert result.ok == (not broken.intersection(order))
    assert all(one.outcome is not None for one in result.stages.values())
