"""Every store keeps one contract."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from cortical.core.events import Event
from cortical.store import MemoryStore, Store, open_store
from cortical.store.sqlite import Durability
from cortical.testing import check_store, store_checks
from cortical.testing.store_steps import Check, Open


def _memory(folder: Path, strict: bool = False) -> Open:
    store = MemoryStore(strict=strict)
    return lambda: store


def _sqlite(folder: Path, durability: Durability) -> Open:
    return lambda: open_store(folder / "runs.db", durability=durability)


ADAPTERS: dict[str, Callable[[Path], Open]] = {
    "memory": _memory,
    "strict memory": partial(_memory, strict=True),
    "process": partial(_sqlite, durability="process"),
    "power": partial(_sqlite, durability="power"),
}


def _closing(make: Open, opened: list[Store]) -> Open:
    def open_one() -> Store:
        opened.append(make())
        return opened[-1]

    return open_one


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("check", store_checks(), ids=lambda check: check.__name__)
def test_contract(check: Check, adapter: str, tmp_path: Path) -> None:
    """The adapter keeps this point of the contract."""
    opened: list[Store] = []
    check(_closing(ADAPTERS[adapter](tmp_path), opened))
    for store in opened:
        store.close()


def test_check_store_names_what_is_broken() -> None:
    """A store that breaks the contract is told which point of it."""

    class Forgetful(MemoryStore):
        def read(self, root_id: str, start: int = 0) -> list[Event]:
            return super().read(root_id, start)[:-1]

    def make() -> Open:
        store = Forgetful()
        return lambda: store

    with pytest.raises(AssertionError, match="what_is_appended_is_read: Events come back equal"):
        check_store(make)


def test_check_store_passes_a_good_store() -> None:
    """A store that keeps the contract passes all of it at once."""

    def make() -> Open:
        store = MemoryStore()
        return lambda: store

    check_store(make)
