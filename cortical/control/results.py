"""What goes into a controlled loop, and what comes out of it: state, results, history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from attrs import frozen

from cortical.core.errors import LoopFailed
from cortical.core.run import Run
from cortical.core.safe_text import written
from cortical.core.status import Status, TerminationReason
from cortical.core.topics import ATTEMPT, RESULT, SKIPPED
from cortical.core.turns import finished_here, turns_before

#: What is repeated: a function, or a coroutine function, of a copy of the state.
Body: TypeAlias = Callable[[dict[str, Any]], Any]


class State:
    """Returned by a body: keys to set in the loop's state, and perhaps the iteration's result.

    ::

        def read_on(state):
            return State("20 lines", offset=state.get("offset", 0) + 20)

    The state changes as the iteration is recorded, or not at all.
    """

    ends = False

    def __init__(self, result: Any = None, /, **values: Any) -> None:
        self.result = result
        self.values = values

    def __repr__(self) -> str:
        told = [written(self.result), *(f"{key}={written(value)}" for key, value in self.values.items())]
        return f"{type(self).__name__}({', '.join(told)})"


class Done(State):
    """Returned by a body when there is nothing left to do: the loop ends, ``completed``."""

    ends = True


@frozen
class LoopResult:
    """How a controlled loop stands after it was driven.

    `reason` and `details` say why it ended (None while it has not: it is blocked), `iterations` how many were
    finished. `value` is the last finished iteration's result, however the loop ended; `error` the text of the error
    that ended it, or None; `seconds` how long this driving took.
    """

    run_id: str
    status: Status
    reason: TerminationReason | None
    details: str
    iterations: int
    value: Any
    error: str | None
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it ended well: completed, at its last iteration, or by a condition."""
        return self.status is Status.COMPLETED

    @property
    def why(self) -> str:
        """Why it did not end well, or not yet: the error, or the details; empty where it did."""
        return "" if self.ok else self.error or self.details

    def raise_for_failure(self) -> LoopResult:
        """This result, if the loop ended well.

        Raises:
            LoopFailed: it did not, or not yet.
        """
        if not self.ok:
            raise LoopFailed(self)
        return self


@frozen
class Iteration:
    """One iteration of a loop, as the log has it. Times in seconds since the epoch; `errors` of failed attempts."""

    number: int
    status: Literal["finished", "skipped", "open", "broken off"]
    started_at: float
    ended_at: float | None
    result: Any
    errors: tuple[str, ...]

    @property
    def attempts(self) -> int:
        """How often its body was called, as far as the log knows."""
        return len(self.errors) + (self.status in ("finished", "open"))

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it is open."""
        return None if self.ended_at is None else self.ended_at - self.started_at


def last_result(run: Run) -> Any:
    """What the last finished iteration gave; None before the first, and where it gave nothing."""
    index = len(run.past or ()) - (0 if finished_here(run) else 1)
    noted = [entry.value for entry in run.entries_of(index) if entry.topic == RESULT] if index >= 0 else []
    return noted[-1] if noted else None


def history(run: Run) -> list[Iteration]:
    """The iterations of one life of a loop, in order."""
    before = turns_before(run)
    found: list[Iteration] = []
    last = len(run.past or ())
    for index, visit in enumerate(run.visits):
        entries = run.entries_of(index)
        topics = {entry.topic: entry.value for entry in entries}
        errors = tuple(entry.value["error"] for entry in entries if entry.topic == ATTEMPT)
        status: Any = "finished"
        if SKIPPED in topics:
            status = "skipped"
        elif index == last and RESULT not in topics:
            status = "open" if run.reason is None else "broken off"
        found.append(
            Iteration(before + visit.turn, status, visit.entered_at, visit.left_at, topics.get(RESULT), errors)
        )
    return found
