"""What is asked of arguments at the door: one wording for each, whoever asks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from attrs import field, frozen

from cortical.core.checks import (
    checked,
    require_count,
    require_flag,
    require_instance,
    require_number,
    require_seconds,
    require_tolerance,
    require_values,
)
from cortical.core.errors import InvalidInput, WrongType


@frozen
class Given:
    """A record whose fields are checked."""

    count: int = field(default=2, validator=checked(require_count, of="a Given", least=2))
    share: float | None = field(default=None, validator=checked(require_number, or_none=True, most=1))


@pytest.mark.parametrize(
    ("check", "error", "told"),
    [
        (lambda: require_number(True, "it"), WrongType, "it is a number, not True"),
        (lambda: require_number("1", "it"), WrongType, "it is a number, not '1'"),
        (lambda: require_number(math.nan, "it"), InvalidInput, "it is 0 or more, not nan"),
        (lambda: require_number(0, "it", above=0, most=1), InvalidInput, "it is more than 0, and 1 at most, not 0"),
        (lambda: require_number(1.5, "it", most=1), InvalidInput, "it is 0 or more, and 1 at most, not 1.5"),
        (lambda: require_number(math.inf, "it", finite=True), InvalidInput, "it is 0 or more, and finite, not inf"),
        (lambda: require_seconds(True, "it"), WrongType, "it is a number of seconds, not True"),
        (lambda: require_seconds(0, "it", above_zero=True), InvalidInput, "it is more than 0 seconds"),
        (lambda: require_seconds(1e9, "it"), InvalidInput, "between nothing and a year"),
        (lambda: require_tolerance(True, "it"), WrongType, "it is a whole number or a share, not True"),
        (lambda: require_tolerance(-1, "it"), InvalidInput, "a share from 0.0 to 1.0, not -1"),
        (lambda: require_tolerance(1.1, "it"), InvalidInput, "a share from 0.0 to 1.0, not 1.1"),
        (lambda: require_flag(1, "it"), WrongType, "it is True or False, not 1"),
        (lambda: require_values({1: 2}, "it"), WrongType, "it is values by name, not {1: 2}"),
        (lambda: require_values([("a", 1)], "it"), WrongType, "it is values by name"),
        (lambda: require_instance(3, ArithmeticError, "it"), WrongType, "it is an ArithmeticError, not 3"),
        (lambda: require_instance(3, Given, "it", or_none=True), WrongType, "it is a Given, or None, not 3"),
        (lambda: Given(1), InvalidInput, "count of a Given is 2 or more, not 1"),
        (lambda: Given(True), WrongType, "count of a Given is a whole number, not True"),
        (lambda: Given(share=2), InvalidInput, "share is 0 or more, and 1 at most, not 2"),
    ],
)
def test_what_is_refused_is_told_by_its_name(check: Callable[[], object], error: type[Exception], told: str) -> None:
    """The message says what is wanted and what was given; True and False are no numbers."""
    with pytest.raises(error) as raised:
        check()
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (require_number, math.inf),
        (require_seconds, 0),
        (require_tolerance, 3),
        (require_tolerance, 1.0),
        (require_flag, False),
        (require_values, {"a": None}),
    ],
)
def test_what_is_well_comes_back(check: Callable[[Any, str], object], value: object) -> None:
    """A value that passes is returned as it was given."""
    assert check(value, "it") is value
    assert require_instance(None, Given, "it", or_none=True) is None
    assert Given(2, None) == Given(2)
