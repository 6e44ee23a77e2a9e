"""Whether another iteration comes, how many there will be, and what stopped those that do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from cortical.core.checks import require_count
from cortical.core.copies import detached
from cortical.core.run import Run
from cortical.core.status import TerminationReason
from cortical.stages.loop import decisions
from cortical.stages.loop.records import LoopState, own
from cortical.stages.loop.views import StageView, Tally
from cortical.stages.loop.words import CARRY, COUNT, GOES_ON, INITIAL_DATA, LOOPED


@frozen
class Stop:
    """Why no other iteration comes, and whether the loop has failed by it."""

    reason: TerminationReason
    details: str
    failed: bool = False

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Stop:
        """The one that a stage's data tell of."""
        return cls(TerminationReason(kept["reason"]), kept["details"], kept["failed"])

    def kept(self) -> dict[str, Any]:
        """As it is kept among a stage's data."""
        return {"reason": self.reason.value, "details": self.details, "failed": self.failed}


def stop_before_next(view: StageView, at: float, wanted: bool | None) -> Stop | None:
    """What stands against another iteration; None when there is to be one.

    Args:
        wanted: what the loop's predicate answered; None where it has none, or it was not asked.
    """
    loop = view.loop
    kept = view.stopped()
    if kept is not None:
        return Stop.of(kept)
    if loop.timeout is not None and (taken := loop_seconds(view, at)) >= loop.timeout:
        details = f"timeout {loop.timeout:g} s: the loop has taken {taken:g} s"
        return Stop(TerminationReason.TIMEOUT, details, loop.on_limit == "fail")
    if view.comes_again:
        return None
    if view.data.get(GOES_ON) is False:
        return Stop(TerminationReason.CONDITION_MET, "the loop's condition was set to end it")
    return _natural_end(view) or _unwanted(view, wanted) or _limit(view)


def _natural_end(view: StageView) -> Stop | None:
    done = view.next_number - 1
    count = count_of(view)
    if count is not None and done >= count:
        return Stop(TerminationReason.COMPLETED, f"all {count} iterations are over")
    length = view.source.length
    if length is not None and view.next_start >= length:
        return Stop(TerminationReason.COMPLETED, f"all {length} items were worked through")
    return None


def _unwanted(view: StageView, wanted: bool | None) -> Stop | None:
    name = view.loop.continue_condition
    if name is None or wanted:
        return None
    if wanted is False:
        return Stop(TerminationReason.CONDITION_MET, f"{name!r} does not hold any more")
    told = last_results(view)
    if isinstance(told, Mapping) and name in told:
        return None if told[name] else Stop(TerminationReason.CONDITION_MET, f"the last results say no {name!r}")
    if view.source.length is not None:
        return None  # the data themselves say when there are no more
    return Stop(TerminationReason.CONDITION_MET, f"the last results have no {name!r}")


def _limit(view: StageView) -> Stop | None:
    most = view.loop.max_iterations
    if most is None or view.next_number <= most:
        return None
    details = f"max_iterations {most}: as many were started"
    return Stop(TerminationReason.MAX_ITERATIONS, details, view.loop.on_limit == "fail")


def judged(view: StageView, stop: Stop) -> Stop:
    """The same stop, or the failure that the iterations up to now amount to."""
    if stop.failed:
        return stop
    tally = view.tally
    if tally.failed and not tally.completed:
        return Stop(TerminationReason.ERROR, f"none was completed, and {tally.failed} failed", True)
    return too_many_failed(view, tally, tally.completed + tally.failed) or stop


def too_many_failed(view: StageView, tally: Tally, of: int | None) -> Stop | None:
    """The failure of a loop of which more iterations failed than it tolerates, `of` so many; None while that holds."""
    most = view.loop.tolerated_failures
    if most is None:
        return None
    if isinstance(most, int):
        return _failure(f"{tally.failed} iterations failed, tolerated are {most}") if tally.failed > most else None
    if of is None or tally.failed <= most * of:
        return None
    return _failure(f"{tally.failed} of {of} iterations failed, tolerated is a share of {most:g}")


def _failure(details: str) -> Stop:
    return Stop(TerminationReason.ERROR, details, True)


def last_results(view: StageView) -> Any:
    """The results of the last completed iteration; the initial data before the first."""
    good = view.last_good
    return view.data.get(INITIAL_DATA) if good is None else good.value


def state_of(view: StageView) -> LoopState:
    """What a predicate is asked about."""
    tally = view.tally
    found = {name: decisions.effective(view, name) for name in view.config.decisions}
    return LoopState(
        view.name,
        tally.completed,
        tally.failed,
        own(last_results(view)),
        own(view.data.get(CARRY)),
        detached(found),
        own(view.data.get(INITIAL_DATA)),
    )


# How many, and how much


def total_of(view: StageView, given: Mapping[str, Any]) -> int | None:
    """How many iterations there will be, with these parameters; None where it cannot be known."""
    found = count_of(view)
    length = view.source.length
    if length is not None:
        left = -(-(length - view.next_start) // (batch_size(view, given) or 1))
        by_data = view.next_number - 1 + left
        found = by_data if found is None else min(found, by_data)
    most = view.loop.max_iterations
    return most if found is not None and most is not None and most < found else found


def count_of(view: StageView) -> int | None:
    """How many iterations a fixed loop has; None for another."""
    loop = view.loop
    return view.data.get(COUNT, loop.count) if loop.type == "fixed" else None


def batch_size(view: StageView, given: Mapping[str, Any]) -> int | None:
    """How many pieces of its data an iteration with these parameters gets; None: one, as it is.

    Raises:
        WrongType, InvalidInput: a parameter or a decision says something else than a number from 1 on.
    """
    found = given.get("batch_size", view.loop.batch_size)
    return None if found is None else require_count(found, "batch_size", 1)


# How long


def loop_seconds(view: StageView, at: float) -> float:
    """How long a loop has taken so far, without pauses."""
    run = view.run
    visit = run.past[-1] if run.place == LOOPED and run.past else run.visit
    assert visit is not None
    if visit.left_at is not None:
        return max(0.0, visit.left_at - visit.entered_at - visit.waited)
    waiting = 0.0 if run.waits_since is None else at - run.waits_since
    return max(0.0, at - visit.entered_at - visit.waited - waiting)


def waited(view: StageView, at: float) -> float:
    """How long a stage has been paused in all."""
    run = view.run
    return run.waited + (0.0 if run.waits_since is None else at - run.waits_since)


def is_late(view: StageView, at: float, iteration: Run) -> bool:
    """Whether an iteration has taken longer than it may."""
    limit = view.loop.iteration_timeout
    return limit is not None and iteration_seconds(view, at, iteration) > limit


def iteration_seconds(view: StageView, at: float, iteration: Run) -> float:
    """How long an iteration has taken so far, without pauses."""
    return at - iteration.started_at - (waited(view, at) - float(iteration.metadata.get("waited", 0.0)))
