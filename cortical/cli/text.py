"""Times, values and texts as a person reads them, safe to print whatever they hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from cortical.core.safe_text import counted, written
from cortical.core.times import local_time
from cortical.core.topics import DECISION

_SHORTEST_ID: Final = 8
#: How many characters of a value are shown.
_LONGEST_VALUE: Final = 2000


def value_text(value: Any) -> str:
    """A recorded value: a text as it is, anything else as Python writes it."""
    return value if isinstance(value, str) else written(value)


def entry_text(topic: str, value: Any) -> str:
    """What was noted, without its topic: a decision with its rationale, any other value as it is."""
    if topic == DECISION and isinstance(value, dict) and "decision" in value:
        rationale = value.get("rationale")
        return f"{value['decision']} – {rationale}" if rationale else value_text(value["decision"])
    return value_text(value)


def shortened(text: str) -> str:
    """As much of a value as is shown to a person, and how much is left out; JSON has the whole."""
    if len(text) <= _LONGEST_VALUE:
        return text
    left_out = len(text) - _LONGEST_VALUE
    return f"{text[:_LONGEST_VALUE]}… ({counted(left_out, 'character')} left out; the whole is in --json)"


def phase_text(place: str | None, turn: int | None) -> str:
    """A phase and its turn, which is left out for the first; empty for a loop that has not started."""
    if place is None:
        return ""
    return place if turn in (None, 1) else f"{place} #{turn}"


def duration(seconds: float) -> str:
    """Seconds in the two largest units that count: ``0.4s``, ``12s``, ``3m 05s``, ``2h 10m``, ``4d 3h``."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def amount(number: float) -> str:
    """What was used or is left of something: ``9,000``, ``0.25``."""
    return f"{number:,.6f}".rstrip("0").rstrip(".")


def age(seconds: float) -> str:
    """Seconds in the largest unit that counts, for where room is scarce: ``0s``, ``12s``, ``3m``, ``2h``, ``4d``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def moment(at: float) -> str:
    """A time of events (seconds since the epoch) as local date and time."""
    return local_time(at, "%Y-%m-%d %H:%M:%S")


def id_length(ids: Iterable[str]) -> int:
    """How many characters tell these ids apart; 8 at least."""
    known = set(ids)
    length = _SHORTEST_ID
    while len({run_id[:length] for run_id in known}) < len(known):
        length += 1
    return length
