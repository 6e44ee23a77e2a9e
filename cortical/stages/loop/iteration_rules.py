"""What may happen to the iterations of a loop; each is one record.

Every rule is called with the process, under the lock of its tree. What an iteration is given is put together there too,
so that it is as the record says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cortical.core import rules
from cortical.core.copies import detached
from cortical.core.errors import RunStateError
from cortical.core.events import Changed, Checkpointed, Event, Noted, Restored
from cortical.core.kinds import ITERATION
from cortical.core.outcome import Abandoned, Failed, Failure, Ok, Outcome, Skipped
from cortical.core.phases import WORK
from cortical.core.policy import ONCE, Retry
from cortical.core.run import Run
from cortical.core.status import TerminationReason
from cortical.core.topics import RESULT, UNDONE
from cortical.stages.loop import continuing, decisions
from cortical.stages.loop.continuing import Stop
from cortical.stages.loop.records import Iteration, own
from cortical.stages.loop.stage_rules import require_iteration_done, require_running, with_failed
from cortical.stages.loop.views import Books, StageView, attempt_of, number_of
from cortical.stages.loop.words import CARRY, KEPT, STOP


def start(
    process: Run,
    at: float,
    books: Books,
    stage: str,
    wanted: bool | None,
    made: list[Iteration],
) -> Sequence[Event]:
    """Start the next iteration, or the same again; `made` gets what it is given."""
    view = books.looping(process, stage, "start an iteration")
    require_running(process, view, "start an iteration")
    if view.open_iteration is not None:
        raise RunStateError(
            f"stage {stage!r} may not start an iteration: {view.runs[-1].name} is still open; complete it first",
            view.runs[-1].id,
        )
    stop = continuing.stop_before_next(view, at, wanted)
    if stop is not None:
        raise RunStateError(f"stage {stage!r} may not start an iteration: {stop.details}; complete_loop", view.run.id)
    return _started(view, at, made)


def _started(view: StageView, at: float, made: list[Iteration]) -> Sequence[Event]:
    run = view.run
    number, attempt = view.next_visit
    given = decisions.parameters(view)
    metadata: dict[str, Any] = {"number": number, "attempt": attempt}
    data = _portion(view, given, metadata)
    events: list[Event] = []
    kept = next(reversed(run.checkpoints.values())) if run.checkpoints else None
    # The data of a run are replaced when they change: the same object, the same data.
    if kept is not None and kept.data is run.data:
        metadata["checkpoint"] = kept.seq
    else:
        metadata["checkpoint"] = run.seq + 1
        events.append(Checkpointed(run.id, run.seq + 1, at, f"iteration {number}"))
    if (paused := continuing.waited(view, at)) > 0:
        metadata["waited"] = paused
    name = f"iteration {number}"
    events += rules.start_below(run, at, view.next_id, ITERATION, name, WORK, metadata=metadata)
    good = view.last_good
    made[:] = [
        Iteration(
            view.name,
            number,
            number - 1,
            continuing.total_of(view, given),
            data,
            detached(given),
            attempt,
            None if good is None else own(good.value),
            own(view.data.get(CARRY)),
            view.next_id,
        )
    ]
    return events


def _portion(view: StageView, given: Mapping[str, Any], metadata: dict[str, Any]) -> Any:
    """The part of the data that the next iteration gets; None where there are none."""
    length = view.source.length
    if length is None:
        return None
    batch = continuing.batch_size(view, given)
    begin = view.next_start
    metadata["span"] = begin if batch is None else [begin, min(begin + batch, length)]
    return _cut(view, metadata["span"])


def _cut(view: StageView, span: int | list[int]) -> Any:
    """One piece of the data, or several; a copy."""
    items = view.source.items
    if isinstance(span, int):
        return own(items[span])
    part = items[slice(*span)]
    return part if isinstance(part, range) else own(list(part))


def given_again(view: StageView) -> Iteration:
    """What the iteration under way was given: for whoever goes on with it in another process."""
    run = view.runs[-1]
    metadata = run.metadata
    number = number_of(run)
    given = decisions.parameters(view, number)
    good = view.last_good
    return Iteration(
        view.name,
        number,
        number - 1,
        continuing.total_of(view, given),
        _cut(view, metadata["span"]) if "span" in metadata else None,
        detached(given),
        attempt_of(run),
        None if good is None else own(good.value),
        own(view.data.get(CARRY)),
        run.id,
    )


def require_iteration(process: Run, books: Books, stage: str, verb: str) -> tuple[StageView, Run]:
    """The stage, and its iteration under way.

    Raises:
        RunStateError: none is.
    """
    view = books.looping(process, stage, verb)
    run = view.open_iteration
    if run is None:
        raise RunStateError(f"stage {stage!r} may not {verb}: no iteration is open; start_iteration first", view.run.id)
    return view, run


def complete(
    process: Run,
    at: float,
    books: Books,
    stage: str,
    outcome: Outcome,
    reason: TerminationReason,
    results: Any,
    carry: Any,
    substage: str | None = None,
) -> Sequence[Event]:
    """End the iteration under way; after a failure, what on_error says is part of the same record.

    `substage` is the one, still open, that has made it fail: it ends with the same failure.
    """
    view, run = require_iteration(process, books, stage, "complete an iteration")
    if type(outcome) is Ok:
        require_iteration_done(view, "be completed as a success")
        if not continuing.is_late(view, at, run):
            events = rules.end(run, at, outcome, reason)
            if carry is KEPT:
                return events
            return (*events, Changed(view.run.id, view.run.seq + 1, at, {CARRY: carry}))
        outcome, reason = _late(view, at, run), TerminationReason.TIMEOUT
    assert isinstance(outcome, Failed)
    failed = Failed(outcome.error, outcome.causes, attempt_of(run))
    events = _failed(view, at, run, failed, reason, results, carry)
    return with_failed(view.steps, substage, outcome, reason, events)


def _late(view: StageView, at: float, run: Run) -> Failed:
    taken = continuing.iteration_seconds(view, at, run)
    return Failed(
        Failure("TimeoutError", f"{run.name} took {taken:g} s; iteration_timeout is {view.loop.iteration_timeout:g} s")
    )


def _failed(
    view: StageView, at: float, run: Run, failed: Failed, reason: TerminationReason, results: Any, carry: Any
) -> Sequence[Event]:
    loop, stage = view.loop, view.run
    notes = [] if results is None else [(RESULT, results)]
    events = list(rules.noting(run, at, notes, rules.end_with_children, failed, reason))
    again = loop.on_error in ("retry", "rollback") and is_tried_again(view, run, failed)
    back = loop.on_error == "rollback"
    said: list[Event] = []
    if again or back:
        said.append(_undone(view, at, run, failed.error.message, again=again, back=back))
    if back:
        said.append(_restored(view, at, run, len(said)))
    elif carry is not KEPT:
        said.append(Changed(stage.id, stage.seq + 1 + len(said), at, {CARRY: carry}))
    if not again and (stop := _stop_after(view, run, failed)) is not None:
        said.append(Changed(stage.id, stage.seq + 1 + len(said), at, {STOP: stop.kept()}))
    return (*events, *said)


def retry_of(view: StageView) -> Retry:
    """How often an iteration that fails is tried."""
    loop = view.loop
    if loop.retry is not None:
        return loop.retry
    return Retry() if loop.on_error == "retry" else ONCE


def is_tried_again(view: StageView, run: Run, failed: Failed) -> bool:
    """Whether the policy has the iteration that failed so tried again."""
    retry = retry_of(view)
    return attempt_of(run) < retry.max_attempts and retry.covers_outcome(failed)


def _stop_after(view: StageView, run: Run, failed: Failed) -> Stop | None:
    """What a failure for good makes of the loop."""
    loop = view.loop
    if loop.on_error == "fail" or (loop.on_error == "retry" and loop.tolerated_failures is None):
        times = "" if attempt_of(run) == 1 else f" {attempt_of(run)} times"
        return Stop(TerminationReason.ERROR, f"{run.name} failed{times}: {failed.error.message}", failed=True)
    tally = view.tally  # in which this one is still open
    tally.failed += 1
    return continuing.too_many_failed(view, tally, continuing.total_of(view, decisions.parameters(view)))


def undo(process: Run, at: float, books: Books, stage: str, why: str, *, back: bool) -> Sequence[Event]:
    """Have the newest iteration tried again; with `back`, its effects on the loop are undone too."""
    verb = "roll back an iteration" if back else "retry an iteration"
    view = books.looping(process, stage, verb)
    run = view.last
    if run is None or view.comes_again:
        again = "the last one is to be tried again already" if run is not None else "none has been started"
        raise RunStateError(f"stage {stage!r} may not {verb}: {again}", view.run.id)
    stopped = view.stopped()
    if stopped is not None and not stopped["failed"]:
        raise RunStateError(f"stage {stage!r} may not {verb}: its loop was ended: {stopped['details']}", view.run.id)
    events: list[Event] = []
    if run.reason is None:
        outcome = Abandoned(why or ("it was rolled back" if back else "it is tried again"))
        events += rules.end_with_children(run, at, outcome, TerminationReason.MANUAL)
    events.append(_undone(view, at, run, why, again=True, back=back))
    if back:
        events.append(_restored(view, at, run, 1))
    elif stopped is not None:
        events.append(Changed(view.run.id, view.run.seq + 2, at, {}, (STOP,)))
    return events


def _undone(view: StageView, at: float, run: Run, why: str, *, again: bool, back: bool) -> Noted:
    told = {"run": run.id, "iteration": number_of(run), "again": again, "rolled_back": back, "reason": why}
    return Noted(view.run.id, view.run.seq + 1, at, UNDONE, told)


def _restored(view: StageView, at: float, run: Run, ahead: int) -> Restored:
    number = run.metadata["checkpoint"]
    rules.require_checkpoint(view.run, number)
    return Restored(view.run.id, view.run.seq + 1 + ahead, at, number)


def skip(process: Run, at: float, books: Books, stage: str, why: str) -> Sequence[Event]:
    """Leave the iteration under way unfinished for good."""
    _, run = require_iteration(process, books, stage, "skip an iteration")
    return rules.end_with_children(run, at, Skipped(why), TerminationReason.MANUAL)
