"""Questions to people, as they stand in the log: a run that asks one is blocked until it is answered.

A note on `ASKED` says what is asked: its `key`, the `question`, `until` when an answer is waited for (None: for ever)
and the `default` that is then taken, and `by` whom ("function" or "rule"). A note on `PROVIDED` is the answer: `key`,
`value`, and `by` whom ("person", or "rule" for a default).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cortical.core.run import Run
from cortical.core.status import Status
from cortical.core.topics import ASKED, PROVIDED


def question_of(run: Run) -> Mapping[str, Any] | None:
    """The question to a person that blocks a run; None when it is not blocked, or by something else."""
    if run.status is not Status.BLOCKED:
        return None
    for entry in reversed(run.entries or ()):
        if entry.topic == PROVIDED:
            return None
        if entry.topic == ASKED and isinstance(entry.value, Mapping):
            asked: Mapping[str, Any] = entry.value
            return asked if run.why.endswith(str(asked.get("question"))) else None
    return None
