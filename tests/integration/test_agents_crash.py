"""The process that drives a tree of agents dies; the work comes out the same, and nothing is done twice."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from cortical.agents import Agent, Loop, Retry, Verdict, resume, run
from cortical.core.errors import StoreError
from cortical.core.status import Status
from cortical.core.tree import Tree
from cortical.store import MemoryStore, Store, open_store
from cortical.testing import DyingStore, FakeClock, ProcessDied, crash_everywhere
from tests.integration import agent_scenarios as scenarios
from tests.integration.agent_scenarios import agent_with, each_crash, everything, shape

MODULE = [sys.executable, "-m", "tests.integration.agent_scenarios"]


def carry_on(store: Store, agent: Agent, clock: FakeClock) -> None:
    """Start the tree, or take it up where it stands, when the lease of a driver that died has run out."""
    clock.advance(60)
    roots = store.roots()
    given = [] if agent.path else [agent]
    result = (
        resume(store, roots[0].id, agents=given, clock=clock) if roots else run(agent, "all", store=store, clock=clock)
    )
    assert result.status is Status.COMPLETED, result.why


def test_everything_survives_every_crash() -> None:
    """A crash before or after any write of a tree with nested, parallel, failing and retried children changes nothing.

    No step whose value was kept runs again, and each effect changes the world once.
    """
    clock = FakeClock()
    undisturbed = DyingStore(MemoryStore(strict=True))
    scenarios.calls.clear()
    scenarios.world.clear()
    carry_on(undisturbed, everything, clock)
    expected, done = shape(undisturbed), Counter(call for call in scenarios.calls if call[0] == "step")
    assert undisturbed.writes > 100
    for write, moment in each_crash(undisturbed.writes):
        store = MemoryStore(strict=True)
        scenarios.calls.clear()
        scenarios.world.clear()
        dying = DyingStore(store, write, "before" if moment == "before" else "after")
        with pytest.raises((ProcessDied, StoreError)):
            carry_on(dying, everything, clock)
        assert dying.dead
        steps = kept_steps(store)
        before = len(scenarios.calls)
        carry_on(store, everything, clock)
        where = f"{moment} write {write}"
        assert shape(store) == expected, where
        again = Counter(call for call in scenarios.calls[before:] if call[0] == "step")
        assert steps + again == done, where
        assert set(scenarios.world.values()) == {1}, where
        require_reconciled(scenarios.calls, where)


def kept_steps(store: Store) -> Counter[tuple[str, str]]:
    """How often the log says that each step was done."""
    loops = [loop for root in store.roots() for loop in Tree.of(store.read(root.id)).walk()]
    return Counter(("step", f"{loop.name} {said['key']}") for loop in loops for said in loop.noted("step"))


def require_reconciled(calls: list[tuple[str, str]], where: str) -> None:
    """No effect was called a second time without `reconcile` having been asked in between."""
    called: set[str] = set()
    for what, token in calls:
        if what == "effect":
            assert token not in called, f"{where}: {token} was called blindly"
            called.add(token)
        elif what == "reconcile":
            called.discard(token)


def test_crash_everywhere() -> None:
    """So it does by the library's own tool, for a calm tree, ids and times left out of the comparison."""
    leaf = agent_with("leaf", answer=lambda loop: loop.step("double", lambda: loop.goal * 2))
    bad = agent_with("bad", answer=break_down, retry=Retry(2))

    def spawn(loop: Loop) -> None:
        for goal in ("a", "b", "c"):
            loop.spawn(goal, agent=bad if goal == "b" else leaf)
        if loop.depth == 0:
            loop.spawn("nested", agent=middle)

    middle = agent_with("middle", answer=spawn, on_child_failure="carry on")
    top = agent_with("top", answer=spawn, verify=twice, concurrency=3, on_child_failure="carry on")
    clock = FakeClock()

    def scenario(store: Store) -> None:
        clock.advance(60)
        roots = store.roots()
        agents = [top, middle, leaf, bad]
        if roots:
            resume(store, roots[0].id, agents=agents, clock=clock)
        else:
            run(top, "all", store=store, clock=clock)

    report = crash_everywhere(scenario)
    assert report.writes > 50


def break_down(loop: Loop) -> None:
    """A phase that raises."""
    raise ConnectionError("away")


def twice(loop: Loop) -> Verdict:
    """Pass in the second turn."""
    return Verdict.passed(len(loop.child_results)) if loop.turn == 2 else Verdict.revise("once more")


def test_a_person_answers_between_processes(tmp_path: Path) -> None:
    """One process asks and exits, a second one answers and exits, a third one finishes: a fourth only looks."""
    path, gate = str(tmp_path / "runs.db"), tmp_path / "gate"
    gate.touch()

    def said(*args: str) -> str:
        return subprocess.run([*MODULE, *args], check=True, capture_output=True, text=True).stdout.strip()

    assert said("run", "asker", path, str(tmp_path)) == "blocked None"
    assert said("resume", path, str(gate)) == "blocked None"
    assert said("provide", path, "colour", "green") == ""
    assert said("resume", path, str(gate)) == "completed green"
    with_end = open_store(path)
    log = with_end.read(with_end.roots()[0].id)
    assert said("resume", path, str(gate)) == "completed green"
    assert with_end.read(log[0].run_id) == log
    with_end.close()


def test_what_is_said_is_said_once() -> None:
    """A phase that is entered again after a crash does not repeat in the log what it had said there."""
    clock = FakeClock()

    def answer(loop: Loop) -> None:
        loop.ask("what?")
        loop.note("same")
        loop.note("same")
        loop.decide("this", "because")
        loop.step("look", lambda: 1)
        loop.answer((1, "a"))
        loop.produce("file", {"x": [1]})

    agent = Agent("talker")
    agent.answer(answer)
    agent.verify(lambda loop: Verdict.passed(loop.answers))

    def scenario(store: Store) -> None:
        clock.advance(60)
        roots = store.roots()
        if roots:
            resume(store, roots[0].id, agents=[agent], clock=clock)
        else:
            run(agent, "talk", store=store, clock=clock)

    assert crash_everywhere(scenario).writes > 10
