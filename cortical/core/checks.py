"""What is asked of arguments at the door, before anything is written."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from cortical.core.errors import InvalidInput, WrongType


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


def require_seconds(seconds: object, what: str) -> float:
    """`seconds`, if it is a time that can be waited for.

    Raises:
        WrongType: it is no number.
        InvalidInput: it is negative, no number at all, or longer than a year.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise WrongType(f"{what} is a number of seconds, not {seconds!r}")
    if not 0 <= seconds <= 366 * 86400:
        raise InvalidInput(f"{what} is a time between nothing and a year, not {seconds!r} s")
    return seconds


def require_count(value: object, what: str, least: int = 1) -> int:
    """`value`, if it is a whole number from `least` on.

    Raises:
        WrongType: it is no whole number.
        InvalidInput: it is less.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise WrongType(f"{what} is a whole number, not {value!r}")
    if value < least:
        raise InvalidInput(f"{what} is {least} or more, not {value}")
    return value


def require_callable(handler: object) -> None:
    """Refuse a handler that cannot be called.

    Raises:
        WrongType: it cannot.
    """
    if not callable(handler):
        raise WrongType(f"a handler is called with what happened; {handler!r} cannot be called")


def nearest(name: object, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """The one of the known names that `name` was most likely meant to be, as the end of a message; often nothing.

    `likeness`, up to 1, is how much alike two names have to be.
    """
    found = difflib.get_close_matches(str(name), list(known), n=1, cutoff=likeness)
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
            yield f"{what} has the key {key!r}, which means nothing{meant(key, known)}"
