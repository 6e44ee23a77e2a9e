"""No more than so many calls a second, evenly spread, whichever threads make them."""

from __future__ import annotations

import threading

from cortical.core.ports import Clock, seconds_on


class RateLimit:
    """Gives out moments at which a call may be made, at least `1 / per_second` apart."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._apart = 1 / per_second
        self._seconds = seconds_on(clock)
        self._lock = threading.Lock()
        self._next = float("-inf")

    def seconds_to_wait(self) -> float:
        """Take the next moment, and say how long it is until then."""
        now = self._seconds()
        with self._lock:
            moment = min(max(now, self._next), now + 366 * 86400)
            self._next = moment + self._apart
        return moment - now
