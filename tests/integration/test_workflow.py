"""Workflows run by the command line as processes: the example on real pages, and what a kill -9 leaves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cortical.batch.workflow import Workflow
from cortical.store.face import Face

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "workflow.yaml"
CORTICAL = (sys.executable, "-m", "cortical")


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A folder with the project's own pages."""
    folder = tmp_path / "pages"
    shutil.copytree(ROOT / "docs" / "how-to", folder / "how-to")
    shutil.copy(ROOT / "docs" / "index.md", folder)
    return folder


def cortical(*arguments: str | Path, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*CORTICAL, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, done.stderr
    return done


def words(page: Path) -> int:
    return len(page.read_bytes().split())


def test_the_example_counts_the_words_of_real_pages(pages: Path, tmp_path: Path) -> None:
    """Its plan says how many pages there are, and its report has the right count of each."""
    found = sorted(pages.rglob("*.md"))
    planned = cortical("workflow", "plan", EXAMPLE, "--workspace", pages, folder=tmp_path)
    assert f"would carry out {len(found)} items by 'shell'" in planned.stdout
    done = cortical("workflow", "run", EXAMPLE, "--workspace", pages, "--store", "runs.db", folder=tmp_path)
    assert "words completed" in done.stderr
    heading, *lines = (pages / "words.txt").read_text().splitlines()
    assert heading == f"{len(found)} pages, 0 could not be counted"
    counted = {pages / name: int(count) for count, name in (line.split(maxsplit=1) for line in lines if line)}
    assert counted == {page: words(page) for page in found}


def test_items_that_failed_are_run_again_by_the_command_line(pages: Path, tmp_path: Path) -> None:
    """A page that cannot be read is tolerated; once it can, `batch retry` counts it, and only it."""
    broken = pages / "broken.md"
    broken.symlink_to(pages / "nowhere.md")
    (pages / "list.txt").write_text("index.md\nbroken.md\n")
    definition = {
        "name": "two",
        "task": "shell",
        "with": {"command": ["wc", "-w", {"from": "item"}]},
        "items": {"lines": "list.txt"},
    }
    (pages / "two.json").write_text(json.dumps(definition))
    store = ("--store", tmp_path / "runs.db")
    cortical("batch", "run", "two.json", *store, folder=pages, code=1)
    (failure,) = json.loads(cortical("batch", "failed", "two", "--json", *store, folder=pages).stdout)
    assert (failure["item"], "nowhere" in failure["error"] or "broken.md" in failure["error"]) == ("broken.md", True)
    (pages / "nowhere.md").write_text("three more words")
    cortical("batch", "retry", "two", *store, folder=pages)
    with Face(tmp_path / "runs.db") as face:
        (root,) = [root.id for root in face.store.roots() if root.id != "two"]
        assert [item.value["stdout"] for item in face.journal.run(root).children] == ["3 broken.md\n"]


def test_a_killed_workflow_goes_on_where_it_stood(tmp_path: Path) -> None:
    """After kill -9 in the middle of a batch, `workflow resume` runs the rest; no reported item is run twice."""
    count = 40
    script = 'printf "%s\\n" "$ITEM" >> ran.txt; sleep 0.05'
    steps = [
        {"id": "before", "task": "file", "with": {"action": "write", "path": "before.txt", "content": "x"}},
        {
            "id": "each",
            "task": "shell",
            "items": list(range(count)),
            "depends_on": ["before"],
            "max_concurrency": 2,
            "with": {"script": script},
        },
        {"id": "after", "task": "shell", "depends_on": ["each"], "with": {"command": ["touch", "after.txt"]}},
    ]
    (tmp_path / "slow.json").write_text(json.dumps({"name": "slow", "steps": steps}))
    running = subprocess.Popen(
        [*CORTICAL, "workflow", "run", "slow.json", "--store", "runs.db"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    ran = tmp_path / "ran.txt"
    until = time.monotonic() + 60
    while not (ran.exists() and len(ran.read_text().splitlines()) >= count // 4):
        assert running.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
    running.kill()
    running.wait()
    with Face(tmp_path / "runs.db") as face:
        (root,) = face.store.roots()
        reported = {run.name for run in face.journal.run(root.id).tree.walk() if run.kind == "item" and run.reason}
    assert 0 < len(reported) < count
    _resumed(tmp_path, root.id)
    lines = ran.read_text().splitlines()
    assert set(lines) == {str(number) for number in range(count)}
    assert not [item for item in reported if lines.count(item) > 1]
    assert (tmp_path / "after.txt").exists()


def _resumed(folder: Path, run_id: str) -> None:
    """Resume, as soon as the lease of the process that died has run out."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        done = subprocess.run(
            [*CORTICAL, "workflow", "resume", run_id, "--store", "runs.db"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode == 0:
            return
        assert "held" in done.stderr or "lease" in done.stderr, done.stderr
    raise AssertionError("the lease was never free")


def test_the_example_is_whole() -> None:
    """Nothing is wrong with it."""
    assert Workflow.from_file(EXAMPLE).validate() == []
