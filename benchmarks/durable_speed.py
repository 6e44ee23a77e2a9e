"""A step on the disk, beside a bare insert and commit of the same bytes by sqlite3 in the same mode."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Figure, rounds
from cortical.core.codec import encode_events
from cortical.core.events import Moved
from cortical.reasoning import NestedLoopExecutor
from cortical.store import open_store
from cortical.store.sqlite import Durability

_MODES: dict[Durability, str] = {"process": "NORMAL", "power": "FULL"}


def figures() -> list[Figure]:
    """Steps in both durabilities; far into a history; above a large unchanged state."""
    found: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for mode, steps in (("process", 3000), ("power", 400)):
            durability: Durability = "process" if mode == "process" else "power"
            ours, bare = rounds(_ours(Path(folder), durability, steps), _bare(Path(folder), durability, steps), times=9)
            found.append(Figure(f"durable advance, {mode}", ours, "µs", None, "less", bare, 1.5))
        early, late, heavy = rounds(
            _ours(Path(folder), "process", 2000),
            _ours(Path(folder), "process", 2000, before=50_000),
            _ours(Path(folder), "process", 2000, state=100_000),
            times=9,
        )
    found.append(Figure("the same after 50,000 steps", late, "µs", None, "less", early, 1.25, remark="floor: early"))
    found.append(
        Figure("the same above 100 kB of state", heavy, "µs", None, "less", early, 1.25, remark="floor: early")
    )
    return found


def _ours(folder: Path, durability: Durability, steps: int, before: int = 0, state: int = 0) -> Callable[[], int]:
    def work() -> int:
        for _ in range(steps):
            advance(root)
        return steps

    store = open_store(folder / f"ours-{durability}-{before}-{state}.db", durability=durability)
    executor = NestedLoopExecutor(store=store)
    root = executor.start_root("g", metadata={"state": "x" * state})
    advance = executor.advance
    for _ in range(before // 1000):
        with executor.transaction():
            for _ in range(1000):
                advance(root)
    return work


def _bare(folder: Path, durability: Durability, steps: int) -> Callable[[], int]:
    connection = sqlite3.connect(folder / f"bare-{durability}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {_MODES[durability]}")
    connection.execute("CREATE TABLE log (run TEXT, seq INTEGER, body BLOB, PRIMARY KEY (run, seq)) WITHOUT ROWID")
    _, body = encode_events([Moved("0ae48ca4f1e2d3c4b5a6", 12345, 1763654400.123456, "question")])
    count = 0

    def work() -> int:
        nonlocal count
        for _ in range(steps):
            count += 1
            connection.execute("INSERT INTO log VALUES (?, ?, ?)", ("0ae48ca4f1e2d3c4b5a6", count, body))
        return steps

    return work
