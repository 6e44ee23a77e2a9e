"""The commands that set agents to work, as processes of their own: terminals, signals, other processes."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from select import select
from time import monotonic

import pytest

from cortical.core.tree import Tree
from cortical.store import open_store

COMMAND = [sys.executable, "-m", "cortical"]
AGENTS = """
import os, threading
from pathlib import Path

from cortical.agents import Agent, Loop, Verdict

slow = Agent("slow", concurrency=2)
part = Agent("part")

def wait_for(name: str) -> None:
    while not Path(name).exists():
        threading.Event().wait(0.01)

@slow.answer
def spread(loop: Loop) -> None:
    for number in range(2):
        loop.spawn(f"part {number}", agent=part)

@slow.verify
def check(loop: Loop) -> Verdict:
    return Verdict.passed(list(loop.child_results.values()))

@part.answer
def work(loop: Loop) -> None:
    with Path("begun").open("a") as begun:
        begun.write(f"{loop.goal}\\n")
    wait_for("go")

@part.verify
def done(loop: Loop) -> Verdict:
    return Verdict.passed(loop.goal)
"""


def environment(**more: str) -> dict[str, str]:
    telling = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM", "CORTICAL_STORE"}
    kept = {name: value for name, value in os.environ.items() if name not in telling}
    return {**kept, "TERM": "xterm-256color", "CORTICAL_STORE": "runs.db", **more}


class Running:
    """A `cortical` command in a folder, its standard error a terminal if asked for."""

    def __init__(self, folder: Path, *arguments: str, terminal: bool = False) -> None:
        self.folder = folder
        self._said = b""
        self._terminal: int | None = None
        its_end = subprocess.PIPE
        if terminal:
            self._terminal, its_end = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=its_end,
            text=True,
            encoding="utf-8",
            env=environment(COLUMNS="70", LINES="20"),
        )
        if terminal:
            os.close(its_end)

    def begun(self, phases: int) -> None:
        """Wait until so many phase functions were entered."""
        deadline = monotonic() + 30
        while len(lines_of(self.folder / "begun")) < phases:
            assert self.process.poll() is None, self.process.communicate()
            assert monotonic() < deadline
            select([], [], [], 0.01)

    def see(self, text: str) -> None:
        """Wait until the terminal shows a text."""
        while text.encode() not in self._said:
            added = self._read()
            assert added, self._said
            self._said += added

    def ctrl_c(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[str, str, int]:
        """What it printed, what it said, and its exit code."""
        if self._terminal is None:
            out, err = self.process.communicate(timeout=30)
            return out, err, self.process.returncode
        said = (self._said + b"".join(iter(self._read, b""))).decode()
        os.close(self._terminal)
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        self.process.stdout.close()
        return out, said, self.process.wait(30)

    def _read(self) -> bytes:
        assert self._terminal is not None
        try:
            return os.read(self._terminal, 65536)
        except OSError:  # Linux says so when the other end is closed
            return b""


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A working folder with agents whose work goes on when there is a file `go`."""
    (tmp_path / "slow_agents.py").write_text(AGENTS)
    yield tmp_path
    (tmp_path / "go").touch()


def root_of(folder: Path) -> str:
    store = open_store(folder / "runs.db")
    try:
        return store.roots()[0].id
    finally:
        store.close()


def tree_of(folder: Path) -> Tree:
    store = open_store(folder / "runs.db")
    try:
        return Tree.of(store.read(store.roots()[0].id))
    finally:
        store.close()


def cortical(folder: Path, *arguments: str) -> tuple[str, str, int]:
    return Running(folder, *arguments).end()


def test_a_pipe_gets_the_result_and_lines_of_events(folder: Path) -> None:
    """Standard output holds the result alone; no escape codes anywhere."""
    (folder / "go").touch()
    out, err, code = cortical(folder, "run", "slow_agents:slow", "work", "--json")
    assert code == 0
    assert json.loads(out)["value"] == ["part 0", "part 1"]
    assert sum("  ended    " in line for line in err.splitlines()) == 3
    assert "\x1b" not in out + err


def test_a_terminal_gets_the_live_tree(folder: Path) -> None:
    """Loops appear with sign, phase and goal as they are spawned, and stay there when it is over."""
    running = Running(folder, "run", "slow_agents:slow", "work", terminal=True)
    running.begun(2)
    running.see("part 1")
    (folder / "go").touch()
    out, said, code = running.end()
    assert code == 0
    assert re.search(r"^value +\['part 0', 'part 1'\]$", out, re.MULTILINE)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    assert re.search(r"├── ▶ \w{8}  answer  \ds  part 0", plain)
    assert re.search(r"└── ✓ \w{8}  verify  in \ds  part 1", plain)
    assert "Ctrl-C lets the open phases finish, and stops" in plain
    assert "3 loops: 3 completed; " in plain
    assert said.count("\x1b[?25l") == said.count("\x1b[?25h") > 0, "the cursor is shown again"


@pytest.mark.parametrize("terminal", [False, True])
def test_ctrl_c_lets_the_open_phases_finish(folder: Path, terminal: bool) -> None:
    """It says how to resume, and exits 130; resumed, no finished phase is entered again."""
    running = Running(folder, "run", "slow_agents:slow", "work", terminal=terminal)
    running.begun(2)
    running.ctrl_c()
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(0.3)
    (folder / "go").touch()
    out, said, code = running.end()
    assert (out, code) == ("", 130)
    assert "stopping after the open phases; Ctrl-C again stops at once" in said
    assert "stopped: the phases that were open have finished, no others were begun" in said
    root = root_of(folder)
    assert f"resume {root} --store runs.db" in said
    assert [run.place for run in tree_of(folder).root.children] == ["produce", "produce"]
    out, _, code = cortical(folder, "resume", root, "--json")
    assert (json.loads(out)["value"], code) == (["part 0", "part 1"], 0)
    assert sorted(lines_of(folder / "begun")) == ["part 0", "part 1"]


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGHUP], ids=str)
def test_a_signal_to_stop_is_as_ctrl_c(folder: Path, asked: signal.Signals) -> None:
    """Who manages services, or a terminal that is closed, lets the open phases finish too."""
    running = Running(folder, "run", "slow_agents:slow", "work")
    running.begun(2)
    running.process.send_signal(asked)
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(0.3)
    (folder / "go").touch()
    _, said, code = running.end()
    assert code == 128 + asked
    assert "stopped: the phases that were open have finished, no others were begun" in said
    out, _, code = cortical(folder, "resume", root_of(folder), "--json")
    assert (json.loads(out)["value"], code) == (["part 0", "part 1"], 0)


def test_what_nohup_ignores_stays_ignored(folder: Path) -> None:
    """A command that was started by `nohup` goes on when its terminal is closed."""
    command = f"trap '' HUP; exec {shlex.join([*COMMAND, 'run', 'slow_agents:slow', 'work', '--json'])}"
    pipe = subprocess.PIPE
    with subprocess.Popen(["/bin/sh", "-c", command], cwd=folder, env=environment(), stdout=pipe) as process:
        until = threading.Event()
        while len(lines_of(folder / "begun")) < 2:
            assert process.poll() is None
            until.wait(0.01)
        process.send_signal(signal.SIGHUP)
        (folder / "go").touch()
        out, _ = process.communicate()
    assert (json.loads(out)["value"], process.returncode) == (["part 0", "part 1"], 0)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_second_ctrl_c_stops_at_once(folder: Path, terminal: bool) -> None:
    """The open phases are entered again by the next driver, which need not wait for the lease to run out."""
    running = Running(folder, "run", "slow_agents:slow", "work", terminal=terminal)
    running.begun(2)
    running.ctrl_c()
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(0.3)
    running.ctrl_c()
    out, said, code = running.end()
    assert (out, code) == ("", 130)
    root = root_of(folder)
    assert f"resume {root} --store runs.db" in said
    assert said.count("\x1b[?25l") == said.count("\x1b[?25h"), "the cursor is shown again"
    assert [run.place for run in tree_of(folder).root.children] == ["answer", "answer"]
    (folder / "go").touch()
    out, _, code = cortical(folder, "resume", root, "--json")
    assert (json.loads(out)["value"], code) == (["part 0", "part 1"], 0)
    assert sorted(lines_of(folder / "begun")) == ["part 0", "part 0", "part 1", "part 1"]


def test_another_process_drains_it(folder: Path) -> None:
    """The driver is named, finishes its open phases, and says how to carry on; a second driver was refused."""
    running = Running(folder, "run", "slow_agents:slow", "work")
    running.begun(2)
    root = root_of(folder)
    holder = f"process {running.process.pid} on "
    _, err, code = cortical(folder, "resume", root)
    assert code == 1
    assert f"is driven by {holder}" in err
    assert f"{root} is held by {holder}" in cortical(folder, "tree")[1]
    _, err, code = cortical(folder, "drain", root[:8])
    assert err.startswith(f"asked: {holder}")
    assert code == 0
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(0.3)
    (folder / "go").touch()
    out, err, code = running.end()
    assert code == 1
    assert re.search(r"^status +paused at answer$", out, re.MULTILINE)
    assert re.search(rf"^carry on: .*cortical resume {root} --store runs.db$", err, re.MULTILINE)
    assert [run.place for run in tree_of(folder).root.children] == ["produce", "produce"]
    out, _, code = cortical(folder, "resume", root, "--json")
    assert (json.loads(out)["value"], code) == (["part 0", "part 1"], 0)


def test_a_break_reaches_the_driver(folder: Path) -> None:
    """The loop ends while its phase is still open; the result says why."""
    running = Running(folder, "run", "slow_agents:slow", "work")
    running.begun(2)
    root = root_of(folder)
    assert cortical(folder, "break", root, "--reason", "plans changed")[2] == 0
    (folder / "go").touch()
    out, err, code = running.end()
    assert code == 1
    assert re.search(r"^status +abandoned at answer$", out, re.MULTILINE)
    assert re.search(r"^why +plans changed$", out, re.MULTILINE)
    assert "plans changed" in err, "what another process did is shown too"
    assert "carry on" not in err


def test_the_agent_is_found_in_the_working_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """By the console command too, whose own folder comes first on Python's path; elsewhere it is not."""
    (folder / "go").touch()
    script = "import sys; sys.path.pop(0); from cortical.cli import main; main()"
    arguments = [sys.executable, "-c", script, "run", "slow_agents:slow", "work"]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run(arguments, cwd=elsewhere, capture_output=True, text=True, env=environment(), check=False)
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr == "there is no module 'slow_agents', here or among the installed ones\n"
    assert list(elsewhere.iterdir()) == [], "no store is made for nothing"
