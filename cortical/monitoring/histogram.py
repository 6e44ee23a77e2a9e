"""Many durations in little room: counts in buckets whose bounds grow by a constant factor."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

#: The most by which a quantile is off, relative to the true one.
ERROR: Final = 0.02

_GROWTH: Final = (1 + ERROR) / (1 - ERROR)
_LOG_GROWTH: Final = math.log(_GROWTH)
#: Seconds: what is shorter counts as nothing, what is longer as this.
_LEAST: Final = 1e-6
_MOST: Final = 1e9
_NOTHING: Final = -1_000_000


class Histogram:
    """Seconds of something that happened often: `count`, `total` and `most` are exact, quantiles within 2 %.

    Values from a microsecond to thirty years take 865 buckets at most, and those that are empty take no room.
    """

    __slots__ = ("_buckets", "count", "most", "total")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.total = 0.0
        self.most = 0.0

    def add(self, seconds: float) -> None:
        """Count one; what is no finite number is left out, what is below nothing counts as nothing."""
        add_to((self,), seconds)

    def _add(self, seconds: float, bucket: int) -> None:
        self.count += 1
        self.total += seconds
        if seconds > self.most:
            self.most = seconds
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    @property
    def mean(self) -> float | None:
        """None when there are none."""
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The least value that so large a share (0 to 1) of all does not exceed; None when there are none."""
        if not self.count:
            return None
        rank = max(1, math.ceil(share * self.count))
        passed = 0
        for bucket in sorted(self._buckets):
            passed += self._buckets[bucket]
            if passed >= rank:
                break
        middle = 0.0 if bucket == _NOTHING else 2 * _GROWTH**bucket / (1 + _GROWTH)
        return min(middle, self.most)

    def snapshot(self) -> dict[str, float | None]:
        """`count`, `total`, `mean`, `p50`, `p95` and `max`; of none, the last four are None."""
        return {
            "count": self.count,
            "total": self.total,
            "mean": self.mean,
            "p50": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "max": self.most if self.count else None,
        }


def add_to(histograms: Iterable[Histogram], seconds: float) -> None:
    """Count one in each of several, as `Histogram.add` does."""
    if not math.isfinite(seconds):
        return
    seconds = max(0.0, seconds)
    bucket = _NOTHING if seconds < _LEAST else math.ceil(math.log(min(seconds, _MOST)) / _LOG_GROWTH)
    for histogram in histograms:
        histogram._add(seconds, bucket)
