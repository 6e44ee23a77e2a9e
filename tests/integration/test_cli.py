"""The command `cortical` as a process of its own: pipes, terminals, signals, other processes, the demo."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import cortical
from cortical.core.errors import Conflict
from cortical.reasoning import LoopStatus, NestedLoopExecutor

COMMAND = [sys.executable, "-m", "cortical"]


def environment(store: Path | None = None, **more: str) -> dict[str, str]:
    """The environment of this process, without what would change how the command prints."""
    telling = {"COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM", "CORTICAL_STORE", "PYTHONIOENCODING"}
    kept = {name: value for name, value in os.environ.items() if name not in telling}
    return {**kept, "TERM": "xterm-256color", **({"CORTICAL_STORE": str(store)} if store else {}), **more}


def cli(store: Path | None, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment(store, **more),
        check=False,
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with an open tree of two loops."""
    path = tmp_path / "runs.db"
    with NestedLoopExecutor(store=path) as executor:
        executor.spawn_child(executor.start_root("Build ünïcode 技術"), "Implement backend")
    return path


def root_of(store: Path) -> str:
    return str(json.loads(cli(store, "list", "--json").stdout)[0]["id"])


def in_terminal(store: Path, arguments: Sequence[str], **more: str) -> str:
    """What a command prints in a terminal of 70 columns."""
    terminal, its_end = pty.openpty()
    try:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=its_end,
            stdout=its_end,
            stderr=its_end,
            env=environment(store, COLUMNS="70", **more),
        )
        os.close(its_end)
        printed = b""
        while chunk := _read(terminal):
            printed += chunk
        assert process.wait(30) == 0
    finally:
        os.close(terminal)
    return printed.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the other end is closed
        return b""


def test_the_console_script_is_the_same_command() -> None:
    """`cortical` and `python -m cortical` both are `cortical.cli.main`."""
    (script,) = entry_points(group="console_scripts", name="cortical")
    assert script.value == "cortical.cli:main"
    done = cli(None, "--version")
    assert (done.stdout, done.stderr, done.returncode) == (f"{cortical.__version__}\n", "", 0)
    assert cli(None, "--help").stdout.startswith("Usage: cortical ")


def test_help_waits_for_nothing_heavy() -> None:
    """Naming the commands imports neither networkx nor rich nor the database."""
    code = (
        "import sys; before = set(sys.modules); import cortical.cli; "
        "print({'networkx', 'rich', 'sqlite3', 'msgspec'} & (set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("command", ["list", "tree", "show", "log", "why", "check", "doctor"])
def test_a_pipe_gets_plain_text(store: Path, command: str) -> None:
    """Without a terminal there are no escape codes, and nothing is padded or cut."""
    of = [] if command in ("list", "doctor") else [root_of(store)]
    done = cli(store, command, *of)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert all(line == line.rstrip() for line in done.stdout.splitlines())


@pytest.mark.parametrize("command", ["list", "tree"])
def test_a_terminal_gets_colours_unless_it_does_not_want_them(store: Path, command: str) -> None:
    """NO_COLOR and a dumb terminal leave plain text."""
    assert "\x1b[" in in_terminal(store, [command])
    assert "\x1b" not in in_terminal(store, [command], NO_COLOR="1")
    assert "\x1b" not in in_terminal(store, [command], TERM="dumb")


def test_signs_that_a_terminal_lacks_are_replaced(store: Path) -> None:
    """In ASCII a drawing has question marks; JSON stays UTF-8."""
    assert cli(store, "tree", PYTHONIOENCODING="ascii").stdout.startswith("? ")
    assert json.loads(cli(store, "list", "--json", PYTHONIOENCODING="ascii").stdout)[0]["goal"] == "Build ünïcode 技術"


def test_a_closed_pipe_ends_it_quietly(tmp_path: Path) -> None:
    """Whoever reads only the first line, as `head -1` does, sees no error."""
    path = tmp_path / "long.db"
    with NestedLoopExecutor(store=path) as executor:
        root = executor.start_root("long")
        with executor.transaction():
            for number in range(5000):
                executor.record_answer(root, f"answer {number} " + "." * 50)
    process = subprocess.Popen(
        [*COMMAND, "log", root], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(path)
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert "started" in process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(30) == -signal.SIGPIPE


@pytest.mark.parametrize("arguments", [("list",), ("list", "--json"), ("--help",)])
def test_output_that_cannot_be_written_is_an_error(store: Path, arguments: tuple[str, ...]) -> None:
    """A full disk behind standard output is told in a sentence."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, env=environment(store), check=False
        )
    assert (done.stderr, done.returncode) == ("the output could not be written: No space left on device\n", 1)


def test_nowhere_to_write_does_no_harm(store: Path) -> None:
    """Without standard output the command still says by its exit code how it went."""
    for command, code in (("tree", 0), ("show zzz", 1)):
        line = f"exec '{sys.executable}' -m cortical {command} >&-"
        done = subprocess.run(
            ["sh", "-c", line], stderr=subprocess.PIPE, text=True, env=environment(store), check=False
        )
        assert done.returncode == code
        assert "Traceback" not in done.stderr


class Following:
    """A process that follows a loop's log."""

    def __init__(self, store: Path, loop_id: str, *options: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "log", loop_id, "--follow", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment(store),
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> tuple[str, str, int]:
        """The rest of what it prints, what it says, and its exit code."""
        out, err = self.process.communicate(timeout=30)
        return out, err, self.process.returncode


def test_following_shows_what_another_process_does(store: Path) -> None:
    """Events appear as they are recorded, those of new loops too, and the follower ends when the root does."""
    root = root_of(store)
    following = Following(store, root, "--json")
    known = [json.loads(following.line())["event"] for _ in range(3)]
    assert known == ["started", "started", "paused"]
    with NestedLoopExecutor(store=store) as executor:
        (child,) = executor.get_children(root)
        executor.advance(child.id)
        assert json.loads(following.line())["place"] == "answer"
        executor.complete(executor.spawn_child(child.id, "Grandchild"), 1)
        executor.complete(child.id)
        executor.complete(root, "done")
    out, err, code = following.end()
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == [
        "started", "paused", "ended", "resumed", "ended", "resumed", "ended",
    ]  # fmt: skip
    assert (events[-1]["outcome"], err, code) == ({"ok": "done"}, "", 0)


def test_ctrl_c_ends_following_quietly(store: Path) -> None:
    """The exit code is 130, as a shell expects."""
    following = Following(store, root_of(store))
    for _ in range(3):
        following.line()
    following.process.send_signal(signal.SIGINT)
    assert following.end() == ("", "", 130)


def test_a_break_reaches_the_process_that_drives_the_loop(store: Path) -> None:
    """Its next call is refused, and it then sees the loop as it stands."""
    with NestedLoopExecutor(store=store) as executor:
        root = root_of(store)
        (child,) = executor.get_children(root)
        done = cli(store, "break", child.id[:10], "--reason", "stop it")
        assert done.stderr == f"broken: {child.id}\nactive again: {root}\n"
        assert (done.stdout, done.returncode) == ("", 0)
        with pytest.raises(Conflict):
            executor.advance(child.id)
        assert child.status is LoopStatus.ABANDONED
        assert executor.get_loop(root).status is LoopStatus.ACTIVE


@pytest.mark.parametrize(
    "command", ["list", "tree", "show x", "log x", "why x", "check x", "break x --reason y", "doctor"]
)
def test_a_damaged_store_is_told_in_a_sentence(tmp_path: Path, command: str) -> None:
    """No command shows a traceback, or takes a damaged file for an empty store."""
    path = tmp_path / "damaged.db"
    content = b"SQLite format 3\0" + b"\x10\0" * 50
    path.write_bytes(content)
    done = cli(path, *command.split())
    assert (done.stdout, done.returncode) == ("", 1)
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == content


def test_the_demo_runs_again_and_again(tmp_path: Path) -> None:
    """The example of its help runs both scripts and writes the report; a second run begins a second audit."""
    _, _, example = cli(None, "demo", "--help").stdout.partition("Example: cortical ")
    demo = [*COMMAND, *example.split()]
    for times in (1, 2):
        done = subprocess.run(demo, capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False)
        assert done.returncode == 0, done.stderr
        assert "Demo 6" in done.stdout
        assert "Auditing attr" in done.stdout
        *_, report, tree = done.stdout.splitlines()
        assert report == "The report: demo.md"
        assert tree.endswith("tree --levels 2 --store demo.db")
        assert (tmp_path / "demo.md").read_text().startswith("# Audit of attr")
        assert len(json.loads(cli(tmp_path / "demo.db", "list", "--json").stdout)) == times
    newest = root_of(tmp_path / "demo.db")
    assert cli(tmp_path / "demo.db", "check", newest).returncode == 0


def test_a_demo_that_fails_says_so(tmp_path: Path) -> None:
    """The exit code is that of the script."""
    demo = [*COMMAND, "demo", "--package", "no_such_package"]
    done = subprocess.run(demo, capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False)
    assert done.returncode == 2
    assert done.stderr.endswith("audit_package.py ended with exit code 2\n")


def test_without_a_checkout_there_is_no_demo(tmp_path: Path) -> None:
    """A package that was installed without its examples says what is missing."""
    shutil.copytree(Path(cortical.__file__).parent, tmp_path / "cortical")
    not_measured = {name: value for name, value in environment().items() if not name.startswith("COV")}
    done = subprocess.run(
        [*COMMAND, "demo"], capture_output=True, text=True, cwd=tmp_path, env=not_measured, check=False
    )
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.startswith("the demo needs the source checkout: ")
    assert str(tmp_path / "examples") in done.stderr
