"""The checks of the soak find what they are there to find."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cortical import Budget
from cortical.core.events import Ended, Event, Noted
from cortical.core.outcome import Ok
from cortical.core.status import TerminationReason
from cortical.reasoning import NestedLoopExecutor
from cortical.store import MemoryStore
from tests.soak.checking import Told, problems_of_all, problems_of_tree
from tests.soak.facts import Fact


def fact(word: str, *about: object, at: int = 1, pid: int = 1) -> Fact:
    """A line of a side log."""
    return Fact(at, pid, word, tuple(map(str, about)))


def found(executor: NestedLoopExecutor, *facts: Fact) -> list[str]:
    """What is wrong, these having been told."""
    return list(problems_of_all(executor.store, Told.of(facts)))


def test_nothing_is_wrong() -> None:
    """Of a store as it should be, and of facts that are in it, nothing is told."""
    executor = NestedLoopExecutor(store=MemoryStore(strict=True))
    root = executor.start_root("g", budget=Budget(tokens=5))
    child = executor.spawn_child(root, "c")
    executor.record_answer(child, "a")
    executor.complete(child)
    facts = [
        fact("event", root, root, 1, "Started"),
        fact("child", root, child),
        fact("answer", root, child, "a"),
        fact("ended", root, child, "completed"),
        fact("call", "item", 1, at=1),
        fact("done", "item", 1, at=2),
        fact("call", "item", 1, at=3, pid=2),  # by one that had begun it before
    ]
    assert found(executor, *facts) == []


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        (lambda root: fact("event", root, root, 2, "Moved"), "is lost"),
        (lambda root: fact("event", "gone", "gone", 1, "Started"), "tree gone had been told of, and is lost"),
        (lambda root: fact("answer", root, root, "b"), "is there 0 times"),
        (lambda root: fact("ended", root, root, "completed"), "had been completed, and is not"),
        (lambda root: fact("child", root, "nobody"), "is lost"),
        (lambda root: fact("broken", "Traceback⏎…"), "broken: Traceback\n…"),
        (lambda root: fact("unsound", root, "no fold"), "unsound"),
    ],
)
def test_what_is_lost_is_found(told: Callable[[str], Fact], problem: str) -> None:
    """What had been told and is not in the store is found."""
    executor = NestedLoopExecutor(store=MemoryStore(strict=True))
    (one,) = found(executor, told(executor.start_root("g")))
    assert problem in one


def test_what_is_done_again_is_found() -> None:
    """Two calls after the end had been reported are one too many."""
    executor = NestedLoopExecutor(store=MemoryStore(strict=True))
    calls = [fact("call", "item", 1, at=at) for at in (1, 3, 4)]
    assert found(executor, *calls, fact("done", "item", 1, at=2)) == [
        "item 1 had been done, and was called again by processes [1, 1]"
    ]


def test_a_log_that_cannot_be_is_found() -> None:
    """A gap, an open child of an ended parent, and a budget that was overshot are found."""
    store = MemoryStore(strict=True)
    executor = NestedLoopExecutor(store=store)
    root = executor.start_root("g", budget=Budget(tokens=5))
    executor.spawn_child(root, "c")
    log = store.read(root)
    at = log[-1].at

    def problems(*more: Event) -> str:
        return " ".join(problems_of_tree(root, [*log, *more]))

    assert problems() == ""
    seq = log[-1].seq if log[-1].run_id == root else 2
    assert "the count has a gap" in problems(Noted(root, seq + 2, at, "answer", "x"))
    ended = Ended(root, seq + 1, at, Ok(None), TerminationReason.SUCCESS)
    assert "a run ends before its children" in problems(ended)
    assert "a child of it is open" in problems(ended)
    spent = Noted(root, seq + 1, at, "spent", {"amounts": {"tokens": 6}})
    assert "overshot it" in problems(spent)
