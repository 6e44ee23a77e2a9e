"""What the checks of a store's contract are made of: writing, and seeing that a write is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from cortical.core.errors import Conflict
from cortical.core.events import Event, Started
from cortical.core.ports import Store

Open = Callable[[], Store]
Check = Callable[[Open], None]


def started(run_id: str, parent_id: str | None = None) -> Started:
    """The start of an active loop, a root or a child."""
    return Started(run_id, 1, 1.0, "loop", "goal", parent_id, "question")


def append(store: Store, root_id: str, position: int, events: Sequence[Event]) -> None:
    """Write one record."""
    store.append(store.prepare(root_id, position, events))


def refused(store: Store, root_id: str, position: int, events: Sequence[Event]) -> None:
    """Write one record, which must conflict."""
    assert conflicting(lambda: append(store, root_id, position, events)).root_id == root_id


def conflicting(write: Callable[[], None]) -> Conflict:
    """The conflict that a write must end in."""
    try:
        write()
    except Conflict as conflict:
        return conflict
    raise AssertionError("a record for a position that another has taken was not refused")


def in_threads(*functions: Callable[[], None]) -> None:
    """Run each function in a thread of its own, all at once; what one raises is told here."""
    failures: list[BaseException] = []

    def guarded(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as failure:  # noqa: BLE001  # told below, in the thread that asked
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, f"a thread failed: {failures[0]!r}"
