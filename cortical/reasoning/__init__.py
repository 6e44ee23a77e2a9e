"""Loops that cycle through question, answer, produce and verify, alone and in trees."""

from __future__ import annotations

from cortical.core.status import TerminationReason
from cortical.reasoning.cognitive_loop import CognitiveLoop, CognitiveLoopManager, LoopStatus
from cortical.reasoning.nested_loop import LoopContext, NestedLoopExecutor
from cortical.reasoning.phases import LoopPhase, LoopTransition, PhaseContext

__all__ = [
    "CognitiveLoop",
    "CognitiveLoopManager",
    "LoopContext",
    "LoopPhase",
    "LoopStatus",
    "LoopTransition",
    "NestedLoopExecutor",
    "PhaseContext",
    "TerminationReason",
]
