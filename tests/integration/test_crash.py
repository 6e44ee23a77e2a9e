"""The process dies; the work comes out the same."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cortical.core.errors import StoreError
from cortical.reasoning import LoopStatus, NestedLoopExecutor
from cortical.store import MemoryStore, Store, open_store
from cortical.testing import DyingStore, ProcessDied, crash_everywhere, outline
from tests.integration.scenario import walk_tree
from tests.processes import unmeasured


def test_every_write() -> None:
    """A crash before or after any durable write of a tree, resumed, gives the same final tree."""
    report = crash_everywhere(walk_tree)
    assert report.writes > 50
    assert report.crashes == 2 * report.writes


def test_every_fifth_write_on_disk(tmp_path: Path) -> None:
    """So it does when the store is a file that each process opens anew."""
    paths = iter(tmp_path / f"{n}.db" for n in range(1000))
    expected = MemoryStore(strict=True)
    walk_tree(expected)
    counting = DyingStore(MemoryStore())
    walk_tree(counting)
    for write in range(1, counting.writes + 1, 5):
        path = next(paths)
        first = open_store(path)
        with pytest.raises(ProcessDied):
            walk_tree(DyingStore(first, write, "after"))
        first.close()
        walk_tree(str(path))
        again = open_store(path)
        assert outline(again) == outline(expected), f"after write {write}"
        again.close()


def test_kill_at_random_moments(tmp_path: Path) -> None:
    """So it does when a real process is killed with kill -9, again and again, wherever it stands."""
    expected = MemoryStore(strict=True)
    walk_tree(expected)
    dice = random.Random(7)
    path = tmp_path / "runs.db"
    store = open_store(path)
    kills = 0
    while not (roots := store.roots()) or roots[0].ended_at is None:
        dying = [str(path), str(dice.randrange(1, 25)), dice.choice(["before", "after"])]
        done = subprocess.run(
            [sys.executable, "-m", "tests.integration.scenario", *dying], env=unmeasured(), check=False
        )
        assert done.returncode in (0, -signal.SIGKILL)
        kills += done.returncode != 0
    assert kills >= 3
    assert outline(store) == outline(expected)
    assert store.check() == []
    store.close()


def test_two_processes_on_one_loop(tmp_path: Path) -> None:
    """Processes that advance one loop at once go through or get Conflict; nothing is lost, the history is one line."""
    path = tmp_path / "runs.db"
    with NestedLoopExecutor(store=path) as executor:
        root = executor.start_root("g")
    code = """
import sys
from cortical.core.errors import Conflict
from cortical.reasoning import NestedLoopExecutor
executor = NestedLoopExecutor(store=sys.argv[1])
done = 0
while done < 200:
    try:
        executor.advance(sys.argv[2])
        done += 1
    except Conflict:
        continue
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path), root], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0]
    store = open_store(path)
    assert [event.seq for event in store.read(root)] == list(range(1, 402))
    assert store.check() == []
    store.close()


def test_one_conflict_exactly(tmp_path: Path) -> None:
    """Of two processes that have seen the same state, the second to write is refused once, and then goes on."""
    path = tmp_path / "runs.db"
    with NestedLoopExecutor(store=path) as executor:
        root = executor.start_root("g")
        code = """
import sys
from cortical.core.errors import Conflict
from cortical.reasoning import NestedLoopExecutor
executor = NestedLoopExecutor(store=sys.argv[1])
executor.get_loop(sys.argv[2])
print("seen", flush=True)
sys.stdin.readline()
try:
    executor.advance(sys.argv[2])
except Conflict as conflict:
    print(conflict)
print(executor.advance(sys.argv[2]).value)
"""
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(path), root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "seen\n"
        executor.advance(root)
        out, _ = other.communicate("\n")
        conflict, phase = out.splitlines()
        assert "was changed by another writer" in conflict
        assert phase == "produce"
        assert [step.to_phase.value for step in executor.refresh(root).transitions] == ["question", "answer", "produce"]


@pytest.mark.parametrize("seed", range(3))
def test_ctrl_c_at_random_moments(tmp_path: Path, seed: int) -> None:
    """Ctrl-C, wherever it comes, also inside a transaction, leaves memory as the log has it, and the work goes on."""
    code = """
import os, signal, sys, threading
from cortical.core.tree import Tree
from cortical.reasoning import NestedLoopExecutor
from cortical.looking.export import export
executor = NestedLoopExecutor(store=sys.argv[1], lock_timeout=1)
root = executor.start_root("g")
stop, armed = threading.Event(), [False]
def on_interrupt(number, frame):
    if armed[0]:
        armed[0] = False
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, on_interrupt)
def disturb():
    import random
    dice = random.Random(int(sys.argv[2]))
    while not stop.wait(dice.random() / 200):
        os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=disturb, daemon=True).start()
for interrupted in range(60):
    try:
        armed[0] = True
        while armed[0]:  # one that comes while Python clears up is lost
            with executor.transaction():
                executor.advance(root)
                child = executor.spawn_child(root, "sub")
                executor.complete(child, [1])
    except KeyboardInterrupt:
        pass  # what it came in the middle of is given up with its traceback, at the end of this handler
    armed[0] = False
    logged = Tree.of(executor.store.read(root))
    assert export(logged.root, "json") == executor.export(root, format="json")
stop.set()
print(len(executor.get_children(root)), executor.store.check())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "runs.db"), str(seed)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    children, problems = done.stdout.split(maxsplit=1)
    assert int(children) > 0
    assert problems.strip() == "[]"


def test_a_dead_store_refuses(durable: Store) -> None:
    """What a process tries to write after its death is refused."""
    dying = DyingStore(durable, 2, "before")
    executor = NestedLoopExecutor(store=dying)
    root = executor.start_root("g")
    with pytest.raises(ProcessDied):
        executor.advance(root)
    with pytest.raises(StoreError, match="dead"):
        executor.advance(root)
    assert len(durable.read(root)) == 1


def test_a_scenario_that_repeats_itself_is_found_out() -> None:
    """A scenario that does not take up its work where it stood is told where it went wrong."""

    def careless(store: Store) -> None:
        executor = NestedLoopExecutor(store=store)
        executor.complete(executor.start_root("again and again"))

    with pytest.raises(AssertionError, match="crashed after write 1"):
        crash_everywhere(careless)


def test_a_scenario_that_differs_is_found_out() -> None:
    """A scenario that does less the second time is told so."""
    calls: list[int] = []

    def shrinking(store: Store) -> None:
        executor = NestedLoopExecutor(store=store)
        calls.append(1)
        root = executor.start_root("g")
        if len(calls) == 1:
            assert executor.get_loop(root).status is LoopStatus.ACTIVE
            executor.advance(root)

    with pytest.raises(AssertionError, match=r"the trees are|made only 1 writes"):
        crash_everywhere(shrinking)
