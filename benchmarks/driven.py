"""Agents that drive themselves, on SQLite in the default durability and in memory."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks import takeover
from benchmarks.measure import Figure
from cortical.agents import Agent, Loop, Verdict, resume, run

PHASES = 8_000
CHILDREN = 1_000
TURNS = 1_000


def figures() -> list[Figure]:
    """Phases that do nothing; children spawned, run and joined; a growing log; a tree taken up again, and over."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        durable, _ = _seconds_of(_idle(PHASES // 4), folder / "phases.db")
        in_memory, _ = _seconds_of(_idle(PHASES // 4), None)
        wide, _ = _seconds_of(_parent(), folder / "children.db")
        _seconds_of(_writer(), folder / "growing.db")
        again = _seconds_to_resume(folder / "again.db")
        grown = (folder / "growing.db").stat().st_size / 2**20
    return [
        Figure("driven phases that do nothing, durable", PHASES / durable, "/s", 5_000, "more"),
        Figure("driven phases that do nothing, in memory", PHASES / in_memory, "/s", 30_000, "more"),
        Figure("a child spawned, run through four phases, joined", CHILDREN / wide, "/s", 1_000, "more"),
        Figure("store after 1,000 turns that add 1 KiB each", grown, "MiB", 3),
        Figure("taking up a tree of 1,000 loops, one of them open", again, "s", 0.3),
        Figure("a killed driver's tree taken over", takeover.lease_lengths(), "leases", 2, remark="worst of three"),
    ]


def _seconds_of(agent: Agent, store: Path | None) -> tuple[float, object]:
    began = time.perf_counter()
    result = run(agent, "measure", store=store).raise_for_failure()
    return time.perf_counter() - began, result.value


def _idle(turns: int) -> Agent:
    agent = Agent("idle", stuck=None)
    agent.question(_nothing)
    agent.answer(_nothing)
    agent.produce(_nothing)
    agent.verify(lambda loop: Verdict.passed() if loop.turn >= turns else Verdict.revise(""))
    return agent


def _parent() -> Agent:
    child = Agent("child")
    child.verify(lambda loop: Verdict.passed(loop.goal))
    parent = Agent("parent", concurrency=4)

    @parent.answer
    def spawn(loop: Loop) -> None:
        for number in range(CHILDREN):
            loop.spawn(str(number), agent=child)

    parent.verify(lambda loop: Verdict.passed(len(loop.child_results)))
    return parent


def _writer() -> Agent:
    agent = Agent("writer", stuck=None)
    agent.answer(lambda loop: loop.answer("x" * 1024))
    agent.verify(lambda loop: Verdict.passed() if loop.turn >= TURNS else Verdict.revise(""))
    return agent


def _seconds_to_resume(store: Path) -> float:
    done = run(_asking(), "measure", store=store)
    assert done.status.value == "blocked"
    began = time.perf_counter()
    resume(store, done.run_id, agents=[_asking()])
    return time.perf_counter() - began


def _asking() -> Agent:
    agent = _parent()
    agent.produce(lambda loop: loop.ask_human("go on?"))
    return agent


def _nothing(loop: Loop) -> None:
    """Do nothing."""
