"""What is asked of arguments at the door, before anything is written."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from attrs import Attribute

from cortical.core.errors import InvalidInput, WrongType
from cortical.core.safe_text import unwritable

_HOLDING: Final = (list, tuple, dict, set, frozenset)
_MOST_SHOWN: Final = 300
_MOST_COUNTED: Final = 10**100
_MOST_NESTED: Final = 100
_MOST_VALUES: Final = 10_000_000


#: A value that holds itself, or few values many times, has a repr that never ends.
_SHORT: Final = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxother, _SHORT.maxstring = 4, 100, 100


def shown(value: object) -> str:
    """`value` as a message shows it: its repr where it has one, and not at any length."""
    try:
        text = _SHORT.repr(value) if isinstance(value, _HOLDING) else repr(value)
    except Exception as broken:  # noqa: BLE001  # a number of too many digits, or whatever a user's __repr__ may raise
        return unwritable(value, broken)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 50]} … {text[-40:]}"


T = TypeVar("T")


def require_text(value: object, what: str) -> str:
    """`value`, if it is a text that says something and can be written down.

    Raises:
        WrongType: it is no text.
        InvalidInput: it is blank, or holds a lone surrogate.
    """
    if not isinstance(value, str):
        raise WrongType(f"{what} is a text, not {type(value).__name__}")
    if not value or value.isspace():
        raise InvalidInput(f"{what} is empty; say what it is in a few words")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"{what} cannot be written as UTF-8: {error.reason} at {error.start}") from None
    return str.__str__(value)  # of a subclass only the text


def require_reason(reason: object) -> str:
    """`reason`, if it is a text; an empty one will do.

    Raises:
        WrongType, InvalidInput: it is not, or cannot be written.
    """
    return "" if reason == "" else require_text(reason, "a reason")


def require_number(
    value: object,
    what: str,
    *,
    least: float = 0,
    above: float | None = None,
    most: float | None = None,
    finite: bool = False,
) -> float:
    """`value`, if it is a number from `least` on, or more than `above`; and no more than `most`.

    Raises:
        WrongType: it is no number.
        InvalidInput: it is out of these bounds, no number at all (nan), or endless where it has to be `finite`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongType(f"{what} is a number, not {shown(value)}")
    enough = value >= least if above is None else value > above
    if not enough or (most is not None and value > most) or (finite and value == float("inf")):
        bound = f"{least:g} or more" if above is None else f"more than {above:g}"
        bound += "" if most is None else f", and {most:g} at most"
        raise InvalidInput(f"{what} is {bound}{', and finite' if finite else ''}, not {shown(value)}")
    return value


def require_seconds(seconds: object, what: str, *, above_zero: bool = False) -> float:
    """`seconds`, if it is a time that can be waited for.

    Raises:
        WrongType: it is no number.
        InvalidInput: it is negative (or 0, where it has to be above), no number at all, or longer than a year.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise WrongType(f"{what} is a number of seconds, not {shown(seconds)}")
    if not 0 <= seconds <= 366 * 86400:
        raise InvalidInput(f"{what} is a time between nothing and a year, not {shown(seconds)} s")
    if above_zero and not seconds:
        raise InvalidInput(f"{what} is more than 0 seconds; in no time nothing can be done")
    return seconds


def require_count(value: object, what: str, least: int = 1) -> int:
    """`value`, if it is a whole number from `least` on.

    Raises:
        WrongType: it is no whole number.
        InvalidInput: it is less, or more than anybody will ever count.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise WrongType(f"{what} is a whole number, not {shown(value)}")
    if value < least:
        raise InvalidInput(f"{what} is {least} or more, not {shown(value)}")
    if value > _MOST_COUNTED:
        raise InvalidInput(f"{what} is 10**100 at most, not {shown(value)}")
    return value


def require_tolerance(value: object, what: str) -> float:
    """`value`, if it says how many may fail: a whole number of them, or (a float) which share of all.

    Raises:
        WrongType: it is no number.
        InvalidInput: it is negative, or a share above 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongType(f"{what} is a whole number or a share, not {shown(value)}")
    if not (value >= 0 if isinstance(value, int) else 0 <= value <= 1):
        raise InvalidInput(f"{what} is a whole number from 0 on, or a share from 0.0 to 1.0, not {shown(value)}")
    return value


def require_flag(value: object, what: str) -> bool:
    """`value`, if it is True or False.

    Raises:
        WrongType: it is neither.
    """
    if not isinstance(value, bool):
        raise WrongType(f"{what} is True or False, not {shown(value)}")
    return value


def require_values(values: object, what: str) -> Mapping[str, Any]:
    """`values`, if they are values by name.

    Raises:
        WrongType: it is no mapping, or a name in it is no text.
    """
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise WrongType(f"{what} is values by name, not {shown(values)}")
    return values


def require_instance(value: object, kind: type[T], what: str, *, or_none: bool = False) -> T | None:
    """`value`, if it is one of `kind`, or None where that will do.

    Raises:
        WrongType: it is not.
    """
    if not isinstance(value, kind) and not (or_none and value is None):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise WrongType(f"{what} is {article} {kind.__name__}{', or None' if or_none else ''}, not {shown(value)}")
    return value


def checked(
    check: Callable[..., object], *, of: str = "", or_none: bool = False, **bounds: Any
) -> Callable[[Any, Attribute[Any], Any], None]:
    """The validator of an attrs field that has to pass a check from here, by the field's name.

    Args:
        of: whose field it is, for the message.
        or_none: whether None will do too.
        bounds: what else the check is given.
    """

    def validate(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if value is not None or not or_none:
            check(value, f"{attribute.name} of {of}" if of else attribute.name, **bounds)

    return validate


def require_callable(handler: object) -> None:
    """Refuse a handler that cannot be called.

    Raises:
        WrongType: it cannot.
    """
    if not callable(handler):
        raise WrongType(f"a handler is called with what happened; {shown(handler)} cannot be called")


def nearest(name: object, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """The one of the known names that `name` was most likely meant to be, as the end of a message; often nothing.

    `likeness`, up to 1, is how much alike two names have to be.
    """
    import difflib  # for a message only, and slow to import

    found = difflib.get_close_matches(name if isinstance(name, str) else shown(name), list(known), n=1, cutoff=likeness)
    return f"; did you mean {found[0]!r}?" if found else ""


def meant(name: object, known: Iterable[str], none: str = "none") -> str:
    """As `nearest`; where nothing is near, all that there are, or `none`."""
    known = list(known)
    return nearest(name, known) or f"; there are {', '.join(known) or none}"


def require_keys(given: Iterable[object], known: Iterable[str], what: str) -> None:
    """Refuse keys of a configuration that mean nothing.

    Raises:
        InvalidInput: `what` has a key that is not among the known ones; the message names the nearest.
    """
    for problem in unknown_keys(given, known, what):
        raise InvalidInput(problem)


def unknown_keys(given: Iterable[object], known: Iterable[str], what: str) -> Iterator[str]:
    """What is to be said of each key of `what` that means nothing."""
    known = list(known)
    for key in given:
        if key not in known:
            yield f"{what} has the key {shown(key)}, which means nothing{meant(key, known)}"


def require_finite(value: object, what: str) -> None:
    """Refuse a configuration that contains itself, or whose few values stand for too many (YAML's aliases do that).

    Looked at are lists and mappings of any kind; what else they hold counts as one value.

    Raises:
        InvalidInput: it is nested over 100 deep, or more than ten million values when written out.
    """
    count, height = _extent(value, {}, 0)
    if height > _MOST_NESTED:
        raise InvalidInput(f"{what} is nested over {_MOST_NESTED} deep, or contains itself; give it less deep")
    if count > _MOST_VALUES:
        raise InvalidInput(f"{what} is {count:.1e} values when written out; {_MOST_VALUES:,} are the most")


def _extent(value: object, known: dict[int, tuple[int, int]], depth: int) -> tuple[int, int]:
    """How many values `value` is, each counted as often as it stands there, and how deep they are nested."""
    if not isinstance(value, Mapping | list | tuple):
        return 1, 0
    if depth > _MOST_NESTED:
        return 1, 1
    found = known.get(id(value))
    if found is None:
        inner = [_extent(one, known, depth + 1) for one in (value.values() if isinstance(value, Mapping) else value)]
        found = 1 + sum(count for count, _ in inner), 1 + max((height for _, height in inner), default=0)
        known[id(value)] = found
    return found
