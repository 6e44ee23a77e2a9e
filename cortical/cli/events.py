"""Events as a person reads them: a line each."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.text import Text

from cortical.cli.render import STYLES, cut
from cortical.cli.text import entry_text, shortened, value_text
from cortical.core.events import (
    Blocked,
    Changed,
    Checkpointed,
    Ended,
    Event,
    Moved,
    Noted,
    Paused,
    Restored,
    Resumed,
    Started,
)
from cortical.core.outcome import STATUS_OF, Failed, Ok
from cortical.core.safe_text import one_line
from cortical.core.status import TerminationReason
from cortical.core.times import local_time
from cortical.core.topics import VISIT_ENDED
from cortical.looking.plain import event_word
from cortical.store.listing import status_after

_NARROW: Final = 90
_LONGEST_WORD: Final = len("started")


def event_line(out: Console, event: Event, *, id_length: int) -> Text:
    """Time, run, event and what it holds; cut off at the terminal's edge."""
    form = "%H:%M:%S" if out.width < _NARROW else "%Y-%m-%d %H:%M:%S"
    at = local_time(event.at, form)
    after = status_after(event)
    style = STYLES[after] if after is not None and not isinstance(event, Moved) else ""
    word = event_word(event).ljust(_LONGEST_WORD)
    line = Text.assemble((at, "dim"), "  ", (one_line(event.run_id[:id_length]), "bold"), "  ", (word, style), "  ")
    return line.append(cut(event_text(event, id_length=id_length), out.width - line.cell_len))


def event_text(event: Event, *, id_length: int) -> str:
    """What an event holds, without its run, time and name."""
    match event:
        case Started():
            below = f" (below {event.parent_id[:id_length]})" if event.parent_id else ""
            return _with_reason(shortened(event.name) + below, f"at {event.place}" if event.place else "not begun")
        case Moved():
            return _with_reason(f"→ {event.place}", event.reason)
        case Noted(topic=topic, value=value):
            return "visit ended" if topic == VISIT_ENDED else f"{topic}: {shortened(entry_text(topic, value))}"
        case Changed(set=changed, removed=removed):
            now = [f"{key} = {shortened(value_text(value))}" for key, value in changed.items()]
            return ", ".join([*now, *(f"{key} removed" for key in removed)])
        case Paused() | Blocked() | Resumed():
            return shortened(event.reason)
        case Checkpointed(seq=number, label=label):
            return _with_reason(f"checkpoint {number}", label)
        case Restored(checkpoint=number, mode=mode):
            return f"checkpoint {number} restored ({mode})"
        case Ended():
            return _end_text(event)


def _end_text(event: Ended) -> str:
    status = STATUS_OF[type(event.outcome)].value
    match event.outcome:
        case Ok(value=value):
            how = status if event.reason is TerminationReason.SUCCESS else f"{status} ({event.reason.value})"
            return how if value is None else f"{how}: {shortened(value_text(value))}"
        case Failed(error=error):
            return f"{status}: {shortened(str(error))}"
        case other:
            return _with_reason(status, other.reason)


def _with_reason(text: str, reason: str) -> str:
    return f"{text} – {shortened(reason)}" if reason else text
