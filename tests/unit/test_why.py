"""Why a loop stands where it stands."""

from __future__ import annotations

from cortical.core.outcome import Failed, Skipped
from cortical.core.rules import end
from cortical.core.status import TerminationReason
from cortical.reasoning import LoopPhase, NestedLoopExecutor
from cortical.reasoning.why import Standing, explain
from cortical.testing import FakeClock


def told(executor: NestedLoopExecutor, loop_id: str, *, last: int = 5) -> Standing:
    run = executor.journal.run(loop_id)
    return explain(run, executor.store.read(run.tree.root.id), last=last)


def test_nothing_holds_an_active_loop(executor: NestedLoopExecutor) -> None:
    """It is whoever drives it who takes the next step."""
    standing = told(executor, executor.start_root("goal"))
    assert (standing.because, standing.next_step) == ("nothing holds it", "whoever drives it goes on")
    assert (standing.waits_for, standing.waited_for_by, standing.ended_with) == ((), (), None)


def test_an_active_loop_may_have_children_that_hold_its_end(executor: NestedLoopExecutor) -> None:
    """Children that were made for later are named as what its end waits for."""
    root = executor.start_root("goal")
    executor.manager.create_loop("later", parent_id=root)
    assert told(executor, root).because == "nothing holds it, but it cannot end before its 1 open child"


def test_a_waiting_loop_names_those_at_the_bottom(executor: NestedLoopExecutor) -> None:
    """A chain of waiting loops ends at the ones that somebody has to do something about."""
    root = executor.start_root("goal")
    left, right = executor.spawn_children(root, ["left", "right"])
    leaf = executor.spawn_child(left, "leaf")
    executor.block(leaf, "no key")
    standing = told(executor, root)
    assert standing.because == "it waits for 2 open children"
    assert standing.next_step.startswith("complete or break")
    assert [run.id for run in standing.waits_for] == [leaf, right]
    below = told(executor, leaf)
    assert (below.because, below.next_step) == ("it is blocked: no key", "resume it when what blocks it is gone")
    assert [run.id for run in below.path] == [root, left, leaf]
    assert [run.id for run in below.waited_for_by] == [left, root]


def test_since_when_is_told(executor: NestedLoopExecutor, clock: FakeClock) -> None:
    """What counts is when the status came about, not what was recorded or visited after it."""
    start = clock.time()
    root = executor.start_root("goal")
    clock.advance(10)
    executor.advance(root)
    assert told(executor, root).since == start
    executor.pause(root, "lunch")
    clock.advance(10)
    executor.record_answer(root, "meanwhile")
    assert told(executor, root).since == start + 10
    executor.resume(root)
    assert told(executor, root).since == start + 20


def test_a_pause_by_hand_is_told_from_waiting(executor: NestedLoopExecutor) -> None:
    """The reason that somebody gave is quoted; that nobody gave one is said."""
    root = executor.start_root("goal")
    executor.pause(root, "lunch")
    assert (told(executor, root).because, told(executor, root).next_step) == (
        "it was paused by hand: lunch",
        "resume it",
    )
    executor.resume(root)
    executor.pause(root)
    assert told(executor, root).because == "it was paused by hand, nobody said why"
    executor.resume(root)
    executor.block(root, "")
    assert told(executor, root).because == "it is blocked, nobody said by what"


def test_a_loop_that_was_not_begun_says_so(executor: NestedLoopExecutor) -> None:
    """It is to be started."""
    standing = told(executor, executor.manager.create_loop("later").id)
    assert (standing.because, standing.next_step) == ("it has not been started", "start it")


def test_an_end_is_told_with_its_reason(executor: NestedLoopExecutor) -> None:
    """Completed, skipped and failed loops say how they ended, a failure with what caused it; no step is left."""
    done, empty, skipped, failed = (executor.start_root(goal) for goal in ("a", "b", "c", "d"))
    executor.complete(done, 42)
    executor.complete(empty)
    executor.journal.change(skipped, end, Skipped("not today"), TerminationReason.CONDITION_MET)
    error = RuntimeError("no luck")
    error.__cause__ = OSError("disk full")
    executor.journal.change(failed, end, Failed.of(error, attempts=3), TerminationReason.ERROR)
    assert told(executor, done).because == "it ended (success) with a result"
    assert told(executor, empty).because == "it ended (success) without a result"
    assert told(executor, skipped).because == "it was skipped: not today"
    assert told(executor, failed).because == (
        "it failed after 3 attempts: RuntimeError: no luck, caused by OSError: disk full"
    )
    assert {told(executor, loop).next_step for loop in (done, empty, skipped, failed)} == {""}


def test_a_loop_that_was_taken_along_says_by_whom(executor: NestedLoopExecutor, clock: FakeClock) -> None:
    """Below a loop that was broken, each names the highest above it that ended in the same stroke."""
    root = executor.start_root("goal")
    middle = executor.spawn_child(root, "middle")
    leaf, other = executor.spawn_children(middle, ["leaf", "other"])
    executor.break_loop(other, "plans")
    clock.advance(1)
    executor.break_loop(middle, "plans")
    standing = told(executor, leaf)
    assert standing.ended_with is not None
    assert standing.ended_with.id == middle
    assert standing.because == f"it was abandoned together with {middle!r} above it: plans"
    assert told(executor, middle).ended_with is None
    assert told(executor, other).ended_with is None, "it had ended before"
    assert told(executor, root).because == "nothing holds it"
    executor.break_loop(root, "plans")
    assert told(executor, root).because == "it was abandoned: plans"


def test_an_ended_loop_is_waited_for_by_nobody(executor: NestedLoopExecutor) -> None:
    """Its parent may wait, but for another."""
    root = executor.start_root("goal")
    first, second = executor.spawn_children(root, ["first", "second"])
    executor.complete(first)
    assert told(executor, first).waited_for_by == ()
    assert [run.id for run in told(executor, second).waited_for_by] == [root]


def test_the_last_events_are_its_own(executor: NestedLoopExecutor) -> None:
    """They come oldest first, each with its position in the log of the whole tree; with `last` 0 there are none."""
    root = executor.start_root("goal")
    executor.complete(executor.spawn_child(root, "part"))
    executor.get_loop(root).transition(LoopPhase.PRODUCE, "spike")
    quoted = told(executor, root, last=2).last_events
    log = executor.store.read(root)
    assert [event.run_id for _, event in quoted] == [root, root]
    assert [event for _, event in quoted] == [log[position] for position, _ in quoted] == log[-2:]
    assert told(executor, root, last=0).last_events == ()
