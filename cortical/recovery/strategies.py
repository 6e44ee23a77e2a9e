"""Ways to go on after a failure, each a plain function.

A strategy does what it does through the case's `target`, and answers with what it did, a text for each action; with
None when it does not apply, and the next in line is tried; with an empty tuple when nothing is to be done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from attrs import field, frozen

from cortical.core.checks import shown
from cortical.core.errors import WrongType
from cortical.core.outcome import Abandoned, Failed, told
from cortical.core.policy import Retry
from cortical.core.run import Checkpoint, Run
from cortical.core.status import TerminationReason
from cortical.recovery.classification import ErrorClass
from cortical.recovery.lives import latest_checkpoint
from cortical.recovery.target import Mode, Recoverable

#: The strategy's name under which it is recorded that nothing was done.
GIVE_UP = "give_up"


@frozen
class Situation:
    """What has happened to a run.

    Args:
        reason: why it ends; None when nobody ended it: its process died.
        error: the exception, or the outcome that was recorded, if it fails.
        kind: the error's class; found by the policy's table where it is not given.
        details: what else is known, in a sentence.
        by_hand: whether a person asks, rather than whoever drives the run.
        checkpoint: which checkpoint to roll back to, where one was asked for.
        mode: how its data are restored.
    """

    reason: TerminationReason | None
    error: BaseException | Failed | None = None
    kind: ErrorClass | None = None
    details: str = ""
    by_hand: bool = False
    checkpoint: Checkpoint | None = None
    mode: Mode = "replace"

    @classmethod
    def of(cls, run: Run, *, by_hand: bool = False) -> Situation:
        """That of a run, from what was recorded of its end; without an end its process died."""
        match run.outcome:
            case Failed() as failed:
                return cls(run.reason, failed, details=failed.error.message, by_hand=by_hand)
            case Abandoned(reason=why):
                return cls(run.reason, details=why, by_hand=by_hand)
        return cls(run.reason, by_hand=by_hand)


def _told(result: RecoveryResult, attribute: Any, value: Any) -> None:
    if not isinstance(value, str):
        raise WrongType(f"{attribute.name} of a RecoveryResult is told in text, not by {shown(value)}")


def _texts(actions: Sequence[str]) -> tuple[str, ...]:
    told = tuple(actions) if isinstance(actions, list | tuple) else None
    if told is None or not all(isinstance(action, str) for action in told):
        raise WrongType(f"actions of a RecoveryResult are texts in a tuple, not {shown(actions)}")
    return told


@frozen
class RecoveryResult:
    """What came of a try to recover a run: by which strategy, what was done, and why not where nothing was.

    `run_id` is the run that goes on: another one where the first had ended. None when it is not recovered.
    """

    success: bool
    strategy: str = field(validator=_told)
    actions: tuple[str, ...] = field(default=(), converter=_texts)
    details: str = field(default="", validator=_told)
    run_id: str | None = None


@frozen
class Case:
    """What a strategy is given: the run, what happened to it, and how often it was tried since it last got on."""

    target: Recoverable
    situation: Situation
    retry: Retry
    random: Callable[[], float]
    tried: tuple[str, ...] = ()


Answer: TypeAlias = tuple[str, ...] | RecoveryResult | None
Strategy: TypeAlias = Callable[[Case], Answer]


def retry(case: Case) -> Answer:
    """Try again where it stands, each time after a longer wait; not once the attempts are used up.

    How many there are the policy's `retry` says. They are counted anew when the run gets on, and when somebody recovers
    it by hand.
    """
    attempt = case.tried.count("retry") + 2
    if attempt > case.retry.max_attempts or not _covered(case.retry, case.situation.error):
        return None
    seconds = case.retry.seconds_before(attempt, case.random)
    case.target.go_on(seconds)
    return (f"try again in {seconds:.3g} s (attempt {attempt} of {case.retry.max_attempts})",)


def restore_latest(case: Case) -> Answer:
    """Give it the data of its latest checkpoint, and go on. Not where it has none."""
    latest = latest_checkpoint(case.target.run)
    return None if latest is None else _restored(case, latest)


def restore_with_usage_cleared(case: Case) -> Answer:
    """As `restore_latest`, with what it uses counted anew."""
    done = restore_latest(case)
    if not isinstance(done, tuple):
        return done
    case.target.clear_usage()
    return (*done, "clear what it used")


def roll_back(case: Case) -> Answer:
    """Give it the data of the checkpoint that was asked for, and go on. Not where none was."""
    asked_for = case.situation.checkpoint
    return None if asked_for is None else _restored(case, asked_for)


def restart(case: Case) -> Answer:
    """Give it the data it had when it was begun, and go on; its iterations are counted on."""
    case.target.restart()
    case.target.go_on(0.0)
    return ("restart with the data it was begun with",)


def skip(case: Case) -> Answer:
    """Leave the iteration at which it stands, and go on with the next."""
    case.target.skip(f"skipped by recovery: {why(case.situation)}")
    return ("skip the iteration",)


def go_on(case: Case) -> Answer:
    """Go on with the iteration at which it stands."""
    case.target.go_on(0.0)
    return ("go on where it stands",)


def escalate(case: Case) -> Answer:
    """Block it, with the reason, until somebody has seen to it."""
    told = why(case.situation)
    case.target.block(f"needs somebody: {told}")
    return (f"block: {told}",)


def give_up(case: Case) -> Answer:
    """Do nothing: it ends as it would have ended."""
    return ()


def _restored(case: Case, checkpoint: Checkpoint) -> Answer:
    case.target.restore(checkpoint, case.situation.mode)
    case.target.go_on(0.0)
    label = f" ({checkpoint.label})" if checkpoint.label else ""
    return (f"restore checkpoint {checkpoint.seq}{label}",)


def _covered(retry: Retry, error: BaseException | Failed | None) -> bool:
    match error:
        case None:
            return True
        case Failed():
            return retry.covers_outcome(error)
    return retry.covers(error, Exception)


def why(situation: Situation) -> str:
    """What has happened, in a few words: the error, else what is known, else the reason."""
    match situation.error:
        case Failed(error=failure):
            return str(failure)
        case BaseException() as error:
            return told(error)
    reason = "its process died" if situation.reason is None else situation.reason.value
    return situation.details or reason
