"""Texts to be printed: recorded ones made safe (a goal may hold anything, also what would steer a terminal), counts."""

from __future__ import annotations

import unicodedata
from typing import Final

_UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNS_TEXT_AROUND: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def written(value: object) -> str:
    """`value` as Python writes it; that it cannot be, where it cannot, as a number of thousands of digits."""
    try:
        return repr(value)
    except Exception as broken:  # noqa: BLE001  # whatever a user's __repr__ may raise
        return unwritable(value, broken)


def unwritable(value: object, broken: Exception) -> str:
    """What is said of a value that has no repr."""
    return f"<a {type(value).__name__} that cannot be shown: {type(broken).__name__}>"


def one_line(text: str) -> str:
    """`text` on one line: runs of white space become one space, and what would steer a terminal becomes visible."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    return " ".join(printable(text).split())


def printable(text: str) -> str:
    """`text` with its lines and tabs, but without characters that would steer a terminal or cannot be written."""
    return text if text.isprintable() else "".join(_visible(character) for character in text)


def counted(count: int, one: str, many: str = "", *, single: str = "1") -> str:
    """So many of something: ``1 child``, ``2,000 children``; `single` stands for the 1."""
    return f"{single} {one}" if count == 1 else f"{count:,} {many or one + 's'}"


def _visible(character: str) -> str:
    if character in "\n\t":
        return character
    if character in _TURNS_TEXT_AROUND:
        return "\N{REPLACEMENT CHARACTER}"
    if unicodedata.category(character) not in _UNPRINTABLE:
        return character
    code = ord(character)
    if character.isspace():
        return " "
    return chr(0x2400 + code) if code < 0x20 else "\N{REPLACEMENT CHARACTER}"
