"""The values of a pipeline as those see them who look at different moments, possibly in different threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """A value, by whom and as which change it was written, and what stood there before for whom still sees that."""

    version: int
    value: Any
    writer: str | None
    older: Entry | None


class Values:
    """The values that have been accepted, each with those before it that a stage may still see."""

    def __init__(self, values: Mapping[str, Any], writers: Mapping[str, str]) -> None:
        self.version = 0
        self.entries = {name: Entry(0, value, writers.get(name), None) for name, value in values.items()}
        self._seen: OrderedDict[int, int] = OrderedDict()
        self._opened = 0
        self._lock = threading.Lock()

    def begin(self) -> tuple[int, int]:
        """A number for one who looks, and the version that it sees."""
        with self._lock:
            self._opened += 1
            self._seen[self._opened] = self.version
            return self._opened, self.version

    def end(self, number: int) -> None:
        """Nobody looks under this number any more."""
        with self._lock:
            self._seen.pop(number, None)

    def accept(self, values: Mapping[str, Any], writer: str | None) -> None:
        """Make values visible to all who begin from now on."""
        with self._lock:
            self.version += 1
            for name, value in values.items():
                self.entries[name] = Entry(self.version, value, writer, self._before(name))

    def at(self, name: str, version: int | None) -> Entry | None:
        """What stood under the name at a version; None stands for now."""
        entry = self.entries.get(name)
        while entry is not None and version is not None and entry.version > version:
            entry = entry.older
        return entry

    def _before(self, name: str) -> Entry | None:
        """What stands under the name, without what nobody can see any more."""
        oldest = next(iter(self._seen.values()), None)
        kept: list[Entry] = []
        entry = None if oldest is None else self.entries.get(name)
        while entry is not None and oldest is not None:
            kept.append(entry)
            entry = entry.older if entry.version > oldest else None
        older: Entry | None = None
        for entry in reversed(kept):
            older = entry._replace(older=older)
        return older
