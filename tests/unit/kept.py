"""Stores for tests, and what they have kept."""

from __future__ import annotations

from collections.abc import Iterable

from cortical.core.events import Event
from cortical.core.run import Run
from cortical.core.tree import Tree
from cortical.store import MemoryStore, Store


def strict() -> MemoryStore:
    """A store in memory that takes only what a durable one could keep."""
    return MemoryStore(strict=True)


def root_of(store: Store) -> Run:
    """The root of the newest tree, as the log has it."""
    return Tree.of(store.read(store.roots()[0].id)).root


def keys(events: Iterable[Event]) -> list[tuple[str, int]]:
    """By what events are known."""
    return [(event.run_id, event.seq) for event in events]
