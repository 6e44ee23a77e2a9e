"""The fixtures that pytest finds with the library, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT

USERS_TESTS = '''
from cortical.core.errors import EncodeError, StoreError
from cortical.testing import FakeClock

kept = []


def test_store(store, request):
    """An empty store that takes what a durable one could keep."""
    assert store.roots() == []
    kept.append(store)


def test_closed():
    """Of the test before this one."""
    try:
        kept[-1].roots()
    except StoreError:
        return
    raise AssertionError("the store was left open")


def test_executor(executor, store, clock):
    """One on both."""
    assert isinstance(clock, FakeClock)
    root = executor.start_root("g")
    assert [(root.goal, root.started_at) for root in store.roots()] == [("g", clock.now)]
    try:
        executor.record_answer(root, object())
    except EncodeError:
        return
    raise AssertionError("the store is not strict")
'''


def said(folder: Path, tests: str, *options: str, plugin: str = "-pcortical.testing.plugin") -> list[str]:
    """What pytest says of these tests, line by line, without the time it took."""
    (folder / "test_users.py").write_text(tests)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-Werror", plugin, "-pno:cacheprovider", *options, "test_users.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = [line.split(" in ")[0].strip("= ") for line in (done.stdout + done.stderr).splitlines()]
    return [line.partition(" [")[0].rstrip() for line in lines]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_fixtures(kind: str, tmp_path: Path) -> None:
    """Store, clock and executor belong together, and are closed after the test; the option says which store it is."""
    lines = said(tmp_path, USERS_TESTS, f"--cortical-store={kind}")
    assert lines[-1] == "3 passed", "\n".join(lines)
    assert bool(list(tmp_path.rglob("*.db"))) is False  # files are in pytest's own folders, not where it was started


def test_memory_is_the_default(tmp_path: Path) -> None:
    """Without the option, the store is one in memory."""
    tests = "def test_it(store):\n    assert store.name == 'memory'\n"
    assert said(tmp_path, tests)[-1] == "1 passed"


def test_all_stores(tmp_path: Path) -> None:
    """What uses the store runs on each kind, and is named for it; the rest runs once."""
    lines = said(tmp_path, USERS_TESTS, "--cortical-store=all")
    assert lines[-1] == "5 passed", "\n".join(lines)
    assert "test_users.py::test_executor[sqlite] PASSED" in lines
    assert "test_users.py::test_closed PASSED" in lines


def test_a_test_says_its_kind_itself(tmp_path: Path) -> None:
    """A mark of the test goes before the option, for that test."""
    tests = """
import pytest


@pytest.mark.parametrize("cortical_store", ["sqlite"])
def test_it(store):
    assert store.name != "memory"


@pytest.mark.parametrize(("cortical_store", "number"), [("sqlite", 1), ("memory", 2)])
def test_both(store, number):
    assert (store.name == "memory") == (number == 2)


@pytest.mark.parametrize(argnames="number", argvalues=[1])
def test_other(store, number):
    assert store.roots() == []
"""
    for option, passed in (("memory", 4), ("all", 5)):
        lines = said(tmp_path, tests, f"--cortical-store={option}")
        assert lines[-1] == f"{passed} passed", "\n".join(lines)


def test_users_fixtures_go_first(tmp_path: Path) -> None:
    """A fixture of the same name takes the plugin's place, also below the plugin's executor."""
    tests = """
import pytest

from cortical.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock(5.0)


@pytest.fixture(params=["mine"])
def store(request):
    from cortical.store import MemoryStore

    return MemoryStore()


def test_it(executor, store):
    root = executor.start_root("g")
    assert store.roots()[0].started_at == 5.0
    executor.record_answer(root, object())
"""
    lines = said(tmp_path, tests, "--cortical-store=all")
    assert lines[-1] == "1 passed", "\n".join(lines)
    assert "test_users.py::test_it[mine] PASSED" in lines


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    """The command line is told which there are."""
    told = "\n".join(said(tmp_path, USERS_TESTS, "--cortical-store=postgres"))
    assert "--cortical-store" in told
    assert "sqlite" in told
    assert "passed" not in told


def test_the_entry_point_leads_to_the_plugin() -> None:
    """The package tells pytest of the module by which these tests have loaded it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"cortical.testing.plugin": "cortical.testing.plugin"}
    assert not [need for need in project["dependencies"] if need.startswith("pytest")]
