"""What recovery may do to a run: what every driver offers for its own, and what can be done knowing only the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from cortical.core import rules
from cortical.core.errors import RunStateError
from cortical.core.journal import Journal
from cortical.core.run import Checkpoint, Run
from cortical.core.topics import RECOVERY
from cortical.core.transaction import Transaction, together
from cortical.recovery.lives import begin_next_life, difference, first_data, lives

Mode: TypeAlias = Literal["replace", "merge"]


@runtime_checkable
class Recoverable(Protocol):
    """A run that can be recovered. Strategies and handlers call these methods, and nothing else."""

    @property
    def journal(self) -> Journal:
        """Keeps the run."""
        ...

    @property
    def run(self) -> Run:
        """The run, in its newest life."""
        ...

    def go_on(self, after: float) -> None:
        """Let it be tried again where it stands, after so many seconds."""
        ...

    def restore(self, checkpoint: Checkpoint, mode: Mode) -> None:
        """Give it the data of a checkpoint, of this life or of an earlier one."""
        ...

    def restart(self) -> None:
        """Give it the data it had when it was begun."""
        ...

    def skip(self, reason: str) -> None:
        """Leave its present iteration, and go on with the next."""
        ...

    def block(self, reason: str) -> None:
        """Block it until somebody resumes it."""
        ...

    def clear_usage(self) -> None:
        """Count anew what it uses."""
        ...


@runtime_checkable
class Planning(Protocol):
    """A target that carries out what was asked of it in one record with the note that tells of it."""

    def plan_anew(self) -> None:
        """Forget what was asked."""
        ...

    def carry_out(self, note: Mapping[str, Any]) -> str:
        """Do what was asked, together with the note, or nothing; return the id of the run that goes on."""
        ...


class RunTarget:
    """A run of any kind, known by its journal alone; what is asked of it is done by `carry_out`.

    One that is open is changed in place; what only its driver can do (try again, skip) is left to whoever drives it,
    who finds the note. In place of one that has ended another run goes on.

    Raises:
        RunNotFound: no run has this id.
        LockTimeout: another thread held its tree for too long.
    """

    def __init__(self, journal: Journal, run_id: str) -> None:
        self._journal = journal
        run = lives(journal, run_id)[-1]
        # What is asked is for this life as it stands now, whatever others do to it before it is carried out.
        self._run_id, self._had_ended = run.id, run.reason is not None
        self.plan_anew()

    @property
    def journal(self) -> Journal:
        """Keeps the run."""
        return self._journal

    @property
    def run(self) -> Run:
        """The run, in the life that was the newest when this was made."""
        return self._journal.run(self._run_id)

    def plan_anew(self) -> None:
        """Forget what was asked."""
        self._asked = False
        self._checkpoint: tuple[Checkpoint, Mode] | None = None
        self._fresh = False
        self._skipped = False
        self._blocker: str | None = None
        #: The seconds to wait before it is tried again, for whoever drives it.
        self.after = 0.0

    def go_on(self, after: float) -> None:
        """Let it be tried again where it stands; how soon is up to whoever drives it."""
        self._asked, self.after = True, after

    def restore(self, checkpoint: Checkpoint, mode: Mode) -> None:
        """Give it the data of a checkpoint, of this life or of an earlier one."""
        self._asked, self._fresh, self._checkpoint = True, False, (checkpoint, mode)

    def restart(self) -> None:
        """Give it the data it had when it was begun."""
        self._asked, self._fresh, self._checkpoint = True, True, None

    def skip(self, reason: str) -> None:
        """Leave its present iteration, and go on with the next."""
        self._asked = self._skipped = True

    def block(self, reason: str) -> None:
        """Block it until somebody resumes it.

        Raises:
            RunStateError: it has ended before it was begun, so that there is no place where another could stand.
        """
        if self._had_ended and self.run.place is None:
            raise RunStateError(
                f"run {self._run_id!r} may not be blocked: it was never begun; start another", self._run_id
            )
        self._asked, self._blocker = True, reason

    def clear_usage(self) -> None:
        """Nothing is known of what it uses: whoever takes it up counts anew."""

    def carry_out(self, note: Mapping[str, Any]) -> str:
        """Do what was asked, together with the note, or nothing; return the id of the run that goes on.

        Raises:
            RunStateError: the run has ended, or another goes on in its place, since it was asked; or it may not be
                blocked as it stands.
            CheckpointNotFound: the checkpoint has been deleted.
        """
        if self._had_ended and self._asked:
            data = self._data(self._journal.run(self._run_id))
            skipped = 1 if self._skipped else 0
            return begin_next_life(self._journal, self._run_id, note, data, skipped=skipped, blocker=self._blocker)
        first = first_data(self._journal, self._run_id) if self._fresh else None
        together(self._journal, lambda transaction: self._change(transaction, note, first))
        return self._run_id

    def _change(self, transaction: Transaction, note: Mapping[str, Any], first: dict[str, Any] | None) -> None:
        run = transaction.hold(self._run_id)
        if (run.reason is not None) is not self._had_ended:
            raise RunStateError(
                f"{run.kind} {run.id!r} has ended meanwhile; recover it again if it should go on", run.id
            )
        change = self._journal.change
        if self._checkpoint is not None and self._checkpoint[0].run_id == run.id:
            checkpoint, mode = self._checkpoint
            change(run.id, rules.restore, checkpoint.seq, mode)
        elif first is not None or self._checkpoint is not None:
            changed, removed = difference(run.data or {}, self._data(run) if first is None else first)
            if changed or removed:
                change(run.id, rules.change, changed, removed)
        if self._blocker is not None:
            self._block(run, self._blocker)
        change(run.id, rules.annotate, RECOVERY, dict(note))

    def _block(self, run: Run, blocker: str) -> None:
        self._journal.change(run.id, rules.block, blocker)

    def _data(self, run: Run) -> Mapping[str, Any]:
        if self._fresh:
            return first_data(self._journal, run.id)
        if self._checkpoint is None:
            return run.data or {}
        checkpoint, mode = self._checkpoint
        return {**(run.data or {}), **checkpoint.data} if mode == "merge" else checkpoint.data
