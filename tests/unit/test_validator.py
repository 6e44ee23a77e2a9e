"""The five rules of the practice."""

from __future__ import annotations

import time

import pytest

from cortical.agents import Agent, Loop, Verdict, run
from cortical.core.errors import WrongType
from cortical.core.journal import Journal
from cortical.reasoning import (
    CognitiveLoop,
    CognitiveLoopManager,
    LoopPhase,
    LoopStateSerializer,
    LoopValidator,
    NestedLoopExecutor,
    Severity,
    ValidationResult,
)
from cortical.store import MemoryStore

RULES = [
    "question_phase_required",
    "answer_evidence_required",
    "produce_artifacts_required",
    "verify_checks_required",
    "no_backward_skips",
]


def through(*phases: LoopPhase) -> CognitiveLoop:
    """A loop that went through these phases and recorded nothing."""
    loop = CognitiveLoop("Choose a database")
    loop.start(phases[0])
    for phase in phases[1:]:
        loop.transition(phase)
    return loop


def result(loop: CognitiveLoop, rule: str) -> ValidationResult:
    return next(found for found in LoopValidator().validate(loop) if found.rule_name == rule)


QUESTION, ANSWER, PRODUCE, VERIFY = LoopPhase


def exemplary() -> CognitiveLoop:
    loop = through(QUESTION, ANSWER)
    loop.current_context().record_decision("SQLite", "one writer")
    loop.transition(PRODUCE)
    loop.current_context().record_artifact("schema.sql")
    loop.transition(VERIFY)
    loop.add_note("ten thousand rows in 0.2 s")
    loop.complete()
    return loop


def test_a_loop_by_the_book_passes_all() -> None:
    """A loop that did all the practice asks for passes five rules, in their order."""
    results = LoopValidator().validate(exemplary())
    assert [found.rule_name for found in results] == RULES
    assert [found.passed for found in results] == [True] * 5
    assert [found.message for found in results] == [
        "the loop started at QUESTION",
        "ANSWER has 1 decision, each with a rationale",
        "PRODUCE has 1 artifact",
        "VERIFY has 1 note",
        "no step went back over more than one phase",
    ]


def test_each_rule_has_its_severity_and_phase() -> None:
    """Starting at QUESTION is required by an error, the rest by warnings; each says which phase it is about."""
    results = LoopValidator().validate(exemplary())
    assert [found.severity for found in results] == [Severity.ERROR] + [Severity.WARNING] * 4
    assert [found.phase for found in results] == [*LoopPhase, None]
    assert [str(severity) for severity in Severity] == ["error", "warning"]


def test_a_loop_not_started_passes_for_want_of_anything() -> None:
    """No rule applies to a loop that was not started."""
    results = LoopValidator().validate(CognitiveLoop("later"))
    assert all(found.passed and found.message.startswith("does not apply") for found in results)


@pytest.mark.parametrize("start", [ANSWER, PRODUCE, VERIFY])
def test_a_start_anywhere_else_is_an_error(start: LoopPhase) -> None:
    """A loop that did not start at QUESTION fails, whether or not it came there later."""
    found = result(through(start, QUESTION), "question_phase_required")
    assert not found.passed
    assert found.message == f"the loop started at {start.name}; say what is asked before working on it"


def test_phases_never_visited_pass() -> None:
    """A rule about a phase that was never visited passes, and says why."""
    results = LoopValidator().validate(through(QUESTION))
    assert all(found.passed for found in results)
    assert [found.message for found in results[1:4]] == [
        "does not apply: ANSWER was never visited",
        "does not apply: PRODUCE was never visited",
        "does not apply: VERIFY was never visited",
    ]


def test_phases_that_left_nothing_are_warned_of() -> None:
    """An ANSWER without decisions, a PRODUCE without artifacts and a VERIFY without notes fail."""
    results = LoopValidator().validate(through(QUESTION, ANSWER, PRODUCE, VERIFY))
    assert [found.passed for found in results] == [True, False, False, False, True]
    assert results[1].message == "ANSWER has no decisions; record them in the visit"


def test_decisions_need_reasons() -> None:
    """One decision without a rationale, or with a blank one, fails the rule and is named."""
    loop = through(QUESTION, ANSWER)
    loop.current_context().record_decision("SQLite", "one writer")
    loop.current_context().record_decision("no cache", " ")
    loop.current_context().record_decision("no index")
    found = result(loop, "answer_evidence_required")
    assert not found.passed
    assert found.message == "ANSWER has 2 decisions without a rationale, the first being 'no cache'; say why"


def test_what_was_recorded_elsewhere_does_not_count() -> None:
    """A decision made in QUESTION, or a note in PRODUCE, is no evidence for ANSWER or VERIFY."""
    loop = through(QUESTION)
    loop.current_context().record_decision("SQLite", "one writer")
    for phase in (ANSWER, PRODUCE, VERIFY):
        loop.transition(phase)
        if phase is PRODUCE:
            loop.add_note("made")
    assert not result(loop, "answer_evidence_required").passed
    assert not result(loop, "verify_checks_required").passed


def test_an_agents_loop_answers_for_what_its_agent_does() -> None:
    """What it has no function for is passed through and asked for nothing; a verdict is what VERIFY noted."""
    agent = Agent("reader")

    @agent.answer
    def read(loop: Loop) -> None:
        loop.produce("longest", "parse")

    @agent.verify
    def check(loop: Loop) -> Verdict:
        return Verdict.passed(loop.artifact("longest"), evidence="measured otherwise")

    store = MemoryStore()
    driven = run(agent, "the longest function", store=store)
    results = LoopValidator().validate(CognitiveLoop.of(Journal(store, clock=time), driven.run_id))
    assert [found.message for found in results[1:4]] == [
        "ANSWER has no decisions; record them in the visit",
        "does not apply: the agent has no function for PRODUCE",
        "VERIFY has 1 note",
    ]


def test_all_visits_of_a_phase_count_together() -> None:
    """A phase visited twice has what was recorded in either visit."""
    loop = through(QUESTION, ANSWER)
    loop.current_context().record_decision("SQLite", "one writer")
    loop.transition(QUESTION)
    loop.transition(ANSWER)
    assert result(loop, "answer_evidence_required").passed


SKIPS = {(PRODUCE, QUESTION), (VERIFY, ANSWER)}


@pytest.mark.parametrize("left", LoopPhase)
@pytest.mark.parametrize("came", LoopPhase)
def test_only_steps_back_over_a_phase_are_backward_skips(left: LoopPhase, came: LoopPhase) -> None:
    """Of all sixteen steps two are backward skips; the cycle's own VERIFY → QUESTION is none."""
    found = result(through(left, came), "no_backward_skips")
    assert found.passed is ((left, came) not in SKIPS)
    if not found.passed:
        assert found.message == f"went back from {left.name} to {came.name}; go back one phase at a time"


def test_several_backward_skips_are_counted() -> None:
    """The first of several backward skips is named, and their number."""
    loop = through(QUESTION, PRODUCE, QUESTION, VERIFY, ANSWER)
    message = "went back from PRODUCE to QUESTION, the first of 2 such steps; go back one phase at a time"
    assert result(loop, "no_backward_skips").message == message


def test_a_summary_counts_results() -> None:
    """The summary counts what passed and failed, failures by severity, and lists the failures."""
    validator = LoopValidator()
    results = validator.validate(through(ANSWER, PRODUCE))
    assert validator.get_summary(results) == {
        "total_checks": 5,
        "passed": 2,
        "failed": 3,
        "by_severity": {"error": 1, "warning": 2},
        "failures": results[:3],
    }
    assert validator.get_summary([])["total_checks"] == 0


def test_loops_of_every_origin_are_taken() -> None:
    """Loops alone, of a manager, of an executor, and read from a text are validated alike."""
    executor = NestedLoopExecutor()
    serializer = LoopStateSerializer()
    loops = [
        exemplary(),
        CognitiveLoopManager().create_loop("later"),
        executor.get_loop(executor.spawn_child(executor.start_root("whole"), "part")),
        serializer.deserialize(serializer.serialize(exemplary())),
    ]
    assert all(found.passed for loop in loops for found in LoopValidator().validate(loop))


def test_anything_else_is_refused() -> None:
    """What is no loop is refused by its type."""
    with pytest.raises(WrongType, match="a CognitiveLoop is validated, not str"):
        LoopValidator().validate("a1")  # type: ignore[arg-type]
