"""Values and events as JSON, and back without loss.

What JSON lacks is written as an object with one key that begins with a dollar sign::

    {"$tuple": [1, 2]}   {"$set": […]}   {"$datetime": "…"}   {"$float": "nan"}   {"$enum": ["name", value]}

and an object of the user's that looks like one of these is itself wrapped (``{"$dict": [[key, value], …]}``),
as is one with keys that are not text. Types of the user's own (enums, attrs classes) are taken
after `register`. Nothing is ever pickled. msgspec writes and reads the JSON.

Longer than other modules: what is written as what, and read back from it, stands side by side.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any, Final
from uuid import UUID

import msgspec
from attrs import frozen
from msgspec.structs import replace

from cortical.core import zones
from cortical.core.checks import shown
from cortical.core.errors import EncodeError, InvalidInput, StoreDamaged
from cortical.core.events import Changed, Checkpointed, Ended, Event, Noted, Started
from cortical.core.outcome import Ok, type_name

_MOST_NESTED: Final = 100
_TOO_DEEP: Final = "nested too deep for the stack it is recorded from"
_SMALL_INTS: Final = range(-(2**63), 2**64)
_ATOMS: Final = frozenset({str, int, bool, type(None)})

#: Stands in JSON text where something is tagged, and nowhere else: inside a text, the quote would be escaped.
_TAGGED: Final = b'{"$'

_encode: Final = msgspec.json.Encoder().encode
_decode_events: Final = msgspec.json.Decoder(list[Event]).decode
_decode_any: Final = msgspec.json.Decoder().decode

_registered: dict[str, type] = {}
_names: dict[type, str] = {}

#: Where attrs keeps the hash of an instance, for classes that ask it to.
_HASH: Final = "_attrs_cached_hash"


@frozen
class Unregistered:
    """A value of a type that is registered elsewhere, but not in this process: its name, and what it is made of.

    It is kept again as what it was.
    """

    tag: str
    name: str
    content: Any


def register(cls: type, name: str | None = None) -> type:
    """Let values of an enum or attrs class be kept, under `name` (its qualified name by default).

    Register the class in every process that works with such values, before the store is read; one that only looks at
    the tree finds `Unregistered` in their place. Usable as a decorator.

    Raises:
        InvalidInput: it is neither an enum nor an attrs class, cannot be made of its fields (as exceptions cannot), or
            the name is another class's.
    """
    name = name or f"{cls.__module__}.{cls.__qualname__}"
    if not (isinstance(cls, type) and (issubclass(cls, Enum) or hasattr(cls, "__attrs_attrs__"))):
        raise InvalidInput(f"{cls!r} is neither an enum nor an attrs class; only these can be registered")
    if not issubclass(cls, Enum):
        _require_makeable(cls)
    if _registered.get(name, cls) is not cls:
        raise InvalidInput(f"the name {name!r} is registered for {_registered[name]!r}; choose another")
    _registered[name] = cls
    _names[cls] = name
    return cls


def encode(value: object, spot: str = "value") -> bytes:
    """`value` as JSON text.

    Raises:
        EncodeError: a part of it cannot be kept; the message names the part, beginning at `spot`.
    """
    try:
        return _encode(to_plain(value, spot))
    except RecursionError:
        raise EncodeError(spot, _TOO_DEEP) from None


def decode(text: bytes | str) -> Any:
    """The value that `encode` was given.

    Raises:
        StoreDamaged: the text is not what `encode` writes, or of a version that this one does not know.
    """
    try:
        return from_plain(_decode_any(text))
    except StoreDamaged:
        raise
    except Exception as error:  # whatever reading a damaged value may raise
        raise _unreadable(error) from error


def encode_events(events: Sequence[Event]) -> tuple[Sequence[Event], bytes]:
    """The events as they will be read again, and as JSON text.

    The first differ from `events` only in values that could still be changed from outside: these are
    copies, so that a tree folded from them cannot come to differ from its log.

    Raises:
        EncodeError: an event holds a value that cannot be kept.
    """
    try:
        plain = [_HOLDERS[type(event)](event, to_plain) if type(event) in _HOLDERS else event for event in events]
        body = _encode(plain)
        if _TAGGED not in body:
            return plain, body
        kept = [_HOLDERS[type(event)](event, _restored) if type(event) in _HOLDERS else event for event in plain]
        return kept, body
    except UnicodeEncodeError as error:
        raise EncodeError(f"the text {shown(error.object)}", "a lone surrogate in a name, key or reason") from None
    except RecursionError:
        raise EncodeError("value", _TOO_DEEP) from None


def decode_events(body: bytes) -> list[Event]:
    """The events that `encode_events` was given.

    Raises:
        StoreDamaged: the text is not such a log, or of a version that this one does not know.
    """
    try:
        events = _decode_events(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreDamaged(
            f"a record cannot be read ({error}); the file is damaged, or a newer version wrote it"
        ) from error
    if _TAGGED not in body:
        return events
    try:
        return [_HOLDERS[type(event)](event, _restored) if type(event) in _HOLDERS else event for event in events]
    except StoreDamaged:
        raise
    except Exception as error:  # whatever reading a damaged value may raise
        raise _unreadable(error) from error


def to_plain(value: Any, spot: str = "value") -> Any:
    """`value` made of nothing but what JSON has, as a copy."""
    try:
        return _plain(value, 0)
    except _Unkeepable as error:
        for before, after in reversed(error.inside):
            spot = f"{before}{spot}{after}"
        raise EncodeError(_shortened(spot), error.problem) from None


def from_plain(value: Any) -> Any:
    """What `to_plain` was given, as a copy."""
    kind = type(value)
    if kind is dict:
        if len(value) == 1:
            (tag,) = value
            if tag.startswith("$"):
                return _revive(tag, value[tag])
        return {key: item if type(item) in _ATOMS else from_plain(item) for key, item in value.items()}
    if kind is list:
        return [item if type(item) in _ATOMS else from_plain(item) for item in value]
    return value


def _unreadable(error: Exception) -> StoreDamaged:
    if isinstance(error, RecursionError):
        return StoreDamaged("a value is nested too deep for the stack it is read from, or the file is damaged")
    return StoreDamaged(f"a value cannot be read ({type(error).__name__}: {error}); the file is damaged")


def _restored(value: Any, spot: str) -> Any:
    return from_plain(value)


class _Unkeepable(Exception):
    """A value cannot be kept; `inside` says in what it stands, the innermost first, as texts around that."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        self.inside: list[tuple[str, str]] = []


def _plain(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _text(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if value in _SMALL_INTS else {"$int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if depth > _MOST_NESTED:
        raise _Unkeepable(f"nested over {_MOST_NESTED} deep, or a cycle")
    if kind is dict:
        return _plain_dict(value, depth)
    if kind is list:
        return _plain_list(value, depth)
    if kind in _WRITERS:
        tag, write = _WRITERS[kind]
        return {tag: write(value, depth + 1)}
    return _plain_object(value, kind, depth)


def _plain_object(value: Any, kind: Any, depth: int) -> dict[str, Any]:
    if kind is datetime or kind is time:
        return _moment(value)
    if kind in _names and isinstance(value, Enum):
        return {"$enum": [_names[kind], _plain(value.value, depth + 1)]}
    if kind in _names:
        return {"$attrs": [_names[kind], _plain_fields(value, kind, depth)]}
    if kind is Unregistered:
        return {value.tag: [value.name, _plain_part(value.content, depth, "", ".content")]}
    raise _Unkeepable(f"{type_name(kind)} cannot be kept")


def _plain_fields(value: Any, kind: Any, depth: int) -> dict[str, Any]:
    fields = {}
    for field in kind.__attrs_attrs__:
        after = f".{field.name}"
        try:
            own = getattr(value, field.name)
        except AttributeError:
            unset = _Unkeepable("this field has not been set, so it cannot be kept")
            unset.inside.append(("", after))
            raise unset from None
        fields[field.name] = _plain_part(own, depth, "", after)
    return fields


def _plain_dict(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    key: Any = ""
    try:
        for key, item in value.items():
            if type(key) is not str or not (key.isascii() or _text(key) is key):
                break
            kind = type(item)
            made[key] = item if kind is bool or (kind is str and item.isascii()) else _plain(item, depth + 1)
        else:
            if len(made) != 1 or not key.startswith("$"):
                return made
    except _Unkeepable as error:
        error.inside.append(("", f"[{key!r}]"))
        raise
    return _plain_pairs(value, depth)


def _plain_pairs(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    return {
        "$dict": [
            [_plain_part(key, depth, "a key of ", ""), _plain_part(item, depth, "", f"[{shown(key)}]")]
            for key, item in value.items()
        ]
    }


def _plain_list(value: list[Any], depth: int) -> list[Any]:
    made: list[Any] = []
    try:
        for item in value:
            made.append(_plain(item, depth + 1))  # noqa: PERF401  # how many there are says which one failed
    except _Unkeepable as error:
        error.inside.append(("", f"[{len(made)}]"))
        raise
    return made


def _plain_part(value: Any, depth: int, before: str, after: str) -> Any:
    """A part of a value at this depth; `before` and `after` say, around the words for that, what the part is of it."""
    try:
        return _plain(value, depth + 1)
    except _Unkeepable as error:
        error.inside.append((before, after))
        raise


def _text(value: str) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:  # lone surrogates, as os.listdir gives for names that are not UTF-8
        return {"$text": b64encode(value.encode("utf-8", "surrogatepass")).decode()}
    return value


def _items(value: Any, depth: int) -> list[Any]:
    return [_plain_part(item, depth - 1, "an item of ", "") for item in value]


def _moment(value: Any) -> dict[str, Any]:
    try:
        zone = zones.name_of(value.tzinfo)
    except zones.ZoneUnknown as unknown:
        raise _Unkeepable(str(unknown)) from None
    tag = "$datetime" if type(value) is datetime else "$time"
    if zone is None:
        return {tag: [value.isoformat(), value.fold]}
    return {"$zoned": [_text(zone), {tag: [zones.without_zone(value).isoformat(), value.fold]}]}


def _in_zone(name: Any, moment: Any) -> Any:
    try:
        return zones.in_zone(moment, name)
    except (ValueError, OSError):  # this machine does not know it
        return Unregistered("$zoned", name, moment)


def _shortened(spot: str) -> str:
    return spot if len(spot) <= 200 else f"{spot[:100]} … {spot[-90:]}"


_Write = Callable[[Any, int], Any]

_WRITERS: Final[dict[type, tuple[str, _Write]]] = {
    tuple: ("$tuple", _items),
    set: ("$set", _items),
    frozenset: ("$frozenset", _items),
    bytes: ("$bytes", lambda value, depth: b64encode(value).decode()),
    date: ("$date", lambda value, depth: value.isoformat()),
    timedelta: ("$timedelta", lambda value, depth: [value.days, value.seconds, value.microseconds]),
    Decimal: ("$decimal", lambda value, depth: str(value)),
    UUID: ("$uuid", lambda value, depth: str(value)),
    complex: ("$complex", lambda value, depth: [repr(value.real), repr(value.imag)]),
    type(Path()): ("$path", lambda value, depth: _text(str(value))),
    PurePosixPath: ("$purepath", lambda value, depth: _text(str(value))),
}

_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "$int": lambda value: int(value, 16),
    "$float": float,
    "$text": lambda value: b64decode(value, validate=True).decode("utf-8", "surrogatepass"),
    "$tuple": lambda value: tuple(from_plain(value)),
    "$set": lambda value: set(from_plain(value)),
    "$frozenset": lambda value: frozenset(from_plain(value)),
    "$bytes": lambda value: b64decode(value, validate=True),
    "$datetime": lambda value: datetime.fromisoformat(value[0]).replace(fold=value[1]),
    "$date": date.fromisoformat,
    "$time": lambda value: time.fromisoformat(value[0]).replace(fold=value[1]),
    "$zoned": lambda value: _in_zone(from_plain(value[0]), from_plain(value[1])),
    "$timedelta": lambda value: timedelta(*value),
    "$decimal": Decimal,
    "$uuid": UUID,
    "$complex": lambda value: complex(float(value[0]), float(value[1])),
    "$path": lambda value: Path(from_plain(value)),
    "$purepath": lambda value: PurePosixPath(from_plain(value)),
    "$dict": lambda value: {from_plain(key): from_plain(item) for key, item in value},
    "$enum": lambda value: _made("$enum", value[0], value[1], lambda cls, content: cls(content)),
    "$attrs": lambda value: _made("$attrs", value[0], value[1], _with_fields),
}


def _revive(tag: str, value: Any) -> Any:
    reader = _READERS.get(tag)
    if reader is None:
        raise StoreDamaged(f"a value is tagged {tag!r}, which this version does not know; a newer version wrote it")
    return reader(value)


def _made(tag: str, name: str, plain: Any, make: Callable[[type, Any], Any]) -> Any:
    content = from_plain(plain)
    cls = _registered.get(name)
    if cls is None:
        return Unregistered(tag, name, content)
    try:
        return make(cls, content)
    except Exception:  # noqa: BLE001  # the class is not what it was: an enum without that member, other fields
        return Unregistered(tag, name, content)


def _with_fields(cls: type, fields: Mapping[str, Any]) -> Any:
    """An instance with these fields, as they were: nothing is converted, checked or computed a second time."""
    if {field.name for field in cls.__attrs_attrs__} != fields.keys():  # type: ignore[attr-defined]
        raise InvalidInput(f"{cls.__qualname__} has other fields now")
    made: Any = object.__new__(cls)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    if _HASH in getattr(getattr(cls.__hash__, "__code__", None), "co_names", ()):
        object.__setattr__(made, _HASH, None)
    return made


def _require_makeable(cls: type) -> None:
    try:
        object.__new__(cls)
    except TypeError as error:
        raise InvalidInput(f"{cls!r} cannot be made of its fields alone ({error}); register a plain class") from None


_Turn = Callable[[Any, str], Any]


def _turn_started(event: Started, turn: _Turn) -> Event:
    return replace(event, metadata=turn(event.metadata, "metadata")) if event.metadata else event


def _turn_noted(event: Noted, turn: _Turn) -> Event:
    value = event.value
    if type(value) in _ATOMS and type(value) is not int and (type(value) is not str or value.isascii()):
        return event
    return replace(event, value=turn(value, event.topic))


def _turn_changed(event: Changed, turn: _Turn) -> Event:
    return replace(event, set={key: turn(value, f"data[{key!r}]") for key, value in event.set.items()})


def _turn_checkpointed(event: Checkpointed, turn: _Turn) -> Event:
    return replace(event, metadata=turn(event.metadata, "metadata")) if event.metadata else event


def _turn_ended(event: Ended, turn: _Turn) -> Event:
    if type(event.outcome) is not Ok or event.outcome.value is None:
        return event
    return replace(event, outcome=Ok(turn(event.outcome.value, "result")))


#: The events that can hold a value of the user's, each with how to turn that value into another form.
_HOLDERS: Final[dict[type, Callable[[Any, _Turn], Event]]] = {
    Started: _turn_started,
    Noted: _turn_noted,
    Changed: _turn_changed,
    Checkpointed: _turn_checkpointed,
    Ended: _turn_ended,
}
