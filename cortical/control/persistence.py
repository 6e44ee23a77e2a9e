"""The state of loops, apart from driving them: read and changed in transactions, its history, and room on the disk."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from cortical.core import rules
from cortical.core.checks import require_number, require_seconds, shown
from cortical.core.copies import detached
from cortical.core.errors import WrongType
from cortical.core.events import Changed, Restored
from cortical.core.journal import Journal
from cortical.core.ports import Clock
from cortical.core.tree import Tree
from cortical.recovery import newest_life
from cortical.store.face import Face, Place

_DAY_SECONDS = 86400.0


@frozen
class Change:
    """One change of a loop's state: when, which keys were set to what, which were removed, and by what restore."""

    seq: int
    at: float
    set: dict[str, Any]
    removed: tuple[str, ...] = ()
    restored: int | None = None


class StateTransaction:
    """What is set and deleted of one loop's state, all of it together or not at all."""

    def __init__(self, journal: Journal, run_id: str) -> None:
        self._journal, self._run_id = journal, run_id
        self._state = detached(journal.run(run_id).data or {})
        self._before = detached(self._state)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key as it stands in this transaction; `default` where there is none.

        A value that is changed in place is changed with the transaction.
        """
        return self._state.get(_require_key(key), default)

    def set(self, key: str, value: object) -> None:
        """Set a key."""
        self._state[_require_key(key)] = value

    def delete(self, key: str) -> bool:
        """Remove a key; False when it was not there."""
        return self._state.pop(_require_key(key), _NOTHING) is not _NOTHING

    def record(self) -> None:
        """Record what has become other than it was."""
        before, after = self._before, self._state
        changed = {key: value for key, value in after.items() if key not in before or not _same(before[key], value)}
        removed = tuple(key for key in before if key not in after)
        if changed or removed:
            self._journal.change(self._run_id, rules.change, detached(changed), removed)


class StatePersistenceManager(Face):
    """Reads and changes the state of loops in a store.

    Args:
        store: a path or URL, an open store, a journal, or another face to share; in memory by default.
        clock: tells the time.
    """

    def __init__(self, store: Place | None = None, *, clock: Clock = time) -> None:
        super().__init__(store, clock=clock)

    @contextmanager
    def transaction(self, loop_id: str, timeout: float = 5.0) -> Iterator[StateTransaction]:
        """Several changes of a loop's state that become true together when the context ends, or not at all.

        Values got from it may be changed in place; an exception undoes that too. Other calls of the same thread to the
        same journal join.

        Raises:
            LockTimeout: another thread held the loop's tree for longer than `timeout` seconds; it names that one.
            Conflict: another process changed the loop meanwhile; nothing was recorded, and it has been read.
            RunNotFound, RunStateError: there is no such loop; it has ended.
            EncodeError: a durable store cannot keep a value; nothing of the transaction was recorded.
        """
        run_id = newest_life(self.journal, loop_id).id
        with self.journal.transaction(timeout=require_seconds(timeout, "timeout")) as transaction:
            changes = StateTransaction(self.journal, transaction.hold(run_id).id)
            yield changes
            changes.record()

    def load_state(self, loop_id: str) -> dict[str, Any]:
        """A copy of a loop's state, with what other processes have changed. Empty when it has none.

        Raises:
            RunNotFound: there is no such loop.
        """
        return detached(self.journal.refresh(newest_life(self.journal, loop_id).id).data or {})

    def save_state(self, loop_id: str, state: Mapping[str, Any]) -> None:
        """Make this a loop's whole state: keys that are not in it are removed."""
        if not isinstance(state, Mapping):
            raise WrongType(f"a loop's state is values by name, not {shown(state)}")
        with self.transaction(loop_id) as changes:
            for key in self.load_state(loop_id):
                if key not in state:
                    changes.delete(key)
            for key, value in state.items():
                changes.set(key, value)

    def get_transaction_history(self, loop_id: str) -> list[Change]:
        """Every change of a loop's state, oldest first, from the log; those of its present life after a recovery."""
        run_id = newest_life(self.journal, loop_id).id
        found: list[Change] = []
        for event in self.journal.events(run_id):
            match event:
                case Changed(seq=seq, at=at, set=values, removed=removed):
                    found.append(Change(seq, at, detached(values), removed))
                case Restored(seq=seq, at=at, checkpoint=number):
                    found.append(Change(seq, at, {}, (), number))
        return found

    def recover_state(self, loop_id: str) -> dict[str, Any]:
        """A loop's state from nothing but its log: what memory holds is not looked at."""
        run = newest_life(self.journal, loop_id)
        log = self.store.read(run.tree.root.id)
        return detached(Tree.of(log).index.runs[run.id].data or {})

    def clear_cache(self) -> None:
        """Forget every tree in memory; each is read again from the store at its next use."""
        self.journal.forget()

    def compact(self, loop_id: str, keep_days: float = 7) -> int:
        """Pack what was recorded more than `keep_days` ago into less room; returns how many bytes were saved.

        Nothing is lost: everything that could be read can still be read, history and checkpoints too.
        """
        days = require_number(keep_days, "keep_days", finite=True)
        root = self.journal.run(loop_id).tree.root
        return self.store.compact(root.id, self.journal.clock.time() - days * _DAY_SECONDS)


_NOTHING: Any = object()


def _require_key(key: object) -> str:
    if not isinstance(key, str):
        raise WrongType(f"a key of a loop's state is a text, not {shown(key)}")
    return key


def _same(before: object, after: object) -> bool:
    return before is after or (type(before) is type(after) and bool(before == after))
