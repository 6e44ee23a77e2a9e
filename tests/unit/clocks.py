"""Clocks for tests."""

from __future__ import annotations

from cortical.testing import FakeClock


class WatchedClock(FakeClock):
    """Stands still, and counts how often it is looked at."""

    looks = 0

    def time(self) -> float:
        """The time."""
        self.looks += 1
        return super().time()

    def monotonic(self) -> float:
        """The seconds."""
        self.looks += 1
        return super().monotonic()
