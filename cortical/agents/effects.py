"""What became of an effect that was begun when the process died: by `reconcile`, or by asking a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

from attrs import frozen

from cortical.agents.people import word_of
from cortical.core.errors import CorticalError

if TYPE_CHECKING:
    from cortical.agents.loop import Loop

#: What a person can say; case, blanks around it and a full stop do not matter.
_TOLD: Final[dict[str, Literal["done", "again", "skip"]]] = {"done": "done", "again": "again", "skip": "skip"}


class EffectUncertain(CorticalError, RuntimeError):
    """An effect was begun before the process died, and nothing can say whether it happened."""

    def __init__(self, loop_id: str, key: str) -> None:
        super().__init__(
            f"effect {key!r} of loop {loop_id!r} was begun, and the process died before it was known to be done; "
            "give reconcile=… to say what became of it"
        )
        self.loop_id = loop_id
        self.key = key


@frozen
class Reconciled:
    """What became of an effect that was begun: `done` with a value, to be done `again`, to be skipped, or unknown."""

    answer: Literal["done", "again", "skip", "ask"]
    value: Any = None


def reconciled(loop: Loop, key: str, token: str, reconcile: Callable[[str], Reconciled] | None) -> Reconciled:
    """What became of the effect of this key and idempotency key; never `ask`.

    Raises:
        EffectUncertain: there is no `reconcile`.
    """
    if reconcile is None:
        raise EffectUncertain(loop.id, key)
    found = reconcile(token)
    return _asked(loop, key, token) if found.answer == "ask" else found


def _asked(loop: Loop, key: str, token: str) -> Reconciled:
    """Ask a person, and again for as long as the answer is none: what is not understood must not decide."""
    question = plain = f"Did {key!r} happen? Say 'done', 'again' or 'skip'"
    asked_as, times = f"effect {token}", 1
    while True:
        told = loop.ask_human(question, key=asked_as)
        meant = _TOLD.get(word_of(told))
        if meant is not None:
            return Reconciled(meant)
        times += 1
        asked_as, question = f"effect {token}, asked {times} times", f"{told!r} is none of the answers. {plain}"
