"""Cortical: steps of one phase, children of one parent. The mode is the store's durability."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

from benchmarks.peers.work import Do, doubled, line, main, successor
from cortical.agents import Agent, Loop, Verdict, run
from cortical.store import open_store
from cortical.store.sqlite import Durability

WORKERS = 4


@contextmanager
def opened(work: str, file: Path, mode: str) -> Iterator[Do]:
    """A store, and an agent for the work."""
    agent: Callable[[int], Agent] = {"steps": _stepping, "children": _parent, "growing": _growing}[work]
    with closing(open_store(file, durability=cast("Durability", mode))) as store:
        yield lambda count: run(agent(count), work, store=store, workers=WORKERS).raise_for_failure().value


def _stepping(count: int) -> Agent:
    agent = Agent("stepping")

    @agent.verify
    def work(loop: Loop) -> Verdict:
        number = 0
        for _ in range(count):
            number = loop.step(str(number), successor, number)
        return Verdict.passed(number)

    return agent


def _parent(count: int) -> Agent:
    parent = Agent("parent", concurrency=WORKERS)
    child = Agent("child")
    child.verify(lambda loop: Verdict.passed(loop.step("double", doubled, int(loop.goal))))

    @parent.answer
    def spawn(loop: Loop) -> None:
        for number in range(count):
            loop.spawn(str(number), agent=child)

    parent.verify(lambda loop: Verdict.passed(list(loop.child_results.values())))
    return parent


def _growing(count: int) -> Agent:
    agent = Agent("growing")

    @agent.verify
    def work(loop: Loop) -> Verdict:
        log = [loop.step(str(number), line, number) for number in range(count)]
        return Verdict.passed(len(log))

    return agent


if __name__ == "__main__":
    main(opened)
