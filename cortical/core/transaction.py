"""Calls that become true together, and reading several runs as they stand together: how a journal is held."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from cortical.core.errors import Conflict, LockTimeout, RecordsLost, RunStateError
from cortical.core.events import Event
from cortical.core.ports import Record
from cortical.core.run import Run
from cortical.core.tree import Tree

if TYPE_CHECKING:
    from cortical.core.journal import Journal

P = ParamSpec("P")
T = TypeVar("T")
Rule = Callable[Concatenate[Run, float, P], Sequence[Event]]

#: How often what belongs together is decided again because another writer was quicker.
_MOST_TRIES: Final = 20

#: The innermost transaction in which this context is.
transaction: Final[ContextVar[OpenTransaction | None]] = ContextVar("cortical.transaction", default=None)


def caller() -> tuple[int, object]:
    """The thread and the task that are running."""
    asyncio = sys.modules.get("asyncio")
    task = None
    if asyncio is not None:
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no event loop runs in this thread
            task = None
    return get_ident(), task


class Transaction:
    """A context, used once, in which all calls become true together when it ends. Made by `Journal.transaction`.

    One inside another of the same journal joins it. Threads and tasks started inside are not in it.
    """

    # Nobody but the `with` statement holds this object: should a Ctrl-C come so early or so late that `__exit__` is
    # not run, it is given up when the object is.

    __slots__ = ("_journal", "_open", "_timeout", "_used")

    def __init__(self, journal: Journal, timeout: float) -> None:
        self._journal, self._timeout = journal, timeout
        self._open: OpenTransaction | None = None
        self._used = False

    def __enter__(self) -> Transaction:
        if self._used:
            raise RunStateError("a transaction is used once; make another", "")
        self._used = True
        if self._journal._current() is None:
            self._open = OpenTransaction(self._journal, self._timeout)
            self._open.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is None:
            return
        try:
            if error is None:
                self._open.commit()
            else:
                self._open.undo(error)
        finally:
            self._open.release()
            self._open = None
        self._journal.subscribers.tell()

    def hold(self, run_id: str) -> Run:
        """The run as it is kept, its tree held from now until the transaction ends: nobody else changes it meanwhile.

        Raises:
            RunNotFound: there is no such run.
            LockTimeout: another thread held the tree for too long.
            RunStateError: the transaction has ended, or joined one further out that has.
        """
        current = self._journal._current()
        if current is None:
            raise RunStateError("this transaction has ended; make another", run_id)
        return current.hold(run_id)

    def __del__(self) -> None:
        if self._open is not None:
            try:
                self._open.undo(KeyboardInterrupt())
            finally:
                self._open.release()


def together(journal: Journal, change: Callable[[Transaction], T]) -> T:
    """What `change` returns, called in a transaction; again when another writer was quicker.

    Raises:
        Conflict: another writer was quicker each time, or a transaction further out has to be begun again.
        Whatever `change` raises: nothing has changed.
    """
    for _ in range(_MOST_TRIES - 1):
        if journal.in_transaction:
            break
        try:
            with journal.transaction() as transaction:
                return change(transaction)
        except Conflict:
            continue
    with journal.transaction() as transaction:
        return change(transaction)


class OpenTransaction:
    """What a transaction has done so far, and the trees that it holds."""

    def __init__(self, journal: Journal, timeout: float) -> None:
        self.journal = journal
        self.owner = caller()
        self.enclosing = transaction.get()
        self._timeout = timeout
        self._pending: dict[Tree, list[Record]] = {}
        self._done = False

    def begin(self) -> None:
        """Let the calls of this thread and task join."""
        self.journal._transactions.add(self)
        transaction.set(self)

    def touched(self, tree: Tree) -> bool:
        """Whether this transaction holds `tree`."""
        return tree in self._pending

    def change(self, run_id: str, rule: Rule[P], /, *args: P.args, **kwargs: P.kwargs) -> Sequence[Event]:
        """As `Journal.change`, kept when the transaction ends."""
        journal = self.journal
        run = self.hold(run_id)
        tree = run.tree
        events = rule(run, journal.time_in(tree), *args, **kwargs)
        if not events:
            return events
        record = journal.store.prepare(tree.root.id, tree.position, events, journal.fences.get(tree.root.id))
        self._add(tree, record)
        return record.events

    def hold(self, run_id: str) -> Run:
        """The run, its tree read anew and held until the transaction ends, unless it is held already."""
        journal = self.journal
        run = journal.run(run_id)
        while not self.touched(run.tree):
            self._hold(run.tree)
            journal._catch_up(run.tree)
            run = journal.run(run_id)  # of another tree than the one held, if that was read anew meanwhile
        return run

    def plant(self, tree: Tree, record: Record) -> None:
        """Hold a new tree, and fold its first record."""
        self._hold(tree)
        self._add(tree, record)

    def commit(self) -> None:
        """Write everything, or undo everything and raise."""
        records = [record for pending in self._pending.values() for record in pending]
        if records:
            try:
                self.journal.store.append(*records)
            except BaseException as error:
                self.undo(error)
                raise
            self.journal.subscribers.put(record.events for record in records)
        self._done = True

    def undo(self, error: BaseException) -> None:
        """Bring memory back to what is kept."""
        if self._done:
            return
        self._done = True
        if isinstance(error, RecordsLost) or not isinstance(error, Exception):
            self.journal._forget_all()  # Ctrl-C may have come in the middle of a fold
            return
        for tree, records in self._pending.items():
            if records:
                self.journal._reload(tree)

    def release(self) -> None:
        """Let go of the trees, and of the context."""
        self.journal._transactions.discard(self)
        if transaction.get() is self:
            transaction.set(self.enclosing)
        for tree in self._pending:
            if tree.holder == self.owner[0]:
                tree.holder = None
                tree.lock.release()
        self._pending.clear()

    def _hold(self, tree: Tree) -> None:
        self._pending[tree] = []
        try:
            self.journal._wait(tree, self._timeout)
        except LockTimeout:
            del self._pending[tree]  # where this thread holds it further out, it is not for this to let go of it
            raise
        tree.holder = get_ident()

    def _add(self, tree: Tree, record: Record) -> None:
        self._pending[tree].append(record)
        self.journal._fold(tree, record)


class Held:
    """Holds a tree's lock, unless the current transaction holds it already."""

    __slots__ = ("_journal", "_locked", "_tree")

    def __init__(self, journal: Journal, tree: Tree) -> None:
        self._journal, self._tree, self._locked = journal, tree, False

    def __enter__(self) -> None:
        current = self._journal._current()
        if current is not None and current.touched(self._tree):
            return
        self._journal._wait(self._tree)
        self._tree.holder = get_ident()
        self._locked = True

    def __exit__(self, *_: Any) -> None:
        if self._locked:
            self._journal._let_go(self._tree)
