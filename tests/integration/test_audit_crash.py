"""The audit example dies, again and again, and comes out as if nothing had happened."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from cortical.core.events import Ended, Event, Moved, Noted, Started
from cortical.core.tree import Tree
from cortical.looking.export import export
from cortical.reasoning import LoopStatus, NestedLoopExecutor
from cortical.store import Store, open_store
from cortical.testing import crash_everywhere
from examples.audit_package import Audit
from tests.processes import unmeasured

EXAMPLE = Path(__file__).parents[2] / "examples" / "audit_package.py"
COMMAND = [sys.executable, str(EXAMPLE), "networkx", "--store", "s.db", "--report", "r.md"]


def run(folder: Path) -> None:
    """Run the audit of networkx in `folder` to its end."""
    subprocess.run(COMMAND, cwd=folder, env=unmeasured(), check=True, stdout=subprocess.DEVNULL)


def only_log(folder: Path) -> Sequence[Event]:
    """The log of the one tree in the folder's store."""
    store = open_store(folder / "s.db", create=False)
    (root,) = store.roots()
    log = store.read(root.id)
    store.close()
    return log


def kill_at(folder: Path, position: int) -> None:
    """Run the audit in `folder` until its log holds so many events; then kill -9."""
    process = subprocess.Popen(COMMAND, cwd=folder, env=unmeasured(), stdout=subprocess.DEVNULL)
    while not (folder / "s.db").exists():
        assert process.poll() is None
    store = open_store(folder / "s.db", create=False)
    while not (roots := store.roots()):
        assert process.poll() is None
    while not store.read(roots[0].id, position - 1):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    store.close()


def module_of(event: Event) -> str:
    """The module that the loop of this start audits, or nothing when it is another kind of loop."""
    return event.name.removeprefix("Audit module ") if isinstance(event, Started) and "module" in event.name else ""


def require_no_work_twice(log: Sequence[Event]) -> None:
    """Each module has one loop, and each of these was audited once."""
    loops = {event.run_id: name for event in log if (name := module_of(event))}
    answers = Counter(
        loops[event.run_id]
        for event in log
        if isinstance(event, Noted) and event.topic == "answer" and event.run_id in loops
    )
    assert len(set(loops.values())) == len(loops)
    assert answers == dict.fromkeys(loops.values(), 1)


def require_sound(log: Sequence[Event]) -> None:
    """Every loop has ended, each after all below it, and went once through each phase."""
    ended = {event.run_id: place for place, event in enumerate(log) if isinstance(event, Ended)}
    for event in log:
        if isinstance(event, Started):
            assert event.run_id in ended
            assert event.parent_id is None or ended[event.run_id] < ended[event.parent_id]
    moves = Counter(event.run_id for event in log if isinstance(event, Moved))
    assert moves == dict.fromkeys(ended, 3)


def test_kill_at_random_moments(tmp_path: Path) -> None:
    """Killed with kill -9 wherever it stands and run again, the audit of a real package ends as an undisturbed one."""
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    undisturbed.mkdir()
    disturbed.mkdir()
    run(undisturbed)
    events = len(only_log(undisturbed))
    moments = sorted(random.Random(11).sample(range(1, events - 2), 5))
    seen: Sequence[Event] = []
    for moment in [*moments, events - 2]:  # and once more in the recount, of which the log has only the end
        kill_at(disturbed, moment)
        log = only_log(disturbed)
        assert log[: len(seen)] == seen
        assert moment <= len(log) < events
        seen = log
    run(disturbed)
    log = only_log(disturbed)
    assert log[: len(seen)] == seen
    assert len(log) == events
    assert (disturbed / "r.md").read_bytes() == (undisturbed / "r.md").read_bytes()
    require_no_work_twice(log)
    require_sound(log)
    with NestedLoopExecutor(store=disturbed / "s.db") as executor:
        assert executor.export(log[0].run_id, format="json") == export(Tree.of(log).root, "json")
        assert executor.store.check() == []


def test_crash_at_every_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash before or after any single durable write of an audit, resumed, gives the same tree and report."""
    (tmp_path / "little" / "inner").mkdir(parents=True)
    (tmp_path / "little" / "first.py").write_text("def one(x): ...\n")
    (tmp_path / "little" / "broken.py").write_text("def two(\n")
    (tmp_path / "little" / "inner" / "third.py").write_text("class Three: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    report = tmp_path / "r.md"
    reports = set()

    def scenario(store: Store) -> None:
        if not store.roots():
            report.unlink(missing_ok=True)
        elif not store.roots(open_only=True):
            return  # it died after its last write; the same command would begin another audit
        audit = Audit(NestedLoopExecutor(store=store), "little", report, say=lambda line: None)
        assert audit.run() is LoopStatus.COMPLETED
        reports.add(report.read_text())

    crashes = crash_everywhere(scenario)
    assert crashes.writes > 20
    assert len(reports) == 1
