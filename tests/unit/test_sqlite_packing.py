"""Old records of a SQLite store, packed: what is in the file, and what comes between."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from cortical.core.errors import Conflict, StoreDamaged
from cortical.core.events import Checkpointed, Event, Moved, Noted, Restored, Started
from cortical.store import open_store
from cortical.store.sqlite import Durability, SqliteStore
from cortical.store.sqlite_packing import neighbours, pack, put

_FAR = 1e12
_TREE = 1 << 32


def _sqlite(path: Path, durability: Durability = "process") -> SqliteStore:
    store = open_store(path, durability=durability)
    assert isinstance(store, SqliteStore)
    return store


def _note(position: int, value: object = None) -> Noted:
    return Noted("a", position + 1, float(position), "note", value or f"note {position}")


def _write(store: SqliteStore, first: int, last: int) -> None:
    store.append(*(store.prepare("a", position, [_note(position)]) for position in range(first, last)))


def _rows(path: Path) -> list[tuple[int, bytes]]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT key & 0xffffffff, body FROM records ORDER BY key").fetchall()
    connection.close()
    return rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of the stores of a test."""
    return tmp_path / "runs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """A store with the start of a tree."""
    store = _sqlite(path)
    store.append(store.prepare("a", 0, [Started("a", 1, 0.0, "loop", "goal", None, "iteration")]))
    yield store
    store.close()


class TestPacked:
    """What packing leaves in the file."""

    def test_many_are_one(self, store: SqliteStore, path: Path) -> None:
        """Up to a thousand events stand in one compressed row, the last record by itself; the bytes saved are told."""
        _write(store, 1, 2501)
        before = _rows(path)
        saved = store.compact("a", _FAR)
        after = _rows(path)
        assert [position for position, _ in after] == [0, 1000, 2000, 2500]
        assert [body[:1] for _, body in after] == [b"x", b"x", b"x", b"["]
        assert saved == sum(len(body) for _, body in before) - sum(len(body) for _, body in after)
        assert saved > 0.8 * sum(len(body) for _, body in before)

    def test_only_what_is_old(self, store: SqliteStore, path: Path) -> None:
        """A record of the time asked for, or later, stays as it is, and a record is packed whole or not at all."""
        _write(store, 1, 5)
        store.append(store.prepare("a", 5, [Moved("a", 6, 5.0, "iteration"), Moved("a", 7, 6.0, "iteration")]))
        _write(store, 7, 10)
        store.compact("a", 6.0)
        assert [position for position, _ in _rows(path)] == [0, 5, 7, 8, 9]

    def test_a_pack_with_room_takes_more(self, store: SqliteStore, path: Path) -> None:
        """Packing little by little leaves as few records as packing at once."""
        for first in range(1, 2500, 99):
            _write(store, first, first + 99)
            store.compact("a", _FAR)
        assert len(_rows(path)) < 10
        assert [event.seq for event in store.read("a")] == list(range(1, 2576))

    def test_large_records(self, store: SqliteStore, path: Path) -> None:
        """A record too large to share a row is packed by itself; others keep below the size of a pack."""
        large = "large " * 100_000
        store.append(store.prepare("a", 1, [_note(1, large)]), store.prepare("a", 2, [_note(2)]))
        store.append(*(store.prepare("a", position, [_note(position, "x" * 100_000)]) for position in range(3, 9)))
        store.compact("a", _FAR)
        assert [position for position, _ in _rows(path)] == [0, 1, 2, 5, 7, 8]
        assert store.compact("a", _FAR) == 0
        assert store.read("a", 1)[0] == _note(1, large)

    def test_a_relaxed_store_packs_what_is_committed(self, store: SqliteStore, path: Path) -> None:
        """What a relaxed store has accepted is committed before it is packed, and late writers are refused by it."""
        relaxed = _sqlite(path, "relaxed")
        _write(relaxed, 1, 50)
        assert relaxed.compact("a", _FAR) > 0
        assert len(store.read("a")) == 50
        _write(store, 50, 60)
        store.compact("a", _FAR)
        with pytest.raises(Conflict):
            relaxed.append(relaxed.prepare("a", 50, [_note(50)]))
        relaxed.append(relaxed.prepare("a", 60, [_note(60)]))
        relaxed.close()
        assert len(store.read("a")) == 61


class TestOthers:
    """What other writers do meanwhile."""

    def test_a_pack_is_not_put_over_another(self, store: SqliteStore) -> None:
        """When somebody else has packed some of the records, even as many rows as there were, nothing is replaced."""
        _write(store, 1, 9)
        connection = store._open()
        mine = pack(neighbours(connection, _TREE), 5.0)
        theirs = pack(neighbours(connection, _TREE + 4), 7.0)
        assert mine is not None
        assert theirs is not None
        assert (mine.end, theirs.first, theirs.end) == (_TREE + 5, _TREE + 4, _TREE + 7)
        assert put(connection, theirs)
        assert not put(connection, mine)
        assert [event.seq for event in store.read("a")] == list(range(1, 10))

    def test_late_writers_in_a_group(self, store: SqliteStore, path: Path) -> None:
        """One statement for several trees is refused whole when one is late, though what it missed is packed."""
        late = _sqlite(path)
        for root in ("b", "c"):
            late.append(late.prepare(root, 0, [Started(root, 1, 0.0, "loop", "goal", None, "iteration")]))
        store.append(*(store.prepare("b", n, [Noted("b", n + 1, 1.0, "note", n)]) for n in range(1, 5)))
        store.compact("b", _FAR)
        together = [late.prepare(root, 1, [Noted(root, 2, 1.0, "note", "late")]) for root in ("c", "b")]
        assert not late._tables.insert_at_once(late._open(), together)
        assert len(store.read("c")) == 1
        assert len(store.read("b")) == 5
        assert late._tables.insert_at_once(late._open(), together[:1])
        assert len(store.read("c")) == 2
        late.close()

    def test_processes_write_and_pack(self, store: SqliteStore, path: Path) -> None:
        """Two processes that write to one tree, and two that pack it, lose nothing and repeat nothing."""
        writing = """
            import sys
            from cortical.core.errors import Conflict
            from cortical.core.events import Noted
            from cortical.store import open_store
            store, name, done, end = open_store(sys.argv[1]), sys.argv[2], 0, 1
            print("ready", flush=True)
            while not store.find("go"):
                pass
            while done < 300:
                try:
                    store.append(store.prepare("a", end, [Noted("a", end + 1, 1.0, "note", [name, done])]))
                    end, done = end + 1, done + 1
                except Conflict:
                    end += len(store.read("a", end))
            """
        packing = """
            import sys
            from cortical.store import open_store
            store, saved = open_store(sys.argv[1]), 0
            print("ready", flush=True)
            while len(store.read("a")) < 601:
                saved += store.compact("a", 1e12)
            print(saved > 0)
            """
        processes = [_python(code, path, name) for code in (writing, packing) for name in "xy"]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        store.append(store.prepare("go", 0, [Started("go", 1, 0.0, "loop", "goal", None, "iteration")]))
        answers = [process.communicate(timeout=60)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * 4
        assert "True\n" in answers[2:]  # which of the two comes to pack is a matter of chance
        notes = [event.value for event in store.read("a", 1) if isinstance(event, Noted)]
        assert [event.seq for event in store.read("a")] == list(range(1, 602))
        for name in "xy":
            assert [done for writer, done in notes if writer == name] == list(range(300))
        assert store.check() == []

    def test_killed_while_packing(self, store: SqliteStore, path: Path) -> None:
        """A process killed at any moment of packing leaves every event, and packing goes on where it stopped."""
        _write(store, 1, 20_000)
        events = store.read("a")
        store.close()
        rows: list[int] = []
        for kept in range(5):
            copy = path.with_name(f"{kept}.db")
            shutil.copy(path, copy)
            code = """
                import os, signal, sys
                from cortical.store import open_store
                from cortical.store.sqlite import SqliteStore
                store = open_store(sys.argv[1])
                seen = 0
                def on_statement(sql):
                    global seen
                    seen += sql.startswith(("DELETE", "INSERT", "COMMIT"))
                    if seen > 5 + int(sys.argv[2]):
                        os.kill(os.getpid(), signal.SIGKILL)
                store._open().set_trace_callback(on_statement)
                store.compact("a", 1e12)
                """
            process = _python(code, copy, str(kept))
            process.communicate(timeout=60)
            assert process.returncode == -9
            again = _sqlite(copy)
            assert again.read("a") == events
            rows.append(len(_rows(copy)))
            assert again.compact("a", _FAR) > 0
            assert again.read("a") == events
            assert len(_rows(copy)) == 21
            assert again.check() == []
            again.close()
        assert 21 < min(rows) < max(rows) < 20_000


class TestDamage:
    """Files that are not what they should be."""

    def test_a_damaged_pack_is_told(self, store: SqliteStore) -> None:
        """A packed record that cannot be unpacked is named by tree and position."""
        _write(store, 1, 30)
        store.compact("a", _FAR)
        cut = "substr(body, 1, 40)"
        store._open().execute(f"UPDATE records SET body = {cut}, crc = checksum(key, {cut}) WHERE key & 0xffffffff = 0")
        with pytest.raises(StoreDamaged, match="the log of 'a' at position 0: a packed record cannot be read"):
            store.read("a")
        assert ["'a' at position 0" in problem for problem in store.check()] == [True]

    @pytest.mark.parametrize(
        ("sql", "message"),
        [
            (
                "UPDATE records SET body = x'00' WHERE key & 0xffffffff = 3",
                "cannot be packed: a record is not as it",
            ),
            ("UPDATE records SET body = 7 WHERE key & 0xffffffff = 3", "cannot be packed: a record is kept as int"),
            ("DELETE FROM records WHERE key & 0xffffffff = 3", "cannot be packed: there is a gap before position 4"),
        ],
    )
    def test_what_is_damaged_is_not_packed(self, store: SqliteStore, path: Path, sql: str, message: str) -> None:
        """A record that cannot be read, or a missing one, stops the packing, and all stays as it is."""
        _write(store, 1, 8)
        store._open().execute(sql)
        before = _rows(path)
        with pytest.raises(StoreDamaged, match=message):
            store.compact("a", _FAR)
        assert _rows(path) == before


def test_checkpoints_are_one_insert(store: SqliteStore) -> None:
    """A checkpoint and a restore change nothing but the log: each is a statement that is its own transaction."""
    events: list[Event] = [Checkpointed("a", 3, 1.0, "label"), Restored("a", 4, 1.0, 3)]
    _write(store, 1, 2)
    statements: list[str] = []
    store._open().set_trace_callback(statements.append)
    store.append(store.prepare("a", 2, events[:1]))
    store.append(store.prepare("a", 3, events[1:]))
    store._open().set_trace_callback(None)
    assert [statement.split()[0] for statement in statements] == ["INSERT"] * 2
    assert store.read("a", 2) == events


def _python(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)], stdout=subprocess.PIPE, text=True
    )
