"""Monitoring of real work: controlled loops, recoveries, agents, and a process that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cortical import Agent, Verdict, run
from cortical.control import LoopController
from cortical.core import rules
from cortical.core.conditions import max_iterations
from cortical.core.events import Ended, Event, Moved, Noted, Started
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.phases import ITERATION
from cortical.monitoring import Anomalies, EventBus, Metrics, ProgressReport, check, compare, follow
from cortical.recovery import LoopRecoveryManager
from cortical.store import MemoryStore, open_store
from cortical.testing import FakeClock
from tests.unit.kept import keys

WORKER = """
import sys
from cortical.control import LoopController, State
from cortical.core.conditions import max_iterations

def body(state):
    count = state.get("count", 0) + 1
    print(count, flush=True)
    if count == 8 and "--hang" in sys.argv:
        sys.stdin.read()
    return State(count, count=count)

with LoopController("work", store=sys.argv[1], stop_when=max_iterations(12), lease_seconds=1) as loop:
    loop.run(body)
"""


def test_each_event_is_heard_once_across_a_recovery(clock: FakeClock) -> None:
    """A loop that fails, is recovered and ends is heard of once, event by event, and its figures are its history's."""
    journal = Journal(MemoryStore(), clock=clock)
    recovery = LoopRecoveryManager(journal)
    recovery.set_auto_recovery(True)
    heard: list[Event] = []
    metrics = Metrics()
    failures = iter([False, False, True, True, True, *[False] * 10])

    def body(_: object) -> None:
        if next(failures):
            raise ConnectionError("refused")

    with EventBus(journal) as bus:
        bus.on(heard.append)
        bus.on(metrics.take)
        loop = LoopController(
            "flaky", store=journal, stop_when=max_iterations(5), recovery=recovery, sleep=lambda _: None
        )
        assert loop.run(body).ok
        assert bus.flush(20)
        history = loop.get_execution_history()
    assert keys(heard) == keys(journal.events("flaky"))
    told = metrics.snapshot()["overall"]
    assert told["iterations"] == len(history) == 5
    assert told["failures"] == sum(len(one.errors) for one in history) == 3
    assert told["recoveries"] == sum(isinstance(event, Noted) and event.topic == "recovery" for event in heard) >= 1
    assert compare(journal, "flaky") == []


def test_a_handler_that_blocks_does_not_hold_a_loop_up() -> None:
    """A loop of ten thousand iterations ends while a handler of its events has not come back from the first."""
    journal = Journal(MemoryStore(), clock=FakeClock())
    released = threading.Event()
    with (
        EventBus(journal) as bus,
        LoopController("hot", store=journal, stop_when=max_iterations(10_000)) as loop,
    ):
        subscription = bus.on(lambda _: released.wait(60), buffer=100, on_missed=lambda _: None)
        assert loop.run(lambda _: None).iterations == 10_000
        assert subscription.told <= 1
        assert subscription.missed > 9_000
        released.set()


def test_progress_while_a_loop_is_driven(clock: FakeClock) -> None:
    """A body that asks sees what is done, and when the rest will be."""
    journal = Journal(MemoryStore(), clock=clock)
    seen: list[tuple[int, float | None]] = []

    def body(_: object) -> None:
        report = ProgressReport.of(journal, "r")
        seen.append((report.done, report.eta_seconds))
        clock.advance(2)

    with LoopController("r", store=journal, stop_when=max_iterations(4)) as loop:
        loop.run(body)
    assert seen == [(0, None), (1, 6.0), (2, 4.0), (3, 2.0)]
    assert ProgressReport.of(journal, "r").fraction == 1.0


def test_agents_are_watched_like_any_run() -> None:
    """What an agent did is in the metrics, and nothing about it is out of the ordinary."""
    store = MemoryStore()
    follower = follow(store, events=(Started, Moved, Ended))
    agent = Agent("twice")
    verdicts = iter([Verdict.revise("once more"), Verdict.passed("well")])

    @agent.answer
    def answer(loop: object) -> None:
        """Say nothing."""

    @agent.verify
    def verify(loop: object) -> object:
        return next(verdicts)

    result = run(agent, "Count to two", store=store)
    heard = follower.poll()
    assert isinstance(heard[-1], Ended)
    assert Metrics.of(store, result.run_id).snapshot()["overall"]["iterations"] == 2
    anomalies = Anomalies(Journal(store, clock=FakeClock()))
    for event in store.read(result.run_id):
        anomalies.take(event)
    assert anomalies.findings == []
    assert check(store) == []


@pytest.mark.timeout(120)
def test_a_killed_process_is_followed_across_its_death(tmp_path: Path) -> None:
    """Each event is heard once though its writer is killed and another goes on; health tells of the death meanwhile."""
    script, place = tmp_path / "worker.py", tmp_path / "runs.db"
    script.write_text(WORKER)
    store = open_store(place)
    follower = follow(store, poll_seconds=0.02)
    heard: list[Event] = []
    first = subprocess.Popen(
        [sys.executable, script, place, "--hang"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdin is not None
    for line in first.stdout:
        heard += follower.poll()
        if line.strip() == "8":
            break
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stdout.close()
    first.stdin.close()
    lease = store.lease_of("work")
    assert lease is not None
    dead = check(store, now=lease.expires_at + 5)
    assert [one.code for one in dead] == ["no_heartbeat"]
    # The lease of the dead has run out by the time the next one asks, or it is told to wait.
    while True:
        second = subprocess.run([sys.executable, script, place], capture_output=True, text=True, check=False)
        heard += follower.poll()
        if not second.returncode:
            break
        assert "LeaseHeld" in second.stderr
    heard += follower.poll()
    assert keys(heard) == keys(store.read("work"))
    told = Metrics.of(store).snapshot()
    assert told["overall"]["iterations"] == 12
    assert told["ended"] == {"loop": {"completed": 1}}
    assert check(store) == []
    store.close()


def test_thousands_of_runs(clock: FakeClock) -> None:
    """One subscription watches thousands of runs without a thread for each, and hears all of them."""
    journal = Journal(MemoryStore(), clock=clock)
    metrics = Metrics(keep_ended=10)
    with EventBus(journal) as bus:
        before = threading.active_count()
        bus.on(metrics.take)
        for number in range(3000):
            journal.plant(str(number), rules.start, LOOP, "one of many", place=ITERATION)
            journal.change(str(number), rules.move, ITERATION)
        assert threading.active_count() == before + 1
        assert bus.flush(20)
    assert metrics.snapshot()["overall"]["iterations"] == 3000
