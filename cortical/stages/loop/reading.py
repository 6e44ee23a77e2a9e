"""Reads attrs classes from plain mappings, and tells everything that is wrong with them at once."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from attrs import NOTHING, Attribute, fields

from cortical.core.checks import (
    checked,
    nearest,
    require_count,
    require_flag,
    require_number,
    require_seconds,
    require_text,
    require_tolerance,
    require_values,
    shown,
    unknown_keys,
)
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.policy import Retry

T = TypeVar("T")
Validator = Callable[[Any, "Attribute[Any]", Any], None]


class ConfigInvalid(InvalidInput):
    """A configuration is of no use; `problems` says all that is wrong with it, a sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        many = "" if len(problems) == 1 else f"{len(problems)} things are wrong with the configuration:\n  "
        super().__init__(many + "\n  ".join(problems))
        self.problems = tuple(problems)


def read(cls: type[T], given: object, where: str, problems: list[str]) -> T | None:
    """What `given` describes; None, and a sentence more among the problems for each, where something is wrong."""
    if isinstance(given, cls):
        return given
    if not isinstance(given, Mapping):
        problems.append(f"{where} is a mapping, not {shown(given)}")
        return None
    before = len(problems)
    known = {attribute.name: attribute for attribute in fields(cls) if attribute.init}  # type: ignore[arg-type]
    problems.extend(unknown_keys(given, known, where))
    values = {}
    for name, attribute in known.items():
        if name in given:
            values[name] = _value(attribute, given[name], f"{where}.{name}", problems)
        elif attribute.default is NOTHING:
            problems.append(f"{where} needs {name}")
    if len(problems) > before:
        return None
    return _made(cls, values, where, problems)


def _made(cls: type[T], values: dict[str, Any], where: str, problems: list[str]) -> T | None:
    try:
        return cls(**values)
    except ConfigInvalid as invalid:  # how the values go together
        problems.extend(f"{where}: {problem}" for problem in invalid.problems)
    return None


def _value(attribute: Attribute[Any], value: Any, where: str, problems: list[str]) -> Any:
    try:
        if attribute.converter is not None:
            value = attribute.converter(value)  # type: ignore[operator]
        if attribute.validator is not None:
            attribute.validator(None, attribute, value)
    except (InvalidInput, WrongType) as error:
        problems.append(f"{where}: {error}")
    return value


# What attributes may be


#: True or False.
truth: Final = checked(require_flag)
#: A number above 0.
weight: Final = checked(require_number, above=0, finite=True)
#: A time in seconds above 0, or None.
seconds: Final = checked(require_seconds, or_none=True, above_zero=True)
#: How many (a whole number) or what share (0.0 to 1.0) of the iterations may fail, or None.
tolerance: Final = checked(require_tolerance, or_none=True)
#: Values by name.
by_name: Final = checked(require_values)


def text(_: object, attribute: Attribute[Any], value: object) -> None:
    """A text; None and an empty one are fine."""
    if value is not None and value != "":
        require_text(value, attribute.name)


def whole(least: int, *, needed: bool = False) -> Validator:
    """A whole number from `least` on; None too, unless it is needed."""
    return checked(require_count, or_none=not needed, least=least)


def one_of(*known: str) -> Validator:
    """One of these texts."""

    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        if value not in known:
            raise InvalidInput(
                f"{attribute.name} is one of {', '.join(known)}, not {shown(value)}{nearest(value, known)}"
            )

    return check


def function(_: object, attribute: Attribute[Any], value: object) -> None:
    """A function, the name of one, or None."""
    if value is not None and not callable(value):
        require_text(value, f"{attribute.name} (a function, or the name of one)")


def sequence(_: object, attribute: Attribute[Any], value: object) -> None:
    """A list or the like, or None."""
    if value is not None and (not isinstance(value, Sequence) or isinstance(value, str | bytes)):
        raise WrongType(f"{attribute.name} is a list or another sequence, not {type(value).__name__}")


def parameters(_: object, attribute: Attribute[Any], value: object) -> None:
    """Values by name, or a list of them: one for each iteration."""
    for one in value if isinstance(value, list | tuple) else [value]:
        by_name(None, attribute, one)


def as_retry(given: object) -> Retry | None:
    """A retry policy from one, or from its keys; `retry_on` may name built-in exceptions.

    Raises:
        InvalidInput, WrongType: it is none.
    """
    if given is None or isinstance(given, Retry):
        return given
    problems: list[str] = []
    if isinstance(given, Mapping) and "retry_on" in given:
        given = {**given, "retry_on": _exceptions(given["retry_on"])}
    made = read(Retry, given, "retry", problems)
    if made is None:
        raise InvalidInput("; ".join(problems))
    return made


def _exceptions(given: Any) -> Any:
    several = isinstance(given, list | tuple)
    found = tuple(_exception(one) for one in (given if several else [given]))
    return found if several else found[0]


def _exception(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    known = {name: value for name, value in vars(builtins).items() if _is_exception(value)}
    if given not in known:
        raise InvalidInput(f"retry_on names no built-in exception: {shown(given)}{nearest(given, known)}")
    return known[given]


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)
