"""Several processes and one tree: one drives, others are told; what they break, pause or take over stays so."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from cortical import open_store, resume
from cortical.core.journal import Journal
from cortical.core.status import Status, TerminationReason
from cortical.core.tree import Tree
from cortical.reasoning import NestedLoopExecutor
from cortical.store import Store
from tests.integration.agent_processes import HELD, LOST
from tests.integration.agent_scenarios import CREW_LINES, SWARM_SIZE, until

MODULE = [sys.executable, "-m", "tests.integration.agent_processes"]
Process = subprocess.Popen[str]


class Processes:
    """Processes that drive the tree in a folder's store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = str(folder / "runs.db")
        self.started: list[Process] = []

    def start(self, *args: str, pipe: int | None = None) -> Process:
        """Start one, which may read from a pipe."""
        given = [] if pipe is None else [pipe]
        process = subprocess.Popen([*MODULE, *args], stdout=subprocess.PIPE, text=True, pass_fds=given)
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

    def until_waiting(self, process: Process) -> None:
        """Wait until both workers that a crew has at a time stand in their second step, the first being kept."""
        entered = self.folder / f"entered {process.pid}"
        until(lambda: entered.exists() and len(entered.read_text().splitlines()) == 2)

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


ROUNDS = 20


def test_two_processes_resume_at_once(processes: Processes) -> None:
    """Of two processes that take up a killed run at once one drives, the other is told its name: twenty times."""
    folders = [processes.folder / str(number) for number in range(ROUNDS)]
    kill_crews(processes, folders)
    pipe, to_both = os.pipe()
    both = [processes.start("compete", str(pipe), *map(str, folders), pipe=pipe) for _ in range(2)]
    for folder in folders:
        assert [next_line(process) for process in both] == ["ready", "ready"]
        os.write(to_both, b"go")
        loser = first_to_speak(both)
        winner = both[1 - both.index(loser)]
        told = next_line(loser)
        assert told.startswith(f"{HELD} ")
        assert f"process {winner.pid} on " in told
        assert not (folder / f"entered {loser.pid}").exists()
        (folder / "go").touch()
        assert next_line(winner) == "0 completed ['crew', ['worker 0'], ['worker 1'], ['worker 2']]"
        assert sorted((folder / "lines").read_text().splitlines()) == CREW_LINES
        with closing(open_store(folder / "runs.db")) as store:
            assert store.check() == []
    assert [process.wait(30) for process in both] == [0, 0]
    os.close(pipe)
    os.close(to_both)


def kill_crews(processes: Processes, folders: Sequence[Path]) -> None:
    """Have a crew begun in each folder, by one process; kill that one in their midst, and let its leases run out."""
    for folder in folders:
        folder.mkdir()
    crews = processes.start("crews", *map(str, folders))
    entered = [folder / f"entered {crews.pid}" for folder in folders]
    until(lambda: all(file.exists() and len(file.read_text().splitlines()) == 2 for file in entered))
    crews.kill()
    crews.wait()
    for folder in folders:
        with closing(open_store(folder / "runs.db")) as store:
            root = store.roots()[0]
            assert root.status is Status.PAUSED
            until(partial(lease_is_over, store, root.id))


def next_line(process: Process) -> str:
    """The next thing that a process says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def first_to_speak(processes: Sequence[Process]) -> Process:
    """The one of several silent processes that says something first."""
    speaking = {process.stdout.fileno(): process for process in processes if process.stdout is not None}
    ready, _, _ = select.select(list(speaking), [], [], 30)
    assert ready, "none of them said anything"
    return speaking[ready[0]]


def test_a_driver_that_stood_still(processes: Processes) -> None:
    """A driver stopped past its lease finds, when it goes on, that another took over: its writes are refused.

    What it had open it finishes once, for nothing; it begins nothing else, and ends cleanly.
    """
    late = processes.run("crew")
    processes.until_waiting(late)
    store = processes.store()
    root = store.roots()[0].id
    late.send_signal(signal.SIGSTOP)
    until(lambda: lease_is_over(store, root))
    second = processes.resume("gate")
    (processes.folder / "gate").touch()
    processes.until_waiting(second)
    log = store.read(root)
    (processes.folder / f"go {late.pid}").touch()
    late.send_signal(signal.SIGCONT)
    code, told = said(late)
    assert code == LOST
    assert root in told
    assert store.read(root) == log
    (processes.folder / "go").touch()
    assert said(second) == (0, "completed ['crew', ['worker 0'], ['worker 1'], ['worker 2']]")
    assert sorted(processes.lines()) == sorted([*CREW_LINES, "worker 0 second", "worker 1 second"])
    assert store.check() == []
    store.close()


def test_a_driver_that_wakes_after_the_end(processes: Processes) -> None:
    """One that goes on when another has brought the tree to its end adds nothing to the log either."""
    late = processes.run("crew")
    processes.until_waiting(late)
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
    """A tree of a thousand loops, broken while four workers run it, is over at once: nothing is appended any more."""
    driver = processes.run("swarm")
    store = processes.store()
    root = store.roots()[0].id
    journal = Journal(store, clock=time)
    until(lambda: sum(run.status is Status.ACTIVE for run in journal.refresh(root).tree.walk()) > 900)
    executor = NestedLoopExecutor(store=store)
    executor.break_loop(root, "enough is enough")
    log = store.read(root)
    assert all(loop.status.ended for loop in Tree.of(log).walk())
    assert said(driver) == (0, "abandoned None")
    assert store.read(root) == log
    loops = list(Tree.of(log).walk())
    assert len(loops) == SWARM_SIZE == 1000
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
    """A driver that was killed holds the tree for its lease and no longer; then another takes it up where it stands."""
    first = processes.run("crew")
    processes.until_waiting(first)
    store = processes.store()
    root = store.roots()[0].id
    first.kill()
    first.wait()
    (processes.folder / "go").touch()
    lease = store.lease_of(root)
    assert lease is not None
    assert lease.expires_at <= time.time() + 0.5
    until(lambda: lease_is_over(store, root))
    assert resume(store, root).status is Status.COMPLETED
    assert sorted(processes.lines()) == CREW_LINES
    store.close()
