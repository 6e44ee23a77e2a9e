"""What follows what: each row of the table, the limits, and the lives of a run."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from cortical.core import rules
from cortical.core.errors import InvalidInput, RunStateError, WrongType
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.outcome import Abandoned, Failed, Ok
from cortical.core.phases import ITERATION
from cortical.core.policy import Retry
from cortical.core.run import Checkpoint, Run
from cortical.core.status import Status, TerminationReason
from cortical.core.turns import iterations_done
from cortical.looking.soundness import unsound
from cortical.reasoning import NestedLoopExecutor
from cortical.recovery import (
    PROCESS_DIED,
    Case,
    ErrorClass,
    Recoverable,
    RecoveryPolicy,
    RecoveryResult,
    RunTarget,
    Situation,
    escalate,
    give_up,
    go_on,
    newest_life,
    recover,
    recovery_history,
    restart,
    restore_latest,
    retry,
    roll_back,
    skip,
)
from cortical.recovery.lives import begin_next_life, lives
from cortical.store import MemoryStore, Store, open_store
from cortical.testing import FakeClock

Reason = TerminationReason


class Recorder:
    """A target that does what is asked at once, and remembers it: what a driver of its own may look like."""

    def __init__(self, journal: Journal, run_id: str) -> None:
        self.journal = journal
        self.run_id = run_id
        self.asked: list[tuple[Any, ...]] = []

    @property
    def run(self) -> Run:
        return self.journal.run(self.run_id)

    def go_on(self, after: float) -> None:
        self.asked.append(("go_on", after))

    def restore(self, checkpoint: Checkpoint, mode: str) -> None:
        self.asked.append(("restore", checkpoint.seq, mode))

    def restart(self) -> None:
        self.asked.append(("restart",))

    def skip(self, reason: str) -> None:
        self.asked.append(("skip", reason))

    def block(self, reason: str) -> None:
        self.asked.append(("block", reason))

    def clear_usage(self) -> None:
        self.asked.append(("clear_usage",))


def loop(journal: Journal, run_id: str = "L", **data: Any) -> str:
    journal.plant(run_id, rules.start, LOOP, "count", metadata={"key": run_id}, data=data or {"n": 0})
    journal.change(run_id, rules.begin, ITERATION)
    return run_id


def iterate(journal: Journal, run_id: str, n: int) -> None:
    journal.change(run_id, rules.change, {"n": n})
    journal.change(run_id, rules.move, ITERATION)


def fail(journal: Journal, run_id: str, error: BaseException | None = None) -> None:
    journal.change(run_id, rules.end, Failed.of(error or ValueError("no")), Reason.ERROR)


def half() -> float:
    return 0.5


@pytest.fixture
def journal(any_store: Store, clock: FakeClock) -> Journal:
    return Journal(any_store, clock=clock)


TRANSIENT, WRONG, ODD = ConnectionError("gone"), TypeError("wrong"), ValueError("odd")
ROWS: list[tuple[Situation, bool, str, list[Any]]] = [
    (Situation(Reason.ERROR, TRANSIENT), True, "retry", [("go_on", 1.0)]),
    (Situation(Reason.ERROR, TRANSIENT), False, "retry", [("go_on", 1.0)]),
    (Situation(Reason.ERROR, ODD), True, "restore_latest", [("restore", "replace"), ("go_on", 0.0)]),
    (Situation(Reason.ERROR, ODD), False, "restart", [("restart",), ("go_on", 0.0)]),
    (Situation(Reason.ERROR), True, "restore_latest", [("restore", "replace"), ("go_on", 0.0)]),
    (Situation(Reason.ERROR), False, "restart", [("restart",), ("go_on", 0.0)]),
    (Situation(Reason.ERROR, RunStateError("torn", "L")), False, "restart", [("restart",), ("go_on", 0.0)]),
    (Situation(Reason.TIMEOUT), True, "restore_latest", [("restore", "replace"), ("go_on", 0.0)]),
    (Situation(Reason.TIMEOUT), False, "go_on", [("go_on", 0.0)]),
    (Situation(Reason.TIMEOUT, WRONG), False, "go_on", [("go_on", 0.0)]),
    (
        Situation(Reason.RESOURCE_LIMIT),
        True,
        "restore_with_usage_cleared",
        [("restore", "replace"), ("go_on", 0.0), ("clear_usage",)],
    ),
    (Situation(Reason.RESOURCE_LIMIT), False, "give_up", []),
    (
        Situation(Reason.ERROR, MemoryError()),
        True,
        "restore_with_usage_cleared",
        [("restore", "replace"), ("go_on", 0.0), ("clear_usage",)],
    ),
    (Situation(Reason.ERROR, MemoryError()), False, "give_up", []),
    (Situation(Reason.DEPENDENCY_FAILURE, details="no key"), True, "escalate", [("block", "needs somebody: no key")]),
    (
        Situation(Reason.ERROR, ImportError("no x")),
        False,
        "escalate",
        [("block", "needs somebody: ImportError: no x")],
    ),
    (Situation(Reason.ERROR, WRONG), True, "give_up", []),
    (Situation(Reason.ERROR, Failed.of(WRONG)), True, "give_up", []),
    (Situation(Reason.MANUAL), True, "give_up", []),
    (Situation(Reason.BUDGET_EXHAUSTED), True, "give_up", []),
    (Situation(Reason.ERROR, KeyboardInterrupt()), True, "give_up", []),
    (Situation(Reason.ERROR, Failed.of(SystemExit(1))), True, "give_up", []),
    (Situation(None), True, "go_on", [("go_on", 0.0)]),
    (Situation(None), False, "go_on", [("go_on", 0.0)]),
]


@pytest.mark.parametrize(("situation", "with_checkpoint", "strategy", "asked"), ROWS)
def test_each_row(
    journal: Journal, situation: Situation, with_checkpoint: bool, strategy: str, asked: list[Any]
) -> None:
    """The table's first strategy that applies is carried out, and recorded with what it did."""
    run_id = loop(journal)
    if with_checkpoint:
        journal.change(run_id, rules.checkpoint)
    target = Recorder(journal, run_id)
    result = recover(target, situation, random=half)
    number = journal.run(run_id).seq - 1
    wanted = [(one[0], number, one[1]) if one[0] == "restore" else one for one in asked]
    assert (result.strategy, target.asked) == (strategy, wanted)
    assert result.success is bool(asked)
    (told,) = recovery_history(journal, run_id)
    assert (told.strategy, told.success, told.actions) == (strategy, result.success, result.actions)
    assert told.reason == (PROCESS_DIED if situation.reason is None else situation.reason.value)


def test_the_line_of_a_transient_error(journal: Journal) -> None:
    """Two retries, each later than the one before, then the latest checkpoint, then it is given up."""
    run_id = loop(journal)
    journal.change(run_id, rules.checkpoint)
    target = Recorder(journal, run_id)
    tried = [recover(target, Situation(Reason.ERROR, TRANSIENT), random=half).strategy for _ in range(4)]
    assert tried == ["retry", "retry", "restore_latest", "give_up"]
    assert [one for one in target.asked if one[0] == "go_on"] == [("go_on", 1.0), ("go_on", 2.0), ("go_on", 0.0)]
    assert "limit of 3" in recovery_history(journal, run_id)[-1].details


def test_without_a_checkpoint_retries_end_in_giving_up(journal: Journal) -> None:
    """What does not apply is passed over."""
    target = Recorder(journal, loop(journal))
    tried = [recover(target, Situation(Reason.ERROR, TRANSIENT)).strategy for _ in range(3)]
    assert tried == ["retry", "retry", "give_up"]


def test_attempts_are_counted_anew_once_it_gets_on(journal: Journal, clock: FakeClock) -> None:
    """Another iteration, another row of attempts."""
    run_id = loop(journal)
    target = Recorder(journal, run_id)
    for n in range(3):
        assert recover(target, Situation(Reason.ERROR, TRANSIENT), random=half).actions == (
            "try again in 1 s (attempt 2 of 3)",
        )
        iterate(journal, run_id, n)
        clock.advance(61)


def test_jitter_comes_from_the_randomness_given(journal: Journal) -> None:
    """The wait is made shorter or longer by a share of itself."""
    target = Recorder(journal, loop(journal))
    recover(target, Situation(Reason.ERROR, TRANSIENT), random=lambda: 0.0)
    assert target.asked == [("go_on", 0.9)]


def test_retry_on_is_kept(journal: Journal) -> None:
    """A retry for other exceptions does not apply, to a live one and to a recorded one."""
    policy = RecoveryPolicy(retry=Retry(retry_on=TimeoutError))
    target = Recorder(journal, loop(journal))
    assert recover(target, Situation(Reason.ERROR, TRANSIENT), policy).strategy == "give_up"
    assert recover(target, Situation(Reason.ERROR, Failed.of(TRANSIENT)), policy).strategy == "give_up"
    assert recover(target, Situation(Reason.ERROR, Failed.of(TimeoutError())), policy).strategy == "retry"


def test_single_lines_are_replaced(journal: Journal) -> None:
    """A policy with another line for a class, a reason or a death; the other lines stay."""
    policy = RecoveryPolicy().with_line(ErrorClass.PROGRAMMING, skip).with_line(PROCESS_DIED, restart)
    policy = policy.with_line("timeout", give_up)
    target = Recorder(journal, loop(journal))
    assert recover(target, Situation(Reason.ERROR, WRONG), policy).strategy == "skip"
    assert target.asked == [("skip", "skipped by recovery: TypeError: wrong")]
    assert recover(target, Situation(None), policy).strategy == "restart"
    assert recover(target, Situation(Reason.TIMEOUT), policy).strategy == "give_up"
    assert recover(target, Situation(Reason.ERROR, ODD), policy).strategy == "restart"


def test_what_is_no_policy() -> None:
    """Unknown keys, and numbers that make no sense, are refused at once."""
    with pytest.raises(InvalidInput, match="no run ends for the reason"):
        RecoveryPolicy().with_line("tiemout", restart)
    with pytest.raises(WrongType):
        RecoveryPolicy().with_line(3, restart)  # type: ignore[arg-type]
    with pytest.raises(WrongType):
        RecoveryPolicy().with_line(Reason.ERROR, "restart")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        RecoveryPolicy(max_recoveries=-1)
    with pytest.raises(WrongType):
        RecoveryPolicy(max_recoveries=1.5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        RecoveryPolicy(within_seconds=float("nan"))


@pytest.mark.parametrize("wrong", [{"strategy": 3}, {"actions": "restart"}, {"actions": [1]}, {"details": None}])
def test_a_result_is_told_in_texts(wrong: dict[str, Any]) -> None:
    """What could not be recorded is refused when the result is made."""
    with pytest.raises(WrongType, match="RecoveryResult"):
        RecoveryResult(**{"success": True, "strategy": "mended", **wrong})


def test_a_strategy_of_the_users_own(journal: Journal) -> None:
    """It is given the case, and answers like those of the library; one that raises is a try that failed."""

    def halve(case: Case) -> tuple[str, ...]:
        case.target.go_on(0.5)
        return ("halve the batch",)

    def burst(case: Case) -> tuple[str, ...]:
        raise OSError("burst")

    def silly(case: Case) -> str:
        return "done"

    target = Recorder(journal, loop(journal))
    policy = RecoveryPolicy(max_recoveries=9)
    assert recover(target, Situation(Reason.ERROR, ODD), policy.with_line(ErrorClass.UNKNOWN, halve)).success
    failed = recover(target, Situation(Reason.ERROR, ODD), policy.with_line(ErrorClass.UNKNOWN, burst, halve))
    assert (failed.success, failed.strategy, failed.details) == (False, "burst", "OSError: burst")
    wrong = recover(target, Situation(Reason.ERROR, ODD), policy.with_line(ErrorClass.UNKNOWN, silly))  # type: ignore[arg-type]
    assert "answers with the texts of what it did" in wrong.details
    assert [one.strategy for one in recovery_history(journal, "L")] == ["halve", "burst", "silly"]


# Limits


def test_no_more_than_so_many_within_so_long(journal: Journal, clock: FakeClock) -> None:
    """The limit counts tries within its time; when they are old enough another may be made."""
    run_id = loop(journal)
    target = Recorder(journal, run_id)
    policy = RecoveryPolicy(max_recoveries=2, within_seconds=10)
    for n in range(2):
        assert recover(target, Situation(Reason.ERROR, ODD), policy).success
        iterate(journal, run_id, n)
    refused = recover(target, Situation(Reason.ERROR, ODD), policy)
    assert (refused.strategy, refused.details) == ("give_up", "the limit of 2 recoveries within 10 s is reached")
    clock.advance(10)
    assert recover(target, Situation(Reason.ERROR, ODD), policy).success


def test_what_never_gets_on_is_given_up_however_slow_it_is(journal: Journal, clock: FakeClock) -> None:
    """Tries are far apart, yet without another iteration in between: a driver gives up, a person may go on."""
    target = Recorder(journal, loop(journal))
    for _ in range(3):
        assert recover(target, Situation(Reason.ERROR, ODD)).success
        clock.advance(3600)
    assert "without getting on" in recover(target, Situation(Reason.ERROR, ODD)).details
    assert recover(target, Situation(Reason.ERROR, ODD, by_hand=True)).success
    clock.advance(3600)
    assert recover(target, Situation(Reason.ERROR, ODD)).success


def test_limits_hold_across_a_reopened_store(tmp_path: Path, clock: FakeClock) -> None:
    """They are counted from the log, over all lives."""
    policy = RecoveryPolicy(max_recoveries=2)
    for number in range(3):
        with closing(open_store(tmp_path / "s.db")) as store:
            journal = Journal(store, clock=clock)
            run_id = loop(journal) if not number else "L"
            fail(journal, newest_life(journal, run_id).id)
            result = recover(RunTarget(journal, run_id), Situation(Reason.ERROR, ODD, by_hand=True), policy)
            assert result.success is (number < 2)
    assert "limit of 2" in result.details


def test_a_limit_of_none(journal: Journal) -> None:
    """With no recoveries allowed nothing is tried."""
    target = Recorder(journal, loop(journal))
    assert not recover(target, Situation(None), RecoveryPolicy(max_recoveries=0)).success
    assert target.asked == []


# Runs known by their journal


def test_an_open_run_is_changed_in_place(journal: Journal) -> None:
    """Its data are restored by the core's own rule, and the note stands in the same record."""
    run_id = loop(journal, n=1)
    journal.change(run_id, rules.checkpoint, "good")
    iterate(journal, run_id, 2)
    journal.change(run_id, rules.change, {"later": True})
    result = recover(RunTarget(journal, run_id), Situation(Reason.ERROR, ODD))
    assert (result.run_id, result.actions) == (run_id, ("restore checkpoint 4 (good)",))
    assert journal.run(run_id).data == {"n": 1}
    assert newest_life(journal, run_id).id == run_id


def test_an_open_run_is_restarted(journal: Journal) -> None:
    """It has the data again that it was begun with, and no other keys."""
    run_id = loop(journal, n=1)
    iterate(journal, run_id, 5)
    journal.change(run_id, rules.change, {"later": True})
    assert recover(RunTarget(journal, run_id), Situation(Reason.ERROR, ODD)).strategy == "restart"
    assert journal.run(run_id).data == {"n": 1}


def test_an_open_run_is_blocked(journal: Journal) -> None:
    """Escalating blocks it, with the reason."""
    run_id = loop(journal)
    recover(RunTarget(journal, run_id), Situation(Reason.DEPENDENCY_FAILURE, details="no key"))
    run = journal.run(run_id)
    assert (run.status, run.why) == (Status.BLOCKED, "needs somebody: no key")


@pytest.mark.parametrize("strategy", [skip, go_on, retry])
def test_what_only_a_driver_can_do_is_left_to_it(journal: Journal, strategy: Any) -> None:
    """The note is there for whoever drives the run; nothing else has changed."""
    run_id = loop(journal)
    before = journal.run(run_id).seq
    policy = RecoveryPolicy().with_line(Reason.ERROR, strategy)
    assert recover(RunTarget(journal, run_id), Situation(Reason.ERROR), policy).run_id == run_id
    assert journal.run(run_id).seq == before + 1


def test_a_try_that_fails_leaves_the_run_as_it_was(journal: Journal) -> None:
    """A paused run may not be blocked: restoring before is undone too, and the try is told."""

    run_id = loop(journal, n=1)
    journal.change(run_id, rules.change, {"n": 2})
    journal.change(run_id, rules.checkpoint)
    journal.change(run_id, rules.pause, "by hand")
    number = max(journal.run(run_id).checkpoints or {})
    journal.change(run_id, rules.change, {"n": 3})

    def restored(case: Case) -> tuple[str, ...]:
        case.target.restore((case.target.run.checkpoints or {})[number], "replace")
        case.target.block("no key")
        return ("restore", "block")

    result = recover(RunTarget(journal, run_id), Situation(Reason.ERROR), RecoveryPolicy().with_line("error", restored))
    assert not result.success
    assert "may not be blocked" in result.details
    assert journal.run(run_id).data == {"n": 3}
    assert [one.success for one in recovery_history(journal, run_id)] == [False]


def test_a_run_that_ended_meanwhile_is_not_begun_again(journal: Journal) -> None:
    """Somebody stops it while a strategy thinks: it stays stopped."""

    def slow(case: Case) -> tuple[str, ...]:
        case.target.go_on(0.0)
        journal.change("L", rules.end, Abandoned("stopped"), Reason.MANUAL)
        return ("go on",)

    result = recover(RunTarget(journal, loop(journal)), Situation(None), RecoveryPolicy().with_line(PROCESS_DIED, slow))
    assert not result.success
    assert "has ended meanwhile" in result.details
    assert newest_life(journal, "L").id == "L"


# Lives


def test_an_ended_run_stays_ended_and_another_goes_on(journal: Journal) -> None:
    """The new one has kind, name and metadata of the old; the outcome of the old is as it was; both are sound."""
    run_id = loop(journal, n=1)
    iterate(journal, run_id, 2)
    iterate(journal, run_id, 3)
    fail(journal, run_id)
    old = journal.run(run_id)
    outcome, reason, ended_at = old.outcome, old.reason, old.ended_at
    result = recover(RunTarget(journal, run_id), Situation.of(old, by_hand=True))
    new = newest_life(journal, run_id)
    assert result.run_id == new.id != run_id
    assert (new.kind, new.name, new.status, new.parent_id) == (LOOP, "count", Status.NOT_STARTED, None)
    assert new.metadata == {"key": run_id, "recovers": run_id, "iterations_before": 2}
    assert new.data == {"n": 1}
    old = journal.run(run_id)
    assert (old.outcome, old.reason, old.ended_at) == (outcome, reason, ended_at)
    assert recovery_history(journal, run_id)[0].continued_as == new.id
    for root in (run_id, new.id):
        assert unsound(journal.store.read(root), journal.run(root).tree) == []
    assert [root.id for root in journal.store.roots(open_only=True)] == [new.id]


def test_iterations_are_counted_on_across_lives(journal: Journal) -> None:
    """Each life adds those that it has finished; a skipped one counts."""
    run_id = loop(journal)
    iterate(journal, run_id, 1)
    fail(journal, run_id)
    policy = RecoveryPolicy().with_line(ErrorClass.UNKNOWN, skip)
    second = recover(RunTarget(journal, run_id), Situation.of(journal.run(run_id)), policy).run_id
    assert second is not None
    journal.change(second, rules.begin, ITERATION)
    assert iterations_done(journal.run(second)) == 2
    iterate(journal, second, 9)
    journal.change(second, rules.note, "result", "last")
    assert iterations_done(journal.run(second)) == 4
    fail(journal, second)
    third = recover(RunTarget(journal, run_id), Situation.of(journal.run(second))).run_id
    assert third is not None
    assert iterations_done(journal.run(third)) == 4
    assert journal.run(third).data == {"n": 0}


@pytest.mark.parametrize(
    ("strategy", "data"),
    [(restore_latest, {"n": 2}), (restart, {"n": 0}), (go_on, {"n": 3, "later": 1}), (skip, {"n": 3, "later": 1})],
)
def test_the_data_of_the_next_life(journal: Journal, strategy: Any, data: dict[str, Any]) -> None:
    """They are the checkpoint's, the first or the last, and the latest checkpoint is there whichever it is."""
    run_id = loop(journal)
    iterate(journal, run_id, 2)
    journal.change(run_id, rules.checkpoint, "good", {"by": "hand"})
    iterate(journal, run_id, 3)
    journal.change(run_id, rules.change, {"later": 1})
    fail(journal, run_id)
    recover(RunTarget(journal, run_id), Situation(Reason.TIMEOUT), RecoveryPolicy().with_line("timeout", strategy))
    new = newest_life(journal, run_id)
    assert new.data == data
    (kept,) = (new.checkpoints or {}).values()
    assert (kept.data, kept.label, kept.metadata) == ({"n": 2}, "good", {"by": "hand"})


def test_rolling_back_to_a_checkpoint_of_an_earlier_life(journal: Journal) -> None:
    """An open run gets the data of a checkpoint that is not its own; merged, its later keys stay."""
    run_id = loop(journal, n=1)
    journal.change(run_id, rules.checkpoint)
    (first,) = (journal.run(run_id).checkpoints or {}).values()
    fail(journal, run_id)
    new_id = recover(RunTarget(journal, run_id), Situation(Reason.ERROR, ODD)).run_id
    assert new_id is not None
    situation = Situation(None, checkpoint=first, mode="merge")
    journal.change(new_id, rules.change, {"n": 7, "later": 1})
    policy = RecoveryPolicy(max_recoveries=9).with_line(PROCESS_DIED, roll_back, give_up)
    recover(RunTarget(journal, run_id), situation, policy)
    assert journal.run(new_id).data == {"n": 1, "later": 1}
    recover(RunTarget(journal, run_id), evolve(situation, mode="replace"), policy)
    assert journal.run(new_id).data == {"n": 1}
    assert recover(RunTarget(journal, run_id), Situation(None), policy).strategy == "give_up"


def test_an_ended_run_is_escalated(journal: Journal) -> None:
    """The run that goes on is blocked where the old one stood, until somebody resumes it."""
    run_id = loop(journal)
    fail(journal, run_id, ImportError("no x"))
    recover(RunTarget(journal, run_id), Situation.of(journal.run(run_id)))
    new = newest_life(journal, run_id)
    assert (new.status, new.place) == (Status.BLOCKED, ITERATION)
    assert new.why == "needs somebody: ImportError: no x"


def test_what_was_never_begun_cannot_be_blocked(journal: Journal) -> None:
    """There is no place where the next could stand; the try failed, and says so."""
    journal.plant("N", rules.start, LOOP, "never")
    fail(journal, "N", ImportError("no x"))
    result = recover(
        RunTarget(journal, "N"), Situation.of(journal.run("N")), RecoveryPolicy().with_line("error", escalate)
    )
    assert not result.success
    assert "was never begun" in result.details
    assert newest_life(journal, "N").id == "N"


def test_a_child_goes_on_below_its_parent(clock: FakeClock) -> None:
    """While the parent is open the next life is its child; after the parent's end it is a root."""
    executor = NestedLoopExecutor(clock=clock)
    journal = executor.journal
    root = executor.start_root("goal")
    one, two = executor.spawn_children(root, ["a", "b"])
    executor.fail(one, ValueError("no"))
    below = recover(RunTarget(journal, one), Situation.of(journal.run(one))).run_id
    assert below is not None
    assert journal.run(below).parent_id == root
    executor.fail(two, ValueError("no"))
    journal.change(below, rules.end, Failed.of(ODD), Reason.ERROR)
    journal.change(root, rules.end, Ok(), Reason.SUCCESS)
    alone = recover(RunTarget(journal, two), Situation.of(journal.run(two))).run_id
    assert alone is not None
    assert journal.run(alone).parent_id is None
    assert unsound(journal.store.read(root), journal.run(root).tree) == []


def test_a_next_life_below_another_parent(journal: Journal) -> None:
    """It stands below the run that it is given, begun, and what it is told stands over the old one's metadata."""
    for root in ("P", "Q"):
        journal.plant(root, rules.start, LOOP, root, place="work")
    journal.change("P", rules.spawn, LOOP, {"C": "c"}, place=None, metadata={"folder": "a", "kept": 1}, data={"n": 3})
    journal.change("C", rules.begin, "work")
    journal.change("C", rules.end, Failed.of(ODD), Reason.ERROR)
    new = journal.run(
        begin_next_life(
            journal, "C", {"strategy": "run again"}, {"n": 3}, parent="Q", metadata={"folder": "b"}, place="work"
        )
    )
    assert (new.parent_id, new.name, new.status, new.place, new.data) == ("Q", "c", Status.ACTIVE, "work", {"n": 3})
    assert new.metadata == {"folder": "b", "kept": 1, "recovers": "C", "iterations_before": 0}
    assert [life.id for life in lives(journal, new.id)] == ["C", new.id]


def test_a_recovered_run_is_not_recovered_twice(journal: Journal) -> None:
    """What was planned for a run that another has recovered meanwhile is refused, and told."""
    run_id = loop(journal)
    fail(journal, run_id)

    def late(case: Case) -> tuple[str, ...]:
        recover(RunTarget(journal, run_id), Situation(None))
        case.target.restart()
        return ("restart",)

    result = recover(RunTarget(journal, run_id), Situation(Reason.ERROR), RecoveryPolicy().with_line("error", late))
    assert not result.success
    assert "recovered already" in result.details
    assert len(journal.store.roots()) == 2


def test_a_user_who_says_recovers(journal: Journal) -> None:
    """A run whose metadata only look as if it recovered another is the first of its lives."""
    journal.plant("M", rules.start, LOOP, "m", metadata={"recovers": "L", "iterations_before": 3})
    loop(journal)
    journal.change("L", rules.annotate, "recovery", "a text of the user's")
    assert recovery_history(journal, "M") == []
    assert recovery_history(journal, "L") == []
    assert newest_life(journal, "L").id == "L"


def test_notes_after_the_end(journal: Journal) -> None:
    """A recovery is told after the end; nothing else may be said there, and a log that does is not sound."""
    run_id = loop(journal)
    journal.change(run_id, rules.annotate, "anything", 1)
    fail(journal, run_id)
    status = journal.run(run_id).status
    journal.change(run_id, rules.annotate, "recovery", {"strategy": "give_up"})
    assert journal.run(run_id).status is status
    with pytest.raises(RunStateError, match="it has ended"):
        journal.change(run_id, rules.annotate, "anything", 1)
    with pytest.raises(RunStateError, match="it has ended"):
        journal.change(run_id, rules.note, "recovery", 1)
    assert unsound(journal.store.read(run_id), journal.run(run_id).tree) == []


def test_a_recorder_is_recoverable() -> None:
    """The protocol is known at run time."""
    journal = Journal(MemoryStore(), clock=FakeClock())
    run_id = loop(journal)
    assert isinstance(Recorder(journal, run_id), Recoverable)
    assert isinstance(RunTarget(journal, run_id), Recoverable)
    assert not isinstance(object(), Recoverable)
