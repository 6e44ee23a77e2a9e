"""Values handed over the border between what is recorded and whoever works with it."""

from __future__ import annotations

import copy
from typing import Any, Final, TypeVar

T = TypeVar("T")

_ATOMS: Final = frozenset({str, int, float, bool, bytes, type(None)})


def detached(values: dict[str, Any]) -> dict[str, Any]:
    """A copy in which nothing can be changed that the original holds.

    A value that cannot be copied, which only a store in memory can hold, is shared as it is.
    """
    return {key: value if type(value) in _ATOMS else copied(value) for key, value in values.items()}


def copied(value: T) -> T:
    """A copy as `detached` makes it of each value."""
    if type(value) in _ATOMS:
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001  # whatever a user's own value may raise
        return value
