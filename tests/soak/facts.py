"""Side logs: what a call had returned, written down by the process that made it, with no store involved.

A line is a moment, a word and what it is about. The moment is that of the machine's monotonic clock, which all
processes share. Files are kept short, so that a process whose files may not grow can still write its own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attrs import frozen

#: Well below the least room that a process is left.
_FILE_BYTES: Final = 30_000


@frozen
class Fact:
    """One line of a side log."""

    at: int
    pid: int
    word: str
    about: tuple[str, ...]


class Facts:
    """The side log of this process, in files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._number = 0
        self._written = 0
        self._file = self._open()

    def add(self, word: str, *about: object) -> None:
        """Write down that this has happened."""
        line = "\t".join((str(time.monotonic_ns()), word, *map(str, about)))
        data = f"{line}\n".encode()
        with self._lock:
            if self._written + len(data) > _FILE_BYTES:
                os.close(self._file)
                self._number, self._written = self._number + 1, 0
                self._file = self._open()
            assert os.write(self._file, data) == len(data)
            self._written += len(data)

    def _open(self) -> int:
        name = f"{os.getpid()}-{self._number:05d}.facts"
        return os.open(self.folder / name, os.O_CREAT | os.O_APPEND | os.O_WRONLY)


def read_facts(folder: Path) -> Iterator[Fact]:
    """All that the processes have written down; of each process in order."""
    for file in sorted(folder.glob("*.facts")):
        pid = int(file.name.split("-")[0])
        for line in file.read_text().splitlines():
            at, word, *about = line.split("\t")
            yield Fact(int(at), pid, word, tuple(about))
