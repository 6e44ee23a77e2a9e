"""The floor: sqlite3 alone, an insert and its commit for each step, two for each child. The mode is SQLite's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.peers.work import Do, doubled, line, main


@contextmanager
def opened(work: str, file: Path, mode: str) -> Iterator[Do]:
    """A table for bodies in a file."""

    def keep(body: object) -> None:
        connection.execute("INSERT INTO log (body) VALUES (?)", (body,))

    def steps(count: int) -> int:
        for number in range(count):
            keep(number + 1)
        return count

    def children(count: int) -> list[int]:
        results = []
        for number in range(count):
            keep("started")
            keep(doubled(number))
            results.append(doubled(number))
        return results

    def growing(count: int) -> int:
        for number in range(count):
            keep(line(number))
        return count

    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {mode}")
        connection.execute("CREATE TABLE log (number INTEGER PRIMARY KEY, body)")
        yield {"steps": steps, "children": children, "growing": growing}[work]


if __name__ == "__main__":
    main(opened)
