"""Where a run can stand in its life, which moves are allowed, and why it ended."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Status(Enum):
    """Where a run stands in its life; the last four are its ends."""

    NOT_STARTED = "not_started"
    ACTIVE = "active"
    PAUSED = "paused"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    ABANDONED = "abandoned"

    __hash__ = object.__hash__  # members are single; Enum's own hash costs a call in Python

    @property
    def ended(self) -> bool:
        """Whether nothing can follow."""
        return not MOVES[self]


_ENDS: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.SKIPPED, Status.ABANDONED})

#: The one table of allowed moves; a status that leads nowhere is an end.
MOVES: Final[dict[Status, frozenset[Status]]] = {
    Status.NOT_STARTED: frozenset({Status.ACTIVE, Status.FAILED, Status.SKIPPED, Status.ABANDONED}),
    Status.ACTIVE: frozenset({Status.PAUSED, Status.BLOCKED}) | _ENDS,
    Status.PAUSED: frozenset({Status.ACTIVE}) | _ENDS,
    Status.BLOCKED: frozenset({Status.ACTIVE}) | _ENDS,
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.SKIPPED: frozenset(),
    Status.ABANDONED: frozenset(),
}


class TerminationReason(Enum):
    """Why a run ended; every end has exactly one."""

    SUCCESS = "success"
    USER_APPROVED = "user_approved"
    BUDGET_EXHAUSTED = "budget_exhausted"
    QUESTION_INVALID = "question_invalid"
    ESCALATED = "escalated"
    CRISIS = "crisis"
    COMPLETED = "completed"
    MAX_ITERATIONS = "max_iterations"
    CONDITION_MET = "condition_met"
    TIMEOUT = "timeout"
    RESOURCE_LIMIT = "resource_limit"
    ERROR = "error"
    DEPENDENCY_FAILURE = "dependency_failure"
    MANUAL = "manual"

    __hash__ = object.__hash__
