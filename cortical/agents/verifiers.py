"""Ready-made verify functions: a command's exit status, a person's word, and several of them that vote.

Each call here makes a function that takes the loop and answers with a `Verdict`, to be given to an agent::

    agent.verify(command(["python", "-m", "pytest", "-q"], timeout=300))
    agent.verify(quorum(2, command(["ruff", "check"]), review, human()))

Such a function carries what it was made of as text in its attribute `definition`. Commands need a POSIX system.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, get_args

from attrs import evolve

from cortical.agents.people import word_of
from cortical.agents.verdict import Kind, Verdict
from cortical.core.checks import require_callable, require_count, require_seconds, require_text, shown
from cortical.core.errors import BudgetExhausted, Conflict, InvalidInput, LeaseLost, RunStateError, WrongType
from cortical.core.outcome import told
from cortical.engine.programs import run_program

if TYPE_CHECKING:
    from cortical.agents.loop import Loop

T = TypeVar("T")
PathText: TypeAlias = str | os.PathLike[str]
#: A value, or a function that makes it from the loop when VERIFY is entered.
OfLoop: TypeAlias = T | Callable[["Loop"], T]
#: Takes the loop and returns a `Verdict`, or is a coroutine function that does.
Verifier: TypeAlias = Callable[["Loop"], Any]

#: Whole answers of a person that pass or refuse; case, blanks around it and a full stop do not matter.
YES: Final = frozenset({"yes", "y", "ok", "okay", "true", "pass", "passed", "approve", "approved"})
NO: Final = frozenset({"no", "n", "false", "fail", "failed", "reject", "rejected"})


def command(
    argv: Sequence[OfLoop[PathText]],
    *,
    cwd: OfLoop[PathText] | None = None,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    most_output: int = 8_000,
) -> Callable[[Loop], Verdict]:
    """A verify function that runs a program, without a shell and without input.

    Exit status 0 passes, with the output (errors included) as evidence; any other revises, with the status and the
    output as feedback. A program that cannot be started, or is not done in time, is inconclusive. One that is not done
    in time is killed with all the processes of its group; so it is when the verify function is interrupted.

    Args:
        argv: the program and its arguments, one item each; an item may be a function of the loop.
        cwd: the folder it runs in; this process's own by default.
        timeout: seconds it may take; without one it may take for ever.
        env: environment variables, set in addition to those of this process.
        most_output: bytes of output that are kept, half from the beginning and half from the end.

    Raises:
        WrongType: `argv` is one text, or an argument is of another type than asked.
        InvalidInput: `argv` is empty, or a limit is not above zero.
    """
    words = _checked(argv)
    if timeout is not None:
        require_seconds(timeout, "a command's timeout", above_zero=True)
    require_count(most_output, "most_output")
    added = dict(env or {})

    def verify(loop: Loop) -> Verdict:
        line = [_path(word, loop) for word in words]
        folder = None if cwd is None else _path(cwd, loop)
        shown = shlex.join(line).encode("utf-8", "replace").decode()
        try:
            done = run_program(
                line, cwd=folder, env={**os.environ, **added}, seconds=timeout, most_output=most_output, joined=True
            )
        except OSError as error:
            return Verdict.inconclusive(f"{shown} could not be run: {error}")
        if done.status is None:
            told = f"{shown} was not done after {timeout:g} s, and was killed"
            return Verdict.inconclusive(_joined(told, done.stdout.text().strip()))
        return _by_status(shown, done.status, done.stdout.text().strip())

    told = [[_told(word) for word in words], _told(cwd), timeout, added, most_output]
    return _defined(verify, f"command({', '.join(map(repr, told))})")


def _by_status(shown: str, status: int, output: str) -> Verdict:
    if status:
        how = f"was ended by signal {-status}" if status < 0 else f"exited with {status}"
        return Verdict.revise(_joined(f"{shown} {how}", output))
    return Verdict.passed(evidence=output or f"{shown} exited with 0 and wrote nothing")


def human(
    question: OfLoop[str] = "Does this hold? Answer yes, or say what to change.",
) -> Callable[[Loop], Verdict]:
    """A verify function that asks a person, once in each turn; until the answer is given the loop is blocked.

    ``yes`` (or another of `YES`, or True) passes, with question and answer as evidence. ``no`` (or another of `NO`,
    False, or nothing at all) revises without more to say. Anything else is feedback, and revises with it.

    Args:
        question: what the person reads, or a function that makes it from the loop.

    Raises:
        WrongType, InvalidInput: the question is no text, or empty.
    """
    if not callable(question):
        require_text(question, "a question")

    def verify(loop: Loop) -> Verdict:
        asked = require_text(question(loop) if callable(question) else question, "a question")
        said = loop.ask_human(asked, key=f"verify {loop.turn}: {asked}")
        return evolve(_by_answer(asked, "" if said is None else str(said).strip()), by="person")

    return _defined(verify, f"human({_told(question)!r})")


def _by_answer(asked: str, text: str) -> Verdict:
    word = word_of(text)
    if word in YES:
        return Verdict.passed(evidence={"question": asked, "answer": text})
    if not word or word in NO:
        return Verdict.revise(f"a person was asked {asked!r} and answered {text!r}")
    return Verdict.revise(text)


def quorum(n: int, *verifiers: Verifier) -> Verifier:
    """A verify function that asks all of `verifiers`, one after another, and passes when `n` of them pass.

    The verdict is

    - passed, when `n` pass: the result is the first that one of these gives, the evidence a list with what every
      verifier said (``{"verifier", "verdict", "said"}``);
    - else, when `n` could still be reached by those that are undecided (inconclusive or escalating): escalate with
      the first question that one asks, or inconclusive when none asks;
    - else, when `n` say that it is impossible: impossible;
    - else revise, with the feedback of all that did not pass, each after its verifier's name.

    One that raises, or returns no `Verdict`, is inconclusive. It is a coroutine function if one of them is; the plain
    ones are then called in a thread. Those that stand before a person are asked again when the answer is there, so
    put people first; and give two people two questions, as one answer serves all who ask the same.

    Raises:
        InvalidInput: `n` is not between 1 and the number of verifiers.
        WrongType: a verifier cannot be called.
    """
    for verifier in verifiers:
        require_callable(verifier)
    if require_count(n, "a quorum") > len(verifiers):
        raise InvalidInput(f"a quorum of {n!r} cannot be reached with {len(verifiers)} verifiers; give 1 to as many")
    definition = f"quorum({n}, {', '.join(map(_told, verifiers))})"

    def verify(loop: Loop) -> Verdict:
        return _counted(n, [(_told(verifier), _verdict(verifier, loop)) for verifier in verifiers])

    async def verify_awaiting(loop: Loop) -> Verdict:
        return _counted(n, [(_told(verifier), await _awaited(verifier, loop)) for verifier in verifiers])

    return _defined(verify_awaiting if any(map(_is_async, verifiers)) else verify, definition)


# Counting votes


def _counted(n: int, votes: Sequence[tuple[str, Verdict]]) -> Verdict:
    of_kind = {kind: [verdict for _, verdict in votes if verdict.kind == kind] for kind in get_args(Kind)}
    passed, undecided = of_kind["passed"], of_kind["inconclusive"] + of_kind["escalate"]
    if len(passed) >= n:
        result = next((verdict.result for verdict in passed if verdict.result is not None), None)
        return Verdict.passed(result, [_said(name, verdict) for name, verdict in votes])
    told = "\n".join(f"{name}: {verdict.text}" for name, verdict in votes if verdict.kind != "passed")
    if len(passed) + len(undecided) >= n:
        escalating = of_kind["escalate"]
        return Verdict.escalate(escalating[0].text) if escalating else Verdict.inconclusive(told)
    return Verdict.impossible(told) if len(of_kind["impossible"]) >= n else Verdict.revise(told)


#: What the loop itself refuses, with which the driver deals.
_NOT_VOTES: Final = (BudgetExhausted, LeaseLost, RunStateError, Conflict)


def _said(name: str, verdict: Verdict) -> dict[str, Any]:
    said = verdict.evidence if verdict.kind == "passed" else verdict.text
    return {"verifier": name, "verdict": verdict.kind, "said": said}


def _verdict(verifier: Verifier, loop: Loop) -> Verdict:
    try:
        return _taken(verifier(loop))
    except _NOT_VOTES:
        raise
    except Exception as error:  # noqa: BLE001  # one verifier's failure is one vote lost
        return _raised(error)


async def _awaited(verifier: Verifier, loop: Loop) -> Verdict:
    if not _is_async(verifier):
        return await asyncio.to_thread(_verdict, verifier, loop)
    try:
        return _taken(await verifier(loop))
    except _NOT_VOTES:
        raise
    except Exception as error:  # noqa: BLE001
        return _raised(error)


def _taken(value: object) -> Verdict:
    return value if isinstance(value, Verdict) else Verdict.inconclusive(f"returned no Verdict but {value!r}")


def _raised(error: Exception) -> Verdict:
    return Verdict.inconclusive(f"raised {told(error)}")


def _is_async(verifier: Verifier) -> bool:
    return inspect.iscoroutinefunction(verifier) or inspect.iscoroutinefunction(type(verifier).__call__)


# Small change


def _checked(argv: Sequence[OfLoop[PathText]]) -> tuple[OfLoop[PathText], ...]:
    if isinstance(argv, str | bytes) or not isinstance(argv, Sequence):
        raise WrongType(
            f"a command is a list of arguments, such as ['pytest', '-q'], not {shown(argv)}; no shell reads it"
        )
    if not argv:
        raise InvalidInput("a command names at least a program; the list is empty")
    for word in argv:
        if not isinstance(word, str | os.PathLike) and not callable(word):
            raise WrongType(f"an argument of a command is a text, a path or a function of the loop, not {shown(word)}")
    return tuple(argv)


def _path(value: OfLoop[PathText], loop: Loop) -> str:
    return os.fspath(value(loop) if callable(value) else value)


def _told(value: object) -> str:
    """A text for what a verifier is or is made of, the same in every process."""
    if not callable(value):
        return str(value)
    return str(getattr(value, "definition", None) or getattr(value, "__qualname__", type(value).__qualname__))


def _defined(verify: Callable[[Loop], T], definition: str) -> Callable[[Loop], T]:
    vars(verify)["definition"] = definition
    return verify


def _joined(first_line: str, output: str) -> str:
    return f"{first_line}:\n{output}" if output else first_line
