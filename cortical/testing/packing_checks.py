"""What a store must do when old records are packed: nothing readable changes, and late writers stay shut out.

A store that does not pack, and answers 0, keeps this part of the contract too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Final

from cortical.core.errors import Conflict
from cortical.core.events import Changed, Checkpointed, Ended, Event, Moved, Noted, Restored
from cortical.core.outcome import Ok
from cortical.core.ports import Record, Store
from cortical.core.status import TerminationReason
from cortical.testing.store_steps import Check, Open, append, conflicting, in_threads, refused, started


def packing_changes_nothing_readable(open_store: Open) -> None:
    """After packing a part and then all, the same events are read from any position, and the listing is the same."""
    store, other = open_store(), open_store()
    events = _long_log(store, "a", 1300)
    append(store, "b", 0, [started("b")])
    listing, starts = store.roots(), [*range(6), *range(997, 1004), *range(6, len(events), 457), len(events)]
    assert store.compact("a", 0.0) == 0
    for before, opened in ((400.0, other), (900.0, store), (1e12, other)):
        assert store.compact("a", before) >= 0
        assert store.compact("a", before) == 0, "packing what is packed has saved something"
        for start in starts:
            assert opened.read("a", start) == events[start:], f"packed before {before:g}, read from {start}"
    assert store.roots() == other.roots() == listing
    assert [store.root_of(run) for run in ("a", "a-child", "b")] == ["a", "a", "b"]
    assert store.check() == []


def packing_what_is_not_there(open_store: Open) -> None:
    """An unknown root has nothing to pack, nor has a tree whose log is one record."""
    store = open_store()
    assert store.compact("nobody", 1e12) == 0
    append(store, "a", 0, [started("a"), started("child", "a")])
    assert store.compact("a", 1e12) == 0
    assert store.read("a", 1) == [started("child", "a")]


def late_writers_are_refused_after_packing(open_store: Open) -> None:
    """A record for any position before the end conflicts, though what was there is packed."""
    store = open_store()
    end = len(_long_log(store, "a", 10))
    events = store.read("a")
    store.compact("a", 1e12)
    for opened in (store, open_store()):
        for position in range(end):
            refused(opened, "a", position, [_note("a", position)])
    assert store.read("a") == events
    for opened in (store, open_store(), store):
        append(opened, "a", end, [_note("a", end)])
        end += 1
    assert [event.seq for event in store.read("a", end - 3)] == [end - 2, end - 1, end]


def what_a_writer_saw_does_not_count(open_store: Open) -> None:
    """A writer who wrote last as far as it knows is refused, however it writes, though what it missed is packed."""
    store, late = open_store(), open_store()
    append(late, "other", 0, [started("other")])
    ways: dict[str, Callable[[Record], None]] = {
        "alone": late.append,
        "fenced": lambda record: late.append(
            late.prepare(
                record.root_id,
                record.position,
                record.events,
                late.take_lease(record.root_id, "anna", now=0.0, seconds=1.0).fence,
            )
        ),
        "after another": lambda record: late.append(late.prepare("other", 1, [_note("other", 1)]), record),
        "with its end": lambda record: late.append(
            late.prepare(record.root_id, 1, [Ended(record.root_id, 2, 9.0, Ok(), TerminationReason.SUCCESS)])
        ),
    }
    for name, write in ways.items():
        append(late, name, 0, [started(name)])
        _extended(store, name, 1, 6)
        store.compact(name, 1e12)
        conflicting(partial(write, late.prepare(name, 1, [_note(name, 1)])))
        assert [event.seq for event in store.read(name)] == list(range(1, 8)), name
    assert store.read("other") == [started("other")]
    assert store.check() == []


def late_writers_are_refused_together(open_store: Open) -> None:
    """Of threads that write at one moment, those that are late are refused, though what they missed is packed."""
    store, late = open_store(), open_store()
    names = [f"t{n}" for n in range(8)]
    for name in names:
        append(late, name, 0, [started(name)])
    for name in names[::2]:
        _extended(store, name, 1, 6)
        store.compact(name, 1e12)
    conflicts: list[str] = []

    def write(name: str) -> None:
        try:
            append(late, name, 1, [_note(name, 2)])
        except Conflict:
            conflicts.append(name)

    in_threads(*(lambda name=name: write(name) for name in names))
    assert sorted(conflicts) == names[::2]
    assert [len(store.read(name)) for name in names] == [7, 2] * 4


def packing_beside_writers_and_readers(open_store: Open) -> None:
    """While a tree is written and read, others pack it; nothing is lost, and each reader sees it without a gap."""
    store, packing, again = open_store(), open_store(), open_store()
    append(store, "a", 0, [started("a")])
    steps = 120

    def write() -> None:
        for position in range(1, steps):
            append(store, "a", position, [_note("a", position)])

    def pack(opened: Store) -> None:
        while (seen := [event.seq for event in opened.read("a")])[-1] < steps:
            assert seen == list(range(1, len(seen) + 1))
            opened.compact("a", 1e12)

    in_threads(write, lambda: pack(packing), lambda: pack(again))
    assert [event.seq for event in packing.read("a")] == list(range(1, steps + 1))
    assert packing.check() == []


def _note(run_id: str, position: int) -> Noted:
    return Noted(run_id, position + 1, float(position), "note", {"position": position, "é": ("x", None)})


def _extended(store: Store, root_id: str, position: int, records: int) -> None:
    """Write so many records of one event."""
    for at in range(position, position + records):
        append(store, root_id, at, [_note(root_id, at)])


def _long_log(store: Store, root_id: str, records: int) -> Sequence[Event]:
    """Write so many records of one, two or three events after a root's start, a second apart; all of the events."""
    child = f"{root_id}-child"
    log: list[list[Event]] = [
        [started(root_id)],
        [started(child, root_id), Ended(child, 2, 1.0, Ok({1, 2}), TerminationReason.SUCCESS)],
    ]
    seq = 1
    for at in range(2, records + 2):
        kinds: Sequence[Event] = (
            Noted(root_id, seq + 1, float(at), "note", ("x", b"\x00", at)),
            Changed(root_id, seq + 2, float(at), {"at": at}),
            Moved(root_id, seq + 3, float(at), "answer"),
        )
        if at % 100 == 0:
            kinds = (
                Checkpointed(root_id, seq + 1, float(at), "", {"at": (at,)}),
                Restored(root_id, seq + 2, float(at), seq + 1),
            )
        log.append(list(kinds[: at % 3 + 1]))
        seq += len(log[-1])
    starts = accumulate((len(events) for events in log), initial=0)
    store.append(*(store.prepare(root_id, start, events) for start, events in zip(starts, log, strict=False)))
    return [event for events in log for event in events]


PACKING_CHECKS: Final[Sequence[Check]] = (
    packing_changes_nothing_readable,
    packing_what_is_not_there,
    late_writers_are_refused_after_packing,
    what_a_writer_saw_does_not_count,
    late_writers_are_refused_together,
    packing_beside_writers_and_readers,
)
