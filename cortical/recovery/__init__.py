"""Checkpoints, what kind of trouble an error is, and what follows it: for runs of every kind."""

from __future__ import annotations

from cortical.recovery.checkpoints import Checkpoint, CheckpointManager
from cortical.recovery.classification import Classification, ErrorClass, ErrorRule, classify
from cortical.recovery.history import Recovery, recovery_history
from cortical.recovery.lives import newest_life
from cortical.recovery.manager import LoopRecoveryManager
from cortical.recovery.owners import Interrupted, interrupted
from cortical.recovery.policy import PROCESS_DIED, RecoveryPolicy, recover
from cortical.recovery.strategies import (
    Case,
    RecoveryResult,
    Situation,
    escalate,
    give_up,
    go_on,
    restart,
    restore_latest,
    restore_with_usage_cleared,
    retry,
    roll_back,
    skip,
)
from cortical.recovery.target import Recoverable, RunTarget

__all__ = [
    "PROCESS_DIED",
    "Case",
    "Checkpoint",
    "CheckpointManager",
    "Classification",
    "ErrorClass",
    "ErrorRule",
    "Interrupted",
    "LoopRecoveryManager",
    "Recoverable",
    "Recovery",
    "RecoveryPolicy",
    "RecoveryResult",
    "RunTarget",
    "Situation",
    "classify",
    "escalate",
    "give_up",
    "go_on",
    "interrupted",
    "newest_life",
    "recover",
    "recovery_history",
    "restart",
    "restore_latest",
    "restore_with_usage_cleared",
    "retry",
    "roll_back",
    "skip",
]
