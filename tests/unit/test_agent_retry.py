"""What is tried again, when, and for which errors: phases of a loop, and its children."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cortical.agents import Agent, Loop, Retry, Verdict, resume, run
from cortical.agents.agent import Agents
from cortical.agents.driver import Driver
from cortical.agents.running import start
from cortical.core.budget import Budget
from cortical.core.journal import Journal
from cortical.core.outcome import Failed
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.reasoning import NestedLoopExecutor
from cortical.store import MemoryStore, Store
from cortical.testing import FakeClock, ProcessDied, crash_everywhere
from tests.integration.agent_scenarios import agent_with, until
from tests.unit.clocks import WatchedClock
from tests.unit.kept import root_of


class TickingClock(FakeClock):
    """Goes on by `step` seconds each time that it is looked at."""

    def __init__(self, step: float = 1.5) -> None:
        super().__init__()
        self._step = step

    def time(self) -> float:
        """The time, and then later."""
        self.advance(self._step)
        return self.now

    def monotonic(self) -> float:
        """The seconds, and then later."""
        self.advance(self._step)
        return super().monotonic()


def tries(store: Store, goal: str) -> list[Run]:
    """The loops of this goal, as started."""
    return [run for run in root_of(store).tree.walk() if run.name == goal]


def fails(error: type[Exception]) -> Callable[[Loop], None]:
    """A phase that raises this."""

    def fail(loop: Loop) -> None:
        raise error(loop.goal)

    return fail


def fails_once() -> Callable[[Loop], None]:
    """A phase that raises the first time that its goal is entered."""
    seen: set[str] = set()

    def fail(loop: Loop) -> None:
        if loop.goal not in seen:
            seen.add(loop.goal)
            raise ConnectionError(loop.goal)

    return fail


def parent_of(child: Agent, *goals: str, **policies: Any) -> Agent:
    """An agent that spawns a child for each goal, and brings back what they did and what failed."""

    def spawn(loop: Loop) -> None:
        for goal in goals:
            loop.spawn(goal, agent=child)

    def told(loop: Loop) -> Verdict:
        return Verdict.passed([list(loop.child_results.values()), list(loop.child_failures.values())])

    return agent_with("parent", answer=spawn, verify=told, **policies)


# Which failures


@pytest.mark.parametrize(("error", "times"), [(ConnectionError, 3), (BrokenPipeError, 3), (KeyError, 1)])
def test_only_what_it_is_for(store: MemoryStore, error: type[Exception], times: int) -> None:
    """A child that failed with another error than the retry names is not tried again; a subclass counts."""
    retry = Retry(3, delay=0, retry_on=ConnectionError)
    agent = parent_of(agent_with("child", answer=fails(error)), "a", on_child_failure=retry)
    assert run(agent, "goal", store=store).status is Status.FAILED
    assert len(tries(store, "a")) == times


def test_what_made_a_child_fail_counts(store: MemoryStore) -> None:
    """A child that failed because its own child did is tried again for that one's error, which stays the root cause."""
    middle = parent_of(agent_with("leaf", answer=fails(ConnectionError)), "leaf")
    middle.name = "middle"
    agent = parent_of(middle, "middle", on_child_failure=Retry(2, delay=0, retry_on=ConnectionError))
    run(agent, "goal", store=store)
    assert len(tries(store, "leaf")) == 2
    outcome = root_of(store).outcome
    assert isinstance(outcome, Failed)
    assert (outcome.error.type.rsplit(".")[-1], outcome.root.type) == ("ChildFailed", "ConnectionError")


@pytest.mark.parametrize(("retry_on", "times"), [(None, 2), (Exception, 1)])
def test_a_child_that_was_abandoned(store: MemoryStore, retry_on: Any, times: int) -> None:
    """A child that ended without an error is tried again by a retry for everything, not by one for errors."""
    child = agent_with("child", verify=lambda loop: Verdict.impossible("no"))
    run(parent_of(child, "a", on_child_failure=Retry(2, delay=0, retry_on=retry_on)), "goal", store=store)
    assert len(tries(store, "a")) == times


def test_no_room_for_another_try(store: MemoryStore) -> None:
    """Where the budget has no room for another try the failure stands, and the loop fails by it."""
    agent = parent_of(agent_with("child", answer=fails(KeyError)), "a", on_child_failure=Retry(3, delay=0))
    result = run(agent, "goal", store=store, budget=Budget(descendants=2))
    assert (result.status, len(tries(store, "a"))) == (Status.FAILED, 2)
    assert "ChildFailed" in result.why


def test_what_the_log_says_of_a_try(store: MemoryStore) -> None:
    """Another try names the one that it stands for, its number, and that a rule chose it."""
    run(parent_of(agent_with("child", answer=fails_once()), "a", on_child_failure=Retry(delay=0)), "g", store=store)
    first, second = tries(store, "a")
    assert second.metadata is not None
    assert first.metadata is not None
    assert [second.metadata[key] for key in ("replaces", "attempt", "by")] == [first.id, 2, "rule"]
    assert "not_before" not in second.metadata
    assert "by" not in first.metadata


def test_child_failures(store: MemoryStore) -> None:
    """What failed or was abandoned is told in the order of spawning; of what was tried again, the last try alone."""
    flaky = fails_once()

    def work(loop: Loop) -> None:
        if loop.goal == "flaky":
            flaky(loop)
        if loop.goal == "broken":
            raise ConnectionError("away")

    def verify(loop: Loop) -> Verdict:
        return Verdict.impossible("nonsense") if loop.goal == "impossible" else Verdict.passed(loop.goal)

    child = agent_with("child", answer=work, verify=verify)
    agent = parent_of(child, "impossible", "good", "flaky", "broken", on_child_failure="carry on")
    good, failures = run(agent, "goal", store=store).value
    assert good == ["good"]
    assert failures == ["nonsense", "ConnectionError: flaky", "ConnectionError: away"]
    again = parent_of(agent_with("child", answer=fails_once()), "a", "b", on_child_failure=Retry(delay=0))
    assert run(again, "goal").value == [["a", "b"], []]


# When


def test_a_delayed_child_holds_up_nobody(store: MemoryStore) -> None:
    """Until its time has come another try waits in the log alone: its sibling runs, by one worker and one at a time."""
    clock = WatchedClock()
    seen: list[list[Status]] = []

    def pass_time() -> None:
        until(lambda: store.roots() and [one.status for one in tries(store, "b")] == [Status.COMPLETED])
        clock.advance(29)
        enough = clock.looks + 4
        until(lambda: clock.looks > enough)
        seen.append([one.status for one in tries(store, "a")])
        clock.advance(1)

    def work(loop: Loop) -> None:
        if loop.goal == "a":
            flaky(loop)

    flaky = fails_once()
    passing = threading.Thread(target=pass_time)
    passing.start()
    agent = parent_of(agent_with("child", answer=work), "a", "b", on_child_failure=Retry(2, delay=30))
    result = run(agent, "goal", store=store, clock=clock, workers=1)
    passing.join()
    assert result.value == [["a", "b"], []]
    assert seen == [[Status.FAILED, Status.NOT_STARTED]]
    first, second = tries(store, "a")
    assert first.ended_at is not None
    assert second.visits[0].entered_at == first.ended_at + 30


def test_delays_grow_and_vary(store: MemoryStore) -> None:
    """Each try waits `backoff` times as long as the one before, up to `max_delay`, and more or less by chance."""
    journal = Journal(store, clock=TickingClock(20))
    retry = Retry(5, delay=1, backoff=10, max_delay=50, jitter=0.5)
    agent = parent_of(agent_with("child", answer=fails(KeyError)), "a", on_child_failure=retry)
    root = start(journal, agent, "goal")
    Driver(journal, root, Agents([agent]), random=lambda: 1.0).drive()
    times = [(one.started_at, one.metadata.get("not_before")) for one in tries(store, "a")]
    assert [due - started if due else due for started, due in times] == [None, 1.5, 15, 50, 50]


def test_a_delay_outlives_the_process(store: MemoryStore) -> None:
    """When the process dies during a delay, the next begins the child when its time has come, not before."""
    clock = FakeClock()
    flaky = fails_once()

    def work(loop: Loop) -> None:
        if loop.goal == "b" and not lived:
            lived.append("died")
            raise ProcessDied
        if loop.goal == "a":
            flaky(loop)

    lived: list[str] = []
    child = agent_with("child", answer=work)
    agent = parent_of(child, "a", "b", on_child_failure=Retry(2, delay=100))
    with pytest.raises(ProcessDied):
        run(agent, "goal", store=store, clock=clock)

    def pass_time() -> None:
        until(lambda: tries(store, "b")[0].status is Status.COMPLETED)
        assert tries(store, "a")[1].visits == []
        clock.advance(60)

    clock.advance(40)
    passing = threading.Thread(target=pass_time)
    passing.start()
    result = resume(store, root_of(store).id, agents=[agent, child], clock=clock)
    passing.join()
    assert result.status is Status.COMPLETED
    first, second = tries(store, "a")
    assert first.ended_at is not None
    assert second.visits[0].entered_at == first.ended_at + 100


def test_delays_survive_every_crash() -> None:
    """Wherever the process dies, the same tries are made, with a delay between them."""
    clock = TickingClock()

    def work(loop: Loop) -> None:
        if loop.goal == "a" and loop.inputs.get("fails", True) and not loop.step("once", lambda: False):
            raise ConnectionError("away")

    child = agent_with("child", answer=work)
    agent = parent_of(child, "a", "b", on_child_failure=Retry(3, delay=2, backoff=1), concurrency=2)
    above = parent_of(agent, "above", on_child_failure="carry on")
    above.name = "above"

    def scenario(store: Store) -> None:
        clock.advance(60)
        roots = store.roots()
        if roots:
            resume(store, roots[0].id, agents=[above, agent, child], clock=clock, workers=1)
        else:
            run(above, "all", store=store, clock=clock, workers=1)

    assert crash_everywhere(scenario).writes > 20


@pytest.mark.timeout(20)
@pytest.mark.parametrize("how", ["break", "drain"])
def test_a_phase_that_waits_can_be_stopped(store: MemoryStore, how: str) -> None:
    """A break or drain from outside ends the wait before a phase is tried again."""
    entered: list[str] = []

    def fail(loop: Loop) -> None:
        entered.append(loop.goal)
        raise ConnectionError

    def stop() -> None:
        until(lambda: store.roots() and root_of(store).noted("attempt"))
        executor = NestedLoopExecutor(store=store)
        if how == "break":
            executor.break_loop(root_of(store).id, "enough")
        else:
            held[0].drain()

    agent = agent_with(answer=fail, retry=Retry(2, delay=3600, max_delay=3600))
    journal = Journal(store, clock=FakeClock())
    held = [Driver(journal, start(journal, agent, "goal"), Agents([agent]))]
    stopping = threading.Thread(target=stop)
    stopping.start()
    root = held[0].drive()
    stopping.join()
    assert entered == ["goal"]
    assert root.status is (Status.ABANDONED if how == "break" else Status.ACTIVE)


@pytest.mark.timeout(20)
def test_a_delayed_child_that_is_broken(store: MemoryStore) -> None:
    """A child broken while its try waits is over; the driver does not wait for its time."""

    def stop() -> None:
        (again,) = until(lambda: store.roots() and tries(store, "a")[1:])
        NestedLoopExecutor(store=store).break_loop(again.id, "not again")

    stopping = threading.Thread(target=stop)
    stopping.start()
    agent = parent_of(agent_with("child", answer=fails(KeyError)), "a", on_child_failure=Retry(2, delay=1000))
    result = run(agent, "goal", store=store, clock=FakeClock())
    stopping.join()
    assert result.value == [[], ["not again"]]


def test_a_digest_is_the_same_in_every_process() -> None:
    """The policies of an agent, exception types among them, are told apart alike by every process."""
    code = (
        "from cortical import Agent, Retry; "
        "print(Agent('a', retry=Retry(2, retry_on=(KeyError, OSError)), on_child_failure=Retry(jitter=0.5)).digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert (
        len({Agent("a", retry=retry).digest for retry in (None, Retry(2), Retry(2, delay=0), Retry(2, jitter=1))}) == 4
    )
