"""The benchmark beside other systems: its programs can be read, and a peer that cannot be had is said to be so."""

from __future__ import annotations

import ast
import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.peers import with_bare, with_cortical
from benchmarks.peers.__main__ import KILL, OURS, PINNED, SYSTEMS, System, measured, table_of
from benchmarks.peers.environments import NotHere, last_word, python_of
from benchmarks.peers.work import WORKS, Open

FOLDER = Path(with_bare.__file__).parent
NOWHERE = "/there/is/no/such/python"


def imports_of(module: str) -> set[str]:
    """The packages that a program imports, by their first names, other than the work."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name.split(".")[0] for name in found - {"benchmarks.peers.work"}}


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: f"{system.module} {system.mode}")
def test_a_program_needs_no_more_than_its_environment_has(system: System) -> None:
    """Each program imports the standard library, the work and its own peer: a peer's environment has nothing else."""
    own = system.peer or "cortical"
    assert imports_of(system.module) <= {*sys.stdlib_module_names, own}
    assert all("==" in requirement for requirement in PINNED.get(own, ()))


def test_the_work_needs_the_standard_library_alone() -> None:
    """What every environment imports is to be had in every environment."""
    assert imports_of("work") <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize(
    ("opened", "mode"),
    [(with_bare.opened, "NORMAL"), (with_bare.opened, "FULL"), (with_cortical.opened, "process")],
    ids=["bare", "bare, synced", "cortical"],
)
def test_the_work_is_done(work: str, opened: Open, mode: str, tmp_path: Path) -> None:
    """The floor and Cortical come to what the work is to come to, a second time too."""
    with opened(work, tmp_path / "runs.db", mode) as do:
        assert do(3) == WORKS[work].expected(3)
        assert do(5) == WORKS[work].expected(5)


def test_an_environment_that_cannot_be_made(tmp_path: Path) -> None:
    """Without a base interpreter the reason comes back, and no folder is left over."""
    found = python_of(tmp_path / "peer", ("peer==1",), base=NOWHERE)
    assert isinstance(found, NotHere)
    assert NOWHERE in found.reason
    assert not (tmp_path / "peer").exists()


def test_a_peer_that_cannot_be_installed(tmp_path: Path) -> None:
    """What pip calls the error comes back, and no folder is left over that would pass for an environment."""
    found = python_of(tmp_path / "peer", ("--no-index", "./there-is-no-such-package"))
    assert isinstance(found, NotHere)
    assert found.reason.startswith("ERROR: ")
    assert not (tmp_path / "peer").exists()


def test_an_environment_is_made_once(tmp_path: Path) -> None:
    """One with the same requirements is used as it is; with others it is made anew."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    (tmp_path / "installed").write_text("peer==1\nother==2")
    assert python_of(tmp_path, ("peer==1", "other==2"), base=NOWHERE) == python
    assert isinstance(python_of(tmp_path, ("peer==2", "other==2"), base=NOWHERE), NotHere)


def test_what_a_program_said_last() -> None:
    """A line that is called an error goes before the very last one; silence gives nothing."""
    assert last_word("a\nERROR: no such thing\n\nnotice: news\n") == "ERROR: no such thing"
    assert last_word("Traceback\nKeyError: 'x'\n") == "KeyError: 'x'"
    assert last_word("\n") == ""


def test_what_is_not_available_has_no_figure() -> None:
    """A peer without its environment, and one whose program fails, are shown with the reason, the others measured."""
    systems = (
        System(OURS, "with_bare", "NORMAL", KILL),
        System("Missing", "with_dbos", "", KILL, "dbos"),
        System("Failing", "with_nothing", "", KILL),
        System("Elsewhere", "with_bare", "NORMAL", KILL, works=("growing",)),
    )
    taken = measured("steps", systems, {"dbos": NotHere("no [such] registry")}, rounds=2)
    assert [(one.system.name, len(one.figures)) for one in taken] == [(OURS, 2), ("Missing", 0), ("Failing", 0)]
    output = io.StringIO()
    Console(file=output, width=500).print(table_of("steps", taken))
    shown = output.getvalue()
    assert "Missing: not available here: no [such] registry" in shown
    assert "Failing: not available here: " in shown
    assert "No module named benchmarks.peers.with_nothing" in shown
    assert "1.00" in next(row for row in shown.splitlines() if OURS in row and KILL in row)


def test_when_nothing_is_available() -> None:
    """A table of systems none of which can be had has their reasons alone."""
    systems = (System("Missing", "with_dbos", "", KILL, "dbos"),)
    taken = measured("growing", systems, {"dbos": NotHere("why")}, rounds=1)
    output = io.StringIO()
    Console(file=output, width=500).print(table_of("growing", taken))
    assert "Missing: not available here: why" in output.getvalue()
