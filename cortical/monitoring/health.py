"""How runs fare at this moment: looked up when asked, in the store that all processes share."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import field, frozen

from cortical.core.checks import checked, require_count, require_number
from cortical.core.errors import StoreError
from cortical.core.journal import Journal
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.monitoring import signs
from cortical.monitoring.findings import Finding, by_severity
from cortical.store.face import Face, Place


@frozen(kw_only=True)
class Thresholds:
    """From where on something is worth telling."""

    #: Share of a limit.
    near: float = field(default=0.8, validator=checked(require_number, above=0, most=1))
    #: Share of attempts, or of children, that failed; of the last so many, and of how many at least.
    error_rate: float = field(default=0.5, validator=checked(require_number, above=0, most=1))
    error_window: int = field(default=20, validator=checked(require_count))
    error_least: int = field(default=5, validator=checked(require_count))
    #: Iterations in a row that brought the same.
    stuck_turns: int = field(default=10, validator=checked(require_count, least=2))
    #: Seconds that a run may stay open; None for as long as it likes.
    most_seconds: float | None = field(default=None, validator=checked(require_number, or_none=True))
    #: Seconds that the store may take to answer.
    slow_seconds: float = field(default=0.5, validator=checked(require_number))


def check(
    place: Place, run_id: str | None = None, *, now: float | None = None, thresholds: Thresholds | None = None
) -> list[Finding]:
    """What is wrong, or may be, with the runs that are open; the gravest first, empty when all is well.

    * ``no_heartbeat``: the tree was driven, the driver's lease has run out, and something in it is still active.
    * ``overdue``: past its time limit, the seconds of its budget, or `most_seconds`.
    * ``stuck``: iterations that bring the same again and again, or an agent's own note that it is stuck.
    * ``error_rate``: too many of the latest attempts, or of the children that ended last, have failed.
    * ``near_limit``: more than a share of a limit is used: iterations, time, resources, budget.
    * ``store_slow``: the store took long to answer.
    * ``store_failing``: the store cannot be read; nothing else is then looked at.

    Args:
        place: a journal, or what has one, for checks that are made often: what it has read it does not read again.
        run_id: only this run and those below it; all trees, where none is given.
        now: seconds since the epoch; the journal's clock tells them, where they are not given.

    Raises:
        RunNotFound: no run has this id.
    """
    limits = thresholds or Thresholds()
    try:
        with Face(place, create=False) as face:
            journal = face.journal
            return by_severity(_check(journal, run_id, now, limits))
    except StoreError as error:
        return [_failing(error)]


def _check(journal: Journal, run_id: str | None, now: float | None, limits: Thresholds) -> list[Finding]:
    clock = journal.clock
    asked = clock.time()
    journal.store.roots(limit=1)
    answered = clock.time()
    found: list[Finding] = []
    if answered - asked > limits.slow_seconds:
        found.append(_slow(journal, answered - asked))
    if run_id is None:
        tops = [journal.refresh(root.id) for root in journal.store.roots(open_only=True)]
    else:
        tops = [journal.refresh(run_id)]
    for top in tops:
        found += _check_tree(journal, top, clock.time() if now is None else now, limits)
    return found


def _check_tree(journal: Journal, top: Run, now: float, limits: Thresholds) -> Iterator[Finding]:
    if top.reason is not None:
        return
    lease = journal.store.lease_of(top.tree.root.id)
    driven = lease is not None and lease.expires_at > now
    with journal.holding(top.tree):
        open_runs = list(top.tree.walk_open(top))
        yield from signs.no_heartbeat(top, open_runs, lease, now)
        for run in open_runs:
            until = now if driven or lease is None else run.tree.at
            yield from signs.overdue(run, now, until, limits.most_seconds)
            yield from signs.near_limit(run, now, until, limits.near)
            yield from signs.error_rate(run, limits.error_window, limits.error_least, limits.error_rate)
            yield from signs.noted_stuck(run)
    for run in open_runs:
        if run.status is Status.ACTIVE:
            yield from signs.same_again(journal, run, limits.stuck_turns)


def _slow(journal: Journal, seconds: float) -> Finding:
    return Finding(
        "high",
        "store_slow",
        f"{journal.store.name} took {seconds:.2f} s to answer",
        None,
        {"seconds": seconds},
        "see what else uses the disk, and how large the file has become",
    )


def _failing(error: StoreError) -> Finding:
    return Finding(
        "critical",
        "store_failing",
        f"the store cannot be read: {error}",
        None,
        {"error": type(error).__name__},
        "`cortical doctor` says what is wrong with a store; restore it from a copy if it is damaged",
    )
