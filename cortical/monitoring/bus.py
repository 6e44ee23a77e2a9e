"""Subscriptions that cannot slow a run: each has a bounded queue, and a thread that calls its handler.

The thread that records an event only puts it into the queues of those who want it. Where a queue is full the event is
left out, and the subscriber is told so where it would have stood.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeAlias, get_args

from attrs import frozen

from cortical.core.checks import require_callable, require_count, require_seconds
from cortical.core.errors import WrongType
from cortical.core.events import Event
from cortical.core.run import Run
from cortical.store.face import Face, Place

Handler: TypeAlias = Callable[[Event], object]

#: How often in a row a handler may raise before it is dropped.
MOST_FAILURES: Final = 5

_EVENT_TYPES: Final = frozenset(get_args(Event))
_log: Final = logging.getLogger("cortical")


@frozen
class Missed:
    """Events that a subscriber was too slow for: how many, and the first and the last of them."""

    count: int
    first: Event
    last: Event


class Subscription:
    """One handler and what it is still to be told; made by `EventBus.on`.

    `told` counts the events it was called with, `missed` those it was too slow for. `dropped` is the error for which
    it was dropped; None while it was not. `types`, `runs` (all, where there are none) and `below` are what it
    asked for.
    """

    def __init__(
        self,
        handler: Handler,
        on_missed: Callable[[Missed], object],
        buffer: int,
        *,
        types: frozenset[type],
        runs: frozenset[str],
        below: bool,
    ) -> None:
        self.types, self.runs, self.below = types, runs, below
        self.told = 0
        self.missed = 0
        self.dropped: BaseException | None = None
        self._handler, self._on_missed, self._buffer = handler, on_missed, buffer
        self._queue: SimpleQueue[Event | Missed | threading.Event] = SimpleQueue()
        self._gap: list[Any] = []  # what is missed at this moment: the first, how many, the last
        self._gap_lock = threading.Lock()
        self._over = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._tell_all, name="cortical-subscriber", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many events are in the queue."""
        return self._queue.qsize()

    @property
    def active(self) -> bool:
        """Whether it still hears of what happens: it was neither stopped nor dropped."""
        return not self._over.is_set()

    def stop(self) -> None:
        """Hear nothing more, not what is in the queue either; a call of the handler under way is not interrupted."""
        self._over.set()
        self._queue.put(threading.Event())

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until the handler has been called with all it was to hear so far; False if that took too long.

        True at once where it hears nothing more; False at once where the handler itself asks.
        """
        require_seconds(timeout, "timeout")
        if self._over.is_set():
            return True
        if threading.current_thread() is self._thread:
            return False
        self._queue_gap()
        reached = threading.Event()
        self._queue.put(reached)
        return reached.wait(timeout)

    def put(self, event: Event) -> None:
        """Queue an event, or count it as missed; nothing when it hears no more. Called by one thread at a time."""
        if self._over.is_set():
            return
        if self._queue.qsize() >= self._buffer:
            self._miss(event)
            return
        if self._gap:
            self._queue_gap()
        self._queue.put(event)

    def _miss(self, event: Event) -> None:
        self.missed += 1
        with self._gap_lock:
            if self._gap:
                self._gap[1:] = (self._gap[1] + 1, event)
            else:
                self._gap = [event, 1, event]
        if self._queue.empty():  # it was emptied at this very moment: nothing else would come to tell of the gap
            self._queue.put(threading.Event())

    def _queue_gap(self) -> None:
        with self._gap_lock:
            if self._gap:
                first, count, last = self._gap
                self._gap = []
                self._queue.put(Missed(count, first, last))

    def _tell_all(self) -> None:
        while not self._over.is_set():
            waiting = self._queue.get()
            if self._over.is_set():
                _release(waiting)
                break
            self._tell(waiting)
            if self._gap and self._queue.empty():
                self._queue_gap()
        self._discard()

    def _tell(self, waiting: Event | Missed | threading.Event) -> None:
        if isinstance(waiting, threading.Event):
            waiting.set()
        elif isinstance(waiting, Missed):
            self._call(self._on_missed, waiting)
        else:
            self.told += 1
            self._call(self._handler, waiting)

    def _call(self, function: Callable[[Any], object], what: Event | Missed) -> None:
        try:
            function(what)
        except BaseException as error:  # noqa: BLE001  # whatever a handler raises must not hurt the run
            self._failures += 1
            _log.exception("a subscriber raised at %s", _named(what))
            if self._failures >= MOST_FAILURES:
                self.dropped = error
                self._over.set()
                _log.error("a subscriber was dropped: it raised %d times in a row", self._failures)
        else:
            self._failures = 0

    def _discard(self) -> None:
        """Empty the queue, and let go of those who wait for it."""
        while True:
            try:
                _release(self._queue.get_nowait())
            except Empty:
                return


class EventBus(Face):
    """Tells handlers what a journal records, each in a thread of its own::

        bus = EventBus("runs.db")
        bus.on(print)

    What other processes record is not told: `follow` hears of it. Closing waits for the handlers, for as long as
    `close` says, and ends all subscriptions.
    """

    def __init__(self, store: Place | None = None, **options: Any) -> None:
        super().__init__(store, **options)
        self._subscriptions: tuple[Subscription, ...] = ()
        self._changing = threading.Lock()
        self._end: Callable[[], None] | None = None

    def on(
        self,
        handler: Handler,
        *,
        events: Iterable[type] = (),
        runs: Iterable[str] = (),
        below: bool = True,
        buffer: int = 10_000,
        on_missed: Callable[[Missed], object] | None = None,
    ) -> Subscription:
        """Call `handler(event)` for each event recorded from now on; `stop()` of what is returned ends it.

        Events of one tree arrive in order, each once, after they are kept; a replay (loading a tree, refreshing it)
        tells nothing. The handler runs in a thread that is its own, so it may wait, and call whatever it likes; it
        may stop its own subscription. One that raises is reported to the `cortical` logger, and dropped after raising
        five times in a row.

        Args:
            events: only events of these types; all, where none are given.
            runs: only events of these runs; all, where none are given.
            below: of the runs below them too.
            buffer: how many events may wait; what comes while so many do is missed.
            on_missed: called with a `Missed`, in the place of what was missed; by default the logger is told.

        Raises:
            RunNotFound: no run has one of these ids.
            WrongType, InvalidInput: an argument is of no use.
        """
        require_callable(handler)
        require_callable(on_missed or _log_missed)
        types, ids = wanted_types(events), wanted_runs(runs)
        for run_id in ids:
            self.journal.run(run_id)
        require_count(buffer, "buffer")
        subscription = Subscription(handler, on_missed or _log_missed, buffer, types=types, runs=ids, below=below)
        self._add(subscription)
        return subscription

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until every handler has heard all that was recorded so far; False if one took too long."""
        return all(subscription.flush(timeout) for subscription in self._subscriptions)

    def close(self, timeout: float = 5.0) -> None:
        """End all subscriptions, and close the store; so many seconds each handler has to hear what is in its queue."""
        if self._end is not None:
            self._end()
            self._end = None
        for subscription in self._subscriptions:
            subscription.flush(timeout)
            subscription.stop()
        self._subscriptions = ()
        super().close()

    def _add(self, subscription: Subscription) -> None:
        with self._changing:
            self._subscriptions = (*(kept for kept in self._subscriptions if kept.active), subscription)
            if self._end is None:
                self._end = self.journal.subscribe(self._hear)

    def _hear(self, event: Event) -> None:
        kind = type(event)
        for subscription in self._subscriptions:
            if kind in subscription.types and (not subscription.runs or self._about(event.run_id, subscription)):
                subscription.put(event)

    def _about(self, run_id: str, subscription: Subscription) -> bool:
        ids = subscription.runs
        if run_id in ids or not subscription.below:
            return run_id in ids
        run: Run | None = self.journal.run(run_id).parent
        while run is not None and run.id not in ids:
            run = run.parent
        return run is not None


def wanted_types(events: Iterable[type]) -> frozenset[type]:
    """The types of events asked for; all, where none are.

    Raises:
        WrongType: one is no type of event.
    """
    given = {events} if isinstance(events, type) else set(events)
    for kind in given:
        if kind not in _EVENT_TYPES:
            known = ", ".join(sorted(one.__name__ for one in _EVENT_TYPES))
            raise WrongType(f"{kind!r} is no type of event; there are {known} (cortical.core.events)")
    return frozenset(given) or _EVENT_TYPES


def wanted_runs(runs: Iterable[str]) -> frozenset[str]:
    """The ids asked for; one id alone will do."""
    return frozenset({runs} if isinstance(runs, str) else runs)


def _log_missed(missed: Missed) -> None:
    _log.warning(
        "a subscriber was too slow for %d events, from %s to %s",
        missed.count,
        _named(missed.first),
        _named(missed.last),
    )


def _named(what: Event | Missed) -> str:
    if isinstance(what, Missed):
        return f"the news that it missed {what.count} events"
    return f"{type(what).__name__} ({what.seq}) of run {what.run_id}"


def _release(waiting: object) -> None:
    if isinstance(waiting, threading.Event):
        waiting.set()
