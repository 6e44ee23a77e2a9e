"""The lives of a run: one that has ended stays ended, and is recovered by another run that goes on in its place.

The old run's log says which (``continued_as``), the new one's metadata whose place it takes (``recovers``) and how
many iterations were finished before (``iterations_before``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cortical.core import rules
from cortical.core.copies import detached
from cortical.core.errors import RunNotFound, RunStateError
from cortical.core.events import Changed, Moved, Started
from cortical.core.journal import Journal
from cortical.core.run import Checkpoint, Run
from cortical.core.topics import RECOVERY
from cortical.core.transaction import Transaction, together
from cortical.core.turns import ITERATIONS_BEFORE, iterations_done

_CONTINUED_AS: Final = "continued_as"
_RECOVERS: Final = "recovers"


def newest_life(journal: Journal, run_id: str, *, steps: int | None = None) -> Run:
    """The run that goes on in the place of this one, or itself; with `steps` no more than so many lives later.

    What other processes have recorded is known as far as it has been read (`Journal.refresh`).

    Raises:
        RunNotFound: no run has this id.
    """
    run = journal.run(run_id)
    while (steps is None or steps > 0) and (follower := continued_as(run)) is not None:
        run = journal.run(follower)
        steps = None if steps is None else steps - 1
    return run


def lives(journal: Journal, run_id: str) -> list[Run]:
    """All lives of a run, the first to the newest; what other processes have recorded is read.

    Raises:
        RunNotFound: no run has this id.
    """
    run = journal.refresh(run_id)
    while (before := _life_before(journal, run)) is not None:
        run = before
    found = [run]
    while (follower := continued_as(run)) is not None:
        run = journal.refresh(follower)
        found.append(run)
    return found


def is_later_life(run: Run) -> bool:
    """Whether a run was begun to go on in the place of another."""
    return _RECOVERS in run.metadata


def continued_as(run: Run) -> str | None:
    """The id of the run that goes on in its place; None where none does."""
    if run.reason is None:
        return None
    for entry in reversed(run.entries or ()):
        if entry.topic != RECOVERY:
            return None  # what stands further back was said before the end
        if isinstance(entry.value, dict) and _CONTINUED_AS in entry.value:
            return str(entry.value[_CONTINUED_AS])
    return None


def first_data(journal: Journal, run_id: str) -> dict[str, Any]:
    """A copy of the data that a run had when its first life was begun; empty when it had none."""
    data: dict[str, Any] = {}
    started: Started | None = None
    for event in journal.events(lives(journal, run_id)[0].id):
        if isinstance(event, Started):
            started = event
        elif isinstance(event, Moved) or (started and started.place is not None and event.at > started.at):
            break
        elif isinstance(event, Changed):
            data |= event.set
            for key in event.removed:
                data.pop(key, None)
    return detached(data)


def begin_next_life(
    journal: Journal,
    run_id: str,
    note: Mapping[str, Any],
    data: Mapping[str, Any],
    *,
    parent: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    place: str | None = None,
    skipped: int = 0,
    blocker: str | None = None,
) -> str:
    """Start the run that goes on in the place of one that has ended, and return its id; all of it is one commit.

    It has the old one's kind, name and metadata, its latest checkpoint and `data`; stands below the same parent if
    that is open, else as a root; and waits to be begun, or with a `blocker` is blocked where the old one stood. `note`
    is recorded with the old run, as a recovery.

    Args:
        parent: the open run below which it is to stand instead: the one that itself goes on in the place of the old
            one's parent.
        metadata: what stands over the old one's.
        place: where it begins at once.

    Raises:
        RunStateError: the old run has not ended, or another goes on in its place already; or the parent has ended.
    """

    def begin(transaction: Transaction) -> str:
        old = transaction.hold(run_id)
        if old.reason is None:
            raise RunStateError(f"{old.kind} {run_id!r} is open: it goes on itself", run_id)
        follower = continued_as(old)
        if follower is not None:
            raise RunStateError(
                f"{old.kind} {run_id!r} is recovered already: {follower!r} goes on in its place", run_id
            )
        new_id = journal.new_id()
        journal.change(run_id, rules.annotate, RECOVERY, {**note, _CONTINUED_AS: new_id})
        _start(journal, old, new_id, data, parent, {**(metadata or {}), **_told_of(old, skipped)})
        if blocker is not None:
            journal.change(new_id, rules.begin, old.place or "")
            journal.change(new_id, rules.block, blocker)
        elif place is not None:
            journal.change(new_id, rules.begin, place)
        return new_id

    return together(journal, begin)


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What is to be set and removed so that data become others."""
    changed = {key: value for key, value in after.items() if key not in before or before[key] is not value}
    return changed, tuple(key for key in before if key not in after)


def latest_checkpoint(run: Run) -> Checkpoint | None:
    """The checkpoint that was made last; None when there is none."""
    return next(reversed((run.checkpoints or {}).values()), None)


def _life_before(journal: Journal, run: Run) -> Run | None:
    before = run.metadata.get(_RECOVERS)
    if not isinstance(before, str):
        return None
    try:
        older = journal.refresh(before)
    except RunNotFound:
        return None  # the word is the user's own
    return older if continued_as(older) == run.id else None


def _told_of(old: Run, skipped: int) -> dict[str, Any]:
    return {_RECOVERS: old.id, ITERATIONS_BEFORE: iterations_done(old) + skipped}


def _start(
    journal: Journal, old: Run, new_id: str, data: Mapping[str, Any], parent: str | None, told: Mapping[str, Any]
) -> None:
    metadata = {**old.metadata, **told}
    latest = latest_checkpoint(old)
    at_first = detached(dict(data) if latest is None else latest.data)
    if parent is None and old.parent is not None and old.parent.reason is None:
        parent = old.parent.id
    if parent is not None:
        children = {new_id: old.name}
        journal.change(parent, rules.spawn, old.kind, children, place=None, metadata=metadata, data=at_first)
    else:
        journal.plant(new_id, rules.start, old.kind, old.name, metadata=metadata, data=at_first)
    if latest is not None:
        journal.change(new_id, rules.checkpoint, latest.label, latest.metadata)
        changed, removed = difference(latest.data, data)
        if changed or removed:
            journal.change(new_id, rules.change, detached(changed), removed)
