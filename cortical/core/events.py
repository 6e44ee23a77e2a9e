"""The facts a log is made of: past tense, frozen, and the only thing that changes a tree.

Each event belongs to one run and carries that run's own count (`seq`: 1, 2, … without gaps) and
the time in seconds since the epoch (`at`). Its tag names the kind and the version of its shape
(``moved/1``), so that a later shape can be told from this one in a log of any age.

They are msgspec structs, not attrs classes: a log makes them by the hundred thousand, and a struct
costs a tenth to create and is encoded without a copy. Those that can hold no value of the user's
are kept out of the garbage collector, which would otherwise walk all of history.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct

from cortical.core.outcome import Outcome
from cortical.core.status import TerminationReason


class Started(Struct, frozen=True, array_like=True, tag="started/1"):
    """A run entered the tree. With a place it is active there; without one it waits for its first `Moved`."""

    run_id: str
    seq: int
    at: float
    kind: str
    name: str
    parent_id: str | None = None
    place: str | None = None
    metadata: dict[str, Any] | None = None


class Moved(Struct, frozen=True, array_like=True, gc=False, tag="moved/1"):
    """A run came to a place inside itself, and left the one it stood at."""

    run_id: str
    seq: int
    at: float
    place: str
    reason: str = ""


class Noted(Struct, frozen=True, array_like=True, tag="noted/1"):
    """Something was said during a visit: a note, question, answer, decision, artifact, …"""

    run_id: str
    seq: int
    at: float
    topic: str
    value: Any = None


class Changed(Struct, frozen=True, array_like=True, tag="changed/1"):
    """Keys of the run's own data were set and removed."""

    run_id: str
    seq: int
    at: float
    set: dict[str, Any]
    removed: tuple[str, ...] = ()


class Paused(Struct, frozen=True, array_like=True, gc=False, tag="paused/1"):
    """A run was paused: for its children, which alone will resume it, or by hand."""

    run_id: str
    seq: int
    at: float
    reason: str = ""
    for_children: bool = False


class Blocked(Struct, frozen=True, array_like=True, gc=False, tag="blocked/1"):
    """A run cannot go on until something outside it happens."""

    run_id: str
    seq: int
    at: float
    reason: str = ""


class Resumed(Struct, frozen=True, array_like=True, gc=False, tag="resumed/1"):
    """A paused or blocked run became active again."""

    run_id: str
    seq: int
    at: float
    reason: str = ""


class Checkpointed(Struct, frozen=True, array_like=True, tag="checkpointed/1"):
    """A run's data, as they stood here, can be had back: the checkpoint's number is this event's `seq`."""

    run_id: str
    seq: int
    at: float
    label: str = ""
    metadata: dict[str, Any] | None = None


class Restored(Struct, frozen=True, array_like=True, gc=False, tag="restored/1"):
    """A run's data became those of a checkpoint again: all of them (replace), or beside keys set since (merge)."""

    run_id: str
    seq: int
    at: float
    checkpoint: int
    mode: Literal["replace", "merge"] = "replace"


class Ended(Struct, frozen=True, array_like=True, tag="ended/1"):
    """A run ended, once and for all."""

    run_id: str
    seq: int
    at: float
    outcome: Outcome
    reason: TerminationReason


Event: TypeAlias = Started | Moved | Noted | Changed | Paused | Blocked | Resumed | Checkpointed | Restored | Ended
