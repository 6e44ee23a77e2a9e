"""A store with a million ended runs, beside an empty one: opening, asking, starting, advancing, taking up."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.measure import Figure, rounds
from cortical.core.events import Event, Started
from cortical.core.ids import new_id
from cortical.reasoning import NestedLoopExecutor
from cortical.store import MemoryStore, Store, open_store

#: A tree that is copied: a root and its children, all of them ended.
RUNS_OF_A_TREE: Final = 10
_TREES_OF_A_RECORD: Final = 500
_ROUNDS: Final = 7
_STEPS: Final = 200


def figures() -> list[Figure]:
    """Each figure in a store of a million ended runs; its floor is the same in an empty one."""
    with tempfile.TemporaryDirectory() as folder:
        full, empty = Path(folder) / "full.db", Path(folder) / "empty.db"
        for path, trees in ((full, 1_000_000 // RUNS_OF_A_TREE), (empty, 0)):
            with closing(open_store(path)) as store:
                fill(store, trees)
                leave_open(store)
        return [_beside(what, works(full)[what], works(empty)[what]) for what in works(full)]


def fill(store: Store, trees: int) -> None:
    """Put so many trees of ended runs into a store, by the records that walking them would have left."""
    log = _template()
    ids = list({event.run_id: None for event in log})
    for first in range(0, trees, _TREES_OF_A_RECORD):
        copies = (_copy(log, ids, number) for number in range(first, min(trees, first + _TREES_OF_A_RECORD)))
        store.append(*(store.prepare(events[0].run_id, 0, events) for events in copies))


def works(path: Path) -> dict[str, Callable[[], int]]:
    """What is done in a store in which one tree is open, by name; each tells how often it did it."""
    return {
        "opening it, and listing the newest ten trees": lambda: _opened(path),
        "finding an id by its beginning": lambda: _found(path),
        "the active loops, and the summary of them": lambda: _active(path),
        "taking up the open tree": lambda: _taken_up(path),
        "starting a loop": lambda: _started(path),
        "advancing one": lambda: _advanced(path),
    }


def _beside(what: str, full: Callable[[], int], empty: Callable[[], int]) -> Figure:
    reached, floor = rounds(full, empty, times=_ROUNDS)
    return Figure(what, reached, "µs", floor=floor, within=1.5, remark="floor: in an empty store")


def _template() -> list[Event]:
    store = MemoryStore(strict=True)
    with NestedLoopExecutor(store=store) as executor:
        root = executor.start_root("tree")
        for child in executor.spawn_children(root, [f"part {part}" for part in range(RUNS_OF_A_TREE - 1)]):
            executor.complete(child, "done")
        executor.complete(root)
    return store.read(root)


def _copy(log: list[Event], ids: list[str], number: int) -> list[Event]:
    new = {old: new_id() for old in ids}
    return list(_renamed(log, new, f"tree {number}"))


def _renamed(log: list[Event], new: dict[str, str], goal: str) -> Iterator[Event]:
    for event in log:
        changes: dict[str, object] = {"run_id": new[event.run_id]}
        if isinstance(event, Started):
            changes |= {"parent_id": new[event.parent_id]} if event.parent_id else {"name": goal}
        yield msgspec.structs.replace(event, **changes)


def leave_open(store: Store) -> None:
    with NestedLoopExecutor(store=store) as executor:
        executor.spawn_child(executor.start_root("left open"), "sub")


def _opened(path: Path) -> int:
    with closing(open_store(path)) as store:
        assert store.roots(limit=10)
    return 1


def _found(path: Path) -> int:
    with closing(open_store(path)) as store:
        newest = store.roots(limit=1)[0].id
        assert store.find(newest[:-1]) == [newest]
        assert store.find("no such id") == []
    return 1


def _active(path: Path) -> int:
    with NestedLoopExecutor(store=path) as executor:
        assert executor.get_active_loops()
    return 1


def _taken_up(path: Path) -> int:
    with NestedLoopExecutor(store=path) as executor:
        (child,) = executor.get_children(_left_open(executor))
        executor.record_answer(child.id, "taken up")
        return 1


def _left_open(executor: NestedLoopExecutor) -> str:
    return next(root.id for root in executor.store.roots(open_only=True) if root.goal == "left open")


def _started(path: Path) -> int:
    with NestedLoopExecutor(store=path) as executor:
        for _ in range(_STEPS):
            executor.complete(executor.start_root("new"))
    return _STEPS


def _advanced(path: Path) -> int:
    with NestedLoopExecutor(store=path) as executor:
        root = executor.start_root("new")
        for _ in range(_STEPS):
            executor.advance(root)
        executor.complete(root)
    return _STEPS
