"""The signs by which health is judged, each a question about one run that is open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from cortical.core import budget
from cortical.core.digest import print_of
from cortical.core.events import Changed, Event, Moved, Noted
from cortical.core.figures import numbers
from cortical.core.going_on import way_on
from cortical.core.journal import Journal
from cortical.core.outcome import Failed
from cortical.core.phases import ITERATION, TURN_PLACES
from cortical.core.ports import Lease
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.core.topics import ATTEMPT, LIMITS, RESOURCES, RESULT, STUCK
from cortical.core.turns import seconds_driven, turns_before, turns_done
from cortical.monitoring.findings import Finding, Severity
from cortical.monitoring.turns import last_noted

#: How many events of a tree are looked at, from its end, for iterations that bring the same.
_MOST_EVENTS: Final = 2000
#: From this share of a limit on it is a matter of moments.
_VERY_NEAR: Final = 0.95


def no_heartbeat(top: Run, open_runs: Sequence[Run], lease: Lease | None, now: float) -> Iterator[Finding]:
    """Whether the tree was driven, and its driver has not been heard of since its lease ran out."""
    if lease is None or not lease.expires_at or lease.expires_at > now:
        return
    active = [run.id for run in open_runs if run.status is Status.ACTIVE]
    if not active:
        return
    silent = now - lease.expires_at
    yield Finding(
        "high",
        "no_heartbeat",
        f"{lease.holder} drove it, and has not been heard of for {silent:.0f} s since its lease ran out",
        top.id,
        {"holder": lease.holder, "silent_seconds": silent, "active": active[:5]},
        f"the driver has died or hangs: end it if it still runs, then take the work up again: {way_on(top)}",
    )


def overdue(run: Run, now: float, until: float, most_seconds: float | None) -> Iterator[Finding]:
    """Whether the run is past its time; `until` is when it was driven last."""
    worst = max(_times(run, now, until, most_seconds), key=lambda time: time[1] - time[2], default=None)
    if worst is None or worst[1] <= worst[2]:
        return
    name, took, limit = worst
    yield Finding(
        "high",
        "overdue",
        f"{run.kind} {run.name!r} has taken {took:.1f} s, {name} is {limit:g} s",
        run.id,
        {"limit": name, "seconds": took, "limit_seconds": limit},
        f"break it (`cortical break {run.id}`), or give it more time",
    )


def near_limit(run: Run, now: float, until: float, near: float) -> Iterator[Finding]:
    """Limits of which more than a share is used, and that are not passed."""
    for name, used, limit in [*_uses(run), *_times(run, now, until, None)]:
        if limit <= 0 or not near < used / limit <= 1:
            continue
        share = used / limit
        # Most loops are meant to reach their last iteration.
        severity: Severity = "low" if name == "max_iterations" else "high" if share >= _VERY_NEAR else "medium"
        yield Finding(
            severity,
            "near_limit",
            f"{run.kind} {run.name!r} has used {share:.0%} of its limit of {limit:g} {name}",
            run.id,
            {"limit": name, "used": used, "of": limit},
            "raise the limit, or let it finish with what there is",
        )


def error_rate(run: Run, window: int, least: int, most: float) -> Iterator[Finding]:
    """Whether too many of the latest attempts at iterations, or of the children that ended last, have failed."""
    for what, failed, tried in (("attempts", *_attempts(run, window)), ("children", *_children(run, window))):
        if tried >= least and failed / tried >= most:
            yield Finding(
                "high" if failed == tried else "medium",
                "error_rate",
                f"of the last {tried} {what} of {run.kind} {run.name!r}, {failed} failed",
                run.id,
                {"of": what, "failed": failed, "tried": tried},
                f"see what they failed with: `cortical log {run.id}`",
            )


def noted_stuck(run: Run) -> Iterator[Finding]:
    """Whether an agent has noted, in this turn or the one before, that it gets nowhere."""
    since = 0.0
    turns = 0
    for index in range(len(run.past or ()), -1, -1) if run.visit is not None else ():
        visit = run.visit_at(index)
        since = visit.entered_at
        turns += visit.place in TURN_PLACES
        if turns == 2:
            break
    for entry in islice(reversed(run.entries or ()), _MOST_EVENTS):
        if entry.at < since:
            return
        if entry.topic == STUCK:
            why = entry.value.get("why", "") if isinstance(entry.value, dict) else str(entry.value)
            suggestion = "change what it is asked, or break it; what it did is in its log"
            yield Finding("medium", "stuck", f"{run.kind} {run.name!r}: {why}", run.id, {"noted": why}, suggestion)
            return


def same_again(journal: Journal, run: Run, turns: int) -> Iterator[Finding]:
    """Whether the last iterations of a controlled loop all brought the same result and set the same state.

    Iterations that gave no result and set nothing say nothing either way.
    """
    if run.place != ITERATION or turns_done(run) < turns:
        return
    start = max(0, run.tree.position - _MOST_EVENTS)
    log = [event for event in journal.store.read(run.tree.root.id, start) if event.run_id == run.id]
    brought = _brought(log)[-turns:]
    if len(brought) < turns or not brought[-1] or any(one != brought[-1] for one in brought):
        return
    yield Finding(
        "medium",
        "stuck",
        f"the last {turns} iterations of {run.kind} {run.name!r} all brought the same result and state",
        run.id,
        {"turns": turns},
        "give it a condition that sees when nothing changes any more, or break it",
    )


def _brought(log: Sequence[Event]) -> list[tuple[bytes, ...]]:
    """What each finished iteration brought, oldest first; the first of them may have begun before this log does."""
    found: list[tuple[bytes, ...]] = []
    here: list[bytes] = []
    for event in log:
        match event:
            case Noted(topic=topic, value=value) if topic == RESULT:
                here.append(print_of(value))
            case Changed():
                here.append(print_of((event.set, event.removed)))
            case Moved(place=place) if place == ITERATION:
                found.append(tuple(here))
                here = []
    return found[1:] if found else []


def _uses(run: Run) -> Iterator[tuple[str, float, float]]:
    """What is used of limits that are no times: (name, used, limit)."""
    limits, told = numbers(last_noted(run, LIMITS)), numbers(last_noted(run, RESOURCES))
    for name, limit in limits.items():
        if name == "max_iterations":
            yield name, turns_before(run) + turns_done(run), limit
        elif name in told:
            yield name, told[name], limit
    account = run.account
    if account is not None and account.run_id == run.id:
        for name in budget.CONSUMED:
            if name in account.limit:
                yield name, account.limit[name] - account.available(name), account.limit[name]


def _times(run: Run, now: float, until: float, most_seconds: float | None) -> Iterator[tuple[str, float, float]]:
    """The times that a run may take: (what limits it, taken, limit), in seconds."""
    timeout = numbers(last_noted(run, LIMITS)).get("timeout")
    if timeout is not None:
        driven = seconds_driven(run, until)
        yield "timeout", max(0.0, until - run.started_at) if driven is None else driven, timeout
    account = run.account
    if account is not None and account.run_id == run.id and "seconds" in account.limit:
        yield "seconds", now - account.started_at, account.limit["seconds"]
    if most_seconds is not None:
        yield "most_seconds", now - run.started_at, most_seconds


def _attempts(run: Run, window: int) -> tuple[int, int]:
    """How many of the latest attempts at iterations failed, and of how many."""
    if not run.entries or run.visit is None:
        return 0, 0
    first = max(0, len(run.past or ()) - window)
    failed = 0
    for entry in reversed(run.entries[run.visit_at(first).first_entry :]):
        failed += entry.topic == ATTEMPT
    finished = len(run.past or ()) - first + any(entry.topic == RESULT for entry in run.entries_here)
    tried = failed + finished
    return failed, tried


def _children(run: Run, window: int) -> tuple[int, int]:
    """How many of the children that ended last failed, and of how many."""
    ended = [
        (child.ended_at, isinstance(child.outcome, Failed)) for child in run.children if child.ended_at is not None
    ]
    latest: list[tuple[Any, bool]] = sorted(ended, key=lambda one: one[0])[-window:]
    return sum(failed for _, failed in latest), len(latest)
