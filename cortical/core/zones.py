"""Time zones of moments that are kept: a name and the moment, from which the moment in its zone is had back."""

from __future__ import annotations

from datetime import UTC, datetime, time, timezone, tzinfo
from typing import TypeVar

from cortical.core.outcome import type_name

Moment = TypeVar("Moment", datetime, time)


class ZoneUnknown(ValueError):
    """A zone that has no name by which it could be found again; the message is the end of a sentence."""


def name_of(zone: tzinfo | None) -> str | None:
    """The name that has to be kept with a moment in this zone; None where its offset, if it has one, says all.

    Raises:
        ZoneUnknown: it is of a class that nobody could make again.
    """
    if zone is None or zone is UTC:
        return None
    if type(zone) is timezone:
        name = zone.tzname(None)
        return None if name == timezone(zone.utcoffset(None)).tzname(None) else name
    key = getattr(zone, "key", None)
    kind = type_name(type(zone))
    if kind == "zoneinfo.ZoneInfo" and isinstance(key, str):
        return key
    raise ZoneUnknown(f"its time zone, {kind}, cannot be kept: use zoneinfo.ZoneInfo by name, or an offset")


def without_zone(moment: Moment) -> Moment:
    """What is kept beside the name: with its offset where the name stands for one, else the time on the wall."""
    return moment if type(moment.tzinfo) is timezone else moment.replace(tzinfo=None)


def in_zone(moment: Moment, name: str) -> Moment:
    """The moment in the zone of this name, from what `without_zone` gave.

    Raises:
        ValueError, OSError: this machine does not know the zone.
    """
    offset = moment.utcoffset()
    if offset is not None:
        return moment.replace(tzinfo=timezone(offset, name))
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # few values need it

    try:
        return moment.replace(tzinfo=ZoneInfo(name))
    except ZoneInfoNotFoundError as error:
        raise ValueError(str(error)) from error
