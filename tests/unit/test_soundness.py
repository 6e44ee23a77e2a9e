"""Whether a tree is as its log says, and whether the log can have come about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from sqlite3 import connect

import pytest

from cortical.core.events import Ended, Event, Moved, Noted, Paused, Resumed, Started
from cortical.core.outcome import Abandoned, Ok
from cortical.core.status import TerminationReason
from cortical.core.tree import Tree
from cortical.looking.soundness import examine, unsound
from cortical.reasoning import NestedLoopExecutor
from cortical.store import MemoryStore, Store, open_store
from cortical.testing import FakeClock

ROOT = Started("r", 1, 10.0, "loop", "goal", place="question")
CHILD = Started("c", 1, 11.0, "loop", "part", "r", "question")
WAITING = Paused("r", 2, 11.0, "waiting for a child", True)


def ended(run_id: str, seq: int, at: float = 12.0) -> Ended:
    return Ended(run_id, seq, at, Ok(), TerminationReason.SUCCESS)


def grown(store: Store) -> NestedLoopExecutor:
    """An executor whose store holds an open tree with a loop of every status, and two trees that have ended."""
    executor = NestedLoopExecutor(store=store, clock=FakeClock())
    root = executor.start_root("open", metadata={"limit": math.nan, "tags": ("a", "b")})
    done, broken, failed, blocked, paused = executor.spawn_children(root, ["a", "b", "c", "d", "e"])
    executor.record_answer(done, {"values": [1, math.nan]})
    executor.advance(done)
    executor.complete(done, [math.nan])
    executor.break_loop(broken, "not needed")
    executor.fail(failed, ValueError("no"))
    executor.block(blocked, "no key")
    executor.pause(paused, "by hand")
    executor.manager.create_loop("later", parent_id=paused)
    executor.complete(executor.start_root("ended"), 1)
    executor.break_loop(executor.start_root("broken"), "changed plans")
    return executor


def test_what_an_executor_recorded_is_sound(any_store: Store) -> None:
    """Trees with loops of every status, and values with NaN in them, have nothing wrong."""
    executor = grown(any_store)
    for root in any_store.roots():
        assert unsound(any_store.read(root.id), executor.journal.run(root.id).tree) == []


def test_a_reopened_store_folds_to_what_memory_held(tmp_path: Path) -> None:
    """The tree of one process is the fold of the log that another reads."""
    with NestedLoopExecutor(store=tmp_path / "s.db", clock=FakeClock()) as executor:
        root = executor.start_root("goal")
        executor.record_answer(executor.spawn_child(root, "part"), {"when": (1, 2)})
        store = open_store(tmp_path / "s.db")
        assert unsound(store.read(root), executor.journal.run(root).tree) == []
        store.close()


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        ([], "the log is empty"),
        ([ROOT, Moved("r", 3, 11.0, "answer")], "the count has a gap: 2 is due (event 3 of run 'r', at position 1)"),
        ([Moved("r", 1, 10.0, "answer")], "a run goes on that was never started"),
        ([ROOT, Started("r", 2, 10.0, "loop", "goal")], "a run is started twice"),
        ([ROOT, Started("s", 1, 10.0, "loop", "goal")], "a second root is started"),
        ([ROOT, Started("c", 1, 10.0, "loop", "part", "x")], "its parent 'x' is not in the tree"),
        ([ROOT, ended("r", 2), Started("c", 1, 12.0, "loop", "part", "r")], "its parent 'r' had ended (completed)"),
        ([ROOT, ended("r", 2), Noted("r", 3, 12.0, "note", "late")], "a run goes on that has ended (completed)"),
        ([ROOT, ended("r", 2), ended("r", 3)], "a run goes on that has ended (completed)"),
        ([ROOT, Paused("r", 2, 10.0), Moved("r", 3, 10.0, "answer")], "a run moves that is paused"),
        ([ROOT, Resumed("r", 2, 10.0)], "a run that is active becomes active"),
        ([ROOT, CHILD, WAITING, ended("r", 3)], "a run ends before its children"),
        ([ROOT, Moved("r", 2, 9.5, "answer")], "time goes back by 0.5 s at position 1"),
        ([ROOT, WAITING], "loop 'r' waits for its children, but none is open"),
        ([ROOT, CHILD, WAITING, ended("c", 2)], "loop 'r' waits for its children, but none is open"),
    ],
)
def test_what_cannot_have_come_about_is_told(log: Sequence[Event], problem: str) -> None:
    """Each breach gives a sentence that names the place."""
    (told,) = unsound(log)
    assert told.startswith(problem)


def test_a_breach_is_told_once() -> None:
    """What follows from a breach in one run is not told again, nor for its children; other runs are still read."""
    log: list[Event] = [
        ROOT,
        CHILD,
        Moved("c", 3, 11.0, "answer"),
        Moved("c", 9, 11.0, "produce"),
        Moved("r", 5, 11.0, "verify"),
    ]
    assert [told.partition(" (")[0] for told in unsound(log)] == [
        "the count has a gap: 2 is due",
        "the count has a gap: 2 is due",
    ]
    orphans: list[Event] = [Started("p", 2, 10.0, "loop", "x", "r"), Started("q", 1, 10.0, "loop", "y", "p")]
    assert len(unsound([ROOT, *orphans])) == 1


def test_memory_that_differs_from_the_log_is_told() -> None:
    """Fields that differ are named, as are runs that only one side has."""
    said, unsaid = Noted("r", 2, 12.0, "note", ["a"]), Noted("r", 2, 12.0, "note", ["b"])
    (told,) = unsound([ROOT, said], Tree.of([ROOT, unsaid]))
    assert told == "loop 'r' in memory differs from its log in entries"
    told_of_runs = unsound([ROOT, CHILD], Tree.of([ROOT, Moved("r", 2, 11.0, "answer")]))
    assert "run 'c' is only in its log" in told_of_runs
    assert "run 'c' is only in memory" in unsound([ROOT, Noted("r", 2, 11.0, "note")], Tree.of([ROOT, CHILD]))


def test_memory_may_be_behind_its_log_but_not_ahead() -> None:
    """A tree that has seen a part of the log equals the fold of that part; one that has seen more is wrong."""
    assert unsound([ROOT, CHILD, WAITING], Tree.of([ROOT])) == []
    (told,) = unsound([ROOT], Tree.of([ROOT, CHILD]))
    assert told == "the tree in memory has seen 2 events, but its log has only 1"


def test_outcomes_are_compared_to_the_value() -> None:
    """Two ends that differ in nothing but a value deep inside are told apart; equal ones are not."""
    ends = [Ended("r", 2, 12.0, Ok({"n": [1, value]}), TerminationReason.SUCCESS) for value in (2, 2.0, 2)]
    (told,) = unsound([ROOT, ends[0]], Tree.of([ROOT, ends[1]]))
    assert told == "loop 'r' in memory differs from its log in outcome"
    assert unsound([ROOT, ends[0]], Tree.of([ROOT, ends[2]])) == []
    abandoned = Ended("r", 2, 12.0, Abandoned("x"), TerminationReason.SUCCESS)
    assert unsound([ROOT, abandoned], Tree.of([ROOT, ends[0]]))


def test_an_examination_counts_what_is_there(any_store: Store) -> None:
    """Trees, runs and events are counted; open trees come with the time of their last event."""
    grown(any_store)
    examination = examine(any_store)
    assert (examination.trees, examination.runs, examination.problems) == (3, 9, ())
    assert examination.events == sum(len(any_store.read(root.id)) for root in any_store.roots())
    (still_open,) = examination.open_trees
    assert (still_open.root.goal, still_open.last_event_at) == ("open", FakeClock().time())


def test_an_empty_store_is_well() -> None:
    """Nothing is counted, and nothing is wrong."""
    examination = examine(MemoryStore())
    assert (examination.trees, examination.runs, examination.open_trees, examination.problems) == (0, 0, (), ())


def test_an_examination_goes_on_after_a_damaged_tree(tmp_path: Path) -> None:
    """A log that cannot be read is told, and the other trees are still counted."""
    path = tmp_path / "s.db"
    store = open_store(path)
    grown(store)
    store.close()
    damaged = connect(path)
    with damaged:
        damaged.execute(
            "UPDATE records SET body = x'7b' WHERE key >> 32 = (SELECT number FROM roots WHERE goal = 'ended')"
        )
    damaged.close()
    store = open_store(path)
    examination = examine(store)
    store.close()
    assert (examination.trees, examination.runs) == (3, 8)
    assert any("is not as it was written" in problem for problem in examination.problems)
