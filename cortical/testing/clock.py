"""A clock that stands still until it is told to go on."""

from __future__ import annotations

from cortical.core.errors import InvalidInput


class FakeClock:
    """Tells the time that was set; `advance` moves it.

    The start, in seconds since the epoch, is 2026-01-01 at noon UTC by default.
    """

    def __init__(self, start: float = 1767268800.0) -> None:
        self._now = start

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Go on by so many seconds.

        Raises:
            InvalidInput: they are negative; to test a clock that jumps back, use `set`.
        """
        if seconds < 0:
            raise InvalidInput(f"time goes on by {seconds} s only if that is not negative; use set() to jump back")
        self._now += seconds

    def set(self, at: float) -> None:
        """Jump to this time, forward or back, as a real clock may."""
        self._now = at
