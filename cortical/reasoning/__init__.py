"""Loops that cycle through question, answer, produce and verify, alone and in trees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cortical.core.lazy import found_later
from cortical.core.phases import LoopPhase
from cortical.core.status import TerminationReason
from cortical.reasoning.cognitive_loop import CognitiveLoop, LoopStatus
from cortical.reasoning.loop_context import LoopContext
from cortical.reasoning.manager import CognitiveLoopManager
from cortical.reasoning.nested_loop import NestedLoopExecutor
from cortical.reasoning.phases import LoopTransition, PhaseContext

if TYPE_CHECKING:
    from cortical.reasoning.serializer import LoopStateSerializer
    from cortical.reasoning.validator import LoopValidator, Severity, ValidationResult
    from cortical.reasoning.verifier import AnomalyReport, AnomalySeverity, AnomalyType, QAPVVerifier

__all__ = [
    "AnomalyReport",
    "AnomalySeverity",
    "AnomalyType",
    "CognitiveLoop",
    "CognitiveLoopManager",
    "LoopContext",
    "LoopPhase",
    "LoopStateSerializer",
    "LoopStatus",
    "LoopTransition",
    "LoopValidator",
    "NestedLoopExecutor",
    "PhaseContext",
    "QAPVVerifier",
    "Severity",
    "TerminationReason",
    "ValidationResult",
]

if not TYPE_CHECKING:
    # A process that drives loops seldom audits them or packs them up.
    __getattr__, __dir__ = found_later(
        __name__,
        {
            "AnomalyReport": "cortical.reasoning.verifier",
            "AnomalySeverity": "cortical.reasoning.verifier",
            "AnomalyType": "cortical.reasoning.verifier",
            "LoopStateSerializer": "cortical.reasoning.serializer",
            "LoopValidator": "cortical.reasoning.validator",
            "QAPVVerifier": "cortical.reasoning.verifier",
            "Severity": "cortical.reasoning.validator",
            "ValidationResult": "cortical.reasoning.validator",
        },
    )
