"""Does a loop go the way of the cycle: question → answer → produce → verify, and round again or to its end."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Any, Final

from attrs import frozen

from cortical.core.checks import require_callable, require_count, require_number, shown
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.phases import LoopPhase
from cortical.core.ports import Clock
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.reasoning.cognitive_loop import CognitiveLoop
from cortical.reasoning.manager import CognitiveLoopManager
from cortical.reasoning.nested_loop import NestedLoopExecutor
from cortical.reasoning.phases import LoopTransition

_log: Final = logging.getLogger("cortical")

#: Where a move can lead besides the phases.
COMPLETE: Final = "complete"

_ORDER: Final = [phase.value for phase in LoopPhase]

#: The moves that are valid, by where they begin. A loop may begin at any phase.
VALID_MOVES: Final[dict[str | None, frozenset[str]]] = {
    None: frozenset(_ORDER),
    "question": frozenset({"answer"}),
    "answer": frozenset({"produce", "question"}),
    "produce": frozenset({"verify"}),
    "verify": frozenset({"question", COMPLETE}),
    COMPLETE: frozenset(),
}

_HISTORY: Final = 10


class AnomalyType(StrEnum):
    """What can be out of order."""

    PHASE_SKIP = "phase_skip"
    INFINITE_LOOP = "infinite_loop"
    STUCK_PHASE = "stuck_phase"
    INVALID_TRANSITION = "invalid_transition"
    PREMATURE_EXIT = "premature_exit"
    MISSING_PRODUCTION = "missing_production"


class AnomalySeverity(StrEnum):
    """How bad it is."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"


#: A skip is medium: what it can cost, a turn without production, is reported by itself, and is high.
_SEVERITY: Final = {
    AnomalyType.PHASE_SKIP: AnomalySeverity.MEDIUM,
    AnomalyType.INFINITE_LOOP: AnomalySeverity.CRITICAL,
    AnomalyType.STUCK_PHASE: AnomalySeverity.MEDIUM,
    AnomalyType.INVALID_TRANSITION: AnomalySeverity.HIGH,
    AnomalyType.PREMATURE_EXIT: AnomalySeverity.HIGH,
    AnomalyType.MISSING_PRODUCTION: AnomalySeverity.HIGH,
}

_SUGGESTIONS: Final = {
    AnomalyType.PHASE_SKIP: ("go through each phase, if only to record that there is nothing to do in it",),
    AnomalyType.INFINITE_LOOP: (
        "look at what VERIFY finds each turn: if it is the same, more turns will not help",
        "split the question into child loops, or break the loop and say why",
    ),
    AnomalyType.STUCK_PHASE: (
        "move on with what is there, or block the loop and say what it waits for",
        "split the work into child loops",
    ),
    AnomalyType.INVALID_TRANSITION: ("go back by way of VERIFY → QUESTION, or from ANSWER to QUESTION",),
    AnomalyType.PREMATURE_EXIT: ("verify before completing; abandon a loop that is not to be finished",),
    AnomalyType.MISSING_PRODUCTION: (
        "go through PRODUCE and record what was made, so that there is something to verify",
    ),
}


@frozen
class AnomalyReport:
    """One thing out of order, reported once.

    `transition_history` are the moves up to it, the last ten at most, oldest first, each as (from, to).
    """

    anomaly_type: AnomalyType
    description: str
    severity: AnomalySeverity
    transition_history: tuple[tuple[str | None, str], ...]
    suggestions: tuple[str, ...]


class QAPVVerifier:
    """Follows the moves of one loop, and reports what is out of order::

        verifier = QAPVVerifier()
        verifier.record_transition(None, "question")
        verifier.record_transition("question", "produce")
        [report.anomaly_type for report in verifier.check_health()]   # ['phase_skip']

    `of` judges a loop by its own log, `watch` all loops of a manager as they move. What is reported:

    * ``phase_skip`` (medium): a move forward over one phase or two, such as question → produce.
    * ``invalid_transition`` (high): a move that is neither valid nor such a skip, such as verify → answer, or that
      does not begin where the last one led. The first move recorded may begin anywhere.
    * ``premature_exit`` (high): completed from anywhere but verify. It is not called an invalid transition as well.
    * ``missing_production`` (high): came to verify, or completed, without produce since it last came to question
      (or since its start). Once a turn. A loop that starts at verify owes none before it comes to question.
    * ``infinite_loop`` (critical): more cycles than `max_cycles_before_warning`. Each return to question counts,
      from answer as well, since going to and fro between the two never ends either. Once for a loop.
    * ``stuck_phase`` (medium): a stay longer than `stuck_threshold_seconds`, over or going on. It lasts until the
      next move or the end; time during which the loop was paused or blocked does not count. Once a stay.

    One move can have several causes for a report: question → verify is a skip, and lacks production.

    Args:
        stuck_threshold_seconds: how long a stay may last.
        max_cycles_before_warning: how many cycles are well.
        clock: tells when a move is recorded, and how long the last stay goes on.
    """

    __slots__ = (
        "_clock", "_cycles", "_history", "_most_cycles", "_most_seconds",
        "_owes", "_place", "_reports", "_since", "_total",
    )  # fmt: skip

    def __init__(
        self, stuck_threshold_seconds: float = 60, max_cycles_before_warning: int = 10, *, clock: Clock = time
    ) -> None:
        require_number(stuck_threshold_seconds, "stuck_threshold_seconds")
        require_count(max_cycles_before_warning, "max_cycles_before_warning", 0)
        self._most_seconds, self._most_cycles, self._clock = stuck_threshold_seconds, max_cycles_before_warning, clock
        self.reset()

    @classmethod
    def of(
        cls, loop: CognitiveLoop, *, stuck_threshold_seconds: float = 60, max_cycles_before_warning: int = 10
    ) -> QAPVVerifier:
        """A verifier that has followed this loop so far, by the loop's own times and clock.

        A loop that ended without completing (abandoned, failed, skipped) has stopped, not exited prematurely.
        A controlled loop, which goes through no phases, leaves nothing to judge.
        """
        verifier = cls(stuck_threshold_seconds, max_cycles_before_warning, clock=loop.journal.clock)
        run = loop.run
        with loop.journal.holding(run.tree):
            if run.visit is not None and run.visit.place not in _ORDER:
                return verifier
            for visit in run.visits:
                verifier._move(verifier._place, visit.place, visit.entered_at)
                verifier._wait(visit.waited)
            verifier._end(run)
            if run.waits_since is not None:
                verifier._wait(verifier._clock.time() - run.waits_since)
        return verifier

    @staticmethod
    def watch(
        source: CognitiveLoopManager | NestedLoopExecutor,
        on_anomaly: Callable[[CognitiveLoop, AnomalyReport], object],
        *,
        stuck_threshold_seconds: float = 60,
        max_cycles_before_warning: int = 10,
    ) -> Callable[[], None]:
        """Call `on_anomaly(loop, report)` when a loop of a manager or executor does what is out of order.

        Returns what ends it. Each loop is followed apart, from the first move seen. A stay that took too long is
        seen when it ends; `QAPVVerifier.of(loop)` sees those that go on. An `on_anomaly` that raises is reported to
        the `cortical` logger and hurts nothing.
        """
        manager = source.manager if isinstance(source, NestedLoopExecutor) else source
        if not isinstance(manager, CognitiveLoopManager):
            raise WrongType(f"loops of a manager or executor are watched, not of {type(source).__name__}")
        require_callable(on_anomaly)
        clock = manager.journal.clock
        new = partial(QAPVVerifier, stuck_threshold_seconds, max_cycles_before_warning, clock=clock)
        new()  # refuses limits of no use now rather than at the first move
        watching = _Watching(on_anomaly, new)
        end_moves = manager.register_transition_handler(watching.moved)
        end_ends = manager.register_completion_handler(watching.ended)

        def end() -> None:
            end_moves()
            end_ends()

        return end

    def record_transition(self, from_phase: str | LoopPhase | None, to_phase: str | LoopPhase) -> None:
        """Follow a move that happens now, from None when the loop starts, to ``"complete"`` when it completes.

        Raises:
            InvalidInput: a name, whatever its case, is neither a phase nor "complete".
        """
        origin = None if from_phase is None else _place(from_phase)
        self._move(origin, _place(to_phase), self._clock.time())

    def is_transition_valid(self, from_phase: str | LoopPhase | None, to_phase: str | LoopPhase) -> bool:
        """Whether the cycle has this move; from None, a loop may start at any phase.

        Raises:
            InvalidInput: as `record_transition`.
        """
        return _place(to_phase) in VALID_MOVES[None if from_phase is None else _place(from_phase)]

    def check_health(self) -> list[AnomalyReport]:
        """All that was found out of order so far, as it was found, each cause once; empty when all is well."""
        self._judge_stay(self._clock.time())
        return list(self._reports)

    def get_cycle_count(self) -> int:
        """How often the loop has come back to question from another phase."""
        return self._cycles

    def get_diagnostic_report(self) -> dict[str, Any]:
        """All that is known, after checking.

        `total_transitions`, `current_phase` ("complete" at the end, None before the start), `cycle_count`,
        `total_anomalies`, `anomalies_by_type` (only those there are), `anomalies` and `health_status`: ``critical``
        when one of them is, else ``warning`` when one is high, else ``minor_issues``, and ``healthy`` without any.
        """
        reports = self.check_health()
        return {
            "total_transitions": self._total,
            "current_phase": self._place,
            "cycle_count": self._cycles,
            "total_anomalies": len(reports),
            "anomalies_by_type": dict(Counter(report.anomaly_type.value for report in reports)),
            "anomalies": reports,
            "health_status": _health(reports),
        }

    def reset(self) -> None:
        """Forget everything: the next move is the first."""
        self._place: str | None = None
        self._since: float | None = None
        self._owes = True
        self._cycles = self._total = 0
        self._history: deque[tuple[str | None, str]] = deque(maxlen=_HISTORY)
        self._reports: list[AnomalyReport] = []

    def _move(self, origin: str | None, to: str, at: float) -> list[AnomalyReport]:
        """Follow a move; return what it brought to light."""
        known = len(self._reports)
        self._judge_stay(at)
        self._history.append((origin, to))
        self._judge_move(origin, to)
        if self._total == 0:
            self._owes = (origin or to) not in ("produce", "verify")
        self._total += 1
        self._judge_turn(to)
        if to == "question" and origin is not None:
            self._cycles += 1
            if self._cycles == self._most_cycles + 1:
                self._report(
                    AnomalyType.INFINITE_LOOP,
                    f"came back to question {self._cycles} times; {self._most_cycles} are expected at most",
                )
        self._place, self._since = to, None if to == COMPLETE else at
        return self._reports[known:]

    def _end(self, run: Run) -> list[AnomalyReport]:
        """Follow the end of a run, if it has ended; return what that brought to light."""
        if run.ended_at is None:
            return []
        if run.status is Status.COMPLETED:
            return self._move(run.place, COMPLETE, run.ended_at)
        known = len(self._reports)
        self._judge_stay(run.ended_at)
        self._since = None
        return self._reports[known:]

    def _wait(self, seconds: float) -> None:
        """Leave out of the stay the time during which the loop waited."""
        if self._since is not None:
            self._since += seconds

    def _judge_move(self, origin: str | None, to: str) -> None:
        move = f"{origin or 'the start'} → {to}"
        adrift = self._total > 0 and origin != self._place
        if adrift:
            self._report(AnomalyType.INVALID_TRANSITION, f"{move} was recorded, but the loop stood at {self._place}")
        if to in VALID_MOVES[origin]:
            return
        if to == COMPLETE and origin != COMPLETE:
            self._report(AnomalyType.PREMATURE_EXIT, f"completed from {origin or 'its start'}; verify comes before")
        elif origin in _ORDER and _ORDER.index(to) > _ORDER.index(origin):
            skipped = _ORDER[_ORDER.index(origin) + 1 : _ORDER.index(to)]
            self._report(AnomalyType.PHASE_SKIP, f"{move} skips {' and '.join(skipped)}")
        elif not adrift:
            valid = ", ".join(sorted(VALID_MOVES[origin])) or "nothing"
            self._report(AnomalyType.INVALID_TRANSITION, f"{move} is no move of the cycle; {origin} leads to {valid}")

    def _judge_turn(self, to: str) -> None:
        """Keep account of whether this turn still owes production."""
        if to in ("question", "produce"):
            self._owes = to == "question"
        elif to in ("verify", COMPLETE) and self._owes:
            self._report(AnomalyType.MISSING_PRODUCTION, f"came to {to}, and nothing was produced in this turn")
            self._owes = False

    def _judge_stay(self, at: float) -> None:
        if self._since is not None and at - self._since > self._most_seconds:
            stay = f"{at - self._since:.1f} s in {self._place}; {self._most_seconds:g} s are expected at most"
            self._report(AnomalyType.STUCK_PHASE, stay)
            self._since = None

    def _report(self, kind: AnomalyType, description: str) -> None:
        history = tuple(self._history)
        self._reports.append(AnomalyReport(kind, description, _SEVERITY[kind], history, _SUGGESTIONS[kind]))


class _Watching:
    """The verifiers of the open loops that are watched, by loop id."""

    def __init__(
        self, on_anomaly: Callable[[CognitiveLoop, AnomalyReport], object], new: Callable[[], QAPVVerifier]
    ) -> None:
        self._on_anomaly, self._new = on_anomaly, new
        self._verifiers: dict[str, QAPVVerifier] = {}

    def moved(self, loop: CognitiveLoop, step: LoopTransition) -> None:
        verifier = self._verifiers.get(loop.id)
        if verifier is None:
            verifier = self._verifiers[loop.id] = self._new()
        origin = step.from_phase.value if step.from_phase else None
        if step.visit_index:
            verifier._wait(loop.run.visit_at(step.visit_index - 1).waited)
        self._tell(loop, verifier._move(origin, step.to_phase.value, step.timestamp.timestamp()))

    def ended(self, loop: CognitiveLoop, reason: TerminationReason) -> None:
        verifier = self._verifiers.pop(loop.id, None) or self._new()
        if loop.run.place not in (None, *_ORDER):
            return
        self._tell(loop, verifier._end(loop.run))

    def _tell(self, loop: CognitiveLoop, reports: list[AnomalyReport]) -> None:
        for report in reports:
            try:
                self._on_anomaly(loop, report)
            except Exception:  # noqa: BLE001  # a listener must not hurt the run, nor the next report
                _log.exception("a listener raised at %s of loop %s", report.anomaly_type.value, loop.id)


def _place(name: str | LoopPhase) -> str:
    if isinstance(name, LoopPhase):
        return name.value
    if not isinstance(name, str):
        raise WrongType(f"a phase is named by a text or a LoopPhase, not by {shown(name)}")
    place = name.strip().lower()
    if place not in VALID_MOVES:
        raise InvalidInput(f"{name!r} is no phase; name one of {', '.join(_ORDER)}, or {COMPLETE}")
    return place


def _health(reports: list[AnomalyReport]) -> str:
    severities = {report.severity for report in reports}
    if AnomalySeverity.CRITICAL in severities:
        return "critical"
    if AnomalySeverity.HIGH in severities:
        return "warning"
    return "minor_issues" if reports else "healthy"
