"""Let the process die at every durable write in turn, and see whether the work comes out the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Literal, ParamSpec, TypeAlias, TypeVar

from attrs import frozen

from cortical.core.errors import StoreError
from cortical.core.events import Event
from cortical.core.ports import Lease, Record, Root, Store
from cortical.store import MemoryStore
from cortical.testing.compare import outline

P = ParamSpec("P")
T = TypeVar("T")
Scenario: TypeAlias = Callable[[Store], object]
Moment: TypeAlias = Literal["before", "after"]


class ProcessDied(BaseException):
    """Stands for the death of the process; not an Exception, so that nothing handles it by accident."""


@frozen
class CrashReport:
    """What `crash_everywhere` did: how many writes an undisturbed run makes, and how many crashes were tried."""

    writes: int
    crashes: int


def crash_everywhere(scenario: Scenario, *, make_store: Callable[[], Store] | None = None) -> CrashReport:
    """Run `scenario(store)` with a crash before and after each of its durable writes, resume it, and compare.

    The scenario must find its work in the store and carry it on, as a program started again would; it may make one
    tree or several. After a crash it is called once more on the same store, and gets through; the trees it leaves
    must then be those of a run that was not disturbed.

    Compared are, for each run of each tree: kind, name, status, reason, outcome (of a failure the error, its text,
    its traceback and the number of attempts), the places it stood at with their turns and reasons, all notes in order
    (answers, artifacts, steps, verdicts, …), its data, and its children in order. Not compared are ids, also where
    they occur in texts and values, times of events, what a run was started with (agent, inputs, budget), and in which
    order trees of different names were started. A time that the work itself has noted is compared: hold the clock.

    Args:
        scenario: the work; called many times.
        make_store: makes an empty store; by default one in memory that takes only what a durable one could keep.

    Raises:
        AssertionError: a run that crashed and was resumed left other trees; the message says where it crashed.
    """
    make = make_store or (lambda: MemoryStore(strict=True))
    undisturbed = make()
    counting = DyingStore(undisturbed)
    scenario(counting)
    expected = outline(undisturbed)
    crashes = 0
    for write in range(1, counting.writes + 1):
        for moment in ("before", "after"):
            store = make()
            _run_until_dead(scenario, DyingStore(store, write, moment))
            scenario(store)
            crashes += 1
            found = outline(store)
            assert found == expected, f"crashed {moment} write {write}: the trees are\n{found}\nnot\n{expected}"
    return CrashReport(counting.writes, crashes)


class DyingStore:
    """A store in front of another, that dies at a write: from then on every write is refused, as by a dead process.

    Args:
        store: the one that keeps everything.
        write: which write it dies at (1, 2, …); 0 for never.
        moment: before that write is kept, or after.
    """

    def __init__(self, store: Store, write: int = 0, moment: Moment = "before") -> None:
        self.name = store.name
        self.writes = 0
        self.dead = False
        self._store, self._number, self._moment = store, write, moment

    def prepare(self, root_id: str, position: int, events: Sequence[Event], fence: int | None = None) -> Record:
        return self._store.prepare(root_id, position, events, fence)

    def append(self, *records: Record) -> None:
        self._written(self._store.append, *records)

    def exclusively(self) -> AbstractContextManager[None]:
        return self._store.exclusively()

    def compact(self, root_id: str, before: float) -> int:
        return self._written(self._store.compact, root_id, before)

    def read(self, root_id: str, start: int = 0) -> list[Event]:
        return self._store.read(root_id, start)

    def root_of(self, run_id: str) -> str | None:
        return self._store.root_of(run_id)

    def find(self, prefix: str, limit: int = 10) -> list[str]:
        return self._store.find(prefix, limit)

    def roots(self, *, open_only: bool = False, limit: int | None = None) -> list[Root]:
        return self._store.roots(open_only=open_only, limit=limit)

    def take_lease(self, root_id: str, holder: str, *, now: float, seconds: float) -> Lease:
        return self._store.take_lease(root_id, holder, now=now, seconds=seconds)

    def renew_lease(self, lease: Lease, *, now: float, seconds: float) -> Lease:
        return self._store.renew_lease(lease, now=now, seconds=seconds)

    def release_lease(self, lease: Lease) -> None:
        if not self.dead:
            self._store.release_lease(lease)

    def lease_of(self, root_id: str) -> Lease | None:
        return self._store.lease_of(root_id)

    def flush(self) -> None:
        self._store.flush()

    def check(self) -> list[str]:
        return self._store.check()

    def close(self) -> None:
        self._store.close()

    def _written(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self.dead:
            raise StoreError("this process is dead; nothing more is written by it")
        self.writes += 1
        self.dead = self.dead or self.writes == self._number
        if self.dead and self._moment == "before":
            raise ProcessDied
        written = write(*args, **kwargs)
        if self.dead:
            raise ProcessDied
        return written


def _run_until_dead(scenario: Scenario, store: DyingStore) -> None:
    try:
        scenario(store)
    except (ProcessDied, StoreError):
        assert store.dead
    else:
        assert store.dead, f"the scenario made only {store.writes} writes this time; make it do the same each time"
