"""What a page shows beside what was really printed, where ids, times and sizes differ from run to run.

* An id (20 hexadecimal digits, or their first 8) is bound to the real one where a page first shows it, and from
  then on stands for that one, in what is printed and in commands. One of nothing but zeros stands for any.
* A time, a duration (``1.3s``, ``2m 05s``, ``0 s``), a size (``24,576 bytes``) or a number of five digits or more
  stands for any other.
* Two spaces or more stand for any number of two or more, as columns are as wide as what is in them.
* A line that is only ``…`` stands for any number of lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import ndiff
from typing import Final

_ID: Final = r"(?:(?<![0-9a-zA-Z_.-])|(?<=\\n))[0-9a-f]{8}(?:[0-9a-f]{12})?(?![0-9a-zA-Z_-])"
_DATE: Final = r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?: UTC|Z|\+\d\d:\d\d)?"
_CHANGING: Final = {
    "time": rf"{_DATE}|\b\d\d:\d\d:\d\d\b",
    "duration": r"\b\d+(?:\.\d+)?(?: ?(?:s|m|min|h|d)\b)(?: \d+ ?(?:s|m|min|h)\b)?",
    "size": r"\b\d[\d,]*(?= bytes)|\b\d{5,}\b",
    "gap": r"(?<=\S) {2,}",
}
_TOKEN: Final = re.compile("|".join(f"(?P<{name}>{form})" for name, form in {"id": _ID, **_CHANGING}.items()))
_FORMS: Final = {**_CHANGING, "gap": " {2,}"}
_ANY_LINES: Final = "…"


class Ids:
    """The real ids that the ids of a page stand for."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}

    def compare(self, shown: str, printed: str) -> str:
        """How the two differ, for a person to read; empty when they agree."""
        real_lines = [line.rstrip() for line in printed.rstrip().splitlines()]
        new: dict[str, str] = {}
        pattern = "".join(self._line_pattern(line.rstrip(), new) for line in shown.rstrip().splitlines())
        match = re.fullmatch(pattern, "".join(f"{line}\n" for line in real_lines))
        bound = dict(self._real)
        if match is not None:
            bound |= {prefix: match[group] for prefix, group in new.items()}
            if len(set(bound.values())) == len(bound):
                self._real = bound
                return ""
        return "\n".join(ndiff(shown.rstrip().splitlines(), real_lines))

    def in_command(self, command: str) -> str:
        """A command of the page, with the real ids in place of those shown."""
        return re.sub(_ID, lambda match: self._real.get(match[0][:8], match[0]), command)

    def _line_pattern(self, line: str, new: dict[str, str]) -> str:
        if line.strip() == _ANY_LINES:
            return r"(?:.*\n)*?"
        return "".join(self._parts(line, new)) + r"\n"

    def _parts(self, line: str, new: dict[str, str]) -> Iterator[str]:
        end = 0
        for token in _TOKEN.finditer(line):
            yield re.escape(line[end : token.start()])
            yield self._id_pattern(token[0], new) if token.lastgroup == "id" else f"(?:{_FORMS[str(token.lastgroup)]})"
            end = token.end()
        yield re.escape(line[end:])

    def _id_pattern(self, shown: str, new: dict[str, str]) -> str:
        prefix, rest = shown[:8], "[0-9a-f]{12}" if len(shown) > 8 else ""
        if prefix == "00000000":
            return f"[0-9a-f]{{8}}{rest}"
        if prefix in self._real:
            return self._real[prefix] + rest
        if prefix in new:
            return f"(?P={new[prefix]}){rest}"
        new[prefix] = f"id{len(new)}"
        return f"(?P<{new[prefix]}>[0-9a-f]{{8}}){rest}"
