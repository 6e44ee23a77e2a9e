"""The tries to recover a run, read from its log."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from cortical.core.journal import Journal
from cortical.core.run import Run
from cortical.core.topics import RECOVERY
from cortical.recovery.lives import lives


@frozen
class Recovery:
    """One try to recover a run: when (seconds since the epoch), why, how, and what came of it.

    `reason` is why the run was to end, or ``"process died"``; `kind` the class of its error, None without one.
    `continued_as` is the run that went on in its place, where it had ended.
    """

    run_id: str
    seq: int
    at: float
    strategy: str
    success: bool
    reason: str
    kind: str | None
    actions: tuple[str, ...]
    details: str
    by_hand: bool
    continued_as: str | None


def recovery_history(journal: Journal, run_id: str) -> list[Recovery]:
    """Every try to recover a run, failed ones too, over all its lives, oldest first.

    Raises:
        RunNotFound: no run has this id.
    """
    return [recovery for run in lives(journal, run_id) for recovery in recoveries(run)]


def recoveries(run: Run) -> list[Recovery]:
    """The tries to recover this life of a run, oldest first."""
    notes = (entry for entry in run.entries or () if entry.topic == RECOVERY and isinstance(entry.value, dict))
    return [_read(run.id, note.seq, note.at, note.value) for note in notes]


def _read(run_id: str, seq: int, at: float, value: dict[str, Any]) -> Recovery:
    return Recovery(
        run_id,
        seq,
        at,
        str(value.get("strategy", "")),
        bool(value.get("success")),
        str(value.get("reason", "")),
        value.get("class"),
        tuple(value.get("actions", ())),
        str(value.get("details", "")),
        bool(value.get("by_hand")),
        value.get("continued_as"),
    )
