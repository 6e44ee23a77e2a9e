"""Did a loop follow the practice: five rules over its visits, each with one answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

from attrs import frozen

from cortical.agents.family import recorded_agent
from cortical.core.errors import WrongType
from cortical.core.phases import LoopPhase
from cortical.core.run import Run
from cortical.core.safe_text import counted
from cortical.core.topics import ARTIFACT, DECISION, NOTE, VERDICT
from cortical.reasoning.cognitive_loop import CognitiveLoop


class Severity(StrEnum):
    """How much a broken rule matters."""

    ERROR = "error"
    WARNING = "warning"


@frozen
class ValidationResult:
    """What one rule found. `severity` is that of breaking it; `phase` is the one it is about, None for none."""

    rule_name: str
    passed: bool
    message: str
    severity: Severity
    phase: LoopPhase | None = None


class LoopValidator:
    """Checks a loop, open or ended, against the practice::

        results = LoopValidator().validate(loop)
        LoopValidator().get_summary(results)["failures"]

    What was recorded counts over all visits of a phase, the one that goes on included. Five rules:

    * ``question_phase_required`` (error): it starts at QUESTION.
    * ``answer_evidence_required`` (warning): ANSWER has decisions, each with a rationale.
    * ``produce_artifacts_required`` (warning): PRODUCE has artifacts.
    * ``verify_checks_required`` (warning): VERIFY has notes, or verdicts.
    * ``no_backward_skips`` (warning): no step goes back over more than one phase, such as PRODUCE → QUESTION.
      VERIFY → QUESTION is no such step: by it the cycle comes into its next turn.

    A phase that was never visited has nothing to answer for: its rule passes, and says that it does not apply. Nor has
    one for which the agent that drives the loop has no function. The first and the last do not apply to a loop that was
    not started.
    """

    def validate(self, loop: CognitiveLoop) -> list[ValidationResult]:
        """One result for each rule, in the order above.

        Raises:
            WrongType: it is no loop.
        """
        if not isinstance(loop, CognitiveLoop):
            raise WrongType(f"a CognitiveLoop is validated, not {type(loop).__name__}")
        run = loop.run
        with loop.journal.holding(run.tree):
            return [rule(run) for rule in _RULES]

    def get_summary(self, results: Sequence[ValidationResult]) -> dict[str, Any]:
        """Counts of these results: `total_checks`, `passed`, `failed`, `by_severity` and `failures`.

        `by_severity` counts the failures (``{"error": 0, "warning": 2}``); `failures` are the results themselves.
        """
        failures = [result for result in results if not result.passed]
        return {
            "total_checks": len(results),
            "passed": len(results) - len(failures),
            "failed": len(failures),
            "by_severity": {
                severity.value: sum(1 for failure in failures if failure.severity is severity) for severity in Severity
            },
            "failures": failures,
        }


def _question_phase(run: Run) -> ValidationResult:
    name, phase = "question_phase_required", LoopPhase.QUESTION
    if run.visit is None:
        return ValidationResult(name, True, "does not apply: the loop was not started", Severity.ERROR, phase)
    first = run.visit_at(0).place
    if first not in _PLACES:
        return ValidationResult(name, True, "does not apply: the loop has no phases", Severity.ERROR, phase)
    started_there = first == phase.value
    advice = "" if started_there else "; say what is asked before working on it"
    return ValidationResult(name, started_there, f"the loop started at {first.upper()}{advice}", Severity.ERROR, phase)


def _answer_evidence(run: Run) -> ValidationResult:
    decisions = _noted(run, LoopPhase.ANSWER, DECISION)
    if not decisions:
        return _counted(run, "answer_evidence_required", LoopPhase.ANSWER, decisions, "decisions")
    bare = [decision["decision"] for decision in decisions if not str(decision.get("rationale") or "").strip()]
    message = f"ANSWER has {_count(decisions, 'decisions')}, each with a rationale"
    if bare:
        message = f"ANSWER has {_count(bare, 'decisions')} without a rationale, the first being {bare[0]!r}; say why"
    return ValidationResult("answer_evidence_required", not bare, message, Severity.WARNING, LoopPhase.ANSWER)


def _produce_artifacts(run: Run) -> ValidationResult:
    artifacts = _noted(run, LoopPhase.PRODUCE, ARTIFACT)
    return _counted(run, "produce_artifacts_required", LoopPhase.PRODUCE, artifacts, "artifacts")


def _verify_checks(run: Run) -> ValidationResult:
    notes = _noted(run, LoopPhase.VERIFY, NOTE, VERDICT)
    return _counted(run, "verify_checks_required", LoopPhase.VERIFY, notes, "notes")


def _no_backward_skips(run: Run) -> ValidationResult:
    name = "no_backward_skips"
    if run.visit is None:
        return ValidationResult(name, True, "does not apply: the loop was not started", Severity.WARNING)
    places = [visit.place for visit in run.visits if visit.place in _PLACES]
    skips = [(left, came) for left, came in pairwise(places) if _goes_back_too_far(left, came)]
    if not skips:
        return ValidationResult(name, True, "no step went back over more than one phase", Severity.WARNING)
    left, came = skips[0]
    times = "" if len(skips) == 1 else f", the first of {len(skips)} such steps"
    message = f"went back from {left.upper()} to {came.upper()}{times}; go back one phase at a time"
    return ValidationResult(name, False, message, Severity.WARNING)


def _goes_back_too_far(left: str, came: str) -> bool:
    return _PLACES.index(left) - _PLACES.index(came) > 1 and (left, came) != ("verify", "question")


def _counted(run: Run, name: str, phase: LoopPhase, found: Sequence[object], what: str) -> ValidationResult:
    place = phase.value.upper()
    if all(visit.place != phase.value for visit in run.visits):
        return ValidationResult(name, True, f"does not apply: {place} was never visited", Severity.WARNING, phase)
    if not found and phase.value not in _with_function(run):
        return ValidationResult(
            name, True, f"does not apply: the agent has no function for {place}", Severity.WARNING, phase
        )
    message = f"{place} has {_count(found, what)}" if found else f"{place} has no {what}; record them in the visit"
    return ValidationResult(name, bool(found), message, Severity.WARNING, phase)


def _with_function(run: Run) -> Collection[str]:
    """The phases for which the agent has a function that drives a loop; all where none does, or nobody knows."""
    agent = recorded_agent(run)
    phases = agent.get("phases") if isinstance(agent, Mapping) else None
    return phases if isinstance(phases, list | tuple) else _PLACES


def _noted(run: Run, phase: LoopPhase, *topics: str) -> list[Any]:
    return [
        entry.value
        for index, visit in enumerate(run.visits)
        if visit.place == phase.value
        for entry in run.entries_of(index)
        if entry.topic in topics
    ]


def _count(found: Sequence[object], what: str) -> str:
    return counted(len(found), what[:-1])


_PLACES: Final = [phase.value for phase in LoopPhase]

_RULES: Final[list[Callable[[Run], ValidationResult]]] = [
    _question_phase,
    _answer_evidence,
    _produce_artifacts,
    _verify_checks,
    _no_backward_skips,
]
