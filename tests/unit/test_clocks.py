"""Clocks that are set back and ahead while work is under way: limits keep their length, and nothing waits for them."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from typing import Any, Final

import pytest

from cortical import Budget, Loop, Verdict, resume, run
from cortical.agents.running import start
from cortical.batch import BatchProcessor
from cortical.batch.rate import RateLimit
from cortical.control import LoopController, State, max_iterations, timeout
from cortical.core import rules
from cortical.core.errors import LeaseHeld, LeaseLost
from cortical.core.events import Checkpointed
from cortical.core.journal import Journal
from cortical.core.policy import Retry
from cortical.core.status import Status, TerminationReason
from cortical.core.tree import Tree
from cortical.engine.lease import holding_lease
from cortical.looking.soundness import unsound
from cortical.reasoning import NestedLoopExecutor
from cortical.stages import Pipeline, StageContext, execute, stage
from cortical.store import MemoryStore
from cortical.testing import FakeClock
from tests.integration.agent_scenarios import agent_with, until

HOURS: Final = 3600.0
#: Set back, set ahead, and both in turn.
JUMPS: Final = [[-5 * HOURS], [5 * HOURS], [-9 * HOURS, 7 * HOURS, -HOURS]]


class Jumping(FakeClock):
    """A clock that is set to another time each time that `jump` is called, and that a wait by it lets go on."""

    def __init__(self, jumps: list[float]) -> None:
        super().__init__()
        self._jumps: Iterator[float] = itertools.cycle(jumps)
        self._looks = 0

    def jump(self) -> None:
        """Be set to another time."""
        self.now += next(self._jumps)

    def monotonic(self) -> float:
        """The seconds; whoever waits looks at them."""
        self._looks += 1
        return super().monotonic()

    def until_looked_at(self) -> None:
        """Wait until somebody has looked at it some more times."""
        enough = self._looks + 4
        until(lambda: self._looks > enough)


@pytest.fixture(params=JUMPS, ids=["back", "ahead", "both"])
def clock(request: pytest.FixtureRequest) -> Jumping:
    """A clock that jumps."""
    return Jumping(request.param)


def assert_sound(store: MemoryStore) -> None:
    """No tree of the store has time going back in it, or is wrong otherwise."""
    for root in store.roots():
        assert unsound(store.read(root.id)) == []


def test_time_does_not_go_back_in_a_tree() -> None:
    """After the clock was set back, time in a tree goes on from where it was, as fast as time passes."""
    clock, store = FakeClock(), MemoryStore()
    executor = NestedLoopExecutor(store=store, clock=clock)
    root = executor.start_root("g")
    clock.now -= 5 * HOURS
    executor.advance(root)
    clock.advance(7)
    executor.advance(root)
    with executor.transaction():
        clock.advance(2)
        executor.advance(root)
    began, *later = [event.at for event in store.read(root)]
    assert [at - began for at in later] == [0, 7, 9]
    clock.now += 6 * HOURS
    executor.advance(root)
    assert store.read(root)[-1].at == clock.now
    assert_sound(store)


@pytest.mark.parametrize("seed", range(20))
def test_any_jumps(seed: int) -> None:
    """Wherever the clock is set to between calls, each log can have come about, and folds to its tree."""
    dice, clock, store = random.Random(seed), FakeClock(), MemoryStore(strict=True)
    executors = [NestedLoopExecutor(store=store, clock=clock) for _ in range(2)]
    roots = [executors[0].start_root(f"tree {number}") for number in range(3)]
    for _ in range(60):
        clock.now += dice.choice([0, 0, -HOURS, HOURS, -0.5])
        clock.advance(dice.choice([0, 1, 30]))
        executor, root = dice.choice(executors), dice.choice(roots)
        executor.refresh(root)
        executor.advance(root)
    assert_sound(store)
    for executor, root in itertools.product(executors, roots):
        assert unsound(store.read(root), executor.refresh(root).run.tree) == []


def test_a_time_out_of_a_controlled_loop(clock: Jumping) -> None:
    """Ten seconds are ten seconds of work, in however many hours the clock says that they were."""

    def body(state: dict[str, Any]) -> State:
        clock.advance(1)
        clock.jump()
        return State(number=state.get("number", 0) + 1)

    store = MemoryStore()
    controller = LoopController("loop", store=store, clock=clock, stop_when=timeout(10) | max_iterations(99))
    result = controller.run(body)
    assert (result.reason, result.iterations, result.seconds) == (TerminationReason.TIMEOUT, 10, 10)
    assert_sound(store)


def test_checkpoints_by_time(clock: Jumping) -> None:
    """A checkpoint every three seconds is made every three seconds."""

    def body(state: dict[str, Any]) -> None:
        clock.advance(1)
        clock.jump()

    store = MemoryStore()
    controller = LoopController("loop", store=store, clock=clock, stop_when=max_iterations(9))
    controller.set_checkpoint_interval(seconds=3)
    controller.run(body)
    made = [event.label for event in store.read("loop") if isinstance(event, Checkpointed)]
    assert made == ["iteration 4", "iteration 7"]


def test_seconds_of_a_budget() -> None:
    """A budget's seconds come to an end though the clock was set back: time in the tree goes on."""
    clock, store = Jumping([-5 * HOURS]), MemoryStore()

    def work(loop: Loop) -> None:
        clock.advance(4)
        clock.jump()

    agent = agent_with(answer=work, verify=lambda loop: Verdict.revise("again"), stuck=None)
    result = run(agent, "goal", store=store, clock=clock, budget=Budget(seconds=10, iterations=9))
    assert (result.reason, result.limit) == (TerminationReason.BUDGET_EXHAUSTED, "seconds")
    turns = [visit for visit in Tree.of(store.read(result.run_id)).root.visits if visit.place == "answer"]
    assert 3 <= len(turns) <= 4  # the time since the last event is lost where the clock is found to have been set back
    assert_sound(store)


def test_a_child_that_is_tried_again_after_a_while(clock: Jumping) -> None:
    """Another try of a child begins after its delay, though the clock jumps while it waits; not before it."""
    store = MemoryStore()
    failed: list[str] = []
    early: list[int] = []

    def tries() -> list[Any]:
        roots = store.roots()
        return [] if not roots else [one for one in Tree.of(store.read(roots[0].id)).walk() if one.name == "child"]

    def pass_time() -> None:
        until(lambda: len(tries()) == 2)
        clock.until_looked_at()
        clock.jump()
        clock.advance(29)
        clock.jump()
        clock.until_looked_at()
        early.append(sum(one.status is not Status.NOT_STARTED for one in tries()))
        clock.advance(1)

    def work(loop: Loop) -> None:
        if not failed:
            failed.append(loop.id)
            raise ConnectionError

    child = agent_with("child", answer=work)
    parent = agent_with(
        "parent", answer=lambda loop: loop.spawn("child", agent=child), on_child_failure=Retry(2, delay=30)
    )
    passing = threading.Thread(target=pass_time)
    passing.start()
    result = run(parent, "goal", store=store, clock=clock)
    passing.join()
    assert result.status is Status.COMPLETED
    assert early == [1]
    assert_sound(store)


def test_a_question_with_a_time_out(clock: Jumping) -> None:
    """A person who does not answer is waited for as long as was said, and no longer."""
    store = MemoryStore()

    def ask(loop: Loop) -> None:
        loop.produce("colour", loop.ask_human("Which?", timeout=60, default="red"))

    def pass_time() -> None:
        until(lambda: store.roots() and store.roots()[0].status is Status.BLOCKED)
        clock.until_looked_at()
        clock.jump()
        clock.advance(60)

    passing = threading.Thread(target=pass_time)
    passing.start()
    result = run(agent_with(question=ask), "goal", store=store, clock=clock)
    passing.join()
    assert result.artifacts == {"colour": "red"}
    assert_sound(store)


def test_a_delay_that_is_read_from_the_log() -> None:
    """One who takes up a tree after the clock was set back waits no longer than the delay."""
    clock, store = Jumping([0]), MemoryStore()
    child = agent_with("child")
    parent = agent_with("parent", answer=lambda loop: loop.spawn("child", agent=child), on_child_failure="carry on")
    journal = Journal(store, clock=clock)
    metadata = {"agent": child.as_recorded(), "not_before": clock.now + 30}
    above = start(journal, parent, "goal")
    journal.change(above, rules.move, "answer")
    journal.change(above, rules.spawn, "loop", {"late": "child"}, place=None, metadata=metadata)
    clock.now -= 5 * HOURS

    def pass_time() -> None:
        clock.until_looked_at()
        clock.advance(30)

    passing = threading.Thread(target=pass_time)
    passing.start()
    result = resume(store, above, agents=[parent, child], clock=clock)
    passing.join()
    assert result.status is Status.COMPLETED


def test_retries_of_a_batch_and_of_a_stage(clock: Jumping) -> None:
    """Another attempt is waited for as long as its policy says."""
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        clock.advance(seconds)

    attempts: list[int] = []

    def work(item: int, task: Any, context: Any) -> int:
        attempts.append(item)
        clock.jump()
        if len(attempts) < 3:
            raise ConnectionError
        return item

    retry, store = Retry(3, delay=30), MemoryStore()
    batch = BatchProcessor(".", "b", work, store=store, clock=clock, retry=retry, sleep=sleep)
    assert batch.run([1]).results == [1]
    assert waited == [30, 60]
    waited.clear()
    attempts.clear()

    @stage("p:s", retry=retry)
    def only(context: StageContext) -> None:
        work(1, None, None)

    assert execute(Pipeline("p", [only]), store=store, clock=clock, sleep=sleep).ok
    assert waited == [30, 60]
    assert_sound(store)


def test_a_rate_limit(clock: Jumping) -> None:
    """Calls are as far apart as the limit says, whatever the clock is set to."""
    limit = RateLimit(2, clock)
    waits = []
    for _ in range(4):
        waits.append(limit.seconds_to_wait())
        clock.jump()
    assert waits == [0, 0.5, 1, 1.5]
    clock.advance(10)
    assert limit.seconds_to_wait() == 0


def test_a_time_out_of_a_batch(clock: Jumping) -> None:
    """A batch's time-out is so many seconds of work."""

    def work(item: int, task: Any, context: Any) -> int:
        clock.advance(1)
        clock.jump()
        return item

    batch = BatchProcessor(".", "b", work, clock=clock, stop_when=timeout(5), max_concurrency=1)
    result = batch.run(range(50))
    assert (result.reason, len(result.processed)) == (TerminationReason.TIMEOUT, 5)


def test_a_lease_when_the_clock_is_set_ahead() -> None:
    """Another may then take over at once: the first is refused from that moment on, and history is not forked."""
    clock, store = FakeClock(), MemoryStore()
    mine, theirs = Journal(store, clock=clock), Journal(store, clock=clock)
    mine.plant("root", rules.start, "loop", "goal", place="question")

    def drive() -> None:
        with holding_lease(mine, "root", seconds=10):
            clock.now += 5 * HOURS
            thread = threading.Thread(target=take_over)
            thread.start()
            thread.join()
            mine.change("root", rules.move, "answer")

    def take_over() -> None:
        with holding_lease(theirs, "root", seconds=10):
            theirs.change("root", rules.move, "produce")

    with pytest.raises(LeaseLost):
        drive()
    assert [event.seq for event in store.read("root")] == [1, 2]
    assert_sound(store)


def test_a_lease_when_the_clock_is_set_back() -> None:
    """Nobody takes a tree from one who holds it, and it is free at once when that one lets go of it."""
    clock, store = FakeClock(), MemoryStore()
    mine, theirs = Journal(store, clock=clock), Journal(store, clock=clock)
    mine.plant("root", rules.start, "loop", "goal", place="question")
    refused: list[BaseException] = []

    def take() -> None:
        try:
            with holding_lease(theirs, "root", seconds=10):
                theirs.change("root", rules.move, "answer")
        except LeaseHeld as held:
            refused.append(held)

    with holding_lease(mine, "root", seconds=10):
        clock.now -= 5 * HOURS
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
        assert len(refused) == 1
    take()
    assert len(refused) == 1
    assert store.read("root")[-1].run_id == "root"
    assert_sound(store)
