"""Follows a growing log with a controlled loop that is killed again and again, and loses or repeats no line.

::

    python examples/log_watcher.py                        # a writer, a watcher, and five kill -9
    python examples/log_watcher.py --watch app.log --store watcher.db      # only the watcher, on a log of your own

The writer walks Python's own library and logs each file it looks at. The watcher reads what is new, some lines in each
iteration, and keeps in the loop's state how far it came, what it counted, and a digest over every line in its order.
What an iteration brought and how far it came are one record: a process that is killed leaves either both or neither.
In the end the digest is compared with that of the whole file, read at one go.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TextIO

from cortical.control import Done, LoopController, State, StatePersistenceManager
from cortical.core.errors import LeaseHeld, LeaseLost, RunNotFound
from cortical.recovery import CheckpointManager

LOOP: Final = "log-watcher"
LAST_LINE: Final = "INFO  that was all"
LINES_AT_ONCE: Final = 20
CHECKPOINT_EVERY: Final = 250  # lines
LEASE_SECONDS: Final = 0.5
LARGE_BYTES: Final = 60_000

# The loop


class LogCut(Exception):
    """The log is shorter than it was: it was emptied, or another file has its name."""


def watcher(
    log: Path, checkpoints: CheckpointManager, wait: Callable[[float], object] = time.sleep
) -> Callable[[dict[str, Any]], State]:
    """The body of the loop: what is new in the log, `LINES_AT_ONCE` at most, and not beyond the next checkpoint."""

    def read_on(state: dict[str, Any]) -> State:
        offset, digest, seen = state.get("offset", 0), state.get("digest", ""), state.get("lines", 0)
        keep(seen, checkpoints)
        most = min(LINES_AT_ONCE, CHECKPOINT_EVERY - seen % CHECKPOINT_EVERY)
        lines = new_lines(log, offset, most)
        while not lines:
            wait(0.02)
            lines = new_lines(log, offset, most)
        levels = Counter(state.get("levels", {}))
        for line in lines:
            digest = chained(digest, line)
            levels[line.split(b" ", 1)[0].decode(errors="replace")] += 1
        ending = Done if lines[-1] == LAST_LINE.encode() else State
        return ending(
            len(lines),
            offset=offset + sum(len(line) + 1 for line in lines),
            digest=digest,
            levels=dict(levels),
            lines=seen + len(lines),
            last=lines[-1].decode(errors="replace"),
        )

    return read_on


def keep(seen: int, checkpoints: CheckpointManager) -> None:
    """Take a checkpoint every `CHECKPOINT_EVERY` lines, once: a process may have died just after it had."""
    label = f"line {seen}"
    if seen and seen % CHECKPOINT_EVERY == 0:
        latest = checkpoints.get_latest_checkpoint(LOOP)
        if latest is None or latest.label != label:
            checkpoints.create_checkpoint(LOOP, label)


def new_lines(log: Path, offset: int, most: int) -> list[bytes]:
    """The whole lines after `offset` (bytes), so many at most; a line that is still being written waits."""
    if not log.exists():
        return []
    if log.stat().st_size < offset:
        raise LogCut(f"{log} is shorter than the {offset} bytes that were read of it; begin again with another store")
    with log.open("rb") as file:
        file.seek(offset)
        lines = [file.readline() for _ in range(most)]
    return [line[:-1] for line in lines if line.endswith(b"\n")]


def chained(digest: str, line: bytes) -> str:
    """The digest of all lines up to this one: a lost, repeated or misplaced line changes it for good."""
    return hashlib.sha256(digest.encode() + b"\n" + line).hexdigest()


def watch(log: Path, store: Path) -> None:
    """Follow the log until its last line, from wherever an earlier process came.

    What a killed process drove is free when its lease has run out; one that is alive is stood by for.
    """
    with LoopController(LOOP, store=store, lease_seconds=LEASE_SECONDS) as loop:
        body = watcher(log, CheckpointManager(loop))
        while True:
            with suppress(LeaseHeld, LeaseLost):
                loop.run(body)
                return
            time.sleep(0.05)


# The writer


def write(log: Path, lines: int) -> None:
    """Log what is found in Python's own library; each line is on the disk before the next."""
    with log.open("a", encoding="utf-8") as file:
        for number, line in enumerate(walk_library(), 1):
            if number == lines:
                break
            file.write(line + "\n")
            file.flush()
            if number % 20 == 0:
                time.sleep(0.01)
        file.write(LAST_LINE + "\n")


def walk_library() -> Iterator[str]:
    """A line for each file of the standard library, over and over."""
    library = Path(sysconfig.get_path("stdlib"))
    while True:
        for folder, below, names in os.walk(library):
            below[:] = sorted({*below} - {"site-packages", "__pycache__"})
            for name in sorted(names):
                path = Path(folder, name)
                size = path.stat().st_size if path.exists() else 0
                level = "ERROR" if not size else "WARN" if size > LARGE_BYTES else "INFO"
                yield f"{level:5} {path.relative_to(library)} {size} bytes"


# The story


def tell(lines: int, kills: int, store: Path | None, out: TextIO) -> bool:
    """Start a writer and a watcher, kill the watcher some times, and compare; whether all was well."""
    with tempfile.TemporaryDirectory() as folder:
        log, kept = Path(folder, "app.log"), store or Path(folder, "watcher.db")
        arguments = ("--watch", str(log), "--store", str(kept))
        processes = [_this_program("--write", str(log), "--lines", str(lines)), _this_program(*arguments)]
        print(f"a writer (process {processes[0].pid}) and a watcher ({processes[1].pid})", file=out)
        try:
            with StatePersistenceManager(kept) as states:
                screen = Screen(states, lines, out)
                for kill in range(1, kills + 1):
                    screen.follow(processes[-1], until=lines * kill // (kills + 2))
                    if processes[-1].poll() is not None:
                        break
                    processes[-1].send_signal(signal.SIGKILL)
                    processes[-1].wait()
                    screen.say(f"☠ kill -9 {processes[-1].pid}")
                    processes.append(_this_program(*arguments))
                    screen.say_when_going_on(processes[-1])
                screen.follow(processes[-1])
        finally:
            for process in processes:
                process.kill()
                process.wait()
        return report(log, kept, out)


class Screen:
    """Prints how far the watcher has come, from what its store says: the watcher itself says nothing."""

    def __init__(self, states: StatePersistenceManager, lines: int, out: TextIO) -> None:
        self._states, self._lines, self._out = states, lines, out
        self._next = 0

    def follow(self, watching: subprocess.Popen[bytes], until: int | None = None) -> None:
        """Print a line now and then, until so many lines were seen or the watcher has ended."""
        while watching.poll() is None and (until is None or self.seen < until):
            if self.seen >= self._next:
                self.say(str(self._state.get("last", "waiting for the first line")))
                self._next = self.seen + self._lines // 12
            time.sleep(0.01)

    def say_when_going_on(self, watching: subprocess.Popen[bytes]) -> None:
        """Wait for the first line that the new watcher sees."""
        began, seen = time.monotonic(), self.seen
        while watching.poll() is None and self.seen == seen:
            time.sleep(0.01)
        self.say(f"↻ process {watching.pid} goes on, {time.monotonic() - began:.1f} s later")

    def say(self, text: str) -> None:
        """Print a line with how many lines were seen."""
        share = min(20, self.seen * 20 // max(1, self._lines))
        print(f"{self.seen:8,} {'█' * share:░<20} {text[:70]}", file=self._out, flush=True)

    @property
    def seen(self) -> int:
        """How many lines the watcher has seen."""
        return int(self._state.get("lines", 0))

    @property
    def _state(self) -> dict[str, Any]:
        try:
            return self._states.load_state(LOOP)
        except RunNotFound:  # not begun yet
            return {}


def report(log: Path, store: Path, out: TextIO) -> bool:
    """Compare what the loop saw with the file itself."""
    whole = log.read_bytes().splitlines()
    digest = ""
    for line in whole:
        digest = chained(digest, line)
    with LoopController(LOOP, store=store) as loop:
        state, iterations = loop.get_state(), loop.get_execution_history()
        checkpoints = CheckpointManager(loop).get_checkpoints(LOOP)
    same = state.get("digest") == digest and state.get("lines") == len(whole)
    counted = ", ".join(f"{level} {count:,}" for level, count in sorted(state.get("levels", {}).items()))
    print(f"the file has {len(whole):,} lines, the loop saw {state.get('lines', 0):,}: {counted}", file=out)
    last = f", the last at {checkpoints[-1].label}" if checkpoints else ""
    print(f"{len(iterations):,} iterations, {len(checkpoints)} checkpoints{last}", file=out)
    print("every line once, in its order" if same else "the digests differ: lines were lost or repeated", file=out)
    return same


def _this_program(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, *arguments])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=6000, help="how many lines the writer writes")
    parser.add_argument("--kills", type=int, default=5, help="how often the watcher is killed")
    parser.add_argument("--watch", type=Path, help="only follow this log")
    parser.add_argument("--write", type=Path, help="only write this log")
    parser.add_argument("--store", type=Path, help="where the loop is kept; without it nothing is left behind")
    given = parser.parse_args(arguments)
    try:
        if given.watch:
            watch(given.watch, given.store or Path("watcher.db"))
        elif given.write:
            write(given.write, given.lines)
        elif given.store is not None and given.store.exists():
            parser.error(f"{given.store} is there already; name another, so that the story begins at the first line")
        elif not tell(given.lines, given.kills, given.store, sys.stdout):
            return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
