"""Files of stores with flipped bits, lost pages, cut ends and foreign logs: never read as what they are not."""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from attrs import frozen

from cortical import resume
from cortical.core.codec import encode_events
from cortical.core.errors import CorticalError, StoreError
from cortical.core.ports import Root
from cortical.looking.soundness import examine
from cortical.reasoning import NestedLoopExecutor
from cortical.store import Store, open_store
from cortical.store.sqlite_packing import checksum
from tests.property.effort import seeds
from tests.property.forest import leaf, plant, trunk

PAGE = 4096
SUFFIXES = ("", "-wal")


@frozen
class Sound:
    """A store as it was: its file closed, its two files as a killed process leaves them, and what it holds."""

    closed: Path
    killed: Path
    logs: dict[str, list[bytes]]
    roots: dict[str, Root]


def log_of(store: Store, root_id: str) -> list[bytes]:
    return [encode_events([event])[1] for event in store.read(root_id)]


def made(folder: Path) -> Sound:
    """A store with a tree of every kind, most of it in its write-ahead log, part of it in its database."""
    folder.mkdir()
    store = open_store(folder / "closed.db")
    plant(store)
    with sqlite3.connect(folder / "closed.db") as other:
        other.execute("PRAGMA wal_checkpoint(PASSIVE)")
    other.close()
    executor = NestedLoopExecutor(store=store)
    for count in range(20):
        executor.complete(executor.start_root(f"late {count}"), {"count": count})
    for suffix in SUFFIXES:
        shutil.copy(folder / f"closed.db{suffix}", folder / f"killed.db{suffix}")
    roots = {root.id: root for root in store.roots()}
    logs = {root_id: log_of(store, root_id) for root_id in roots}
    store.close()
    return Sound(folder / "closed.db", folder / "killed.db", logs, roots)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    return made(tmp_path_factory.mktemp("damage") / "one")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    return made(tmp_path_factory.mktemp("damage") / "other")


def copied(path: Path, to: Path) -> Path:
    """The files of a store, copied."""
    for suffix in SUFFIXES:
        Path(f"{to}{suffix}").unlink(missing_ok=True)
        if Path(f"{path}{suffix}").exists():
            shutil.copy(f"{path}{suffix}", f"{to}{suffix}")
    return to


def _flip(dice: random.Random, data: bytearray) -> None:
    for _ in range(dice.choice([1, 1, 2, 8])):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _zero(dice: random.Random, data: bytearray) -> None:
    page = dice.randrange(0, len(data), PAGE)
    data[page : page + PAGE] = bytes(len(data[page : page + PAGE]))


def _cut(dice: random.Random, data: bytearray) -> None:
    del data[dice.randrange(len(data)) :]


def _swap(dice: random.Random, data: bytearray) -> None:
    one, two = (dice.randrange(len(data) // PAGE) * PAGE for _ in range(2))
    data[one : one + PAGE], data[two : two + PAGE] = data[two : two + PAGE], data[one : one + PAGE]


def _fill(dice: random.Random, data: bytearray) -> None:
    page = dice.randrange(0, len(data), PAGE)
    data[page : page + PAGE] = dice.randbytes(len(data[page : page + PAGE]))


Damage = Callable[[random.Random, bytearray], None]
DAMAGES: list[Damage] = [_flip, _flip, _flip, _zero, _cut, _swap, _fill]


def spoil(path: Path, damage: Damage, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    damage(dice, data)
    path.write_bytes(data)


def opened(path: Path) -> Store | None:
    """The store, if it lets itself be opened; a refusal says what to do."""
    try:
        return open_store(path, create=False)
    except StoreError as refused:
        message = str(refused)
    assert any(word in message for word in ("restore", "name another", "delete it", "upgrade", path.name)), message
    return None


def read_by(store: Store, root_id: str) -> list[bytes] | None:
    """The log of a tree; None when the store says that it is damaged."""
    with suppress(StoreError):
        return log_of(store, root_id)
    return None


def problems_of(store: Store) -> list[str]:
    try:
        return list(examine(store).problems)
    except StoreError as refused:
        return [str(refused)]


def listed(store: Store) -> dict[str, Root]:
    try:
        return {root.id: root for root in store.roots()}
    except StoreError:
        return {}


def use_everything(store: Store, sound: Sound) -> None:
    """Look at every tree, go on with it, and begin another: done, or refused with a sentence."""
    for root_id in sound.logs:
        executor = NestedLoopExecutor(store=store)
        for call in (
            lambda face=executor, run=root_id: face.export(run, format="json"),
            lambda face=executor, run=root_id: face.record_answer(run, 1),
            lambda face=executor, run=root_id: face.break_loop(run, "damage"),
            lambda run=root_id: resume(store, run, agents=[leaf, trunk]),
            lambda run=root_id: store.compact(run, float("inf")),
            lambda face=executor: face.start_root("anew"),
        ):
            with suppress(CorticalError):
                call()


@pytest.mark.parametrize("seed", seeds(60))
def test_damage_is_told(seed: int, sound: Sound, tmp_path: Path) -> None:
    """Whatever becomes of a database, what it shows is as it was, or it is told."""
    dice = random.Random(seed)
    path = copied(sound.closed, tmp_path / "runs.db")
    spoil(path, dice.choice(DAMAGES), dice)
    store = opened(path)
    if store is None:
        return
    try:
        problems = problems_of(store)
        now = listed(store)
        for root_id, log in sound.logs.items():
            shown = read_by(store, root_id)
            assert shown is None or shown == log or problems
        assert problems or now == sound.roots
    finally:
        store.close()


@pytest.mark.parametrize("seed", seeds(40))
def test_damage_anywhere_is_survived(seed: int, sound: Sound, tmp_path: Path) -> None:
    """Whatever becomes of a store's files, every use of it works or is refused; what could be read still can."""
    dice = random.Random(seed)
    path = copied(dice.choice([sound.closed, sound.killed]), tmp_path / "runs.db")
    logged = Path(f"{path}-wal")
    spoil(logged if logged.exists() and dice.random() < 0.6 else path, dice.choice(DAMAGES), dice)
    store = opened(path)
    if store is None:
        return
    try:
        before = {root_id: read_by(store, root_id) for root_id in sound.logs}
        was_told = problems_of(store)
        use_everything(store, sound)
        for root_id, log in before.items():
            after = read_by(store, root_id)
            if log is not None and not was_told:
                assert after is not None
                assert after[: len(log)] == log
    finally:
        store.close()


@pytest.mark.parametrize("seed", seeds(40))
def test_damage_in_texts(seed: int, sound: Sound, tmp_path: Path) -> None:
    """Whatever the texts of records say, reading, checking and going on work or are refused; nothing else is raised."""
    dice = random.Random(seed)
    path = copied(sound.closed, tmp_path / "runs.db")
    with sqlite3.connect(path) as connection:
        records = connection.execute("SELECT key, body FROM records").fetchall()
        for key, body in dice.sample(records, dice.choice([1, 1, 3])):
            text = bytearray(body)
            for _ in range(dice.choice([1, 1, 3])):
                text[dice.randrange(len(text))] = dice.choice([*b'0123456789"[]{},:truefalsn$', dice.randrange(256)])
            kept = bytes(text)
            connection.execute("UPDATE records SET body = ?, crc = ? WHERE key = ?", (kept, checksum(key, kept), key))
    connection.close()
    with closing(open_store(path)) as store:
        problems_of(store)
        use_everything(store, sound)


@pytest.mark.parametrize("seed", seeds(40))
def test_damage_to_the_log_of_writes(seed: int, sound: Sound, tmp_path: Path) -> None:
    """A write-ahead log that is damaged, cut or gone loses at most the last records: each tree is a true beginning."""
    dice = random.Random(seed)
    path = copied(sound.killed, tmp_path / "runs.db")
    logged = Path(f"{path}-wal")
    if dice.random() < 0.1:
        logged.unlink()
    else:
        spoil(logged, dice.choice(DAMAGES), dice)
    store = opened(path)
    if store is None:
        return
    try:
        assert problems_of(store) == []
        assert set(listed(store)) <= set(sound.roots)
        for root_id, log in sound.logs.items():
            shown = read_by(store, root_id) or []
            assert shown == log[: len(shown)]
    finally:
        store.close()


def test_files_of_two_stores_mixed(sound: Sound, other: Sound, tmp_path: Path) -> None:
    """A database with the write-ahead log of another store shows trees of either as they were, or it is told."""
    for base, logged in ((sound.closed, other.killed), (sound.killed, other.killed), (other.killed, sound.killed)):
        path = copied(base, tmp_path / "runs.db")
        shutil.copy(f"{logged}-wal", f"{path}-wal")
        store = opened(path)
        if store is None:
            continue
        try:
            problems = problems_of(store)
            for logs in (sound.logs, other.logs):
                for root_id, log in logs.items():
                    shown = read_by(store, root_id)
                    assert not shown or shown == log[: len(shown)] or problems
            use_everything(store, sound)
        finally:
            store.close()


def test_a_folder_where_a_file_should_be(sound: Sound, tmp_path: Path) -> None:
    """A folder in the place of the write-ahead log is refused with the name of the store."""
    path = copied(sound.closed, tmp_path / "runs.db")
    Path(f"{path}-wal").mkdir()
    with pytest.raises(StoreError, match=re.escape(path.name)):
        open_store(path)
