"""Several processes and one tree: one drives, others are told; what they break, pause or take over stays so."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cortical.agents import resume
from cortical.core.events import Noted
from cortical.core.journal import Journal
from cortical.core.status import Status, TerminationReason
from cortical.core.tree import Tree
from cortical.reasoning import NestedLoopExecutor
from cortical.store import Store, open_store
from tests.integration.agent_scenarios import HELD, LOST, until

MODULE = [sys.executable, "-m", "tests.integration.agent_scenarios"]
Process = subprocess.Popen[str]


class Processes:
    """Processes that drive the tree in a folder's store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = str(folder / "runs.db")
        self.started: list[Process] = []

    def start(self, *args: str) -> Process:
        """Start one."""
        process = subprocess.Popen([*MODULE, *args], stdout=subprocess.PIPE, text=True)
        self.started.append(process)
        return process

    def run(self, agent: str) -> Process:
        """Start one that begins a tree."""
        return self.start("run", agent, self.path, str(self.folder))

    def resume(self, gate: str) -> Process:
        """Start one that takes up the tree as soon as the gate is open; returns when it stands there."""
        process = self.start("resume", self.path, str(self.folder / gate))
        until((self.folder / f"{gate} {process.pid}").exists)
        return process

    def lines(self) -> list[str]:
        """The steps that were completed."""
        file = self.folder / "lines"
        return file.read_text().splitlines() if file.exists() else []

    def until_steps_are_kept(self) -> None:
        """Wait until the first steps of the crew stand in the log: a line alone may be of a step that is still open."""
        with closing(self.store()) as store:
            root = store.roots()[0].id
            until(lambda: sum(isinstance(event, Noted) and event.topic == "step" for event in store.read(root)) == 2)

    def store(self) -> Store:
        """The store, as soon as a tree is in it."""
        until(Path(self.path).exists)
        store = open_store(self.path)
        until(store.roots)
        return store


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Processes in a folder; those that are left over are killed."""
    started = Processes(tmp_path)
    yield started
    for process in started.started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def said(process: Process) -> tuple[int, str]:
    """How a process ended, and what it said."""
    out, _ = process.communicate(timeout=60)
    return process.returncode, out.strip()


def lease_is_over(store: Store, root: str) -> bool:
    """Whether another may take over."""
    lease = store.lease_of(root)
    return lease is None or lease.expires_at <= time.time()


@pytest.mark.parametrize("attempt", range(4))
def test_two_processes_resume_at_once(processes: Processes, attempt: int) -> None:
    """Of two processes that take up a killed run at once one drives, the other is told its name."""
    first = processes.run("crew")
    processes.until_steps_are_kept()
    first.kill()
    first.wait()
    store = processes.store()
    root = store.roots()[0].id
    until(lambda: lease_is_over(store, root))
    both = [processes.resume("gate") for _ in range(2)]
    (processes.folder / "gate").touch()
    loser = until(lambda: next((process for process in both if process.poll() is not None), None))
    winner = both[1 - both.index(loser)]
    code, told = said(loser)
    assert code == HELD
    assert f"process {winner.pid} on " in told
    assert not (processes.folder / f"entered {loser.pid}").exists()
    (processes.folder / "go").touch()
    assert said(winner) == (0, "completed ['crew', ['worker 0'], ['worker 1'], ['worker 2']]")
    assert sorted(processes.lines()) == [f"worker {n} {key}" for n in range(3) for key in ("first", "second")]
    assert store.check() == []
    store.close()


def test_a_driver_that_stood_still(processes: Processes) -> None:
    """A driver stopped past its lease finds, when it goes on, that another took over: it writes nothing and ends."""
    late = processes.run("crew")
    processes.until_steps_are_kept()
    store = processes.store()
    root = store.roots()[0].id
    late.send_signal(signal.SIGSTOP)
    until(lambda: lease_is_over(store, root))
    second = processes.resume("gate")
    (processes.folder / "gate").touch()
    until((processes.folder / f"entered {second.pid}").exists)
    (processes.folder / "go").touch()
    late.send_signal(signal.SIGCONT)
    code, told = said(late)
    assert (code == LOST and root in told) or told.startswith("completed")  # the other may be quick to come to the end
    assert said(second)[0] == 0
    assert store.roots()[0].status is Status.COMPLETED
    assert len(set(processes.lines())) == 6
    assert store.check() == []
    store.close()


def test_a_driver_that_wakes_after_the_end(processes: Processes) -> None:
    """One that goes on when another has brought the tree to its end adds nothing to the log either."""
    late = processes.run("crew")
    processes.until_steps_are_kept()
    store = processes.store()
    root = store.roots()[0].id
    late.send_signal(signal.SIGSTOP)
    until(lambda: lease_is_over(store, root))
    (processes.folder / "go").touch()
    assert resume(store, root).status is Status.COMPLETED
    log = store.read(root)
    late.send_signal(signal.SIGCONT)
    assert said(late)[0] in (LOST, 0)  # it may see the end before it sees that the lease is lost
    assert store.read(root) == log
    store.close()


def test_breaking_a_great_tree(processes: Processes) -> None:
    """A tree of hundreds of loops, broken while four workers run it, is over at once: nothing is appended any more."""
    driver = processes.run("swarm")
    store = processes.store()
    root = store.roots()[0].id
    journal = Journal(store, clock=time)
    until(lambda: sum(run.status is Status.ACTIVE for run in journal.refresh(root).tree.walk()) > 300)
    executor = NestedLoopExecutor(store=store)
    executor.break_loop(root, "enough is enough")
    log = store.read(root)
    assert said(driver) == (0, "abandoned None")
    assert store.read(root) == log
    loops = list(Tree.of(log).walk())
    assert len(loops) == 1 + 8 + 8 * 40
    assert {loop.reason for loop in loops} == {TerminationReason.MANUAL}
    assert all("enough is enough" in repr(loop.outcome) for loop in loops)
    assert store.check() == []
    store.close()


def test_breaking_a_branch(processes: Processes) -> None:
    """A branch broken from another process is over at once, while the rest of the tree goes on."""
    driver = processes.run("swarm")
    store = processes.store()
    root = store.roots()[0].id
    journal = Journal(store, clock=time)
    until(lambda: sum(run.status is Status.ACTIVE for run in journal.refresh(root).tree.walk()) > 300)
    tree = journal.refresh(root).tree
    branch = tree.root.children[0]
    below = {run.id for run in tree.walk(branch)}
    executor = NestedLoopExecutor(store=store)
    executor.break_loop(branch.id, "not this one")
    position = len(store.read(root))
    until(lambda: len(store.read(root, position)) > 1000)
    assert not below & {event.run_id for event in store.read(root, position)}
    executor.break_loop(root, "nor the others")
    assert said(driver)[0] == 0
    store.close()


def test_pausing_from_another_process(processes: Processes) -> None:
    """A loop paused by another process goes no further; unpaused by a third, a fourth one drives it to its end."""
    driver = processes.run("halting")
    until((processes.folder / f"entered {driver.pid}").exists)
    store = processes.store()
    root = store.roots()[0].id
    with NestedLoopExecutor(store=processes.path) as executor:
        executor.pause(root, "lunch")
    (processes.folder / "go").touch()
    assert said(driver) == (0, "paused None")
    assert Tree.of(store.read(root)).root.place == "question"
    with NestedLoopExecutor(store=processes.path) as executor:
        executor.resume(root)
    (processes.folder / "gate").touch()
    assert said(processes.resume("gate")) == (0, "completed halting")
    assert processes.lines() == ["halting second"] * 2
    store.close()


def test_kill_and_take_over(processes: Processes) -> None:
    """A driver that was killed is taken over from within twice its lease, by its name and at its place."""
    first = processes.run("crew")
    processes.until_steps_are_kept()
    store = processes.store()
    root = store.roots()[0].id
    first.kill()
    first.wait()
    (processes.folder / "go").touch()
    killed = time.monotonic()
    until(lambda: lease_is_over(store, root))
    assert resume(store, root).status is Status.COMPLETED
    assert time.monotonic() - killed < 2.0
    assert len(processes.lines()) == 6
    store.close()
