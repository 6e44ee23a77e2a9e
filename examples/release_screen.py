"""What `release_check.py` shows while it works: all of it from the log as it is written; the work says nothing."""

from __future__ import annotations

import time
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from cortical.cli.render import STYLES, console, print_tree
from cortical.core.drawing import SIGNS, seconds_text
from cortical.core.errors import LeaseHeld
from cortical.core.events import Ended, Event, Moved, Noted, Started
from cortical.core.journal import Journal
from cortical.core.outcome import Abandoned, Failed
from cortical.core.run import Run

PHASES: Final = {
    "question": "what is looked at",
    "answer": "five checks, and a watch over what they use",
    "produce": "mending what can be mended",
    "verify": "is it so, and what does a person say?",
}
_INDENT: Final = "  "


class Screen:
    """Prints a line for each thing that a journal records and that people want to see."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._console: Console = console()
        self._waits = False
        journal.subscribe(self._told)

    def say(self, text: str, style: str = "") -> None:
        """Print a line."""
        self._console.print(Text(text, style), soft_wrap=True)

    def wait_for(self, held: LeaseHeld) -> None:
        """Say, once, that another process still counts as the driver."""
        if not self._waits:
            self.say(f"… waiting for the lease of {held.holder}", "dim")
        self._waits = True

    def tree(self, run_id: str) -> None:
        """Print the tree, three levels of it."""
        self.say("")
        print_tree(self._console, self._journal.run(run_id), time.time(), levels=2)
        self.say("")

    def _told(self, event: Event) -> None:
        run = self._journal.run(event.run_id)
        match event:
            case Started(kind="loop", parent_id=None):
                self.say(f"▶ {event.name}", "bold")
                self._phase(event.place or "", 1)
            case Moved() if run.parent is None:
                self._phase(event.place, run.visit.turn if run.visit else 1)
            case Noted(topic="decision", value=value) if run.kind == "iteration":
                self.say(f"{_INDENT * 2}⚖ {decided(value)}", "yellow")
            case Noted(topic="provided", value=value):
                self.say(f"{_INDENT}a person says: {value['value']}", "bold magenta")
            case Ended() if run.parent is not None and run.kind not in ("item", "step"):
                self._ended(run)

    def _phase(self, place: str, turn: int) -> None:
        again = f", turn {turn}" if turn > 1 else ""
        self.say(f"\n{place.upper()}{again} – {PHASES[place]}", "bold cyan")

    def _ended(self, run: Run) -> None:
        took = seconds_text((run.ended_at or 0.0) - run.started_at)
        deeper = run.kind in ("iteration", "batch")
        name = run.name if run.kind == "iteration" else f"{run.kind} {run.name}"
        line = f"{_INDENT * (2 if deeper else 1)}{SIGNS[run.status]} {name}  {took}"
        told = told_of(run)
        self.say(f"{line}  {told}" if told else line, STYLES[run.status])


def decided(value: dict[str, Any]) -> str:
    """A decision on one line."""
    what = ", ".join(f"{name} {one}" for name, one in (value.get("values") or {}).items() if one)
    return " – ".join(filter(None, [what or value.get("action"), value.get("rationale")]))


def told_of(run: Run) -> str:
    """What came of a run, in a few words."""
    match run.outcome:
        case Failed(error=error):
            return f"{error.type}: {error.message}"
        case Abandoned(reason=reason):
            return reason
    value = run.value
    if run.kind == "stage" and isinstance(value, dict) and "findings" in value:
        found = f"{counted(len(value['findings']), 'finding')}, by {value['means']}"
        return value["means"] if value.get("not_made") else found
    if run.kind == "batch":
        return f"{counted(len(run.children), 'file')}, each kept as it ended"
    if run.kind == "loop" and "memory" in (run.data or {}):
        peaks = run.data or {}
        return f"at most {peaks['memory']:.0f} MiB, {peaks['open_files']:.0f} files open, {peaks['cpu']:.1f} s of CPU"
    verdicts = run.noted("verdict")
    return str(verdicts[-1]["evidence"] or "") if verdicts else ""


def counted(number: int, what: str) -> str:
    """So many of something, in words: 1 file, 2 files."""
    return f"{number} {what}{'' if number == 1 else 's'}"
