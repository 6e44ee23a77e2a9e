"""Where a loop stands in its tree, and what it has gathered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import Factory, define, field

from cortical.core.errors import RunStateError


@define
class LoopContext:
    """Where a loop stands in its tree, and what it has gathered.

    One made by hand is a plain value. One from `NestedLoopExecutor.get_context` shows the loop's state at that
    moment; `add_answer` on it records the answer in the loop as well.
    """

    depth: int
    parent_id: str | None
    goal: str
    accumulated_answers: list[Any] = Factory(list)
    #: Child id → what it was completed with, in the order of completion.
    child_results: dict[str, Any] = Factory(dict)
    metadata: dict[str, Any] = Factory(dict)
    #: The loop it came from; None for one made by hand.
    loop_id: str | None = field(default=None, eq=False, kw_only=True)
    _record_answer: Callable[[Any], object] | None = field(default=None, repr=False, eq=False, kw_only=True)

    def add_answer(self, answer: object) -> None:
        """Add an answer.

        Raises:
            RunStateError: the loop it belongs to has ended.
        """
        if self._record_answer is not None:
            self._record_answer(answer)
        self.accumulated_answers.append(answer)

    def add_child_result(self, child_id: str, result: object) -> None:
        """Add a child's result.

        Raises:
            RunStateError: it belongs to a loop, whose child results come from completing its children.
        """
        if self._record_answer is not None:
            raise RunStateError("a loop's child results come from its children; complete the child instead", child_id)
        self.child_results[child_id] = result

    def get_all_answers(self) -> list[Any]:
        """The answers, as a list of their own."""
        return list(self.accumulated_answers)
