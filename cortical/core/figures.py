"""Numbers in what was noted, where a user may have noted anything."""

from __future__ import annotations

import math


def numbers(value: object) -> dict[str, float]:
    """The numbers by name in a noted value; whatever else stands there, and what is no number at all, is left out."""
    if not isinstance(value, dict):
        return {}
    found = {str(name): as_number(used) for name, used in value.items()}
    return {name: used for name, used in found.items() if used is not None}


def as_number(value: object) -> float | None:
    """It as a float, if it is a number; None for True and False, for what is too large, and for nan."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return None if math.isnan(number) else number
