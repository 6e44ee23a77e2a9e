"""Loop stages whose process dies, and the example, run as its users run it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cortical.core.errors import RunNotFound
from cortical.stages.loop import StageHandler, Work, default_config
from cortical.store import Store, open_store
from cortical.testing import FakeClock, crash_everywhere
from tests.processes import unmeasured

EXAMPLE = Path(__file__).parents[2] / "examples" / "for_loop_stage.py"
SUBSTAGES = {"load": {"sequence": 1}, "save": {"sequence": 2}}
CONFIG = {
    "stages": {
        "s": {
            "loop_config": {"type": "fixed", "count": 40, "iteration_decision": "d"},
            "substages": SUBSTAGES,
            "decisions": {"d": {"limit": 0}},
        }
    }
}

# Goes on with the loop of a store, and dies by kill -9 when so many events more are kept.
_GOES_ON = """
import os, signal, sys, threading
from cortical.core.errors import LeaseHeld
from cortical.stages.loop import StageHandler
from tests.integration import test_loop_stages as here

left = int(sys.argv[4])

def count(event):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

with StageHandler(here.CONFIG, store=sys.argv[1], lease_seconds=0.2) as handler:
    handler.journal.subscribe(count)
    while True:
        try:
            getattr(here, sys.argv[3])(handler, sys.argv[2])
            break
        except LeaseHeld:
            threading.Event().wait(0.02)
"""


def take_up(handler: StageHandler) -> None:
    """Go on with the one process of the store, or begin it."""
    roots = handler.store.roots()
    if roots:
        handler.resume_process(roots[0].id)
    else:
        handler.initialize_process("one")


def walk(handler: StageHandler, done: str) -> None:
    """The calls of a process that may have died anywhere in them."""
    take_up(handler)
    stage = handler.get_stage("s") or handler.start_stage("s")
    if stage.status == "completed":
        return
    try:
        handler.get_loop_summary("s")
    except ValueError:
        handler.initialize_loop("s")
    iterations = handler.get_iterations("s")
    if iterations and iterations[-1].status == "active":
        handler.rollback_iteration("s", "the process died")
    while handler.has_next_iteration("s"):
        at = handler.start_iteration("s")
        assert at.parameters["limit"] == at.index
        for name in SUBSTAGES:
            handler.start_substage("s", name)
            with Path(done).open("a") as file:
                file.write(f"{at.current} {name}\n")
            handler.complete_substage("s", name, True, at.current)
        handler.make_decision("s", "d", {"limit": at.current})
        handler.complete_iteration("s", True, at.current, carry={"sum": (at.carry or {"sum": 0})["sum"] + at.current})
    standing = handler.get_loop_summary("s") if handler.journal.run(stage.run_id).place == "looped" else None
    summary = standing or handler.complete_loop("s")
    handler.complete_stage("s", True, summary)


def drive(handler: StageHandler, done: str) -> None:
    """Drive a loop, from wherever a process that died has left it."""

    def work(at: Work) -> Any:
        assert at.iteration is not None
        with Path(done).open("a") as file:
            file.write(f"{at.iteration.current} {at.substage}\n")
        at.carry = {"sum": (at.iteration.carry or {"sum": 0})["sum"] + at.iteration.current}
        return {"n": at.iteration.current}

    take_up(handler)
    handler.run_stage("s", work)


def go_on(folder: Path, how: str, events: int) -> int:
    """A process that goes on, and is killed after so many events; its exit code."""
    line = [sys.executable, "-c", _GOES_ON, str(folder / "s.db"), str(folder / "done"), how, str(events)]
    done = subprocess.run(line, cwd=Path(__file__).parents[2], env=unmeasured(), stderr=subprocess.PIPE, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode


@pytest.mark.parametrize("how", ["walk", "drive"])
def test_kill_9(how: str, tmp_path: Path) -> None:
    """Killed with kill -9 again and again, a loop goes on where it was: no iteration is lost, none is kept twice."""
    dice = random.Random(5)
    kills = 0
    while go_on(tmp_path, how, dice.randrange(1, 70)) != 0:
        kills += 1
        assert kills < 60
    assert kills >= 5
    store = open_store(tmp_path / "s.db", create=False)
    assert store.check() == []
    handler = StageHandler(CONFIG, store=store)
    handler.resume_process(store.roots()[0].id)
    stage = handler.get_stage("s")
    assert stage is not None
    assert stage.status == "completed"
    assert stage.result["carry"] == {"sum": sum(range(1, 41))}
    assert (stage.result["iterations"], stage.result["completed"]) == (40, 40)
    done = (tmp_path / "done").read_text().splitlines()
    assert {f"{number} {name}" for number in range(1, 41) for name in SUBSTAGES} == {*done}
    assert len(done) <= 80 + 2 * kills  # only what was under way when it died was done again
    store.close()


def small(**loop: Any) -> dict[str, Any]:
    return {"stages": {"s": {"loop_config": {"type": "fixed", "count": 2, **loop}, "substages": SUBSTAGES}}}


def test_every_write_of_a_driven_loop() -> None:
    """A crash before or after any write of a driven loop, driven again, leaves the same tree."""

    def scenario(store: Store) -> object:
        handler = StageHandler(
            small(on_error="retry", retry={"max_attempts": 2, "delay": 0.0}), store=store, clock=FakeClock()
        )
        try:
            handler.resume_process()
        except RunNotFound:
            if store.roots():
                return None
            handler.initialize_process("drive")

        def work(at: Work) -> Any:
            assert at.iteration is not None
            at.carry = f"{at.iteration.current} {at.substage}"
            if at.iteration.current == 2 and at.iteration.attempt == 1 and at.substage == "save":
                raise OSError("busy")
            return {"n": at.iteration.current}

        return handler.run_stage("s", work)

    report = crash_everywhere(scenario)
    assert report.crashes >= 30


# The example


def play(folder: Path, *arguments: str, status: int = 0) -> str:
    """The example, run in a folder; what it printed."""
    line = [sys.executable, str(EXAMPLE), "--out", str(folder / "out"), *arguments]
    done = subprocess.run(line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == status, done.stdout.decode()
    return done.stdout.decode()


def test_the_example(tmp_path: Path) -> None:
    """The example works through its orders, decides to be stricter half-way, and to end before the next quarter."""
    said = play(tmp_path)
    assert "500 orders in 5 batches" in said
    assert "threshold 0.5 → 0.9 from here on" in said
    assert "4 of 4 batches: the next orders are of July, after the end of the quarter" in said
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [f"batch-{n}.csv" for n in (1, 2, 3, 4)]


def test_the_example_killed(tmp_path: Path) -> None:
    """Killed in the middle of any batch and started again, it writes the same files and decides the same."""
    whole = tmp_path / "whole"
    whole.mkdir()
    play(whole)
    for batch in (1, 3, 4):
        folder = tmp_path / f"killed-{batch}"
        folder.mkdir()
        said = play(folder, "--store", "s.db", "--die-in", str(batch), status=-signal.SIGKILL)
        assert f"☠ kill -9 in the middle of batch {batch}" in said
        said = play(folder, "--store", "s.db")
        assert f"batch {batch} was left half done" in said
        assert f"iteration {batch}, attempt 2" in said
        for file in (whole / "out").iterdir():
            assert (folder / "out" / file.name).read_bytes() == file.read_bytes()
        with StageHandler(default_config(), store=folder / "s.db") as handler:
            handler.resume_process(handler.store.roots()[0].id)
            assert [one.iteration for one in handler.decision_history("data_processing")] == [None] * 3
