"""Recovers loops, and runs of every other kind: by the table, by handlers of the user's, from checkpoints."""

from __future__ import annotations

import random as _random
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias, cast, runtime_checkable

from attrs import evolve

from cortical.core.checks import require_callable, require_seconds, shown
from cortical.core.errors import InvalidInput, RunStateError, WrongType
from cortical.core.outcome import Failed
from cortical.core.ports import Clock
from cortical.core.status import TerminationReason
from cortical.engine.limited import LimitedCaller
from cortical.recovery import strategies
from cortical.recovery.checkpoints import kept_checkpoint, require_mode
from cortical.recovery.classification import Error, ErrorClass
from cortical.recovery.history import Recovery, recovery_history
from cortical.recovery.lives import lives
from cortical.recovery.owners import Interrupted, interrupted, why_not_recoverable
from cortical.recovery.policy import Key, RecoveryPolicy, recover, require_key
from cortical.recovery.strategies import GIVE_UP, Answer, Case, RecoveryResult, Situation, Strategy
from cortical.recovery.target import Mode, Recoverable, RunTarget
from cortical.store.face import Face, Place

Handler: TypeAlias = Callable[[Recoverable, Situation], RecoveryResult | bool | None]


@runtime_checkable
class HasRecoverable(Protocol):
    """Whatever drives a run and can say what recovery may do to it: a controller."""

    def recoverable(self) -> Recoverable:
        """What recovery may do to its run."""
        ...


Subject: TypeAlias = str | HasRecoverable | Recoverable


class LoopRecoveryManager(Face):
    """Recovers the runs of a store.

    Args:
        store: a path or URL, an open store, a journal, or another face to share; in memory by default.
        policy: which strategies follow what, and how often.
        handler_seconds: how long a handler may take.
        clock: tells the time.
        random: numbers from 0 to 1, for the jitter of waits.

    What is recovered is given as a run's id, which stands for its newest life, or as whatever drives it and has a
    method `recoverable` (a controller). Given to a controller, it takes the loop up again when that is about to fail,
    once `set_auto_recovery(True)` was called.
    """

    def __init__(
        self,
        store: Place | None = None,
        *,
        policy: RecoveryPolicy | None = None,
        handler_seconds: float = 30.0,
        clock: Clock = time,
        random: Callable[[], float] = _random.random,
    ) -> None:
        if policy is not None and not isinstance(policy, RecoveryPolicy):
            raise WrongType(f"policy is a RecoveryPolicy, not {shown(policy)}")
        self.policy = policy or RecoveryPolicy()
        #: Whether whoever drives a run should ask before it records that the run has failed.
        self.automatic = False
        self._seconds = require_seconds(handler_seconds, "handler_seconds")
        self._random = random
        self._handlers: dict[Key, Handler] = {}
        super().__init__(store, clock=clock)

    def recover_from_failure(self, subject: Subject) -> RecoveryResult:
        """Recover a run that has failed or was stopped by a limit, or whose process has died, as the table says.

        In place of one that has ended another run goes on (`RecoveryResult.run_id`). Where there is nothing to recover
        from, the answer says so, and nothing is recorded.

        Raises:
            RunNotFound: no run has this id.
            LockTimeout: another thread held the tree for too long; its name is in the message.
            StoreError: the try could not be recorded.
        """
        target = self._target(subject)
        run = target.journal.refresh(target.run.id)
        refusal = why_not_recoverable(target.journal, run)
        if refusal:
            return RecoveryResult(False, GIVE_UP, (), refusal)
        return self.recover(target, Situation.of(run, by_hand=True))

    def recover_from_checkpoint(
        self, subject: Subject, checkpoint_id: str | None = None, *, mode: Mode = "replace"
    ) -> RecoveryResult:
        """Let a run go on with the data of a checkpoint, the latest by default, however it stands; no limit counts.

        Raises:
            CheckpointNotFound: there is no checkpoint of this id.
            InvalidInput: it is another run's, or no checkpoint's id.
        """
        target = self._target(subject)
        family = lives(target.journal, target.run.id)
        kept = None if checkpoint_id is None else kept_checkpoint(target.journal, checkpoint_id)
        if kept is not None and kept.run_id not in {run.id for run in family}:
            raise InvalidInput(f"checkpoint {checkpoint_id!r} is not one of run {target.run.id!r}")
        situation = Situation.of(target.run, by_hand=True)
        situation = evolve(situation, checkpoint=kept, mode=require_mode(mode))
        strategy = strategies.restore_latest if kept is None else strategies.roll_back
        return recover(target, situation, self.policy, only=strategy, random=self._random)

    def recover(
        self,
        target: Recoverable,
        situation: Situation | TerminationReason | None,
        error: BaseException | Failed | None = None,
        details: str = "",
    ) -> RecoveryResult:
        """For whoever drives a run and is about to record its end: try to recover it, handlers first.

        Args:
            situation: all of it, or only the reason for which the run is to end.
            error, details: what it fails with, and what else is known, where only the reason is given.
        """
        if not isinstance(situation, Situation):
            situation = Situation(situation, error, details=details)
        situation = self.policy.classified(situation)
        handler = next((self._handlers[key] for key in self.policy.keys(situation) if key in self._handlers), None)
        first = None if handler is None else _by_handler(handler, self._seconds)
        return recover(target, situation, self.policy, first=first, random=self._random)

    def register_recovery_handler(self, reason: Key, handler: Handler) -> None:
        """Ask `handler(target, situation)` before the table is followed; it replaces one registered before.

        It recovers through the methods of the target, and answers with a `RecoveryResult` or True when it did, with
        False when the run is to end, with None to leave it to the table. It is called in a thread of its own with no
        lock held. One that raises, or takes longer than `handler_seconds`, is a try that failed; what it still does to
        the target is refused.

        Args:
            reason: a `TerminationReason` or its value, an `ErrorClass`, which goes before a reason, or `PROCESS_DIED`.
        """
        require_callable(handler)
        self._handlers[require_key(reason)] = handler

    def get_recovery_history(self, loop_id: str) -> list[Recovery]:
        """Every try to recover a run, failed ones too, over all its lives, oldest first.

        Raises:
            RunNotFound: no run has this id.
        """
        return recovery_history(self.journal, loop_id)

    def set_auto_recovery(self, on: bool, max_recoveries: int = 3, within_seconds: float = 60.0) -> None:
        """Say whether runs that are about to fail are taken up again, and how often.

        Args:
            max_recoveries, within_seconds: as for `RecoveryPolicy`; they hold for recoveries by hand too.
        """
        self.policy = evolve(self.policy, max_recoveries=max_recoveries, within_seconds=within_seconds)
        self.automatic = bool(on)

    def classify(self, error: Error) -> ErrorClass:
        """The class of an error, by the policy's table."""
        return self.policy.classification.classify(error)

    def interrupted(self) -> list[Interrupted]:
        """The trees that were driven and are open, with no living owner; newest first."""
        return interrupted(self.journal)

    def _target(self, subject: Subject) -> Recoverable:
        if isinstance(subject, str):
            return RunTarget(self.journal, subject)
        if isinstance(subject, HasRecoverable):
            return subject.recoverable()
        if isinstance(subject, Recoverable):
            return subject
        raise WrongType(
            f"what is recovered is a run's id, or what drives it and is `recoverable`, not {shown(subject)}"
        )


class _Lent:
    """A target for as long as a handler has time."""

    def __init__(self, target: Recoverable) -> None:
        self._target = target
        self._over = False

    def __getattr__(self, name: str) -> Any:
        if self._over:
            raise RunStateError("the time of this handler is up: what it does counts for nothing", self._target.run.id)
        return getattr(self._target, name)

    def take_back(self) -> None:
        self._over = True


def _by_handler(handler: Handler, seconds: float) -> Strategy:
    """A handler as a strategy."""

    def ask_handler(case: Case) -> Answer:
        lent = _Lent(case.target)
        try:
            with LimitedCaller("cortical-recovery-handler") as caller:
                answer = caller.call(seconds, handler, cast("Recoverable", lent), case.situation)
        finally:
            lent.take_back()
        return _as_answer(answer)

    ask_handler.__name__ = HANDLER
    return ask_handler


#: What a handler is called in the history, where it gives its strategy no name.
HANDLER: Final = "handler"


def _as_answer(answer: object) -> Answer:
    if answer is None or isinstance(answer, RecoveryResult):
        return answer
    if answer is True:
        return RecoveryResult(True, HANDLER, ("recovered by a handler",))
    if answer is False:
        return RecoveryResult(False, HANDLER, (), "the handler answered that it is not to be recovered")
    raise WrongType(f"a recovery handler answers True, False, None or a RecoveryResult, not {shown(answer)}")
