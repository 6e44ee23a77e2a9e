"""Controlled loops: conditions, exactly N, time-outs, errors, state, pausing and stopping."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cortical.control import (
    ConditionRaised,
    Done,
    LoopController,
    LoopResult,
    Progress,
    State,
    errors,
    iterations,
    max_iterations,
    memory,
    resource,
    timeout,
    when,
)
from cortical.core import rules
from cortical.core.budget import Budget
from cortical.core.conditions import Condition
from cortical.core.errors import BudgetExhausted, EncodeError, InvalidInput, RunStateError, WrongType
from cortical.core.policy import Retry
from cortical.core.status import Status, TerminationReason
from cortical.core.turns import seconds_driven
from cortical.reasoning import NestedLoopExecutor
from cortical.store import MemoryStore
from cortical.testing import FakeClock


class Told:
    """A meter that says what it was told."""

    def __init__(self, **used: float) -> None:
        self.now = used
        self.started = 0

    def start(self) -> None:
        self.started += 1

    def used(self) -> Mapping[str, float]:
        return self.now


def count(state: dict[str, Any]) -> State:
    """A body that counts, and says what it had counted."""
    return State(state.get("count", 0), count=state.get("count", 0) + 1)


def ticking(clock: FakeClock, seconds: float = 1.0) -> Callable[[dict[str, Any]], None]:
    """A body that takes so long, by a clock that stands still otherwise."""
    return lambda state: clock.advance(seconds)


def test_exactly_so_many_iterations_are_made() -> None:
    """A limit of n ends a loop after n iterations, completed, with the last result and state."""
    for n in (0, 1, 7):
        controller = LoopController("loop", stop_when=max_iterations(n))
        result = controller.run(count)
        assert (result.status, result.reason) == (Status.COMPLETED, TerminationReason.MAX_ITERATIONS)
        assert result.iterations == n
        assert result.value == (n - 1 if n else None)
        assert controller.get_state() == ({"count": n} if n else {})
        assert result.ok


@pytest.mark.parametrize(
    ("condition", "reason", "status", "iterations"),
    [
        (max_iterations(3), TerminationReason.MAX_ITERATIONS, Status.COMPLETED, 3),
        (timeout(4), TerminationReason.TIMEOUT, Status.ABANDONED, 4),
        (when(lambda progress: progress.iterations == 2), TerminationReason.CONDITION_MET, Status.COMPLETED, 2),
        (resource("fuel", 10), TerminationReason.RESOURCE_LIMIT, Status.ABANDONED, 6),
        (memory(mib=100), TerminationReason.RESOURCE_LIMIT, Status.ABANDONED, 0),
        (max_iterations(3) | timeout(2), TerminationReason.TIMEOUT, Status.ABANDONED, 2),
        (max_iterations(2) | timeout(2), TerminationReason.MAX_ITERATIONS, Status.COMPLETED, 2),
        (timeout(2) | max_iterations(2), TerminationReason.TIMEOUT, Status.ABANDONED, 2),
        (max_iterations(2) & timeout(5), TerminationReason.CONDITION_MET, Status.COMPLETED, 5),
        (memory(mib=100) & max_iterations(2), TerminationReason.CONDITION_MET, Status.COMPLETED, 2),
        (max_iterations(9) | (resource("fuel", 4) & timeout(1)), TerminationReason.CONDITION_MET, Status.COMPLETED, 3),
    ],
)
def test_each_condition_ends_with_its_own_reason(
    condition: Condition, reason: TerminationReason, status: Status, iterations: int
) -> None:
    """Conditions, alone and joined, end a loop exactly at their limit and with their own reason."""
    clock = FakeClock()
    controller = LoopController("loop", clock=clock, stop_when=condition, meter=Told(memory=200.0))

    def body(state: dict[str, Any]) -> None:
        clock.advance(1)
        controller.update_resource_usage("fuel", 2 * (len(controller.get_execution_history())))

    result = controller.run(body)
    assert (result.reason, result.status, result.iterations) == (reason, status, iterations)
    assert result.details


def test_a_body_that_fails_for_too_long_fails_the_loop() -> None:
    """Three errors in a row fail a loop with the root exception; two and a success do not."""
    calls: list[int] = []

    def flaky(state: dict[str, Any]) -> None:
        calls.append(1)
        if len(calls) % 3:
            raise ValueError(f"call {len(calls)}") from OSError("the root")

    controller = LoopController("loop", stop_when=max_iterations(2))
    assert controller.run(flaky).reason is TerminationReason.MAX_ITERATIONS
    assert len(calls) == 6
    assert [iteration.attempts for iteration in controller.get_execution_history()] == [3, 3]

    def broken(state: dict[str, Any]) -> None:
        raise ValueError("no") from OSError("the root")

    failing = LoopController("other")
    result = failing.run(broken)
    assert (result.status, result.reason) == (Status.FAILED, TerminationReason.ERROR)
    assert result.error == "ValueError: no"
    outcome = failing.journal.run("other").outcome
    assert outcome is not None
    assert outcome.root.message == "the root"  # type: ignore[union-attr]
    assert failing.get_execution_history()[0].errors == ("ValueError: no",) * 3


def test_the_retry_policy_says_how_often_and_when() -> None:
    """Attempts, delays and the exceptions that are tried again come from the policy."""
    waits: list[float] = []

    def broken(state: dict[str, Any]) -> None:
        raise OSError("down")

    retry = Retry(max_attempts=4, delay=1, backoff=3, max_delay=5, retry_on=OSError)
    assert LoopController("a", retry=retry, sleep=waits.append).run(broken).error == "OSError: down"
    assert waits == [1, 3, 5]

    def wrong(state: dict[str, Any]) -> None:
        raise KeyError("x")

    once = LoopController("b", retry=retry, sleep=waits.append)
    assert once.run(wrong).status is Status.FAILED
    assert len(once.get_execution_history()[0].errors) == 1
    limited = LoopController("c", retry=retry, stop_when=errors(2), sleep=lambda seconds: None)
    limited.run(broken)
    assert len(limited.get_execution_history()[0].errors) == 2


def test_a_condition_that_raises_fails_the_loop_and_is_named() -> None:
    """A custom condition's exception ends the loop, with the cause, and names the condition."""
    controller = LoopController("loop")
    controller.add_custom_condition("five done", lambda progress: 1 / 0)
    result = controller.run(count)
    assert (result.status, result.reason) == (Status.FAILED, TerminationReason.ERROR)
    assert "five done" in (result.error or "")
    assert ConditionRaised.__name__ in (result.error or "")
    assert "ZeroDivisionError" in (result.error or "")


def test_custom_conditions_see_progress_and_say_why() -> None:
    """A custom condition sees iterations, state and the last result as they were just recorded."""
    seen: list[tuple[int, Any, Any]] = []
    controller = LoopController("loop")

    def enough(progress: Progress) -> str | None:
        seen.append((progress.iterations, progress.last_result, controller.get_state().get("count")))
        return f"{progress.state['count']} are enough" if progress.iterations == 3 else None

    controller.add_custom_condition("enough", enough)
    assert controller.run(count).details == "3 are enough"
    assert seen == [(0, None, None), (1, 0, 1), (2, 1, 2), (3, 2, 3)]


def test_a_condition_of_the_same_name_replaces_the_first() -> None:
    """Setting a limit again replaces it, and it keeps its place in the order."""
    controller = LoopController("loop", clock=(clock := FakeClock()))
    controller.set_max_iterations(1)
    controller.set_timeout(4)
    controller.set_max_iterations(4)
    result = controller.run(ticking(clock))
    assert (result.iterations, result.reason) == (4, TerminationReason.MAX_ITERATIONS)


def test_a_time_out_leaves_a_sync_body_behind() -> None:
    """A body that blocks ends the loop in time; what it does to the loop afterwards is refused."""
    go_on, refused = threading.Event(), threading.Event()
    controller = LoopController("loop")
    controller.set_timeout(0.05)

    def blocked(state: dict[str, Any]) -> None:
        go_on.wait(10)
        try:
            controller.update_state(late=True)
        except RunStateError:
            refused.set()

    result = controller.run(blocked)
    assert (result.status, result.reason, result.iterations) == (Status.ABANDONED, TerminationReason.TIMEOUT, 0)
    go_on.set()
    assert refused.wait(10)
    assert controller.get_state() == {}


def test_a_time_out_cancels_an_async_body() -> None:
    """An async body is cancelled when its time is up, and may clean up."""
    cleaned: list[bool] = []

    async def blocked(state: dict[str, Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    controller = LoopController("loop")
    controller.set_iteration_timeout(0.05)
    result = controller.run(blocked)
    assert (result.reason, cleaned) == (TerminationReason.TIMEOUT, [True])
    assert "iteration" in result.details


def test_async_bodies_are_driven_from_a_script_and_an_event_loop() -> None:
    """`run` drives a coroutine function; inside an event loop `arun` does, and `run` says so."""

    async def body(state: dict[str, Any]) -> State:
        await asyncio.sleep(0)
        return count(state)

    assert LoopController("a", stop_when=max_iterations(3)).run(body).value == 2

    async def inside() -> LoopResult:
        controller = LoopController("b", stop_when=max_iterations(3))
        with pytest.raises(RuntimeError, match="arun"):
            controller.run(body)
        return await controller.arun(body)

    assert asyncio.run(inside()).value == 2


def test_done_ends_a_loop() -> None:
    """A body that returns Done ends the loop, completed, its state and result kept."""
    controller = LoopController("loop")
    result = controller.run(lambda state: Done("all", left=None))
    assert (result.reason, result.value, result.iterations) == (TerminationReason.COMPLETED, "all", 1)
    assert controller.get_state() == {"left": None}


def test_stopping_from_the_body_ends_after_the_iteration() -> None:
    """A stop from inside the body counts the iteration; the reason is manual, and abandons the loop."""
    controller = LoopController("loop")

    def body(state: dict[str, Any]) -> int:
        controller.stop("found it")
        return 7

    result = controller.run(body)
    assert (result.status, result.reason, result.details) == (Status.ABANDONED, TerminationReason.MANUAL, "found it")
    assert (result.iterations, result.value) == (1, 7)
    with pytest.raises(RunStateError, match="ended"):
        controller.stop()


def test_a_loop_is_paused_stopped_and_resumed_from_another_thread() -> None:
    """A pause holds the loop after the iteration under way; a resume lets it go on; a stop ends it at once."""
    entered, leave = threading.Event(), threading.Semaphore(0)
    controller = LoopController("loop")

    def body(state: dict[str, Any]) -> None:
        entered.set()
        leave.acquire()

    handle = controller.start(body)
    assert entered.wait(10)
    assert handle.is_running
    assert controller.is_running()
    assert handle.result is None
    controller.pause("lunch")
    entered.clear()
    leave.release()
    with pytest.raises(TimeoutError):
        handle.wait(0.05)
    assert controller.journal.run("loop").status is Status.PAUSED
    assert not entered.is_set()
    controller.resume()
    assert entered.wait(10)
    controller.stop("enough")
    leave.release()
    result = handle.wait(10)
    assert (result.reason, result.iterations) == (TerminationReason.MANUAL, 1)
    assert not controller.is_running()


def test_state_is_copied_in_and_out() -> None:
    """What a body or caller does to the state it was given, or gave, changes nothing of the loop's."""
    mine = {"rows": [1]}
    controller = LoopController("loop", state=mine, stop_when=max_iterations(1))
    mine["rows"].append(2)
    controller.get_state()["rows"].append(3)

    def body(state: dict[str, Any]) -> None:
        state["rows"].append(4)

    controller.run(body)
    assert controller.get_state() == {"rows": [1]}


def test_state_changes_are_checked_at_the_door() -> None:
    """None is a value; keys that are no text are refused; deleted keys are gone."""
    controller = LoopController("loop")
    controller.update_state({"a": None}, b=1)
    controller.delete_state("b", "unknown")
    assert controller.get_state() == {"a": None}
    with pytest.raises(WrongType, match="values by name"):
        controller.update_state({1: 2})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: LoopController(""), InvalidInput),
        (lambda: LoopController("a", stop_when="soon"), WrongType),  # type: ignore[arg-type]
        (lambda: LoopController("a", retry=3), WrongType),  # type: ignore[arg-type]
        (lambda: LoopController("a", lease_seconds=0), InvalidInput),
        (lambda: LoopController("a", max_depth=0), InvalidInput),
        (lambda: max_iterations(-1), InvalidInput),
        (lambda: max_iterations(True), WrongType),
        (lambda: timeout(float("nan")), InvalidInput),
        (lambda: resource("timeout", 1), InvalidInput),
        (lambda: errors(0), InvalidInput),
        (lambda: max_iterations(1) | 5, WrongType),  # type: ignore[operator]
        (lambda: LoopController("a").run(5), WrongType),  # type: ignore[arg-type]
        (lambda: LoopController("a").set_checkpoint_interval(0), InvalidInput),
        (lambda: LoopController("a").set_checkpoint_interval(True), WrongType),
        (lambda: LoopController("a").set_iteration_timeout(0), InvalidInput),
        (lambda: LoopController("a").update_resource_usage("x", -1), InvalidInput),
        (lambda: LoopController("a", parent="nobody"), KeyError),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_said(call: Callable[[], object], error: type[Exception]) -> None:
    """Wrong types and values are refused at the call that gives them."""
    with pytest.raises(error):
        call()


def test_checkpoints_are_taken_by_count_and_by_time() -> None:
    """An interval of 2 over five iterations takes them at 2 and 4, once each, however often an iteration is tried."""
    controller = LoopController("loop", stop_when=max_iterations(5))
    controller.set_checkpoint_interval(2)
    failed: set[int] = set()

    def body(state: dict[str, Any]) -> State:
        number = state.get("count", 0) + 1
        if number not in failed:
            failed.add(number)
            raise OSError("once")
        return count(state)

    controller.run(body)
    made = list((controller.journal.run("loop").checkpoints or {}).values())
    assert [(point.label, point.turn, point.data) for point in made] == [
        ("iteration 2", 2, {"count": 1}),
        ("iteration 4", 4, {"count": 3}),
    ]
    clock = FakeClock()
    timed = LoopController("timed", clock=clock, stop_when=max_iterations(7))
    timed.set_checkpoint_interval(seconds=3)
    timed.run(ticking(clock))
    assert [point.turn for point in (timed.journal.run("timed").checkpoints or {}).values()] == [4, 7]


def test_a_value_that_cannot_be_kept_is_told_and_later_ones_work(tmp_path: Path) -> None:
    """A result that cannot be encoded is an error of that attempt; the loop goes on with the next."""
    tries: list[object] = []

    def body(state: dict[str, Any]) -> object:
        tries.append(None)
        return threading.Lock() if len(tries) == 1 else len(tries)

    with LoopController("loop", store=tmp_path / "s.db", stop_when=max_iterations(2)) as controller:
        with pytest.raises(EncodeError):
            controller.update_state(lock=threading.Lock())
        result = controller.run(body)
        assert (result.iterations, result.value) == (2, 3)
        assert EncodeError.__name__ in controller.get_execution_history()[0].errors[0]


def test_a_loop_carries_on_where_it_was_left(tmp_path: Path) -> None:
    """An interrupted loop is taken up by its id at the first iteration that is not finished, counts as they were."""
    clock = FakeClock()
    with LoopController("loop", store=tmp_path / "s.db", clock=clock) as controller:

        def body(state: dict[str, Any]) -> State:
            clock.advance(1)
            if state.get("count") == 3:
                raise KeyboardInterrupt
            return count(state)

        with pytest.raises(KeyboardInterrupt):
            controller.run(body)
        assert controller.journal.run("loop").status is Status.ACTIVE
    clock.advance(1000)

    def body_of_one_second(state: dict[str, Any]) -> State:
        clock.advance(1)
        return count(state)

    with LoopController("loop", store=tmp_path / "s.db", clock=clock) as again:
        again.set_timeout(9)
        result = again.run(body_of_one_second)
        # Three iterations had taken three seconds; when it was interrupted, a fourth had gone by unrecorded.
        assert (result.reason, result.iterations) == (TerminationReason.TIMEOUT, 9)
        assert again.get_state() == {"count": 9}


def test_a_pause_that_began_before_a_loop_was_taken_up_takes_nothing_from_its_time(clock: FakeClock) -> None:
    """Of a loop that is taken up while it is paused, only the seconds after it was resumed count as driven."""
    journal = LoopController("loop", clock=clock).journal
    journal.insist("loop", iterations.take_up, 0.0, {})
    clock.advance(30)
    journal.insist("loop", rules.pause, "lunch")
    clock.advance(500)
    journal.insist("loop", iterations.take_up, 30.0, {})
    clock.advance(50)
    assert seconds_driven(journal.run("loop"), clock.now) == 30
    journal.insist("loop", rules.resume)
    clock.advance(20)
    assert seconds_driven(journal.run("loop"), clock.now) == 50


def test_a_loop_that_has_ended_is_only_told_about() -> None:
    """Running it again calls no body, and gives the same result."""
    store = MemoryStore()
    first = LoopController("loop", store=store, stop_when=max_iterations(2)).run(count)
    again = LoopController("loop", store=store).run(lambda state: pytest.fail("a body was called"))
    assert (again.status, again.reason, again.iterations, again.value, again.details) == (
        first.status,
        first.reason,
        2,
        1,
        first.details,
    )


def test_a_loop_keeps_to_its_budget() -> None:
    """A budget of iterations or seconds ends the loop, budget_exhausted, exactly at the limit."""
    controller = LoopController("loop", budget=Budget(iterations=4))
    result = controller.run(count)
    assert (result.iterations, result.reason) == (4, TerminationReason.BUDGET_EXHAUSTED)
    assert "4 iterations" in result.details
    clock = FakeClock()
    timed = LoopController("timed", clock=clock, budget=Budget(seconds=3))
    assert timed.run(ticking(clock)).iterations == 3


def test_a_loop_can_be_a_child_of_another_loop() -> None:
    """A controlled loop below a reasoning loop stands in its tree, pays from its budget, and is broken with it."""
    with NestedLoopExecutor() as executor:
        root = executor.start_root("watch a folder", budget=Budget(iterations=4, descendants=2))
        child = LoopController("poll", store=executor, parent=root, stop_when=max_iterations(2))
        assert child.run(count).iterations == 2
        assert [loop.goal for loop in executor.get_children(root)] == ["poll"]
        assert executor.get_context(root).child_results == {child.run_id: 1}
        assert LoopController("poll", store=executor, parent=root).run_id == child.run_id
        hungry = LoopController("again", store=executor, parent=root)
        assert hungry.run(count).reason is TerminationReason.BUDGET_EXHAUSTED
        with pytest.raises(BudgetExhausted):
            LoopController("a third", store=executor, parent=root)
        executor.break_loop(root, "enough")
        assert executor.get_active_loops() == []


def test_a_controlled_loop_takes_over_no_other() -> None:
    """An id or a name that belongs to a loop which others drive is refused, or taken for none of the loop's own."""
    with NestedLoopExecutor() as executor:
        root = executor.start_root("poll")
        spawned = executor.spawn_child(root, "poll")
        with pytest.raises(RunStateError, match="is no controlled loop"):
            LoopController(root, store=executor)
        executor.complete(spawned)
        assert LoopController("poll", store=executor, parent=root).run_id != spawned


def test_a_child_is_broken_with_its_parent_while_it_runs() -> None:
    """Breaking the parent ends a controlled loop below it; its body's later work is refused."""
    with NestedLoopExecutor() as executor:
        root = executor.start_root("outer")
        child = LoopController("inner", store=executor, parent=root)

        def body(state: dict[str, Any]) -> None:
            executor.break_loop(root, "no longer needed")
            with pytest.raises(RunStateError):
                child.update_state(late=1)

        result = child.run(body)
        assert (result.status, result.details) == (Status.ABANDONED, "no longer needed")


def test_resources_are_asked_only_where_a_condition_could_look() -> None:
    """A meter is started and read when there is a limit, or a function that might look; otherwise left alone."""
    meter = Told(memory=1.0)
    LoopController("a", meter=meter, stop_when=max_iterations(2)).run(count)
    assert meter.started == 0
    seen: list[float] = []

    def looks(progress: Progress) -> bool:
        seen.append(progress.resources["memory"])
        return len(seen) == 3

    LoopController("b", meter=meter, stop_when=when(looks)).run(count)
    assert (meter.started, seen) == (1, [1.0, 1.0, 1.0])


def test_this_process_is_measured() -> None:
    """The usual meter tells resident memory, CPU seconds, open files and time of this process."""
    found: dict[str, float] = {}
    controller = LoopController("loop", stop_when=when(lambda progress: bool(found.update(progress.resources)) or True))
    controller.run(count)
    assert found["memory"] > 1
    assert found["open_files"] > 0
    assert found["cpu"] >= 0
    assert found["wall"] >= 0


def test_an_async_body_changes_state_in_every_iteration() -> None:
    """Each call of an async body counts, not only the first."""
    controller = LoopController("loop", stop_when=max_iterations(3))

    async def body(state: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        controller.update_state(count=state.get("count", 0) + 1)

    assert controller.run(body).iterations == 3
    assert controller.get_state() == {"count": 3}


def test_limits_that_are_set_while_it_runs_hold_from_then_on() -> None:
    """A condition added from the body, or another thread, ends the loop that is driven."""
    other = LoopController("other")
    other.set_max_iterations(10)

    def shortens(state: dict[str, Any]) -> State:
        if state.get("count") == 2:
            other.set_max_iterations(5)
        return count(state)

    assert other.run(shortens).iterations == 5


def test_a_body_that_runs_its_own_loop_is_refused() -> None:
    """It would wait for itself."""
    controller = LoopController("loop", retry=Retry(max_attempts=1))

    def body(state: dict[str, Any]) -> None:
        controller.run(count)

    assert "driven already" in (controller.run(body).error or "")
