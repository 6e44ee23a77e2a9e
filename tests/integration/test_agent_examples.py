"""The examples of agents, on real input and as their users run them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from cortical.core.errors import StoreError
from cortical.core.events import Noted, Started
from cortical.core.status import Status
from cortical.core.tree import Tree
from cortical.store import MemoryStore, Store, open_store
from cortical.testing.crash import DyingStore, Moment, ProcessDied
from examples.approval import find_copies
from examples.audit_agent import carry_out
from examples.audit_package import Counts, read_tables
from examples.repair import candidates, edited

EXAMPLES = Path(__file__).parents[2] / "examples"
BROKEN = EXAMPLES / "data" / "broken_package"
#: The tests in the folders are run by a pytest of their own, which starts quicker without plug-ins.
ENVIRONMENT = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def command(*arguments: str) -> list[str]:
    """The command line of an example."""
    return [sys.executable, str(EXAMPLES / arguments[0]), *arguments[1:]]


def play(*arguments: str, folder: Path, status: int = 0) -> str:
    """Run an example in `folder`, where it has to end with `status`; returns all that it wrote."""
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder, by path."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def only_tree(store: Store) -> Tree:
    """The one tree of a store."""
    (root,) = store.roots()
    return Tree.of(store.read(root.id))


@pytest.fixture
def little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a small package that can be found, one of whose modules is no Python."""
    folder = tmp_path / "little"
    (folder / "inner").mkdir(parents=True)
    (folder / "first.py").write_text("def one(x): ...\n")
    (folder / "broken.py").write_text("def two(\n")
    (folder / "inner" / "third.py").write_text("class Three: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


# The audit


def test_audit_writes_the_report_of_the_stepwise_one(tmp_path: Path) -> None:
    """The agents' report of an installed package is, byte for byte, that of the audit that goes step by step."""
    said = play("audit_agent.py", "packaging", "--store", "a.db", "--report", "agent.md", folder=tmp_path)
    play("audit_package.py", "packaging", "--store", "s.db", "--report", "stepwise.md", folder=tmp_path)
    assert (tmp_path / "agent.md").read_bytes() == (tmp_path / "stepwise.md").read_bytes()
    modules = int(read_tables((tmp_path / "agent.md").read_text())["Totals"][0][0])
    assert f"Verified: {modules} modules audited, 0 not; {modules} modules counted again" in said
    store = open_store(tmp_path / "a.db")
    assert len(only_tree(store).root.children) == modules
    store.close()


def test_killed_audit_carries_on(tmp_path: Path) -> None:
    """Killed with kill -9 in the middle, the same command audits only the modules that were not done."""
    line = ("audit_agent.py", "rich", "--store", "a.db", "--report", "agent.md")
    process = subprocess.Popen(command(*line), cwd=tmp_path, stdout=subprocess.DEVNULL)
    while not (tmp_path / "a.db").exists():
        assert process.poll() is None
    store = open_store(tmp_path / "a.db", create=False)
    while not (roots := store.roots()) or not store.read(roots[0].id, 200):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = store.read(roots[0].id)
    while _is_refused(line, tmp_path):
        assert store.read(roots[0].id) == before
    log = store.read(roots[0].id)
    assert log[: len(before)] == before
    assert store.roots()[0].status is Status.COMPLETED
    store.close()
    answers = [event.run_id for event in log if isinstance(event, Noted) and event.topic == "answer"]
    started = [event.run_id for event in log if isinstance(event, Started) and event.parent_id]
    done_before = [event.run_id for event in before if isinstance(event, Noted) and event.topic == "verdict"]
    assert done_before
    assert set(answers) == set(started)
    assert all(answers.count(loop) == 1 for loop in done_before)
    play("audit_package.py", "rich", "--store", "s.db", "--report", "stepwise.md", folder=tmp_path)
    assert (tmp_path / "agent.md").read_bytes() == (tmp_path / "stepwise.md").read_bytes()


def _is_refused(line: tuple[str, ...], folder: Path) -> bool:
    """Run the command; True while the lease of the dead process runs."""
    done = subprocess.run(command(*line), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "whose lease runs" in done.stderr, done.stderr
    return done.returncode != 0


def test_audit_crashes_at_every_write(little: Path, tmp_path: Path) -> None:
    """A crash at any durable write, carried on, gives the same loops in the same states, and the same report."""
    report = tmp_path / "r.md"

    def finished(store: Store) -> tuple[object, ...]:
        if not store.roots():
            report.unlink(missing_ok=True)
        if not store.roots() or store.roots(open_only=True):
            carry_out(store, "little", report, workers=1).raise_for_failure()
        tree = only_tree(store)
        loops = [(run.name, run.status, run.value, [visit.place for visit in run.visits]) for run in tree.walk()]
        return loops, report.read_text()

    undisturbed = DyingStore(MemoryStore(strict=True))
    expected = finished(undisturbed)
    assert undisturbed.writes > 20
    moments: tuple[Moment, ...] = ("before", "after")
    for write, moment in product(range(1, undisturbed.writes + 1), moments):
        kept = MemoryStore(strict=True)
        with pytest.raises((ProcessDied, StoreError)):
            finished(DyingStore(kept, write, moment))
        assert finished(kept) == expected, f"crashed {moment} write {write}"
    report_tables = read_tables(report.read_text())
    assert report_tables["Not audited"] == [["little.broken", "line 1: '(' was never closed"]]


def test_audit_goes_round_for_what_has_changed(little: Path, tmp_path: Path) -> None:
    """A file that changes before the recount is audited again, and so is one that is gone; the others are not."""
    undisturbed = DyingStore(MemoryStore())
    carry_out(undisturbed, "little", tmp_path / "r.md", workers=1)
    kept = MemoryStore()
    with pytest.raises(ProcessDied):  # when it has just entered its last VERIFY
        carry_out(DyingStore(kept, undisturbed.writes - 2, "after"), "little", tmp_path / "r.md", workers=1)
    (little / "first.py").write_text("def one(x): ...\ndef another(): ...\n")
    (little / "inner" / "third.py").unlink()
    result = carry_out(kept, "little", tmp_path / "r.md", workers=1).raise_for_failure()
    assert result.value["counts"] == list(Counts(2, 2, 2))
    assert [child.name for child in only_tree(kept).root.children] == [
        "Audit module little.broken",
        "Audit module little.first",
        "Audit module little.inner.third",
        "Audit module little.first",
        "Audit module little.inner.third",
    ]
    assert read_tables((tmp_path / "r.md").read_text())["Not audited"][1] == ["little.inner.third", "the file is gone"]


# Repair


def test_repair_of_a_real_package(tmp_path: Path) -> None:
    """Six failing tests of a package are made to pass, each by one edit, and the diff shows these and no others."""
    before = files(BROKEN)
    shutil.copytree(BROKEN, tmp_path / "calendar")
    said = play("repair.py", "calendar", "--in-place", folder=tmp_path)
    assert said.startswith("6 tests fail\n")
    assert said.count("– passes\n") == 6
    assert said.endswith("All tests pass.\n")
    removed = [line for line in said.splitlines() if line.startswith("-    ")]
    added = [line.strip("+ ") for line in said.splitlines() if line.startswith("+    ")]
    assert len(removed) == 5
    assert added == [
        "return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)",
        "return sum(days_in_month(year, before) for before in range(1, month)) + day",
        "return (before * 365 + leap_days + day_of_year(year, month, day) - 1) % 7",
        "return end - start",
        "return one[0] < other[1] and other[0] < one[1]",
        "return found",
    ]
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    assert subprocess.run(line, cwd=tmp_path / "calendar", env=ENVIRONMENT, check=False).returncode == 0
    assert files(BROKEN) == before


def test_repair_that_finds_nothing(tmp_path: Path) -> None:
    """Where no edit helps, the folder stays as it was, and the exit code says that tests still fail."""
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "greeting.py").write_text("def greeting():\n    return 'hello'[0:9]\n")
    (tmp_path / "odd" / "test_greeting.py").write_text(
        "from greeting import greeting\n\n\ndef test_greeting():\n    assert greeting() == 'good morning'\n"
    )
    before = files(tmp_path / "odd")
    said = play("repair.py", "odd", folder=tmp_path, status=1)
    assert "test_greeting.py::test_greeting: no edit helps" in said
    assert "wrong number: '9' becomes '10' – no" in said
    assert "Not repaired: max_turns 2 reached" in said
    assert files(tmp_path / "odd") == before


@pytest.mark.parametrize(
    ("body", "repaired"),
    [
        ("return x < y", "return x <= y"),
        ("return 'é' != x and y", "return 'é' != x or y"),
        ("return x + y", "return x - y"),
        ("return x[y:]", "return x[y + 1:]"),
        ("return range(len(x))", "return range(len(x) - 1)"),
        ("return x - 1", "return x"),
        ("return x[3]", "return x[2]"),
        ("x + y", "return x + y"),
        ("z = x", "z = x\n    return z"),
    ],
)
def test_rules_of_repair(body: str, repaired: str) -> None:
    """Each rule changes the place that it means, and nothing else of the file."""
    head, tail = "# ünicode\ndef f(x, y):\n    ", "\n\n# the end\n"
    text = f"{head}{body}{tail}"
    assert f"{head}{repaired}{tail}".encode() in [edited(text, edit) for edit in candidates("f.py", text)]


@pytest.mark.parametrize("body", ["return x", "yield x", "raise x", "pass"])
def test_nothing_to_repair(body: str) -> None:
    """A function that needs no return gets none, and a file that is no Python no edits at all."""
    assert list(candidates("f.py", f"def f(x):\n    {body}\n")) == []
    assert list(candidates("f.py", f"def f(x:\n    {body}\n")) == []


# Approval


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two pairs of files that are the same, and two that are not."""
    folder = tmp_path / "photos"
    shutil.copytree(BROKEN / "calendrical", folder / "old", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(folder / "old", folder / "new")
    (folder / "new" / "days.py").write_bytes((folder / "old" / "days.py").read_bytes()[::-1])
    return folder


def test_approval_in_three_processes(photos: Path, tmp_path: Path) -> None:
    """One process asks, another answers, a third writes the plan; before the answer nothing is written."""
    before = files(photos)
    asked = play("approval.py", "start", "photos", "--store", "s.db", folder=tmp_path)
    assert f"2 files of {photos} are copies of others. May the plan be written?" in asked
    assert "May the plan be written?" in play("approval.py", "carry-on", "--store", "s.db", folder=tmp_path)
    assert not (tmp_path / "clean-up.md").exists()
    play("approval.py", "approve", "--store", "s.db", folder=tmp_path)
    assert not (tmp_path / "clean-up.md").exists()
    said = play("approval.py", "carry-on", "--store", "s.db", folder=tmp_path)
    assert "(2 files could go; none was deleted)" in said
    assert (tmp_path / "clean-up.md").read_text() == (
        "# Clean-up of photos\n\n"
        "- keep `new/__init__.py`\n  - remove `old/__init__.py`, which is the same\n"
        "- keep `new/spans.py`\n  - remove `old/spans.py`, which is the same\n"
    )
    assert files(photos) == before


def test_rejected_plan(photos: Path, tmp_path: Path) -> None:
    """A rejected plan is not written, and the loop ends with the person's reason."""
    play("approval.py", "start", "photos", "--store", "s.db", folder=tmp_path)
    play("approval.py", "reject", "not the photos", "--store", "s.db", folder=tmp_path)
    said = play("approval.py", "carry-on", "--store", "s.db", folder=tmp_path, status=1)
    assert "a person rejected the plan: reject: not the photos" in said
    assert not (tmp_path / "clean-up.md").exists()
    again = play("approval.py", "approve", "--store", "s.db", folder=tmp_path, status=1)
    assert "s.db has 0 clean-ups that have not ended" in again


def test_folder_changed_before_the_answer(photos: Path, tmp_path: Path) -> None:
    """When the files are no longer as the person saw them, the plan is drafted and asked about again."""
    play("approval.py", "start", "photos", "--store", "s.db", folder=tmp_path)
    play("approval.py", "approve", "--store", "s.db", folder=tmp_path)
    (photos / "old" / "spans.py").unlink()
    said = play("approval.py", "carry-on", "--store", "s.db", folder=tmp_path)
    assert "1 files of" in said
    play("approval.py", "approve", "--store", "s.db", folder=tmp_path)
    said = play("approval.py", "carry-on", "--store", "s.db", folder=tmp_path)
    assert "(1 files could go; none was deleted)" in said
    assert "spans" not in (tmp_path / "clean-up.md").read_text()


def test_copies_are_files_with_the_same_content(tmp_path: Path) -> None:
    """Neither empty files, nor links, nor files of the same size are copies."""
    for name, text in {"a": "same", "b": "same", "c": "else", "d": "", "e": ""}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert find_copies(tmp_path) == [["a", "b"]]
