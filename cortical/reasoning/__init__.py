"""Loops that cycle through question, answer, produce and verify, alone and in trees."""

from __future__ import annotations

from cortical.core.phases import LoopPhase
from cortical.core.status import TerminationReason
from cortical.reasoning.cognitive_loop import CognitiveLoop, LoopStatus
from cortical.reasoning.loop_context import LoopContext
from cortical.reasoning.manager import CognitiveLoopManager
from cortical.reasoning.nested_loop import NestedLoopExecutor
from cortical.reasoning.phases import LoopTransition, PhaseContext
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
