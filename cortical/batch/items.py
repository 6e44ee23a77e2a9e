"""Items: what each is called, and by which key it is known when a batch is taken up again."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import PurePath
from typing import Any, Final

from attrs import define

from cortical.core.codec import encode, to_plain
from cortical.core.errors import EncodeError
from cortical.core.outcome import type_name

_MOST_CHARACTERS: Final = 80
_SMALL: Final = frozenset({int, float, bool, type(None)})

Key = Callable[[Any], object]


@define
class Item:
    """One item: its value, where it stands in the input (0, 1, …), and the key it is known by.

    `nth` counts the equal keys before it where items are matched by key, else it is None.
    """

    value: Any
    index: int
    key: str
    nth: int | None = None


def key_of(value: object) -> str:
    """A digest of the encoded value; of one that cannot be encoded, the name of its type."""
    try:
        encoded = encode(value)
        if b'set"' in encoded:  # the order of sets is another in each process
            encoded = encode(_ordered(to_plain(value)))
    except EncodeError:
        return type_name(type(value))
    return blake2b(encoded, digest_size=8).hexdigest()


def given_key(key: Key, value: object) -> str:
    """What a key function of the user's says, as a text."""
    told = key(value)
    return told if type(told) is str else encode(told, "the key").decode()


def short_text(value: object) -> str:
    """What an item is called: its text, shortened, of one line where it can be."""
    kind = type(value)
    if kind is str or isinstance(value, PurePath):
        text = str(value)
    elif kind in _SMALL:
        return repr(value) if kind is not int or -(10**18) < value < 10**18 else "a large number"  # type: ignore[operator]
    else:
        try:
            text = _short.repr(value)
        except Exception:  # noqa: BLE001  # a user's __repr__ may itself raise
            text = f"a {type_name(kind)}"
    if len(text) > _MOST_CHARACTERS:
        text = f"{text[:60]}…{text[-19:]}"
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text if text and not text.isspace() else repr(text)


def metadata_of(items: list[Item], *, chunked: bool) -> dict[str, Any]:
    """What is kept of items with the run that carries them out."""
    if chunked:
        chunk: dict[str, Any] = {"indexes": [item.index for item in items], "keys": [item.key for item in items]}
        return chunk if items[0].nth is None else {**chunk, "nths": [item.nth for item in items]}
    (item,) = items
    metadata: dict[str, Any] = {"key": item.key, "index": item.index}
    if type(item.value) in _SMALL:
        metadata["item"] = item.value
    if item.nth is not None:
        metadata["nth"] = item.nth
    return metadata


def kept_items(metadata: Mapping[str, Any]) -> list[tuple[int, str, int | None]]:
    """Index, key and number among equal keys of the items that a run was to carry out; empty for other runs."""
    match metadata:
        case {"index": int(index), "key": str(key)}:
            return [(index, key, metadata.get("nth"))]
        case {"indexes": list(indexes), "keys": list(keys)}:
            return list(zip(indexes, keys, metadata.get("nths") or [None] * len(keys), strict=True))
    return []


def _ordered(plain: Any) -> Any:
    """A plain value whose sets stand in one order."""
    if isinstance(plain, list):
        return [_ordered(part) for part in plain]
    if not isinstance(plain, dict):
        return plain
    ordered = {name: _ordered(part) for name, part in plain.items()}
    for tag in ("$set", "$frozenset"):
        if tag in ordered and len(ordered) == 1:
            ordered[tag] = sorted(ordered[tag], key=encode)
    return ordered


_short: Final = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = _MOST_CHARACTERS
