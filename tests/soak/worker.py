"""One process of a soak: ``python -m tests.soak.worker STORE FOLDER SEED ROOM``.

Two threads do one job after another until SIGTERM comes; each looks at the store through its own journal, and both
share one opening of it. With ROOM, the files that this process writes may be no larger than so many bytes: as on a full
disk, writes fail in the middle. It then either makes room and goes on, or ends to be replaced. With ROOM "finish" it
carries on whatever is open instead, and ends when nothing is.
"""

from __future__ import annotations

import faulthandler
import resource
import signal
import sys
import threading
import time
import traceback
from contextlib import closing
from pathlib import Path
from typing import Final

from cortical.core.errors import BudgetExhausted, LeaseHeld, RunStateError, StoreDamaged, StoreError
from cortical.core.journal import Journal
from cortical.store import Store, open_store
from tests.soak import work
from tests.soak.facts import Facts
from tests.soak.jobs import MAX_DEPTH, Jobs

#: How a process says by its exit code that it gave up at a full disk.
FULL: Final = 3
#: What others may do at any moment to what a job is about.
_EXPECTED: Final = (StoreError, RunStateError, BudgetExhausted)
#: Set where this process's files may only grow so far, or might only do so at first.
_limited: Final = threading.Event()
#: How often the last process tries to carry on what is open.
_MOST_ROUNDS: Final = 200


def main(path: str, folder: str, seed: int, room: str) -> int:
    """Work until told to stop; the exit code says how it ended."""
    faulthandler.register(signal.SIGUSR1)
    facts = Facts(Path(folder))
    work.begin(facts, seed)
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: over.set())
    with closing(open_store(path)) as store:
        if room == "finish":
            return _finish(store, seed)
        if room:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(room), hard))
            _limited.set()
        full = threading.Event()
        threads = [
            threading.Thread(target=_work, args=(store, 2 * seed + number, over, full), name=f"soak {number}")
            for number in range(2)
        ]
        for thread in threads:
            thread.start()
        # Not waited for at one go: a signal that another thread is given is seen by this one when it looks.
        while not over.wait(0.2) and any(thread.is_alive() for thread in threads):
            continue
        for thread in threads:
            thread.join()
    return FULL if full.is_set() else 0


def _work(store: Store, seed: int, over: threading.Event, full: threading.Event) -> None:
    jobs = Jobs(Journal(store, clock=time, max_depth=MAX_DEPTH), seed)
    while not over.is_set():
        try:
            jobs.do_one()
        except LeaseHeld:
            over.wait(0.02)
        except StoreDamaged:
            _tell_broken()
            return
        except _EXPECTED as error:
            if "could not be written" in str(error):
                _at_a_full_disk(seed, over, full)
            over.wait(0.01)
        except BaseException:
            _tell_broken()
            raise


def _at_a_full_disk(seed: int, over: threading.Event, full: threading.Event) -> None:
    """Give up, to be replaced; or make room, and go on."""
    work.facts().add("full")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not _limited.is_set():
        _tell_broken()  # there was room all the time
    elif soft == hard:
        return  # the other thread has made room meanwhile
    elif seed % 4 < 2:
        full.set()
        over.set()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def _tell_broken() -> None:
    text = "".join(traceback.format_exc())
    work.facts().add("broken", text.replace("\n", "⏎").replace("\t", " "))


def _finish(store: Store, seed: int) -> int:
    jobs = Jobs(Journal(store, clock=time, max_depth=MAX_DEPTH), seed)
    pace = threading.Event()
    for _ in range(_MOST_ROUNDS):
        if jobs.finish():
            return 0
        pace.wait(0.1)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
