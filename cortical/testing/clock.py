"""A clock that stands still until it is told to go on."""

from __future__ import annotations

from cortical.core.errors import InvalidInput


class FakeClock:
    """Tells the time that stands in `now`, in seconds since the epoch; 2026-01-01 at noon UTC to begin with.

    `advance` lets it go on; setting `now` lets it jump, back too, as a real clock may: that takes no time.
    """

    def __init__(self, now: float = 1767268800.0) -> None:
        self.now = now
        self._passed = 0.0

    def time(self) -> float:
        """Seconds since the epoch."""
        return self.now

    def monotonic(self) -> float:
        """How many seconds it has gone on."""
        return self._passed

    def advance(self, seconds: float) -> None:
        """Go on by so many seconds.

        Raises:
            InvalidInput: they are negative.
        """
        if seconds < 0:
            raise InvalidInput(f"time does not go on by {seconds} s; set `now` to let the clock jump back")
        self.now += seconds
        self._passed += seconds
