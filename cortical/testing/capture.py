"""The events that were recorded while a block ran, for a test to look at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Protocol, TypeVar, cast

from cortical.core.errors import WrongType
from cortical.core.events import Event, Noted
from cortical.core.journal import Journal
from cortical.core.ports import Store
from cortical.store import open_store

E = TypeVar("E")


class HasJournal(Protocol):
    """Records by a journal, as an executor does."""

    @property
    def journal(self) -> Journal:
        """The journal."""
        ...


class CapturedEvents(list[Event]):
    """Events in order, as a list, and what a test asks of them."""

    def of(self, run_id: str) -> CapturedEvents:
        """Those of one run; none for an id that does not occur."""
        return CapturedEvents(event for event in self if event.run_id == run_id)

    def of_type(self, kind: type[E]) -> list[E]:
        """Those of one type, such as `Moved`."""
        return [event for event in self if isinstance(event, kind)]

    def topics(self) -> list[str]:
        """The topics of what was noted, in order."""
        return [event.topic for event in self.of_type(Noted)]

    def noted(self, topic: str) -> list[Any]:
        """The values noted on `topic`, in order."""
        return [event.value for event in self.of_type(Noted) if event.topic == topic]


@contextmanager
def capture_events(
    source: HasJournal | Journal | str | os.PathLike[str] | Store,
) -> Iterator[CapturedEvents]:
    """The events that are recorded while the block runs, by any thread::

        from cortical.core.events import Moved
        from cortical.reasoning import NestedLoopExecutor

        executor = NestedLoopExecutor()
        root = executor.start_root("g")
        with capture_events(executor) as events:
            executor.advance(root)
        assert [moved.place for moved in events.of_type(Moved)] == ["answer"]

    Args:
        source: an executor, a journal, or what else has a `journal`: then each event stands in the list as soon as it
            is told, in the order of telling, and what others record in the same store is not in it. Or a store, or
            the path of one, as for agents that are `run` on it: then all that was added to it, by other processes
            too, stands in the list when the block has ended, by time, the events of one tree in the order of its log.

    Raises:
        WrongType: the source is none of these.
    """
    journal = getattr(source, "journal", source)
    if isinstance(journal, Journal):
        yield from _told_by(journal)
    elif isinstance(source, str | os.PathLike):
        with closing(open_store(source)) as store:
            yield from _added_to(store)
    elif hasattr(source, "root_of"):
        yield from _added_to(cast("Store", source))
    else:
        raise WrongType(f"events are captured from an executor, a journal, a store or its path, not from {source!r}")


def _told_by(journal: Journal) -> Iterator[CapturedEvents]:
    events = CapturedEvents()
    stop = journal.subscribe(events.append)
    try:
        yield events
    finally:
        stop()


def _added_to(store: Store) -> Iterator[CapturedEvents]:
    events = CapturedEvents()
    before = {root.id: len(store.read(root.id)) for root in store.roots()}
    try:
        yield events
    finally:
        store.flush()
        for root in reversed(store.roots()):
            events += store.read(root.id, before.get(root.id, 0))
        events.sort(key=lambda event: event.at)
