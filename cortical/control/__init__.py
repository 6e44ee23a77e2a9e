"""Loops that repeat a body until a condition says stop, with durable state."""

from __future__ import annotations

from cortical.control.controller import LoopController
from cortical.control.handle import LoopHandle
from cortical.control.persistence import Change, StatePersistenceManager, StateTransaction
from cortical.control.results import Done, Iteration, LoopResult, State
from cortical.core.conditions import (
    Condition,
    ConditionRaised,
    Progress,
    cpu,
    errors,
    max_iterations,
    memory,
    open_files,
    resource,
    timeout,
    when,
)
from cortical.core.errors import LoopFailed
from cortical.engine.meter import Meter, ProcessMeter

__all__ = [
    "Change",
    "Condition",
    "ConditionRaised",
    "Done",
    "Iteration",
    "LoopController",
    "LoopFailed",
    "LoopHandle",
    "LoopResult",
    "Meter",
    "ProcessMeter",
    "Progress",
    "State",
    "StatePersistenceManager",
    "StateTransaction",
    "cpu",
    "errors",
    "max_iterations",
    "memory",
    "open_files",
    "resource",
    "timeout",
    "when",
]
