"""The disk is full while something is driven: it says so, keeps what it had, and carries on when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from cortical import Loop, Verdict, resume, run
from cortical.batch import BatchProcessor
from cortical.control import LoopController, State, max_iterations
from cortical.core.errors import StoreError
from cortical.core.events import Ended, Event
from cortical.core.outcome import Ok
from cortical.core.ports import Root
from cortical.looking.soundness import unsound
from cortical.reasoning import NestedLoopExecutor
from cortical.stages import Pipeline, StageContext, execute, resume as resume_pipeline, stage
from cortical.stages.loop import StageHandler, Work
from cortical.store import open_store
from cortical.store.sqlite import SqliteStore
from tests.integration.agent_scenarios import agent_with

#: So large that some of them need another page.
LARGE: Final = "x" * 3000
COUNT: Final = 40
#: Some of that many fit in, and not all.
PAGES: Final = 22


class Disk:
    """A store on a disk that is full after some pages, and what was called and reported."""

    def __init__(self, path: Path) -> None:
        opened = open_store(path)
        assert isinstance(opened, SqliteStore)
        self.store = opened
        self.calls: Counter[Any] = Counter()
        self.reported: set[Any] = set()
        self._limit(PAGES)

    def called(self, what: Any) -> str:
        """Count a call, and give something large for its result."""
        self.calls[what] += 1
        return LARGE

    def told(self, face: Any, of: Callable[[str], Any]) -> None:
        """Keep what a face's journal tells as ended well."""

        def tell(event: Event) -> None:
            if isinstance(event, Ended) and isinstance(event.outcome, Ok):
                self.reported.add(of(face.journal.run(event.run_id).name))

        face.journal.subscribe(tell)

    def fills_up(self, drive: Callable[[], Any]) -> Root:
        """Drive until the disk is full: the error says what to do, the tree is as it was before the last record."""
        with pytest.raises(StoreError, match="nothing was recorded: make room, then call again"):
            drive()
        (root,) = self.store.roots()
        assert root.ended_at is None
        assert unsound(self.store.read(root.id)) == []
        assert 0 < len(self.reported) < COUNT
        return root

    def has_room(self) -> None:
        """Make room."""
        self._limit(1_000_000)

    def check(self) -> None:
        """All is done, and nothing twice that had been reported before."""
        (root,) = self.store.roots()
        assert root.ended_at is not None
        assert unsound(self.store.read(root.id)) == []
        assert self.store.check() == []
        assert {what for what in self.reported if self.calls[what] != 1} == set()
        assert len(self.calls) == COUNT

    def _limit(self, pages: int) -> None:
        connection = self.store._open()
        there = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {there + pages}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk with some room."""
    made = Disk(tmp_path / "runs.db")
    yield made
    made.store.close()


def test_a_batch(disk: Disk) -> None:
    """What a batch had reported is not run again; the other items are, and the result has all of them."""
    batch = BatchProcessor(".", "b", lambda item, task, context: disk.called(item), store=disk.store, max_concurrency=3)
    disk.told(batch, lambda name: int(name) if name != "b" else "the batch")
    disk.fills_up(lambda: batch.run(range(COUNT)))
    reported = set(disk.reported)
    disk.has_room()
    assert batch.run(range(COUNT)).results == [LARGE] * COUNT
    disk.reported = reported
    disk.check()


def test_a_pipeline(disk: Disk) -> None:
    """Stages that had succeeded are not run again, and what they had written is there."""

    def made(number: int) -> Any:
        @stage(f"p:{number}", after=[f"p:{number - 1}"] if number else [], writes=[f"k{number}"])
        def one(context: StageContext) -> None:
            context[f"k{number}"] = disk.called(number)

        return one

    pipeline = Pipeline("p", [made(number) for number in range(COUNT)])

    def report(result: Any) -> None:
        disk.reported.add(int(result.id.removeprefix("p:")))

    root = disk.fills_up(lambda: execute(pipeline, store=disk.store, on_stage=report))
    reported = set(disk.reported)
    disk.has_room()
    result = resume_pipeline(disk.store, root.id, pipeline)
    assert result.values == {f"k{number}": LARGE for number in range(COUNT)}
    disk.reported = reported
    disk.check()


def test_an_agent(disk: Disk) -> None:
    """Steps that had returned are not called again, and children that had ended stay so."""

    def work(loop: Loop) -> None:
        loop.step("one", disk.called, loop.goal)
        disk.reported.add(loop.goal)

    child = agent_with("child", answer=work)

    def spawn(loop: Loop) -> None:
        for number in range(COUNT):
            loop.spawn(f"child {number}", agent=child, key=f"{number}")

    parent = agent_with(
        "parent", answer=spawn, verify=lambda loop: Verdict.passed(len(loop.child_results)), concurrency=3
    )
    root = disk.fills_up(lambda: run(parent, "goal", store=disk.store))
    reported = set(disk.reported)
    disk.has_room()
    assert resume(disk.store, root.id, agents=[parent, child]).value == COUNT
    disk.reported = reported
    disk.check()


def test_a_controlled_loop(disk: Disk) -> None:
    """Iterations that were finished are not repeated."""

    def body(state: dict[str, Any]) -> State:
        number = state.get("number", 0)
        disk.reported.update(range(1, number + 1))
        return State(disk.called(number + 1), number=number + 1)

    controller = LoopController("loop", store=disk.store, stop_when=max_iterations(COUNT))
    disk.fills_up(lambda: controller.run(body))
    reported = set(disk.reported)
    disk.has_room()
    assert controller.run(body).iterations == COUNT
    disk.reported = reported
    disk.check()


def test_a_loop_stage(disk: Disk) -> None:
    """So is it with the iterations of a loop stage."""
    config = {"stages": {"s": {"loop_config": {"type": "fixed", "count": COUNT}}}}
    handler = StageHandler(config, store=disk.store)

    def work(given: Work) -> str:
        assert given.iteration is not None
        disk.reported.update(range(1, given.iteration.current))
        return disk.called(given.iteration.current)

    process = handler.initialize_process("one")
    disk.fills_up(lambda: handler.run_stage("s", work))
    reported = set(disk.reported)
    disk.has_room()
    handler.resume_process(process)
    assert handler.run_stage("s", work).status == "completed"
    disk.reported = reported
    disk.check()


# Files that may only be read

_LOOKS: Final = """
import os, sqlite3, sys
import cortical.store.sqlite
from cortical.core.errors import StoreError
from cortical.reasoning import NestedLoopExecutor
from cortical.store import open_store

if os.geteuid() == 0:  # who may write whatever the file says
    os.setegid(65534)
    os.seteuid(65534)
try:
    store = open_store(sys.argv[1])
    print(f"{len(store.roots())} tree")
    NestedLoopExecutor(store=store).start_root("h")
except StoreError as error:
    print(error)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may look into, in which a store is."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    with NestedLoopExecutor(store=made / "runs.db") as executor:
        executor.start_root("g")
    yield made
    made.chmod(0o755)
    shutil.rmtree(made)


@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o444, 0o555), (0o666, 0o555)])
def test_a_store_that_may_only_be_read(folder: Path, file_mode: int, folder_mode: int) -> None:
    """A file that may not be written, or a folder in which no log may be made beside it, is told when it is opened."""
    path = folder / "runs.db"
    path.chmod(file_mode)
    folder.chmod(folder_mode)
    done = subprocess.run([sys.executable, "-c", _LOOKS, str(path)], capture_output=True, text=True, check=True)
    (said,) = done.stdout.splitlines()
    assert "runs.db' may only be read" in said
    assert said.endswith("nothing was recorded: make it and its folder writable")
    assert os.stat(path).st_size > 0
