"""No more than so many calls a second, evenly spread, whichever threads make them."""

from __future__ import annotations

import threading

from cortical.core.checks import shown
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.ports import Clock, seconds_on


def require_rate(per_second: object) -> float:
    """`per_second`, if so many calls a second can be made.

    Raises:
        WrongType, InvalidInput: it is no number above 0.
    """
    if isinstance(per_second, bool) or not isinstance(per_second, int | float):
        raise WrongType(f"rate_limit is a number of items a second, not {shown(per_second)}")
    if not 0 < per_second < float("inf"):
        raise InvalidInput(f"rate_limit is more than 0 items a second, not {shown(per_second)}")
    return per_second


class RateLimit:
    """Gives out moments at which a call may be made, at least `1 / per_second` apart.

    Raises:
        WrongType, InvalidInput: `per_second` is no number above 0.
    """

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._apart = 1 / require_rate(per_second)
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
