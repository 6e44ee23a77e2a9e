"""Places: the four phases of a reasoning loop, and their order; the one of a controlled loop, and of other work."""

from __future__ import annotations

from enum import Enum
from typing import Final


class LoopPhase(Enum):
    """Where in its cycle a loop stands."""

    QUESTION = "question"
    ANSWER = "answer"
    PRODUCE = "produce"
    VERIFY = "verify"

    __hash__ = object.__hash__


#: The phase of each place, the place where a turn begins, and what follows each; after VERIFY the next turn begins.
PHASE_OF: Final = {phase.value: phase for phase in LoopPhase}
FIRST_PLACE: Final = "question"
NEXT_PLACE: Final = {"question": "answer", "answer": "produce", "produce": "verify", "verify": "question"}

#: Where a controlled loop stands: its turns are its iterations.
ITERATION: Final = "iteration"

#: Where all else stands that is carried out.
WORK: Final = "work"

#: The places at which a turn begins.
TURN_PLACES: Final = frozenset({FIRST_PLACE, ITERATION})
