"""The commands that change loops: `break`, `pause` and `unpause`. They print nothing; what was done is told."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING

from cortical.cli.options import By, Id, Reason, StorePlace
from cortical.cli.session import opened, say
from cortical.engine.callers import this_process

if TYPE_CHECKING:
    from cortical.core.events import Event


def break_loop(id: Id, reason: Reason, by: By = "", store: StorePlace = None) -> None:
    """End a loop and all that is open below it. A parent that waited for it goes on."""
    from cortical.core.events import Ended, Resumed

    with opened(store) as executor:
        loop_id = executor.journal.resolve(id)
        told: list[Event] = []
        executor.journal.subscribe(told.append)
        executor.break_loop(loop_id, reason, by=by or _this_user())
    below = sum(isinstance(event, Ended) for event in told) - 1
    say(f"broken: {loop_id}" + (f", and {below} open below it" if below else ""))
    for event in told:
        if isinstance(event, Resumed):
            say(f"active again: {event.run_id}")


def _this_user() -> str:
    """Who sits at the terminal, and where."""
    try:
        return f"{getpass.getuser()} on {socket.gethostname()}"
    except (KeyError, OSError):  # a user without a name, as in some containers
        return this_process()


def pause(id: Id, reason: Reason, store: StorePlace = None) -> None:
    """Pause an active loop until it is unpaused."""
    with opened(store) as executor:
        loop_id = executor.journal.resolve(id)
        executor.pause(loop_id, reason)
    say(f"paused: {loop_id}")


def unpause(id: Id, store: StorePlace = None) -> None:
    """Make a loop active again that was paused by hand, or blocked."""
    with opened(store) as executor:
        loop_id = executor.journal.resolve(id)
        executor.resume(loop_id)
    say(f"active again: {loop_id}")
