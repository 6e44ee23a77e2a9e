"""Controlled loops that are taken up again: of their own accord, and by hand."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from cortical.control import LoopController, State, max_iterations, timeout
from cortical.core.errors import LockTimeout
from cortical.core.policy import Retry
from cortical.core.status import Status, TerminationReason
from cortical.recovery import (
    CheckpointManager,
    ErrorClass,
    LoopRecoveryManager,
    RecoveryPolicy,
    Situation,
    restore_latest,
    skip,
)
from cortical.store import MemoryStore
from cortical.testing import FakeClock

QUICK = RecoveryPolicy(retry=Retry(max_attempts=3, delay=0))
ONCE = Retry(max_attempts=1)


def automatic(store: Any = None, policy: RecoveryPolicy = QUICK, **limits: Any) -> LoopRecoveryManager:
    """A manager whose auto-recovery is on."""
    manager = LoopRecoveryManager(store, policy=policy)
    manager.set_auto_recovery(True, **limits)
    return manager


def test_one_error_and_then_fine_ends_by_max_iterations() -> None:
    """A loop that fails once for good is recovered, and ends at its last iteration, every one counted once."""
    manager = automatic()
    controller = LoopController(
        "loop", store=manager, stop_when=max_iterations(5), retry=ONCE, recovery=manager, state={"n": 0}
    )
    controller.set_checkpoint_interval(2)
    failed: list[int] = []

    def body(state: dict[str, Any]) -> State:
        if state["n"] == 2 and not failed:
            failed.append(3)
            controller.update_state(spoilt=True)
            raise ValueError("once")
        return State(state["n"], n=state["n"] + 1)

    result = controller.run(body)
    assert (result.reason, result.iterations) == (TerminationReason.MAX_ITERATIONS, 5)
    # Iteration 3 failed with n = 2; the checkpoint of iteration 2, with n = 1, was restored.
    assert [one.result for one in controller.get_execution_history()] == [0, 1, 1, 2, 3]
    assert controller.get_state() == {"n": 4}
    (recovery,) = manager.get_recovery_history("loop")
    assert (recovery.strategy, recovery.success, recovery.kind) == ("restore_latest", True, "unknown")


def test_an_always_failing_body_ends_within_the_limit() -> None:
    """It ends failed, after no more recoveries than allowed, each of them in the history."""
    manager = automatic(max_recoveries=2)
    controller = LoopController("loop", store=manager, retry=ONCE, recovery=manager)
    calls: list[int] = []

    def body(state: dict[str, Any]) -> None:
        calls.append(1)
        raise ValueError("always")

    result = controller.run(body)
    assert (result.status, result.reason, len(calls)) == (Status.FAILED, TerminationReason.ERROR, 3)
    history = manager.get_recovery_history("loop")
    assert [one.success for one in history] == [True, True, False]
    assert "limit of 2" in history[-1].details


def test_transient_errors_are_tried_again_after_waits() -> None:
    """The policy's waits are kept, growing, before the present iteration is tried again."""
    waits: list[float] = []
    manager = automatic(policy=RecoveryPolicy(retry=Retry(max_attempts=4, delay=1, backoff=2)))
    controller = LoopController(
        "loop", store=manager, stop_when=max_iterations(1), retry=ONCE, recovery=manager, sleep=waits.append
    )
    errors = [ConnectionResetError("one"), TimeoutError("two"), ConnectionRefusedError("three")]

    def body(state: dict[str, Any]) -> None:
        if errors:
            raise errors.pop(0)

    assert controller.run(body).reason is TerminationReason.MAX_ITERATIONS
    assert waits == [1, 2, 4]


def test_a_programming_error_is_not_recovered_from() -> None:
    """A TypeError ends the loop at once, and the history says that nothing was to be done."""
    manager = automatic()
    controller = LoopController("loop", store=manager, retry=ONCE, recovery=manager)
    result = controller.run(lambda state: len(5))  # type: ignore[arg-type]
    assert result.status is Status.FAILED
    assert [(one.strategy, one.success) for one in manager.get_recovery_history("loop")] == [("give_up", False)]


def test_a_dependency_that_fails_blocks_the_loop_until_it_is_resumed() -> None:
    """The loop is blocked with the reason; resumed and run again, it goes on with the same iteration."""
    manager = automatic()
    controller = LoopController("loop", store=manager, stop_when=max_iterations(2), retry=ONCE, recovery=manager)
    there: list[int] = []

    def body(state: dict[str, Any]) -> int:
        if not there:
            raise ModuleNotFoundError("no module named 'weather'")
        return 7

    blocked = controller.run(body)
    assert (blocked.status, blocked.reason) == (Status.BLOCKED, None)
    assert "weather" in blocked.details
    there.append(1)
    controller.resume()
    assert controller.run(body).iterations == 2


def test_a_time_out_is_recovered_with_time_counted_anew() -> None:
    """A loop that ran out of time goes on with the present iteration, and has its time again."""
    clock = FakeClock()
    manager = LoopRecoveryManager(policy=QUICK, clock=clock)
    manager.set_auto_recovery(True, max_recoveries=2, within_seconds=1000)
    controller = LoopController("loop", store=manager, stop_when=timeout(10), recovery=manager)
    result = controller.run(lambda state: clock.advance(4))
    assert result.reason is TerminationReason.TIMEOUT
    assert result.iterations == 9  # three times ten seconds, four of them each
    assert [one.strategy for one in manager.get_recovery_history("loop")] == ["go_on", "go_on", "give_up"]


def test_a_resource_limit_is_recovered_with_usage_cleared() -> None:
    """With a checkpoint the loop goes on, what it told of its use forgotten; without one it ends."""
    manager = automatic()
    controller = LoopController("loop", store=manager, stop_when=max_iterations(6), recovery=manager)
    controller.set_resource_limit("fuel", 3)
    controller.set_checkpoint_interval(1)

    called: list[int] = []

    def body(state: dict[str, Any]) -> None:
        called.append(1)
        if len(called) == 4:  # once; from then on nothing is told of it
            controller.update_resource_usage("fuel", 4)

    assert controller.run(body).reason is TerminationReason.MAX_ITERATIONS
    assert [one.strategy for one in manager.get_recovery_history("loop")] == ["restore_with_usage_cleared"]
    other = LoopController("other", store=manager, recovery=manager)
    other.set_resource_limit("fuel", 0)
    result = other.run(lambda state: other.update_resource_usage("fuel", 1))
    assert result.reason is TerminationReason.RESOURCE_LIMIT


def test_an_iteration_may_be_skipped() -> None:
    """A policy may leave the failing iteration: it counts, its record says so, and the loop goes on."""
    manager = automatic(policy=QUICK.with_line(ErrorClass.UNKNOWN, skip))
    controller = LoopController("loop", store=manager, stop_when=max_iterations(3), retry=ONCE, recovery=manager)

    def body(state: dict[str, Any]) -> State:
        n = state.get("n", 0)
        controller.update_state(n=n + 1)
        if n == 1:
            raise ValueError("odd")
        return State(n)

    assert controller.run(body).iterations == 3
    assert [one.status for one in controller.get_execution_history()] == ["finished", "skipped", "finished"]


def test_a_failed_loop_goes_on_in_another_life(tmp_path: Path) -> None:
    """Recovered by hand after a restart, it goes on from its checkpoint, counts on, and keeps its whole history."""
    path = tmp_path / "s.db"
    with LoopController("loop", store=path, stop_when=max_iterations(4), retry=ONCE) as controller:
        controller.set_checkpoint_interval(2)

        def body(state: dict[str, Any]) -> State:
            if state.get("n") == 2:
                raise ValueError("broken")
            return State(n=state.get("n", 0) + 1)

        assert controller.run(body).status is Status.FAILED
    with LoopRecoveryManager(path, policy=QUICK) as manager:
        again = LoopController("loop", store=manager, stop_when=max_iterations(4), retry=ONCE)
        result = manager.recover_from_failure(again)
        assert result.success
        assert again.run_id == result.run_id != "loop"
        assert again.get_state() == {"n": 1}
        ended = again.run(lambda state: State(n=state["n"] + 1))
        assert (ended.status, ended.iterations) == (Status.COMPLETED, 4)
        assert manager.journal.run("loop").status is Status.FAILED
        assert [one.number for one in again.get_execution_history()] == [1, 2, 3, 3, 4]
        assert [one.continued_as for one in manager.get_recovery_history("loop")] == [result.run_id]


def test_recovery_history_survives_a_restart(tmp_path: Path) -> None:
    """Another process sees every try, failed ones too."""
    path = tmp_path / "s.db"
    with LoopRecoveryManager(path, policy=QUICK) as manager:
        manager.set_auto_recovery(True, max_recoveries=1)
        LoopController("loop", store=manager, retry=ONCE, recovery=manager).run(lambda state: int("x"))
        told = manager.get_recovery_history("loop")
    with LoopRecoveryManager(path) as other:
        assert other.get_recovery_history("loop") == told
        assert [one.success for one in told] == [True, False]


def test_a_handler_may_take_the_loops_own_lock() -> None:
    """A handler that opens a transaction on the loop neither hangs nor is refused."""
    manager = automatic()
    controller = LoopController("loop", store=manager, stop_when=max_iterations(1), retry=ONCE, recovery=manager)
    failed: list[int] = []

    def handler(target: Any, situation: Situation) -> bool:
        with controller.journal.transaction():
            controller.update_state(handled=str(situation.error))
        target.go_on(0.0)
        return True

    def body(state: dict[str, Any]) -> None:
        if not failed:
            failed.append(1)
            raise ValueError("once")

    manager.register_recovery_handler("error", handler)
    assert controller.run(body).reason is TerminationReason.MAX_ITERATIONS
    assert controller.get_state() == {"handled": "once"}


def test_a_handler_that_never_returns_holds_up_nothing() -> None:
    """Its time is limited: the try has failed, the loop ends, and what it still does is refused."""
    leave = threading.Event()
    manager = LoopRecoveryManager(policy=QUICK, handler_seconds=0.05)
    manager.set_auto_recovery(True)
    manager.register_recovery_handler("error", lambda target, situation: leave.wait(10))
    controller = LoopController("loop", store=manager, retry=ONCE, recovery=manager)
    assert controller.run(lambda state: int("x")).status is Status.FAILED
    leave.set()
    (tried,) = manager.get_recovery_history("loop")
    assert (tried.strategy, tried.success) == ("handler", False) or "longer than" in tried.details


def test_a_handler_that_keeps_the_lock_is_named() -> None:
    """One that never returns while it holds the tree: the loop's driver is told who has it, and waits no longer."""
    entered, leave = threading.Event(), threading.Event()
    manager = LoopRecoveryManager(policy=QUICK, handler_seconds=0.2)
    manager.journal.lock_timeout = 0.2
    manager.set_auto_recovery(True)
    controller = LoopController("loop", store=manager, retry=ONCE, recovery=manager)

    def handler(target: Any, situation: Situation) -> bool:
        with controller.journal.transaction():
            controller.update_state(a=1)
            entered.set()
            leave.wait(10)
        return True

    manager.register_recovery_handler("error", handler)
    with pytest.raises(LockTimeout, match="cortical-recovery-handler"):
        controller.run(lambda state: int("x"))
    assert entered.is_set()
    leave.set()


def test_checkpoints_are_kept_to_a_number() -> None:
    """Of fifteen checkpoints the newest ten are left; the loop that was cleaned up still restores."""
    store = MemoryStore()
    controller = LoopController("loop", store=store, stop_when=max_iterations(15))
    controller.set_checkpoint_interval(1)
    checkpoints = CheckpointManager(controller)
    deleted: list[int] = []

    def body(state: dict[str, Any]) -> State:
        if state.get("n") == 14:
            deleted.append(checkpoints.cleanup_old_checkpoints("loop"))
        return State(n=state.get("n", 0) + 1)

    controller.run(body)
    assert deleted == [5]
    assert [made.turn for made in checkpoints.get_checkpoints("loop")] == list(range(6, 16))


def test_the_policy_decides_what_follows() -> None:
    """A line of one's own replaces that of the table."""
    manager = automatic(policy=QUICK.with_line(ErrorClass.PROGRAMMING, restore_latest))
    controller = LoopController("loop", store=manager, stop_when=max_iterations(2), retry=ONCE, recovery=manager)
    controller.set_checkpoint_interval(1)
    failed: list[int] = []

    def body(state: dict[str, Any]) -> None:
        if not failed:
            failed.append(1)
            raise TypeError("once")

    assert controller.run(body).reason is TerminationReason.MAX_ITERATIONS
