"""Controlled loops: an empty iteration, its room on the disk, checkpoints, the meter, and kill -9.

``python -m benchmarks.control drive STORE ITERATIONS`` drives a loop so far and kills itself; ``… take-up STORE`` opens
the store, and prints how long it was until the body was called.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from benchmarks.measure import Figure, rounds
from cortical.control import LoopController, ProcessMeter, State, max_iterations, memory

IN_MEMORY = 20_000
DURABLE = 5_000
HISTORIES = (1_000, 10_000, 50_000)
TAKEN_UP = 10_000
METERED = 2_000
STATE_BYTES = 100 * 1024
CHECKPOINT_EVERY = 10
LEASE_SECONDS = 0.5

Body = Callable[[dict[str, Any]], Any]
T = TypeVar("T")


def figures() -> list[Figure]:
    """What a controlled loop costs in time and room."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [*_speed(folder), *_disk(folder), _recovery(folder), _metering(), *_checkpoints(folder)]


def _drive(store: Path | None, body: Body, iterations: int, **options: Any) -> int:
    every = options.pop("checkpoint_every", None)
    with LoopController("measured", store=store, stop_when=max_iterations(iterations), **options) as loop:
        loop.set_checkpoint_interval(every)
        result = loop.run(body)
        if not result.ok:
            raise RuntimeError(f"the loop that is measured ended {result.status.value}: {result.details}")
    return iterations


def _fresh(folder: Path) -> Path:
    return folder / f"{time.perf_counter_ns()}.db"


# Speed


def _speed(folder: Path) -> list[Figure]:
    (in_memory,) = rounds(lambda: _drive(None, _nothing, IN_MEMORY))
    floor, empty, working = rounds(
        lambda: _bare(_fresh(folder), DURABLE),
        lambda: _drive(_fresh(folder), _nothing, DURABLE),
        lambda: _drive(_fresh(folder), _count, DURABLE),
    )
    return [
        Figure("empty iteration, in memory", 1e6 / in_memory, "/s", 50_000, "more"),
        Figure("empty iteration, durable", empty, "µs", floor=floor, within=3),
        Figure("iteration with a result and a changed state, durable", working, "µs", floor=floor),
    ]


def _bare(path: Path, count: int) -> int:
    """Insert and commit a row of an iteration's size, so many times."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE record (root TEXT, seq INTEGER, body TEXT, PRIMARY KEY (root, seq)) WITHOUT ROWID")
    body = '[["Moved","measured",12345,1790000000.123456,"iteration"]]'
    for number in range(count):
        connection.execute("INSERT INTO record VALUES (?, ?, ?)", ("measured", number, body))
    connection.close()
    return count


# Room


def _disk(folder: Path) -> list[Figure]:
    return [
        Figure(f"disk of an iteration, {count:,} of them", _bytes_each(_fresh(folder), count), "B", 1024)
        for count in HISTORIES
    ]


def _bytes_each(path: Path, count: int) -> float:
    _drive(path, _count, count)
    return path.stat().st_size / count


# Taking up


def _recovery(folder: Path) -> Figure:
    path = _fresh(folder)
    killed = subprocess.run(
        [sys.executable, "-m", "benchmarks.control", "drive", str(path), str(TAKEN_UP)], check=False
    )
    if killed.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the loop that was to be killed ended with exit code {killed.returncode}")
    time.sleep(LEASE_SECONDS)
    line = [sys.executable, "-m", "benchmarks.control", "take-up", str(path)]
    taken = [float(subprocess.run(line, check=True, stdout=subprocess.PIPE).stdout) for _ in range(5)]
    return Figure(f"a loop of {TAKEN_UP:,} iterations taken up after kill -9", median(taken), "s", 0.2)


def _drive_and_die(store: Path, iterations: int) -> None:
    def body(state: dict[str, Any]) -> State:
        if state.get("number", 0) == iterations:
            os.kill(os.getpid(), signal.SIGKILL)
        return _count(state)

    with LoopController("measured", store=store, lease_seconds=LEASE_SECONDS) as loop:
        loop.set_checkpoint_interval(100)
        loop.run(body)


def _take_up(store: Path) -> None:
    began = time.perf_counter()

    def body(state: dict[str, Any]) -> None:
        print(time.perf_counter() - began)
        raise KeyboardInterrupt  # the loop stays open for the next round

    with LoopController("measured", store=store) as loop:
        try:
            loop.run(body)
        except KeyboardInterrupt:
            return


# The meter


class _Timed:
    """The usual meter, and how long it was at work: on a busy machine a difference of two runs would say nothing."""

    def __init__(self) -> None:
        self._meter = ProcessMeter()
        self.seconds = 0.0

    def start(self) -> None:
        self._timed(self._meter.start)

    def used(self) -> Mapping[str, float]:
        return self._timed(self._meter.used)

    def _timed(self, call: Callable[[], T]) -> T:
        began = time.perf_counter()
        try:
            return call()
        finally:
            self.seconds += time.perf_counter() - began


def _metering() -> Figure:
    ProcessMeter().start()  # psutil is imported at the first use
    meter = _Timed()
    with LoopController("measured", stop_when=max_iterations(METERED) | memory(mib=2**20), meter=meter) as loop:
        took = loop.run(_work_for_a_millisecond).seconds
    return Figure("resource meter above a body of 1 ms, share of the time", meter.seconds / took * 100, "%", 1)


def _work_for_a_millisecond(_: object) -> None:
    until = time.perf_counter() + 0.001
    while time.perf_counter() < until:
        pass


# Checkpoints


def _checkpoints(folder: Path) -> list[Figure]:
    count = 1_000
    large = {"kept": "x" * STATE_BYTES}
    nested = {"kept": [{"line": number} for number in range(STATE_BYTES // 16)]}
    small, parts, plain, often = rounds(
        lambda: _drive(_fresh(folder), _count, count),
        lambda: _drive(_fresh(folder), _count, count // 10, state=nested),
        lambda: _drive(_fresh(folder), _count, count, state=large),
        lambda: _drive(_fresh(folder), _count, count, state=large, checkpoint_every=1),
    )
    without, with_them = _fresh(folder), _fresh(folder)
    _drive(without, _count, count, state=large)
    _drive(with_them, _count, count, state=large, checkpoint_every=CHECKPOINT_EVERY)
    grown = with_them.stat().st_size - without.stat().st_size
    made = count // CHECKPOINT_EVERY
    return [
        Figure("iteration above 100 KiB in one text", plain, "µs", floor=small, remark="floor: a number"),
        Figure("iteration above 100 KiB in 6,400 small parts", parts, "µs", floor=small, remark="floor: a number"),
        Figure("iteration with a checkpoint, 100 KiB of state", often, "µs", floor=plain, remark="floor: without"),
        Figure(f"store for a checkpoint each {CHECKPOINT_EVERY} iterations, 100 KiB", grown / made, "B each", 1024),
    ]


def _nothing(_: object) -> None:
    """Do nothing, as a body."""


def _count(state: dict[str, Any]) -> State:
    number = state.get("number", 0) + 1
    return State(number, number=number)


if __name__ == "__main__":
    if sys.argv[1] == "drive":
        _drive_and_die(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        _take_up(Path(sys.argv[2]))
