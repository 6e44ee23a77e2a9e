"""The commands that drive batches, pipelines and workflows, interrupted in the middle, in processes of their own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from cortical.reasoning import NestedLoopExecutor
from cortical.store import open_store

COMMAND: Final = (sys.executable, "-m", "cortical")
WORK: Final = """
from pathlib import Path
import threading
from cortical import Agent, Verdict
from cortical.stages import stage

def hold(item):
    with Path("ran").open("a") as file:
        file.write(f"{item}\\n")
    while item == "b" and not Path("go").exists():
        threading.Event().wait(0.01)

def leave(item):
    raise SystemExit(int(item))

def chat(item):
    print("working on", item)

talker = Agent("talker")

@talker.verify
def good(loop):
    chat(loop.goal)
    return Verdict.passed(loop.goal)

a = stage("w:a")(lambda context: hold("a"))
b = stage("w:b", after=["w:a"])(lambda context: hold("b"))
c = stage("w:c", after=["w:b"])(lambda context: hold("c"))
"""
HOLD: Final = {"task": "python", "with": {"function": "work:hold"}}
STEPS: Final = [
    {"id": "a", "task": "python", "with": {"function": "work:hold", "args": ["a"]}},
    {"id": "rest", "depends_on": ["a"], "items": ["b", "c"], "max_concurrency": 1, **HOLD},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a module of tasks and stages, and definitions of all three."""
    (tmp_path / "work.py").write_text(WORK)
    batch = {"name": "b", "items": ["a", "b", "c"], "max_concurrency": 1, **HOLD}
    (tmp_path / "batch.json").write_text(json.dumps(batch))
    (tmp_path / "pipeline.json").write_text(json.dumps({"name": "p", "stages": ["w:a", "w:b", "w:c"]}))
    (tmp_path / "workflow.json").write_text(json.dumps({"name": "f", "steps": STEPS}))
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "CORTICAL_STORE": str(folder / "runs.db"), "PYTHONPATH": str(Path.cwd())}


def cortical(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = [*COMMAND, *arguments]
    return subprocess.run(done, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("noun", "more", "asked"),
    [
        ("batch", [], signal.SIGINT),
        ("pipeline", ["--stages", "work"], signal.SIGINT),
        ("workflow", [], signal.SIGINT),
        ("batch", [], signal.SIGTERM),
        ("workflow", [], signal.SIGHUP),
    ],
    ids=str,
)
def test_who_is_asked_to_stop_leaves_what_can_be_carried_on(
    folder: Path, noun: str, more: list[str], asked: signal.Signals
) -> None:
    """It exits as a shell tells of it and says how to go on with its own run, not another begun meanwhile."""
    command = [*COMMAND, noun, "run", f"{noun}.json", *more]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, env=environment(folder), text=True, stdout=pipe, stderr=pipe) as process:
        until = threading.Event()
        while not (folder / "ran").exists() or "b" not in (folder / "ran").read_text():
            assert process.poll() is None
            until.wait(0.01)
        with NestedLoopExecutor(store=folder / "runs.db") as other:
            other.start_root("begun meanwhile")
        process.send_signal(asked)
        out, err = process.communicate()
    assert (out, process.returncode) == ("", 128 + asked)
    stopped, _, again = err.rstrip().rpartition("carry on: ")
    assert stopped == "stopped; "
    (folder / "go").touch()
    arguments = shlex.split(again)[shlex.split(again).index(noun) :]
    done = cortical(folder, *arguments, *more)
    assert done.returncode == 0, done.stderr
    ran = Counter((folder / "ran").read_text().split())
    assert ran == {"a": 1, "b": 2, "c": 1}


@pytest.mark.parametrize(
    ("noun", "more", "again"),
    [
        ("batch", [], "batch retry {id}"),
        ("pipeline", ["--stages", "work"], "pipeline resume {id} --stages MODULE"),
        ("workflow", [], "workflow resume {id}"),
    ],
    ids=["batch", "pipeline", "workflow"],
)
def test_after_a_kill_it_is_said_by_which_command_it_goes_on(
    folder: Path, noun: str, more: list[str], again: str
) -> None:
    """`health`, `recover` and `resume` all name the one for what it is, and that does what was left."""
    command = [*COMMAND, noun, "run", f"{noun}.json", *more]
    with subprocess.Popen(command, cwd=folder, env=environment(folder)) as process:
        until = threading.Event()
        while not (folder / "ran").exists() or "b" not in (folder / "ran").read_text():
            assert process.poll() is None
            until.wait(0.01)
        process.kill()
    run_id = let_the_lease_run_out(folder)
    words = again.format(id=run_id)
    (finding,) = json.loads(cortical(folder, "health", "--json").stdout)["findings"]
    assert f"then take the work up again: `cortical {words}`" in finding["suggestion"]
    refused = cortical(folder, "resume", run_id)
    assert (refused.returncode, f"`cortical {words}`" in refused.stderr) == (1, True)
    recovered = cortical(folder, "recover", run_id)
    assert recovered.returncode == 0, recovered.stderr
    assert f"cortical {words} --store " in recovered.stderr
    (folder / "go").touch()
    done = cortical(folder, *words.replace("MODULE", "work").split())
    assert done.returncode == 0, done.stderr
    assert Counter((folder / "ran").read_text().split()) == {"a": 1, "b": 2, "c": 1}


def let_the_lease_run_out(folder: Path) -> str:
    """As the one tree of the store is a minute after its driver was killed; its id."""
    with closing(open_store(folder / "runs.db")) as store:
        (root,) = store.roots()
        now = time.time()
        store.release_lease(store.take_lease(root.id, "another", now=now + 60, seconds=1))
        store.take_lease(root.id, "the one that was killed", now=now - 60, seconds=1)
        return root.id


@pytest.mark.parametrize(("item", "code"), [("0", 1), ("3", 3)])
def test_work_that_exits_is_told_of(folder: Path, item: str, code: int) -> None:
    """`sys.exit` in the work is no success, whatever its status; it is said how to go on."""
    done = cortical(folder, "batch", "run", "work:leave", "--item", item, "--name", "leaving")
    assert (done.stdout, done.returncode) == ("", code)
    assert done.stderr.startswith(f"stopped: the work has called sys.exit({item}); carry on: ")
    assert "batch retry leaving" in done.stderr


@pytest.mark.parametrize(
    "command", [("batch", "run", "work:chat", "--item", "a", "--workers", "2"), ("run", "work:talker", "a")]
)
def test_what_the_work_prints_is_no_data(folder: Path, command: tuple[str, ...]) -> None:
    """Standard output holds the JSON alone, standard error what was printed."""
    done = cortical(folder, *command, "--json")
    assert json.loads(done.stdout)["status"] == "completed"
    assert "working on a\n" in done.stderr


@pytest.mark.parametrize("content", [None, b"\xff"], ids=["missing", "no text"])
def test_items_that_cannot_be_read_are_refused(folder: Path, content: bytes | None) -> None:
    """Given by an option or by a definition, a file that is missing or no text is named; nothing is begun."""
    if content is not None:
        (folder / "items.txt").write_bytes(content)
    option = cortical(folder, "batch", "run", "work:hold", "--items", "items.txt")
    assert (option.returncode, "'items.txt' cannot be read" in option.stderr) == (2, True)
    (folder / "lines.json").write_text(json.dumps({"name": "b", "items": {"lines": "items.txt"}, **HOLD}))
    defined = cortical(folder, "batch", "run", "lines.json")
    assert (defined.returncode, "items.txt" in defined.stderr) == (1, True)
    assert len(defined.stderr.splitlines()) == 1
    assert cortical(folder, "list", "--json").stdout in ("", "[]\n")


def test_a_module_that_cannot_be_read_is_not_taken_for_output(folder: Path) -> None:
    """What a module of the user raises while it is imported is told as Python does, with where it came from."""
    (folder / "sealed.py").write_text("open('no such file')\n")
    done = cortical(folder, "batch", "run", "sealed:x", "--item", "a")
    assert (done.returncode, "sealed.py" in done.stderr) == (1, True)
    assert "the output could not be written" not in done.stderr
