"""What monitoring finds wrong: health when asked, anomalies as they happen."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cortical.control import Done, LoopController, State, timeout
from cortical.core import booking, rules
from cortical.core.budget import Budget
from cortical.core.errors import InvalidInput, RunNotFound, StoreError, StoreNotFound, WrongType
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.outcome import Failed
from cortical.core.phases import ITERATION
from cortical.core.ports import Root
from cortical.monitoring import Anomalies, EventBus, Finding, Metrics, ProgressReport, Thresholds, check, compare
from cortical.store import MemoryStore, Store
from cortical.testing import FakeClock
from tests.unit import walked as walking


class Slow(MemoryStore):
    """A store that takes its time, or cannot be read."""

    def __init__(self, clock: FakeClock, seconds: float = 0.0) -> None:
        super().__init__()
        self.clock, self.seconds, self.broken = clock, seconds, False

    def roots(self, *, open_only: bool = False, limit: int | None = None) -> list[Root]:
        if self.broken:
            raise StoreError("the disk is gone")
        self.clock.advance(self.seconds)
        return super().roots(open_only=open_only, limit=limit)


class Walked(walking.Walked):
    """Runs walked by hand, and what is found in them."""

    def __init__(self, clock: FakeClock) -> None:
        self.store = Slow(clock)
        super().__init__(clock, self.store)

    def found(self, run_id: str | None = None, **thresholds: Any) -> list[Finding]:
        return check(self.journal, run_id, thresholds=Thresholds(**thresholds))

    def codes(self, run_id: str | None = None, **thresholds: Any) -> list[str]:
        return [finding.code for finding in self.found(run_id, **thresholds)]


@pytest.fixture
def walked(clock: FakeClock) -> Walked:
    """No runs yet."""
    return Walked(clock)


def failed(message: str = "no") -> Failed:
    return Failed.of(ValueError(message))


# Health


def test_all_is_well(walked: Walked, any_store: Store) -> None:
    """An empty store, a run that gets on, and one that has ended give no findings."""
    assert check(any_store) == []
    walked.loop()
    walked.turn()
    assert walked.found() == []
    walked.end(failed())
    assert walked.found("r") == []
    with pytest.raises(RunNotFound):
        walked.found("nobody")


def test_no_heartbeat(walked: Walked) -> None:
    """A tree whose driver's lease ran out is told of once; not while it runs, was let go, or everything waits."""
    walked.loop()
    lease = walked.store.take_lease("r", "process 7", now=walked.clock.now, seconds=10)
    walked.clock.advance(9)
    assert walked.codes() == []
    walked.clock.advance(11)
    (finding,) = walked.found()
    assert (finding.severity, finding.code, finding.run_id) == ("high", "no_heartbeat", "r")
    assert finding.evidence == {"holder": "process 7", "silent_seconds": 10.0, "active": ["r"]}
    assert finding.suggestion.endswith("run its program again, which alone can drive it")
    walked.journal.change("r", rules.block, "a person is asked")
    assert walked.codes() == []
    walked.journal.change("r", rules.resume)
    walked.store.release_lease(lease)
    assert walked.codes() == []


def test_overdue(walked: Walked) -> None:
    """Past its own time limit, its budget's or the one asked about, a run is overdue: one finding, for the worst."""
    walked.loop(budget=Budget(seconds=100).limits())
    walked.note("driven", {"elapsed": 50.0, "waited": 0.0})
    walked.note("limits", {"timeout": 60.0})
    walked.clock.advance(9)
    assert "overdue" not in walked.codes()
    walked.clock.advance(11)
    (finding,) = walked.found()
    assert finding.evidence == {"limit": "timeout", "seconds": 70.0, "limit_seconds": 60.0}
    walked.clock.advance(100)
    assert walked.codes() == ["overdue"]
    assert walked.codes(most_seconds=1) == ["overdue"]


def test_a_loop_that_nobody_drives_is_not_overdue(walked: Walked) -> None:
    """A time limit counts the seconds of driving: those after the driver died do not count."""
    walked.loop()
    walked.store.take_lease("r", "process 7", now=walked.clock.now, seconds=10)
    walked.note("driven", {"elapsed": 0.0, "waited": 0.0})
    walked.note("limits", {"timeout": 60.0})
    walked.clock.advance(1000)
    assert walked.codes() == ["no_heartbeat"]


def test_a_loop_that_was_taken_up_again_is_as_near_its_limit_as_its_driver_says(clock: FakeClock) -> None:
    """What earlier drivings took counts: health sees the seconds that the driver counts."""
    store = MemoryStore()
    found: list[Finding] = []

    def one_and_a_half(state: dict[str, Any]) -> State:
        if state:
            raise KeyboardInterrupt
        clock.advance(30)
        return State(done=1)

    def looked_at(state: dict[str, Any]) -> Done:
        clock.advance(35)
        found.extend(check(again.journal))
        return Done()

    with pytest.raises(KeyboardInterrupt):
        LoopController("loop", store=store, clock=clock, stop_when=timeout(70)).run(one_and_a_half)
    clock.advance(1000)
    again = LoopController("loop", store=store, clock=clock, stop_when=timeout(70), lease_seconds=60)
    again.run(looked_at)
    assert [(one.code, one.evidence) for one in found] == [
        ("near_limit", {"limit": "timeout", "used": 65.0, "of": 70}),
    ]


def test_stuck_iterations(walked: Walked) -> None:
    """Iterations that bring the same result and state as often as asked are stuck; one that differs is not."""
    walked.loop()
    for _ in range(10):
        walked.note("result", {"left": 3})
        walked.journal.change("r", rules.change, {"seen": 1})
        walked.turn()
    assert walked.codes(stuck_turns=11) == []
    (finding,) = walked.found(stuck_turns=9)
    assert (finding.code, finding.run_id, finding.evidence) == ("stuck", "r", {"turns": 9})
    walked.journal.change("r", rules.change, {"seen": 2})
    walked.turn()
    assert walked.codes(stuck_turns=9) == []


def test_iterations_that_say_nothing_are_not_stuck(walked: Walked) -> None:
    """A loop whose iterations give nothing and set nothing may well be at work."""
    walked.loop()
    for _ in range(30):
        walked.turn()
    assert walked.codes() == []


def test_an_agent_that_notes_that_it_is_stuck(walked: Walked) -> None:
    """What a loop noted of itself in this turn or the one before is told; what is older is not."""
    walked.loop(place="question")
    walked.journal.change("r", rules.note, "stuck", {"then": "warn", "why": "turns 1 to 3 brought the same"})
    assert [(one.code, one.evidence["noted"]) for one in walked.found()] == [("stuck", "turns 1 to 3 brought the same")]
    for _ in range(2):
        walked.clock.advance(1)
        walked.journal.change("r", rules.move, "question")
    assert walked.codes() == []


def test_error_rate_of_attempts(walked: Walked) -> None:
    """Half of the latest attempts failing is told, once there are enough; with successes it passes."""
    walked.loop()
    for _ in range(4):
        walked.note("attempt", {"attempt": 1})
    assert walked.codes() == []
    walked.note("attempt", {"attempt": 5})
    (finding,) = walked.found()
    assert (finding.severity, finding.evidence) == ("high", {"of": "attempts", "failed": 5, "tried": 5})
    for _ in range(6):
        walked.turn()
    assert walked.codes() == []


def test_error_rate_of_children(walked: Walked) -> None:
    """Of any kind of run the children that ended last are looked at."""
    walked.loop(place="working", kind="batch")
    for number in range(30):
        walked.child(str(number), 1, failed() if number >= 19 else None)
    (finding,) = walked.found()
    assert (finding.severity, finding.evidence) == ("medium", {"of": "children", "failed": 11, "tried": 20})


def test_near_a_limit(walked: Walked) -> None:
    """More than the share of a limit is told, with how near it is; a limit that is passed is told otherwise."""
    walked.loop(budget=Budget(tokens=100).limits())
    walked.note("limits", {"max_iterations": 10, "memory": 100, "errors": 3})
    walked.note("resources", {"memory": 80})
    for _ in range(9):
        walked.turn()
    walked.journal.change("r", booking.spend, {"tokens": 96})
    told = {one.evidence["limit"]: one.severity for one in walked.found()}
    assert told == {"max_iterations": "low", "tokens": "high"}
    walked.note("resources", {"memory": 81})
    assert [one.severity for one in walked.found()] == ["high", "medium", "low"]
    assert walked.codes(near=0.97) == []


def test_a_slow_or_failing_store(walked: Walked, clock: FakeClock) -> None:
    """A store that takes long is told of; one that cannot be read too, instead of raising."""
    walked.loop()
    walked.store.seconds = 0.7
    (finding,) = walked.found()
    assert (finding.code, finding.run_id, finding.evidence["seconds"]) == ("store_slow", None, pytest.approx(0.7))
    walked.store.broken = True
    (finding,) = walked.found()
    assert (finding.severity, finding.code) == ("critical", "store_failing")
    assert "`cortical doctor`" in finding.suggestion


def test_looking_makes_no_store(tmp_path: Path) -> None:
    """Where there is no store, a check says so, figures raise, and none is made."""
    place = tmp_path / "mistyped.db"
    assert [one.code for one in check(place)] == ["store_failing"]
    with pytest.raises(StoreNotFound):
        Metrics.of(place)
    with pytest.raises(StoreNotFound):
        ProgressReport.of(place, "r")
    assert not place.exists()


def test_another_process_is_seen(durable: Store, clock: FakeClock) -> None:
    """A journal that is asked again sees what others recorded meanwhile, and trees that they started."""
    ours, theirs = Journal(durable, clock=clock), Journal(durable, clock=clock)
    theirs.plant("r", rules.start, LOOP, "a loop", place=ITERATION)
    assert check(ours) == []
    theirs.change("r", rules.note, "limits", {"memory": 10})
    theirs.change("r", rules.note, "resources", {"memory": 9})
    assert [one.code for one in check(ours)] == ["near_limit"]


def test_odd_notes_hurt_no_check(walked: Walked) -> None:
    """Notes on the topics that are looked at may hold anything."""
    walked.loop()
    for topic in ("limits", "resources", "driven", "stuck", "result", "attempt", "total"):
        for odd in (None, "text", math.nan, [1], {"timeout": "soon", "memory": math.nan, 3: 4}, object()):
            walked.note(topic, odd)
    for _ in range(12):
        walked.note("result", math.nan)
        walked.turn()
    assert walked.codes(stuck_turns=4) == ["stuck"]


def test_thresholds_are_checked() -> None:
    """A share above 1, or no time at all, is refused."""
    senseless: list[dict[str, Any]] = [{"near": 1.5}, {"error_rate": 0}, {"stuck_turns": 1}, {"slow_seconds": -1}]
    for given in senseless:
        with pytest.raises(InvalidInput, match=f"{next(iter(given))} is "):
            Thresholds(**given)
    of_another_type: list[dict[str, Any]] = [{"near": True}, {"error_window": 2.5}, {"most_seconds": "1"}]
    for given in of_another_type:
        with pytest.raises(WrongType, match=f"{next(iter(given))} is a "):
            Thresholds(**given)


# Anomalies


@pytest.fixture
def watched(walked: Walked) -> Callable[[], list[str]]:
    """The codes found since the last call."""
    anomalies = Anomalies(walked.journal)
    walked.journal.subscribe(anomalies.take)
    seen: list[Finding] = []

    def news() -> list[str]:
        found = anomalies.findings[len(seen) :]
        seen.extend(found)
        return [finding.code for finding in found]

    return news


def test_an_execution_failure_is_told_once(walked: Walked, watched: Callable[[], list[str]]) -> None:
    """A run that failed is told of; those above it that fail with the same error are the same cause."""
    walked.loop(place="working", kind="pipeline")
    walked.journal.change("r", rules.spawn, "stage", {"s": "a stage"}, place=None)
    walked.journal.change("s", rules.begin, "working")
    walked.child("i", 1, failed(), parent="s")
    assert watched() == ["execution_failure"]
    walked.end(failed(), "s")
    walked.end(failed("another"), "r")
    assert watched() == ["execution_failure"]


def test_a_possible_infinite_loop(walked: Walked, watched: Callable[[], list[str]]) -> None:
    """The turn that is ten times the expected is told of, and none after it."""
    walked.loop(expected_iterations=3)
    for _ in range(28):
        walked.turn()
    assert watched() == []
    for _ in range(50):
        walked.turn()
    assert watched() == ["possible_infinite_loop"]


def test_expectations_are_learnt(walked: Walked, watched: Callable[[], list[str]]) -> None:
    """Once ten runs of a kind ended well, their iterations are what is expected."""
    for number in range(11):
        walked.loop(str(number))
        for _ in range(3):
            walked.turn(run_id=str(number))
        walked.end(run_id=str(number))
    walked.loop()
    for _ in range(39):
        walked.turn()
    assert watched() == ["possible_infinite_loop"]


@pytest.mark.parametrize(
    ("place", "metadata", "notes", "early"),
    [
        (ITERATION, {"expected_iterations": 10}, [], True),
        (ITERATION, {"expected_iterations": 9}, [], False),
        (ITERATION, {}, [("total", 2)], True),
        (ITERATION, {}, [("total", "two")], False),
        ("answer", {}, [], True),
        ("verify", {}, [], False),
    ],
)
def test_premature_termination(
    walked: Walked,
    watched: Callable[[], list[str]],
    place: str,
    metadata: dict[str, Any],
    notes: list[tuple[str, object]],
    early: bool,
) -> None:
    """A good end at a tenth of what was expected, short of its total, or before VERIFY, is told of."""
    walked.loop(place=place, **metadata)
    for topic, value in notes:
        walked.note(topic, value)
    walked.end()
    assert watched() == (["premature_termination"] if early else [])


def test_resource_overuse(walked: Walked, watched: Callable[[], list[str]]) -> None:
    """Above 0.8 of a limit each resource is told of once, those of a budget on the run whose budget it is."""
    walked.loop(budget=Budget(tokens=100, iterations=10).limits())
    walked.note("limits", {"memory": 100, "cpu": 0})
    walked.note("resources", {"memory": 80})
    assert watched() == []
    for _ in range(3):
        walked.note("resources", {"memory": 81, "cpu": math.nan})
    assert watched() == ["resource_overuse"]
    walked.note("resources", {"cpu": 0.1})
    assert watched() == ["resource_overuse"]
    walked.journal.change("r", booking.spend, {"tokens": 90})
    walked.journal.change("r", booking.spend, {"tokens": 5})
    assert watched() == ["resource_overuse"]
    for _ in range(9):
        walked.turn()
    assert watched() == ["resource_overuse"]


def test_durations_outside_their_trend(walked: Walked, watched: Callable[[], list[str]]) -> None:
    """An iteration far from those before it is told of; several in a row are one finding; a few ms never are."""
    walked.loop()
    for number in range(20):
        walked.turn(1 + number % 3 / 10)
    assert watched() == []
    walked.turn(9)
    walked.turn(9)
    assert watched() == ["duration_outside_trend"]
    walked.turn(1)
    walked.turn(0.01)
    assert watched() == ["duration_outside_trend"]
    walked.loop("quick")
    for _ in range(20):
        walked.turn(0.0, "quick")
    walked.turn(0.004, "quick")
    assert watched() == []


def test_durations_of_children(walked: Walked, watched: Callable[[], list[str]]) -> None:
    """Children without turns are compared with those of the same kind before them."""
    walked.loop(place="working", kind="batch")
    for number in range(12):
        walked.child(str(number), 2)
    walked.child("slow", 60)
    assert watched() == ["duration_outside_trend"]


def test_memory_against_the_log(walked: Walked, watched: Callable[[], list[str]]) -> None:
    """What stands in memory and not in the log is told, when asked and at the end of the tree, and which it is."""
    walked.loop()
    walked.note("result", math.nan)
    walked.journal.change("r", rules.change, {"seen": [1], "odd": object()})
    assert compare(walked.journal, "r") == []
    walked.journal.run("r").data = {"seen": [1, 2]}
    (finding,) = compare(walked.journal, "r")
    assert (finding.code, finding.evidence) == ("state_inconsistent", {"differs": ["data"]})
    walked.end()
    assert watched() == ["state_inconsistent"]
    walked.journal.forget()
    assert compare(walked.journal, "r") == []
    with pytest.raises(RunNotFound):
        compare(walked.journal, "nobody")


def test_a_log_that_was_cut_is_found(walked: Walked) -> None:
    """Memory that holds more than the log is told of as such."""
    walked.loop()
    walked.turn()
    assert walked.store._logs is not None
    walked.store._logs["r"].pop()
    (finding,) = compare(walked.journal, "r")
    assert finding.evidence == {"in_memory": 2, "in_log": 1}


def test_events_that_do_not_follow(walked: Walked) -> None:
    """A gap in a run's events is a finding, unless it is said that some were missed; old events are passed over."""
    walked.loop()
    for _ in range(5):
        walked.turn()
    log = walked.journal.events("r")
    anomalies = Anomalies()
    for event in (log[0], log[1], log[0], log[4]):
        anomalies.take(event)
    assert [one.evidence for one in anomalies.findings] == [{"seq": 5, "after": 2}]
    careful = Anomalies()
    careful.take(log[0])
    careful.missed()
    careful.take(log[4])
    assert careful.findings == []


def test_nothing_is_kept_of_runs_that_ended(walked: Walked) -> None:
    """Thousands of runs leave nothing behind, and findings are a thousand at most."""
    anomalies = Anomalies()
    walked.journal.subscribe(anomalies.take)
    for number in range(1500):
        walked.loop(str(number))
        walked.end(failed(), str(number))
        walked.note("recovery", {}, str(number))
    assert len(anomalies.findings) == 1000
    assert anomalies._open == {}


def test_findings_are_handed_on(walked: Walked) -> None:
    """Each finding is given to the function asked for, in the thread of the subscription."""
    handed: list[Finding] = []
    with EventBus(walked.journal) as bus:
        anomalies = Anomalies(walked.journal, on_finding=handed.append)
        bus.on(anomalies.take, on_missed=anomalies.missed)
        walked.loop()
        walked.end(failed())
        assert bus.flush(20)
    assert handed == anomalies.findings
    assert [one.code for one in handed] == ["execution_failure"]


@pytest.mark.parametrize("wrong", ["ten", True, math.nan, 0, -1])
def test_what_cannot_be_expected(wrong: Any) -> None:
    """Expected iterations are a number from 1 on."""
    with pytest.raises((WrongType, InvalidInput)):
        Anomalies(expected_iterations=wrong)
