"""What VERIFY answers: a loop ends with success only by a verdict that passed it."""

from __future__ import annotations

from typing import Any, Literal

from attrs import field, frozen

Kind = Literal["passed", "revise", "impossible", "inconclusive", "escalate"]


@frozen
class Verdict:
    """One of five answers, made by the methods named like them."""

    kind: Kind
    #: Of `passed`: the loop's value, what a parent finds in `child_results`.
    result: Any = None
    #: Of `passed`: what it rests on.
    evidence: Any = None
    #: Of the others: the feedback, the reason, or the question.
    text: str = ""
    #: Who chose: the verify function, a person whom it asked, or a rule of the driver.
    by: Literal["function", "person", "rule"] = field(default="function", eq=False)

    @classmethod
    def passed(cls, result: object = None, evidence: object = None) -> Verdict:
        """It is good: the loop ends with success."""
        return cls("passed", result, evidence)

    @classmethod
    def revise(cls, feedback: str) -> Verdict:
        """It is not good yet: the next turn begins, with the feedback at hand."""
        return cls("revise", text=feedback)

    @classmethod
    def impossible(cls, why: str) -> Verdict:
        """It cannot be done as asked: the loop ends, its question invalid."""
        return cls("impossible", text=why)

    @classmethod
    def inconclusive(cls, why: str) -> Verdict:
        """It could not be told: VERIFY is tried again, a limited number of times, then a person is asked."""
        return cls("inconclusive", text=why)

    @classmethod
    def escalate(cls, question: str) -> Verdict:
        """A person has to say: the loop blocks with this question."""
        return cls("escalate", text=question)
