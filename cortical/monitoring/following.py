"""Events as whichever process records them: read from the store, each once, for programs that watch from outside."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from cortical.core.checks import require_callable, require_seconds
from cortical.core.errors import RunNotFound
from cortical.core.events import Ended, Event
from cortical.monitoring.bus import wanted_runs, wanted_types
from cortical.store.face import Face, Place

#: How many trees that have ended are still looked at: a note may follow an end.
_ENDED_KEPT: Final = 100
#: How many of the newest trees are looked at first, to find those that are new.
_FIRST_LOOK: Final = 10


class Follower(Face):
    """An iterator over the events of a store, made by `follow`; close it, or use it as a context, if it opened one."""

    def __init__(
        self,
        store: Place,
        types: frozenset[type],
        poll_seconds: float,
        wait: Callable[[float], object] | None,
    ) -> None:
        super().__init__(store, create=False)
        self._store, self._types = self.store, types
        self._roots: frozenset[str] = frozenset()
        self._over = threading.Event()
        self._poll_seconds, self._wait = poll_seconds, wait or self._over.wait
        self._ready: deque[Event] = deque()
        #: The position in the log of each tree looked at, and of those that have ended the latest.
        self._positions: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._newest: str | None = None

    def stop(self) -> None:
        """End the iteration, from whichever thread; what was read already is not told any more."""
        self._over.set()

    def __iter__(self) -> Follower:
        return self

    def __next__(self) -> Event:
        """The next event; waits for it.

        Raises:
            StopIteration: it was stopped, or all the trees asked for have ended.
            StoreError: the store cannot be read; asking again goes on where it stood.
        """
        while not self._over.is_set():
            if self._ready:
                return self._ready.popleft()
            self._look()
            if self._ready:
                continue
            if self._roots and not self._positions:
                break
            self._wait(self._poll_seconds)
        raise StopIteration

    def poll(self) -> list[Event]:
        """What was recorded since the last look, without waiting; the events of one tree in the order of its log.

        Raises:
            StoreError: the store cannot be read; asking again goes on where it stood.
        """
        self._look()
        found = [*self._ready]
        self._ready.clear()
        return found

    def close(self) -> None:
        """End the iteration, and close the store, if this was what opened it."""
        self.stop()
        super().close()

    def begin(self, runs: frozenset[str], *, past: bool) -> None:
        """Choose the trees of these runs, or all; and where to begin in them.

        Raises:
            RunNotFound: no run has one of these ids.
        """
        self._roots = frozenset(self._root_of(run_id) for run_id in runs)
        self._positions = dict.fromkeys(self._roots, 0)
        if past:
            return
        if not self._roots:
            latest = self._store.roots(limit=_ENDED_KEPT)
            self._newest = latest[0].id if latest else None
            ended = [root.id for root in reversed(latest) if root.ended_at is not None]
            self._ended = {root_id: len(self._store.read(root_id)) for root_id in ended}
            self._positions = {root.id: 0 for root in self._store.roots(open_only=True)}
        for root_id in [*self._positions]:
            self._read(root_id)

    def _root_of(self, run_id: str) -> str:
        root_id = self._store.root_of(run_id) if isinstance(run_id, str) else None
        if root_id is None:
            raise RunNotFound(run_id)
        return root_id

    def _look(self) -> None:
        for root_id in self._new_trees():
            self._positions[root_id] = 0
        for root_id in [*self._ended, *self._positions]:
            self._ready.extend(event for event in self._read(root_id) if type(event) in self._types)

    def _new_trees(self) -> list[str]:
        """The trees that were started since the last look, oldest first."""
        if self._roots:
            return []
        limit = _FIRST_LOOK
        while True:
            newest = [root.id for root in self._store.roots(limit=limit)]
            if self._newest in newest:
                newest = newest[: newest.index(self._newest)]
                break
            if len(newest) < limit:
                break
            limit *= 10
        if newest:
            self._newest = newest[0]
        return [
            root_id for root_id in reversed(newest) if root_id not in self._positions and root_id not in self._ended
        ]

    def _read(self, root_id: str) -> list[Event]:
        ended = root_id in self._ended
        position = self._ended[root_id] if ended else self._positions[root_id]
        events = self._store.read(root_id, position)
        position += len(events)
        if ended:
            self._ended[root_id] = position
        elif any(isinstance(event, Ended) and event.run_id == root_id for event in events):
            del self._positions[root_id]
            if not self._roots:
                self._ended[root_id] = position
        else:
            self._positions[root_id] = position
        while len(self._ended) > _ENDED_KEPT:
            del self._ended[next(iter(self._ended))]
        return events


def follow(
    store: Place,
    *,
    events: Iterable[type] = (),
    runs: Iterable[str] = (),
    past: bool = False,
    poll_seconds: float = 0.2,
    wait: Callable[[float], object] | None = None,
) -> Follower:
    """The events that are recorded in a store from now on, by whichever process::

        with follow("runs.db") as follower:
            for event in follower.poll():  # or in the follower itself, which waits for more
                print(event.run_id, event.seq)

    Each event comes once per run and `seq`. A position in the log of each open tree, and of the hundred that ended
    last, is all that is remembered; the store is asked again when there is nothing new and `poll_seconds` are over.

    Args:
        store: a path or URL, an open store, a journal, or a face that has one.
        events: only events of these types; all, where none are given.
        runs: only the trees of these runs, each tree whole; it ends when all of them have ended. Where none are given,
            all trees, those started later too; it ends by `stop()`.
        past: begin with what is recorded already.
        wait: called with `poll_seconds` in place of waiting.

    Raises:
        RunNotFound: no run has one of these ids.
        WrongType, InvalidInput: an argument is of no use.
        StoreError: the store cannot be read, or there is none.
    """
    types, ids = wanted_types(events), wanted_runs(runs)
    require_seconds(poll_seconds, "poll_seconds", above_zero=True)
    if wait is not None:
        require_callable(wait)
    follower = Follower(store, types, poll_seconds, wait)
    try:
        follower.begin(ids, past=past)
    except BaseException:
        follower.close()
        raise
    return follower
