"""Agents that stand at module level, so that any process can import them, and what tests of them share."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from cortical import Agent, Loop, Reconciled, Retry, Verdict
from cortical.core.outcome import Failed
from cortical.core.run import Run
from cortical.core.tree import Tree
from cortical.store import Store

PhaseFunction = Callable[[Loop], Any]


def agent_with(name: str = "agent", **given: Any) -> Agent:
    """An agent of the phase functions and policies given by name; VERIFY passes unless it is given."""
    functions = {phase: given.pop(phase) for phase in ("question", "answer", "produce", "verify") if phase in given}
    agent = Agent(name, **given)
    for phase, function in {"verify": passes, **functions}.items():
        getattr(agent, phase)(function)
    return agent


def passes(loop: Loop) -> Verdict:
    """Pass, the goal being the value."""
    return Verdict.passed(loop.goal)


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Look again and again until `condition` answers with something true, and return that."""
    deadline, pace = time.monotonic() + seconds, threading.Event()
    while not (answer := condition()):
        assert time.monotonic() < deadline, "what was waited for did not come"
        pace.wait(0.005)
    return answer


def shape(store: Store) -> list[Any]:
    """The trees of a store as far as a crash may not change them: no ids, no times, nothing said twice."""
    return [_shape(Tree.of(store.read(root.id)).root) for root in reversed(store.roots())]


def _shape(loop: Run) -> dict[str, Any]:
    outcome = loop.outcome
    return {
        "goal": loop.name,
        "end": (loop.status.value, loop.reason),
        "outcome": (outcome.root.type, outcome.attempts) if isinstance(outcome, Failed) else outcome,
        "visits": [(visit.place, visit.turn) for visit in loop.visits],
        "done": [(topic, said["key"], said["value"]) for topic in ("step", "effect") for said in loop.noted(topic)],
        "artifacts": {made["name"]: made["content"] for made in loop.noted("artifact")},
        "children": [_shape(child) for child in loop.children],
    }


# A tree with everything in it, whose steps and effects are written down as they are done.


class Calls:
    """What was called, in order, as (what, which, token): told by the functions themselves, with no store involved.

    In a side file, if there is one, where the processes to come find it.
    """

    def __init__(self) -> None:
        self.made: list[tuple[str, ...]] = []
        self._file: Path | None = None

    def begin(self, file: Path | None = None) -> None:
        """Forget all; or go on with what is in a file."""
        self._file = file
        lines = file.read_text().splitlines() if file is not None and file.exists() else []
        self.made = [tuple(line.split("\t")) for line in lines]

    def add(self, what: str, which: str, token: str = "") -> None:
        """Keep one."""
        self.made.append((what, which, token))
        if self._file is not None:
            _add_line(self._file, f"{what}\t{which}\t{token}")


calls = Calls()

leaf = Agent("leaf")
broken = Agent("broken", retry=Retry(2, delay=0))
hopeful = Agent("hopeful", on_child_failure=Retry(2, delay=0))
above = Agent("above")
everything = Agent("everything", concurrency=3, on_child_failure="carry on")


def _which(loop: Loop, key: str) -> str:
    return f"{loop.id} {loop.phase.value} {loop.turn} {key}"


def _step(loop: Loop, key: str, value: object) -> Any:
    def counted() -> object:
        calls.add("step", _which(loop, key))
        return value

    return loop.step(key, counted)


def _pay(loop: Loop) -> Any:
    def paid(token: str) -> str:
        calls.add("effect", _which(loop, "pay"), token)
        return "paid"

    def looked_up(token: str) -> Reconciled:
        happened = ("effect", _which(loop, "pay"), token) in calls.made
        calls.add("done" if happened else "again", _which(loop, "pay"), token)
        return Reconciled("done", "paid") if happened else Reconciled("again")

    return loop.effect("pay", paid, reconcile=looked_up)


@leaf.question
def count(loop: Loop) -> None:
    """Two steps, one after another."""
    assert _step(loop, "first", 1) + _step(loop, "second", 2) == 3


@leaf.produce
def make(loop: Loop) -> None:
    """An effect, and what came of it."""
    loop.produce("receipt", _pay(loop))


@leaf.verify
async def look(loop: Loop) -> Verdict:
    """Pass in the second turn."""
    return Verdict.passed(loop.artifact("receipt")) if loop.turn == 2 else Verdict.revise("once more")


@broken.answer
def break_down(loop: Loop) -> None:
    """A step, and then a failure."""
    _step(loop, "before", "b")
    raise ConnectionError("nobody there")


@hopeful.answer
def hope(loop: Loop) -> None:
    """One child that fails, is tried again and fails again, and one that is then never begun."""
    loop.spawn("break down", agent=broken)
    loop.spawn("too late", agent=leaf)


@above.produce
async def gather_hope(loop: Loop) -> None:
    """A child that succeeds, waited for in the middle of the phase, and then one whose failure is this loop's."""
    loop.spawn("inner leaf", agent=leaf)
    values = list((await loop.gather()).values())
    _step(loop, "gathered", values)
    loop.spawn("hope", agent=hopeful)


@everything.question
def divide(loop: Loop) -> None:
    """Children by key, so that the second turn finds those of the first."""
    for goal in _step(loop, "goals", ["one", "two", "three"]):
        loop.spawn(goal, agent=leaf, key=goal)
    loop.spawn("above", agent=above, key="above")


@everything.produce
def collect(loop: Loop) -> None:
    """What the children brought back."""
    loop.produce("all", list(loop.child_results.values()))
    _pay(loop)


@everything.verify
def judge(loop: Loop) -> Verdict:
    """Pass in the second turn."""
    if loop.turn == 1:
        return Verdict.revise("once more")
    return Verdict.passed(loop.artifact("all"), evidence=len(loop.child_results))


for _agent in (broken, hopeful, above):
    _agent.verify(passes)


# A tree whose steps are lines in a file, some of which wait there for another file.

worker = Agent("worker")
crew = Agent("crew", concurrency=2)

#: One line for each step of a crew, whoever drives it.
CREW_LINES: Final = sorted(
    ["crew sent", "crew checked", *(f"worker {n} {key}" for n in range(3) for key in ("first", "second", "checked"))]
)


def _line(loop: Loop, key: str) -> str:
    folder = Path(loop.inputs["folder"])
    if key == "second":
        _add_line(folder / f"entered {os.getpid()}", loop.goal)
        until(lambda: (folder / "go").exists() or (folder / f"go {os.getpid()}").exists(), 60)
    _add_line(folder / "lines", f"{loop.goal} {key}")
    return key


def _add_line(file: Path, line: str) -> None:
    with file.open("a") as lines:
        lines.write(f"{line}\n")


@worker.answer
def write_lines(loop: Loop) -> None:
    """Two steps; the second waits until it may go on."""
    for key in ("first", "second"):
        loop.step(key, _line, loop, key)


@crew.question
def send_out(loop: Loop) -> None:
    """Three workers."""
    loop.step("sent", _line, loop, "sent")
    for number in range(3):
        loop.spawn(f"worker {number}", agent=worker, inputs=loop.inputs)


@crew.verify
@worker.verify
def check(loop: Loop) -> Verdict:
    """Pass with what the children brought back."""
    loop.step("checked", _line, loop, "checked")
    return Verdict.passed([loop.goal, *loop.child_results.values()])


# A thousand loops, most of which never come to an end by themselves.

restless = Agent("restless", stuck=None)
group = Agent("group", concurrency=110)
swarm = Agent("swarm", concurrency=9)

#: The root, the groups, and those in them.
SWARM_SIZE: Final = 1 + 9 + 9 * 110


@restless.verify
def never(loop: Loop) -> Verdict:
    """Not yet."""
    return Verdict.revise("not yet")


@group.answer
def many(loop: Loop) -> None:
    """A hundred and ten that never end."""
    for number in range(110):
        loop.spawn(f"restless {number}", agent=restless)


@swarm.answer
def groups(loop: Loop) -> None:
    """Nine groups of them."""
    for number in range(9):
        loop.spawn(f"group {number}", agent=group)


group.verify(passes)
swarm.verify(passes)


# One that asks a person.

asker = Agent("asker")


@asker.question
def ask(loop: Loop) -> None:
    """Ask, and keep the answer."""
    loop.produce("colour", loop.ask_human("Which colour?", key="colour"))


@asker.verify
def answered(loop: Loop) -> Verdict:
    """Pass with the answer."""
    return Verdict.passed(loop.artifact("colour"), evidence=os.getpid())


# One that can be paused between two phases.

halting = Agent("halting")


@halting.question
def halt(loop: Loop) -> None:
    """Wait for the file."""
    _line(loop, "second")


@halting.verify
def halted(loop: Loop) -> Verdict:
    """Pass."""
    return Verdict.passed(loop.goal)


AGENTS: Final = {agent.name: agent for agent in (everything, crew, swarm, asker, halting)}


def each_crash(writes: int) -> Iterator[tuple[int, str]]:
    """Before and after each of so many writes."""
    return ((write, moment) for write in range(1, writes + 1) for moment in ("before", "after"))
