"""A store of a hundred thousand ended runs is asked and written at the cost of an empty one: counted, not timed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.million import RUNS_OF_A_TREE, fill, leave_open, works
from cortical.looking.soundness import unsound
from cortical.store import open_store

TREES = 100_000 // RUNS_OF_A_TREE
PAGE = 4096


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A full store and an empty one, a tree left open in each."""
    folder = tmp_path_factory.mktemp("stores")
    made = folder / "full.db", folder / "empty.db"
    for path, trees in zip(made, (TREES, 0), strict=True):
        with closing(open_store(path)) as store:
            fill(store, trees)
            leave_open(store)
    return made


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many steps SQLite's machine has made, in all that is opened from now on."""
    made = [0]
    connect = sqlite3.connect

    def count() -> int:
        made[0] += 1
        return 0

    def counted(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)
        connection.set_progress_handler(count, 1)
        return connection

    monkeypatch.setattr(sqlite3, "connect", counted)
    return made


def cost(work: Callable[[], int], steps: list[int]) -> tuple[int, int, int]:
    """Steps that SQLite made, pages that this process read, and how often the work did what it does."""
    work()  # what is read once, such as a module, is read now
    process = psutil.Process()
    steps[0], before = 0, process.io_counters().read_chars
    calls = work()
    return steps[0], (process.io_counters().read_chars - before) // PAGE, calls


def test_it_is_full_and_sound(stores: tuple[Path, Path]) -> None:
    """What the benchmark fills a store with is what walking such trees would have left."""
    with closing(open_store(stores[0])) as store:
        roots = store.roots()
        assert len(roots) == TREES + 1
        assert sum(root.ended_at is None for root in roots) == 1
        for root in roots[:: TREES // 50]:
            log = store.read(root.id)
            assert unsound(log) == []
            assert sum(event.seq == 1 for event in log) == (RUNS_OF_A_TREE if root.ended_at else 2)


@pytest.mark.parametrize("what", list(works(Path())))
def test_the_cost_is_that_of_an_empty_store(what: str, stores: tuple[Path, Path], steps: list[int]) -> None:
    """What SQLite does for it does not grow with what has ended; a few pages more are read, its trees being deeper."""
    full, empty = (cost(works(path)[what], steps) for path in stores)
    assert 0 < full[0] <= empty[0] * 1.1 + 200, f"{full[0]:,} steps, and {empty[0]:,} in an empty store"
    deeper = 5 * full[2]  # of each index that a new id goes into, the pages on the way to its place
    assert full[1] <= empty[1] + 32 + deeper, f"{full[1]:,} pages were read, and {empty[1]:,} in an empty store"


def test_the_count_sees_what_grows(stores: tuple[Path, Path], steps: list[int]) -> None:
    """What does grow is seen by these counts: listing all trees, and checking the whole file."""

    def listed(path: Path) -> int:
        with closing(open_store(path)) as store:
            return len(store.roots())

    def counted(path: Path) -> int:
        with closing(sqlite3.connect(path)) as connection:
            return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])

    assert cost(lambda: listed(stores[0]), steps)[0] > TREES
    assert cost(lambda: counted(stores[0]), steps)[1] > 500
