"""The words that loop stages add to the core's: places, a topic of notes, keys of a stage's own data."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

#: Under which a process's metadata hold its configuration.
HANDLED: Final = "stage_handler"

#: Where a stage stands while it loops, and when its loop is over.
LOOPING: Final = "loop"
LOOPED: Final = "looped"

#: A note: the configuration that a process goes on with in place of the one it was started with.
CONFIGURATION: Final = "configuration"

#: What stands in a looping stage's own data.
INITIAL_DATA: Final = "initial_data"
DECISIONS: Final = "decisions"
CARRY: Final = "carry"
#: How many iterations there are, where the initial decision said so.
COUNT: Final = "count"
GOES_ON: Final = "continue_loop"
STOP: Final = "stop"

#: What stands for a carry that was not given: the one before stays.
KEPT: Final[Any] = type("Kept", (), {"__repr__": lambda _: "KEPT"})()


def child_id(parent_id: str, number: int) -> str:
    """The id of the so-manieth (1, 2, …) child that is started below a run here.

    It follows from the parent's, so that the newest child of a thousand is found without looking at the others; and
    two processes that start the same one at the same moment cannot both succeed.
    """
    return blake2b(f"{parent_id}/{number}".encode(), digest_size=10).hexdigest()
