"""Thirty-two threads on one executor, each making whatever calls, lawful or not, on the same trees."""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from cortical import Budget
from cortical.core import booking
from cortical.core.budget import CONSUMED
from cortical.core.errors import CorticalError, InvalidInput, RunNotFound, StoreError
from cortical.core.events import Ended, Event, Noted, Started
from cortical.core.status import Status
from cortical.core.tree import Tree
from cortical.looking.soundness import unsound
from cortical.reasoning import CognitiveLoop, NestedLoopExecutor
from cortical.store import MemoryStore, Store, open_store
from cortical.store.listing import status_after

THREADS: Final = 32
CALLS: Final = 100
TREES: Final = 5
MAX_DEPTH: Final = 4
DESCENDANTS: Final = 400
WIDTH: Final = 90
LIMITS: Final = Budget(descendants=DESCENDANTS, width=WIDTH, iterations=2000, tokens=400)

Call = Callable[["Caller", str], object]


class Caller:
    """One of the threads: makes calls by its own dice, and keeps what they had returned."""

    def __init__(self, executor: NestedLoopExecutor, roots: list[str], seed: int) -> None:
        self.executor = executor
        self.roots = roots
        self.dice = random.Random(seed)
        self.made = self.refused = 0
        self.answers: list[tuple[str, str]] = []
        self.spawned: list[tuple[str, str]] = []
        self.ended: list[tuple[str, Status]] = []
        self.trouble: list[BaseException | str] = []

    def work(self) -> None:
        """Make the calls. What is refused with an error of the library's is refused; anything else is trouble."""
        try:
            for number in range(CALLS):
                self._call_something()
                if number % 40 == 39:
                    self.look()
        except BaseException as error:  # noqa: BLE001  # told by the test
            self.trouble.append(error)

    def look(self) -> None:
        """See whether a tree is as its log says, while the others go on."""
        run = self.executor.journal.run(self.dice.choice(self.roots))
        with self.executor.journal.holding(run.tree):
            self.trouble += unsound(self.executor.store.read(run.id), run.tree)

    def _call_something(self) -> None:
        subtree = self.executor.get_subtree(self.dice.choice(self.roots))
        still_open = [loop for loop in subtree if not loop.status.ended]
        loop = self.dice.choice(still_open if still_open and self.dice.random() < 0.9 else subtree)
        call = self.dice.choices(list(CALLED), list(CALLED.values()))[0]
        try:
            call(self, loop.id)
            self.made += 1
        except StoreError:
            raise  # there is room, and no other writer
        except CorticalError:
            self.refused += 1

    # The calls

    def spawn(self, loop: str) -> None:
        self.spawned.append((loop, self.executor.spawn_child(loop, "sub")))

    def spawn_several(self, loop: str) -> None:
        self.spawned += [(loop, child) for child in self.executor.spawn_children(loop, ["a", "b", "c"])]

    def spawn_with_a_budget(self, loop: str) -> None:
        self.spawned.append((loop, self.executor.spawn_child(loop, "sub", budget=Budget(tokens=5, iterations=3))))

    def answer(self, loop: str) -> None:
        token = f"{self.dice.random()}"
        self.executor.record_answer(loop, token)
        self.answers.append((loop, token))

    def advance(self, loop: str) -> None:
        self.executor.advance(loop)

    def complete(self, loop: str) -> None:
        if loop not in self.roots:  # trees are to last
            self.executor.complete(loop, "done")
            self.ended.append((loop, Status.COMPLETED))

    def fail(self, loop: str) -> None:
        if loop not in self.roots:
            self.executor.fail(loop, ValueError("no"))
            self.ended.append((loop, Status.FAILED))

    def break_loop(self, loop: str) -> None:
        if loop not in self.roots:
            self.executor.break_loop(loop, "enough")
            self.ended.append((loop, Status.ABANDONED))

    def pause_and_resume(self, loop: str) -> None:
        self.executor.pause(loop, "lunch")
        self.executor.resume(loop)

    def block_and_resume(self, loop: str) -> None:
        self.executor.block(loop, "no key")
        self.executor.resume(loop)

    def resume(self, loop: str) -> None:
        self.executor.resume(loop)

    def spend(self, loop: str) -> None:
        self.executor.journal.change(loop, booking.spend, {"tokens": self.dice.randrange(1, 9)})

    def in_one_record(self, loop: str) -> None:
        """Answers and a child, in a transaction that is undone at times."""
        tokens = [f"{self.dice.random()}" for _ in range(2)]
        with self.executor.transaction(timeout=0.5):
            for token in tokens:
                self.executor.record_answer(loop, token)
            child = self.executor.spawn_child(loop, "together")
            if self.dice.random() < 0.3:
                raise InvalidInput("undone")
        self.answers += [(loop, token) for token in tokens]
        self.spawned.append((loop, child))

    def over_two_trees(self, loop: str) -> None:
        """A transaction over two trees; two such may wait for each other, and one of them is undone."""
        other, token = self.dice.choice(self.roots), f"{self.dice.random()}"
        with self.executor.transaction(timeout=0.02):
            self.executor.record_answer(loop, token)
            self.executor.record_answer(other, token)
        self.answers += [(loop, token), (other, token)]

    def unlawful(self, loop: str) -> None:
        """Something that is always refused."""
        call, refusal = self.dice.choice(UNLAWFUL)
        with pytest.raises(refusal):
            call(self.executor, loop)


UNLAWFUL: Final[list[tuple[Callable[[NestedLoopExecutor, str], object], type[CorticalError]]]] = [
    (lambda executor, loop: executor.advance("nobody"), RunNotFound),
    (lambda executor, loop: executor.spawn_child(loop, "  "), InvalidInput),
    (lambda executor, loop: executor.spawn_children(loop, []), InvalidInput),
]

CALLED: Final[dict[Call, int]] = {
    Caller.spawn: 3,
    Caller.spawn_several: 2,
    Caller.spawn_with_a_budget: 1,
    Caller.answer: 6,
    Caller.advance: 4,
    Caller.complete: 5,
    Caller.fail: 1,
    Caller.break_loop: 1,
    Caller.pause_and_resume: 1,
    Caller.block_and_resume: 1,
    Caller.resume: 1,
    Caller.spend: 2,
    Caller.in_one_record: 2,
    Caller.over_two_trees: 1,
    Caller.unlawful: 1,
}


@pytest.fixture(params=["memory", "disk", "relaxed"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    made: Store = MemoryStore(strict=True)
    if request.param != "memory":
        made = open_store(tmp_path / "runs.db", durability="relaxed" if request.param == "relaxed" else "process")
    yield made
    made.close()


def test_thirty_two_threads(store: Store) -> None:
    """Whatever they call at the same time, each rule holds, while they call and afterwards, and nothing is lost."""
    executor = NestedLoopExecutor(MAX_DEPTH, store=store)
    told: list[Event] = []
    executor.journal.subscribe(told.append)
    roots = [executor.start_root(f"tree {number}", budget=LIMITS) for number in range(TREES)]
    callers = [Caller(executor, roots, seed) for seed in range(THREADS)]
    threads = [threading.Thread(target=caller.work, name=f"caller {number}") for number, caller in enumerate(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [trouble for caller in callers for trouble in caller.trouble] == []
    assert sum(caller.made for caller in callers) > THREADS * CALLS / 4
    assert sum(caller.refused for caller in callers) > 0
    executor.flush()
    logs = {root: store.read(root) for root in roots}
    for root in roots:
        tree = executor.journal.run(root).tree
        assert unsound(logs[root], tree) == []
        check_tree(Tree.of(logs[root]))
    check_facts(callers, [event for log in logs.values() for event in log])
    check_told(told, logs)
    assert store.check() == []
    for loop in [loop for root in roots for loop in executor.get_subtree(root)]:
        check_loop(loop)


def check_tree(tree: Tree) -> None:
    """Depth, children and budgets are within their limits."""
    for run in tree.walk():
        assert run.depth == (run.parent.depth + 1 if run.parent else 0) < MAX_DEPTH
        assert len(run.children) <= WIDTH
        assert run.open_children == sum(not child.status.ended for child in run.children)
        assert not (run.status.ended and run.open_children)
        if run.account is not None and run.account.run_id == run.id:
            for resource in CONSUMED:
                assert resource not in run.account.limit or run.account.available(resource) >= 0
                assert run.account.held.get(resource, 0) >= 0
    assert sum(1 for _ in tree.walk()) - 1 <= DESCENDANTS


def check_facts(callers: list[Caller], log: list[Event]) -> None:
    """What a call had returned from is there, once."""
    answers = Counter((event.run_id, event.value) for event in log if type(event) is Noted and event.topic == "answer")
    assert answers == Counter(answer for caller in callers for answer in caller.answers)
    spawned = [(event.parent_id, event.run_id) for event in log if isinstance(event, Started) and event.parent_id]
    assert sorted(spawned) == sorted(pair for caller in callers for pair in caller.spawned)
    ended = {event.run_id: status_after(event) for event in log if isinstance(event, Ended)}
    for loop, status in [end for caller in callers for end in caller.ended]:
        assert ended[loop] is status


def check_told(told: list[Event], logs: dict[str, list[Event]]) -> None:
    """Each event was told once, in the order of its tree's log."""
    owners = {event.run_id: root for root, log in logs.items() for event in log}
    by_tree: dict[str, list[Event]] = defaultdict(list)
    for event in told:
        by_tree[owners[event.run_id]].append(event)
    assert by_tree == logs


def check_loop(loop: CognitiveLoop) -> None:
    """An ended loop takes nothing more."""
    if loop.status.ended:
        with pytest.raises(CorticalError):
            loop.add_note("late")
