"""Batches whose processes are killed; `python -m tests.integration.test_batch FOLDER SECONDS` is such a process."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cortical.batch import BatchProcessor, BatchResult
from cortical.core.errors import LeaseHeld
from cortical.core.events import Ended, Event
from cortical.core.outcome import Ok
from cortical.store import Store
from cortical.testing import crash_everywhere
from tests.processes import unmeasured

ITEMS = 2_000
KILLS = 50
SECONDS = 0.008


#: Takes so many seconds, as the work on an item may.
_take: Callable[[float], object] = threading.Event().wait


def work(folder: Path, seconds: float, told: int | None = None) -> BatchResult:
    """Run the batch to its end: each call and each reported end is a line in a file, each call a sign to `told`."""
    calls = os.open(folder / "calls", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    reports = os.open(folder / "reports", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def call(item: int, task: Any, context: Any) -> int:
        os.write(calls, f"{item}\n".encode())
        if told is not None:
            os.write(told, b".")
        _take(seconds)
        return item * item

    def report(event: Event) -> None:
        if isinstance(event, Ended) and event.run_id != "squares":
            os.write(reports, f"{batch.journal.run(event.run_id).name}\n".encode())

    with BatchProcessor(
        folder, "squares", call, store=folder / "runs.db", max_concurrency=4, lease_seconds=0.15
    ) as batch:
        batch.journal.subscribe(report)
        return _until_free(batch)


def _until_free(batch: BatchProcessor) -> BatchResult:
    while True:
        try:
            return batch.run(range(ITEMS))
        except LeaseHeld as held:
            _take(held.seconds)


def lines(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.exists() else []


@contextlib.contextmanager
def worker(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.integration.test_batch", str(folder), str(SECONDS)]
    with subprocess.Popen(command, env=unmeasured(), stdout=subprocess.PIPE, bufsize=0) as process:
        try:
            yield process
        finally:
            process.kill()


def test_killed_at_fifty_moments(tmp_path: Path) -> None:
    """2,000 items, 4 workers, 50 kill -9: each item has one outcome, and none that was reported ran again."""
    chance = random.Random(20)
    kills = 0
    while kills < KILLS:
        before = len(lines(tmp_path / "calls"))
        reported = set(lines(tmp_path / "reports"))
        with worker(tmp_path) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 32)):  # so many items are begun
                process.stdout.read(1)
            process.send_signal(signal.SIGKILL)
            ended = process.wait(10)
        again = set(lines(tmp_path / "calls")[before:]) & reported
        assert not again, f"{sorted(again)} had been reported, and ran again"
        if ended == 0:
            break
        kills += 1
    assert kills == KILLS, "it was done before it could be killed so often"
    assert len(set(lines(tmp_path / "reports"))) < ITEMS

    result = work(tmp_path, 0)

    assert result.ok
    assert result.results == [number * number for number in range(ITEMS)]
    with BatchProcessor(tmp_path, "squares", store=tmp_path / "runs.db") as batch:
        run = batch.journal.refresh("squares")
        assert Counter(child.name for child in run.children) == Counter(map(str, range(ITEMS)))
        assert all(isinstance(child.outcome, Ok) for child in run.children)
        assert batch.store.check() == []
    calls = Counter(lines(tmp_path / "calls"))
    assert set(calls) == set(range(ITEMS))
    assert sum(calls.values()) - ITEMS <= KILLS * 4, "only what was open is run again"


def test_a_second_process_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    """Two processes on one name: the second is told which process has it."""
    with worker(tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"."
        with (
            BatchProcessor(tmp_path, "squares", _nothing, store=tmp_path / "runs.db") as batch,
            pytest.raises(LeaseHeld, match=f"process {process.pid} on "),
        ):
            batch.run(range(ITEMS))


def test_the_census_counts_every_file_once(tmp_path: Path) -> None:
    """The example is killed on the way, ends well, and its figures are those of the files."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(80):
        (folder / f"f{number}.py").write_text("one two\n" * (number // 2))
    command = [sys.executable, "examples/census.py", "--folder", str(folder), "--store", str(tmp_path / "census.db")]
    done = subprocess.run([*command, "--kills", "2"], capture_output=True, text=True, check=True, timeout=60)
    lines_in_all = sum(number // 2 for number in range(80))
    assert f"files: 80\n   lines: {lines_in_all:,}\n   words: {2 * lines_in_all:,}\n  copies: 40\n" in done.stdout
    assert "status: completed, 100 %" in done.stdout
    with BatchProcessor(folder, "census", store=tmp_path / "census.db") as batch:
        assert len(batch.journal.refresh("census").children) == 80


def _nothing(item: Any, task: Any, context: Any) -> None: ...


def invert(item: int, task: Any, context: Any) -> float:
    return 1 / (item or context["instead"])


def fail_then_mend(store: Store) -> None:
    """A batch of which an item fails, and which is run again; taken up where it stands."""
    with BatchProcessor(".", "inverses", invert, store=store, max_concurrency=1) as batch:
        if batch.state["stats"]["end"] is None and batch.run_id in (None, batch.name):
            batch.run([1, 0, 4], context={"instead": 0}, retry_failed=False)
        assert batch.run([1, 0, 4], context={"instead": 10}).results == [1.0, 0.1, 0.25]


def test_a_crash_at_any_write_of_a_batch_that_is_run_again() -> None:
    """Resumed, it leaves the same runs, also where it died on the way from one life to the next."""
    report = crash_everywhere(fail_then_mend)
    assert report.writes > 5


if __name__ == "__main__":
    work(Path(sys.argv[1]), float(sys.argv[2]), sys.stdout.fileno())


def test_a_worker_outlives_its_driver_quietly(tmp_path: Path) -> None:
    """A process that works on an item while its driver is killed finishes the call, and ends without a word."""
    (tmp_path / "slow.py").write_text(
        "import os, threading\n"
        "from cortical.batch import BatchProcessor\n"
        "def slow(item, task, context):\n"
        "    open('begun', 'x').close()\n"
        "    while not os.path.exists('go'):\n"
        "        threading.Event().wait(0.01)\n"
        "    open('finished', 'x').close()\n"
        "if __name__ == '__main__':\n"
        "    BatchProcessor('.', 'b', slow, workers='process').run([1])\n"
    )
    with subprocess.Popen([sys.executable, "slow.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as driver:
        while not (tmp_path / "begun").exists():
            assert driver.poll() is None
            _take(0.01)
        driver.kill()
        (tmp_path / "go").touch()
        _, said = driver.communicate()  # to the end of all who hold it: of the worker
    assert (tmp_path / "finished").exists()
    assert said == ""
