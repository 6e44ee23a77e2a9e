"""The SQLite store: its file, its durabilities, and what it says when the disk does not play along."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from cortical.core.codec import encode_events
from cortical.core.errors import Conflict, InvalidInput, RecordsLost, StoreDamaged, StoreError, StoreNotFound, WrongType
from cortical.core.events import Event, Moved, Noted, Started
from cortical.reasoning import LoopPhase, LoopStatus, NestedLoopExecutor
from cortical.store import MemoryStore, Store, open_store
from cortical.store.sqlite import SqliteStore
from cortical.store.sqlite_file import _bring_up, migrate, scripts
from cortical.store.sqlite_packing import checksum
from cortical.store.sqlite_turns import Gate
from tests.threads import in_threads


def run_python(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Run this code in another process."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one tree of two loops, closed."""
    path = tmp_path / "runs.db"
    with NestedLoopExecutor(store=path) as executor:
        root = executor.start_root("goal")
        executor.spawn_child(root, "sub")
    return path


class TestOpening:
    """Which names open what."""

    @pytest.mark.parametrize("name", ["{}/a b.db", "sqlite:///{}/a%20b.db"])
    def test_paths_and_urls(self, tmp_path: Path, name: str) -> None:
        """A path and a URL open the same file."""
        where = name.format(tmp_path)
        if where.startswith("sqlite"):
            where = where.replace("sqlite:///", "sqlite:////").replace("//// /", "////").replace("/////", "////")
        store = open_store(where)
        store.close()
        assert (tmp_path / "a b.db").exists()

    def test_relative_url(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Three slashes name a file in the working folder."""
        monkeypatch.chdir(tmp_path)
        open_store("sqlite:///here.db").close()
        open_store("there.db").close()
        assert {file.name for file in tmp_path.iterdir()} == {"here.db", "there.db"}

    def test_memory(self) -> None:
        """`:memory:` is a store that ends with the process."""
        assert isinstance(open_store(":memory:"), MemoryStore)

    @pytest.mark.parametrize("name", ["postgres://x/y", "sqlite://a.db", "sqlite:///", "", "a\0b"])
    def test_addresses_of_no_kind(self, name: str) -> None:
        """An address that names nothing we know is refused with how to write it."""
        with pytest.raises(InvalidInput, match=r"sqlite:///|names no file"):
            open_store(name)

    def test_wrong_types(self, tmp_path: Path) -> None:
        """A store is named by text or path; a durability is one of three."""
        with pytest.raises(WrongType, match="path or URL, not by int"):
            open_store(3)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="process, power, relaxed"):
            open_store(tmp_path / "a.db", durability="always")  # type: ignore[arg-type]
        assert list(tmp_path.iterdir()) == []

    def test_missing(self, tmp_path: Path) -> None:
        """A missing file is made only when that is wanted; a missing folder never is."""
        with pytest.raises(StoreNotFound, match="there is no store") as caught:
            open_store(tmp_path / "a.db", create=False)
        assert isinstance(caught.value, FileNotFoundError)
        with pytest.raises(StoreNotFound, match=r"folder .* does not exist"):
            open_store(tmp_path / "no" / "a.db")
        with pytest.raises(StoreError, match="is a folder"):
            open_store(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_may_not_be_written(self) -> None:
        """Where no file can be made, the error names the place."""
        with pytest.raises(StoreError, match=r"/proc/a.db cannot be opened"):
            open_store("/proc/a.db")

    def test_a_new_store_leaves_nothing_beside_it(self, tmp_path: Path) -> None:
        """Making a store leaves one file, with the rights that others in the folder would get."""
        open_store(tmp_path / "a.db").close()
        (tmp_path / "other").touch()
        assert {file.name for file in tmp_path.iterdir()} == {"a.db", "other"}
        assert (tmp_path / "a.db").stat().st_mode == (tmp_path / "other").stat().st_mode

    def test_many_open_a_new_store_at_once(self, tmp_path: Path) -> None:
        """Threads that make the same store at one moment all get the same one, whole."""
        stores: list[Store] = []
        start = threading.Barrier(8)

        def make() -> None:
            start.wait()
            stores.append(open_store(tmp_path / "a.db"))

        in_threads(lambda _: make(), range(8))
        executor = NestedLoopExecutor(store=stores[0])
        root = executor.start_root("g")
        assert [store.root_of(root) for store in stores] == [root] * 8
        for store in stores:
            store.close()


class TestDamage:
    """Files that are not what they should be."""

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda whole: b"", "is empty: it was cut off"),
            (lambda whole: b"hello" * 100, "does not begin as a SQLite file"),
            (lambda whole: whole[:50], "is damaged|is torn"),
            (lambda whole: whole[:4096], "is torn: 4096 bytes of"),
            (lambda whole: whole[:-1], "is torn"),
            (lambda whole: whole[:-5000], "is torn"),
            (lambda whole: whole[:1000] + b"\xff" * 3000 + whole[4000:], "damaged"),
        ],
        ids=["empty", "text", "header", "a page", "a byte short", "cut", "overwritten"],
    )
    def test_a_spoilt_file_is_refused(self, path: Path, spoil: Callable[[bytes], bytes], message: str) -> None:
        """A torn, cut, empty or foreign file is an error that says so, never an empty store, and stays as it is."""
        spoilt = spoil(path.read_bytes())
        path.write_bytes(spoilt)
        with pytest.raises(StoreDamaged, match=message):
            open_store(path).roots()
        assert path.read_bytes() == spoilt

    def test_a_foreign_database(self, tmp_path: Path) -> None:
        """Another program's SQLite file is left alone."""
        connection = sqlite3.connect(tmp_path / "other.db")
        connection.execute("CREATE TABLE t (x)")
        connection.close()
        with pytest.raises(StoreDamaged, match="not a store of this library"):
            open_store(tmp_path / "other.db")

    @pytest.mark.parametrize("version", [0, 1])
    def test_a_layout_that_is_not_its_own(self, path: Path, version: int) -> None:
        """A header that says another layout than the tables have is damage, and the file stays as it is."""
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
        with pytest.raises(StoreDamaged, match=f"its header says layout {version}, and its tables are of another"):
            SqliteStore(path)

    def test_an_earlier_layout_that_may_only_be_read(self, tmp_path: Path) -> None:
        """It is said that it has to be opened once where it can be written."""
        path = tmp_path / "old.db"
        with sqlite3.connect(path) as old:
            old.execute("PRAGMA application_id = 0x436F7274")
            migrate(old, scripts()[:1])
        old.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreError, match=r"an earlier version \(layout 1\) and may only be read; open it once"):
            _bring_up(path, old)
        old.close()

    def test_a_newer_schema(self, path: Path) -> None:
        """A store of a newer version is refused with what to do."""
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(StoreDamaged, match=r"has schema 99, .* upgrade the library"):
            open_store(path)

    @pytest.mark.parametrize(
        ("changed", "what"),
        [
            ("body = x'00'", "is not as it was written"),
            ("body = replace(body, 'g', 'h')", "is kept as str, not as bytes"),
            ("body = CAST(replace(body, 'g', 'h') AS BLOB)", "is not as it was written"),
            ("crc = crc + 1", "is not as it was written"),
            ("crc = 'none'", "is not as it was written"),
            ("body = x'00', crc = checksum(key, x'00')", "cannot be read"),
        ],
    )
    def test_a_record_that_cannot_be_read(self, path: Path, changed: str, what: str) -> None:
        """A damaged record is named by tree and position, by reading and by check, and never skipped."""
        connection = sqlite3.connect(path, isolation_level=None)
        connection.create_function("checksum", 2, checksum)
        connection.execute(f"UPDATE records SET {changed} WHERE key & 0xffffffff = 1")
        connection.close()
        store = open_store(path)
        (root,) = store.roots()
        with pytest.raises(StoreDamaged, match=f"the log of '{root.id}' at position 1: a record {what}"):
            store.read(root.id)
        assert [f"the log of '{root.id}' at position 1" in problem for problem in store.check()] == [True]
        store.close()

    @pytest.mark.parametrize(
        ("sql", "problem"),
        [
            ("DELETE FROM records WHERE key & 0xffffffff = 0", "has a gap before position 1"),
            ("UPDATE records SET key = key + 6 WHERE key & 0xffffffff = 1", "has a gap before position 7"),
            ("DELETE FROM roots", "2 records belong to no root"),
        ],
    )
    def test_check_finds_what_does_not_fit(self, path: Path, sql: str, problem: str) -> None:
        """Missing, misplaced and stray records are found."""
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(sql)
        connection.close()
        store = open_store(path)
        assert any(problem in found for found in store.check()), store.check()
        store.close()


class TestMigrations:
    """Numbered scripts."""

    def test_each_runs_once(self, path: Path) -> None:
        """A file gets the scripts it has not had, in order, and no others."""
        connection = sqlite3.connect(path, isolation_level=None)
        newest = len(scripts())
        steps = [
            *scripts(),
            (newest + 1, "CREATE TABLE two (x);\nINSERT INTO two VALUES (1);"),
            (newest + 2, "INSERT INTO two VALUES (2);"),
        ]
        migrate(connection, steps)
        migrate(connection, steps)
        assert connection.execute("SELECT x FROM two").fetchall() == [(1,), (2,)]
        assert connection.execute("PRAGMA user_version").fetchone() == (newest + 2,)
        connection.close()

    def test_records_of_the_first_layout_get_checksums(self, tmp_path: Path) -> None:
        """A file from before there were checksums is read as it was, and from then on damage to it is told."""
        path = tmp_path / "old.db"
        events: list[Event] = [Started("a", 0, 1.0, "loop", "g", None, "question"), Noted("a", 1, 2.0, "t", "v")]
        with sqlite3.connect(path) as old:
            for statement in ("PRAGMA application_id = 0x436F7274", "PRAGMA journal_mode = WAL"):
                old.execute(statement)
            migrate(old, scripts()[:1])
            old.execute("INSERT INTO roots VALUES (1, 'a', 'loop', 'g', 'active', NULL, 1.0, NULL)")
            old.execute("INSERT INTO records VALUES (1 << 32, ?)", [encode_events(events)[1]])
            old.execute("INSERT INTO roots VALUES (2, 'b', 'loop', 'torn', 'active', NULL, 1.0, NULL)")
            old.execute("INSERT INTO records VALUES (2 << 32, 'a text')")
        old.close()
        store = SqliteStore(path)
        assert store.read("a") == events
        with pytest.raises(StoreDamaged, match="the log of 'b' at position 0: a record is kept as str"):
            store.read("b")
        store._open().execute("UPDATE records SET body = CAST(replace(body, 'g', 'h') AS BLOB)")
        with pytest.raises(StoreDamaged, match="not as it was written"):
            store.read("a")
        store.close()

    def test_a_failing_script_leaves_the_file_as_it_was(self, path: Path) -> None:
        """A script that fails half-way is undone whole."""
        connection = sqlite3.connect(path, isolation_level=None)
        with pytest.raises(sqlite3.Error):
            migrate(connection, [(99, "CREATE TABLE two (x);\nINSERT INTO nowhere VALUES (1);")])
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'two'").fetchall() == []
        assert connection.execute("PRAGMA user_version").fetchone() == (len(scripts()),)
        connection.close()


class TestDisk:
    """Disks that are full or closed."""

    def test_a_folder_that_may_only_be_read(self, path: Path) -> None:
        """A closed store in a folder that may only be read is read as it is, and what would change it is refused."""
        code = """
            import os, sys
            from cortical.core.errors import StoreError
            from cortical.looking.soundness import examine
            from cortical.reasoning import NestedLoopExecutor
            from cortical.store import open_store
            if os.geteuid() == 0:  # may write everywhere; somebody else may not even import
                store = open_store(sys.argv[1])
                examine(store)
                store.close()
                os.setuid(65534)
            store = open_store(sys.argv[2], create=False)
            print([root.goal for root in store.roots()], examine(store).problems)
            try:
                NestedLoopExecutor(store=store).start_root("other")
            except StoreError as refused:
                print(refused)
            print([root.goal for root in store.roots()], os.listdir(os.path.dirname(sys.argv[2])))
            store.close()
            """
        with TemporaryDirectory() as folder:  # where somebody else may look
            shut = Path(shutil.copy(path, folder))
            shut.chmod(0o644)
            shut.parent.chmod(0o555)
            done = run_python(code, path, shut)
            shut.parent.chmod(0o755)
        told = done.stdout.splitlines()
        assert told[0] == "['goal'] ()", done.stderr
        assert told[1].startswith(f"{shut} may only be read")
        assert told[2] == "['goal'] ['runs.db']"

    def test_full_disk(self, tmp_path: Path) -> None:
        """On a full disk calls are refused and change nothing; with room again, the same process goes on."""
        done = run_python(
            """
            import resource, sys
            from cortical.core.errors import StoreError
            from cortical.reasoning import NestedLoopExecutor
            executor = NestedLoopExecutor(store=sys.argv[1])
            root = executor.start_root("g")
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
            steps = 0
            try:
                while True:
                    with executor.transaction():
                        executor.record_answer(root, "x" * 1000)
                        executor.complete(executor.spawn_child(root, "sub"))
                    steps += 1
            except StoreError as error:
                print(error)
            assert len(executor.get_context(root).accumulated_answers) == steps
            try:
                executor.record_answer(root, "x" * 100_000)
            except StoreError as error:
                assert len(executor.get_context(root).accumulated_answers) == steps
            else:
                raise SystemExit("the disk was not full")
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            executor.advance(root)
            print(steps, len(executor.get_children(root)), executor.get_loop(root).current_phase.value)
            """,
            tmp_path / "runs.db",
        )
        assert done.returncode == 0, done.stderr
        message, figures = done.stdout.splitlines()
        steps, children, phase = figures.split()
        assert "could not be written" in message
        assert "make room" in message
        assert int(steps) == int(children) > 1
        assert phase == "answer"
        with NestedLoopExecutor(store=tmp_path / "runs.db") as executor:
            (root,) = executor.store.roots()
            assert len(executor.get_children(root.id)) == int(steps)
            assert executor.store.check() == []

    def test_kill_loses_nothing(self, tmp_path: Path) -> None:
        """What a call returned from is there after kill -9."""
        done = run_python(
            """
            import os, signal, sys
            from cortical.reasoning import NestedLoopExecutor
            executor = NestedLoopExecutor(store=sys.argv[1])
            root = executor.start_root("g")
            for n in range(57):
                executor.record_answer(root, n)
            print(root, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
            """,
            tmp_path / "runs.db",
        )
        assert done.returncode == -signal.SIGKILL
        with NestedLoopExecutor(store=tmp_path / "runs.db") as executor:
            assert executor.get_context(done.stdout.strip()).accumulated_answers == list(range(57))

    def test_one_sync_a_record(self, tmp_path: Path) -> None:
        """With durability `power`, a record is one statement that is its own transaction, which SQLite syncs once."""
        store = open_store(tmp_path / "runs.db", durability="power")
        executor = NestedLoopExecutor(store=store)
        root = executor.start_root("g")
        executor.advance(root)
        assert isinstance(store, SqliteStore)
        connection = store._open()
        assert connection.execute("PRAGMA synchronous").fetchone() == (
            2,
        )  # FULL: a sync at the end of each transaction
        before = connection.total_changes
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        for _ in range(10):
            executor.advance(root)
        connection.set_trace_callback(None)
        assert connection.total_changes == before + 10
        assert [statement.split()[0] for statement in statements] == ["INSERT"] * 10
        store.close()

    def test_another_process_writes_too_long(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """When another process holds the file for too long, the call is refused with that."""
        monkeypatch.setattr("cortical.store.sqlite._BUSY_SECONDS", 0.05)
        store = open_store(path)
        executor = NestedLoopExecutor(store=store)
        (root,) = executor.get_active_loops()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="written by another process for too long"):
            executor.advance(root.id)
        other.execute("ROLLBACK")
        other.close()
        assert executor.advance(root.id) is LoopPhase.ANSWER
        store.close()

    def test_a_file_that_may_only_be_read(self, path: Path) -> None:
        """A store that may only be read shows what it holds and refuses to be written."""
        store = open_store(path)
        assert isinstance(store, SqliteStore)
        executor = NestedLoopExecutor(store=store)
        (active,) = executor.get_active_loops()
        store._open().execute("PRAGMA query_only = ON")
        with pytest.raises(StoreError, match="may only be read"):
            executor.advance(active.id)
        with pytest.raises(StoreError, match="may only be read"):
            executor.spawn_child(active.id, "x")
        assert active.current_phase is LoopPhase.QUESTION
        store.close()


class TestGrouping:
    """Many threads, one sync."""

    def test_writers_that_wait_are_committed_together(self, tmp_path: Path) -> None:
        """Threads that write at one moment share commits, and each loses nothing."""
        store = open_store(tmp_path / "runs.db", durability="power")
        assert isinstance(store, SqliteStore)
        commits: list[str] = []
        store._open().set_trace_callback(
            lambda sql: commits.append(sql) if sql.startswith(("COMMIT", "INSERT")) else None
        )
        executor = NestedLoopExecutor(store=store)
        roots = [executor.start_root(str(n)) for n in range(16)]
        commits.clear()
        in_threads(lambda root: [executor.advance(root) for _ in range(20)], roots)
        assert len(commits) < 320
        for root in roots:
            assert [event.seq for event in store.read(root)] == list(range(1, 22))
        store.close()

    def test_a_conflict_in_a_group_is_its_writers_alone(self, tmp_path: Path) -> None:
        """When many commit together and some are stale, the stale ones are refused and the others kept."""
        stores = [open_store(tmp_path / "runs.db") for _ in range(2)]
        store = stores[0]
        names = [f"r{n}" for n in range(12)]
        for name in names:
            store.append(store.prepare(name, 0, [Started(name, 1, 1.0, "loop", "g", None, "question")]))
        refused: list[str] = []
        together = threading.Barrier(24)

        def write(name: str, value: int) -> None:
            together.wait()
            try:
                store.append(
                    store.prepare(name, 1, [Noted(name, 2, 1.0, "note", value), Noted(name, 3, 1.0, "note", value)])
                )
            except Conflict:
                refused.append(name)

        in_threads(lambda given: write(*given), [(name, value) for name in names for value in (1, 2)])
        assert sorted(refused) == sorted(names)
        assert all(len(store.read(name)) == 3 for name in names)
        for opened in stores:
            opened.close()


class TestRelaxed:
    """Commits grouped by time."""

    def test_kept_after_flush(self, tmp_path: Path) -> None:
        """A relaxed store runs ahead of the disk until it is flushed, or closed."""
        relaxed, plain = open_store(tmp_path / "a.db", durability="relaxed"), open_store(tmp_path / "a.db")
        executor = NestedLoopExecutor(store=relaxed)
        root = executor.start_root("g")
        child = executor.spawn_child(root, "s")
        executor.complete(child)
        executor.flush()
        assert len(plain.read(root)) == 5
        executor.advance(root)
        relaxed.close()
        assert len(plain.read(root)) == 6
        plain.close()

    def test_kept_by_itself_soon(self, tmp_path: Path) -> None:
        """Without a flush, what was recorded is committed by itself."""
        relaxed, plain = open_store(tmp_path / "a.db", durability="relaxed"), open_store(tmp_path / "a.db")
        root = NestedLoopExecutor(store=relaxed).start_root("g")
        while not plain.read(root):  # ends within the test's time limit, or fails by it
            threading.Event().wait(0.01)
        assert plain.roots()[0].id == root
        relaxed.close()
        plain.close()

    def test_conflicts_are_told_at_once(self, tmp_path: Path) -> None:
        """A relaxed writer that is late is refused at the call, and what it accepted before stays."""
        relaxed, plain = open_store(tmp_path / "a.db", durability="relaxed"), open_store(tmp_path / "a.db")
        first, second = NestedLoopExecutor(store=relaxed), NestedLoopExecutor(store=plain)
        root = first.start_root("g")
        first.flush()
        second.advance(root)
        other = first.start_root("other")
        with pytest.raises(Conflict):
            first.advance(root)
        first.flush()
        assert plain.root_of(other) == other
        relaxed.close()
        plain.close()

    def test_what_could_not_be_committed_is_told(self, tmp_path: Path) -> None:
        """When the group cannot be committed, the next call says so, and memory shows what the disk has."""
        done = run_python(
            """
            import resource, sys, threading
            from cortical.core.errors import RecordsLost
            from cortical.reasoning import NestedLoopExecutor
            from cortical.store import open_store
            store = open_store(sys.argv[1], durability="relaxed")
            executor = NestedLoopExecutor(store=store)
            root = executor.start_root("g")
            executor.flush()
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
            for how in (executor.flush, lambda: executor.record_answer(root, 1)):
                try:
                    for n in range(100):
                        executor.record_answer(root, "x" * 1000)
                    while True:
                        how()
                        threading.Event().wait(0.01)
                except RecordsLost as lost:
                    print(lost)
                print(len(executor.get_context(root).accumulated_answers))
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            executor.record_answer(root, "again")
            executor.flush()
            print(executor.get_context(root).accumulated_answers)
            store.close()
            """,
            tmp_path / "a.db",
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert ["could not be committed" in line for line in lines] == [True, False, True, False, False]
        assert (lines[1], lines[3], lines[4]) == ("0", "0", "['again']")
        with NestedLoopExecutor(store=tmp_path / "a.db") as executor:
            (root,) = executor.store.roots()
            assert executor.get_context(root.id).accumulated_answers == ["again"]

    def test_records_lost_is_a_store_error(self) -> None:
        """Whoever guards against store errors is told of losses too."""
        assert issubclass(RecordsLost, StoreError)


class TestFork:
    """Processes made by fork."""

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_a_forked_process_opens_its_own(self, path: Path) -> None:
        """A store that was open at a fork refuses use in the child, and stays whole in the parent."""
        done = run_python(
            """
            import os, sys
            from cortical.reasoning import NestedLoopExecutor
            executor = NestedLoopExecutor(store=sys.argv[1])
            (loop,) = executor.get_active_loops()
            if os.fork() == 0:
                try:
                    executor.advance(loop.id)
                except OSError as error:
                    print(error, flush=True)
                with NestedLoopExecutor(store=sys.argv[1]) as own:
                    own.advance(loop.id)
                os._exit(0)
            os.wait()
            executor.refresh(loop.id)
            print(executor.advance(loop.id).value)
            """,
            path,
        )
        assert done.returncode == 0, done.stderr
        refused, phase = done.stdout.splitlines()
        assert "was opened before this process was forked; open it again" in refused
        assert phase == "produce"


def test_listing_needs_no_replay(path: Path) -> None:
    """The trees are listed even where no log could be read."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE records SET body = x'00'")
    connection.close()
    store = open_store(path)
    (root,) = store.roots()
    assert (root.goal, root.status, root.ended_at) == ("goal", LoopStatus.PAUSED, None)
    store.close()


def test_reading_from_within_a_record(durable: Store) -> None:
    """A follower may begin at any position, also between events that were recorded together."""
    events: list[Any] = [
        Started("r", 1, 1.0, "loop", "g", None, "question"),
        Moved("r", 2, 1.0, "answer"),
        Moved("r", 3, 1.0, "produce"),
    ]
    durable.append(durable.prepare("r", 0, events))
    assert durable.read("r", 1) == events[1:]
    assert durable.read("r", 2) == events[2:]
    assert durable.read("r", 3) == []


class TestGate:
    """One thread at a time at the connection."""

    def test_a_gate_that_nobody_is_inside_is_opened(self) -> None:
        """A thread that was interrupted between taking the gate and going in does not shut out the others."""
        gate = Gate()
        assert gate.take()
        while not gate.take(0.05):  # ends within the test's time limit, or fails by it
            pass
        gate.enter()
        assert not gate.take()
        gate.inside = False
        gate.lock.release()
        assert gate.take()

    def test_a_gate_that_somebody_is_inside_stays_shut(self) -> None:
        """However long a thread is inside, nobody else is let in."""
        gate = Gate()
        assert gate.take()
        gate.enter()
        assert not any(gate.take(0.01) for _ in range(60))

    def test_a_ctrl_c_while_queueing_strands_nobody(self, path: Path) -> None:
        """A call that was interrupted in the queue is written or not; the others go on."""
        done = run_python(
            """
            import os, signal, sys, threading
            from cortical.core.errors import StoreError
            from cortical.reasoning import NestedLoopExecutor
            from cortical.store import open_store
            executor = NestedLoopExecutor(store=open_store(sys.argv[1], durability="power"))
            roots = [executor.start_root(str(n)) for n in range(4)]
            stop, armed = threading.Event(), [False]
            def on_interrupt(number, frame):
                if armed[0]:
                    armed[0] = False
                    raise KeyboardInterrupt
            signal.signal(signal.SIGINT, on_interrupt)
            def advance(root):
                try:
                    executor.advance(root)
                except StoreError:
                    pass  # what an interrupted thread had queued came first, or it was leading: look, and call again
            def work(root):
                while not stop.is_set():
                    advance(root)
            def disturb():
                while not stop.wait(0.003):
                    os.kill(os.getpid(), signal.SIGINT)
            threads = [threading.Thread(target=work, args=(root,)) for root in roots[1:]]
            threads.append(threading.Thread(target=disturb))
            for thread in threads:
                thread.start()
            try:
                for _ in range(100):
                    try:
                        armed[0] = True
                        while True:
                            advance(roots[0])
                    except KeyboardInterrupt:
                        pass
            finally:
                armed[0] = False
                stop.set()
            for thread in threads:
                thread.join()
            advance(roots[0])
            print(executor.store.check(), executor.advance(roots[0]) is not None)
            """,
            path,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split(maxsplit=1)[0] == "[]"


def test_a_relaxed_store_tells_what_an_error_took_with_it(tmp_path: Path) -> None:
    """When a failing write undoes the whole group, the caller is told, and memory shows what the disk has."""
    done = run_python(
        """
        import resource, sys
        from cortical.core.errors import RecordsLost
        from cortical.core.tree import Tree
        from cortical.reasoning import NestedLoopExecutor
        from cortical.looking.soundness import examine
        from cortical.store import open_store
        executor = NestedLoopExecutor(store=open_store(sys.argv[1], durability="relaxed"))
        root = executor.start_root("g")
        executor.flush()
        executor.advance(root)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            executor.record_answer(root, "x" * 20_000_000)
            executor.flush()
        except RecordsLost as lost:
            print(lost)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        phase = executor.get_loop(root).current_phase.value
        other = open_store(sys.argv[1])
        kept = other.read(root)  # without the move, unless this process was stopped for 50 ms before the answer
        other.close()
        executor.record_answer(root, "again")
        executor.flush()
        same = phase == Tree.of(kept).root.place
        print(same, len(executor.store.read(root)) - len(kept), list(examine(executor.store).problems))
        executor.store.close()
        """,
        tmp_path / "a.db",
    )
    assert done.returncode == 0, done.stderr
    told, state = done.stdout.splitlines()
    assert "could not be committed" in told
    assert state == "True 1 []"


def test_a_position_beyond_the_end(durable: Store) -> None:
    """A record that would leave a gap is refused."""
    durable.append(durable.prepare("r", 0, [Started("r", 1, 1.0, "loop", "g", None, "question")]))
    for position in (2, 7):
        with pytest.raises(Conflict):
            durable.append(durable.prepare("r", position, [Moved("r", 3, 1.0, "answer")]))
    assert len(durable.read("r")) == 1


def test_a_start_that_could_not_be_kept_is_listed_when_it_is(tmp_path: Path) -> None:
    """A root whose start failed for a full disk is listed as active once it has been started."""
    done = run_python(
        """
        import resource, sys
        from cortical.core.errors import StoreError
        from cortical.reasoning import NestedLoopExecutor
        executor = NestedLoopExecutor(store=sys.argv[1])
        loop = executor.manager.create_loop("g")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            loop.start()
        except StoreError:
            print("refused")
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        loop.start()
        print(executor.store.roots()[0].status.value)
        """,
        tmp_path / "a.db",
    )
    assert done.stdout.split() == ["refused", "active"], done.stderr
