"""The one door for change: decide, record, fold, tell.

::

    journal.change(run_id, rule, …)
        1. decide   the rule looks at the run, under the tree's lock, and refuses or gives the events
        2. record   the store keeps them, whole or not at all
        3. fold     they change the tree in memory
        4. tell     subscribers hear of them, the lock released

A rule may refuse, a store may fail; folding can not. So memory never runs ahead of what is kept, and
a refused call changes nothing. When another writer was first, the journal reads what it wrote and
decides again; only if one of the very runs it was about to change has moved does the caller get `Conflict`.

Longer than other modules: what may come between deciding, writing and folding is read together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock, enumerate as living_threads, get_ident
from typing import Concatenate, Final, ParamSpec

from cortical.core.checks import require_count, require_seconds, require_text
from cortical.core.errors import (
    AmbiguousId,
    Conflict,
    LockTimeout,
    RecordsLost,
    RunNotFound,
    RunStateError,
    StoreDamaged,
)
from cortical.core.events import Event, Started
from cortical.core.ids import new_id
from cortical.core.index import Index
from cortical.core.ports import Clock, Record, Store, seconds_on
from cortical.core.run import Run
from cortical.core.subscribers import Handler, Subscribers
from cortical.core.transaction import Held, OpenTransaction, Transaction, caller as _caller, transaction as _transaction
from cortical.core.tree import Tree

P = ParamSpec("P")
Rule = Callable[Concatenate[Run, float, P], Sequence[Event]]

#: How often a call that holds whatever others did is decided again before nobody else may write meanwhile.
_MOST_TRIES: Final = 5
#: How often, and how many seconds apart, a lock is found taken by nobody before that is believed.
_LOOKS: Final = 100
_LOOK_SECONDS: Final = 0.01
_claiming: Final = Lock()


class Journal:
    """Trees in memory, kept equal to their logs in a store.

    Args:
        store: where the logs are kept.
        clock: where the time of events comes from. Within one tree it never goes back, even if the clock does.
        new_id: makes the ids of runs.
        lock_timeout: how many seconds a call waits for a tree that another thread is changing.
        max_depth: how many levels a tree may have; None for any number. Faces hand it to the rule that spawns.

    The store is not closed by the journal: whoever opened it closes it.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        new_id: Callable[[], str] = new_id,
        lock_timeout: float = 5.0,
        max_depth: int | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self._new_id = new_id
        self.lock_timeout = require_seconds(lock_timeout, "lock_timeout")
        self.max_depth = None if max_depth is None else require_count(max_depth, "max_depth")
        self.index = Index()
        self._runs = self.index.runs
        self._now = clock.time
        self._seconds = seconds_on(clock)
        self.subscribers = Subscribers()
        self._untold = self.subscribers.untold
        self._transactions: set[OpenTransaction] = set()
        #: The fence under which this journal writes to a tree, by root id, where it drives one.
        self.fences: dict[str, int] = {}

    def new_id(self) -> str:
        """An id for a run that is to be started.

        Raises:
            WrongType, InvalidInput: the function that makes them gave none.
        """
        return require_text(self._new_id(), "an id")

    # Reading

    def run(self, run_id: str) -> Run:
        """The run of this id, its tree loaded if need be.

        Raises:
            RunNotFound: no run has this id.
        """
        return self._runs.get(run_id) or self._load(run_id)

    def resolve(self, prefix: str) -> str:
        """The one id that begins with `prefix`.

        Raises:
            RunNotFound: none does.
            AmbiguousId: several do.
        """
        matches = self.store.find(prefix) if prefix else []
        if prefix in matches:
            return prefix
        if not matches:
            raise RunNotFound(prefix)
        if len(matches) > 1:
            raise AmbiguousId(prefix, matches)
        return matches[0]

    def find(self, prefix: str) -> Run:
        """The one run whose id begins with `prefix`, its tree loaded if need be.

        Raises:
            RunNotFound: none does.
            AmbiguousId: several do.
        """
        return self.run(self.resolve(prefix))

    def load_trees(self, *, open_only: bool = False) -> None:
        """Load every tree of the store (or every one that has not ended) that is not in memory yet."""
        for root in self.store.roots(open_only=open_only):
            self.run(root.id)

    def refresh(self, run_id: str) -> Run:
        """The run of this id, after reading what other writers have added to its tree."""
        tree = self.run(run_id).tree
        with self.holding(tree):
            self._catch_up(tree)
        return self.run(run_id)

    def refresh_all(self) -> None:
        """Read what other writers have added to the open trees in memory."""
        with self.index.lock:
            roots = [run for run in self.index.open_runs() if run.parent is None]
        for root in roots:
            self.refresh(root.id)

    def time_in(self, tree: Tree) -> float:
        """The time of an event in `tree`, were it recorded now: the clock's, but never before what is recorded there.

        A clock that was set back tells an earlier time. Until it has caught up, time in the tree goes on by seconds.
        """
        at = self._now()
        return at if at >= tree.at else self._going_on(tree)

    def holding(self, tree: Tree) -> Held:
        """A context in which nobody else changes `tree`: for reading several runs of it as they stand together.

        Inside a transaction that has changed the tree it is held already.
        """
        return Held(self, tree)

    def events(self, run_id: str, *, below: bool = False) -> list[Event]:
        """The events of a run, oldest first, as the store has them; with `below`, those of all runs below it too.

        Those of a transaction that is still open are not among them. The whole log of the tree is read.

        Raises:
            RunNotFound: no run has this id.
        """
        log = self.store.read(self.run(run_id).tree.root.id)
        wanted = {run_id}
        for event in log if below else ():  # a start stands after its parent's
            if isinstance(event, Started) and event.parent_id in wanted:
                wanted.add(event.run_id)
        return [event for event in log if event.run_id in wanted]

    # Changing

    def plant(
        self,
        run_id: str,
        rule: Callable[Concatenate[str, float, P], Sequence[Event]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Run:
        """Start a new tree with the events that `rule(run_id, at, …)` gives, and return its root."""
        tree = Tree(self.index)
        record = self.store.prepare(run_id, 0, rule(run_id, self._now(), *args, **kwargs))
        transaction = self._current()
        if transaction is not None:
            transaction.plant(tree, record)
            return tree.root
        try:
            tree.lock.acquire()
            tree.holder = get_ident()
            self._keep(tree, record)
        finally:
            self._let_go(tree)
        self.subscribers.tell()
        return tree.root

    def change(self, run_id: str, rule: Rule[P], /, *args: P.args, **kwargs: P.kwargs) -> Sequence[Event]:
        """Decide by `rule(run, at, …)`, record, fold and tell; return the events, none when nothing was to change.

        Raises:
            RunNotFound: no run has this id.
            LockTimeout: another thread held the tree for longer than `lock_timeout`.
            Conflict: another writer has changed one of the runs; it is read, so deciding again is possible.
            EncodeError, StoreError: from the store; nothing has changed.
            Whatever the rule refuses with; nothing has changed.
        """
        if self._transactions and (transaction := self._current()) is not None:
            return transaction.change(run_id, rule, *args, **kwargs)
        while True:
            run = self._runs.get(run_id) or self._load(run_id)
            tree = run.tree
            if not tree.lock.acquire(False):
                self._wait(tree)
            try:
                tree.holder = get_ident()
                if self._runs.get(run_id) is not run:
                    continue  # the tree was read anew while this thread waited for it
                at = self._now()
                if at < tree.at:
                    at = self._going_on(tree)
                events = rule(run, at, *args, **kwargs)
                if not events:
                    return events
                record = self.store.prepare(tree.root.id, tree.position, events, self.fences.get(tree.root.id))
                try:
                    self._keep(tree, record)
                except Conflict as conflict:
                    self._give_way(tree, events, conflict)
                    continue
            finally:
                self._let_go(tree)
            if self._untold:
                self.subscribers.tell()
            return record.events

    def insist(self, run_id: str, rule: Rule[P], /, *args: P.args, **kwargs: P.kwargs) -> Sequence[Event]:
        """`change` for what holds whatever other writers did, such as a break: decided again at a conflict.

        Where others are quicker again and again, it is decided and written while nobody else may write.
        """
        for _ in range(_MOST_TRIES):
            try:
                return self.change(run_id, rule, *args, **kwargs)
            except Conflict:
                if self.in_transaction:
                    raise
        return self._insist_alone(run_id, rule, *args, **kwargs)

    def _insist_alone(self, run_id: str, rule: Rule[P], /, *args: P.args, **kwargs: P.kwargs) -> Sequence[Event]:
        tree = self.run(run_id).tree
        with self.holding(tree):
            known = self._runs.get(tree.root.id) is tree.root
            try:
                record = self._decide_alone(tree, run_id, rule, *args, **kwargs) if known else None
                if record is not None:
                    self._fold(tree, record)
                    self.subscribers.put((record.events,))
            except (KeyboardInterrupt, SystemExit, RecordsLost):
                self._forget_all()  # it may have come between writing and folding
                raise
        if not known:  # the tree was read anew while this thread waited for it
            return self._insist_alone(run_id, rule, *args, **kwargs)
        self.subscribers.tell()
        return () if record is None else record.events

    def _decide_alone(
        self, tree: Tree, run_id: str, rule: Rule[P], /, *args: P.args, **kwargs: P.kwargs
    ) -> Record | None:
        """What the rule decides, written while nobody else may write; None when nothing was to change."""
        root_id = tree.root.id
        with self.store.exclusively():
            self._catch_up(tree)
            events = rule(self._runs[run_id], self.time_in(tree), *args, **kwargs)
            if not events:
                return None
            record = self.store.prepare(root_id, tree.position, events, self.fences.get(root_id))
            self.store.append(record)
        return record

    def transaction(self, *, timeout: float | None = None) -> Transaction:
        """A context in which all calls become true together when it ends, or none of them if it raises.

        The trees it touches are held until then; `timeout` (seconds) replaces `lock_timeout` for them.
        A transaction inside a transaction joins it.
        """
        return Transaction(self, self.lock_timeout if timeout is None else require_seconds(timeout, "timeout"))

    @property
    def in_transaction(self) -> bool:
        """Whether the caller is inside a transaction of this journal."""
        return self._current() is not None

    def flush(self) -> None:
        """Wait until everything recorded is kept (at once true unless the store is relaxed).

        Raises:
            RecordsLost: some could not be; the trees are read anew from the store.
        """
        try:
            self.store.flush()
        except RecordsLost:
            self._forget_all()
            raise

    def forget(self) -> None:
        """Let go of every tree in memory: each is read again from the store at its next use.

        Raises:
            RunStateError: called inside a transaction, whose changes are in memory alone.
        """
        if self._current() is not None:
            raise RunStateError("inside a transaction its trees are in memory alone; forget them after it", "")
        self.flush()
        self._forget_all()

    # Telling

    def subscribe(self, handler: Handler) -> Callable[[], None]:
        """Call `handler(event)` for each event this journal records from now on; returns what ends it.

        Events of one tree arrive in order, each once, after they are kept. Loading a tree tells nothing. A handler
        that raises is reported to the `cortical` logger and hurts nothing. When several threads record at the same
        moment, one of them tells for all.
        """
        return self.subscribers.add(handler)

    # Below the door

    def _current(self) -> OpenTransaction | None:
        """The transaction of this journal in which the caller's thread and task are; those they started are not."""
        if not self._transactions:
            return None
        transaction = _transaction.get()
        while transaction is not None and transaction.journal is not self:
            transaction = transaction.enclosing
        known = transaction is not None and transaction in self._transactions and transaction.owner == _caller()
        return transaction if known else None

    def _going_on(self, tree: Tree) -> float:
        """The time in a tree whose last event is of a later time than the clock tells."""
        seconds = self._seconds()
        tree.ahead = max(tree.ahead, tree.at - seconds)
        return max(tree.at, tree.ahead + seconds)

    def _wait(self, tree: Tree, timeout: float | None = None) -> None:
        seconds = self.lock_timeout if timeout is None else timeout
        if tree.holder == get_ident():
            raise LockTimeout(tree.root.id, "this very thread, in a call or transaction further out", 0.0)
        if tree.lock.acquire(timeout=seconds) or _taken_from_nobody(tree):
            return
        holder = tree.holder
        names = {thread.ident: thread.name for thread in living_threads()}
        told = "another thread" if holder is None else "a thread that has ended"
        if holder in names:
            told = f"thread {names[holder]!r}"
        raise LockTimeout(tree.root.id, told, seconds)

    @staticmethod
    def _let_go(tree: Tree) -> None:
        """Release a tree's lock, if this thread holds it."""
        if tree.holder == get_ident():
            tree.releases += 1
            tree.holder = None
            tree.lock.release()

    def _keep(self, tree: Tree, record: Record) -> None:
        """Write one record and fold it. When anything comes between the two (Ctrl-C), all is read anew."""
        try:
            self.store.append(record)
            self._fold(tree, record)
        except RecordsLost:
            self._forget_all()
            raise
        except OSError:
            raise
        except BaseException:
            self._forget_all()
            raise
        self.subscribers.put((record.events,))

    def _fold(self, tree: Tree, record: Record) -> None:
        with self.index.lock:
            root = self._runs.get(record.root_id)
            if tree.position != record.position or (root is not None and root.tree is not tree):
                return  # it was forgotten meanwhile, and is loaded at its next use
            tree.fold(record.events)

    def _load(self, run_id: str) -> Run:
        if not isinstance(run_id, str):
            raise RunNotFound(run_id)
        root_id = self.store.root_of(run_id)
        if root_id is None:
            raise RunNotFound(run_id)
        if root_id not in self._runs:
            tree = Tree.of_log(root_id, self.store.read(root_id))
            with self.index.lock:
                if root_id not in self._runs:  # no other thread has loaded it meanwhile
                    if not self._runs.keys().isdisjoint(tree.index.runs):
                        raise StoreDamaged(
                            f"{self.store.name}: in the log of {root_id!r} another tree's runs are started"
                        )
                    self.index.adopt(tree.index)
                    tree.index = self.index
        if run_id not in self._runs:  # another writer has started it since the tree was loaded
            tree = self._runs[root_id].tree
            with self.holding(tree):
                self._catch_up(tree)
        run = self._runs.get(run_id)
        if run is None:
            raise StoreDamaged(
                f"{self.store.name}: run {run_id!r} is listed, but the log of {root_id!r} has no start of it"
            )
        return run

    def _reload(self, tree: Tree) -> None:
        """Fold the tree anew from the store, or forget it if the store has none of it. Its lock is held."""
        if not tree.position:
            return  # it was forgotten
        try:
            events = self.store.read(tree.root.id)
        except BaseException:
            events = []
            raise
        finally:
            with self.index.lock:
                self.index.drop(list(tree.walk()))
                tree.clear()
                tree.fold(events)

    def _forget_all(self) -> None:
        """Drop every tree: each is loaded again at its next use."""
        with self.index.lock:
            for run in self._runs.values():
                run.tree.clear()
            self.index.clear()

    def _catch_up(self, tree: Tree) -> list[Event]:
        """Fold what other writers have added, and return it. The tree's lock is held."""
        position = tree.position
        added = self.store.read(tree.root.id, position)
        if added:
            self._fold(tree, Record(tree.root.id, position, added))
        return added

    def _give_way(self, tree: Tree, events: Sequence[Event], conflict: Conflict) -> None:
        """Catch up; raise if the other writer changed one of the runs that `events` are about."""
        ours = {event.run_id for event in events}
        added = self._catch_up(tree)
        for event in added:
            if event.run_id in ours:
                raise Conflict(conflict.root_id, conflict.position, event.run_id) from None
        if not added:  # the log is shorter than the tree: a relaxed store has lost what this tree was folded from
            self._reload(tree)
            raise conflict


def _taken_from_nobody(tree: Tree) -> bool:
    """Whether this thread has the tree now, since nobody had it who would ever have let go of it.

    A Ctrl-C that comes between taking a tree and holding it leaves it so. Each of those who take it and let go of it
    leaves it so for a moment: it has to stay like this for a second in which nobody lets go of it, and one thread only
    may then have it.
    """
    before = tree.releases
    for _ in range(_LOOKS):
        if tree.holder is not None:
            return False
        if tree.lock.acquire(timeout=_LOOK_SECONDS):
            return True
    with _claiming:
        if tree.holder is None and tree.releases == before:
            tree.holder = get_ident()
        return tree.holder == get_ident()
