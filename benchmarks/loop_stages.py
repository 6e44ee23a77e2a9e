"""Stages that loop: an iteration with four substages, ten calls, in memory and durable, early and late."""

from __future__ import annotations

import gc
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, rounds
from cortical.stages.loop import StageHandler

STAGE = "stage"
SUBSTAGES = ("prepare", "process", "validate", "store")
CALLS = 10
IN_MEMORY = 2_000
DURABLE = 1_000
LONG = 100_000
SHORT = 1_000


def figures() -> list[Figure]:
    """What an iteration costs, and whether it costs more after many others."""
    with tempfile.TemporaryDirectory() as name:
        return [*_short(Path(name)), *_long()]


def config(**keys: Any) -> dict[str, Any]:
    """One stage that loops, with four substages."""
    substages = {substage: {"sequence": number} for number, substage in enumerate(SUBSTAGES, 1)}
    return {"stages": {STAGE: {"loop_config": keys, "substages": substages}}}


def started(store: Path | None, count: int) -> StageHandler:
    """A handler whose loop has begun."""
    handler = StageHandler(config(type="fixed", count=count), store=store)
    handler.start_stage(STAGE)
    handler.initialize_loop(STAGE)
    return handler


def walk(handler: StageHandler, iterations: int) -> int:
    """Go through so many iterations, ten calls each."""
    for _ in range(iterations):
        handler.start_iteration(STAGE)
        for substage in SUBSTAGES:
            handler.start_substage(STAGE, substage)
            handler.complete_substage(STAGE, substage, success=True)
        handler.complete_iteration(STAGE, success=True, iteration_results={"processed_items": 100})
    return iterations


def _fresh(folder: Path) -> Path:
    return folder / f"{time.perf_counter_ns()}.db"


def _durable(path: Path) -> int:
    with started(path, DURABLE) as handler:
        return walk(handler, DURABLE)


def _bare(path: Path) -> int:
    """Insert and commit ten rows of an event's size for each iteration."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE record (root TEXT, seq INTEGER, body TEXT, PRIMARY KEY (root, seq)) WITHOUT ROWID")
    body = '[["started/1","5398064e893fe1ff2034",1,1790000000.123456,"step","prepare","5398064e893fe1ff2034","work"]]'
    for number in range(DURABLE * CALLS):
        connection.execute("INSERT INTO record VALUES (?, ?, ?)", ("measured", number, body))
    connection.close()
    return DURABLE


def _short(folder: Path) -> list[Figure]:
    (in_memory,) = rounds(lambda: walk(started(None, IN_MEMORY), IN_MEMORY))
    floor, durable = rounds(lambda: _bare(_fresh(folder)), lambda: _durable(_fresh(folder)))
    return [
        Figure("iteration with four substages, in memory", 1e6 / in_memory, "/s", 8_000, "more"),
        Figure("the same, durable", 1e6 / durable, "/s", 2_000, "more", floor=1e6 / floor, remark="floor: ten commits"),
    ]


def _long() -> Iterator[Figure]:
    """The last thousand of many iterations: nothing may be looked through that is over."""
    handler = started(None, LONG)
    with _settled():
        early = _rate(handler)
    walk(handler, LONG - 2 * SHORT)
    with _settled():
        late = _rate(handler)
    yield Figure(f"iteration {SHORT:,}", early, "/s", 8_000, "more")
    yield Figure(f"iteration {LONG:,}", late, "/s", 8_000, "more", floor=early, within=1.25, remark="floor: early")


def _rate(handler: StageHandler) -> float:
    began = time.perf_counter()
    walk(handler, SHORT)
    return SHORT / (time.perf_counter() - began)


@contextmanager
def _settled() -> Iterator[None]:
    """What was made before is not walked by the garbage collector while the time is taken."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
