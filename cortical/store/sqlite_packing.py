"""The bodies of records: checked against what they were written as, and old ones packed, many in one, compressed.

A packed record stands at the position of the first of its events, as every record does; its body is the JSON array of
all of them as zlib writes it. That never begins with a bracket, and JSON always does: so each body shows what it is.

The last record of a log is never packed. By it a writer who believes in an earlier end is known, though packing has
freed the key at which it would write: see `sqlite_records`.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from attrs import frozen

from cortical.core.codec import decode_events
from cortical.core.errors import StoreDamaged
from cortical.core.events import Event

_MOST_EVENTS: Final = 1000
_MOST_BYTES: Final = 256 * 1024  # of JSON
_FIRST_BYTE: Final = b"x"  # of what zlib writes with its usual window

_FIRST_PLAIN: Final = (
    "SELECT min(key) FROM records WHERE key BETWEEN ? AND ? + 0xffffffff AND substr(body, 1, 1) = x'5b'"
)
_BEFORE: Final = "SELECT coalesce(max(key), ?) FROM records WHERE key >= ? AND key < ?"
_FROM: Final = "SELECT key, body, crc FROM records WHERE key BETWEEN ? AND ? | 0xffffffff ORDER BY key"


@frozen
class Pack:
    """Neighbouring records as one: from the key `first` on, up to that of the record after them."""

    first: int
    end: int
    bodies: Sequence[bytes]
    #: Their JSON, packed; None when it is one record that is packed already.
    body: bytes | None

    @property
    def saved(self) -> int:
        """How many bytes less they take."""
        return 0 if self.body is None else sum(map(len, self.bodies)) - len(self.body)


#: The key, the body and the checksum of a record.
Row = tuple[int, bytes, int]


def checksum(key: int, body: bytes) -> int:
    """The CRC-32 of a record's body, begun with both halves of its key: it holds for this record in this place.

    Of what is no body, since the file is damaged, it is 0.
    """
    return zlib.crc32(body, (key ^ key >> 32) & 0xFFFFFFFF) if isinstance(body, bytes) else 0


def events_of(row: Row) -> list[Event]:
    """The events of a record, packed or not.

    Raises:
        StoreDamaged: it cannot be read.
    """
    return decode_events(_text(row))


def first_to_pack(connection: sqlite3.Connection, base: int) -> int | None:
    """The key from which on records may be packed: of those that are, only the last may have room for more."""
    (plain,) = connection.execute(_FIRST_PLAIN, (base, base)).fetchone()
    if plain is None:
        return None
    key: int = connection.execute(_BEFORE, (plain, base, plain)).fetchone()[0]
    return key


def neighbours(connection: sqlite3.Connection, key: int) -> list[Row]:
    """The records from `key` on that could go into one, and the one after them."""
    rows: list[Row] = []
    size = 0
    for row in connection.execute(_FROM, (key, key)):
        rows.append(row)
        size += len(row[1]) if isinstance(row[1], bytes) else 0
        if len(rows) > 1 and (row[0] - rows[0][0] > _MOST_EVENTS or size > _MOST_BYTES):
            break
    return rows


def pack(rows: Sequence[Row], before: float) -> Pack | None:
    """As many of these records as go into one and are older than `before`; never the last. None when none is.

    Raises:
        StoreDamaged: one of them cannot be read, or is missing.
    """
    texts: list[bytes] = []
    size = 0
    end = 0
    for row, (following, _, _) in pairwise(rows):
        text = _text(row)
        size += len(text)
        if texts and (following - rows[0][0] > _MOST_EVENTS or size > _MOST_BYTES):
            break
        events = decode_events(text)
        if any(event.at >= before for event in events):
            break
        if following - row[0] != len(events):
            raise StoreDamaged(f"there is a gap before position {following & 0xFFFFFFFF}")
        texts.append(text)
        end = following
    if not texts:
        return None
    bodies = [body for _, body, _ in rows[: len(texts)]]
    if len(texts) == 1 and bodies[0].startswith(_FIRST_BYTE):
        return Pack(rows[0][0], end, bodies, None)
    return Pack(rows[0][0], end, bodies, zlib.compress(b"[" + b",".join(text[1:-1] for text in texts) + b"]"))


def put(connection: sqlite3.Connection, pack: Pack) -> bool:
    """Put a pack in place of its records; False, and nothing done, when others have packed some of them meanwhile."""
    # Before the end of a log, records only ever go: as many as there were, the next one included, are the same ones.
    there = connection.execute("SELECT count(*) FROM records WHERE key BETWEEN ? AND ?", (pack.first, pack.end))
    if there.fetchone()[0] != len(pack.bodies) + 1:
        return False
    connection.execute("DELETE FROM records WHERE key >= ? AND key < ?", (pack.first, pack.end))
    assert pack.body is not None
    kept = (pack.first, pack.body, checksum(pack.first, pack.body))
    connection.execute("INSERT INTO records VALUES (?, ?, ?)", kept)
    return True


def _text(row: Row) -> bytes:
    key, body, crc = row
    if not isinstance(body, bytes):
        raise StoreDamaged(f"a record is kept as {type(body).__name__}, not as bytes")
    if checksum(key, body) != crc:
        raise StoreDamaged("a record is not as it was written (its checksum is another); restore the file from a copy")
    if not body.startswith(_FIRST_BYTE):
        return body
    try:
        return zlib.decompress(body)
    except zlib.error as error:
        raise StoreDamaged(f"a packed record cannot be read ({error}); the file is damaged") from error
