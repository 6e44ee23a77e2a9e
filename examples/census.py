"""Counts the lines and words of Python's own library, and takes a digest of each file, in a batch that is killed.

::

    python examples/census.py                          # five kill -9 on the way, then the figures
    python examples/census.py --folder src --store census.db --kills 0

Every file is an item. A worker process works through them, four at a time, and is killed again and again; the next one
finds in the store what was done, and does the rest. In the end every file was counted once, and no file that had been
counted was read again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from cortical.batch import BatchProcessor, BatchProgress, BatchResult
from cortical.core.errors import LeaseHeld

BATCH: Final = "census"
WORKERS: Final = 4
LEASE_SECONDS: Final = 0.3
MOST_FILES: Final = 600
_BAR: Final = 32


def count(file: str, task: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Lines, words and digest of one file."""
    content = (context.workspace / file).read_bytes()
    return {
        "lines": content.count(b"\n"),
        "words": len(content.split()),
        "digest": hashlib.sha256(content).hexdigest()[:16],
    }


def add_up(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One line of figures for all files."""
    digests = Counter(one["digest"] for one in counts)
    return {
        "files": len(counts),
        "lines": sum(one["lines"] for one in counts),
        "words": sum(one["words"] for one in counts),
        "copies": sum(times - 1 for times in digests.values()),
    }


def files_of(folder: Path) -> list[str]:
    """The Python files of a folder, sorted: the same list each time it is asked for."""
    found = (path for path in folder.rglob("*.py") if "site-packages" not in path.parts)
    return sorted(str(path.relative_to(folder)) for path in found)[:MOST_FILES]


def work(folder: Path, store: Path) -> BatchResult:
    """Count what is left to be counted. Waits for a worker that was killed to be given up."""
    with BatchProcessor(
        folder, BATCH, count, store=store, max_concurrency=WORKERS, lease_seconds=LEASE_SECONDS
    ) as batch:
        while True:
            try:
                return batch.run(files_of(folder), aggregator=add_up, on_progress=show)
            except LeaseHeld as held:
                time.sleep(held.seconds)


def show(progress: BatchProgress) -> None:
    """Draw a bar over the last line; nothing where nobody watches."""
    if not sys.stderr.isatty() or progress.total is None:
        return
    full = _BAR * progress.done // progress.total
    rate = f"{progress.rate:,.0f} files/s" if progress.rate else ""
    print(f"\r{'█' * full}{'·' * (_BAR - full)} {progress.done}/{progress.total} {rate:<18}", end="", file=sys.stderr)


def killed_worker(folder: Path, store: Path, seconds: float) -> bool:
    """Let a worker work for so long, then kill it; False when it had been done before."""
    command = [sys.executable, __file__, "--work", "--folder", str(folder), "--store", str(store)]
    with subprocess.Popen(command) as worker:
        before = counted(folder, store)
        until = time.monotonic() + 20
        while counted(folder, store) == before and worker.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        with suppress(subprocess.TimeoutExpired):
            return worker.wait(seconds) < 0
        os.kill(worker.pid, signal.SIGKILL)
        return worker.wait() < 0


def counted(folder: Path, store: Path) -> int:
    """How many files were counted so far, by the log."""
    if not store.exists():
        return 0
    with BatchProcessor(folder, BATCH, store=store) as batch:
        return int(batch.state["stats"]["processed"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Count the files of a folder, with as many kills on the way as asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(sysconfig.get_paths()["stdlib"]))
    parser.add_argument("--store", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        store = options.store or Path(scratch) / "census.db"
        if not options.work:
            chance = random.Random()
            for number in range(options.kills):
                if not killed_worker(options.folder, store, chance.uniform(0.0, 0.02)):
                    break
                print(f"kill {number + 1}: {counted(options.folder, store)} files counted")
        result = work(options.folder, store)
    if not options.work:
        tell(result)
    return 0 if result.ok else 1


def tell(result: BatchResult) -> None:
    """Print the figures of a batch that has ended."""
    figures = result.aggregated or {}
    for name, figure in figures.items():
        print(f"{name:>8}: {figure:,}")
    print(f"  status: {result.status.value}, {result.stats['success_rate']:g} %")


if __name__ == "__main__":
    raise SystemExit(main())
