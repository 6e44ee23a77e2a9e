"""The file of a SQLite store: making it whole at once, opening it with suspicion, migrating it."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from cortical.core.errors import StoreDamaged, StoreError, StoreNotFound
from cortical.store.sqlite_packing import checksum

_APPLICATION_ID: Final = 0x436F7274  # "Cort"
_MAGIC: Final = b"SQLite format 3\0"
_SCHEMA: Final = Path(__file__).parent / "schema"


def open_file(path: Path, *, create: bool, busy_seconds: float, synchronous: str) -> sqlite3.Connection:
    """A connection to the store in `path`, in autocommit mode, its schema the newest."""
    try:
        if not path.parent.is_dir():
            raise StoreNotFound(f"{path}: the folder {str(path.parent)!r} does not exist; make it first")
        if path.is_dir():
            raise StoreError(f"{path} is a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise StoreError(f"{path} is no ordinary file; name another")
        if not path.exists():
            if not create:
                raise StoreNotFound(f"{path}: there is no store; check the path, or start a loop to make one")
            _make(path)
        if path.stat().st_size == 0:
            raise StoreDamaged(f"{path} is empty: it was cut off, or is no store; delete it to begin a new one")
        connection = _connect(path, busy_seconds, immutable=_is_shut_in(path))
        try:
            _require_whole(path, connection)
            _recognise(path, connection)
            _bring_up(path, connection)
            connection.execute(f"PRAGMA synchronous = {synchronous}")
        except BaseException:
            connection.close()
            raise
        return connection
    except (sqlite3.Error, UnicodeError) as error:
        told = failure(ascii(str(path)), error)
        if isinstance(told, StoreDamaged):
            _suspect(path)
        raise told from error
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror or error}") from error


def failure(name: str, error: sqlite3.Error | UnicodeError) -> StoreError:
    """What SQLite raised, as an error of ours that says what to do."""
    text = str(error)
    code = getattr(error, "sqlite_errorname", "") or ""
    unreadable = isinstance(error, UnicodeError)
    if (
        unreadable
        or code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
        or "malformed" in text
        or "not a database" in text
    ):
        return StoreDamaged(f"{name} is damaged or not a store ({text}); restore it from a copy")
    if code.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return StoreError(f"{name} could not be written ({text}); nothing was recorded: make room, then call again")
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(f"{name} is being written by another process for too long ({text}); call again")
    if code.startswith("SQLITE_READONLY"):
        return StoreError(f"{name} may only be read ({text}); nothing was recorded: make it and its folder writable")
    return StoreError(f"{name}: {text}")


def scripts() -> list[tuple[int, str]]:
    """The numbered schema scripts, in order."""
    return [(int(file.name.split("_")[0]), file.read_text()) for file in sorted(_SCHEMA.glob("*.sql"))]


def migrate(connection: sqlite3.Connection, steps: Sequence[tuple[int, str]]) -> None:
    """Run the scripts that this file has not had yet, each whole or not at all."""
    for number, script in steps:
        if _version(connection) >= number:
            continue
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) < number:  # no other process was faster
                for statement in _statements(script):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _bring_up(path: Path, connection: sqlite3.Connection) -> None:
    """Give a file of an earlier layout the present one."""
    version = _version(connection)
    try:
        migrate(connection, scripts())
    except sqlite3.OperationalError as error:
        if "readonly" in str(error):
            raise StoreError(
                f"{path} was made by an earlier version (layout {version}) and may only be read; open it once where it "
                "can be written, which gives it the present layout"
            ) from error
        if any(sign in str(error) for sign in ("already exists", "duplicate column", "no such table")):
            raise StoreDamaged(
                f"{path}: its header says layout {version}, and its tables are of another; restore it from a copy"
            ) from error
        raise


def _make(path: Path) -> None:
    """Make a whole, empty store and give it its name in one step, so that nobody ever sees half of one."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    new = Path(name)
    try:
        with closing(_connect(new, 1.0)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            migrate(connection, scripts())
        new.chmod(0o666 & ~_umask())
        os.link(new, path)
    except FileExistsError:
        return  # another process made it meanwhile
    finally:
        for leftover in (new, Path(f"{name}-wal"), Path(f"{name}-shm")):
            leftover.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _is_shut_in(path: Path) -> bool:
    """Whether a store stands closed in a folder that may only be read, where SQLite can open it as immutable only."""
    return not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()


def _connect(path: Path, busy_seconds: float, *, immutable: bool = False) -> sqlite3.Connection:
    # mode=rw: SQLite would otherwise make an empty file where there is none any more.
    uri = f"{path.absolute().as_uri()}?{'mode=ro&immutable=1' if immutable else 'mode=rw'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=busy_seconds)
    connection.create_function("checksum", 2, checksum, deterministic=True)  # for the schema scripts
    return connection


def _suspect(path: Path) -> None:
    """Refuse a file that cannot be whole, before SQLite takes an empty one for a new database."""
    with path.open("rb") as file:
        header = file.read(100)
    size = path.stat().st_size
    if size == 0:
        raise StoreDamaged(f"{path} is empty: it was cut off, or is no store; delete it to begin a new one")
    if not header.startswith(_MAGIC):
        raise StoreDamaged(f"{path} is not a store: it does not begin as a SQLite file; name another file")
    page = int.from_bytes(header[16:18]) or 1
    page = 65536 if page == 1 else page
    pages = int.from_bytes(header[28:32])
    log = path.with_name(path.name + "-wal")
    if size < pages * page and not (log.exists() and log.stat().st_size):
        raise StoreDamaged(f"{path} is torn: {size} bytes of {pages * page} are there; restore it from a copy")


def _require_whole(path: Path, connection: sqlite3.Connection) -> None:
    """Refuse a file that ends before its last page, as far as can be told from outside: its log may have the rest."""
    pages, page = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    size, log = path.stat().st_size, path.with_name(path.name + "-wal")
    if size < pages * page and not (log.exists() and log.stat().st_size):
        raise StoreDamaged(f"{path} is torn: {size} bytes of {pages * page} are there; restore it from a copy")


def _recognise(path: Path, connection: sqlite3.Connection) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != _APPLICATION_ID:
        raise StoreDamaged(f"{path} is a SQLite file, but not a store of this library; name another file")
    newest = scripts()[-1][0]
    if (version := _version(connection)) > newest:
        raise StoreDamaged(
            f"{path} has schema {version}, and this version knows {newest} at most; upgrade the library to read it"
        )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
