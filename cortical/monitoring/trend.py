"""Whether a duration is outside its own trend: a robust z-score over the latest ones."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

#: How many of the latest values make the trend, and how many there have to be.
WINDOW: Final = 64
LEAST: Final = 10
#: From this score on a value is outside.
OUTSIDE: Final = 3.5

#: Makes the median of absolute deviations comparable to a standard deviation.
_SCALE: Final = 0.6745
#: The least deviation that counts, as a share of the median and in seconds: steady work is not measured by the tick.
_LEAST_SHARE: Final = 0.05
_LEAST_SECONDS: Final = 0.001
#: A trend that is a few values old is as good, and costs less.
_RECKONED_EVERY: Final = 8


class Trend:
    """The latest values, `WINDOW` at most."""

    __slots__ = ("_deviation", "_median", "_since", "_values")

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=WINDOW)
        self._median: float | None = None
        self._deviation = 0.0
        self._since = _RECKONED_EVERY

    @property
    def median(self) -> float | None:
        """As it was reckoned last; None until there were `LEAST`."""
        return self._median

    def score(self, value: float) -> float | None:
        """How far outside the values so far this one is, and take it in; None until there are `LEAST` before it."""
        if self._since >= _RECKONED_EVERY and len(self._values) >= LEAST:
            self._reckon()
        self._since += 1
        self._values.append(value)
        return None if self._median is None else _SCALE * (value - self._median) / self._deviation

    def _reckon(self) -> None:
        middle = self._median = median(self._values)
        deviation = median(abs(one - middle) for one in self._values)
        self._deviation = max(deviation, _LEAST_SHARE * middle, _LEAST_SECONDS)
        self._since = 0
