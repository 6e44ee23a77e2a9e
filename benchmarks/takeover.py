"""How long after a driver was killed another process has its tree, in lengths of its lease.

``python -m benchmarks.takeover drive FOLDER`` starts a tree in a process of its own, ``… stand-by FOLDER`` asks for it
again and again until it has it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from cortical.agents import Agent, Loop, Verdict, resume, run
from cortical.core.errors import LeaseHeld
from cortical.store import open_store

LEASE_SECONDS = 2.0
#: The lease is renewed three times in its length; these are killed at different distances from that.
KILLED_AFTER = (0.3, 0.5, 0.6)
_PACE = 0.01
_PATIENCE = 30.0


def lease_lengths() -> float:
    """From the kill of a driver to the first phase that another process enters, the worst of some, ÷ the lease."""
    return max(_seconds_to_take_over(after) for after in KILLED_AFTER) / LEASE_SECONDS


def _seconds_to_take_over(after: float) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = _start("drive", folder)
        second = None
        try:
            _until((folder / "drive").exists)
            second = _start("stand-by", folder)
            _until((folder / "refused").exists)
            time.sleep(after)
            killed = time.time()
            first.kill()
            (folder / "over").touch()
            if second.wait(_PATIENCE):
                raise RuntimeError(f"the process that stood by ended with exit code {second.returncode}")
            return float((folder / "stand-by").read_text()) - killed
        finally:
            for process in filter(None, (first, second)):
                process.kill()
                process.wait()


def _start(role: str, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "benchmarks.takeover", role, str(folder)])


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_PATIENCE:g} s in vain for a process of this benchmark")
        time.sleep(_PACE)


def _standing(role: str, folder: Path) -> Agent:
    """An agent that notes when its phase is entered, and stays in it until the first driver is dead."""
    agent = Agent("standing")

    @agent.answer
    def stand(loop: Loop) -> None:
        (folder / f"{role}.new").write_text(repr(time.time()))
        (folder / f"{role}.new").rename(folder / role)
        _until((folder / "over").exists)

    agent.verify(lambda loop: Verdict.passed())
    return agent


def _drive(folder: Path) -> None:
    run(_standing("drive", folder), "measure", store=folder / "runs.db", lease_seconds=LEASE_SECONDS)


def _stand_by(folder: Path) -> None:
    with closing(open_store(folder / "runs.db")) as store:
        root = store.roots()[0].id
        while True:
            try:
                resume(store, root, agents=[_standing("stand-by", folder)], lease_seconds=LEASE_SECONDS)
            except LeaseHeld:
                (folder / "refused").touch()
                time.sleep(_PACE)
            else:
                return


if __name__ == "__main__":
    {"drive": _drive, "stand-by": _stand_by}[sys.argv[1]](Path(sys.argv[2]))
