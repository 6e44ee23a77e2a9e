"""Pipelines in processes that are killed: the CSV example, carried on by another process."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cortical.core.errors import LeaseHeld
from cortical.core.journal import Journal
from cortical.core.outcome import Ok
from cortical.stages import StageContext, execute, resume
from cortical.store import open_store
from examples.csv_pipeline import DATA, shop_pipeline
from tests.processes import unmeasured

EXAMPLE = Path(__file__).parents[2] / "examples" / "csv_pipeline.py"


class Later:
    """A clock that is ahead, so that no lease of a process that was killed runs any more."""

    def time(self) -> float:
        """The time in a minute."""
        return time.time() + 60


@contextmanager
def begun(folder: Path, pace: float) -> Iterator[subprocess.Popen[str]]:
    """A process that runs the example in `folder`, and has begun; killed at the end if it still runs."""
    line = [sys.executable, str(EXAMPLE), "--store", "shop.db", "--pace", str(pace)]
    line += ["--report", str(folder / "report.md")]
    with subprocess.Popen(
        line,
        cwd=folder,
        env=unmeasured(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "▶ from the beginning\n"
        yield process
        process.kill()


def ended(store: Path) -> dict[str, str]:
    """By stage, the id of its run, of those that have succeeded; each but once."""
    opened = open_store(store, create=False)
    try:
        journal = Journal(opened, clock=time)
        journal.load_trees()
        found: dict[str, str] = {}
        for run in journal.index.runs.values():
            if run.kind == "stage" and isinstance(run.outcome, Ok):
                assert run.name not in found, f"{run.name} has succeeded twice"
                found[run.name] = run.id
        return found
    finally:
        opened.close()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a run that nothing happened to."""
    target = tmp_path_factory.mktemp("undisturbed") / "report.md"
    execute(shop_pipeline(), StageContext(arguments={"data": str(DATA), "report": str(target)})).raise_for_failure()
    return target.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", range(30))
def test_killed_at_any_moment(number: int, expected: str, tmp_path: Path) -> None:
    """Killed by kill -9 at a random moment and resumed, no stage that had ended runs again; the report is the same."""
    dice = random.Random(number)
    so_many = number * 12 // 30  # stages that have ended; the moment after that is left to chance
    with begun(tmp_path, pace=0.05) as process, suppress(subprocess.TimeoutExpired):
        assert process.stdout is not None
        for _ in range(so_many):
            assert "csv:" in process.stdout.readline()
        process.wait(dice.uniform(0.0, 0.06))
    before = ended(tmp_path / "shop.db")
    assert len(before) >= so_many
    opened = open_store(tmp_path / "shop.db", create=False)
    run_id = opened.roots()[0].id if opened.roots() else None
    if run_id is None:
        opened.close()
        assert so_many == 0, "what was told of was not kept"
        return
    result = resume(opened, run_id, shop_pipeline(), max_concurrency=4, clock=Later())
    assert opened.check() == []
    opened.close()
    after = ended(tmp_path / "shop.db")
    assert result.ok
    assert len(after) == 12
    assert before.items() <= after.items()
    assert result.values["report"] == expected
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == expected


def test_nobody_takes_over_from_the_living(tmp_path: Path) -> None:
    """While a process drives a pipeline, another is told who does."""
    with begun(tmp_path, pace=0.5) as process:
        assert process.stdout is not None
        assert "csv:load" in process.stdout.readline()
        opened = open_store(tmp_path / "shop.db", create=False)
        with pytest.raises(LeaseHeld, match=f"process {process.pid}"):
            resume(opened, opened.roots()[0].id, shop_pipeline())
        opened.close()


def test_ctrl_c_in_the_middle(tmp_path: Path) -> None:
    """Interrupted by Ctrl-C, the pipeline stays open, nobody has to wait to carry it on, and what had ended counts."""
    with begun(tmp_path, pace=0.3) as process:
        assert process.stdout is not None
        assert "csv:load" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) != 0
    before = ended(tmp_path / "shop.db")
    assert before
    opened = open_store(tmp_path / "shop.db", create=False)
    result = resume(opened, opened.roots()[0].id, shop_pipeline(), max_concurrency=4)
    opened.close()
    assert result.ok
    assert before.items() <= ended(tmp_path / "shop.db").items()


# The example itself


def played(*arguments: str, folder: Path, status: int = 0) -> str:
    """What the example says, called so in `folder`."""
    line = [sys.executable, str(EXAMPLE), *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_example_plans_without_doing(tmp_path: Path) -> None:
    """The plan reads the sizes of the real files, knows every stage, and leaves nothing behind."""
    said = played("--plan", folder=tmp_path)
    assert f"would read {DATA / 'orders.csv'} (16.5 kB)" in said
    assert "would create report.md" in said
    assert "unknown –" not in said
    assert list(tmp_path.iterdir()) == []


def test_example_is_killed_and_carried_on(expected: str, tmp_path: Path) -> None:
    """Killed once and carried on, the example writes the report of a run that nothing happened to."""
    said = played("--kills", "1", "--pace", "0.2", "--store", "shop.db", folder=tmp_path)
    assert "☠ kill -9" in said
    assert "shop is completed" in said
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == expected


def test_example_that_fails(tmp_path: Path) -> None:
    """Where the files are missing, every stage is told of, and the example ends with status 1."""
    said = played("--data", "nowhere", folder=tmp_path, status=1)
    assert "csv:load-orders      failed: FileNotFoundError" in said
    assert "csv:report           upstream failed" in said
    assert not (tmp_path / "report.md").exists()
