"""Values that Python programs have, also the odd ones; and whether two of them are alike."""

from __future__ import annotations

import enum
import math
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath
from typing import Any
from zoneinfo import ZoneInfo

import attrs
from hypothesis import strategies as st

from cortical.core.codec import register


@register
class Grain(enum.Enum):
    """An enum with values of several types."""

    RYE = "rye"
    OAT = ("oat", 1)
    NONE = None


@register
class Marks(enum.IntFlag):
    """Flags, which make members as they are joined."""

    BIO = 1
    FINE = 2


@register
class Word(enum.StrEnum):
    """An enum whose members are texts too."""

    YES = "$tuple"


@register
@attrs.frozen(cache_hash=True)
class Sack:
    """A class whose instances remember their hash."""

    grain: Any
    weight: Any = 0


@register
@attrs.define(slots=False)
class Cart:
    """A class that can be changed."""

    load: Any
    _sealed: bool = attrs.field(init=False, default=False)


class Unregistered(enum.Enum):
    """An enum that nobody registered."""

    A = 1


@register
@attrs.define
class Unset:
    """A class with a field that nobody sets."""

    late: int = attrs.field(init=False)


class OwnText(str):
    """A text that is more than one."""


class OwnPath(PosixPath):
    """A path that is more than one."""


class OwnZone(ZoneInfo):
    """A zone of a class of somebody's own."""


@attrs.frozen(repr=False)
class Unspeakable:
    """Something that raises when it is shown."""

    number: int = 0

    def __repr__(self) -> str:
        raise ZeroDivisionError("not to be shown")


register(Unspeakable)

ZONES = st.sampled_from(
    [
        None,
        UTC,
        timezone(timedelta(hours=2)),
        timezone(timedelta(hours=-5, minutes=-30, seconds=-1, microseconds=-7)),
        timezone(timedelta(hours=1), "CET"),
        timezone(timedelta(0), "é$"),
        ZoneInfo("Europe/Paris"),
        ZoneInfo("America/St_Johns"),
        ZoneInfo("Etc/UTC"),
    ]
)
TEXTS = st.text(st.characters(), max_size=8) | st.sampled_from(
    ["$tuple", "$", "$dict", "\udc80", "\ud83d", "\0", "\u2028", "\ufeff", "é" * 40, "null", '{"$set":[]}']
)
NUMBERS = (
    st.integers()
    | st.sampled_from([2**63, 2**64, -(2**63) - 1])
    | st.sampled_from([6000, 6001]).map(lambda power: (-7) ** power)  # too long to be shown
    | st.floats()
    | st.sampled_from([math.nan, math.inf, -0.0, 5e-324])
    | st.complex_numbers()
)
DECIMALS = st.decimals() | st.sampled_from(
    [Decimal("sNaN"), Decimal("-NaN12"), Decimal("1E+99999"), Decimal("-0E-7"), Decimal("Infinity")]
)
MOMENTS = st.one_of(
    st.datetimes(timezones=ZONES, allow_imaginary=True),
    st.datetimes(timezones=ZONES).map(lambda moment: moment.replace(fold=1)),
    st.times(timezones=ZONES),
    st.times().map(lambda moment: moment.replace(fold=1)),
    st.dates(),
    st.timedeltas(),
)
PATHS = TEXTS.map(Path) | TEXTS.map(PurePosixPath)
MEMBERS = st.sampled_from([*Grain, *Marks, Marks.BIO | Marks.FINE, Marks(0), *Word])
HASHABLE = st.one_of(
    st.none(), st.booleans(), TEXTS, st.binary(max_size=8), NUMBERS, MOMENTS, PATHS, MEMBERS, st.uuids()
)
ATOMS = HASHABLE | DECIMALS

#: Values that may stand in a set, or be a key.
KEYS: st.SearchStrategy[Any] = st.recursive(
    HASHABLE,
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3) | st.builds(Sack, inner, inner),
    max_leaves=5,
)


def holding(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values made of others."""
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(TEXTS, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=3),
        st.tuples(TEXTS.filter(lambda text: text.startswith("$")), inner).map(lambda pair: dict([pair])),
        st.sets(KEYS, max_size=4),
        st.frozensets(KEYS, max_size=4),
        st.builds(Sack, inner, inner),
        st.builds(Cart, inner),
    )


#: Values that can be kept.
VALUES: st.SearchStrategy[Any] = st.recursive(ATOMS, holding, max_leaves=20)


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append((cycle,))
    return cycle


def _deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = ([value], (value,), {"a": value}, {1: value}, Sack(value))[level % 5]
    return value


#: Makers of values that cannot be kept, each anew.
UNKEEPABLE = st.sampled_from(
    [
        object,
        lambda: print,
        lambda: Unregistered.A,
        lambda: bytearray(b"a"),
        lambda: memoryview(b"a"),
        lambda: range(3),
        lambda: iter([1]),
        lambda: OwnText("a"),
        lambda: OwnPath("a"),
        lambda: PureWindowsPath("a"),
        lambda: ValueError("a"),
        lambda: Unset(),
        lambda: type("Table", (dict,), {})(a=1),
        lambda: dict[str, int],
        lambda: ...,
        lambda: _cycle(),
        lambda: _deep(140),
        lambda: _deep(20_000),
        lambda: datetime(2026, 1, 1, tzinfo=OwnZone("Europe/Paris")),
        lambda: time(1, tzinfo=OwnZone("Europe/Paris")),
    ]
)


def alike(one: Any, other: Any) -> bool:
    """Whether two values are of one type and hold the same; NaN is itself, and -0.0 is not 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, enum.Enum):
        return one is other
    if isinstance(one, float | complex | Decimal):
        return repr(one) == repr(other)
    if isinstance(one, dict):
        return len(one) == len(other) and all(map(alike, one.items(), other.items()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and all(any(alike(item, twin) for twin in other) for item in one)
    if attrs.has(type(one)):
        return all(alike(getattr(one, name), getattr(other, name)) for name in attrs.fields_dict(type(one)))
    if hasattr(one, "tzinfo"):
        same = (one.isoformat(), one.fold, one.tzname()) == (other.isoformat(), other.fold, other.tzname())
        return same and type(one.tzinfo) is type(other.tzinfo) and bool(one == other)
    return bool(one == other)
