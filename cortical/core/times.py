"""Times of events as dates: seconds since the epoch may be more than a calendar has, and are shown all the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_FIRST: Final = datetime(1, 1, 3, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 29, tzinfo=UTC)


def to_datetime(at: float) -> datetime:
    """The moment `at` seconds after the epoch, in UTC; the first or last of the calendar for one beyond it."""
    try:
        return min(max(datetime.fromtimestamp(at, UTC), _FIRST), _LAST)
    except (ValueError, OverflowError, OSError):
        return _LAST if at > 0 else _FIRST


def local_time(at: float, form: str) -> str:
    """The same where this process runs, written as `strftime` does."""
    return to_datetime(at).astimezone().strftime(form)
