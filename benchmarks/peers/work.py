"""The work that every system does, and how it is timed.

Standard library only: each system runs it in an environment of its own, as
``python -m benchmarks.peers.with_NAME WORK FOLDER MODE COUNT``, and prints what it took as JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

#: Does so many steps or children, and returns what `Work.expected` says.
Do = Callable[[int], object]
#: Opens a store in a file for a work, in a mode of the system's own.
Open = Callable[[str, Path, str], AbstractContextManager[Do]]


@dataclass(frozen=True)
class Work:
    """A piece of work, and what it must come to."""

    count: int
    #: How many are done before the time is taken.
    warm_up: int
    expected: Callable[[int], object]


def successor(number: int) -> int:
    """What a step does."""
    return number + 1


def doubled(number: int) -> int:
    """What a child does, in one step."""
    return number * 2


def line(number: int) -> str:
    """1 KiB that is like no other."""
    return random.Random(number).randbytes(512).hex()


WORKS = {
    "steps": Work(1_000, 100, lambda count: count),
    "children": Work(200, 20, lambda count: [doubled(number) for number in range(count)]),
    # Nothing goes before it: the size of the file is asked.
    "growing": Work(1_000, 0, lambda count: count),
}


def main(opened: Open) -> None:
    """Do the work that the command line names, and print seconds and bytes."""
    name, folder, mode, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    work = WORKS[name]
    with opened(name, folder / "runs.db", mode) as do:
        if work.warm_up:
            do(work.warm_up)
        began = time.perf_counter()
        found = do(count)
        seconds = time.perf_counter() - began
    if found != work.expected(count):
        raise SystemExit(f"{name} came to {found!r}")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(json.dumps({"seconds": seconds, "bytes": size}))
