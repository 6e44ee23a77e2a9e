"""The cycle of a loop: its four phases, which are its places, and their order."""

from __future__ import annotations

from enum import Enum
from typing import Final

#: The kind of run that a loop is.
LOOP: Final = "loop"


class LoopPhase(Enum):
    """Where in its cycle a loop stands."""

    QUESTION = "question"
    ANSWER = "answer"
    PRODUCE = "produce"
    VERIFY = "verify"

    __hash__ = object.__hash__


#: The phase of each place, and the place that follows each in the cycle; VERIFY begins the next turn.
PHASE_OF: Final = {phase.value: phase for phase in LoopPhase}
NEXT_PLACE: Final = {"question": "answer", "answer": "produce", "produce": "verify", "verify": "question"}
