"""Whatever is changed, checkpointed, restored and deleted: the data are as a model says, and as the log says."""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

import pytest

from cortical.core import rules
from cortical.core.kinds import LOOP
from cortical.core.outcome import Failed
from cortical.core.phases import ITERATION
from cortical.core.status import TerminationReason
from cortical.core.tree import Tree
from cortical.looking.soundness import unsound
from cortical.recovery import CheckpointManager, LoopRecoveryManager, newest_life
from cortical.store import MemoryStore
from cortical.testing import FakeClock

KEYS = ("a", "b", "c", "ü")
VALUES = (None, 0, 1.5, "x", [1, [2]], {"k": [3]}, (1, 2))


class Model:
    """A run's data, and its checkpoints by id."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.kept: dict[str, dict[str, Any]] = {}


def step(dice: random.Random, manager: CheckpointManager, run_id: str, model: Model) -> None:
    ids = list(model.kept)
    match dice.choice(("set", "remove", "checkpoint", "replace", "merge", "delete", "clean", "move")):
        case "set":
            values = {key: deepcopy(dice.choice(VALUES)) for key in dice.sample(KEYS, dice.randrange(1, 3))}
            manager.journal.change(run_id, rules.change, values)
            model.data |= deepcopy(values)
        case "remove":
            key = dice.choice(KEYS)
            manager.journal.change(run_id, rules.change, {}, (key,))
            model.data.pop(key, None)
        case "checkpoint":
            model.kept[manager.create_checkpoint(run_id).id] = deepcopy(model.data)
        case "replace" if ids:
            chosen = dice.choice(ids)
            assert manager.restore(chosen) == model.kept[chosen]
            model.data = deepcopy(model.kept[chosen])
        case "merge" if ids:
            chosen = dice.choice(ids)
            manager.restore(chosen, "merge")
            model.data |= deepcopy(model.kept[chosen])
        case "delete" if ids:
            chosen = dice.choice(ids)
            assert manager.delete_checkpoint(chosen)
            del model.kept[chosen]
        case "clean":
            left = dice.randrange(4)
            assert manager.cleanup_old_checkpoints(run_id, left) == max(0, len(ids) - left)
            model.kept = {key: model.kept[key] for key in ids[max(0, len(ids) - left) :]}
        case "move":
            manager.journal.change(run_id, rules.move, ITERATION)


@pytest.mark.parametrize("seed", range(100))
def test_any_sequence(seed: int) -> None:
    """Memory, the fold of the log, another process and the model agree after every step, over a recovery too."""
    dice = random.Random(seed)
    clock = FakeClock()
    store = MemoryStore(strict=True)
    manager = CheckpointManager(store, clock=clock)
    manager.journal.plant("L", rules.start, LOOP, "l")
    manager.journal.change("L", rules.begin, ITERATION)
    run_id, model = "L", Model()
    for _ in range(40):
        step(dice, manager, run_id, model)
        if dice.random() < 0.1:  # another process takes it up
            manager = CheckpointManager(store, clock=clock)
        if dice.random() < 0.03:
            run_id = next_life(manager, run_id, model, clock)
        run = manager.journal.run(run_id)
        assert (run.data or {}) == model.data
        assert [one.id for one in manager.get_checkpoints(run_id)] == list(model.kept)
        for one in manager.get_checkpoints(run_id):
            assert one.state == model.kept[one.id]
        log = store.read(run_id)
        assert unsound(log, run.tree) == []
        assert (Tree.of(log).root.data or {}) == model.data


def next_life(manager: CheckpointManager, run_id: str, model: Model, clock: FakeClock) -> str:
    """The run fails, and goes on from its latest checkpoint, or, without one, as it was begun."""
    journal = manager.journal
    journal.change(run_id, rules.end, Failed.of(ValueError("no")), TerminationReason.ERROR)
    clock.advance(1000)
    assert LoopRecoveryManager(manager).recover_from_failure(run_id).success
    new_id = newest_life(journal, run_id).id
    journal.change(new_id, rules.begin, ITERATION)
    latest = list(model.kept.values())[-1:]
    model.data = deepcopy(latest[0]) if latest else {}
    model.kept = {one.id: deepcopy(model.data) for one in manager.get_checkpoints(new_id)}
    assert len(model.kept) == len(latest)
    return new_id
