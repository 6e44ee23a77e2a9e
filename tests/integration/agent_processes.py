"""Drives the agents of `agent_scenarios` in processes of their own.

``python -m tests.integration.agent_processes run AGENT STORE FOLDER`` starts a tree, ``… resume STORE GATE`` takes up
the only tree of a store, ``… provide STORE KEY VALUE`` answers a question in it. ``… crews FOLDER …`` starts a tree in
each folder and never ends, ``… compete PIPE FOLDER …`` takes them up one by one, whenever the pipe says so, and
``… live STORE SIDE LIFE`` drives a tree for as long as this life lasts.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from cortical import open_store, provide, resume, run
from cortical.agents import Result
from cortical.core.errors import LeaseHeld, LeaseLost
from cortical.core.ports import Record
from cortical.core.status import Status
from cortical.testing import DyingStore, FakeClock, ProcessDied
from tests.integration.agent_scenarios import AGENTS, calls, everything, until

#: How a process says by its exit code what became of its driving.
HELD: Final = 3
LOST: Final = 4


def main(verb: str, *args: str) -> int:
    """Do what the command line says; the exit code says how it went."""
    match verb:
        case "provide":
            provide(args[0], _only_root(args[0]), *args[1:])
            return 0
        case "crews":
            return _crews(*args)
        case "compete":
            return _compete(int(args[0]), *args[1:])
        case "live":
            return _live(args[0], Path(args[1]), int(args[2]))
    code, told = _told(lambda: _driven(verb, *args))
    print(told)
    return code


def _told(drive: Callable[[], Result]) -> tuple[int, str]:
    """How a driving went: an exit code, and a line."""
    try:
        result = drive()
    except LeaseHeld as held:
        return HELD, str(held)
    except LeaseLost as lost:
        return LOST, str(lost)
    return 0, f"{result.status.value} {result.value}"


def _driven(verb: str, *args: str) -> Result:
    if verb == "run":
        name, path, folder = args
        return run(AGENTS[name], name, store=path, inputs={"folder": folder}, lease_seconds=0.5)
    path, gate = args
    root = _only_root(path)
    Path(f"{gate} {os.getpid()}").touch()
    until(Path(gate).exists)
    return resume(path, root, lease_seconds=0.5)


def _crews(*folders: str) -> int:
    """Drive a crew in each of the folders, until this process is killed: their second steps wait."""
    drives = [threading.Thread(target=_driven, args=("run", "crew", f"{folder}/runs.db", folder)) for folder in folders]
    for drive in drives:
        drive.start()
    for drive in drives:
        drive.join()
    return 0


def _compete(pipe: int, *folders: str) -> int:
    """Take up the tree of each folder as soon as a byte comes through the pipe, and say how it went."""
    for folder in folders:
        path = f"{folder}/runs.db"
        root = _only_root(path)
        print("ready", flush=True)
        os.read(pipe, 1)
        print(*_told(partial(resume, path, root, lease_seconds=0.5)), flush=True)
    return 0


class KillingStore(DyingStore):
    """A store that kills the process at one of its writes, before or after the write is kept."""

    def append(self, *records: Record) -> None:
        try:
            super().append(*records)
        except ProcessDied:
            os.kill(os.getpid(), signal.SIGKILL)


def _live(path: str, side: Path, life: int) -> int:
    """Drive a tree for a few writes, and be killed; whatever is called is told to the side file."""
    calls.begin(side)
    clock = FakeClock()
    clock.advance(60 * life)  # the lease of the life before has run out
    with closing(open_store(path)) as kept:
        store = KillingStore(kept, 9 + life % 5, "before" if life % 2 else "after")
        roots = store.roots()
        drive = partial(resume, store, roots[0].id) if roots else partial(run, everything, "all", store=store)
        assert drive(clock=clock).status is Status.COMPLETED
    return 0


def _only_root(path: str) -> str:
    with closing(open_store(path, create=False)) as store:
        return store.roots()[0].id


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
