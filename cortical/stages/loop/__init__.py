"""Stages that loop: a process of stages and substages, iterations, decisions, and what came of them, durably."""

from __future__ import annotations

from cortical.stages.loop.config import LoopConfig, ProcessConfig, StageConfig, SubstageConfig
from cortical.stages.loop.decisions import Decision
from cortical.stages.loop.defaults import default_config
from cortical.stages.loop.driving import Work
from cortical.stages.loop.handler import StageHandler
from cortical.stages.loop.reading import ConfigInvalid
from cortical.stages.loop.records import (
    Iteration,
    IterationRecord,
    LoopStart,
    LoopState,
    LoopSummary,
    ProcessProgress,
    StageProgress,
    StageRecord,
)

__all__ = [
    "ConfigInvalid",
    "Decision",
    "Iteration",
    "IterationRecord",
    "LoopConfig",
    "LoopStart",
    "LoopState",
    "LoopSummary",
    "ProcessConfig",
    "ProcessProgress",
    "StageConfig",
    "StageHandler",
    "StageProgress",
    "StageRecord",
    "SubstageConfig",
    "Work",
    "default_config",
]
