"""Imports point down only, and what is long says why."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

import cortical

PACKAGE = Path(cortical.__file__).parent
CONTRIBUTING = PACKAGE.parent / "CONTRIBUTING.md"
#: Each part, and the parts it may import: as many as it does.
BELOW = {
    "core": set(),
    "store": {"core"},
    "engine": {"core"},
    "recovery": {"core", "store", "engine"},
    "monitoring": {"core", "store"},
    "looking": {"core", "store"},
    "control": {"core", "store", "engine", "recovery"},
    "stages": {"core", "store", "engine", "recovery"},
    "agents": {"core", "store", "engine", "recovery", "control"},
    "batch": {"core", "store", "engine", "recovery", "stages"},
    "reasoning": {"core", "store", "engine", "looking", "agents"},
    "testing": {"core", "store", "agents", "reasoning"},
    "cli": {
        "core",
        "store",
        "engine",
        "recovery",
        "monitoring",
        "looking",
        "stages",
        "agents",
        "batch",
        "reasoning",
    },
}
TOP = {"__init__.py", "__main__.py"}

#: What the core may not import, wherever in it: clocks, files, processes, the network, chance, outside technology.
OUTSIDE = {
    "asyncio",
    "io",
    "multiprocessing",
    "psutil",
    "random",
    "rich",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "time",
    "typer",
}
#: What the core may not call, by the last word of it: it reads a clock, a file or a terminal, or writes.
READS_OR_WRITES = {
    "input",
    "now",
    "open",
    "print",
    "read_bytes",
    "read_text",
    "today",
    "utcnow",
    "write_bytes",
    "write_text",
}


def imported(source: str) -> Iterator[str]:
    """The modules that a source imports, wherever in it; what is imported from `cortical` is where it is made."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "cortical":
                yield from (home_of(alias.name) for alias in node.names)
            else:
                yield node.module or ""


def home_of(name: str) -> str:
    """The module in which what `cortical` offers under this name is made."""
    if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists():
        return f"cortical.{name}"
    return str(getattr(cortical, name).__module__)


def imported_parts(source: str) -> set[str]:
    """The parts of the library that a source imports."""
    return {name.split(".")[1] for name in imported(source) if name.startswith("cortical.")}


def outside_of(source: str) -> set[str]:
    """What a source imports or calls that the core may not."""
    called = {ast.unparse(node.func).rpartition(".")[2] for node in ast.walk(ast.parse(source)) if is_call(node)}
    return ({name.partition(".")[0] for name in imported(source)} & OUTSIDE) | (called & READS_OR_WRITES)


def is_call(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call)


@pytest.mark.parametrize("part", BELOW)
def test_a_part_imports_only_from_below(part: str) -> None:
    """No module imports from a part beside or above its own, and a part that may be imported is."""
    used: set[str] = set()
    for file in (PACKAGE / part).rglob("*.py"):
        parts = imported_parts(file.read_text()) - {part}
        above = parts - BELOW[part]
        assert not above, f"{file.relative_to(PACKAGE)} imports {', '.join(sorted(above))}"
        used |= parts
    assert used == BELOW[part]


def test_every_module_stands_in_a_part() -> None:
    """There is no module outside the parts that this test knows."""
    homes = {file.relative_to(PACKAGE).parts[0] for file in PACKAGE.rglob("*.py")}
    assert homes <= set(BELOW) | TOP


def test_contributors_are_told_the_order_of_the_parts() -> None:
    """The line on imports names every part, each after all that it may import."""
    (line,) = re.findall(r"\*\*Imports point down\*\*: (.*?)\. ", CONTRIBUTING.read_text().replace("\n  ", " "))
    told: set[str] = set()
    for step in line.split(" ← "):
        here = set(re.findall(r"`(\w+)`", step))
        assert all(BELOW[part] <= told for part in here), step
        told |= here
    assert told == set(BELOW)


def test_the_core_does_no_io() -> None:
    """The core reads no clock, opens no file and knows no outside technology."""
    for file in (PACKAGE / "core").rglob("*.py"):
        found = outside_of(file.read_text())
        assert not found, f"{file.name} has {', '.join(sorted(found))}"


@pytest.mark.parametrize(
    ("source", "parts", "outside"),
    [
        ("from cortical import why, Agent", {"looking", "agents"}, set()),
        ("from cortical import reasoning", {"reasoning"}, set()),
        ("def f():\n    import cortical.cli.page", {"cli"}, set()),
        ("from time import monotonic", set(), {"time"}),
        ("from datetime import datetime\nat = datetime.now()", set(), {"now"}),
        ("with open('f') as file: ...", set(), {"open"}),
        ("from pathlib import Path\nPath('f').open()", set(), {"open"}),
        ("import os.path, subprocess", set(), {"subprocess"}),
    ],
)
def test_what_is_looked_for_is_seen(source: str, parts: set[str], outside: set[str]) -> None:
    """An import is seen in whatever form it is written, and so is a call that reads or writes."""
    assert (imported_parts(source), outside_of(source)) == (parts, outside)


def test_what_is_long_says_why() -> None:
    """A module has 400 lines at most, or its docstring says why it has more; a function 50, its docstring aside."""
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        module = ast.parse(text)
        assert text.count("\n") <= 400 or "Longer than other modules: " in (ast.get_docstring(module) or ""), path
        for function in ast.walk(module):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                told = function.body[0] if ast.get_docstring(function) is not None else None
                docstring = 0 if told is None else lines_of(told)
                assert lines_of(function) - docstring <= 50, f"{path}: {function.name}"


def lines_of(part: ast.stmt) -> int:
    assert part.end_lineno is not None
    return part.end_lineno - part.lineno + 1


def test_importing_loops_stays_light() -> None:
    """`import cortical.reasoning` brings in nothing that a loop in memory does not need."""
    heavy = {"sqlite3", "rich", "typer", "asyncio", "psutil", "hypothesis", "difflib"}
    heavy |= {f"cortical.reasoning.{part}" for part in ("serializer", "validator", "verifier")} | {"cortical.looking"}
    heavy |= {f"cortical.looking.{part}" for part in ("export", "why", "soundness", "choices")}
    assert all(importlib.util.find_spec(module) for module in heavy)
    code = (
        "import sys, networkx; before = set(sys.modules); import cortical.reasoning; "
        f"print(sorted({heavy} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
