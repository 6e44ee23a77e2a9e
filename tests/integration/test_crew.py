"""Crews whose process dies or whose store fills up, that another process stops or takes over; and large ones."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cortical.core import rules
from cortical.core.errors import LeaseLost, RunNotFound
from cortical.core.journal import Journal
from cortical.core.outcome import Failed, Ok, Outcome
from cortical.core.policy import Retry
from cortical.core.status import Status, TerminationReason
from cortical.engine.crew import Crew, Step
from cortical.engine.hands import Unit
from cortical.engine.lease import holding_lease
from cortical.store import MemoryStore, Store, open_store
from cortical.testing import FakeClock, crash_everywhere
from tests.unit.crewed import ROOT, Given, Waiting, crew_threads, drive, items, plant, statuses, until

_OTHER_PROCESS = """
import sys, time
from cortical.core import rules
from cortical.core.journal import Journal
from cortical.core.outcome import Abandoned
from cortical.core.status import TerminationReason
from cortical.store import open_store
journal = Journal(open_store(sys.argv[1]), clock=time)
for line in sys.stdin:
    match line.strip():
        case "pause":
            journal.insist("root", rules.pause, "by another process")
        case "resume":
            journal.insist("root", rules.resume)
        case "end":
            journal.insist("root", rules.end_subtree, Abandoned("enough"), TerminationReason.MANUAL)
        case child:
            journal.insist(child, rules.end_subtree, Abandoned("not this one"), TerminationReason.MANUAL)
    print("done", flush=True)
"""


class OtherProcess:
    """Another process with the store open, that changes the batch when it is told."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _OTHER_PROCESS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def does(self, what: str) -> None:
        """Have it done, and wait for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def __enter__(self) -> OtherProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=20)


def run_python(program: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_paused_and_ended_by_another_process(tmp_path: Path, concurrency: int) -> None:
    """Another process pauses, resumes and ends the batch while it is driven, and is heard each time."""
    path = tmp_path / "runs.db"
    store = open_store(path)
    journal, let_go = plant(store), threading.Event()
    with OtherProcess(path) as other:
        calls: dict[str, Callable[[int], object]] = {
            "pauses": lambda attempt: other.does("pause"),
            "ends": lambda attempt: other.does("end"),
        }
        units = [
            Unit(name, calls.get(name, lambda attempt: 1)) for name in ("first", "pauses", "next", "ends", "never")
        ]
        after = {"pauses": ["first"], "next": ["pauses"], "ends": ["next"], "never": ["ends"]}
        driving = threading.Thread(
            target=drive, args=(journal, Given(units, after=after)), kwargs={"concurrency": concurrency}
        )
        driving.start()
        until(lambda: statuses(journal).get("pauses") == "completed")
        let_go.wait(timeout=0.2)
        assert statuses(journal) == {"first": "completed", "pauses": "completed"}
        other.does("resume")
        driving.join(timeout=20)
    assert not driving.is_alive()
    assert statuses(journal) == {
        "first": "completed",
        "pauses": "completed",
        "next": "completed",
        "ends": "abandoned",
    }
    assert journal.run(ROOT).status is Status.ABANDONED
    assert store.check() == []
    store.close()


def test_a_child_ended_by_another_process(tmp_path: Path) -> None:
    """A child that another process ends while it is carried out stays as it was ended; the others go on."""
    path = tmp_path / "runs.db"
    store = open_store(path)
    journal = plant(store)
    with OtherProcess(path) as other:

        def broken(attempt: int) -> str:
            other.does(items(journal)["broken"].id)
            return "late"

        source = Given([Unit("broken", broken), Unit("next", lambda attempt: 1)])
        drive(journal, source)
    assert statuses(journal) == {"broken": "abandoned", "next": "completed"}
    store.close()


def test_every_write() -> None:
    """A crash before or after any durable write of a crew with failures and retries, taken up again, ends the same."""

    def scenario(store: Store) -> None:
        clock = Waiting()
        journal = Journal(store, clock=clock)
        try:
            root = journal.run(ROOT)
        except RunNotFound:
            root = journal.plant(ROOT, rules.start, "batch", "all", place="work")
        if root.outcome is not None:
            return
        known = {run.name: run for run in root.children}
        source = Given([unit for name in ("a", "b", "c", "d") if (unit := unit_of(name, known)) is not None])
        Crew(journal, ROOT, "item", sleep=clock.sleep).drive(source)
        journal.change(ROOT, rules.end, Ok(len(root.children)), TerminationReason.SUCCESS)

    report = crash_everywhere(scenario)
    assert report.crashes >= 2 * 9


def unit_of(name: str, known: dict[str, Any]) -> Unit | None:
    """A unit that goes on with what is known of its child; None where that has ended. Each attempt says which it is."""
    fails = {"a": 0, "b": 2, "c": 9, "d": 0}[name]

    def function(attempt: int) -> str:
        if attempt <= fails:
            raise ValueError(f"{name} {attempt}")
        return f"{name} {attempt}"

    run = known.get(name)
    if run is None:
        return Unit(name, function, retry=Retry(3))
    if run.outcome is not None:
        return None
    return Unit(name, function, run_id=run.id, failed_before=len(run.noted("attempt")), retry=Retry(3))


def test_killed_and_taken_up(tmp_path: Path) -> None:
    """Killed with kill -9 in a crew of four, what had ended is there, what was open is carried out, nothing twice."""
    path = tmp_path / "runs.db"
    program = """
        import os, signal, sys
        from tests.unit.crewed import ROOT, Given, plant
        from cortical.engine.crew import Crew
        from cortical.engine.hands import Unit
        from cortical.store import open_store

        def work(number):
            def function(attempt):
                if number == 60:
                    os.kill(os.getpid(), signal.SIGKILL)
                return number
            return function

        journal = plant(open_store(sys.argv[1]))
        Crew(journal, ROOT, "item", concurrency=4).drive(Given(Unit(f"u{n}", work(n)) for n in range(100)))
    """
    assert run_python(program, path).returncode == -9
    store = open_store(path)
    journal = Journal(store, clock=FakeClock())
    found = items(journal)
    ended = {name for name, run in found.items() if run.outcome is not None}
    assert 50 <= len(ended) <= 63
    called: list[str] = []

    def tell(name: str) -> Callable[[int], None]:
        return lambda attempt: called.append(name)

    units = [
        Unit(name, tell(name), run_id=found[name].id if name in found else None)
        for name in (f"u{n}" for n in range(100))
        if name not in ended
    ]
    drive(journal, Given(units), concurrency=4)
    assert sorted(called) == sorted({f"u{n}" for n in range(100)} - ended)
    assert len(items(journal)) == 100
    assert set(statuses(journal).values()) == {"completed"}
    assert store.check() == []
    store.close()


def test_the_lease_is_lost() -> None:
    """When another driver has taken over, the crew raises at its next record, which is not made; its threads end."""
    clock = FakeClock()
    journal = plant(clock=clock)

    def stand_still(attempt: int) -> str:
        clock.advance(100.0)
        journal.store.take_lease(ROOT, "somebody else", now=clock.now, seconds=10.0)
        return "late"

    source = Given([Unit("first", lambda attempt: 1), Unit("slow", stand_still), Unit("next", lambda attempt: 1)])
    source.after = {"slow": {"first"}, "next": {"slow"}}
    with pytest.raises(LeaseLost), holding_lease(journal, ROOT, seconds=30.0):
        drive(journal, source, concurrency=2)
    assert statuses(journal) == {"first": "completed", "slow": "active"}
    until(lambda: not crew_threads())


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_full_disk(tmp_path: Path, concurrency: int) -> None:
    """On a full disk the crew raises; what it had told as recorded is there, memory is as the disk, and it goes on."""
    done = run_python(
        """
        import resource, sys
        from cortical.core.errors import StoreError
        from cortical.engine.crew import Crew
        from cortical.engine.hands import Unit
        from cortical.store import open_store
        from tests.unit.crewed import ROOT, Given, items, plant, statuses

        store = open_store(sys.argv[1])
        journal = plant(store)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
        source = Given(Unit(f"u{n}", lambda attempt: "x" * 1000) for n in range(1000))
        try:
            (crew := Crew(journal, ROOT, "item", concurrency=int(sys.argv[2]))).drive(source)
        except StoreError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        before = len(items(journal))
        on_disk = {event.run_id for event in store.read(ROOT)}
        assert {run.id for run in journal.run(ROOT).children} == on_disk - {ROOT}
        open_ones = [run for run in items(journal).values() if run.outcome is None]
        units = [Unit(run.name, lambda attempt: 1, run_id=run.id) for run in open_ones]
        again = Given([*units, *crew.not_begun, *source.waiting])
        Crew(journal, ROOT, "item", concurrency=int(sys.argv[2])).drive(again)
        assert len(items(journal)) == 1000
        print(before, len(open_ones), set(statuses(journal).values()), store.check())
        """,
        tmp_path / "runs.db",
        concurrency,
    )
    assert done.returncode == 0, done.stderr
    message, figures = done.stdout.splitlines()
    assert "make room" in message
    before, still_open = map(int, figures.split()[:2])
    assert 20 < before < 900
    assert 0 < still_open <= concurrency
    assert figures.endswith("{'completed'} []")


@pytest.mark.parametrize("manner", ["left behind", "ended"])
def test_threads_do_not_keep_the_interpreter(manner: str) -> None:
    """A function that never returns, left behind by its time or by its parent's end, does not hold up the process."""
    done = run_python(
        """
        import sys, threading
        from cortical.core import rules
        from cortical.core.outcome import Abandoned
        from cortical.core.status import TerminationReason
        from cortical.engine.crew import Crew
        from cortical.engine.hands import Unit
        from tests.unit.crewed import ROOT, Given, plant, statuses

        journal = plant()
        hangs = lambda attempt: threading.Event().wait()
        end = lambda attempt: journal.insist(ROOT, rules.end_subtree, Abandoned(""), TerminationReason.MANUAL) and None
        if sys.argv[1] == "ended":
            units = [Unit("hangs", hangs), Unit("ends", end)]
        else:
            units = [Unit("hangs", hangs, seconds=0.05)]
        Crew(journal, ROOT, "item", concurrency=2).drive(Given(units))
        print(sorted(statuses(journal).items()))
        """,
        manner,
    )
    assert done.returncode == 0, done.stderr
    expected = [("hangs", "failed")] if manner == "left behind" else [("ends", "abandoned"), ("hangs", "abandoned")]
    assert done.stdout.strip() == repr(expected)


class Endless:
    """Gives so many units, made when they are asked for, and looks about as it does."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.count = count
        self.settlements = 0
        self.window = 0
        self.failed = 0
        self.threads: set[int] = set()
        self.files: set[int] = set()

    def next(self) -> Unit | None:
        if not self.left:
            return None
        self.left -= 1
        self.window = max(self.window, self.count - self.left - self.settlements)
        if self.left % 10_000 == 0:
            self.threads.add(threading.active_count())
            self.files.add(len(os.listdir("/dev/fd")))
        return Unit("u", fail_some, seconds=None, metadata={"index": self.left})

    def outcome(self, unit: Unit, returned: object) -> Outcome:
        return Ok(returned)

    def steps(self, unit: Unit, outcome: Outcome) -> Sequence[Step]:
        return ()

    def settled(self, unit: Unit, outcome: Outcome) -> None:
        self.settlements += 1
        self.failed += isinstance(outcome, Failed)


def fail_some(attempt: int) -> int:
    return attempt


def test_a_hundred_thousand() -> None:
    """100,000 units take as many threads and files as ten, and no more are open than are carried out at once."""
    source = Endless(100_000)
    journal = plant(MemoryStore())
    before = threading.active_count()
    crew = Crew(journal, ROOT, "item", concurrency=4)
    crew.drive(source)
    assert source.settlements == 100_000
    assert source.failed == 0
    assert source.window <= 4
    assert max(source.threads) <= before + 4
    assert len(source.files) == 1
    assert journal.run(ROOT).open_children == 0
    until(lambda: not crew_threads())
