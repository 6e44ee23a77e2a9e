"""Imports point down only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cortical

PACKAGE = Path(cortical.__file__).parent
#: Each part, and the parts it may import.
BELOW = {
    "core": set(),
    "store": {"core"},
    "engine": {"core"},
    "recovery": {"core", "store", "engine"},
    "control": {"core", "store", "engine", "recovery"},
    "monitoring": {"core", "store"},
    "agents": {"core", "store", "engine", "recovery", "control"},
    "looking": {"core", "store"},
    "reasoning": {"core", "store", "engine", "recovery", "control", "agents", "looking"},
    "stages": {"core", "store", "engine", "recovery"},
    "batch": {"core", "store", "engine", "recovery", "stages"},
    "testing": {"core", "store", "engine", "recovery", "control", "monitoring", "agents", "reasoning"},
    "cli": {
        "core",
        "store",
        "engine",
        "recovery",
        "control",
        "monitoring",
        "agents",
        "looking",
        "reasoning",
        "stages",
        "batch",
    },
}
TOP = {"__init__.py", "__main__.py"}


def imported_parts(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("cortical.")}


@pytest.mark.parametrize("part", BELOW)
def test_a_part_imports_only_from_below(part: str) -> None:
    """No module imports from a part beside or above its own."""
    for file in (PACKAGE / part).rglob("*.py"):
        above = imported_parts(file) - BELOW[part] - {part}
        assert not above, f"{file.relative_to(PACKAGE)} imports {', '.join(sorted(above))}"


def test_every_module_stands_in_a_part() -> None:
    """There is no module outside the parts that this test knows."""
    homes = {file.relative_to(PACKAGE).parts[0] for file in PACKAGE.rglob("*.py")}
    assert homes <= set(BELOW) | TOP


def test_the_core_does_no_io() -> None:
    """The core reads no clock, opens no file and knows no outside technology."""
    banned = {"time", "sqlite3", "rich", "typer", "asyncio", "subprocess", "socket", "psutil"}
    for file in (PACKAGE / "core").rglob("*.py"):
        imports = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Import)]
        names = {alias.name.split(".")[0] for node in imports for alias in node.names}
        assert not names & banned, f"{file.name} imports {names & banned}"


@pytest.mark.parametrize("heavy", ["sqlite3", "rich", "typer", "asyncio", "psutil", "hypothesis"])
def test_importing_loops_stays_light(heavy: str) -> None:
    """`import cortical.reasoning` brings in nothing that a loop in memory does not need."""
    code = (
        "import sys, networkx; before = set(sys.modules); import cortical.reasoning; "
        f"print({heavy!r} in set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
