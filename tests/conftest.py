"""What many tests start from."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cortical.reasoning import NestedLoopExecutor
from cortical.store import MemoryStore, Store, open_store
from cortical.testing import FakeClock


def pytest_configure() -> None:
    """Let signals reach the processes that tests start; below what ignores them, such as `nohup`, they would too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # here it is ignored still; what is started has the default


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
def executor(clock: FakeClock) -> NestedLoopExecutor:
    """An executor in memory."""
    return NestedLoopExecutor(clock=clock)


@pytest.fixture(params=["memory", "sqlite"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store of each kind."""
    store = MemoryStore() if request.param == "memory" else open_store(tmp_path / "runs.db")
    yield store
    store.close()


@pytest.fixture
def store() -> Store:
    """A store in memory that takes only what a durable one could keep."""
    return MemoryStore(strict=True)


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[Store]:
    """A store in a file."""
    store = open_store(tmp_path / "runs.db")
    yield store
    store.close()
