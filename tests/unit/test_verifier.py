"""What is out of order in the way a loop goes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from cortical.core import rules
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.outcome import Skipped
from cortical.reasoning import (
    AnomalyReport,
    AnomalySeverity,
    AnomalyType,
    CognitiveLoop,
    CognitiveLoopManager,
    LoopPhase,
    NestedLoopExecutor,
    QAPVVerifier,
    TerminationReason,
)
from cortical.testing import FakeClock

QUESTION, ANSWER, PRODUCE, VERIFY = LoopPhase
CYCLE = ["question", "answer", "produce", "verify"]


def followed(*places: str | None, verifier: QAPVVerifier | None = None) -> QAPVVerifier:
    """A verifier that followed a loop from place to place, from its start."""
    verifier = verifier or QAPVVerifier(clock=FakeClock(0.0))
    for origin, to in zip([None, *places], places, strict=False):
        assert to is not None
        verifier.record_transition(origin, to)
    return verifier


def kinds(verifier: QAPVVerifier) -> list[str]:
    return [report.anomaly_type.value for report in verifier.check_health()]


# Moves


@pytest.mark.parametrize(
    ("origin", "to", "valid"),
    [
        (None, "question", True),
        (None, "verify", True),
        (None, "complete", False),
        ("question", "answer", True),
        ("question", "produce", False),
        ("answer", "produce", True),
        ("answer", "question", True),
        ("answer", "answer", False),
        ("produce", "verify", True),
        ("produce", "answer", False),
        ("verify", "question", True),
        ("verify", "complete", True),
        ("verify", "answer", False),
        ("complete", "question", False),
    ],
)
def test_the_cycle_has_these_moves(origin: str | None, to: str, valid: bool) -> None:
    """A move is valid if the cycle has it; a loop may start at any phase."""
    assert QAPVVerifier().is_transition_valid(origin, to) is valid


def test_names_come_in_any_case() -> None:
    """Phases are named in any case, or given as phases."""
    verifier = QAPVVerifier(clock=FakeClock(0.0))
    verifier.record_transition(None, "QUESTION")
    verifier.record_transition("Question", " answer ")
    verifier.record_transition(ANSWER, PRODUCE)
    assert verifier.is_transition_valid("VERIFY", "Complete")
    assert verifier.get_diagnostic_report()["current_phase"] == "produce"


@pytest.mark.parametrize(
    ("name", "error"), [("answers", InvalidInput), ("", InvalidInput), (3, WrongType), (None, WrongType)]
)
def test_other_names_are_refused(name: Any, error: type[Exception]) -> None:
    """What names no phase is refused, and nothing is recorded."""
    verifier = QAPVVerifier()
    with pytest.raises(error, match="phase"):
        verifier.record_transition(None, name)
    assert verifier.get_diagnostic_report()["total_transitions"] == 0


def test_two_turns_and_an_end_are_healthy() -> None:
    """A loop that goes twice round and completes has nothing out of order, and one cycle."""
    verifier = followed(*CYCLE, *CYCLE, "complete")
    assert verifier.get_diagnostic_report() == {
        "total_transitions": 9,
        "current_phase": "complete",
        "cycle_count": 1,
        "total_anomalies": 0,
        "anomalies_by_type": {},
        "anomalies": [],
        "health_status": "healthy",
    }


# Each anomaly


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["question", "produce"], ["phase_skip"]),
        (["question", "verify"], ["phase_skip", "missing_production"]),
        (["question", "answer", "verify"], ["phase_skip", "missing_production"]),
        (["question", "answer", "verify", "complete"], ["phase_skip", "missing_production"]),
        ([*CYCLE, "answer"], ["invalid_transition"]),
        ([*CYCLE, "produce"], ["invalid_transition"]),
        (["question", "question"], ["invalid_transition"]),
        (["question", "answer", "produce", "question"], ["invalid_transition"]),
        (["question", "complete"], ["premature_exit", "missing_production"]),
        (["question", "answer", "produce", "complete"], ["premature_exit"]),
        ([*CYCLE, "question", "complete"], ["premature_exit", "missing_production"]),
        ([*CYCLE, "complete", "complete"], ["invalid_transition"]),
        ([*CYCLE, "complete", "question"], ["invalid_transition"]),
        (["complete"], ["premature_exit", "missing_production"]),
        (["answer", "produce", "verify", "complete"], []),
        (["answer", "verify"], ["phase_skip", "missing_production"]),
        (["produce", "verify", "complete"], []),
        (["verify", "complete"], []),
        (["verify", "question", "answer", "verify"], ["phase_skip", "missing_production"]),
        ([*CYCLE, "question", "answer", "question", "answer", "produce", "verify", "complete"], []),
    ],
)
def test_each_way_has_its_anomalies(places: list[str], expected: list[str]) -> None:
    """Skips, invalid moves, early exits and turns without production are each reported, once, as what they are."""
    verifier = followed(*places)
    assert kinds(verifier) == expected
    assert kinds(verifier) == expected


def test_a_gap_in_what_was_recorded_is_an_invalid_transition() -> None:
    """A move that does not begin where the last one led is reported, and the next is judged from where it led."""
    verifier = followed("question", "answer")
    verifier.record_transition("produce", "verify")
    verifier.record_transition("verify", "question")
    gap, missing = verifier.check_health()
    assert gap.anomaly_type is AnomalyType.INVALID_TRANSITION
    assert gap.description == "produce → verify was recorded, but the loop stood at answer"
    assert missing.anomaly_type is AnomalyType.MISSING_PRODUCTION


def test_a_gap_and_a_wrong_move_in_one_are_one_report() -> None:
    """A move that is no move of the cycle and begins elsewhere as well is one invalid transition."""
    verifier = followed("question")
    verifier.record_transition("verify", "answer")
    verifier.record_transition(None, "question")
    assert kinds(verifier) == ["invalid_transition", "invalid_transition"]
    assert verifier.check_health()[1].description == "the start → question was recorded, but the loop stood at answer"


@pytest.mark.parametrize(
    ("origin", "to", "expected"),
    [
        ("answer", "produce", []),
        ("produce", "verify", []),
        ("verify", "complete", []),
        ("answer", "verify", ["phase_skip", "missing_production"]),
    ],
)
def test_the_first_move_may_begin_anywhere(origin: str, to: str, expected: list[str]) -> None:
    """A loop that is followed from its middle is taken to stand where its first move begins."""
    verifier = QAPVVerifier(clock=FakeClock(0.0))
    verifier.record_transition(origin, to)
    assert kinds(verifier) == expected


def test_more_cycles_than_allowed_are_reported_once() -> None:
    """The first cycle over the limit is reported, further ones are not."""
    verifier = QAPVVerifier(max_cycles_before_warning=2, clock=FakeClock(0.0))
    followed(*CYCLE * 3, verifier=verifier)
    assert (verifier.get_cycle_count(), kinds(verifier)) == (2, [])
    for origin, to in zip(["verify", *CYCLE], [*CYCLE, "question"], strict=True):
        verifier.record_transition(origin, to)
    assert (verifier.get_cycle_count(), kinds(verifier)) == (4, ["infinite_loop"])
    report = verifier.check_health()[0]
    assert report.severity is AnomalySeverity.CRITICAL
    assert report.description == "came back to question 3 times; 2 are expected at most"


def test_going_to_and_fro_is_an_infinite_loop_too() -> None:
    """A loop that goes from question to answer and back again and again never verifies, and is reported."""
    verifier = followed(*["question", "answer"] * 12)
    assert (verifier.get_cycle_count(), kinds(verifier)) == (11, ["infinite_loop"])


def test_a_long_stay_is_reported_once_when_it_is_over() -> None:
    """A stay of exactly the threshold is well; a longer one is reported when it ends, and once."""
    clock = FakeClock(0.0)
    verifier = QAPVVerifier(stuck_threshold_seconds=30, clock=clock)
    verifier.record_transition(None, "question")
    clock.now += 30
    verifier.record_transition("question", "answer")
    clock.now += 30.5
    verifier.record_transition("answer", "produce")
    report = verifier.check_health()[0]
    assert kinds(verifier) == ["stuck_phase"]
    assert report.description == "30.5 s in answer; 30 s are expected at most"
    assert report.transition_history == ((None, "question"), ("question", "answer"))


def test_a_stay_that_goes_on_is_reported_once() -> None:
    """A loop that stands too long is reported while it stands, not again at the next check, nor when it moves."""
    clock = FakeClock(0.0)
    verifier = QAPVVerifier(clock=clock)
    verifier.record_transition(None, "question")
    clock.now = 60
    assert kinds(verifier) == []
    clock.now = 90
    assert kinds(verifier) == ["stuck_phase"]
    clock.now = 500
    assert kinds(verifier) == ["stuck_phase"]
    verifier.record_transition("question", "answer")
    assert kinds(verifier) == ["stuck_phase"]
    clock.now = 1000
    assert kinds(verifier) == ["stuck_phase", "stuck_phase"]


def test_nothing_is_stuck_after_the_end() -> None:
    """A loop that has completed stays complete without being stuck."""
    clock = FakeClock(0.0)
    verifier = followed(*CYCLE, "complete", verifier=QAPVVerifier(clock=clock))
    clock.now = 1e6
    assert kinds(verifier) == []


# Reports


@pytest.mark.parametrize(
    ("places", "waited", "status"),
    [
        (CYCLE, 0, "healthy"),
        (CYCLE, 61, "minor_issues"),
        (["question", "produce"], 0, "minor_issues"),
        (["question", "verify"], 61, "warning"),
        ([*["question", "answer"] * 12, "complete"], 0, "critical"),
    ],
)
def test_the_worst_anomaly_gives_the_health(places: list[str], waited: float, status: str) -> None:
    """Health is critical if one anomaly is, else warning if one is high, else minor issues if there is any."""
    clock = FakeClock(0.0)
    verifier = followed(*places, verifier=QAPVVerifier(clock=clock))
    clock.now += waited
    assert verifier.get_diagnostic_report()["health_status"] == status


def test_a_report_counts_by_type() -> None:
    """The report counts anomalies by type and holds them; each tells what to do."""
    report = followed("question", "verify", "answer", "verify").get_diagnostic_report()
    assert report["total_anomalies"] == 4
    assert report["anomalies_by_type"] == {"phase_skip": 2, "missing_production": 1, "invalid_transition": 1}
    assert all(anomaly.suggestions for anomaly in report["anomalies"])
    assert report["anomalies"][0].description == "question → verify skips answer and produce"
    assert (
        report["anomalies"][2].description
        == "verify → answer is no move of the cycle; verify leads to complete, question"
    )


def test_a_report_holds_the_last_ten_moves() -> None:
    """However long a loop went on, a report holds the last ten moves up to it, oldest first."""
    report = followed(*CYCLE * 5, "produce").check_health()[0]
    assert len(report.transition_history) == 10
    assert report.transition_history[-2:] == (("produce", "verify"), ("verify", "produce"))


def test_reset_forgets_everything() -> None:
    """After a reset the next move is the first."""
    verifier = followed("question", "verify")
    verifier.reset()
    assert verifier.get_diagnostic_report()["health_status"] == "healthy"
    assert kinds(followed(*CYCLE, verifier=verifier)) == []


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"stuck_threshold_seconds": -1}, InvalidInput),
        ({"stuck_threshold_seconds": float("nan")}, InvalidInput),
        ({"stuck_threshold_seconds": "60"}, WrongType),
        ({"max_cycles_before_warning": 1.5}, WrongType),
        ({"max_cycles_before_warning": True}, WrongType),
    ],
)
def test_limits_of_no_use_are_refused(limits: dict[str, Any], error: type[Exception]) -> None:
    """A limit that is no number, or below zero, is refused by name, by `watch` as well."""
    (name,) = limits
    with pytest.raises(error, match=name):
        QAPVVerifier(**limits)
    with pytest.raises(error, match=name):
        QAPVVerifier.watch(CognitiveLoopManager(), lambda loop, report: None, **limits)


# A loop's own log


def loop_through(clock: FakeClock, *phases: LoopPhase, seconds: float = 1) -> CognitiveLoop:
    loop = CognitiveLoop("Choose a database", clock=clock)
    loop.start(phases[0])
    for phase in phases[1:]:
        clock.now += seconds
        loop.transition(phase)
    return loop


def test_a_loop_is_judged_by_its_log() -> None:
    """A verifier made of a loop has followed all its moves at their times, and its end."""
    clock = FakeClock(0.0)
    loop = loop_through(clock, QUESTION, PRODUCE, seconds=100)
    loop.complete()
    verifier = QAPVVerifier.of(loop)
    assert kinds(verifier) == ["stuck_phase", "phase_skip", "premature_exit"]
    report = verifier.get_diagnostic_report()
    assert (report["total_transitions"], report["current_phase"]) == (3, "complete")
    assert kinds(QAPVVerifier.of(loop, stuck_threshold_seconds=100)) == ["phase_skip", "premature_exit"]


def test_an_open_stay_of_a_loop_counts() -> None:
    """A loop that stands too long now is stuck, though its visit was ended by hand before."""
    clock = FakeClock(0.0)
    loop = loop_through(clock, QUESTION)
    loop.current_context().end_phase()
    assert kinds(QAPVVerifier.of(loop)) == []
    clock.now += 61
    assert kinds(QAPVVerifier.of(loop)) == ["stuck_phase"]


@pytest.mark.parametrize("way", ["abandon", "fail", "skip"])
def test_only_completing_is_an_exit(way: str) -> None:
    """A loop that was abandoned, failed or was skipped did not exit prematurely, and is stuck no more."""
    clock = FakeClock(0.0)
    executor = NestedLoopExecutor(clock=clock)
    root = executor.start_root("whole")
    ends: dict[str, Callable[[], object]] = {
        "abandon": lambda: executor.break_loop(root, "not needed"),
        "fail": lambda: executor.fail(root, RuntimeError("no disk")),
        "skip": lambda: executor.journal.change(root, rules.end, Skipped(), TerminationReason.CONDITION_MET),
    }
    ends[way]()
    clock.now += 1000
    verifier = QAPVVerifier.of(executor.get_loop(root))
    assert kinds(verifier) == []
    assert verifier.get_diagnostic_report()["current_phase"] == "question"


def test_a_loop_not_started_is_healthy() -> None:
    """A loop that was not started has no moves; abandoned without a start, it has none either."""
    loop = CognitiveLoop("later")
    assert QAPVVerifier.of(loop).get_diagnostic_report()["current_phase"] is None
    loop.abandon()
    assert QAPVVerifier.of(loop).get_diagnostic_report()["health_status"] == "healthy"


# As it happens


class Heard:
    def __init__(self) -> None:
        self.reports: list[tuple[str, str]] = []

    def __call__(self, loop: CognitiveLoop, report: AnomalyReport) -> None:
        self.reports.append((loop.goal, report.anomaly_type.value))


def test_anomalies_are_told_as_they_happen() -> None:
    """Watching a manager tells each anomaly of each loop when it happens, and none twice."""
    clock, heard = FakeClock(0.0), Heard()
    manager = CognitiveLoopManager(clock=clock)
    QAPVVerifier.watch(manager, heard)
    one, other = manager.create_loop("one"), manager.create_loop("other")
    one.start()
    other.start()
    one.transition(PRODUCE)
    assert heard.reports == [("one", "phase_skip")]
    other.transition(ANSWER)
    clock.now += 61
    other.transition(PRODUCE)
    one.transition(VERIFY)
    other.complete()
    one.complete()
    assert heard.reports == [
        ("one", "phase_skip"),
        ("other", "stuck_phase"),
        ("one", "stuck_phase"),
        ("other", "premature_exit"),
    ]


def test_an_executor_is_watched_too() -> None:
    """Watching an executor, children included: a loop completed before VERIFY is told, a broken one is not."""
    heard = Heard()
    executor = NestedLoopExecutor()
    QAPVVerifier.watch(executor, heard)
    root = executor.start_root("whole")
    executor.break_loop(executor.spawn_child(root, "broken"), "not needed")
    executor.complete(executor.spawn_child(root, "early"))
    assert heard.reports == [("early", "premature_exit"), ("early", "missing_production")]


def test_what_watch_returns_ends_it() -> None:
    """After the end nothing is told."""
    heard = Heard()
    executor = NestedLoopExecutor()
    end = QAPVVerifier.watch(executor, heard)
    end()
    executor.complete(executor.start_root("early"))
    assert heard.reports == []


def test_a_loop_under_way_is_judged_from_its_next_move() -> None:
    """What a loop did before it was watched is not told; what it does next is."""
    heard = Heard()
    manager = CognitiveLoopManager()
    under_way, about_to_end = manager.create_loop("under way"), manager.create_loop("about to end")
    for loop in (under_way, about_to_end):
        loop.start()
        loop.transition(PRODUCE)
    QAPVVerifier.watch(manager, heard)
    under_way.transition(VERIFY)
    under_way.transition(ANSWER)
    about_to_end.complete()
    assert heard.reports == [("under way", "invalid_transition"), ("about to end", "premature_exit")]


def test_a_listener_that_raises_hurts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A listener that raises is reported to the log; the loop goes on, and the next report is told."""
    told: list[str] = []

    def listen(loop: CognitiveLoop, report: AnomalyReport) -> None:
        told.append(report.anomaly_type.value)
        raise RuntimeError("not now")

    manager = CognitiveLoopManager()
    QAPVVerifier.watch(manager, listen)
    loop = manager.create_loop("one")
    loop.start()
    with caplog.at_level(logging.ERROR, logger="cortical"):
        loop.transition(VERIFY)
    assert told == ["phase_skip", "missing_production"]
    assert [record.getMessage() for record in caplog.records] == [
        f"a listener raised at phase_skip of loop {loop.id}",
        f"a listener raised at missing_production of loop {loop.id}",
    ]
    assert loop.current_phase is VERIFY


def test_only_managers_and_executors_are_watched() -> None:
    """What keeps no loops, and a listener that cannot be called, are refused at once."""
    with pytest.raises(WrongType, match="not of CognitiveLoop"):
        QAPVVerifier.watch(CognitiveLoop("one"), lambda loop, report: None)  # type: ignore[arg-type]
    with pytest.raises(WrongType, match="cannot be called"):
        QAPVVerifier.watch(CognitiveLoopManager(), None)  # type: ignore[arg-type]


def test_waiting_is_not_being_stuck(clock: FakeClock) -> None:
    """Time during which a loop was paused or blocked, by hand or for its children, is not time it was stuck."""
    executor = NestedLoopExecutor(clock=clock)
    seen: list[AnomalyType] = []
    QAPVVerifier.watch(executor, lambda loop, report: seen.append(report.anomaly_type))
    root = executor.start_root("g")
    child = executor.spawn_child(root, "sub")
    clock.advance(500)
    assert QAPVVerifier.of(executor.get_loop(root)).check_health() == []
    executor.break_loop(child, "no")
    executor.block(root, "no key")
    clock.advance(500)
    assert QAPVVerifier.of(executor.get_loop(root)).check_health() == []
    executor.resume(root)
    clock.advance(59)
    executor.advance(root)
    assert AnomalyType.STUCK_PHASE in seen  # the child, which nobody moved for 500 s
    assert len(seen) == 1
    assert QAPVVerifier.of(executor.get_loop(root)).check_health() == []
    clock.advance(61)
    executor.advance(root)
    assert [report.anomaly_type for report in QAPVVerifier.of(executor.get_loop(root)).check_health()] == [
        AnomalyType.STUCK_PHASE
    ]
    assert seen == [AnomalyType.STUCK_PHASE] * 2
