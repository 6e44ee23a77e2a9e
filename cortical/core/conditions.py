"""When to stop, for every face: small values over one read-only progress, joined with ``|`` and ``&``.

::

    stop = max_iterations(100) | timeout(60) | memory(mib=512) | when(lambda progress: progress.last_result == "done")

Joined with ``|`` the first that holds, in the order they stand, ends the work with its own reason. Joined with ``&``
all have to hold. Each answers why, so that the reason reaches the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attrs import field, frozen

from cortical.core.checks import require_callable, require_count, require_number, require_seconds, require_text, shown
from cortical.core.errors import CorticalError, InvalidInput, WrongType
from cortical.core.status import TerminationReason

#: The resources that are measured: resident MiB, CPU seconds of the process and its children, files open.
MEMORY: Final = "memory"
CPU: Final = "cpu"
OPEN_FILES: Final = "open_files"
#: The limits that are of no resource, but of the progress itself.
_FIGURES: Final = frozenset({"max_iterations", "timeout", "errors"})
_ENDS_WELL: Final = frozenset(
    {TerminationReason.COMPLETED, TerminationReason.MAX_ITERATIONS, TerminationReason.CONDITION_MET}
)


@frozen(slots=False)  # made for every iteration: without slots in a third of the time
class Progress:
    """How far repeated work has come, at one moment.

    `iterations` are those that are finished. `elapsed` are the seconds it was driven, without those it was paused or
    nobody drove it. `failures_in_row` counts attempts that failed since the last that did not, `failures` all of them.
    `resources` holds what is used by name; `last_result` what the last finished iteration gave, None before the first.
    """

    iterations: int = 0
    elapsed: float = 0.0
    failures: int = 0
    failures_in_row: int = 0
    resources: Mapping[str, float] = field(factory=dict)
    last_result: Any = None
    _read_state: Callable[[], Mapping[str, Any]] = dict

    @property
    def state(self) -> Mapping[str, Any]:
        """The work's own keys: a copy."""
        return self._read_state()


@frozen
class Met:
    """A condition that holds: which, with what reason the work ends, and the figures in a sentence."""

    name: str
    reason: TerminationReason
    details: str

    @property
    def ends_well(self) -> bool:
        """Whether the work is completed by it, not failed or abandoned."""
        return self.reason in _ENDS_WELL


class Condition:
    """Says whether repeated work should stop. Make one with the functions of this module, or from this class.

    A subclass gives `name` and `met`.
    """

    name: str

    def met(self, progress: Progress) -> Met | None:
        """What holds now, or None."""
        raise NotImplementedError(f"{type(self).__name__} does not say when it is met; give it a method `met`")

    def limits(self) -> Iterator[tuple[str, float]]:
        """The limits that alone would end the work, by name: what there is to be near to. None for most."""
        return iter(())

    @property
    def calls_out(self) -> bool:
        """Whether somebody else's code is asked."""
        return True

    @property
    def measures(self) -> bool:
        """Whether it could look at what is used of resources."""
        return self.calls_out or any(name not in _FIGURES for name, _ in self.limits())

    def __or__(self, other: Condition) -> Condition:
        return AnyOf((*_parts(self, AnyOf), *_parts(_require_condition(other), AnyOf)))

    def __and__(self, other: Condition) -> Condition:
        return AllOf((*_parts(self, AllOf), *_parts(_require_condition(other), AllOf)))


@frozen
class Limit(Condition):
    """A figure of the progress that reaches (``>=``) or exceeds (``>``) a limit."""

    name: str
    limit: float
    reason: TerminationReason
    unit: str = ""
    exceeds: bool = False

    def met(self, progress: Progress) -> Met | None:
        used = self.used(progress)
        if used is None or not (used > self.limit if self.exceeds else used >= self.limit):
            return None
        return Met(self.name, self.reason, f"{self.name} {used:g}{self.unit}, limit {self.limit:g}{self.unit}")

    def used(self, progress: Progress) -> float | None:
        """What is used of the limit; None while it is not known."""
        match self.name:
            case "max_iterations":
                return progress.iterations
            case "timeout":
                return progress.elapsed
            case "errors":
                return progress.failures_in_row
        return progress.resources.get(self.name)

    def limits(self) -> Iterator[tuple[str, float]]:
        yield self.name, self.limit

    @property
    def calls_out(self) -> bool:
        return False


class ConditionRaised(CorticalError, RuntimeError):
    """A function that was to say whether to stop raised; `name` is the condition's, the cause what it raised."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(f"condition {name!r} raised {type(error).__name__}: {error}; mend it, or take it off")
        self.name = name


@frozen
class When(Condition):
    """A function of the progress: it answers True, or why in a text, when the work should stop.

    `met` raises `ConditionRaised` when the function raises.
    """

    name: str
    function: Callable[[Progress], object] = field(repr=lambda function: getattr(function, "__qualname__", "…"))

    def met(self, progress: Progress) -> Met | None:
        try:
            answer = self.function(progress)
        except Exception as error:
            raise ConditionRaised(self.name, error) from error
        if not answer:
            return None
        return Met(self.name, TerminationReason.CONDITION_MET, answer if isinstance(answer, str) else self.name)


@frozen
class _Joined(Condition):
    """Several conditions."""

    conditions: tuple[Condition, ...]

    @property
    def calls_out(self) -> bool:
        return any(condition.calls_out for condition in self.conditions)

    @property
    def measures(self) -> bool:
        return any(condition.measures for condition in self.conditions)


@frozen
class AnyOf(_Joined):
    """The first that holds, in order."""

    conditions: tuple[Condition, ...] = ()

    @property
    def name(self) -> str:  # type: ignore[override]
        return " | ".join(condition.name for condition in self.conditions)

    def met(self, progress: Progress) -> Met | None:
        for condition in self.conditions:
            found = condition.met(progress)
            if found is not None:
                return found
        return None

    def limits(self) -> Iterator[tuple[str, float]]:
        for condition in self.conditions:
            yield from condition.limits()


@frozen
class AllOf(_Joined):
    """All at once; their reason if they have one in common, else ``condition_met``."""

    @property
    def name(self) -> str:  # type: ignore[override]
        return " & ".join(condition.name for condition in self.conditions)

    def met(self, progress: Progress) -> Met | None:
        found: list[Met] = []
        for condition in self.conditions:
            one = condition.met(progress)
            if one is None:
                return None
            found.append(one)
        reasons = {one.reason for one in found}
        reason = reasons.pop() if len(reasons) == 1 else TerminationReason.CONDITION_MET
        return Met(self.name, reason, " and ".join(one.details for one in found))


#: Never stops anything.
NEVER: Final = AnyOf()


def max_iterations(count: int) -> Condition:
    """So many iterations, exactly."""
    return Limit("max_iterations", require_count(count, "max_iterations", 0), TerminationReason.MAX_ITERATIONS)


def timeout(seconds: float) -> Condition:
    """So many seconds of being driven; an iteration under way is interrupted."""
    return Limit("timeout", require_seconds(seconds, "timeout"), TerminationReason.TIMEOUT, " s")


def errors(limit: int = 3) -> Condition:
    """So many attempts in a row that failed."""
    return Limit("errors", require_count(limit, "the limit of errors"), TerminationReason.ERROR)


def resource(name: str, limit: float) -> Condition:
    """More than `limit` used of what is told, or measured, under this name."""
    name = require_text(name, "a resource's name")
    require_number(limit, f"the limit of {name!r}", most=2**63)
    if name in _FIGURES:
        raise InvalidInput(f"{name!r} is no resource but a condition of its own: {name}({limit:g})")
    return Limit(name, limit, TerminationReason.RESOURCE_LIMIT, exceeds=True)


def memory(*, mib: float) -> Condition:
    """More resident memory of this process than so many MiB (2**20 bytes)."""
    return resource(MEMORY, mib)


def cpu(*, seconds: float) -> Condition:
    """More CPU time of this process and its children, since the work was taken up, than so many seconds."""
    return resource(CPU, seconds)


def open_files(count: int) -> Condition:
    """More files open in this process than so many."""
    return resource(OPEN_FILES, count)


def when(function: Callable[[Progress], object], *, name: str | None = None) -> Condition:
    """A function of the `Progress` that answers True, or a text that says why, when the work should stop."""
    require_callable(function)
    told = name or getattr(function, "__name__", "") or "condition"
    return When(require_text(told, "a condition's name"), function)


def _require_condition(value: object) -> Condition:
    if not isinstance(value, Condition):
        raise WrongType(f"conditions are joined with conditions, not with {shown(value)}")
    return value


def _parts(condition: Condition, joined: type[_Joined]) -> tuple[Condition, ...]:
    return condition.conditions if isinstance(condition, joined) else (condition,)
