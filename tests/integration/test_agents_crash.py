"""The process that drives a tree of agents dies; the work comes out the same, and nothing is done twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from attrs import field, frozen

from cortical import Agent, Loop, Retry, Verdict, resume, run
from cortical.core.errors import StoreError
from cortical.core.status import Status
from cortical.core.tree import Tree
from cortical.store import MemoryStore, Store, open_store
from cortical.testing import DyingStore, FakeClock, ProcessDied, crash_everywhere
from tests.integration.agent_scenarios import agent_with, calls, each_crash, everything, shape
from tests.processes import unmeasured

MODULE = [sys.executable, "-m", "tests.integration.agent_processes"]


def carry_on(store: Store, agent: Agent, clock: FakeClock) -> None:
    """Start the tree, or take it up where it stands, when the lease of a driver that died has run out."""
    clock.advance(60)
    roots = store.roots()
    given = [] if agent.path else [agent]
    result = (
        resume(store, roots[0].id, agents=given, clock=clock) if roots else run(agent, "all", store=store, clock=clock)
    )
    assert result.status is Status.COMPLETED, result.why


@frozen
class Kept:
    """What a log says was done, named as the functions name their calls: loop, phase, turn and key."""

    steps: set[str] = field(factory=set)
    intents: set[str] = field(factory=set)
    effects: set[str] = field(factory=set)

    @classmethod
    def in_store(cls, store: Store) -> Kept:
        """What the logs of a store say."""
        kept = cls()
        of_topic = {"step": kept.steps, "effect_intended": kept.intents, "effect": kept.effects}
        for loop in (loop for root in store.roots() for loop in Tree.of(store.read(root.id)).walk()):
            for index, visit in enumerate(loop.visits):
                for entry in loop.entries_of(index):
                    if entry.topic in of_topic:
                        of_topic[entry.topic].add(f"{loop.id} {visit.place} {visit.turn} {entry.value['key']}")
        return kept


def require_one_life(before: Kept, made: Sequence[tuple[str, ...]], where: str) -> None:
    """What a process that found `before` in the log may call: no step or effect that was kept, none twice.

    An effect whose intent was kept, and no outcome, it may call only if it was told to do it again.
    """
    steps = [which for what, which, _ in made if what == "step"]
    assert len(steps) == len(set(steps)), where
    assert not before.steps & set(steps), where
    assert not before.effects & {which for _, which, _ in made}, where
    free_to_do: set[str] = set()
    for what, which, _ in made:
        if what == "again":
            free_to_do.add(which)
        elif what == "effect":
            assert which not in before.intents or which in free_to_do, f"{where}: {which} was called blindly"


def require_once(kept: Kept, made: Sequence[tuple[str, ...]], opened: Counter[str], where: str) -> None:
    """In all lives together each step ran once, and once more for each crash it was open at; each effect ran once."""
    steps = Counter(which for what, which, _ in made if what == "step")
    assert steps == Counter(kept.steps) + opened, where
    effects = Counter(which for what, which, _ in made if what == "effect")
    assert effects == Counter(kept.effects), where


def open_steps(kept: Kept, made: Sequence[tuple[str, ...]]) -> Counter[str]:
    """The steps that one life called and whose values were not kept."""
    return Counter(which for what, which, _ in made if what == "step" and which not in kept.steps)


def test_everything_survives_every_crash() -> None:
    """A crash before or after any write of a tree with nested, parallel, failing and retried children changes nothing.

    Each step ran once unless it was open at the crash, each effect once, and never blindly.
    """
    clock = FakeClock()
    undisturbed = DyingStore(MemoryStore(strict=True))
    calls.begin()
    carry_on(undisturbed, everything, clock)
    expected, reconciled, reopened = shape(undisturbed), set[str](), 0
    require_once(Kept.in_store(undisturbed), calls.made, Counter(), "undisturbed")
    assert undisturbed.writes > 100
    for write, moment in each_crash(undisturbed.writes):
        store = MemoryStore(strict=True)
        calls.begin()
        dying = DyingStore(store, write, "before" if moment == "before" else "after")
        with pytest.raises((ProcessDied, StoreError)):
            carry_on(dying, everything, clock)
        assert dying.dead
        where = f"{moment} write {write}"
        before, first_life = Kept.in_store(store), list(calls.made)
        carry_on(store, everything, clock)
        second_life = calls.made[len(first_life) :]
        opened = open_steps(before, first_life)
        assert opened.total() <= 4, where
        assert shape(store) == expected, where
        require_one_life(Kept(), first_life, where)
        require_one_life(before, second_life, where)
        require_once(Kept.in_store(store), calls.made, opened, where)
        reconciled |= {what for what, _, _ in second_life}
        reopened += opened.total()
    assert reopened > 10
    assert reconciled == {"step", "effect", "again", "done"}


def test_killed_again_and_again(tmp_path: Path) -> None:
    """A tree whose every driver is killed after a few writes ends as if none had been; the side file says the same."""
    calls.begin()
    undisturbed = MemoryStore(strict=True)
    carry_on(undisturbed, everything, FakeClock())
    path, side = tmp_path / "runs.db", tmp_path / "side"
    opened: Counter[str] = Counter()
    before, seen, codes = Kept(), 0, list[int]()
    while not codes or codes[-1] == -signal.SIGKILL:
        life = [*MODULE, "live", str(path), str(side), str(len(codes))]
        codes.append(subprocess.run(life, env=unmeasured(), check=False, timeout=60).returncode)
        calls.begin(side)
        with closing(open_store(path)) as store:
            kept = Kept.in_store(store)
        this_life, seen = calls.made[seen:], len(calls.made)
        require_one_life(before, this_life, f"life {len(codes)}")
        opened += open_steps(kept, this_life)
        before = kept
    assert len(codes) > 8
    assert codes[-1] == 0
    require_once(before, calls.made, opened, "in the end")
    with closing(open_store(path)) as store:
        assert shape(store) == shape(undisturbed)
        assert store.check() == []


def test_crash_everywhere() -> None:
    """So it does by the library's own tool, for a calm tree, ids and times left out of the comparison."""
    leaf = agent_with("leaf", answer=lambda loop: loop.step("double", lambda: loop.goal * 2))
    bad = agent_with("bad", answer=break_down, retry=Retry(2, delay=0))

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


@pytest.mark.parametrize("how", ["the library", "the command line"])
def test_a_person_answers_between_processes(tmp_path: Path, how: str) -> None:
    """One process asks and exits, a second one answers and exits, a third one finishes: a fourth only looks."""
    path, gate = str(tmp_path / "runs.db"), tmp_path / "gate"
    gate.touch()

    def said(*args: str) -> str:
        return subprocess.run([sys.executable, "-m", *args], check=True, capture_output=True, text=True).stdout.strip()

    processes = "tests.integration.agent_processes"
    assert said(processes, "run", "asker", path, str(tmp_path)) == "blocked None"
    assert said(processes, "resume", path, str(gate)) == "blocked None"
    with closing(open_store(path)) as store:
        root = store.roots()[0].id
        by_library = (processes, "provide", path, "colour", "green")
        by_command = ("cortical", "answer", root[:8], "green", "--store", path)
        assert said(*by_library if how == "the library" else by_command) == ""
        assert said(processes, "resume", path, str(gate)) == "completed green"
        log = store.read(root)
        assert said(processes, "resume", path, str(gate)) == "completed green"
        assert store.read(root) == log


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
