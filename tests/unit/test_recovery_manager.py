"""The recovery manager: by hand, by handlers, from checkpoints; and what was interrupted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cortical.core import rules
from cortical.core.errors import CheckpointNotFound, InvalidInput, LockTimeout, RunNotFound, RunStateError, WrongType
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.outcome import Abandoned, Failed, Ok
from cortical.core.phases import ITERATION
from cortical.core.status import Status, TerminationReason
from cortical.engine.lease import holding_lease
from cortical.reasoning import NestedLoopExecutor
from cortical.recovery import (
    PROCESS_DIED,
    CheckpointManager,
    Classification,
    ErrorClass,
    LoopRecoveryManager,
    Recoverable,
    RecoveryPolicy,
    RecoveryResult,
    RunTarget,
    Situation,
    newest_life,
    recovery_history,
)
from cortical.store import MemoryStore, Store, open_store
from cortical.testing import FakeClock
from tests.threads import in_threads

Reason = TerminationReason


def loop(journal: Journal, run_id: str = "L", **data: Any) -> str:
    journal.plant(run_id, rules.start, LOOP, "count", data=data or {"n": 0})
    journal.change(run_id, rules.begin, ITERATION)
    return run_id


def fail(journal: Journal, run_id: str, error: BaseException | None = None) -> str:
    journal.change(run_id, rules.end, Failed.of(error or ValueError("no")), Reason.ERROR)
    return run_id


@pytest.fixture
def manager(any_store: Store, clock: FakeClock) -> LoopRecoveryManager:
    return LoopRecoveryManager(Journal(any_store, clock=clock, lock_timeout=0.2), handler_seconds=0.3)


@pytest.fixture
def journal(manager: LoopRecoveryManager) -> Journal:
    return manager.journal


class Controller:
    """What drives a run, as far as recovery knows."""

    def __init__(self, journal: Journal, run_id: str) -> None:
        self.journal, self.run_id = journal, run_id

    def recoverable(self) -> Recoverable:
        return RunTarget(self.journal, self.run_id)


# By hand


def test_a_failed_run_by_id_or_by_controller(manager: LoopRecoveryManager, journal: Journal) -> None:
    """Either way the newest life is meant, and another run goes on in its place."""
    run_id = fail(journal, loop(journal))
    first = manager.recover_from_failure(run_id)
    assert (first.success, first.strategy) == (True, "restart")
    assert first.run_id is not None
    fail(journal, first.run_id)
    second = manager.recover_from_failure(Controller(journal, run_id))
    fail(journal, newest_life(journal, run_id).id)
    third = manager.recover_from_failure(RunTarget(journal, run_id))
    assert [one.continued_as for one in manager.get_recovery_history(run_id)] == [
        first.run_id,
        second.run_id,
        third.run_id,
    ]
    assert all(one.by_hand for one in manager.get_recovery_history(third.run_id or ""))


def test_where_there_is_nothing_to_recover(manager: LoopRecoveryManager, journal: Journal) -> None:
    """What ended well, waits for somebody, or was never driven is left alone, and nothing is recorded."""
    journal.change(loop(journal, "done"), rules.end, Ok(), Reason.COMPLETED)
    journal.change(loop(journal, "blocked"), rules.block, "no key")
    journal.change(loop(journal, "paused"), rules.pause, "")
    loop(journal, "open")
    told = {run_id: manager.recover_from_failure(run_id) for run_id in ("done", "blocked", "paused", "open")}
    assert not any(result.success for result in told.values())
    assert "ended well" in told["done"].details
    assert "no key" in told["blocked"].details
    assert "resume it" in told["paused"].details
    assert "never driven" in told["open"].details
    assert not any(manager.get_recovery_history(run_id) for run_id in told)


def test_what_somebody_drives_is_left_to_them(manager: LoopRecoveryManager, journal: Journal) -> None:
    """A living owner is named; once it is gone the run goes on where it stands."""
    run_id = loop(journal)
    with holding_lease(journal, run_id):
        refused = manager.recover_from_failure(run_id)
    assert "it is driven by process" in refused.details
    result = manager.recover_from_failure(run_id)
    assert (result.success, result.strategy, result.run_id) == (True, "go_on", run_id)
    (told,) = manager.get_recovery_history(run_id)
    assert told.reason == PROCESS_DIED


def test_a_stopped_run_is_not_recovered_by_the_table(manager: LoopRecoveryManager, journal: Journal) -> None:
    """Somebody stopped it: it goes on only from a checkpoint that somebody asks for."""
    run_id = loop(journal, n=1)
    CheckpointManager(manager).create_checkpoint(run_id)
    journal.change(run_id, rules.end, Abandoned("stopped"), Reason.MANUAL)
    given_up = manager.recover_from_failure(run_id)
    assert (given_up.success, given_up.strategy, given_up.details) == (False, "give_up", "stopped")
    assert manager.recover_from_checkpoint(run_id).success


def test_unknown_runs_and_wrong_subjects(manager: LoopRecoveryManager) -> None:
    """They are refused at the door."""
    with pytest.raises(RunNotFound):
        manager.recover_from_failure("nobody")
    with pytest.raises(RunNotFound):
        manager.get_recovery_history("nobody")
    with pytest.raises(WrongType, match="what is recovered"):
        manager.recover_from_failure(3)  # type: ignore[arg-type]
    with pytest.raises(WrongType, match="RecoveryPolicy"):
        LoopRecoveryManager(policy="restart")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        manager.set_auto_recovery(True, max_recoveries=-1)


def test_a_loop_of_another_kind(clock: FakeClock) -> None:
    """A reasoning loop that failed takes the same table."""
    executor = NestedLoopExecutor(clock=clock)
    run_id = executor.start_root("goal")
    executor.fail(run_id, ImportError("no x"))
    result = LoopRecoveryManager(executor.journal).recover_from_failure(run_id)
    assert (result.success, result.strategy) == (True, "escalate")
    new = newest_life(executor.journal, run_id)
    assert (new.status, new.place) == (Status.BLOCKED, "question")


# From checkpoints


def test_from_the_latest_and_from_a_given_checkpoint(manager: LoopRecoveryManager, journal: Journal) -> None:
    """Without an id it is the latest; with one that one, of any of its lives; no limit counts."""
    manager.set_auto_recovery(True, max_recoveries=0)
    checkpoints = CheckpointManager(manager)
    run_id = loop(journal, n=1)
    old = checkpoints.create_checkpoint(run_id)
    journal.change(run_id, rules.change, {"n": 2})
    checkpoints.create_checkpoint(run_id)
    fail(journal, run_id)
    latest = manager.recover_from_checkpoint(run_id)
    assert (latest.success, latest.strategy) == (True, "restore_latest")
    assert journal.run(latest.run_id or "").data == {"n": 2}
    assert manager.recover_from_checkpoint(run_id, old.id).strategy == "roll_back"
    assert newest_life(journal, run_id).data == {"n": 1}


def test_no_such_checkpoint(manager: LoopRecoveryManager, journal: Journal) -> None:
    """Without any it is a try that failed; an id that is another run's, or unknown, is refused."""
    run_id, other = loop(journal), loop(journal, "other")
    theirs = CheckpointManager(manager).create_checkpoint(other)
    assert not manager.recover_from_checkpoint(run_id).success
    assert "no strategy applies" in manager.get_recovery_history(run_id)[0].details
    with pytest.raises(InvalidInput, match="is not one of run"):
        manager.recover_from_checkpoint(run_id, theirs.id)
    with pytest.raises(CheckpointNotFound):
        manager.recover_from_checkpoint(run_id, f"{run_id}@99")
    with pytest.raises(InvalidInput):
        manager.recover_from_checkpoint(run_id, mode="mix")  # type: ignore[arg-type]


# Handlers


def test_a_handler_goes_before_the_table(manager: LoopRecoveryManager, journal: Journal) -> None:
    """It recovers through the target, with no lock held, and says so."""
    held = []

    def mend(target: Recoverable, situation: Situation) -> bool:
        held.append(target.run.tree.lock.locked())
        assert situation.kind is ErrorClass.UNKNOWN
        target.restart()
        return True

    manager.register_recovery_handler("error", mend)
    result = manager.recover_from_failure(fail(journal, loop(journal)))
    assert (result.success, result.strategy, held) == (True, "handler", [False])
    assert newest_life(journal, "L").id == result.run_id != "L"


def test_what_a_handler_may_answer(manager: LoopRecoveryManager, journal: Journal) -> None:
    """None leaves it to the table, False ends it, a result is taken as it is, anything else is a failed try."""
    answers: Iterator[Any] = iter([None, False, RecoveryResult(True, "mended", ("call Ann",), "ok"), "yes"])
    manager.set_auto_recovery(True, max_recoveries=9)
    manager.register_recovery_handler(Reason.ERROR, lambda target, situation: next(answers))
    run_id = fail(journal, loop(journal))
    assert manager.recover_from_failure(run_id).strategy == "restart"
    second = fail(journal, newest_life(journal, run_id).id)
    results = [manager.recover_from_failure(run_id) for _ in range(3)]
    assert [(one.success, one.strategy) for one in results[:2]] == [(False, "handler"), (True, "mended")]
    assert "answers True, False, None" in results[2].details
    assert [one.strategy for one in manager.get_recovery_history(second)] == ["restart", "handler", "mended", "handler"]


def test_a_handler_for_a_class_goes_before_one_for_a_reason(manager: LoopRecoveryManager, journal: Journal) -> None:
    """The closest is asked; a class may be one of the user's own rules."""
    asked = []
    manager.policy = RecoveryPolicy(
        max_recoveries=9, classification=Classification().with_rule(ErrorClass.STATE, message="stale")
    )
    for key in (ErrorClass.STATE, Reason.ERROR, PROCESS_DIED):
        manager.register_recovery_handler(key, lambda target, situation, key=key: asked.append(key))  # type: ignore[misc]
    run_id = loop(journal)
    with holding_lease(journal, run_id):
        pass
    manager.recover_from_failure(run_id)
    fail(journal, run_id, ValueError("a stale row"))
    manager.recover_from_failure(run_id)
    fail(journal, newest_life(journal, run_id).id, ValueError("else"))
    manager.recover_from_failure(run_id)
    assert asked == [PROCESS_DIED, ErrorClass.STATE, Reason.ERROR]


def test_a_handler_that_raises(manager: LoopRecoveryManager, journal: Journal) -> None:
    """It is a try that failed: told, counted, and the run is left as it was; what it had asked is forgotten."""

    def burst(target: Recoverable, situation: Situation) -> bool:
        target.restart()
        raise OSError("burst")

    manager.register_recovery_handler(Reason.ERROR, burst)
    run_id = fail(journal, loop(journal))
    results = [manager.recover_from_failure(run_id) for _ in range(4)]
    assert [one.success for one in results] == [False] * 4
    assert [one.strategy for one in results] == ["handler", "handler", "handler", "give_up"]
    assert results[0].details == "OSError: burst"
    assert newest_life(journal, run_id).id == run_id


def test_a_handler_that_never_returns(manager: LoopRecoveryManager, journal: Journal) -> None:
    """Its time is limited; what it does afterwards is refused."""
    may_go_on, refused = threading.Event(), threading.Event()

    def hang(target: Recoverable, situation: Situation) -> bool:
        may_go_on.wait(20)
        try:
            target.restart()
        except RunStateError:
            refused.set()
        return True

    manager.register_recovery_handler(Reason.ERROR, hang)
    run_id = fail(journal, loop(journal))
    result = manager.recover_from_failure(run_id)
    assert not result.success
    assert "took longer than 0.3 s" in result.details
    may_go_on.set()
    assert refused.wait(20)
    assert newest_life(journal, run_id).id == run_id


def test_a_handler_may_take_the_lock_itself(manager: LoopRecoveryManager, journal: Journal) -> None:
    """It changes the run in a transaction of its own: there is nothing to wait for."""
    run_id = loop(journal)

    def mend(target: Recoverable, situation: Situation) -> bool:
        with target.journal.transaction():
            target.journal.change(run_id, rules.change, {"mended": True})
        return True

    manager.register_recovery_handler(Reason.TIMEOUT, mend)
    assert manager.recover(RunTarget(journal, run_id), Reason.TIMEOUT).success
    assert journal.run(run_id).data == {"n": 0, "mended": True}


def test_a_handler_that_keeps_the_lock(manager: LoopRecoveryManager, journal: Journal) -> None:
    """No deadlock: who holds the tree is named, the handler is not asked again, and later all is well."""
    run_id = loop(journal)
    let_go, gone = threading.Event(), threading.Event()
    asked = []

    def hoard(target: Recoverable, situation: Situation) -> bool:
        asked.append(1)
        with target.journal.transaction():
            target.journal.change(run_id, rules.change, {"mine": True})
            let_go.wait(20)
            gone.set()
            raise ValueError("undone")

    manager.register_recovery_handler(Reason.TIMEOUT, hoard)
    target = RunTarget(journal, run_id)
    for _ in range(2):
        with pytest.raises(LockTimeout, match="held by thread 'cortical-recovery-handler'"):
            manager.recover(target, Reason.TIMEOUT)
    assert asked == [1]
    let_go.set()
    assert gone.wait(20)
    manager.register_recovery_handler(Reason.TIMEOUT, lambda target, situation: None)
    assert manager.recover(target, Reason.TIMEOUT).strategy == "go_on"
    assert journal.run(run_id).data == {"n": 0}


def test_a_handler_asked_for_inside_a_transaction(manager: LoopRecoveryManager, journal: Journal) -> None:
    """The caller's own transaction holds the tree: the handler is told who does, and the try failed."""
    run_id = loop(journal)
    said = []

    def mend(target: Recoverable, situation: Situation) -> bool:
        try:
            target.journal.change(run_id, rules.change, {"mended": True})
        except LockTimeout as error:
            said.append(str(error))
            raise
        return True

    manager.register_recovery_handler(Reason.TIMEOUT, mend)
    with journal.transaction():
        journal.change(run_id, rules.change, {"n": 1})
        result = manager.recover(RunTarget(journal, run_id), Reason.TIMEOUT)
    assert not result.success
    assert "held by thread 'MainThread'" in said[0]
    assert journal.run(run_id).data == {"n": 1}


def test_what_is_no_handler(manager: LoopRecoveryManager) -> None:
    """It is refused when it is registered."""
    with pytest.raises(WrongType):
        manager.register_recovery_handler(Reason.ERROR, "restart")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        manager.register_recovery_handler("eror", lambda target, situation: True)


# Limits and history


def test_automatic_is_off_until_it_is_asked_for(manager: LoopRecoveryManager, journal: Journal) -> None:
    """Then the same limits hold for it as by hand."""
    on = [manager.automatic]
    manager.set_auto_recovery(True, max_recoveries=1, within_seconds=5)
    on.append(manager.automatic)
    target = RunTarget(journal, loop(journal))
    assert manager.recover(target, Reason.ERROR, ValueError("odd")).success
    assert not manager.recover(target, Situation(Reason.ERROR, ValueError("odd"))).success
    manager.set_auto_recovery(False)
    assert [*on, manager.automatic] == [False, True, False]


def test_history_survives_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    """Every try over all lives, with its time, read from the log."""
    with LoopRecoveryManager(tmp_path / "s.db", clock=clock) as first:
        run_id = fail(first.journal, loop(first.journal))
        first.recover_from_failure(run_id)
        clock.advance(1)
        fail(first.journal, newest_life(first.journal, run_id).id, TypeError("wrong"))
        first.recover_from_failure(run_id)
        told = first.get_recovery_history(run_id)
    with LoopRecoveryManager(tmp_path / "s.db", clock=clock) as second:
        assert second.get_recovery_history(run_id) == told
        assert second.get_recovery_history(told[-1].run_id) == told
    assert [(one.strategy, one.success, one.kind) for one in told] == [
        ("restart", True, "unknown"),
        ("give_up", False, "programming"),
    ]
    assert told[1].at - told[0].at == 1


# Several at once


def test_two_managers_recover_one_run_at_once(tmp_path: Path, clock: FakeClock) -> None:
    """Two journals on one file: one life only, and the other is told; every log stays sound."""
    stores = [open_store(tmp_path / "s.db") for _ in range(2)]
    managers = [LoopRecoveryManager(Journal(store, clock=clock)) for store in stores]
    for round_ in range(10):
        run_id = fail(managers[0].journal, loop(managers[0].journal, f"L{round_}"))
        start = threading.Barrier(2)
        results: list[RecoveryResult] = []

        def recover(
            manager: LoopRecoveryManager, run_id: str = run_id, start: Any = start, results: Any = results
        ) -> None:
            start.wait(20)
            results.append(manager.recover_from_failure(run_id))

        in_threads(recover, managers)
        assert sorted(result.success for result in results) == [False, True]
        told = recovery_history(managers[1].journal, run_id)
        assert sum(one.continued_as is not None for one in told) == 1
    assert len(stores[0].roots()) == 20
    for store in stores:
        store.close()


def test_many_threads_recover_one_run_at_once(clock: FakeClock) -> None:
    """Within one process too there is one next life."""
    manager = LoopRecoveryManager(MemoryStore(), clock=clock)
    run_id = fail(manager.journal, loop(manager.journal))
    results: list[RecoveryResult] = []
    in_threads(lambda _: results.append(manager.recover_from_failure(run_id)), range(8))
    assert sorted(result.success for result in results) == [False] * 7 + [True]
    assert len(manager.store.roots()) == 2


# Interrupted


def test_what_was_interrupted(manager: LoopRecoveryManager, journal: Journal, clock: FakeClock) -> None:
    """Open trees whose owner is gone: not those that never had one, live, wait for somebody, or have ended."""
    began = clock.now
    for run_id in ("never", "killed", "left", "blocked", "paused", "ended", "alive"):
        loop(journal, run_id)
    for run_id in ("killed", "blocked", "paused", "ended"):
        journal.store.take_lease(run_id, "process 7", now=clock.now, seconds=10)
    journal.store.release_lease(journal.store.take_lease("left", "process 8", now=clock.now, seconds=10))
    journal.change("blocked", rules.block, "no key")
    journal.change("paused", rules.pause, "by hand")
    fail(journal, "ended")
    assert [one.id for one in manager.interrupted()] == ["left"]
    clock.advance(10)
    journal.store.take_lease("alive", "process 9", now=clock.now, seconds=10)
    left, killed = manager.interrupted()
    assert (killed.id, killed.goal, killed.kind, killed.holder) == ("killed", "count", LOOP, "process 7")
    assert (killed.since, left.since, left.holder) == (began + 10, began, "process 8")
    assert manager.recover_from_failure("killed").strategy == "go_on"


def test_a_tree_that_waits_for_its_children_was_interrupted(clock: FakeClock) -> None:
    """Its root is paused, but not by hand."""
    executor = NestedLoopExecutor(clock=clock)
    manager = LoopRecoveryManager(executor.journal)
    root = executor.start_root("goal")
    executor.spawn_child(root, "part")
    executor.journal.store.take_lease(root, "process 7", now=clock.now, seconds=1)
    clock.advance(2)
    assert [one.id for one in manager.interrupted()] == [root]
