"""Questions to people: asked by a phase function or by the driver, and answered (how they stand: `core.questions`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from cortical.core import rules
from cortical.core.errors import RunStateError
from cortical.core.events import Event
from cortical.core.journal import Journal
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.core.topics import ASKED, PROVIDED

By: TypeAlias = Literal["function", "rule", "person"]


class Suspended(BaseException):
    """Leaves a phase function that waits for a person; not an Exception, so that no phase handles it by accident."""


def asking(
    question: str, *, key: str | None = None, until: float | None = None, default: Any = None, by: By = "function"
) -> tuple[str, dict[str, Any]]:
    """The note, topic and value, of a question to a person; the question itself is its key where none is given."""
    key = question if key is None else key
    return ASKED, {"key": key, "question": question, "until": until, "default": default, "by": by}


def word_of(answer: object) -> str:
    """What a person has said, without what makes no difference: case, blanks around it, and the mark it ends with."""
    return str(answer).strip().rstrip(".!").casefold()


def provide(journal: Journal, loop_id: str, key: str, value: object, *, by: By = "person") -> None:
    """Answer the question of a loop that is blocked by it; it can go on, driven by whoever drives the tree.

    Raises:
        RunNotFound: there is no such loop.
        RunStateError: it is not blocked.
    """
    journal.insist(loop_id, _answer, {"key": key, "value": value, "by": by})


def _answer(run: Run, at: float, provided: dict[str, Any]) -> Sequence[Event]:
    if run.status is not Status.BLOCKED:
        raise RunStateError(f"loop {run.id!r} asks nothing: it is {run.status.value}; nothing was recorded", run.id)
    return rules.noting(run, at, [(PROVIDED, provided)], rules.resume, "answered")
