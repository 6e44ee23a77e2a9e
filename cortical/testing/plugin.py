"""Fixtures for pytest: a `store`, a `clock`, and an `executor` on both.

Installed with the library, for pytest to find. A fixture of the same name in a test module or a ``conftest.py`` takes
the place of the one here. Nothing else of the library is imported before a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cortical.core.ports import Store
    from cortical.reasoning import NestedLoopExecutor
    from cortical.testing.clock import FakeClock

_KINDS = ("memory", "sqlite")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--cortical-store``."""
    parser.getgroup("cortical").addoption(
        "--cortical-store",
        choices=[*_KINDS, "all"],
        default="memory",
        help="what the fixture `store` is: in memory, in a SQLite file, or one after the other",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """With ``--cortical-store=all``, run what uses the store once on each kind."""
    marks = metafunc.definition.iter_markers("parametrize")
    chosen = any(
        "cortical_store" in name for mark in marks for name in (*mark.args[:1], mark.kwargs.get("argnames", ""))
    )
    used = "cortical_store" in metafunc.fixturenames and not chosen
    if used and metafunc.config.getoption("--cortical-store") == "all":
        metafunc.parametrize("cortical_store", _KINDS)


@pytest.fixture
def cortical_store(request: pytest.FixtureRequest) -> str:
    """Which kind of store `store` is, "memory" or "sqlite": as the command line says, unless a test says it itself."""
    return str(request.config.getoption("--cortical-store"))


@pytest.fixture
def store(cortical_store: str, tmp_path: Path) -> Iterator[Store]:
    """An empty store, closed after the test; by default in memory, taking only what a durable one could keep."""
    from cortical.store import MemoryStore, open_store

    opened = MemoryStore(strict=True) if cortical_store == "memory" else open_store(tmp_path / "runs.db")
    yield opened
    opened.close()


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until it is told to go on."""
    from cortical.testing.clock import FakeClock

    return FakeClock()


@pytest.fixture
def executor(store: Store, clock: FakeClock) -> Iterator[NestedLoopExecutor]:
    """An executor on `store` and `clock`, closed after the test."""
    from cortical.reasoning import NestedLoopExecutor

    with NestedLoopExecutor(store=store, clock=clock) as opened:
        yield opened
