"""Checkpoints of runs: their data at a place in the log, to be had back. They hold the data, never the life cycle."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from attrs import field, frozen

from cortical.core import rules
from cortical.core.checks import require_count, require_text, shown
from cortical.core.copies import detached
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.events import Event, Noted
from cortical.core.journal import Journal
from cortical.core.ports import Clock
from cortical.core.run import Checkpoint as Kept, Run
from cortical.recovery.lives import latest_checkpoint, newest_life
from cortical.recovery.target import Mode
from cortical.store.face import Face, Place


@frozen
class Checkpoint:
    """A checkpoint as it can be looked at: which (``<run id>@<number>``), of what, when, in which turn, and why."""

    id: str
    run_id: str
    number: int
    at: float
    label: str | None
    metadata: dict[str, Any]
    turn: int
    _data: dict[str, Any] = field(repr=False)

    @property
    def state(self) -> dict[str, Any]:
        """The run's data as they were: a copy."""
        return detached(self._data)


class CheckpointManager(Face):
    """Takes, finds, restores and deletes checkpoints of the runs of a store, of whatever kind they are.

    Args:
        store: a path or URL, an open store, a journal, or another face to share; in memory by default.
        clock: tells the time.

    The id of a run that was recovered after its end stands for the run that goes on in its place, which has the
    latest checkpoint of the one before. Methods raise `RunNotFound` for an id that no run has.
    """

    def __init__(self, store: Place | None = None, *, clock: Clock = time) -> None:
        super().__init__(store, clock=clock)

    def create_checkpoint(
        self, loop_id: str, label: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Checkpoint:
        """Keep a run's data as they stand.

        Raises:
            RunStateError: it has ended.
            EncodeError: a durable store cannot keep a value of the metadata.
        """
        text = "" if label is None else require_text(label, "a checkpoint's label")
        if metadata is not None and not isinstance(metadata, Mapping):
            raise WrongType(f"a checkpoint's metadata is values by name, not {shown(metadata)}")
        run_id = self._run(loop_id).id
        told = None if metadata is None else detached(dict(metadata))
        (made,) = self.journal.change(run_id, rules.checkpoint, text, told)
        return _view(rules.require_checkpoint(self.journal.run(run_id), made.seq))

    def get_checkpoint(self, checkpoint_id: str) -> Checkpoint:
        """The checkpoint of this id.

        Raises:
            CheckpointNotFound: its run has none such, or none any more.
        """
        return _view(kept_checkpoint(self.journal, checkpoint_id))

    def get_latest_checkpoint(self, loop_id: str) -> Checkpoint | None:
        """The checkpoint that was made last; None when there is none."""
        latest = latest_checkpoint(self._run(loop_id))
        return None if latest is None else _view(latest)

    def get_checkpoints(self, loop_id: str) -> list[Checkpoint]:
        """A run's checkpoints, oldest first."""
        return [_view(kept) for kept in (self._run(loop_id).checkpoints or {}).values()]

    def delete_checkpoint(self, checkpoint_id: str) -> bool:
        """Let go of a checkpoint; False when it was not there.

        Raises:
            RunStateError: its run has ended.
        """
        run_id, number = parsed(checkpoint_id)
        self.journal.refresh(run_id)
        return bool(self.journal.change(run_id, rules.delete_checkpoints, [number]))

    def cleanup_old_checkpoints(self, loop_id: str, max_count: int = 10) -> int:
        """Let go of a run's oldest checkpoints until `max_count` are left; how many these were.

        Raises:
            RunStateError: the run has ended.
        """
        require_count(max_count, "max_count", 0)
        run_id = self._run(loop_id).id
        deleted = self.journal.change(run_id, _clean_up, max_count)
        return sum(len(event.value) for event in deleted if isinstance(event, Noted))

    def restore(self, checkpoint_id: str, mode: Mode = "replace") -> dict[str, Any]:
        """Give the checkpoint's run its data back, and return a copy of them as they are now.

        With ``"replace"`` keys that were set later are gone; with ``"merge"`` they stay. Status and iterations are as
        they were.

        Raises:
            CheckpointNotFound: the run has none such, or none any more.
            RunStateError: the run has ended.
        """
        kept = kept_checkpoint(self.journal, checkpoint_id)
        self.journal.change(kept.run_id, rules.restore, kept.seq, require_mode(mode))
        return detached(self.journal.run(kept.run_id).data or {})

    def _run(self, loop_id: str) -> Run:
        return self.journal.refresh(newest_life(self.journal, self.journal.refresh(loop_id).id).id)


def kept_checkpoint(journal: Journal, checkpoint_id: str) -> Kept:
    """The checkpoint of this id, as its run has it.

    Raises:
        CheckpointNotFound: the run has none such, or none any more.
        RunNotFound: there is no such run.
        WrongType, InvalidInput: it is no checkpoint's id.
    """
    run_id, number = parsed(checkpoint_id)
    return rules.require_checkpoint(journal.refresh(run_id), number)


def parsed(checkpoint_id: object) -> tuple[str, int]:
    """The id of the run and the number that a checkpoint's id is made of.

    Raises:
        WrongType, InvalidInput: it is none.
    """
    run_id, _, number = require_text(checkpoint_id, "a checkpoint's id").rpartition("@")
    if not run_id or not (number.isascii() and number.isdigit()) or len(number) > 18:
        raise InvalidInput(f"a checkpoint's id is that of its run, @ and a number, not {shown(checkpoint_id)}")
    return run_id, int(number)


def require_mode(mode: object) -> Mode:
    """`mode`, if data can be restored so.

    Raises:
        InvalidInput: they cannot.
    """
    for known in get_args(Mode):
        if mode == known:
            return known  # type: ignore[no-any-return]  # one of the literals
    raise InvalidInput(f"data are restored by 'replace' or 'merge', not by {shown(mode)}")


def _clean_up(run: Run, at: float, max_count: int) -> Sequence[Event]:
    numbers = list(run.checkpoints or ())
    return rules.delete_checkpoints(run, at, numbers[: max(0, len(numbers) - max_count)])


def _view(kept: Kept) -> Checkpoint:
    checkpoint_id = f"{kept.run_id}@{kept.seq}"
    label = kept.label or None
    metadata = detached(kept.metadata or {})
    return Checkpoint(checkpoint_id, kept.run_id, kept.seq, kept.at, label, metadata, kept.turn, kept.data)
