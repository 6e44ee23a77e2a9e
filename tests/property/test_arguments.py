"""Every command of the application, given any arguments: it does what it says, or refuses in a sentence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, strategies as st
from typer.main import get_command
from typer.testing import CliRunner

from cortical.cli import app
from cortical.store import open_store
from tests.property.effort import effort
from tests.property.forest import plant, plant_oddities
from tests.unit.said import Said

#: What a command is always given, so that it ends; and options that let it go on until somebody ends it.
ALWAYS: dict[tuple[str, ...], list[str]] = {("watch",): ["--once"]}
ENDLESS = {"--follow", "--once"}
#: Commands whose own programs are tested elsewhere: given no arguments but wrong ones.
PROGRAMS = {("demo",)}


def commands_of(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The commands of an application, with the words that call them."""
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, one in below.items():
        yield from commands_of(one, (*path, name))


COMMANDS = dict(commands_of(get_command(app)))


@frozen
class Place:
    """A folder with stores, whole and not, and files of every kind; the ids of the runs in the whole store."""

    folder: Path
    ids: tuple[str, ...]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("arguments")
    store = open_store(folder / "whole.db")
    plant(store)
    plant_oddities(store)
    ids = tuple(store.find("", 1000))
    store.close()
    (folder / "folder").mkdir()
    (folder / "empty.db").touch()
    (folder / "foreign.db").write_text("a letter\n" * 100)
    data = (folder / "whole.db").read_bytes()
    (folder / "torn.db").write_bytes(data[: len(data) // 2])
    (folder / "spoilt.db").write_bytes(data.replace(b"[[", b"[}"))
    (folder / "p.json").write_text(json.dumps({"name": "p", "stages": ["forest:load", "forest:sum"]}))
    steps = [{"id": "a", "task": "forest.double", "items": [1, 3]}]
    (folder / "w.json").write_text(json.dumps({"name": "w", "steps": steps, "parameters": {"x": 1}}))
    (folder / "b.json").write_text(json.dumps({"name": "b", "task": "forest.double", "items": [1, 2]}))
    (folder / "broken.json").write_text("{")
    (folder / "binary.json").write_bytes(bytes(range(256)))
    before = Path.cwd()
    os.chdir(folder)
    yield Place(folder, ids)
    os.chdir(before)


STORES = [
    *["whole.db"] * 6,
    *(
        "sqlite:///whole.db",
        "torn.db",
        "spoilt.db",
        "foreign.db",
        "empty.db",
        "folder",
        "no.db",
        "no/no.db",
        ":memory:",
    ),
    *("", "a\0b", "sqlite://", "postgres://x", "\udc80.db", "/dev/null", "x" * 300, "w.json"),
]
FILES = [
    *("p.json", "w.json", "b.json", "broken.json", "binary.json", "folder", "no.json", "", "whole.db", "x" * 300),
    "a\0b",
]
MODULES = ["tests.property.forest", "json", "no_such_module", "tests.property.forest:leaf", ":", "a b", "", "..", "é"]
AGENTS = ["tests.property.forest:leaf", "tests.property.forest:trunk", "tests.property.forest:no", "json:dumps"]
NUMBERS = ["0", "1", "2", "-1", "1.5", "nan", "inf", "-inf", "1e400", "9" * 30, "9" * 5000, "one", "", "٣"]
PAIRS = [
    *("a=1", "a=", "=1", "a", "=", "x=1", "tokens=5", "tokens=-1", "tokens=nan", "seconds=1e400", "a=1\0"),
    "é=\udc80",
]
WORDS = [
    *("", " ", "-", "--", "-x", "--no-such-option", "a", "é\u202e\x1b[31m", "\udc80", "x" * 5000, "{", "null", "[1]"),
    *("\n", "text", "json", "mermaid", "dot", "refuse", "keep", "run again", "forest.double", "*.json", "**", "../*"),
]
POOLS: dict[str, list[str]] = {
    "store": STORES,
    "file": FILES,
    "stages": MODULES,
    "modules": MODULES,
    "agent": AGENTS + MODULES,
    "what": [*FILES, "forest.double", "shell", "tests.property.forest:double", *MODULES],
    "workspace": [".", "folder", "no", "", "w.json", "a\0b"],
    **dict.fromkeys(["input", "argument", "set", "budget"], PAIRS),
}


def any_id(place: Place) -> st.SearchStrategy[str]:
    """An id, its beginning, one of a checkpoint, or something that is none."""
    ids = st.sampled_from(place.ids)
    beginnings = st.builds(lambda run_id, count: run_id[:count], ids, st.integers(0, 9))
    checkpoints = st.builds(
        lambda run_id, number: f"{run_id}@{number}", ids, st.sampled_from([*NUMBERS, "2", "3", "4"])
    )
    return ids | ids | beginnings | checkpoints | st.sampled_from(WORDS) | st.text(max_size=3)


def value_of(parameter: Any, place: Place) -> st.SearchStrategy[str]:
    """Something that could be given for a parameter, or could not."""
    name = parameter.name
    if "id" in name.split("_"):
        return any_id(place)
    usual = POOLS.get(name, NUMBERS + WORDS)
    return st.sampled_from(usual) | st.sampled_from([*usual, *WORDS, *NUMBERS])


@st.composite
def arguments(draw: st.DrawFn, path: tuple[str, ...], command: Any, place: Place) -> list[str]:
    """Arguments for a command: most of those it needs, some that it takes, seldom one that it does not."""
    given: list[str] = []
    options: list[str] = list(ALWAYS.get(path, ()))
    for parameter in command.params:
        if parameter.opts[0] in ENDLESS or parameter.name == "help":
            continue
        value = value_of(parameter, place)
        if parameter.param_type_name == "argument":
            many = 1 if draw(st.integers(0, 9)) else draw(st.integers(0, 2))
            given += [draw(value) for _ in range(many)]
        elif parameter.name == "store":
            options += ["--store", draw(value)]
        elif draw(st.booleans()):
            options.append(draw(st.sampled_from(parameter.opts)))
            if not parameter.is_flag:
                options.append(draw(value))
    if draw(st.integers(0, 19)) == 0:
        options.append(draw(st.sampled_from(WORDS)))
    return [*options, *given] if draw(st.booleans()) else [*given, *options]


def called(words: Sequence[str], given: Sequence[str]) -> Said:
    result = CliRunner().invoke(app, [*words, *given], input="one\ntwo\n", prog_name="cortical", env={"COLUMNS": "90"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.stdout, result.stderr, result.exit_code)


def require_manners(said: Said, given: Sequence[str]) -> None:
    """A command says how it went by its exit code, talks on standard error, and gives data alone on standard output."""
    assert said.code in (0, 1, 2)
    assert "Traceback (most recent call last)" not in said.err
    if said.code == 2:
        assert said.out == ""
        assert said.err.strip()
    if said.code == 1:
        assert (said.out + said.err).strip()
    if "--json" in given and said.code < 2 and said.out:
        try:
            json.loads(said.out)
        except ValueError:  # one value a line, for what goes on
            for line in said.out.splitlines():
                json.loads(line)


@pytest.mark.parametrize("path", [path for path in COMMANDS if path not in PROGRAMS], ids=" ".join)
@given(data=st.data())
@effort(6)
def test_any_arguments(path: tuple[str, ...], data: st.DataObject, place: Place) -> None:
    """Exit code 0, 1 or 2; no traceback; messages apart from data; JSON where it was asked for."""
    whole = (place.folder / "whole.db").read_bytes()
    arguments_given = data.draw(arguments(path, COMMANDS[path], place))
    require_manners(called(path, arguments_given), arguments_given)
    (place.folder / "whole.db").write_bytes(whole)
    for suffix in ("-wal", "-shm"):
        (place.folder / f"whole.db{suffix}").unlink(missing_ok=True)


@pytest.mark.parametrize("path", sorted(PROGRAMS), ids=" ".join)
def test_wrong_arguments(path: tuple[str, ...], place: Place) -> None:
    """An option that there is not, or an argument too many, is refused before anything is begun."""
    for wrong in (["--no-such-option"], ["one", "two"], ["--store"]):
        said = called(path, wrong)
        require_manners(said, wrong)
        assert said.code == 2


#: Commands that take an id, a store and --json, and go on with what they find.
CHANGING = {("resume",), ("recover",), ("batch", "retry"), ("pipeline", "resume"), ("workflow", "resume")}
READS = [
    path
    for path, command in COMMANDS.items()
    if {"id", "store", "as_json"} <= {parameter.name for parameter in command.params} and path not in CHANGING
]


@pytest.mark.parametrize("path", READS, ids=" ".join)
def test_every_read(path: tuple[str, ...], place: Place) -> None:
    """Of runs of every kind, a read gives a page, or one value as JSON, or says why it does not."""
    for run_id in [*place.ids[::6], "odd", "doubled", "turning"]:
        for form in ([], ["--json"]):
            said = called(path, [run_id, "--store", "whole.db", *form])
            require_manners(said, form)
            assert said.out or said.err


def test_terminals_of_every_kind(place: Place, tmp_path: Path) -> None:
    """In a terminal that knows ASCII alone, and with standard output closed, no command ends with a traceback."""
    run_id = next(one for one in place.ids if one == "doubled")
    store = shutil.copy(place.folder / "whole.db", tmp_path / "whole.db")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    lines = [
        ('exec "$@"', ["log", run_id]),
        ('exec "$@" >&-', ["tree"]),
        ('"$@" | true', ["log", run_id]),
        ('exec "$@" 2>&-', ["why", run_id]),
        ('exec "$@" >/dev/full', ["stats"]),
    ]
    started = [
        subprocess.Popen(
            ["sh", "-c", shell, "sh", sys.executable, "-m", "cortical", *words, "--store", str(store)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for shell, words in lines
    ]
    for process in started:
        _, err = process.communicate()
        assert process.returncode in (0, 1)
        assert "Traceback" not in err
        assert "Exception ignored" not in err
