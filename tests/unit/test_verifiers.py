"""Verify functions that come with the library: commands, people, and votes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cortical.agents import Agent, Loop, Result, Verdict, provide, resume, run
from cortical.agents.verifiers import Verifier, command, human, quorum
from cortical.core.budget import Budget
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.status import Status, TerminationReason
from cortical.store import MemoryStore, Store

#: Waits for ever, and for nothing but to be killed.
BLOCK = "import os; read, write = os.pipe(); os.read(read, 1)"


def python(code: str, *more: str) -> list[str]:
    return [sys.executable, "-c", code, *more]


def only(verifier: Verifier, *, inputs: dict[str, Any] | None = None) -> Verdict:
    """What a verifier says of a driven loop, asked once."""
    given: list[Verdict] = []
    agent = Agent("checked", max_turns=1)

    @agent.verify
    def check(loop: Loop) -> Verdict:
        given.append(verifier(loop))
        return Verdict.revise("seen")

    run(agent, "a goal", inputs=inputs)
    (verdict,) = given
    return verdict


def drive(verifier: Verifier, store: Store | None = None) -> Result:
    agent = Agent("checked", max_turns=1)
    agent.verify(verifier)
    return run(agent, "a goal", store=store)


def says(verdict: Verdict) -> Callable[[Loop], Verdict]:
    return lambda loop: verdict


# Commands


def test_a_command_that_exits_with_zero_passes() -> None:
    """The loop ends with success, and the output is the evidence."""
    result = drive(command(python("print('all well')")))
    assert (result.status, result.evidence) == (Status.COMPLETED, "all well")


def test_a_silent_command_still_leaves_evidence() -> None:
    """Without output, the evidence says what ran and how it ended."""
    verdict = only(command(["true"]))
    assert verdict == Verdict.passed(evidence="true exited with 0 and wrote nothing")


def test_a_command_that_fails_sends_the_work_back() -> None:
    """Any other exit status revises, and both output streams are the feedback."""
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr, flush=True); sys.exit(3)"
    verdict = only(command(python(code)))
    assert verdict.kind == "revise"
    assert verdict.text.endswith("exited with 3:\nout\nerr")


def test_a_command_ended_by_a_signal_says_by_which() -> None:
    """A crash of the program is feedback too."""
    verdict = only(command(python("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")))
    assert verdict.kind == "revise"
    assert verdict.text.endswith("was ended by signal 15")


def test_a_missing_program_is_inconclusive() -> None:
    """What cannot be started says nothing about the work; after some tries a person is asked."""
    result = drive(command(["no-such-program-anywhere", "-q"]))
    assert (result.status, result.verdict) == (Status.BLOCKED, "inconclusive")
    assert "no-such-program-anywhere -q could not be run: " in result.why


def test_a_missing_folder_is_inconclusive(tmp_path: Path) -> None:
    """A folder that is not there is named."""
    verdict = only(command(["true"], cwd=tmp_path / "gone"))
    assert verdict.kind == "inconclusive"
    assert "gone" in verdict.text


def test_a_command_that_is_not_done_in_time_is_killed_with_its_children(tmp_path: Path) -> None:
    """Nothing of its process group stays, and the verdict is inconclusive, with the output so far."""
    pipe = tmp_path / "held"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    child = f"import sys; held = open(sys.argv[1], 'w'); print('child waits', flush=True); {BLOCK}"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}, sys.argv[1]]); {BLOCK}"
    verdict = only(command(python(parent, str(pipe)), timeout=1.5))
    os.set_blocking(reading, True)
    assert verdict.kind == "inconclusive"
    assert "was not done after 1.5 s, and was killed:\nchild waits" in verdict.text
    assert os.read(reading, 1) == b"", "end of file: nobody holds the other end any more"
    os.close(reading)


def test_the_time_limit_holds_for_a_command_that_has_closed_its_output() -> None:
    """A program that closes its output and goes on is still waited for, no longer than allowed."""
    verdict = only(command(python(f"import os; os.close(1); os.close(2); {BLOCK}"), timeout=0.2))
    assert verdict.kind == "inconclusive"


def test_what_a_command_leaves_running_does_not_hold_it_up() -> None:
    """The exit status counts at once, though a process in the background keeps the output open."""
    code = f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {BLOCK!r}]); print(child.pid)"
    verdict = only(command(python(code)))
    os.kill(int(verdict.evidence), 9)
    assert verdict.kind == "passed"


def test_long_output_keeps_its_two_ends() -> None:
    """However much is written, no more than asked is kept, and the missing bytes are counted."""
    code = "import sys; sys.stdout.write('first' + 'x' * 1_000_000 + 'last'); sys.exit(1)"
    verdict = only(command(python(code), most_output=20))
    assert verdict.text.endswith("exited with 1:\nfirstxxxxx\n… 999989 bytes left out …\nxxxxxxlast")


def test_output_that_fits_is_whole() -> None:
    """Output of just as many bytes as may be kept loses none."""
    assert only(command(python("print('0123456789', end='')"), most_output=10)).evidence == "0123456789"


def test_output_that_is_no_text_can_be_kept(durable: Store) -> None:
    """Bytes that are not UTF-8 are replaced, so that a durable store can keep the evidence."""
    result = drive(command(python(r"import sys; sys.stdout.buffer.write(b'a\xff\xfeb')")), durable)
    assert result.evidence == "a��b"


def test_arguments_and_folder_may_come_from_the_loop(tmp_path: Path) -> None:
    """Functions among the arguments are called with the loop."""
    code = "import os, sys; print(os.getcwd(), *sys.argv[1:])"
    verifier = command([*python(code), lambda loop: loop.goal, tmp_path], cwd=lambda loop: Path(loop.inputs["folder"]))
    verdict = only(verifier, inputs={"folder": str(tmp_path)})
    assert verdict.evidence == f"{tmp_path.resolve()} a goal {tmp_path}"


def test_no_shell_reads_the_arguments() -> None:
    """What a shell would act on arrives as it is."""
    nasty = "$(echo x); `echo y` | cat > z *"
    assert only(command(python("import sys; print(sys.argv[1])", nasty))).evidence == nasty


def test_environment_is_added_to_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given variables are set beside those there are."""
    monkeypatch.setenv("CORTICAL_TEST_OWN", "own")
    code = "import os; print(os.environ['CORTICAL_TEST_OWN'], os.environ['CORTICAL_TEST_MORE'])"
    assert only(command(python(code), env={"CORTICAL_TEST_MORE": "more"})).evidence == "own more"


def test_a_command_has_no_input() -> None:
    """A program that reads its input finds it empty, and does not wait for a terminal."""
    assert only(command(python("import sys; print(repr(sys.stdin.read()))"))).evidence == "''"


@pytest.mark.parametrize(
    ("argv", "options", "error", "told"),
    [
        ("pytest -q", {}, WrongType, "a list of arguments"),
        ([], {}, InvalidInput, "at least a program"),
        (["echo", 3], {}, WrongType, "not 3"),
        (["true"], {"timeout": 0}, InvalidInput, "more than 0"),
        (["true"], {"timeout": float("nan")}, InvalidInput, "not nan"),
        (["true"], {"timeout": "5"}, WrongType, "'5'"),
        (["true"], {"most_output": 0}, InvalidInput, "1 or more"),
    ],
)
def test_a_command_of_no_use_is_refused_when_it_is_made(
    argv: Any, options: dict[str, Any], error: type[Exception], told: str
) -> None:
    """Mistakes show where the agent is defined, not when it runs."""
    with pytest.raises(error, match=told):
        command(argv, **options)


def test_verifiers_tell_what_they_are_made_of() -> None:
    """Two commands with other arguments can be told apart, those with the same cannot."""
    definitions = [vars(command(argv))["definition"] for argv in (["a", "b"], ["a b"], ["a", "b"])]
    assert definitions[0] != definitions[1]
    assert definitions[0] == definitions[2]


# People


def answered(answer: object, store: Store) -> Result:
    """The loop that asked a person, after the answer."""
    agent = Agent("asking", max_turns=1)
    agent.verify(human("Good?"))
    waiting = run(agent, "a goal", store=store)
    assert (waiting.status, waiting.why) == (Status.BLOCKED, f"{waiting.run_id}: Good?")
    provide(store, waiting.run_id, "verify 1: Good?", answer)
    return resume(store, waiting.run_id, agents=[agent])


@pytest.mark.parametrize("answer", ["yes", " Yes. ", "OK", "approved!", True])
def test_a_person_who_says_yes_passes_it(answer: object) -> None:
    """Words of consent end the loop with success, question and answer being the evidence."""
    result = answered(answer, MemoryStore())
    assert result.status is Status.COMPLETED
    assert result.evidence == {"question": "Good?", "answer": str(answer).strip()}


@pytest.mark.parametrize("answer", ["no", "No.", "rejected", False, "", None])
def test_a_person_who_says_no_sends_it_back(answer: object) -> None:
    """A bare refusal revises, and the feedback names the question."""
    result = answered(answer, MemoryStore())
    assert (result.verdict, result.reason) == ("revise", TerminationReason.BUDGET_EXHAUSTED)
    assert "was asked 'Good?'" in result.why


@pytest.mark.parametrize("answer", ["no, the title is wrong", "yes but shorten it"])
def test_anything_else_a_person_says_is_feedback(answer: str) -> None:
    """More than a bare word goes back with the work, even when it begins with yes."""
    assert answered(answer, MemoryStore()).why == f"max_turns 1 reached: {answer}"


def test_a_person_is_asked_anew_in_each_turn(any_store: Store) -> None:
    """The answer of one turn is not taken for that of the next, and reaches it as feedback."""
    agent = Agent("asking")
    heard: list[str] = []

    @agent.answer
    def listen(loop: Loop) -> None:
        heard.append(loop.feedback)

    agent.verify(human(lambda loop: f"Is {loop.goal} good?"))
    first = run(agent, "it", store=any_store)
    provide(any_store, first.run_id, "verify 1: Is it good?", "shorter")
    second = resume(any_store, first.run_id, agents=[agent])
    assert second.status is Status.BLOCKED
    provide(any_store, first.run_id, "verify 2: Is it good?", "yes")
    assert resume(any_store, first.run_id, agents=[agent]).status is Status.COMPLETED
    assert heard == ["", "shorter"]


def test_a_question_needs_words() -> None:
    """An empty question is refused when the verifier is made."""
    with pytest.raises(InvalidInput, match="a question is empty"):
        human(" ")


# Votes

PASSED = Verdict.passed(result=7, evidence="seen")
REVISE = Verdict.revise("mend it")
IMPOSSIBLE = Verdict.impossible("no such thing")
UNSURE = Verdict.inconclusive("no network")
ESCALATE = Verdict.escalate("May I?")


@pytest.mark.parametrize(
    ("n", "votes", "kind"),
    [
        (1, [REVISE, PASSED], "passed"),
        (2, [PASSED, PASSED, REVISE], "passed"),
        (2, [PASSED, REVISE, IMPOSSIBLE], "revise"),
        (2, [PASSED, UNSURE, REVISE], "inconclusive"),
        (2, [PASSED, ESCALATE, UNSURE], "escalate"),
        (2, [UNSURE, REVISE, IMPOSSIBLE], "revise"),
        (2, [ESCALATE, REVISE, IMPOSSIBLE], "revise"),
        (2, [PASSED, IMPOSSIBLE, IMPOSSIBLE], "impossible"),
        (3, [PASSED, PASSED, PASSED], "passed"),
    ],
)
def test_a_quorum_counts(n: int, votes: list[Verdict], kind: str) -> None:
    """So many passes pass; else the undecided matter only if they could still make up the number."""
    assert only(quorum(n, *map(says, votes))).kind == kind


def test_a_quorum_passes_with_the_evidence_of_all() -> None:
    """The value is that of the first who gave one, and even those who did not pass are heard."""
    result = drive(quorum(2, command(["true"]), says(PASSED), says(REVISE)))
    assert result.value == 7
    assert [said["verdict"] for said in result.evidence] == ["passed", "passed", "revise"]
    assert [said["said"] for said in result.evidence] == ["true exited with 0 and wrote nothing", "seen", "mend it"]
    assert result.evidence[0]["verifier"].startswith("command(['true']")


def test_a_quorum_joins_the_feedback() -> None:
    """Each one's feedback stands after its name."""
    verdict = only(quorum(2, command(["false"]), says(REVISE), says(PASSED)))
    first, second = verdict.text.splitlines()
    assert first.startswith("command(['false']")
    assert first.endswith("false exited with 1")
    assert second.endswith(": mend it")


def test_one_that_raises_or_says_nothing_is_one_vote_lost() -> None:
    """The others still count."""

    def broken(loop: Loop) -> Verdict:
        raise ZeroDivisionError("by nought")

    verifier = quorum(1, broken, lambda loop: None, says(PASSED))
    verdict = only(verifier)
    assert verdict.kind == "passed"
    assert [said["said"] for said in verdict.evidence] == [
        "raised ZeroDivisionError: by nought",
        "returned no Verdict but None",
        "seen",
    ]


def test_plain_and_awaited_verifiers_vote_together() -> None:
    """With one coroutine function among them the quorum is one too, and a command does not hold up its event loop."""

    async def slow(loop: Loop) -> Verdict:
        return Verdict.passed(loop.goal)

    async def broken(loop: Loop) -> Verdict:
        raise LookupError("gone")

    class Awaited:
        async def __call__(self, loop: Loop) -> Verdict:
            return PASSED

    result = drive(quorum(4, quorum(1, slow, broken), command(["true"]), says(PASSED), Awaited()))
    assert (result.status, result.value) == (Status.COMPLETED, "a goal")


@pytest.mark.parametrize("slow", [False, True])
def test_a_quorum_waits_for_a_person(slow: bool) -> None:
    """A person among the verifiers suspends the loop, in a thread as in a task."""

    async def awaited(loop: Loop) -> Verdict:
        return PASSED

    store = MemoryStore()
    agent = Agent("voted")
    agent.verify(quorum(2, human("Good?"), awaited if slow else says(PASSED)))
    waiting = run(agent, "a goal", store=store)
    assert waiting.status is Status.BLOCKED
    provide(store, waiting.run_id, "verify 1: Good?", "yes")
    assert resume(store, waiting.run_id, agents=[agent]).status is Status.COMPLETED


@pytest.mark.parametrize("slow", [False, True])
def test_what_the_loop_refuses_is_no_vote(slow: bool) -> None:
    """A refusal of the loop itself goes through the quorum to the driver, as from any other verifier."""

    def plain(loop: Loop) -> Verdict:
        return Verdict.passed(loop.spawn("too late"))

    async def awaited(loop: Loop) -> Verdict:
        return plain(loop)

    result = drive(quorum(1, awaited if slow else plain))
    assert result.status is Status.BLOCKED
    assert "verify raised cortical.core.errors.RunStateError" in result.why
    assert "may not spawn in verify" in result.why


def test_a_budget_that_runs_out_in_a_quorum_ends_the_loop() -> None:
    """A verifier that spends more than there is has not lost its vote: the loop's budget is exhausted."""

    def dear(loop: Loop) -> Verdict:
        loop.spend(tokens=10)
        return PASSED

    agent = Agent("voted")
    agent.verify(quorum(1, dear, says(PASSED)))
    assert run(agent, "a goal", budget=Budget(tokens=5)).reason is TerminationReason.BUDGET_EXHAUSTED


@pytest.mark.parametrize(
    ("n", "error", "told"),
    [
        (0, InvalidInput, "1 or more"),
        (3, InvalidInput, "cannot be reached with 2 verifiers"),
        (True, WrongType, "a whole number"),
        (1.0, WrongType, "a whole number"),
    ],
)
def test_a_quorum_that_cannot_be_is_refused(n: Any, error: type[Exception], told: str) -> None:
    """The number lies between one and that of the verifiers."""
    with pytest.raises(error, match=told):
        quorum(n, says(PASSED), says(PASSED))


def test_a_quorum_asks_only_what_can_be_called() -> None:
    """A verdict in the place of a verifier is refused."""
    with pytest.raises(WrongType, match="cannot be called"):
        quorum(1, PASSED)  # type: ignore[arg-type]
