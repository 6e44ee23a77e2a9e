"""Which strategies follow what, and the one mechanism that tries them.

The same mechanism serves whoever drives a run, just before its end would be recorded, and a person afterwards. Every
try is a note in the run's log, and the limits are counted from these notes: they hold across restarts.
"""

from __future__ import annotations

import random as _random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from attrs import evolve, field, frozen

from cortical.core import rules
from cortical.core.checks import checked, require_callable, require_count, require_seconds, shown
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.outcome import Failed, told
from cortical.core.policy import Retry
from cortical.core.run import Run
from cortical.core.status import TerminationReason
from cortical.core.topics import RECOVERY
from cortical.recovery import strategies
from cortical.recovery.classification import Classification, ErrorClass
from cortical.recovery.history import Recovery, recoveries
from cortical.recovery.lives import lives
from cortical.recovery.strategies import GIVE_UP, Case, RecoveryResult, Situation, Strategy
from cortical.recovery.target import Planning, Recoverable

#: Stands in the table for runs that nobody ended.
PROCESS_DIED: Final = "process died"

Key: TypeAlias = ErrorClass | TerminationReason | str
Line: TypeAlias = tuple[Strategy, ...]

_RESTORE_OR_RESTART: Final = (strategies.restore_latest, strategies.restart)
_RESTORE_CLEARED: Final = (strategies.restore_with_usage_cleared, strategies.give_up)

#: What follows what, unless a policy says otherwise. For a reason that does not stand here: nothing.
TABLE: Final[Mapping[Key, Line]] = MappingProxyType(
    {
        ErrorClass.TRANSIENT: (strategies.retry, strategies.restore_latest, strategies.give_up),
        ErrorClass.RESOURCE: _RESTORE_CLEARED,
        ErrorClass.DEPENDENCY: (strategies.escalate,),
        ErrorClass.STATE: _RESTORE_OR_RESTART,
        ErrorClass.PROGRAMMING: (strategies.give_up,),
        ErrorClass.UNKNOWN: _RESTORE_OR_RESTART,
        TerminationReason.ERROR: _RESTORE_OR_RESTART,
        TerminationReason.TIMEOUT: (strategies.restore_latest, strategies.go_on),
        TerminationReason.RESOURCE_LIMIT: _RESTORE_CLEARED,
        TerminationReason.DEPENDENCY_FAILURE: (strategies.escalate,),
        PROCESS_DIED: (strategies.go_on,),
    }
)
_THREE_ATTEMPTS: Final = Retry(max_attempts=3, delay=1.0, jitter=0.1)
#: Exceptions by which a person or the interpreter ends a process, by name: nothing is to be recovered from them.
_MEANT: Final = frozenset({"KeyboardInterrupt", "SystemExit", "GeneratorExit", "asyncio.exceptions.CancelledError"})


@frozen
class RecoveryPolicy:
    """Which strategies follow what, and how often.

    Args:
        table: a line of strategies for a class of errors, for a reason, or for `PROCESS_DIED`; `with_line` replaces
            one. For the reason `error` the class of the error decides, if there is a line for it.
        retry: how often, and after what waits, the strategy `retry` tries again.
        max_recoveries, within_seconds: no more than so many tries within so many seconds; and, for whoever drives the
            run, no more than so many without the run having come to another iteration, whatever time they take.
        classification: the table from errors to classes.
    """

    table: Mapping[Key, Line] = TABLE
    retry: Retry = _THREE_ATTEMPTS
    max_recoveries: int = field(default=3, validator=checked(require_count, least=0))
    within_seconds: float = field(default=60.0, validator=checked(require_seconds))
    classification: Classification = field(factory=Classification)

    def with_line(self, key: Key, *line: Strategy) -> RecoveryPolicy:
        """The same policy with another line of strategies for a class, a reason or `PROCESS_DIED`.

        Raises:
            WrongType, InvalidInput: the key is none of these, or a strategy cannot be called.
        """
        for strategy in line:
            require_callable(strategy)
        return evolve(self, table=MappingProxyType({**self.table, require_key(key): tuple(line)}))

    def classified(self, situation: Situation) -> Situation:
        """The situation with the class of its error, if it has one and no class was given."""
        if situation.error is None or situation.kind is not None:
            return situation
        return evolve(situation, kind=self.classification.classify(situation.error))

    def keys(self, situation: Situation) -> tuple[Key, ...]:
        """What the situation goes by, the closest first: an error by its class, all else by its reason."""
        if situation.reason is None and situation.error is None:
            return (PROCESS_DIED,)
        reason = situation.reason or TerminationReason.ERROR
        if reason is TerminationReason.ERROR and situation.kind is not None:
            return (situation.kind, reason)
        return (reason,)

    def line(self, situation: Situation) -> Line:
        """The strategies to try, in order; one of them at least."""
        if _was_meant(situation.error):
            return (strategies.give_up,)
        lines = (self.table[key] for key in self.keys(situation) if key in self.table)
        return next(lines, (strategies.give_up,))


def require_key(key: object) -> Key:
    """`key`, or the reason that a text names.

    Raises:
        WrongType, InvalidInput: it is no class, reason or `PROCESS_DIED`.
    """
    if isinstance(key, ErrorClass | TerminationReason) or key == PROCESS_DIED:
        return key
    if not isinstance(key, str):
        raise WrongType(
            f"what is recovered from is a TerminationReason, an ErrorClass or PROCESS_DIED, not {shown(key)}"
        )
    names = [reason.value for reason in TerminationReason]
    if key not in names:
        raise InvalidInput(f"no run ends for the reason {key!r}; there are {', '.join(names)}")
    return TerminationReason(key)


def recover(
    target: Recoverable,
    situation: Situation,
    policy: RecoveryPolicy | None = None,
    *,
    first: Strategy | None = None,
    only: Strategy | None = None,
    random: Callable[[], float] = _random.random,
) -> RecoveryResult:
    """Try to recover a run, and record the try, whatever comes of it.

    Args:
        first: asked before the strategies of the policy.
        only: asked in place of the strategies of the policy, and of its limits.
        random: numbers from 0 to 1, for the jitter of waits.

    A strategy that raises is a try that failed; no other is tried after it. Nothing waits here but for locks.

    Raises:
        LockTimeout: the run's tree was not to be had in time; nothing was done, or it was done and not recorded.
        StoreError: the try could not be recorded.
    """
    policy = policy or RecoveryPolicy()
    situation = policy.classified(situation)
    family = lives(target.journal, target.run.id)
    refused = "" if only else _limit_reached(family, situation, policy, target.journal.clock.time())
    if refused:
        return _recorded(target, situation, RecoveryResult(False, GIVE_UP, (), refused))
    tried = tuple(recovery.strategy for recovery in _without_progress(family))
    case = Case(target, situation, policy.retry, random, tried)
    line = policy.line(situation) if only is None else (only,)
    for strategy in line if first is None else (first, *line):
        result = _tried(strategy, case)
        if result is not None:
            return result
    return _recorded(target, situation, RecoveryResult(False, GIVE_UP, (), "no strategy applies"))


def _tried(strategy: Strategy, case: Case) -> RecoveryResult | None:
    """What came of one strategy, recorded; None, and nothing recorded, when it does not apply."""
    target, situation = case.target, case.situation
    name = getattr(strategy, "__name__", type(strategy).__name__)
    try:
        if isinstance(target, Planning):
            target.plan_anew()
        answer = strategy(case)
        if answer is None:
            return None
        result = answer if isinstance(answer, RecoveryResult) else _result(name, answer, situation)
        if result.success and isinstance(target, Planning):
            return evolve(result, run_id=target.carry_out(_note(situation, result)))
    except Exception as error:  # noqa: BLE001  # strategies and handlers may be the user's; what came of it is told
        result = RecoveryResult(False, name, (), told(error))
    return _recorded(target, situation, result)


def _result(name: str, actions: object, situation: Situation) -> RecoveryResult:
    if not isinstance(actions, tuple) or not all(isinstance(action, str) for action in actions):
        raise WrongType(
            f"strategy {name} answers with the texts of what it did, in a tuple, or None; not {shown(actions)}"
        )
    if actions:
        return RecoveryResult(True, name, actions, strategies.why(situation))
    return RecoveryResult(False, GIVE_UP, (), strategies.why(situation))


def _recorded(target: Recoverable, situation: Situation, result: RecoveryResult) -> RecoveryResult:
    run_id = target.run.id
    target.journal.insist(run_id, rules.annotate, RECOVERY, _note(situation, result))
    return evolve(result, run_id=run_id) if result.success else result


def _note(situation: Situation, result: RecoveryResult) -> dict[str, Any]:
    return {
        "strategy": result.strategy,
        "success": result.success,
        "class": None if situation.kind is None else situation.kind.value,
        "reason": PROCESS_DIED if situation.reason is None else situation.reason.value,
        "actions": list(result.actions),
        "details": result.details,
        "by_hand": situation.by_hand,
    }


def _limit_reached(family: list[Run], situation: Situation, policy: RecoveryPolicy, now: float) -> str:
    """Why no further try is made; empty when one may be."""
    limit = policy.max_recoveries
    after = now - policy.within_seconds
    recent = sum(one.strategy != GIVE_UP and one.at > after for run in family for one in recoveries(run))
    if recent >= limit:
        return f"the limit of {limit} recoveries within {policy.within_seconds:g} s is reached"
    if not situation.by_hand and len(_without_progress(family)) >= limit:
        return f"the limit of {limit} recoveries without getting on is reached"
    return ""


def _without_progress(family: list[Run]) -> list[Recovery]:
    """The tries since the run came to where it stands, the newest first; those before a recovery by hand left out."""
    found: list[Recovery] = []
    for run in reversed(family):
        came = 0 if run.visit is None else run.visit.seq
        for recovery in reversed(recoveries(run)):
            if recovery.seq < came and run.past:
                return found
            if recovery.by_hand:
                return found
            if recovery.strategy != GIVE_UP:
                found.append(recovery)
        if run.past:
            return found
    return found


def _was_meant(error: BaseException | Failed | None) -> bool:
    if isinstance(error, BaseException):
        return not isinstance(error, Exception)
    return error is not None and error.error.type in _MEANT
