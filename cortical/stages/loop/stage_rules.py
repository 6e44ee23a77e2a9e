"""What may happen to the stages of a process and to their substages; each is one record.

Every rule is called with the process, under the lock of its tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from cortical.core import rules
from cortical.core.checks import meant, require_flag, shown
from cortical.core.errors import InvalidInput, RunStateError, WrongType
from cortical.core.events import Ended, Event
from cortical.core.kinds import STAGE, STEP
from cortical.core.outcome import Failed, Failure, Ok, Outcome, Skipped
from cortical.core.phases import WORK
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.stages.loop.continuing import is_late
from cortical.stages.loop.views import Books, Line, StageView
from cortical.stages.loop.words import CARRY, KEPT, LOOPED

_ACTIVE = Status.ACTIVE
_FAILED = (Status.FAILED, Status.ABANDONED)


def require_running(process: Run, view: StageView, verb: str) -> None:
    """Refuse what `verb` says while the process or the stage is paused, or blocked."""
    if process.status is not _ACTIVE:
        raise rules.not_active(process, verb)
    if view.run.status is not _ACTIVE:
        raise _refused(view.run, f"stage {view.name!r}", verb, f"it is {view.run.status.value}; resume it first")


# Stages


def start_stage(process: Run, at: float, books: Books, name: str) -> Sequence[Event]:
    """Start a stage, if those that have to be over before it are. One that failed may be started anew."""
    config = books.config.stage(name)
    if process.status is not _ACTIVE:
        raise rules.not_active(process, "start a stage")
    view = books.stage(process, name)
    if view is not None and view.run.status not in _FAILED:
        standing = "has ended" if view.run.reason is not None else "has been started already"
        raise _refused(view.run, f"stage {name!r}", "start", f"it {standing}: {view.run.status.value}")
    line = books.process(process)
    if config.requires_previous:
        _require_over(line, f"stage {name!r}", books.config.before[name], process)
    return rules.start_below(process, at, line.next_id, STAGE, name, WORK)


def complete_stage(
    process: Run,
    at: float,
    books: Books,
    name: str,
    outcome: Outcome,
    reason: TerminationReason,
    substage: str | None = None,
) -> Sequence[Event]:
    """End a stage. With success only when all that it needs was done; else what is open below it is ended first.

    `substage` is the one, still open, that has made it fail: it ends with the same failure.
    """
    view = books.open(process, name, "be completed")
    run = view.run
    if isinstance(outcome, Ok):
        _require_done(view)
        events = rules.end(run, at, outcome, reason)
    else:
        ended = rules.end_with_children(run, at, outcome, reason)
        events = with_failed(view, substage, outcome, reason, ended)
    return (*events, *_process_end(process, at, books, name, outcome))


def skip_stage(process: Run, at: float, books: Books, name: str, why: str) -> Sequence[Event]:
    """Leave a stage out, or leave it as it stands; what is open below it is ended first."""
    config = books.config.stage(name)
    rules.require_open(process, "skip a stage")
    view = books.stage(process, name)
    line = books.process(process)
    outcome, reason = Skipped(why), TerminationReason.MANUAL
    if view is None or view.run.status in _FAILED:
        if config.requires_previous:
            _require_over(line, f"stage {name!r}", books.config.before[name], process)
        events = _skipped(process, at, line, STAGE, name, outcome)
    else:
        rules.require_open(view.run, "be skipped")
        events = rules.end_with_children(view.run, at, outcome, reason)
    return (*events, *_process_end(process, at, books, name, outcome))


def complete_process(process: Run, at: float, outcome: Outcome, reason: TerminationReason) -> Sequence[Event]:
    """End a process; with success only when no stage of it is open."""
    if isinstance(outcome, Ok):
        return rules.end(process, at, outcome, reason)
    return rules.end_with_children(process, at, outcome, reason)


def _require_done(view: StageView) -> None:
    run, name = view.run, f"stage {view.name!r}"
    if view.config.loop is None:
        _require_steps(view, view, name, "be completed")
        return
    stopped = view.stopped()
    if run.place != LOOPED:
        raise _refused(run, name, "be completed", "its loop has not been completed; complete_loop first")
    if stopped is not None and stopped["failed"]:
        why = f"its loop has failed: {stopped['details']}; complete it with success=False"
        raise _refused(run, name, "be completed as a success", why)


def _process_end(process: Run, at: float, books: Books, name: str, outcome: Outcome) -> Iterator[Event]:
    """The end of the process, when this stage was the last of all; a failed one that is not optional may be mended."""
    line = books.process(process)
    ends = process.open_children - (name in line.by_name and line.by_name[name].reason is None)
    if ends:
        return
    for other, config in books.config.stages.items():
        run = line.by_name.get(other)
        good = isinstance(outcome, Ok | Skipped) if other == name else line.is_good(other)
        over = other == name or (run is not None and run.reason is not None)
        if not good and not (over and config.optional):
            return
    ended = rules.end_subtree(process, at, Ok(None), TerminationReason.SUCCESS)
    yield from (event for event in ended if event.run_id in (process.id, process.parent_id))


# Substages


def start_substage(process: Run, at: float, books: Books, stage: str, substage: str) -> Sequence[Event]:
    """Start a substage, if those before it are over; in a loop, of the iteration under way."""
    view, line = _steps(process, books, stage, substage, "start a substage")
    require_running(process, view, "start a substage")
    before = line.by_name.get(substage)
    if before is not None and before.status is not Status.FAILED:
        standing = f"it is {before.status.value} already"
        raise _refused(before, _told(view, line, substage), "start", standing)
    if view.config.loop is not None and is_late(view, at, line.run):
        limit = view.config.loop.iteration_timeout
        raise _refused(
            line.run, _told(view, line, substage), "start", f"its iteration has taken more than {limit:g} s; end it"
        )
    needed = view.config.before[substage]
    if needed:
        for name in needed:
            if not line.is_good(name):
                _require_over(line, _told(view, line, substage), needed, line.run)
    return rules.start_below(line.run, at, line.next_id, STEP, substage, WORK)


def complete_substage(
    process: Run,
    at: float,
    books: Books,
    stage: str,
    substage: str,
    outcome: Outcome,
    reason: TerminationReason,
    carried: Any = KEPT,
) -> Sequence[Event]:
    """End a substage that is under way; what it means to carry on is kept with it until the iteration is over."""
    view, line = _steps(process, books, stage, substage, "complete a substage")
    run = line.by_name.get(substage)
    if run is None or run.reason is not None:
        why = "it has not been started" if run is None else f"it has ended: {run.status.value}"
        raise _refused(line.run, _told(view, line, substage), "be completed", why)
    events = rules.end(run, at, outcome, reason)
    return events if carried is KEPT else (*events, *rules.change(line.run, at, {CARRY: carried}))


def skip_substage(process: Run, at: float, books: Books, stage: str, substage: str, why: str) -> Sequence[Event]:
    """Leave a substage out, or leave it as it stands."""
    view, line = _steps(process, books, stage, substage, "skip a substage")
    run = line.by_name.get(substage)
    outcome = Skipped(why)
    if run is None or run.status is Status.FAILED:
        return _skipped(line.run, at, line, STEP, substage, outcome)
    if run.reason is not None:
        raise _refused(run, _told(view, line, substage), "be skipped", f"it has ended: {run.status.value}")
    return rules.end(run, at, outcome, TerminationReason.MANUAL)


def require_iteration_done(view: StageView, verb: str) -> None:
    """Refuse to call an iteration a success while a substage that it needs is not done, or one is open."""
    _require_steps(view, view.steps, f"{view.steps.run.name} of {view.name!r}", verb)


def _require_steps(view: StageView, line: Line, what: str, verb: str) -> None:
    missing = [name for name in view.config.required if not line.is_good(name)]
    if missing:
        names = ", ".join(map(repr, missing))
        raise _refused(
            line.run, what, verb, f"{names} not done; complete or skip what is missing, or give success=False"
        )
    if line.run.open_children:
        names = ", ".join(repr(run.name) for run in line.runs if run.reason is None) or "a run below it"
        raise _refused(line.run, what, verb, f"{names} is still open; complete or skip it first")


def _steps(process: Run, books: Books, stage: str, substage: str, verb: str) -> tuple[StageView, Line]:
    """The stage, and the substages among which this one is: the stage's own, or those of the iteration under way."""
    view = books.open(process, stage, verb)
    if not isinstance(substage, str) or substage not in view.config.substages:
        raise _unknown(view, substage)
    if view.config.loop is None:
        return view, view
    if view.open_iteration is None:
        books.looping(process, stage, verb)
        raise _refused(view.run, f"stage {stage!r}", verb, "no iteration is open; start_iteration first")
    return view, view.steps


def _unknown(view: StageView, substage: object) -> Exception:
    if not isinstance(substage, str):
        return WrongType(f"a substage is named by a text, not by {shown(substage)}")
    return InvalidInput(f"stage {view.name!r} has no substage {substage!r}{meant(substage, view.config.substages)}")


def _skipped(parent: Run, at: float, line: Line, kind: str, name: str, outcome: Skipped) -> Sequence[Event]:
    if parent.account is not None:
        rules.require_room(parent, at, 1)
    started = rules.start(line.next_id, at, kind, name, parent_id=parent.id)
    return (*started, Ended(line.next_id, 2, at, outcome, TerminationReason.MANUAL))


def _require_over(line: Line, what: str, needed: Sequence[str], run: Run) -> None:
    missing = [name for name in needed if not line.is_good(name)]
    if missing:
        names = ", ".join(map(repr, missing))
        raise _refused(run, what, "start", f"{names} should be completed or skipped before it")


def _told(view: StageView, line: Line, substage: str) -> str:
    where = f"stage {view.name!r}" if line is view else f"{line.run.name} of {view.name!r}"
    return f"substage {substage!r} in {where}"


def _refused(run: Run, what: str, verb: str, why: str) -> RunStateError:
    return RunStateError(f"{what} may not {verb}: {why}", run.id)


# Outcomes


def with_failed(
    line: Line, substage: str | None, outcome: Outcome, reason: TerminationReason, events: Sequence[Event]
) -> Sequence[Event]:
    """The same events, but the substage of this name ends so."""
    step = None if substage is None else line.by_name.get(substage)
    if step is None:
        return events
    return [
        replace(event, outcome=outcome, reason=reason)
        if isinstance(event, Ended) and event.run_id == step.id
        else event
        for event in events
    ]


def outcome_of(success: object, value: Any, error: object, what: str) -> tuple[Outcome, TerminationReason]:
    """How something ends that was completed so.

    Raises:
        WrongType: `success` is neither True nor False, or the error is none.
        InvalidInput: a success has an error.
    """
    if require_flag(success, "success"):
        if error is not None:
            raise InvalidInput(f"a success has no error, but {error!r} was given; give success=False")
        return Ok(value), TerminationReason.SUCCESS
    if error is None or isinstance(error, str):
        text = error or f"{what} was completed without success"
        return Failed(Failure("cortical.stages.loop.NoSuccess", text)), TerminationReason.ERROR
    if not isinstance(error, BaseException):
        raise WrongType(f"an error is an exception or a text, not {shown(error)}")
    return Failed.of(error), TerminationReason.ERROR
