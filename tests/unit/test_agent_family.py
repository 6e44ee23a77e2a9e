"""Loops below loops: children spawned, joined, failed, tried again, gathered, broken and paused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Literal

import pytest

from cortical.agents import Agent, Loop, Quorum, Result, Retry, Verdict, provide, resume, run
from cortical.core import rules
from cortical.core.errors import RunStateError
from cortical.core.events import Moved
from cortical.core.journal import Journal
from cortical.core.outcome import Failed
from cortical.core.ports import Record
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.core.tree import Tree
from cortical.reasoning import NestedLoopExecutor
from cortical.store import MemoryStore, Store
from cortical.testing import FakeClock, ProcessDied
from tests.integration.agent_scenarios import agent_with, until
from tests.unit.kept import root_of


def named(store: Store, goal: str) -> Run:
    """The newest loop of this goal."""
    return [run for run in root_of(store).tree.walk() if run.name == goal][-1]


def ends(store: Store) -> dict[str, str]:
    """Goal → status, of all loops; the newest of each goal."""
    return {run.name: run.status.value for run in root_of(store).tree.walk()}


def fails(loop: Loop) -> None:
    """A phase that raises."""
    raise ConnectionError(f"{loop.goal} is away")


def spawning(*goals: str, agent: Agent | None = None, of: dict[str, Agent] | None = None) -> Callable[[Loop], None]:
    """A phase that spawns a child for each goal, done by `agent` or by the one that `of` has for it."""

    def spawn(loop: Loop) -> None:
        for goal in goals:
            loop.spawn(goal, agent=(of or {}).get(goal, agent))

    return spawn


GOOD = agent_with("good")
BAD = agent_with("bad", answer=fails)


# Spawning


def test_children_run_when_the_phase_returns(store: MemoryStore) -> None:
    """A spawned child waits until the phase has returned, runs while its parent is paused; then that goes on."""
    order: list[str] = []

    def work(loop: Loop) -> None:
        parent = Tree.of(store.read(store.root_of(loop.id) or "")).root
        order.append(f"{loop.goal} while {parent.status.value}")

    def spawn(loop: Loop) -> None:
        child = loop.spawn("child", agent=agent_with("child", answer=work))
        assert root_of(store).tree.index.runs[child].status is Status.NOT_STARTED
        order.append("spawned")

    agent = agent_with(
        answer=spawn, produce=lambda loop: order.append(f"back with {list(loop.child_results.values())}")
    )
    assert run(agent, "goal", store=store).status is Status.COMPLETED
    assert order == ["spawned", "child while paused", "back with ['child']"]


def test_its_own_agent_by_default(store: MemoryStore) -> None:
    """A child without an agent is done by its parent's, one level deeper, with inputs of its own."""
    seen: list[tuple[int, dict[str, Any]]] = []

    def dive(loop: Loop) -> None:
        seen.append((loop.depth, dict(loop.inputs)))
        if loop.depth < 2:
            loop.spawn("deeper", inputs={"from": loop.depth})

    assert run(agent_with(answer=dive), "goal", store=store).status is Status.COMPLETED
    assert seen == [(0, {}), (1, {"from": 0}), (2, {"from": 1})]


def test_results_in_spawn_order(store: MemoryStore) -> None:
    """However the children finish, their results stand in the order they were spawned."""
    last_is_done = threading.Event()

    def work(loop: Loop) -> None:
        if loop.goal == "c":
            last_is_done.set()
        assert last_is_done.wait(timeout=10)

    child = agent_with("child", answer=work)
    result = run(agent_with(answer=spawning("a", "b", "c", agent=child), concurrency=3), "goal", store=store)
    assert list(result.children.values()) == ["a", "b", "c"]


def test_a_replaced_child_keeps_its_place(store: MemoryStore) -> None:
    """The result of a child that was tried again stands where the first try was spawned."""
    tries: list[str] = []

    def flaky(loop: Loop) -> None:
        tries.append(loop.goal)
        if tries == ["a"]:
            raise ConnectionError

    child = agent_with("child", answer=flaky)
    agent = agent_with(
        answer=spawning("a", "b", agent=child),
        verify=lambda loop: Verdict.passed(list(loop.child_results.values())),
        on_child_failure=Retry(2, delay=0),
    )
    assert run(agent, "goal", store=store).value == ["a", "b"]


def test_one_after_another(store: MemoryStore) -> None:
    """By default a child begins when the one before it has ended, in spawn order."""
    seen: list[tuple[str, dict[str, str]]] = []
    child = agent_with("child", answer=lambda loop: seen.append((loop.goal, ends(store))))
    run(agent_with(answer=spawning("a", "b", "c", agent=child)), "goal", store=store)
    standing = [{goal: all_of[goal] for goal in "abc"} for _, all_of in seen]
    assert [goal for goal, _ in seen] == ["a", "b", "c"]
    assert standing == [
        {"a": "active", "b": "not_started", "c": "not_started"},
        {"a": "completed", "b": "active", "c": "not_started"},
        {"a": "completed", "b": "completed", "c": "active"},
    ]


def test_concurrency_is_exact(store: MemoryStore) -> None:
    """With concurrency 3 three children are under way together, never four."""
    together, most, lock = 0, 0, threading.Lock()
    three = threading.Barrier(3)

    def work(loop: Loop) -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        three.wait(timeout=20)
        with lock:
            together -= 1

    child = agent_with("child", answer=work)
    goals = [str(number) for number in range(9)]
    result = run(agent_with(answer=spawning(*goals, agent=child), concurrency=3), "goal", store=store, workers=6)
    assert list(result.children.values()) == goals
    assert most == 3


def test_concurrency_after_a_break(store: MemoryStore) -> None:
    """A child broken before its turn makes no room for another one beside those under way."""
    most: list[int] = []

    def work(loop: Loop) -> None:
        if loop.goal == "a":
            NestedLoopExecutor(store=store).break_loop(named(store, "c").id, "not needed")
        loop.note("seen")  # by which the driver hears of the break
        most.append(sum(run.status is Status.ACTIVE for run in root_of(store).children))

    child = agent_with("child", answer=work)
    run(agent_with(answer=spawning(*"abcdefgh", agent=child), concurrency=1), "goal", store=store)
    assert most == [1] * 7


def test_spawned_again_is_found(store: MemoryStore) -> None:
    """A phase entered again finds the children it had spawned, by order and goal, and starts only what is missing."""
    ids: list[list[str]] = []

    def spawn(loop: Loop) -> None:
        ids.append([loop.spawn(goal, agent=GOOD) for goal in ("same", "same")])
        if len(ids) == 1:
            raise ConnectionError
        ids[-1].append(loop.spawn("new", agent=GOOD))

    run(agent_with(answer=spawn, retry=Retry(2, delay=0)), "goal", store=store)
    assert ids[0] == ids[1][:2]
    assert len(set(ids[1])) == 3
    assert [child.name for child in root_of(store).children] == ["same", "same", "new"]


def test_spawn_keys(store: MemoryStore) -> None:
    """A key finds its child in any later turn; without one each turn has children of its own."""

    def spawn(loop: Loop) -> None:
        loop.spawn("by key", agent=GOOD, key="k")
        loop.spawn("by order", agent=GOOD)

    agent = agent_with(answer=spawn, verify=lambda loop: Verdict.passed() if loop.turn == 2 else Verdict.revise(""))
    run(agent, "goal", store=store)
    assert [child.name for child in root_of(store).children] == ["by key", "by order", "by order"]


def test_spawn_in_verify(store: MemoryStore) -> None:
    """Spawning in VERIFY is refused: the verify has raised, so a person is asked, and there is no child."""

    def verify(loop: Loop) -> Verdict:
        loop.spawn("late", agent=GOOD)
        return Verdict.passed()

    result = run(agent_with(verify=verify), "goal", store=store)
    assert result.status is Status.BLOCKED
    assert "may not spawn in verify; spawn before it" in result.why
    assert root_of(store).children == []


def test_a_refusal_of_another_loop(store: MemoryStore) -> None:
    """A refusal that a phase runs into elsewhere fails its own loop, and not the driving."""

    def meddle(loop: Loop) -> None:
        executor = NestedLoopExecutor()
        executor.resume(executor.start_root("another"))

    result = run(agent_with(answer=spawning("meddler", agent=agent_with("m", answer=meddle))), "goal", store=store)
    assert result.status is Status.FAILED
    assert ends(store)["meddler"] == "failed"


def test_a_goal_there_must_be(store: MemoryStore) -> None:
    """A child without a goal, or of an agent that cannot pass, is refused."""
    assert run(agent_with(answer=lambda loop: loop.spawn("")), "goal", store=store).status is Status.FAILED
    no_verify = run(agent_with(answer=lambda loop: loop.spawn("x", agent=Agent("no"))), "goal")
    assert "has no verify function" in no_verify.why


@pytest.mark.timeout(20)
def test_depth_limit(store: MemoryStore) -> None:
    """A tree has `max_depth` levels and no more: what would go deeper fails, and so does what waits for it."""
    result = run(agent_with(answer=lambda loop: loop.spawn("deeper")), "goal", store=store, max_depth=4)
    assert result.status is Status.FAILED
    deepest = list(root_of(store).tree.walk())[-1]
    assert deepest.depth == 3
    assert isinstance(deepest.outcome, Failed)
    assert "DepthLimitReached" in deepest.outcome.error.type
    assert {run.status for run in root_of(store).tree.walk()} == {Status.FAILED}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("sort", ["sync", "async"])
def test_a_phase_that_spawns_and_fails(store: MemoryStore, sort: str) -> None:
    """A phase that raises after it has spawned fails its loop; the children it had spawned end with it, never begun."""

    def spawn(loop: Loop) -> None:
        loop.spawn("child", agent=GOOD)
        raise ConnectionError

    async def async_spawn(loop: Loop) -> None:
        spawn(loop)

    result = run(agent_with(answer=spawn if sort == "sync" else async_spawn), "goal", store=store)
    assert result.status is Status.FAILED
    assert result.why.startswith("ConnectionError")
    assert ends(store) == {"goal": "failed", "child": "abandoned"}
    assert named(store, "child").visits == []


# Join


def test_join_all(store: MemoryStore) -> None:
    """By default the parent goes on when every child has succeeded."""
    assert len(run(agent_with(answer=spawning("a", "b", agent=GOOD)), "goal", store=store).children) == 2


@pytest.mark.parametrize(("join", "needed"), [("any", 1), (Quorum(2), 2)])
def test_join_any_and_quorum(store: MemoryStore, join: Any, needed: int) -> None:
    """When enough children have succeeded the parent goes on, and the others are ended, saying why."""
    goals = [str(number) for number in range(5)]
    result = run(agent_with(answer=spawning(*goals, agent=GOOD), join=join), "goal", store=store)
    assert list(result.children.values()) == goals[:needed]
    left = root_of(store).children[needed:]
    assert {child.reason for child in left} == {TerminationReason.CONDITION_MET}
    assert left[0].outcome is not None
    assert f"{needed} of 5 succeeded; no more are needed" in repr(left[0].outcome)


def test_join_any_ends_those_under_way(store: MemoryStore) -> None:
    """A child under way when it is no longer needed is ended; what it writes afterwards is refused."""
    others_stand, refused = threading.Barrier(2), threading.Event()

    def work(loop: Loop) -> None:
        others_stand.wait(timeout=20)
        if loop.goal == "slow":
            until(lambda: named(store, "slow").reason)
            try:
                loop.note("late")
            except RunStateError:
                refused.set()
                raise

    child = agent_with("child", answer=work)
    agent = agent_with(answer=spawning("slow", "fast", agent=child), join="any", concurrency=2)
    result = run(agent, "goal", store=store)
    assert list(result.children.values()) == ["fast"]
    assert refused.is_set()
    assert named(store, "slow").noted("note") == []


def test_join_any_survives_failures(store: MemoryStore) -> None:
    """With join any, children may fail for as long as another can still succeed."""
    agent = agent_with(answer=spawning("a", "b", "c", agent=BAD, of={"c": GOOD}), join="any")
    assert list(run(agent, "goal", store=store).children.values()) == ["c"]
    agent = agent_with(answer=spawning("a", "b", agent=BAD), join="any")
    assert "ChildFailed" in run(agent, "goal").why


def test_a_quorum_out_of_reach(store: MemoryStore) -> None:
    """As soon as a quorum cannot be reached any more the loop fails, and what is still open is ended."""
    agent = agent_with(answer=spawning("a", "b", "c", "d", agent=GOOD, of={"a": BAD, "b": BAD}), join=Quorum(3))
    assert run(agent, "goal", store=store).reason is TerminationReason.DEPENDENCY_FAILURE
    assert ends(store) == {"goal": "failed", "a": "failed", "b": "failed", "c": "abandoned", "d": "abandoned"}


def test_a_quorum_of_more_than_there_are(store: MemoryStore) -> None:
    """A quorum larger than the number of children is not reached, though all succeed."""
    result = run(agent_with(answer=spawning("a", "b", agent=GOOD), join=Quorum(3)), "goal", store=store)
    assert result.status is Status.FAILED
    assert "ChildFailed" in result.why


# Failure


def test_a_failed_child_fails_its_parent(store: MemoryStore) -> None:
    """By default a child's failure is its parent's, which names it; siblings are ended, begun or not."""
    agent = agent_with(answer=spawning("a", "b", "c", agent=GOOD, of={"b": BAD}))
    result = run(agent, "goal", store=store)
    assert (result.status, result.reason) == (Status.FAILED, TerminationReason.DEPENDENCY_FAILURE)
    assert f"child {named(store, 'b').id!r} (b) failed: ConnectionError: b is away" in result.why
    assert ends(store) == {"goal": "failed", "a": "completed", "b": "failed", "c": "abandoned"}
    assert named(store, "c").visits == []


def test_an_abandoned_child_fails_its_parent(store: MemoryStore) -> None:
    """A child that ends without success fails its parent like one that broke."""
    impossible = agent_with("impossible", verify=lambda loop: Verdict.impossible("no"))
    result = run(agent_with(answer=spawning("a", agent=impossible)), "goal", store=store)
    assert "was abandoned: no" in result.why


def test_failure_goes_up_to_the_root(store: MemoryStore) -> None:
    """A failure far below fails every loop up to the root, and ends all that is open beside them."""
    begun = threading.Event()

    def wait(loop: Loop) -> None:
        begun.set()
        until(lambda: named(store, "aunt").reason)

    def fail(loop: Loop) -> None:
        assert begun.wait(timeout=20)
        fails(loop)

    parent = agent_with("parent", answer=spawning("child", "sibling", agent=agent_with("bad", answer=fail)))
    of = {"parent": parent, "aunt": agent_with("aunt", answer=wait)}
    agent = agent_with(answer=spawning("parent", "aunt", of=of), concurrency=2)
    assert run(agent, "goal", store=store).status is Status.FAILED
    assert ends(store) == {
        "goal": "failed",
        "parent": "failed",
        "child": "failed",
        "sibling": "abandoned",
        "aunt": "abandoned",
    }


def test_carry_on(store: MemoryStore) -> None:
    """With carry on the parent goes on with what there is, even with nothing."""
    agent = agent_with(answer=spawning("a", "b", "c", agent=BAD, of={"b": GOOD}), on_child_failure="carry on")
    assert list(run(agent, "goal", store=store).children.values()) == ["b"]
    none = agent_with(answer=spawning("a", "b", agent=BAD), on_child_failure="carry on", join="any")
    assert run(none, "goal").status is Status.COMPLETED


def test_a_grandparent_may_carry_on(store: MemoryStore) -> None:
    """A failure goes up as far as a loop that carries on."""
    parent = agent_with("parent", answer=spawning("child", agent=BAD))
    agent = agent_with(
        answer=spawning("parent", "other", of={"parent": parent, "other": GOOD}), on_child_failure="carry on"
    )
    assert run(agent, "goal", store=store).status is Status.COMPLETED
    assert ends(store) == {"goal": "completed", "parent": "failed", "child": "failed", "other": "completed"}


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_child_is_tried_again(store: MemoryStore, concurrency: int) -> None:
    """A failed child is replaced by another of the same goal and inputs, as often as the policy says."""
    tries: list[tuple[str, Any]] = []

    def flaky(loop: Loop) -> None:
        tries.append((loop.goal, loop.inputs))
        if loop.goal == "b" and tries.count(tries[-1]) < 3:
            raise ConnectionError

    def spawn(loop: Loop) -> None:
        for goal in "abc":
            loop.spawn(goal, agent=agent_with("child", answer=flaky) if goal == "a" else CHILD, inputs={"of": goal})

    CHILD = agent_with("flaky", answer=flaky)  # noqa: N806
    agent = agent_with(answer=spawn, on_child_failure=Retry(3, delay=0), concurrency=concurrency)
    result = run(agent, "goal", store=store)
    assert sorted(result.children.values()) == ["a", "b", "c"]
    assert tries.count(("b", {"of": "b"})) == 3
    statuses = [child.status for child in root_of(store).children if child.name == "b"]
    assert statuses == [Status.FAILED, Status.FAILED, Status.COMPLETED]


def test_a_child_is_tried_so_often_and_no_more(store: MemoryStore) -> None:
    """When the last try has failed too the parent fails; each try is a loop of its own with its own children."""
    tries: list[str] = []

    def fail(loop: Loop) -> None:
        tries.append(loop.goal)
        fails(loop)

    parent = agent_with("parent", answer=spawning("child", agent=agent_with("child", answer=fail)))
    agent = agent_with(answer=spawning("parent", agent=parent), on_child_failure=Retry(3, delay=0))
    assert run(agent, "goal", store=store).status is Status.FAILED
    assert tries == ["child"] * 3
    assert [child.name for child in root_of(store).children] == ["parent"] * 3


def test_a_child_that_was_moved_on_is_not_replaced(store: MemoryStore) -> None:
    """A phase that raises after somebody else has moved its loop on starts no second child in its place."""

    def work(loop: Loop) -> None:
        NestedLoopExecutor(store=store).advance(loop.id)
        raise ConnectionError

    child = agent_with("child", answer=work)
    result = run(agent_with(answer=spawning("a", agent=child), on_child_failure=Retry(2, delay=0)), "goal", store=store)
    assert result.status is Status.COMPLETED
    assert [child.status for child in root_of(store).children] == [Status.COMPLETED]


class BeatenStore(MemoryStore):
    """Another writer is quicker at every second write: a note of its own comes first."""

    def __init__(self) -> None:
        super().__init__(strict=True)
        self.writes = 0
        self._beaten_in: int | None = None

    def append(self, *records: Record) -> None:
        """As the store does, after the other writer."""
        if self._beaten_in != threading.get_ident() and records[0].position:
            self.writes += 1
            if self.writes % 2:
                self._beaten_in = threading.get_ident()
                try:
                    Journal(self, clock=FakeClock()).insist(records[0].root_id, rules.note, "note", "quicker")
                finally:
                    self._beaten_in = None
        super().append(*records)


@pytest.mark.parametrize("agent", [GOOD, BAD])
def test_policies_hold_beside_other_writers(agent: Agent) -> None:
    """Children fail, are replaced and joined rightly though another writer is quicker again and again."""
    store = BeatenStore()
    middle = agent_with(
        "middle", answer=spawning(*"abc", agent=agent), on_child_failure=Retry(2, delay=0), join=Quorum(2)
    )
    result = run(agent_with(answer=spawning("1", "2", agent=middle), on_child_failure="carry on"), "goal", store=store)
    assert result.status is Status.COMPLETED
    assert len(result.children) == (2 if agent is GOOD else 0)
    assert len(root_of(store).noted("note")) > 20


# Gathering


def test_gather(store: MemoryStore) -> None:
    """An async phase waits for its children in its middle, is entered once, and may spawn and gather again."""
    entered: list[str] = []
    gathered: list[list[str]] = []

    async def work(loop: Loop) -> None:
        entered.append(loop.goal)
        assert await loop.gather() == {}
        for goals in ("ab", "c"):
            for goal in goals:
                loop.spawn(goal, agent=GOOD)
            gathered.append(list((await loop.gather()).values()))
        loop.spawn("afterwards", agent=GOOD)

    result = run(agent_with(answer=work, concurrency=2), "goal", store=store)
    assert entered == ["goal"]
    assert gathered == [["a", "b"], ["a", "b", "c"]]
    assert list(result.children.values()) == ["a", "b", "c", "afterwards"]


def test_gather_at_many_levels(store: MemoryStore) -> None:
    """Parents that gather hold no worker: with one worker, trees of them come to their end, sync loops among them."""

    async def dive(loop: Loop) -> None:
        if loop.depth < 5:
            for goal in "ab":
                loop.spawn(goal, agent=GOOD if goal == "b" else None)
            assert list((await loop.gather()).values()) == ["a", "b"]

    result = run(agent_with(answer=dive, concurrency=2), "goal", store=store, workers=1)
    assert result.status is Status.COMPLETED
    assert len(list(root_of(store).tree.walk())) == 11


def test_gather_entered_again(store: MemoryStore) -> None:
    """A process that dies while a loop gathers: the next enters the phase again, and children that ended stay ended."""
    entered: list[str] = []

    def work(loop: Loop) -> None:
        entered.append(loop.goal)
        if entered == ["a", "b"]:
            raise ProcessDied

    async def gather(loop: Loop) -> None:
        for goal in "abc":
            loop.spawn(goal, agent=child)
        loop.answer(list((await loop.gather()).values()))

    child = agent_with("child", answer=work)
    agent = agent_with(answer=gather)
    with pytest.raises(ProcessDied):
        run(agent, "goal", store=store)
    result = resume(store, root_of(store).id, agents=[agent, child])
    assert result.status is Status.COMPLETED
    assert entered == ["a", "b", "b", "c"]
    assert root_of(store).noted("answer") == [["a", "b", "c"]]


async def gather_bad(loop: Loop) -> None:
    """Gather a child that fails; nothing after it is reached."""
    loop.spawn("bad", agent=BAD)
    await loop.gather()
    loop.note("not reached")


@pytest.mark.timeout(20)
def test_a_failure_while_gathering(store: MemoryStore) -> None:
    """A child's failure ends the loop that gathers it; nothing of its phase goes on, and the driver does not wait."""
    asks = agent_with("asks", answer=lambda loop: loop.ask_human("Go?"))
    of = {"gathers": agent_with("gathers", answer=gather_bad), "asks": asks}
    agent = agent_with(answer=spawning("gathers", "asks", of=of), on_child_failure="carry on")
    assert "Go?" in run(agent, "goal", store=store).why
    assert ends(store) == {"goal": "paused", "gathers": "failed", "bad": "failed", "asks": "blocked"}
    assert named(store, "gathers").noted("note") == []
    provide(store, named(store, "asks").id, "Go?", "yes")
    assert resume(store, root_of(store).id, agents=[agent, *of.values(), BAD]).status is Status.COMPLETED


@pytest.mark.timeout(20)
@pytest.mark.parametrize("how", ["gather", "return"])
def test_a_child_that_asks(store: MemoryStore, how: str) -> None:
    """When a child waits for a person the driver comes back, also while its parent gathers; later all goes on."""

    async def spawn(loop: Loop) -> None:
        loop.spawn("asks", agent=asks)
        if how == "gather":
            await loop.gather()

    asks = agent_with("asks", verify=lambda loop: Verdict.passed(loop.ask_human("Go?")))
    agent = agent_with(answer=spawn)
    result = run(agent, "goal", store=store)
    assert result.status is Status.PAUSED
    assert result.why.endswith("Go?")
    provide(store, named(store, "asks").id, "Go?", "yes")
    assert list(resume(store, result.run_id, agents=[agent, asks]).children.values()) == ["yes"]


@pytest.mark.timeout(20)
def test_a_time_limit_while_gathering(store: MemoryStore) -> None:
    """A question's time limit runs while the parent gathers."""
    clock = FakeClock()

    async def spawn(loop: Loop) -> None:
        loop.spawn("asks", agent=asks)
        await loop.gather()

    def pass_time() -> None:
        until(lambda: store.roots() and ends(store).get("asks") == "blocked")
        clock.advance(60)

    asks = agent_with("asks", verify=lambda loop: Verdict.passed(loop.ask_human("Go?", timeout=60, default="no")))
    passing = threading.Thread(target=pass_time)
    passing.start()
    result = run(agent_with(answer=spawn), "goal", store=store, clock=clock)
    passing.join()
    assert list(result.children.values()) == ["no"]


# Breaking and pausing from outside


def test_breaking_an_inner_loop(store: MemoryStore) -> None:
    """An inner loop broken at turn 5 of each of 5 outer turns makes 25 turns in all, the outer one 5."""
    inner: list[int] = []
    outer: list[int] = []

    def verify_inner(loop: Loop) -> Verdict:
        inner.append(loop.turn)
        if loop.turn == 5:
            NestedLoopExecutor(store=store).break_loop(loop.id, "enough")
        return Verdict.revise("more")

    def verify_outer(loop: Loop) -> Verdict:
        outer.append(loop.turn)
        return Verdict.passed() if loop.turn == 5 else Verdict.revise("more")

    repeating = agent_with("inner", verify=verify_inner, stuck=None)
    agent = agent_with(answer=spawning("inner", agent=repeating), verify=verify_outer, stuck=None)
    assert run(agent, "goal", store=store).status is Status.COMPLETED
    assert inner == [1, 2, 3, 4, 5] * 5
    assert outer == [1, 2, 3, 4, 5]
    assert {child.reason for child in root_of(store).children} == {TerminationReason.MANUAL}


@pytest.mark.parametrize("sort", ["sync", "async"])
def test_breaking_the_root(store: MemoryStore, sort: str) -> None:
    """A tree broken by another executor is over: workers' later writes are refused and the driver comes back."""
    refused: list[str] = []

    def work(loop: Loop) -> None:
        NestedLoopExecutor(store=store).break_loop(root_of(store).id, "stop it")
        for verb in (loop.note, loop.ask, lambda text: loop.spawn(text, agent=GOOD), lambda text: loop.step(text, str)):
            with pytest.raises(RunStateError, match="it has ended"):
                verb("late")
            refused.append(loop.goal)
        loop.note("and so is this")

    async def async_work(loop: Loop) -> None:
        work(loop)

    child = agent_with("child", answer=work if sort == "sync" else async_work, retry=Retry(5, delay=0))
    result = run(agent_with(answer=spawning("a", "b", agent=child)), "goal", store=store)
    assert (result.status, result.reason, result.why) == (Status.ABANDONED, TerminationReason.MANUAL, "stop it")
    assert refused == ["a"] * 4
    assert ends(store) == {"goal": "abandoned", "a": "abandoned", "b": "abandoned"}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("how", ["gather", "return"])
def test_breaking_a_loop_with_children(store: MemoryStore, how: Literal["gather", "return"]) -> None:
    """A loop broken while its children run ends with them; the outer loop goes on and can wait for a person."""

    async def spawn(loop: Loop) -> None:
        loop.spawn("child", agent=agent_with("child", answer=break_parent))
        if how == "gather":
            await loop.gather()

    def break_parent(loop: Loop) -> None:
        NestedLoopExecutor(store=store).break_loop(named(store, "middle").id, "enough")

    asks = agent_with("asks", answer=lambda loop: loop.ask_human("Go?"))
    of = {"middle": agent_with("middle", answer=spawn), "asks": asks}
    result = run(agent_with(answer=spawning("middle", "asks", of=of)), "goal", store=store)
    assert "Go?" in result.why
    assert ends(store) == {"goal": "paused", "middle": "abandoned", "child": "abandoned", "asks": "blocked"}


@pytest.mark.timeout(20)
def test_breaking_what_waits_for_a_person(store: MemoryStore) -> None:
    """A loop that gathers, broken while its only child waits for a person, is let go of."""
    clock = FakeClock()

    async def spawn(loop: Loop) -> None:
        loop.spawn("asks", agent=agent_with("asks", answer=lambda loop: loop.ask_human("Go?", timeout=60)))
        await loop.gather()

    def break_it() -> None:
        until(lambda: store.roots() and ends(store).get("asks") == "blocked")
        NestedLoopExecutor(store=store).break_loop(named(store, "middle").id, "enough")

    breaking = threading.Thread(target=break_it)
    breaking.start()
    middle = agent_with("middle", answer=spawn)
    result = run(agent_with(answer=spawning("middle", agent=middle)), "goal", store=store, clock=clock)
    breaking.join()
    assert result.status is Status.COMPLETED
    assert ends(store) == {"goal": "completed", "middle": "abandoned", "asks": "abandoned"}


def test_breaking_a_child_as_it_is_begun() -> None:
    """A child broken by another process at the very moment of its turn is left out, and the others run."""
    broken: list[str] = []

    class QuickStore(MemoryStore):
        def append(self, *records: Record) -> None:
            moved = [event.run_id for event in records[0].events if isinstance(event, Moved)]
            if moved and not broken and root_of(self).tree.index.runs[moved[0]].name == "b":
                broken.append(moved[0])
                NestedLoopExecutor(store=self).break_loop(moved[0], "not this one")
            super().append(*records)

    store = QuickStore(strict=True)
    agent = agent_with(answer=spawning("a", "b", "c", agent=agent_with("child")))
    assert list(run(agent, "goal", store=store).children.values()) == ["a", "c"]
    assert ends(store)["b"] == "abandoned"


def test_pausing_one_of_two(store: MemoryStore) -> None:
    """A loop paused by hand goes no further while its sibling does; once resumed it is driven on at once."""
    paused, seen = threading.Event(), threading.Event()

    def pause(loop: Loop) -> None:
        executor = NestedLoopExecutor(store=store)
        if not paused.is_set():
            executor.pause(loop.id, "lunch")
            paused.set()

    def resume_sibling(loop: Loop) -> None:
        assert paused.wait(timeout=20)
        sibling = named(store, "pauses")
        assert sibling.status is Status.PAUSED
        NestedLoopExecutor(store=store).resume(sibling.id)
        until(lambda: named(store, "pauses").status is Status.COMPLETED)
        seen.set()

    of = {"pauses": agent_with("p", answer=pause), "resumes": agent_with("r", answer=resume_sibling)}
    agent = agent_with(answer=spawning("pauses", "resumes", of=of), concurrency=2)
    assert run(agent, "goal", store=store).status is Status.COMPLETED
    assert seen.is_set()


def test_pausing_the_root(store: MemoryStore) -> None:
    """A driver comes back from a tree that was paused by hand; unpaused and resumed, the phase is entered again."""
    entered: list[str] = []

    def pause(loop: Loop) -> None:
        entered.append(loop.step("s", str, "done"))
        if len(entered) == 1:
            NestedLoopExecutor(store=store).pause(loop.id, "lunch")

    agent = agent_with(answer=pause)
    result = run(agent, "goal", store=store)
    assert (result.status, result.why) == (Status.PAUSED, "lunch")
    assert resume(store, result.run_id, agents=[agent]).status is Status.PAUSED
    NestedLoopExecutor(store=store).resume(result.run_id)
    assert resume(store, result.run_id, agents=[agent]).status is Status.COMPLETED
    assert entered == ["done", "done"]
    assert len(root_of(store).noted("step")) == 1


def test_two_trees_of_one_store(store: MemoryStore) -> None:
    """Trees of one store are driven at the same time, each under a lease of its own."""
    both = threading.Barrier(2)
    agent = agent_with(answer=lambda loop: both.wait(timeout=20))

    async def main() -> list[Result]:
        return await asyncio.gather(*(asyncio.to_thread(run, agent, goal, store=store) for goal in "ab"))

    assert [result.value for result in asyncio.run(main())] == ["a", "b"]
