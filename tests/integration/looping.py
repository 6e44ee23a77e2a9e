"""A controlled loop with checkpoints, driven from wherever its store says.

Run as a program (``python -m tests.integration.looping STORE WRITE MOMENT``) it drives the loop to its end, or until it
kills itself, with a real kill -9: before or after its so-manieth durable write, or in the body of that iteration.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from cortical.control import LoopController, LoopResult, State, max_iterations
from cortical.store import Store, open_store
from cortical.testing import DyingStore, ProcessDied

ITERATIONS = 150


def drive(store: Store, dies_in: int = 0) -> LoopResult:
    """Drive the loop on; it keeps what each iteration saw."""

    def body(state: dict[str, Any]) -> State:
        number = state.get("number", 0) + 1
        if number == dies_in:
            os.kill(os.getpid(), signal.SIGKILL)
        return State(number, number=number, seen=[*state.get("seen", []), number])

    controller = LoopController("loop", store=store, stop_when=max_iterations(ITERATIONS), lease_seconds=0.001)
    controller.set_checkpoint_interval(4)
    return controller.run(body)


def main(path: str, write: int, moment: str) -> None:
    """Drive, or die."""
    store = open_store(path)
    if moment == "body":
        drive(store, dies_in=write)
        return
    try:
        drive(DyingStore(store, write, "after" if moment == "after" else "before"))
    except ProcessDied:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
