"""Starts the processes of a soak and does to them what happens to processes: kill -9, SIGSTOP, full disks.

Afterwards one more process carries on whatever is open, and everything is checked. A reader looks in between.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Final

from attrs import Factory, define, frozen

from cortical.store import Store, open_store
from tests.soak.checking import Told, problems_of_all, problems_of_tree
from tests.soak.facts import read_facts
from tests.soak.work import LEASE_SECONDS
from tests.soak.worker import FULL

PROCESSES: Final = 4
#: What of the time is kept for carrying on what is open, and for checking.
_SHARE_FOR_CHECKING: Final = 0.2
_LOOKS_EVERY: Final = 4.0
#: How much a process has to have written down before it is disturbed: it then is in the midst of its work.
_AT_WORK_BYTES: Final = 4000
#: How long a process may take to come to its end once it is told to.
_PATIENCE: Final = 60.0

Process = subprocess.Popen[bytes]


@frozen
class Report:
    """What a soak did, and what it found wrong."""

    seed: int
    figures: dict[str, int]
    problems: list[str]

    def __str__(self) -> str:
        figures = ", ".join(f"{name}: {value:,}" for name, value in self.figures.items())
        lines = [f"seed {self.seed}; {figures}", *(f"✗ {problem}" for problem in self.problems[:40])]
        if len(self.problems) > 40:
            lines.append(f"… and {len(self.problems) - 40} more")
        return "\n".join(lines if self.problems else [*lines, "nothing was wrong"])


def soak(folder: Path, *, seconds: float, seed: int, say: Callable[[str], object] = print) -> Report:
    """Soak a store in `folder` for so many seconds, checks included, and report."""
    harness = Harness(folder, seed, say)
    say(f"seed {seed}")
    began = time.monotonic()
    with closing(harness):
        harness.disturb(began + seconds * (1 - _SHARE_FOR_CHECKING), most=began + 3 * seconds)
        harness.let_finish()
    return harness.report()


@define
class Reader:
    """Looks at the newest trees while they are written: each log only grows, and each tree is sound."""

    seen: dict[str, list[tuple[str, int]]] = Factory(dict)
    problems: list[str] = Factory(list)

    def look(self, store: Store) -> None:
        """Look once."""
        for root in store.roots(limit=12):
            log = store.read(root.id)
            counts = [(event.run_id, event.seq) for event in log]
            before = self.seen.get(root.id, [])
            if counts[: len(before)] != before:
                self.problems.append(f"tree {root.id}: what had been read of its log is another now")
            self.seen[root.id] = counts
            self.problems += problems_of_tree(root.id, log)


class Harness:
    """The processes of one soak."""

    def __init__(self, folder: Path, seed: int, say: Callable[[str], object]) -> None:
        self.path = folder / "soak.db"
        self.facts = folder / "facts"
        self.facts.mkdir()
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self._say = say
        self._dice = random.Random(seed)
        self._errors: IO[bytes] = (folder / "errors").open("w+b")
        self._processes: list[Process] = []
        self._stopped: dict[Process, float] = {}
        self._problems: list[str] = []
        self._reader = Reader()
        open_store(self.path).close()

    # While it runs

    def disturb(self, over: float, *, most: float) -> None:
        """Keep so many processes running, and disturb them, until this moment; or, where it has not come to everything
        yet since the machine is busy, until `most`.
        """
        pace = threading.Event()
        look_at = time.monotonic() + _LOOKS_EVERY
        with closing(open_store(self.path)) as store:
            while (now := time.monotonic()) < over or (now < most and not self._came_to_everything()):
                self._let_go_on(now)
                self._replace_ended()
                if now >= look_at:
                    self._reader.look(store)
                    self.counts["looks"] += 1
                    look_at = time.monotonic() + _LOOKS_EVERY
                    self._say(", ".join(f"{name}: {value:,}" for name, value in self.counts.items()))
                self._disturb()
                pace.wait(self._dice.uniform(0.1, 0.6))

    def _came_to_everything(self) -> bool:
        words = {fact.word for fact in read_facts(self.facts)}
        return {"full", "took"} <= words and self.counts["kills"] > 0 and self.counts["long stops"] > 0

    def _replace_ended(self) -> None:
        for process in [process for process in self._processes if process.poll() is not None]:
            self._processes.remove(process)
            self._note_end(process, told=False)
        while len(self._processes) < PROCESSES:
            room = str(self._dice.randrange(80_000, 600_000)) if self._dice.random() < 0.5 else ""
            self._processes.append(self._start(room))

    def _start(self, room: str) -> Process:
        self.counts["processes"] += 1
        seed = str(self.seed * 1000 + self.counts["processes"])
        line = [sys.executable, "-m", "tests.soak.worker", str(self.path), str(self.facts), seed, room]
        return subprocess.Popen(line, stderr=self._errors)

    def _disturb(self) -> None:
        running = [
            process
            for process in self._processes
            if process not in self._stopped and self._written_by(process) > _AT_WORK_BYTES
        ]
        if not running:
            return
        process = self._dice.choice(running)
        match self._dice.randrange(6):
            case 0 | 1:
                process.kill()
                process.wait()
                self._processes.remove(process)
                self.counts["kills"] += 1
            case 2:
                self._stop(process, self._dice.uniform(0.01, LEASE_SECONDS / 2))
            case 3:
                self._stop(process, self._dice.uniform(1.3, 2.5) * LEASE_SECONDS)
                self.counts["long stops"] += 1

    def _written_by(self, process: Process) -> int:
        return sum(file.stat().st_size for file in self.facts.glob(f"{process.pid}-*.facts"))

    def _stop(self, process: Process, seconds: float) -> None:
        process.send_signal(signal.SIGSTOP)
        self._stopped[process] = time.monotonic() + seconds
        self.counts["stops"] += 1

    def _let_go_on(self, now: float) -> None:
        for process in [process for process, until in self._stopped.items() if until <= now]:
            process.send_signal(signal.SIGCONT)
            del self._stopped[process]

    # Its end

    def let_finish(self) -> None:
        """Have every process come to its end, and one more carry on what is open."""
        self._let_go_on(float("inf"))
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            self._wait(process)
        self._processes = [self._start("finish")]
        if self._wait(self._processes[0]) == 1:
            self._problems.append("what was left open could not be carried on to its end")

    def _wait(self, process: Process) -> int | None:
        try:
            code = process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGUSR1)  # it says where it stands
            with suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
            self._problems.append(f"process {process.pid} hangs:\n{self._said()}")
            process.kill()
            process.wait()
            return None
        self._note_end(process, told=True)
        return code

    def _note_end(self, process: Process, *, told: bool) -> None:
        code = process.returncode
        expected = (0, 1, -signal.SIGTERM) if told else ()
        if code == FULL:
            self.counts["gave up at a full disk"] += 1
        elif code not in expected:
            self._problems.append(f"process {process.pid} ended with {code}:\n{self._said()}")

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode()[-8000:]

    def close(self) -> None:
        """Leave no process behind."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    def report(self) -> Report:
        """Check everything."""
        told = Told.of(read_facts(self.facts))
        with closing(open_store(self.path)) as store:
            found = list(problems_of_all(store, told))
            roots = store.roots()
            figures = {
                "events": sum(len(events) for events in told.events.values()),
                **self.counts,
                "disk-full failures": told.words["full"],
                "take-overs": told.words["took"],
                "trees": len(roots),
                "trees ended": sum(root.ended_at is not None for root in roots),
            }
        self._errors.close()
        return Report(self.seed, figures, [*self._problems, *self._reader.problems, *found])
