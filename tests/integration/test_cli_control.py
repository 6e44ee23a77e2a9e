"""The commands for loops that run on, as processes beside the one that drives."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cortical.control import LoopController
from tests.integration.test_cli import COMMAND, cli, environment

#: A controlled loop that takes one step for each line it is given, and says when it was taken.
PROGRAM = """
import sys
from cortical.control import LoopController, State, max_iterations

def body(state):
    number = state.get("number", 0) + 1
    print("in", number, flush=True)
    if sys.stdin.readline() == "":
        raise SystemExit
    return State(number=number)

with LoopController("steps", store=sys.argv[1], stop_when=max_iterations(100), lease_seconds=1.0) as controller:
    print(controller.run(body).status.value, flush=True)
"""
PATIENCE_SECONDS = 30.0


class Driver:
    """A process that drives the loop, step by step."""

    def __init__(self, store: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def step(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def driver(store: Path) -> Iterator[Driver]:
    """A loop that is driven by another process, in the body of its first iteration."""
    found = Driver(store)
    assert found.says() == "in 1"
    yield found
    found.process.kill()
    found.process.communicate()


class Watching:
    """A process that watches, whose output is read as it comes."""

    def __init__(self, store: Path, *arguments: str, terminal: bool = False) -> None:
        self._output, its_end = pty.openpty() if terminal else os.pipe()
        self._seen = ""
        self.process = subprocess.Popen(
            [*COMMAND, "watch", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=its_end,
            stderr=its_end,
            env=environment(store, **({"COLUMNS": "80", "LINES": "24"} if terminal else {})),
        )
        os.close(its_end)

    def until(self, seen: Callable[[str], bool]) -> str:
        """What came, up to when it is as expected."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not seen(self._seen):
            left = deadline - time.monotonic()
            ready = select.select([self._output], [], [], max(0.0, left))[0]
            assert ready, f"it did not come: {self._seen!r}"
            chunk = os.read(self._output, 65536)
            assert chunk, f"it ended: {self._seen!r}"
            self._seen += chunk.decode(errors="replace")
        return self._seen

    def rest(self) -> str:
        """All that came, after it has ended."""
        while True:
            try:
                chunk = os.read(self._output, 65536)
            except OSError:  # Linux says so when the other end of a terminal is closed
                chunk = b""
            if not chunk:
                os.close(self._output)
                return self._seen
            self._seen += chunk.decode(errors="replace")


def test_watch_tells_of_what_another_process_does(store: Path, driver: Driver) -> None:
    """Piped, there is a line for each change, and Ctrl-C ends it quietly."""
    watching = Watching(store)
    watching.until(lambda seen: "iteration" in seen)
    driver.step()
    assert driver.says() == "in 2"
    watching.until(lambda seen: "iteration #2" in seen and "(1 of 100" in seen)
    assert cli(store, "pause", "steps", "--reason", "lunch").returncode == 0
    watching.until(lambda seen: "⏸" in seen and "lunch" in seen)
    watching.process.send_signal(signal.SIGINT)
    assert watching.process.wait(PATIENCE_SECONDS) == 0
    assert "Traceback" not in watching.rest()


def test_watching_one_ends_with_it(store: Path, driver: Driver) -> None:
    """When the loop that is watched has ended, so has the watching."""
    watching = Watching(store, "steps")
    watching.until(lambda seen: "iteration" in seen)
    assert cli(store, "break", "steps", "--reason", "no longer needed").returncode == 0
    assert watching.process.wait(PATIENCE_SECONDS) == 0
    assert "⊘ steps" in watching.rest()


def test_a_terminal_shows_the_frame(store: Path, driver: Driver) -> None:
    """In a terminal trees and progress are drawn anew, and after Ctrl-C the cursor is there again."""
    watching = Watching(store, terminal=True)
    driver.step()
    watching.until(lambda seen: "1 of 100" in seen and "Ctrl-C ends the watching" in seen)
    watching.process.send_signal(signal.SIGINT)
    assert watching.process.wait(PATIENCE_SECONDS) == 0
    printed = watching.rest()
    assert "Traceback" not in printed
    assert printed.rindex("\x1b[?25h") > printed.rindex("\x1b[?25l")


def test_watch_waits_for_a_first_tree(store: Path) -> None:
    """With no tree open it says so, and tells of the first that is started."""
    LoopController("ended", store=store).close()
    cli(store, "break", "ended", "--reason", "over")
    watching = Watching(store)
    watching.until(lambda seen: "waiting for one" in seen)
    found = Driver(store)
    try:
        watching.until(lambda seen: "▶ steps" in seen)
    finally:
        found.process.kill()
        found.process.communicate()
        watching.process.kill()
        watching.process.wait()
        watching.rest()


def test_pause_unpause_and_break_a_loop_that_is_driven_elsewhere(store: Path, driver: Driver) -> None:
    """Its driver waits after the iteration under way, goes on, and ends with it."""
    assert cli(store, "pause", "steps", "--reason", "lunch").returncode == 0
    driver.step()
    assert json.loads(cli(store, "tree", "steps", "--json").stdout)[0]["loops"][0]["status"] == "paused"
    assert cli(store, "unpause", "steps").returncode == 0
    assert driver.says() == "in 2"
    driver.step()
    assert driver.says() == "in 3"
    assert cli(store, "break", "steps", "--reason", "enough").returncode == 0
    driver.step()
    assert driver.says() == "abandoned"


def test_checkpoints_of_a_loop_that_is_driven_elsewhere(store: Path, driver: Driver) -> None:
    """Data can be kept and had back meanwhile; who drives the loop is named, and nothing of it is lost."""
    driver.step()
    assert driver.says() == "in 2"
    made = cli(store, "checkpoint", "create", "steps").stdout.strip()
    driver.step()
    assert driver.says() == "in 3"
    said = cli(store, "checkpoint", "restore", made)
    assert (said.returncode, said.stdout) == (0, "")
    assert f"process {driver.process.pid} " in said.stderr
    driver.step()
    assert driver.says() == "in 4"
    driver.process.kill()
    driver.process.wait()
    with LoopController("steps", store=store) as controller:
        assert controller.get_state() == {"number": 3}
        assert [one.status for one in controller.get_execution_history()] == ["finished"] * 3 + ["open"]


def test_after_a_kill_health_tells_and_recover_lets_it_go_on(store: Path, driver: Driver) -> None:
    """Once the lease of a dead process has run out, it is found, recovered, and carried on by its program."""
    driver.step()
    assert driver.says() == "in 2"
    assert cli(store, "recover", "steps").returncode == 1
    driver.process.kill()
    driver.process.wait()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (listed := json.loads(cli(store, "recover", "--json").stdout)):
        assert time.monotonic() < deadline
    assert [one["id"] for one in listed] == ["steps"]
    health = cli(store, "health")
    assert health.returncode == 1
    assert "no heartbeat" in health.stdout
    recovered = cli(store, "recover", "steps")
    assert recovered.returncode == 0
    assert "takes up 'steps'" in recovered.stderr
    again = Driver(store)
    try:
        assert again.says() == "in 2"
        again.step()
        assert again.says() == "in 3"
    finally:
        again.process.kill()
        again.process.communicate()
