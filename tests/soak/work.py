"""What the processes of a soak do: agents, stages, items and bodies that write down each call of them.

They stand at module level, so that whichever process takes a tree up finds them. `begin` says where to write.
"""

from __future__ import annotations

import random
import threading
from typing import Any, Final

from cortical import Agent, Budget, Loop, Reconciled, Verdict
from cortical.batch import BatchProcessor
from cortical.control import State, max_iterations
from cortical.core.policy import Retry
from cortical.stages import Pipeline, StageContext, execute, stage
from tests.soak.facts import Facts, read_facts

ITEMS: Final = 12
ITERATIONS: Final = 6
LEASE_SECONDS: Final = 0.8
#: Enough that nothing fails for good by chance.
STUBBORN: Final = Retry(max_attempts=8, delay=0.002)

_facts: Facts
_chance = random.Random()
_over: Final = threading.Event()


def begin(facts: Facts, seed: int) -> None:
    """Write calls down there."""
    global _facts
    _facts = facts
    _chance.seed(seed)


def facts() -> Facts:
    """Where this process writes."""
    return _facts


def called(*what: object, failing: float = 0.0) -> None:
    """Write down that this is being done, take a moment, and now and then fail."""
    _facts.add("call", *what)
    _over.wait(_chance.random() * 0.006)
    if _chance.random() < failing:
        raise ConnectionError("not this time")


# Batches, pipelines and controlled loops


def item(value: int, task: Any, context: Any) -> int:
    """An item of a batch."""
    called("item", task["name"], value, failing=0.05)
    return value * value


def batch_on(store: Any, name: str, **options: Any) -> BatchProcessor:
    """The batch of this name, to be run with `run_batch`."""
    return BatchProcessor(
        ".", name, item, store=store, max_concurrency=3, retry=STUBBORN, lease_seconds=LEASE_SECONDS, **options
    )


def run_batch(batch: BatchProcessor) -> Any:
    """Run it, or carry it on."""
    return batch.run(range(ITEMS), {"name": batch.name})


@stage("soak:load", writes=["numbers"], reads=["job"])
def load(context: StageContext) -> None:
    """First."""
    called("stage", context["job"], "soak:load")
    context["numbers"] = [1, 2, 3]


@stage("soak:sum", after=["soak:load"], reads=["numbers", "job"], writes=["sum"], retry=STUBBORN)
def add_up(context: StageContext) -> int:
    """One of two that need the first."""
    called("stage", context["job"], "soak:sum", failing=0.1)
    context["sum"] = sum(context["numbers"])
    return int(context["sum"])


@stage("soak:most", after=["soak:load"], reads=["numbers", "job"], writes=["most"], retry=STUBBORN)
def find_most(context: StageContext) -> int:
    """The other."""
    called("stage", context["job"], "soak:most", failing=0.1)
    context["most"] = max(context["numbers"])
    return int(context["most"])


@stage("soak:tell", after=["soak:sum", "soak:most"], reads=["sum", "most", "job"])
def tell(context: StageContext) -> int:
    """Last."""
    called("stage", context["job"], "soak:tell")
    return int(context["sum"]) + int(context["most"])


def pipeline() -> Pipeline:
    """Four stages, two of which run at the same time."""
    return Pipeline("soak", [load, add_up, find_most, tell])


def body_of(loop_id: str) -> Any:
    """What a controlled loop repeats: it writes down which iteration is done, and which is begun."""

    def body(state: dict[str, Any]) -> State:
        number = state.get("number", 0)
        if number:
            _facts.add("done", "iteration", loop_id, number)
        called("iteration", loop_id, number + 1, failing=0.05)
        return State(number + 1, number=number + 1)

    return body


# Agents

leaf = Agent("soak-leaf", retry=STUBBORN)
team = Agent("soak-team", concurrency=3, on_child_failure="carry on")
whole = Agent("soak-whole", concurrency=2, on_child_failure="carry on")


def _step(loop: Loop, key: str, value: object) -> Any:
    """A step, which is reported as done once the call has returned."""
    about = ("step", loop.id, loop.turn, key)

    def counted() -> object:
        called(*about)
        return value

    kept = loop.step(key, counted)
    _facts.add("done", *about)
    return kept


def _pay(loop: Loop) -> Any:
    """An effect; what became of one that was begun is looked up in the side logs."""

    def paid(token: str) -> str:
        called("effect", token)
        return token

    def looked_up(token: str) -> Reconciled:
        made = any(fact.word == "call" and fact.about == ("effect", token) for fact in read_facts(_facts.folder))
        return Reconciled("done", token) if made else Reconciled("again")

    token = loop.effect("pay", paid, reconcile=looked_up)
    _facts.add("done", "effect", token)
    return token


@leaf.question
def count(loop: Loop) -> None:
    """Two steps, and some of the budget."""
    _step(loop, "first", 1)
    loop.spend(tokens=_chance.randrange(1, 9))
    _step(loop, "second", 2)


@leaf.answer
def fail_at_times(loop: Loop) -> None:
    """A failure, now and then; or a reservation."""
    with loop.reserve(tokens=7) as reservation:
        called("phase", loop.id, failing=0.1)
        reservation.used(tokens=3)


@leaf.produce
def make(loop: Loop) -> None:
    """An effect, and what came of it."""
    loop.produce("receipt", _pay(loop))


@team.question
def divide(loop: Loop) -> None:
    """Some children; the budget of one is its own."""
    for number in range(_step(loop, "children", 3)):
        limits = Budget(tokens=25, iterations=3) if number == 1 else None
        loop.spawn(f"part {number}", agent=leaf, key=f"part {number}", budget=limits)


@team.produce
def poll(loop: Loop) -> None:
    """A controlled loop below."""
    polling = loop.control("poll", stop_when=max_iterations(3), retry=STUBBORN, lease_seconds=LEASE_SECONDS)
    polling.run(body_of(f"{loop.id}/poll/{polling.run_id}"))


@whole.question
def send_out(loop: Loop) -> None:
    """Two teams."""
    for name in _step(loop, "teams", ["red", "blue"]):
        loop.spawn(name, agent=team, key=name)


@whole.answer
def stages(loop: Loop) -> None:
    """A pipeline below."""
    job = _step(loop, "job", f"{loop.id}/stages")
    execute(pipeline(), {"job": job}, store=loop.journal, parent=loop.id, lease_seconds=LEASE_SECONDS)


@whole.produce
def items(loop: Loop) -> None:
    """A batch below."""
    run_batch(batch_on(loop.journal, f"below {loop.id}", parent=loop.id))


@leaf.verify
def look(loop: Loop) -> Verdict:
    """Pass in the second turn."""
    return Verdict.revise("once more") if loop.turn == 1 else Verdict.passed(loop.artifact("receipt"))


@team.verify
@whole.verify
def passes(loop: Loop) -> Verdict:
    """Pass; how many children succeeded is the evidence."""
    return Verdict.passed(loop.goal, evidence=len(loop.child_results))
