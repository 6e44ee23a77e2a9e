"""Checkpoints: taken, found, restored, deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cortical.core import rules
from cortical.core.errors import CheckpointNotFound, InvalidInput, RunNotFound, RunStateError, WrongType
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.outcome import Failed, Ok
from cortical.core.phases import ITERATION
from cortical.core.status import Status, TerminationReason
from cortical.reasoning import NestedLoopExecutor
from cortical.recovery import CheckpointManager, LoopRecoveryManager
from cortical.store import MemoryStore, Store
from cortical.testing import FakeClock


def loop(journal: Journal, data: dict[str, Any], run_id: str = "L") -> str:
    journal.plant(run_id, rules.start, LOOP, "count", data=data)
    journal.change(run_id, rules.begin, ITERATION)
    return run_id


@pytest.fixture
def manager(any_store: Store, clock: FakeClock) -> CheckpointManager:
    return CheckpointManager(any_store, clock=clock)


def test_create_and_get(manager: CheckpointManager, clock: FakeClock) -> None:
    """A checkpoint says which it is, of what, when, why, and what the state was."""
    run_id = loop(manager.journal, {"n": 1, "seen": ["a"]})
    manager.journal.change(run_id, rules.move, ITERATION)
    clock.advance(5)
    made = manager.create_checkpoint(run_id, "before the import", {"by": "hand"})
    assert made.id == f"{run_id}@{made.number}"
    assert (made.run_id, made.at, made.label, made.metadata) == (run_id, clock.now, "before the import", {"by": "hand"})
    assert (made.turn, made.state) == (2, {"n": 1, "seen": ["a"]})
    assert manager.get_checkpoint(made.id) == made
    assert manager.create_checkpoint(run_id).label is None


def test_what_a_checkpoint_hands_out_is_a_copy(manager: CheckpointManager) -> None:
    """Changing the state that was handed out changes neither the checkpoint nor the run."""
    run_id = loop(manager.journal, {"seen": ["a"]})
    made = manager.create_checkpoint(run_id)
    made.state["seen"].append("b")
    made.state["more"] = 1
    assert made.state == {"seen": ["a"]}
    assert manager.journal.run(run_id).data == {"seen": ["a"]}


def test_latest_and_all(manager: CheckpointManager) -> None:
    """Oldest first; the latest is None where there is none."""
    run_id = loop(manager.journal, {})
    assert manager.get_latest_checkpoint(run_id) is None
    assert manager.get_checkpoints(run_id) == []
    made = [manager.create_checkpoint(run_id, f"c{number}") for number in range(3)]
    assert manager.get_checkpoints(run_id) == made
    assert manager.get_latest_checkpoint(run_id) == made[2]
    assert made[0].state == {}


def test_delete(manager: CheckpointManager) -> None:
    """Deleting answers whether it was there; afterwards it is not to be had, nor restored."""
    run_id = loop(manager.journal, {"n": 1})
    kept, gone = manager.create_checkpoint(run_id), manager.create_checkpoint(run_id)
    assert manager.delete_checkpoint(gone.id)
    assert not manager.delete_checkpoint(gone.id)
    assert manager.get_latest_checkpoint(run_id) == kept
    with pytest.raises(CheckpointNotFound, match=f"it has {kept.number}"):
        manager.get_checkpoint(gone.id)
    with pytest.raises(CheckpointNotFound):
        manager.restore(gone.id)


def test_clean_up_to_ten_of_fifteen(manager: CheckpointManager) -> None:
    """The oldest go until as many are left as may stay."""
    run_id = loop(manager.journal, {})
    made = [manager.create_checkpoint(run_id) for _ in range(15)]
    assert manager.cleanup_old_checkpoints(run_id) == 5
    assert manager.get_checkpoints(run_id) == made[5:]
    assert manager.cleanup_old_checkpoints(run_id) == 0
    assert manager.cleanup_old_checkpoints(run_id, max_count=0) == 10
    assert manager.get_latest_checkpoint(run_id) is None


def test_restore_by_replace_and_by_merge(manager: CheckpointManager) -> None:
    """Replacing drops keys that were set later, merging keeps them; both bring the old values back."""
    run_id = loop(manager.journal, {"n": 1})
    made = manager.create_checkpoint(run_id)
    manager.journal.change(run_id, rules.change, {"n": 2, "later": None})
    assert manager.restore(made.id, "merge") == {"n": 1, "later": None}
    assert manager.restore(made.id) == {"n": 1}
    with pytest.raises(InvalidInput, match="'replace' or 'merge'"):
        manager.restore(made.id, "mix")  # type: ignore[arg-type]


def test_restoring_leaves_the_life_cycle(manager: CheckpointManager) -> None:
    """A checkpoint of an active run brings data back to a paused one, and does not make it active."""
    run_id = loop(manager.journal, {"n": 1})
    made = manager.create_checkpoint(run_id)
    manager.journal.change(run_id, rules.move, ITERATION)
    manager.journal.change(run_id, rules.pause, "by hand")
    manager.restore(made.id)
    run = manager.journal.run(run_id)
    assert (run.status, run.visit and run.visit.turn) == (Status.PAUSED, 2)


def test_an_ended_run(manager: CheckpointManager) -> None:
    """Its checkpoints can be looked at; nothing is taken, restored or deleted any more."""
    run_id = loop(manager.journal, {"n": 1})
    made = manager.create_checkpoint(run_id)
    manager.journal.change(run_id, rules.end, Ok(), TerminationReason.COMPLETED)
    assert manager.get_checkpoint(made.id).state == {"n": 1}
    for call in (
        lambda: manager.create_checkpoint(run_id),
        lambda: manager.restore(made.id),
        lambda: manager.delete_checkpoint(made.id),
        lambda: manager.cleanup_old_checkpoints(run_id, 0),
    ):
        with pytest.raises(RunStateError, match="it has ended"):
            call()


def test_the_id_of_a_recovered_run_stands_for_the_one_that_goes_on(manager: CheckpointManager) -> None:
    """Its latest checkpoint is there too, and new ones are taken of the new life."""
    run_id = loop(manager.journal, {"n": 1})
    manager.create_checkpoint(run_id, "first")
    manager.journal.change(run_id, rules.end, Failed.of(ValueError("no")), TerminationReason.ERROR)
    result = LoopRecoveryManager(manager).recover_from_failure(run_id)
    latest = manager.get_latest_checkpoint(run_id)
    assert latest is not None
    assert (latest.run_id, latest.label, latest.state) == (result.run_id, "first", {"n": 1})
    assert manager.create_checkpoint(run_id).run_id == result.run_id


def test_a_run_of_any_kind(clock: FakeClock) -> None:
    """A reasoning loop's own data are kept and restored likewise."""
    executor = NestedLoopExecutor(clock=clock)
    manager = CheckpointManager(executor.journal)
    run_id = executor.start_root("goal", metadata={"owner": "me"})
    executor.journal.change(run_id, rules.change, {"draft": 1})
    made = manager.create_checkpoint(run_id)
    executor.journal.change(run_id, rules.change, {"draft": 2})
    assert manager.restore(made.id)["draft"] == 1


def test_checkpoints_outlive_the_process(tmp_path: Path, clock: FakeClock) -> None:
    """Another process reads them, and sees what the first adds."""
    with CheckpointManager(tmp_path / "s.db", clock=clock) as first:
        run_id = loop(first.journal, {"n": 1})
        made = first.create_checkpoint(run_id, "ä 中 🙂", {"when": (1, 2)})
        with CheckpointManager(tmp_path / "s.db", clock=clock) as second:
            assert second.get_checkpoints(run_id) == [made]
            again = first.create_checkpoint(run_id)
            assert second.get_latest_checkpoint(run_id) == again


@pytest.mark.parametrize("wrong", ["", "L", "L@", "@3", "L@x", "L@-1", "L@²", "L@" + "9" * 5000])
def test_what_is_no_id(manager: CheckpointManager, wrong: str) -> None:
    """An id that is none is told from one that is not there."""
    loop(manager.journal, {})
    with pytest.raises(InvalidInput):
        manager.get_checkpoint(wrong)


def test_wrong_arguments(manager: CheckpointManager) -> None:
    """Unknown runs, numbers and types are refused, and nothing is recorded."""
    run_id = loop(manager.journal, {})
    before = manager.journal.run(run_id).seq
    with pytest.raises(CheckpointNotFound, match="it has none"):
        manager.get_checkpoint(f"{run_id}@2")
    with pytest.raises(RunNotFound):
        manager.get_checkpoint("nobody@2")
    with pytest.raises(RunNotFound):
        manager.get_latest_checkpoint("nobody")
    with pytest.raises(WrongType):
        manager.get_checkpoint(3)  # type: ignore[arg-type]
    with pytest.raises(WrongType):
        manager.create_checkpoint(run_id, 3)  # type: ignore[arg-type]
    with pytest.raises(WrongType):
        manager.create_checkpoint(run_id, metadata=[1])  # type: ignore[arg-type]
    with pytest.raises(WrongType):
        manager.cleanup_old_checkpoints(run_id, True)
    with pytest.raises(InvalidInput):
        manager.cleanup_old_checkpoints(run_id, -1)
    assert manager.journal.run(run_id).seq == before


def test_a_value_that_cannot_be_copied() -> None:
    """A store in memory may hold one; the state shares it."""
    manager = CheckpointManager(MemoryStore())
    generator = (row for row in [1])
    run_id = loop(manager.journal, {"rows": generator})
    assert manager.create_checkpoint(run_id).state["rows"] is generator
