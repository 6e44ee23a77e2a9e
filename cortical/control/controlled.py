"""What a controller and the driving of its loop share: how it is driven, and what was told and asked for meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from cortical.core.conditions import AnyOf, Condition, errors
from cortical.core.errors import WrongType
from cortical.core.journal import Journal
from cortical.core.policy import Retry
from cortical.core.run import Run
from cortical.engine.meter import Meter
from cortical.recovery import ErrorClass, classify, newest_life

if TYPE_CHECKING:
    from cortical.recovery import LoopRecoveryManager


@frozen
class Settings:
    """How a loop is driven. It is changed by another taking its place.

    `conditions` are those that end it, by name, in the order they were added; `checkpoint_every` says before every how
    manieth iteration, and after how many seconds, a checkpoint is made.
    """

    retry: Retry
    meter: Meter
    recovery: LoopRecoveryManager | None
    lease_seconds: float
    sleep: Callable[[float], object] | None
    random: Callable[[], float]
    conditions: Mapping[str, Condition] = {}
    iteration_timeout: float | None = None
    checkpoint_every: tuple[int | None, float | None] = (None, None)

    @property
    def condition(self) -> Condition:
        """All conditions in the order they were added, and after them as many errors in a row as are tried."""
        given = tuple(self.conditions.values())
        limited = any(name == "errors" for condition in given for name, _ in condition.limits())
        return AnyOf(given if limited else (*given, errors(self.retry.max_attempts)))

    def classify(self, error: BaseException) -> ErrorClass:
        """The class of an error of the body, by the recovery manager's table or the usual one."""
        return classify(error) if self.recovery is None else self.recovery.classify(error)


class Controlled:
    """A loop in its newest life, its settings, and what passes between its body, its driving and its controller."""

    def __init__(self, journal: Journal, run_id: str, settings: Settings) -> None:
        self.journal = journal
        self.settings = settings
        self.told_usage: dict[str, float] = {}
        #: Set when this process pauses, resumes or stops the loop; whoever waits for such a thing clears it.
        self.changed = threading.Event()
        #: Why its own body has asked to stop it.
        self.stop_reason: str | None = None
        self._first_id = run_id

    @property
    def run(self) -> Run:
        """The run that the loop is now."""
        return newest_life(self.journal, self._first_id)

    def add(self, condition: Condition) -> None:
        """End it when this holds too; another condition of the same name is replaced, and keeps its place."""
        self.settings = evolve(self.settings, conditions=with_condition(self.settings.conditions, condition))

    def take_stop(self) -> str | None:
        """Why the body has asked to stop, once; None if it has not."""
        reason, self.stop_reason = self.stop_reason, None
        return reason


def with_condition(conditions: Mapping[str, Condition], condition: object) -> dict[str, Condition]:
    """The conditions, and this one; another of the same name is replaced, and keeps its place.

    Raises:
        WrongType: it is no condition.
    """
    if not isinstance(condition, Condition):
        raise WrongType(f"a termination condition is a Condition, not {condition!r}")
    return {**conditions, condition.name: condition}
