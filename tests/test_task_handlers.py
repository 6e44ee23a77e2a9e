"""The handlers that come with batches: Python functions, programs, files."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cortical.batch import BatchProcessor, BatchResult
from cortical.core.errors import CorticalError
from cortical.core.outcome import Failed, Ok


def run(workspace: Path, items: list[Any], task: Mapping[str, Any], **options: Any) -> BatchResult:
    return BatchProcessor(workspace, "b", **options).run(items, task)


def failure(result: BatchResult) -> str:
    (outcome,) = result.outcomes
    assert isinstance(outcome, Failed)
    return f"{outcome.error.type}: {outcome.error.message}"


def where_am_i(item: str) -> str:
    print("working on", item)
    return os.getcwd()


def die(item: int) -> int:
    if item == 2:
        os._exit(7)
    return item


def nap(item: float) -> float:
    threading.Event().wait(item)
    return item


# Python


def test_python_calls_a_function_by_name(tmp_path: Path) -> None:
    """`module:name` is imported and called with the item."""
    assert run(tmp_path, [1, 4, 9], {"task": "python", "function": "math:sqrt"}).results == [1.0, 2.0, 3.0]


def test_python_passes_what_it_is_told(tmp_path: Path) -> None:
    """Arguments are values, or references to the item and its context."""
    task = {"task": "python", "function": pow, "args": [{"from": "item.base"}, {"from": "index"}]}
    assert run(tmp_path, [{"base": 5}, {"base": 7}], task).results == [1, 7]


def test_python_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """With `cwd` and `capture` the function works in that folder, its output is kept, and this process stays put."""
    (tmp_path / "sub").mkdir()
    here = os.getcwd()
    task = {"task": "python", "function": where_am_i, "cwd": "sub", "capture": True}
    (value,) = run(tmp_path, ["x"], task).results
    assert value == {"value": str((tmp_path / "sub").resolve()), "stdout": "working on x\n", "stderr": ""}
    assert os.getcwd() == here


def test_python_that_takes_its_process_down_fails_alone(tmp_path: Path) -> None:
    """A function that ends its process is one failed item; the next has another process."""
    task = {"task": "python", "function": die, "capture": True}
    result = run(tmp_path, [1, 2, 3], task, max_concurrency=1)
    assert [type(outcome) for outcome in result.outcomes] == [Ok, Failed, Ok]
    assert "exit status 7" in result.failed[1].error.message


def test_python_is_stopped_in_time(tmp_path: Path) -> None:
    """With `timeout` the process of a function that takes too long is killed."""
    began = time.monotonic()
    result = run(tmp_path, [60.0], {"task": "python", "function": nap, "timeout": 0.3})
    assert "longer than 0.3 s" in failure(result)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({}, "has a function"),
        ({"function": "nowhere.at.all:x"}, "cannot be imported"),
        ({"function": "math:sqroot"}, "leads nowhere"),
        ({"function": "math"}, "'module:name'"),
        ({"function": "math:pi"}, "cannot be called"),
        ({"function": 5}, "can be called"),
        ({"function": "math:sqrt", "kwags": {}}, "did you mean 'kwargs'"),
        ({"function": "math:sqrt", "args": 5}, "args is a list of what the function is called with"),
        ({"function": "math:sqrt", "kwargs": ["x"]}, "kwargs is values by name"),
        ({"function": "math:sqrt", "cwd": ".."}, "goes up by '..'"),
        ({"function": "math:sqrt", "timeout": 0}, "more than 0 seconds"),
        ({"function": lambda item: item, "capture": True}, "leads nowhere"),
    ],
)
def test_python_refuses_what_makes_no_sense(task: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Wrong configuration raises before anything is run, and says what is wrong."""
    with pytest.raises((CorticalError, TypeError), match=words):
        run(tmp_path, [1], {"task": "python", **task})


# Shell


@pytest.mark.parametrize("item", ["; rm -rf x", "$(touch pwned)", "`touch pwned`", "a'b\"c", "-n", "*", "\n", "ä 日本"])
@pytest.mark.parametrize(
    "task",
    [
        {"command": ["printf", "%s", {"from": "item"}]},
        {"script": 'printf %s "$ITEM"'},
        {"script": 'printf %s "$1"', "args": [{"from": "item"}]},
        {"command": ["cat"], "stdin": {"from": "item"}},
        {"script": 'printf %s "$WORD"', "env": {"WORD": {"from": "item"}}},
    ],
    ids=["argument", "ITEM", "args", "stdin", "env"],
)
def test_shell_takes_an_item_as_text(item: str, task: dict[str, Any], tmp_path: Path) -> None:
    """Whatever an item holds stays text, on every way by which it reaches a program."""
    (tmp_path / "x").mkdir()
    (value,) = run(tmp_path, [item], {"task": "shell", **task}).raise_for_failures().results
    assert value["stdout"] == item
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_shell_script_is_not_filled_in(tmp_path: Path) -> None:
    """A script is given to the shell as it stands; what looks like a reference in it is text."""
    result = run(tmp_path, ["x"], {"task": "shell", "script": 'echo \'{"from": "item"}\' {item}'})
    assert result.results[0]["stdout"] == '{"from": "item"} {item}\n'


def test_shell_tells_a_failure(tmp_path: Path) -> None:
    """An exit status that is not expected fails the item, with what the program said last; `ok` names others."""
    task = {"task": "shell", "script": "echo oh >&2; exit 3"}
    told = failure(run(tmp_path, [1], task))
    assert told == "cortical.batch.errors.ShellFailed: /bin/sh -c 'echo oh >&2; exit 3' /bin/sh ended with status 3: oh"
    (value,) = run(tmp_path, [1], {**task, "ok": [0, 3]}).results
    assert value == {"exit_code": 3, "stdout": "", "stderr": "oh\n", "left_out": 0}


@pytest.mark.parametrize("options", [{"timeout": 0.3}, {}])
def test_shell_time_out_kills_the_group(options: dict[str, Any], tmp_path: Path) -> None:
    """When its time is over a program goes with all processes it has started, whoever set the limit."""
    task = {"task": "shell", "script": "sleep 987.6 & echo $! > pid; sleep 987.6"}
    limit = {} if options else {"timeout": 0.3}
    result = run(tmp_path, [1], {**task, **limit}, **options)
    assert "longer than 0.3 s" in failure(result)
    pid = (tmp_path / "pid").read_text().strip()
    until = time.monotonic() + 5
    while time.monotonic() < until and _runs(pid):
        pass
    assert not _runs(pid)


def _runs(pid: str) -> bool:
    told = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False).stdout
    return bool(told.strip()) and not told.startswith("Z")


def test_shell_output_is_bounded(tmp_path: Path) -> None:
    """Of 100 MB only both ends are kept, and how much is missing is told."""
    task = {"task": "shell", "script": "echo begin; head -c 100000000 /dev/zero; echo end", "max_output": 1000}
    (value,) = run(tmp_path, [1], task).results
    assert value["left_out"] == 100_000_010 - 1000
    assert value["stdout"].startswith("begin\n")
    assert value["stdout"].endswith("end\n")
    assert len(value["stdout"]) < 1100


def test_shell_folder_and_variables(tmp_path: Path) -> None:
    """A program works in a folder of the workspace, and knows the item and its index."""
    (tmp_path / "sub").mkdir()
    task = {"task": "shell", "script": 'echo "$(basename "$PWD") $INDEX $ITEM"', "cwd": "sub"}
    assert [value["stdout"] for value in run(tmp_path, [{"a": 1}, 7], task).results] == ['sub 0 {"a":1}\n', "sub 1 7\n"]
    assert "OutsideWorkspace" in failure(run(tmp_path, [".."], {**task, "cwd": {"from": "item"}}))


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({}, "either a command"),
        ({"command": ["a"], "script": "b"}, "either a command"),
        ({"command": "ls -l"}, "a command is a list"),
        ({"command": []}, "a command is a list"),
        ({"script": ["ls"]}, "a script is one text"),
        ({"command": ["ls"], "timout": 3}, "did you mean 'timeout'"),
        ({"command": ["ls"], "timeout": 0}, "more than 0 seconds"),
        ({"command": ["ls"], "max_output": 0}, "max_output is 1 or more"),
        ({"command": ["ls"], "args": "-l"}, "args is a list of arguments, not '-l'"),
        ({"command": ["ls"], "ok": 3}, "ok is a list of the exit statuses that are well, not 3"),
        ({"command": ["ls"], "ok": ["0"]}, "ok is a list of the exit statuses"),
        ({"command": ["ls"], "env": "A=b"}, "env is values by name"),
        ({"command": ["ls"], "env": {"A=b": "c"}}, "env: 'A=b' cannot be the name of a variable"),
        ({"command": ["ls"], "env": {"A": "\0"}}, "the variable A holds a null character"),
        ({"command": ["ls", "\0"]}, "an argument holds a null character"),
        ({"command": ["ls", {"from": "item"}], "ok": "0"}, "ok is a list of the exit statuses"),
        ({"command": ["ls"], "cwd": "/etc"}, "'/etc' is absolute"),
        ({"command": ["ls"], "cwd": "../x"}, "goes up by '..'"),
    ],
)
def test_shell_refuses_what_makes_no_sense(task: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Wrong configuration raises before anything is run, and says what is wrong."""
    with pytest.raises((CorticalError, TypeError), match=words):
        run(tmp_path, [1], {"task": "shell", **task})


def test_shell_variables_are_those_at_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a batch's items change in this process's environment reaches the programs of the next batch, not its own."""
    monkeypatch.setenv("COLOUR", "red")

    def repaint(progress: object) -> None:
        monkeypatch.setenv("COLOUR", "blue")

    task = {"task": "shell", "script": 'printf %s "$COLOUR"'}
    result = BatchProcessor(tmp_path, "one").run([1, 2], task, on_progress=repaint)
    assert [given["stdout"] for given in result.results] == ["red", "red"]
    result = BatchProcessor(tmp_path, "two").run([1], task)
    assert [given["stdout"] for given in result.results] == ["blue"]


def test_shell_items_of_any_size(tmp_path: Path) -> None:
    """A great item, or one with a null character, reaches a command by its input; a script is told that it cannot."""
    items = ["x" * 300_000, "a\0b", "small"]
    task = {"task": "shell", "command": ["sh", "-c", 'cat | wc -c; echo "${ITEM-none}"'], "stdin": {"from": "item"}}
    said = [value["stdout"].split() for value in run(tmp_path, items, task).results]
    assert said == [["300000", "none"], ["3", "none"], ["5", "small"]]
    script = {"task": "shell", "script": 'echo "$ITEM"'}
    whys = ["has 300,000 bytes, of 131,066 at most", "holds a null character"]
    for number, why in enumerate(whys):
        told = failure(BatchProcessor(tmp_path, f"script {number}").run([items[number]], script))
        assert f"the item does not fit into $ITEM: it {why}" in told


def test_shell_sees_to_its_time_itself(tmp_path: Path) -> None:
    """Whoever gives the time, the batch or the task, it is told that the program was killed."""
    task = {"task": "shell", "command": ["sleep", "30"]}
    for number, rate in enumerate((None, 100.0)):
        told = failure(BatchProcessor(tmp_path, f"b{number}", timeout=0.05, rate_limit=rate).run([1], task))
        assert "killed, with all processes of its group" in told


def test_shell_program_may_be_another_for_each_item(tmp_path: Path) -> None:
    """The program itself may be taken from the item, and is looked for in the PATH that the task gives."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"#!/bin/sh\nprintf {name}\n")
        (tmp_path / name).chmod(0o755)
    task = {"task": "shell", "command": [{"from": "item"}], "env": {"PATH": str(tmp_path)}}
    assert [given["stdout"] for given in run(tmp_path, ["one", "two"], task).results] == ["one", "two"]
    task = {"task": "shell", "command": ["true"], "env": {"from": "item"}}
    assert "env is values by name" in failure(BatchProcessor(tmp_path, "wrong").run(["A=b"], task))
    fixed = {"task": "shell", "command": ["two"], "env": {"PATH": str(tmp_path)}}
    assert [given["stdout"] for given in BatchProcessor(tmp_path, "fixed").run([1], fixed).results] == ["two"]


def test_shell_without_such_a_program(tmp_path: Path) -> None:
    """A program that is not there, and an item that no program can be given, fail the item."""
    assert "FileNotFoundError" in failure(run(tmp_path, [1], {"task": "shell", "command": ["no-such-program"]}))
    null = run(tmp_path, ["a\0b"], {"task": "shell", "command": ["echo", {"from": "item"}]})
    assert "null character" in failure(null)


# Files


def test_file_writes_reads_and_lists(tmp_path: Path) -> None:
    """What was written is read again; folders are made; lists are sorted and relative."""
    write = {"task": "file", "action": "write", "path": {"from": "item.name"}, "content": {"from": "item.text"}}
    items = [{"name": "b/two.txt", "text": "zwei ä"}, {"name": "one.txt", "text": "eins"}]
    assert run(tmp_path, items, write).results == [7, 4]
    assert run(tmp_path, ["b/two.txt"], {"task": "file", "action": "read"}).results == ["zwei ä"]
    assert run(tmp_path, ["one.txt"], {"task": "file", "action": "read", "encoding": None}).results == [b"eins"]
    assert run(tmp_path, [0], {"task": "file", "action": "list", "pattern": "**/*.txt"}).results == [
        ["b/two.txt", "one.txt"]
    ]


def test_file_changes_things(tmp_path: Path) -> None:
    """Append, copy, move and delete do what they are called; nothing is replaced without being told."""
    (tmp_path / "a").write_text("1")
    assert run(tmp_path, ["a"], {"task": "file", "action": "append", "content": "2"}).results == [1]
    copy = {"task": "file", "action": "copy", "to": "sub/b"}
    assert run(tmp_path, ["a"], copy).results == ["sub/b"]
    assert "is there already" in failure(run(tmp_path, ["a"], copy))
    assert run(tmp_path, ["a"], {**copy, "action": "move", "overwrite": True}).results == ["sub/b"]
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "sub/b").read_text() == "12"
    delete = {"task": "file", "action": "delete"}
    assert run(tmp_path, ["sub/b"], delete).results == [True]
    assert "FileNotFoundError" in failure(run(tmp_path, ["sub/b"], delete))
    assert run(tmp_path, ["sub/b"], {**delete, "missing_ok": True}).results == [False]


def test_file_write_keeps_mode_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """A file that is written anew keeps its mode, and no part of the writing stays."""
    (tmp_path / "run.sh").write_text("old")
    (tmp_path / "run.sh").chmod(0o750)
    run(tmp_path, ["run.sh"], {"task": "file", "action": "write", "content": "new"}).raise_for_failures()
    assert (tmp_path / "run.sh").read_text() == "new"
    assert (tmp_path / "run.sh").stat().st_mode & 0o777 == 0o750
    assert [path.name for path in tmp_path.iterdir()] == ["run.sh"]


@pytest.mark.parametrize("path", ["../secret", "sub/../../secret", "/etc/passwd", "out/secret", "leak", "a\0b", 5])
@pytest.mark.parametrize(
    "task",
    [
        {"action": "read", "path": {"from": "item"}},
        {"action": "write", "path": {"from": "item"}, "content": "x"},
        {"action": "append", "path": {"from": "item"}, "content": "x"},
        {"action": "delete", "path": {"from": "item"}},
        {"action": "copy", "path": {"from": "item"}, "to": "here"},
        {"action": "copy", "path": "inside", "to": {"from": "item"}, "overwrite": True},
        {"action": "move", "path": "inside", "to": {"from": "item"}, "overwrite": True},
        {"action": "list", "path": {"from": "item"}},
    ],
    ids=lambda task: f"{task['action']}-{'to' if task.get('overwrite') else 'path'}",
)
def test_file_stays_in_the_workspace(task: dict[str, Any], path: object, tmp_path: Path) -> None:
    """Paths that are absolute, go up, or lead out by a link are refused, and nothing outside is touched."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (tmp_path / "secret").write_text("outside")
    (workspace / "out").symlink_to(tmp_path)
    (workspace / "leak").symlink_to(tmp_path / "secret")
    (workspace / "inside").write_text("inside")
    told = failure(run(workspace, [path], {"task": "file", **task}))
    assert "OutsideWorkspace" in told or "a path is a text" in told
    assert (tmp_path / "secret").read_text() == "outside"
    assert (workspace / "inside").read_text() == "inside"
    assert not (workspace / "here").exists()


def test_file_list_passes_over_what_leads_out(tmp_path: Path) -> None:
    """A pattern neither goes up nor finds what lies behind a link that leads out."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (tmp_path / "secret").write_text("outside")
    (workspace / "leak").symlink_to(tmp_path / "secret")
    (workspace / "own").write_text("")
    assert run(workspace, [0], {"task": "file", "action": "list"}).results == [["own"]]
    upwards = {"task": "file", "action": "list", "pattern": {"from": "item"}}
    assert "OutsideWorkspace" in failure(BatchProcessor(workspace, "up").run(["../*"], upwards))


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"action": "reed"}, "is one of read, write"),
        ({"action": "write"}, "'content' is needed"),
        ({"action": "copy"}, "'to' is needed"),
        ({"action": "read", "encodin": "x"}, "did you mean 'encoding'"),
        ({"action": ["read"]}, "is one of read, write"),
        ({"action": "read", "content": "x"}, "to read a file, 'content' is of no use"),
        ({"action": "read", "encoding": "nope"}, "encoding is the name of one"),
        ({"action": "read", "path": "/etc/passwd"}, "is absolute"),
        ({"action": "copy", "to": "../x"}, "goes up by '..'"),
        ({"action": "move", "to": "x", "overwrite": "yes"}, "overwrite is True or False"),
        ({"action": "list", "pattern": 5}, "a pattern is a text"),
    ],
)
def test_file_refuses_what_makes_no_sense(task: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Wrong configuration raises before anything is run, and says what is wrong."""
    with pytest.raises((CorticalError, TypeError), match=words):
        run(tmp_path, [1], {"task": "file", **task})


# References


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("itm", "no 'itm' in what can be referred to; did you mean 'item'?"),
        ("item.nam", "no 'nam' in item; did you mean 'name'?"),
        ("item.name.x", "is a str, which has no 'x'"),
        ("item.list.7", "has 2 parts, numbered from 0"),
        ("", "a reference is written"),
    ],
)
def test_a_reference_that_leads_nowhere_teaches(path: str, words: str, tmp_path: Path) -> None:
    """It says where it ends, and what is there."""
    task = {"task": "python", "function": str, "args": [{"from": path}]}
    assert words in failure(run(tmp_path, [{"name": "n", "list": [1, 2]}], task))


def test_references_reach_lists_and_given_values(tmp_path: Path) -> None:
    """Positions in lists, and values that were given with the batch."""
    batch = BatchProcessor(tmp_path, "b", "python")
    task = {"function": "operator:add", "args": [{"from": "item.1"}, {"from": "offset"}]}
    assert batch.run([[1, 10], (2, 20)], task, context={"offset": 5}).results == [15, 25]
