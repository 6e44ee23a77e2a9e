"""Values and events as JSON, and back."""

from __future__ import annotations

import math
import sqlite3
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pytest
from hypothesis import given, strategies as st

from cortical.core.codec import Unregistered, decode, decode_events, encode, encode_events, register
from cortical.core.errors import EncodeError, InvalidInput, StoreDamaged
from cortical.core.events import Changed, Ended, Event, Moved, Noted, Started
from cortical.core.outcome import Failed, Ok
from cortical.core.status import TerminationReason
from cortical.testing.store_contract import every_event


@register
class Colour(Enum):
    """An enum that was registered."""

    RED = ("r", 1)


@register
@attrs.frozen
class Point:
    """An attrs class that was registered."""

    x: int
    _label: tuple[str, ...] = ()
    size: int = attrs.field(init=False, default=3)


@register
@attrs.frozen(cache_hash=True)
class Hashed:
    """An attrs class whose instances remember their hash."""

    x: int


@register
@attrs.define
class Unset:
    """An attrs class with a field that nobody sets."""

    x: int = attrs.field(init=False)


class OwnPath(type(Path())):  # type: ignore[misc]
    """A path of a class of somebody's own."""


class OwnZone(ZoneInfo):
    """A zone of a class of somebody's own."""


class Unknown(Enum):
    """An enum that was not."""

    A = 1


EXACT: list[Any] = [
    None,
    True,
    0,
    -(2**63),
    2**64 - 1,
    2**64,
    -(10**40),
    1.5,
    -0.0,
    math.inf,
    -math.inf,
    "",
    "é\u2028\0",
    "\udc80lone",
    b"\x00\xff",
    (),
    (1, (2,)),
    [1, [2]],
    {"a": {"b": [None]}},
    {1: "a", (2, 3): "b", None: "c"},
    {"\udc80": 1, "é": 2},
    {"$tuple": [1]},
    {"$": {"$set": 1}},
    {"$a": 1, "b": 2},
    {1, "a"},
    frozenset({(1, 2)}),
    datetime(2026, 1, 2, 3, 4, 5, 678901),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2)), fold=1),
    date(2026, 1, 2),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1), "CET")),
    time(3, 4, 5, fold=1),
    time(3, 4, 5, tzinfo=ZoneInfo("Europe/Paris")),
    timedelta(days=-1, microseconds=1),
    Decimal("1.10"),
    UUID(int=7),
    1 + 2j,
    Path("/tmp/é"),
    PurePosixPath("a/b"),
    Colour.RED,
    Point(1, ("a",)),
    {Hashed(1): {Hashed(2)}},
]


@pytest.mark.parametrize("value", EXACT, ids=lambda value: type(value).__name__)
def test_values_come_back(value: Any) -> None:
    """A value comes back equal and of the same type, alone and inside others."""
    for whole in (value, [value], {"k": value}, (value, value)):
        back = decode(encode(whole))
        assert back == whole
        assert repr(back) == repr(whole)


def test_nan_stays_nan() -> None:
    """Not-a-number is kept as itself, also deep inside."""
    assert math.isnan(decode(encode({"a": [math.nan]}))["a"][0])


def test_very_large_integers() -> None:
    """An integer of thousands of digits, which Python will not write in decimal, comes back exactly."""
    for number in (7**9000, -(7**9000)):
        assert decode(encode([number])) == [number]


def test_what_is_written_is_json() -> None:
    """The text is JSON that other programs can read; plain values are written as they are."""
    assert msgspec.json.decode(encode({"a": [1, 2.5, "x", None]})) == {"a": [1, 2.5, "x", None]}
    assert encode((1,)) == b'{"$tuple":[1]}'


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_any_plain_value_comes_back(value: Any) -> None:
    """Whatever is built of plain values comes back the same."""
    assert decode(encode(value)) == value
    assert repr(decode(encode(value))) == repr(value)


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append({"again": cycle})
    return cycle


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"conn": sqlite3.connect(":memory:")},
            r"result\['conn'\]: sqlite3.Connection cannot be kept; record plain values",
        ),
        ([1, lambda: 0], r"result\[1\]: function cannot be kept"),
        ({"a": [{"b": object()}]}, r"result\['a'\]\[0\]\['b'\]: object cannot be kept"),
        ((object(),), r"an item of result: object"),
        ({(1, Unknown.A): 1}, r"an item of a key of result: .*Unknown cannot be kept"),
        (_cycle(), r"nested over 100 deep, or a cycle"),
        (type("Text", (str,), {})("a"), "Text cannot be kept"),
        (OwnPath("a"), "OwnPath cannot be kept"),
        ({"p": Unset()}, r"result\['p'\].x: this field has not been set"),
        ([time(1, tzinfo=OwnZone("Europe/Paris"))], r"result\[0\]: its time zone, .*OwnZone, cannot be kept"),
        ({10**5000: object()}, r"result\[<a int that cannot be shown: ValueError>\]: object cannot be kept"),
    ],
)
def test_what_cannot_be_kept_is_named(value: Any, message: str) -> None:
    """A value that has no form in JSON is refused, with the spot where it stands."""
    with pytest.raises(EncodeError, match=message):
        encode(value, "result")


def test_large_values_are_kept() -> None:
    """Ten megabytes of text come back whole."""
    text = "x" * 10_000_000
    assert decode(encode({"log": text})) == {"log": text}


def test_registering() -> None:
    """Only enums and attrs classes can be registered, each name for one class, the same one as often as one likes."""
    assert register(Colour) is Colour
    with pytest.raises(InvalidInput, match="neither an enum nor an attrs class"):
        register(dict)
    with pytest.raises(InvalidInput, match="cannot be made of its fields"):
        register(attrs.define(type("Spilt", (Exception,), {})))
    with pytest.raises(InvalidInput, match="choose another"):
        register(Unknown, f"{__name__}.Colour")


def test_unknown_tags_are_told() -> None:
    """A value written by a newer version is not read as something else."""
    with pytest.raises(StoreDamaged, match=r"tagged '\$new'.*newer version"):
        decode('{"$new": 1}')


@pytest.mark.parametrize(
    "text", [b'{"$enum":["nobody.Nothing",{"$tuple":[1]}]}', b'{"$attrs":["nobody.Point",{"x":1}]}']
)
def test_types_registered_elsewhere(text: bytes) -> None:
    """A value whose type only another process knows can be looked at, and is kept again as it was."""
    value = decode(text)
    assert isinstance(value, Unregistered)
    assert value.name.startswith("nobody.")
    assert value.content in ((1,), {"x": 1})
    assert encode([value]) == b"[" + text + b"]"


def test_events_come_back() -> None:
    """Every kind of event comes back equal."""
    events = every_event()
    kept, body = encode_events(events)
    assert decode_events(body) == list(kept) == events


def test_kept_values_are_copies() -> None:
    """What is folded after encoding cannot be changed by whoever gave it."""
    given_value: dict[str, Any] = {"a": [1]}
    events: list[Event] = [
        Noted("r", 1, 1.0, "answer", given_value),
        Changed("r", 2, 1.0, {"k": given_value}),
        Ended("r", 3, 1.0, Ok(given_value), TerminationReason.SUCCESS),
        Started("r", 4, 1.0, "loop", "g", None, None, given_value),
    ]
    kept, body = encode_events(events)
    given_value["a"].append(2)
    assert [event.seq for event in kept] == [1, 2, 3, 4]
    assert kept == decode_events(body)
    noted = kept[0]
    assert isinstance(noted, Noted)
    assert noted.value == {"a": [1]}


def test_a_move_is_small() -> None:
    """A step costs well under a hundred bytes."""
    _, body = encode_events([Moved("0ae48ca4f1e2d3c4b5a6", 5, 1763654400.123456, "answer")])
    assert len(body) < 80


@pytest.mark.parametrize(
    "body", [b"", b"[", b'[["moved/9","r",1,1.0,"a",""]]', b"\xff", b'[{"a":1}]', b'[["moved/1","r","x"]]']
)
def test_unreadable_records_are_told(body: bytes) -> None:
    """A record that is torn, foreign or newer is refused with a sentence, never skipped."""
    with pytest.raises(StoreDamaged, match="cannot be read"):
        decode_events(body)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b'{"$float":[]}', b'{"$bytes":"%%%"}', "\udc80"])
def test_unreadable_values_are_told(text: bytes | str) -> None:
    """A text that is no value is damage, whatever reading it would raise."""
    with pytest.raises(StoreDamaged, match=r"cannot be read|is nested too deep"):
        decode(text)


def test_records_nested_too_deep_are_told() -> None:
    """A record nested deeper than any that was written is damage."""
    with pytest.raises(StoreDamaged, match="cannot be read"):
        decode_events(b'[["noted/1","r",1,1.0,"note",' + b"[" * 100_000)


def test_lone_surrogates_in_names_are_refused() -> None:
    """A name that cannot be written as UTF-8 is refused by a durable store."""
    with pytest.raises(EncodeError, match="lone surrogate"):
        encode_events([Started("r", 1, 1.0, "loop", "\udc80")])


def _doubled(value: int) -> int:
    return value * 2


@register
@attrs.define
class Measured:
    """A class that converts what it is given, and computes more."""

    size: int = attrs.field(converter=_doubled)
    calls: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.calls += 1


def test_registered_classes_come_back_as_they_were() -> None:
    """Nothing is converted, checked or computed again when a value is read."""
    value = Measured(3)
    value.calls = 7
    back = decode(encode(value))
    assert (back.size, back.calls) == (6, 7)
    assert back == value


@pytest.mark.parametrize(
    "text", [f'{{"$enum":["{__name__}.Colour","blue"]}}', f'{{"$attrs":["{__name__}.Point",{{"z":1}}]}}']
)
def test_classes_that_have_changed(text: str) -> None:
    """A value of a class that is no longer what it was can be looked at, and does not keep its tree from being read."""
    value = decode(text)
    assert isinstance(value, Unregistered)
    assert encode(value).decode() == text


@pytest.mark.parametrize("tag", ["$decimal", "$datetime", "$uuid", "$dict"])
def test_values_that_are_damaged(tag: str) -> None:
    """A tagged value that cannot be read is damage, whatever its type would raise."""
    body = f'[["noted/1","r",1,1.0,"note",{{"{tag}":"%"}}]]'.encode()
    with pytest.raises(StoreDamaged, match="cannot be read"):
        decode_events(body)


def test_failures_with_names_that_are_no_text() -> None:
    """An error that names a file with a name that is not UTF-8 can be kept."""
    failed = Failed.of(OSError(2, "gone", "\udc80.txt"))
    assert "udc80" in failed.error.message
    encode_events([Ended("r", 1, 1.0, failed, TerminationReason.ERROR)])
