"""An agent that answers from lists, for tests of what is built around agents."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from attrs import frozen

from cortical.agents import Agent, Loop, Verdict
from cortical.core.checks import shown
from cortical.core.codec import encode
from cortical.core.errors import EncodeError, InvalidInput, WrongType
from cortical.core.outcome import type_name
from cortical.core.phases import PHASE_OF, LoopPhase
from cortical.core.topics import ATTEMPT, VERDICT

#: One entry for each time, or such a list for each goal.
Script: TypeAlias = Sequence[Any] | Mapping[str, Sequence[Any]]

_EVERY_GOAL: Final = None


class ScriptEnded(BaseException):
    """A `ScriptedAgent` was asked for more than it was given.

    Not an Exception, so that no policy for failures hides it: it ends the driving, and is raised by `run` or `resume`.
    """

    def __init__(self, agent: str, phase: LoopPhase, goal: str, what: str, count: int) -> None:
        super().__init__(
            f"agent {agent!r} has {count} {what} for the goal {goal!r}, and was asked in {phase.value} for number "
            f"{count + 1}; give it more, or find out why the loop goes on"
        )
        self.agent = agent
        self.phase = phase
        self.goal = goal
        self.count = count


@frozen
class Asked:
    """What a `ScriptedAgent` was asked: a phase that it entered, and what it found there."""

    loop_id: str
    goal: str
    phase: LoopPhase
    turn: int
    inputs: Mapping[str, Any]
    feedback: str
    child_results: Mapping[str, Any]


class ScriptedAgent(Agent):
    """An agent that does what its lists say::

        from cortical import Verdict

        reviewer = ScriptedAgent(
            "reviewer", answers=["first", "second"], verdicts=[Verdict.revise("more"), Verdict.passed("done")]
        )

    Each turn takes the next entry of each list. So does a phase that its policies have tried again after a failure,
    and a VERIFY that was inconclusive, or blocked. Which entry it is, is read from the loop's log. So every loop has
    the script to itself, from its beginning, and a phase that is entered again after a crash finds the same entry.

    An entry that is an exception is raised there; one that can be called is called with the `Loop`, and what it
    returns is the entry. Instead of a list, one for each goal may be given: ``answers={"a": ["x"], "b": ["y"]}``. A
    phase without a list is passed through, or may be given a function in the usual way; VERIFY has one already.

    `asked` tells in order what it was asked, as `Asked`: in the phases that have a list, and in VERIFY always. It is
    kept in this process only, and has a phase that was entered again after a crash once more.

    Args:
        name: what the log calls it.
        answers: what is answered in ANSWER.
        artifacts: what is produced in PRODUCE: for each turn the contents by name, such as ``{"report.md": "…"}``.
        children: what is spawned in ANSWER, after answering: for each turn the agents by goal; ``{}`` for no children.
        verdicts: what VERIFY says; without this list it passes in the first turn, with the newest answer for the value.
        policies: of an `Agent`, such as ``retry``.

    Raises:
        WrongType, InvalidInput: a list is none, or holds what makes no sense there.
        ScriptEnded: from `run` or `resume`, when a list has no entry left; it names agent, phase and goal.
    """

    def __init__(
        self,
        name: str,
        *,
        answers: Script | None = None,
        artifacts: Script | None = None,
        children: Script | None = None,
        verdicts: Script | None = None,
        **policies: Any,
    ) -> None:
        super().__init__(name, **policies)
        self._module = str(sys._getframe(1).f_globals.get("__name__", ""))
        self.asked: list[Asked] = []
        given = {"answers": answers, "artifacts": artifacts, "children": children, "verdicts": verdicts}
        self._lists = {what: _checked(what, script) for what, script in given.items() if script is not None}
        if self._lists.keys() & {"answers", "children"}:
            self.answer(self._do_answer)
        if "artifacts" in self._lists:
            self.produce(self._do_produce)
        self.verify(self._do_verify)

    @property
    def digest(self) -> str:
        """A short text that changes when the script or the policies do."""
        return hashlib.sha256(f"{super().digest} {_told(self._lists)}".encode()).hexdigest()[:16]

    def _do_answer(self, loop: Loop) -> None:
        self._hear(loop)
        if "answers" in self._lists:
            loop.answer(self._next("answers", loop))
        if "children" in self._lists:
            for goal, agent in _require_mapping("children", self._next("children", loop)).items():
                loop.spawn(goal, agent=agent)

    def _do_produce(self, loop: Loop) -> None:
        self._hear(loop)
        for name, content in _require_mapping("artifacts", self._next("artifacts", loop)).items():
            loop.produce(name, content)

    def _do_verify(self, loop: Loop) -> Verdict:
        self._hear(loop)
        if "verdicts" not in self._lists:
            return Verdict.passed(loop.answers[-1] if loop.answers else None)
        verdict: Verdict = self._next("verdicts", loop)
        return verdict

    def _hear(self, loop: Loop) -> None:
        asked = Asked(loop.id, loop.goal, loop.phase, loop.turn, loop.inputs, loop.feedback, loop.child_results)
        self.asked.append(asked)

    def _next(self, what: str, loop: Loop) -> Any:
        lists = self._lists[what]
        entries = lists.get(loop.goal, lists.get(_EVERY_GOAL, ()))
        number = _times_before(loop)
        if number >= len(entries):
            raise ScriptEnded(self.name, loop.phase, loop.goal, what, len(entries))
        entry = entries[number]
        if isinstance(entry, BaseException):
            raise entry.with_traceback(None)
        return entry(loop) if callable(entry) else entry


def _times_before(loop: Loop) -> int:
    """How often this phase of the loop has come to an end before, by the log: passed, failed or was inconclusive."""
    run = loop._run
    if loop.phase is LoopPhase.VERIFY:
        return len(run.noted(VERDICT))
    here = [index for index, visit in enumerate(run.visits) if PHASE_OF[visit.place] is loop.phase]
    failed = sum(entry.topic == ATTEMPT for index in here for entry in run.entries_of(index))
    return len(here) - 1 + failed


# What is in a script


def _checked(what: str, script: object) -> dict[str | None, tuple[Any, ...]]:
    by_goal: Mapping[str | None, Any] = script if isinstance(script, Mapping) else {_EVERY_GOAL: script}
    for entries in by_goal.values():
        if isinstance(entries, str | bytes) or not isinstance(entries, Sequence):
            raise WrongType(
                f"{what} are a list with an entry for each turn, or such lists by goal, not {shown(entries)}"
            )
        for entry in entries:
            _require_entry(what, entry)
    return {goal: tuple(entries) for goal, entries in by_goal.items()}


def _require_entry(what: str, entry: object) -> None:
    if getattr(entry, "__self__", None) is Verdict:
        raise InvalidInput(f"an entry of {what} is a method of Verdict; call it, as in Verdict.passed()")
    if isinstance(entry, type) and issubclass(entry, BaseException):
        raise InvalidInput(f"an entry of {what} is an exception type; give an exception, as in {entry.__name__}('why')")
    if inspect.iscoroutinefunction(entry):
        raise WrongType(f"an entry of {what} is a coroutine function; give one that returns the entry itself")
    if isinstance(entry, BaseException) or callable(entry):
        return
    if what == "verdicts" and not isinstance(entry, Verdict):
        raise WrongType(
            f"an entry of verdicts is a Verdict, an exception or a function of the loop, not {shown(entry)}"
        )
    if what in ("artifacts", "children"):
        for value in _require_mapping(what, entry).values():
            if what == "children" and not isinstance(value, Agent):
                raise WrongType(f"an entry of children has an Agent for each goal, not {shown(value)}")


def _require_mapping(what: str, entry: Any) -> Mapping[str, Any]:
    if isinstance(entry, Mapping):
        return entry
    by = "contents by name" if what == "artifacts" else "agents by goal"
    raise WrongType(f"an entry of {what} is a dictionary, {by}; for a turn with none {{}}; not {shown(entry)}")


def _told(value: Any) -> str:
    """A text for a part of a script, the same in every process."""
    match value:
        case Mapping():
            return repr([(_told(key), _told(item)) for key, item in value.items()])
        case list() | tuple():
            return repr([_told(item) for item in value])
        case set() | frozenset():
            return repr(sorted(map(_told, value)))
        case Verdict():
            return repr([value.kind, _told(value.result), _told(value.evidence), value.text])
        case Agent():
            return repr(value.name)
        case BaseException():
            return repr((type_name(type(value)), str(value)))
    try:
        return _of_function(value) if callable(value) else encode(value).decode()
    except EncodeError:
        return type_name(type(value))


def _of_function(function: Callable[[Loop], Any]) -> str:
    """An agent knows by which text its functions are told from others."""
    only = Agent("entry")
    only.answer(function)
    return only.digest
