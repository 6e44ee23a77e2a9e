"""Whether a loop still gets anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cortical.agents import Agent, Loop, Verdict, run
from cortical.agents.stuck import Finding, Stuck, asked_above, findings, judge, normalised
from cortical.core import rules
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.outcome import Ok
from cortical.core.run import Run
from cortical.core.status import TerminationReason
from cortical.store import MemoryStore
from cortical.testing import FakeClock


class Turns:
    """A loop walked by hand, turn after turn."""

    def __init__(self, goal: str = "a goal", metadata: dict[str, Any] | None = None) -> None:
        self.journal = Journal(MemoryStore(), clock=FakeClock())
        self.root = self.journal.plant("r", rules.start, LOOP, goal, place="question", metadata=metadata)

    def take(self, answer: object = None, artifact: object = None, feedback: str = "", *, go_on: bool = True) -> Run:
        """One turn that is sent back; without `go_on` it is left in VERIFY, the verdict not recorded."""
        self._answer_and_make(answer, artifact)
        self.move("verify")
        if go_on:
            self.note("verdict", {"verdict": "revise", "text": feedback, "evidence": None})
            self.move("question")
        return self.root

    def note(self, topic: str, value: object) -> None:
        self.journal.change("r", rules.note, topic, value)

    def move(self, place: str) -> None:
        self.journal.change("r", rules.move, place)

    def child(self, goal: str, *, parent: str = "r", value: object = None, **metadata: Any) -> Run:
        """A child of a loop, spawned in the visit in which the parent stands, ended with `value` if there is one."""
        visit = self.journal.run(parent).visit
        assert visit is not None
        child_id = self.journal.new_id()
        told = {"visit": visit.seq, **metadata}
        self.journal.change(parent, rules.spawn, LOOP, {child_id: goal}, place=None, metadata=told)
        self.journal.change(child_id, rules.begin, "question")
        if value is not None:
            self.journal.change(child_id, rules.end, Ok(value), TerminationReason.SUCCESS)
        return self.journal.run(child_id)

    def _answer_and_make(self, answer: object, artifact: object) -> None:
        self.move("answer")
        if answer is not None:
            self.note("answer", answer)
        self.move("produce")
        if artifact is not None:
            self.note("artifact", {"name": "report.md", "content": artifact})


def codes(found: list[Finding]) -> list[tuple[str, str]]:
    return [(one.code, one.severity) for one in found]


def after(answers: str, *, feedback: Callable[[int], str] = str) -> Run:
    """The loop after turns with these answers, a letter each; a blank is a turn that brought nothing."""
    turns = Turns()
    for number, answer in enumerate(answers):
        turns.take(None if answer == " " else answer, feedback=feedback(number))
    return turns.root


def test_a_loop_that_gets_on_has_no_findings() -> None:
    """Other answers, other feedback: nothing to say."""
    assert findings(after("ABCDE")) == []


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ("A", []),
        ("AA", [("turns_repeat", "low")]),
        ("BAAA", [("turns_repeat", "medium")]),
        ("AAAAAA", [("turns_repeat", "high")]),
        ("AAAB", []),
        ("ABA", [("turns_swing", "medium")]),
        ("ABABAB", [("turns_swing", "high")]),
        ("ABC", []),
        ("ABAC", []),
        ("   ", []),
        ("A A", []),
    ],
)
def test_repeating_and_swinging_turns_are_graded_by_their_number(answers: str, found: list[tuple[str, str]]) -> None:
    """Only the turns up to the present one count, and those that brought nothing show no pattern."""
    assert codes(findings(after(answers))) == found


def test_a_finding_tells_the_turns() -> None:
    """The message can be read, and the evidence be noted."""
    (found,) = findings(after("BAAA"))
    assert found.message == "turns 2 to 4 brought the same answers, artifacts and child results"
    assert found.evidence == {"turns": [2, 3, 4]}


def test_same_answers_with_another_artifact_are_progress() -> None:
    """What was made counts as well as what was said."""
    turns = Turns()
    for content in ("one", "two", "three"):
        turns.take("A", content)
    assert findings(turns.root) == []


def test_the_last_of_an_artifact_counts() -> None:
    """A draft on the way to the same artifact makes no difference."""
    turns = Turns()
    turns.take("A", "final")
    turns.note("artifact", {"name": "report.md", "content": "draft"})
    turns.take("A", "final")
    assert codes(findings(turns.root)) == [("turns_repeat", "low")]


def test_child_results_are_progress() -> None:
    """A turn whose children brought something else is not the same; with equal goals and results it is."""
    turns = Turns()
    for value in (1, 2, 2):
        turns.child("Part", value=value)
        turns.take("A")
    (found,) = findings(turns.root)
    assert found.evidence == {"turns": [2, 3]}


def test_values_that_cannot_be_kept_are_compared_by_their_text() -> None:
    """In memory an answer may be anything; a value whose text is its own looks new."""
    same, other = Turns(), Turns()
    for _ in range(3):
        same.take(range(3))
        other.take(lambda: None)
    assert codes(findings(same.root)) == [("turns_repeat", "medium")]
    assert findings(other.root) == []


@pytest.mark.parametrize(
    ("count", "severity"),
    [(2, "low"), (3, "medium"), (6, "high")],
)
def test_repeated_feedback_to_no_work_counts_in_full(count: int, severity: str) -> None:
    """Where nothing was answered or made, the verifier's word is all there is."""
    run_ = after(" " * count, feedback=lambda number: "again")
    assert codes(findings(run_)) == [("feedback_repeats", severity)]


@pytest.mark.parametrize(("answers", "severity"), [("ABCDE", "low"), ("ABCDEF", "medium")])
def test_repeated_feedback_to_changing_work_counts_half(answers: str, severity: str) -> None:
    """A search that tries something else each time is given twice as many turns."""
    assert codes(findings(after(answers, feedback=lambda number: "fails"))) == [("feedback_repeats", severity)]


def test_seconds_and_addresses_do_not_make_feedback_new() -> None:
    """What differs from run to run of the same failing test is left out of the comparison; other numbers are not."""
    steady = after("   ", feedback=lambda n: f"1 failed in {n}.0{n}s\n<Thing at 0x7f{n}>")
    moving = after("   ", feedback=lambda n: f"{3 - n} failed")
    assert codes(findings(steady)) == [("feedback_repeats", "medium")]
    assert findings(moving) == []


def test_turns_before_a_persons_answer_do_not_count() -> None:
    """What a person said is news: counting begins anew after it."""
    turns = Turns()
    for _ in range(4):
        turns.take("A")
    turns.note("provided", {"key": "escalated", "value": "go on"})
    turns.take("A")
    assert judge(turns.root, Stuck()) is None
    for _ in range(3):
        turns.take("A")
    assert findings(turns.root)[0].evidence == {"turns": [6, 7, 8]}


def test_a_loop_that_has_not_begun_is_not_stuck() -> None:
    """Without a visit there is nothing to see."""
    journal = Journal(MemoryStore(), clock=FakeClock())
    assert findings(journal.plant("r", rules.start, LOOP, "a goal")) == []


def test_cost_does_not_grow_with_the_history() -> None:
    """However long a loop has gone on, no more is looked at than the grades need."""
    (found,) = findings(after("A" * 100))
    assert found.evidence == {"turns": list(range(89, 101))}


@pytest.mark.parametrize("answers", ["ABCABABAAAA", "AAAABBAB", " A  BB"])
def test_what_was_read_before_is_not_read_again(answers: str) -> None:
    """With the past turns that were read before the same is found, also when a child of one ends late."""
    turns, seen = Turns(), dict[int, Any]()
    for number, answer in enumerate(answers):
        if number > 2:  # that of a turn before the last one
            turns.journal.change(f"c{number - 3}", rules.end, Ok(answer), TerminationReason.SUCCESS)
        assert turns.root.visit is not None
        begun = {"visit": turns.root.visit.seq}
        turns.journal.change("r", rules.spawn, LOOP, {f"c{number}": "a part"}, place=None, metadata=begun)
        turns.journal.change(f"c{number}", rules.begin, "question")
        turns.take(None if answer == " " else answer, feedback="no", go_on=False)
        assert findings(turns.root, 2, feedback="no", seen=seen) == findings(turns.root, 2, feedback="no")
        assert len(seen) <= 8
        turns.note("verdict", {"verdict": "revise", "text": "no", "evidence": None})
        turns.move("question")
    assert len(seen) > 1


# What a child was asked


def test_a_child_asked_what_an_ancestor_was_asked_is_found() -> None:
    """Case, blanks and the closing mark make no difference, and a loop in between hides nothing."""
    turns = Turns("Why is it slow?", {"agent": {"name": "a"}})
    between = turns.child("Measure it", agent={"name": "a"})
    child = turns.child("  why is  it SLOW ", parent=between.id, agent={"name": "a"})
    assert asked_above(child) is turns.root
    (found,) = findings(child)
    assert (found.code, found.severity, found.evidence) == ("asked_above", "medium", {"above": "r", "same_agent": True})
    assert findings(between) == []


def test_the_same_goal_for_another_agent_is_only_seen() -> None:
    """A reviewer may well be given the writer's goal."""
    turns = Turns("An article", {"agent": {"name": "writer"}})
    child = turns.child("An article", agent={"name": "reviewer"})
    assert codes(findings(child)) == [("asked_above", "low")]
    assert judge(child, Stuck()) is None


def test_the_same_goal_with_other_inputs_is_another_question() -> None:
    """Dividing work by inputs is no circle."""
    turns = Turns("sort", {"inputs": {"part": [1, 2, 3, 4]}})
    assert asked_above(turns.child("sort", inputs={"part": [1, 2]})) is None
    assert asked_above(turns.child("sort", inputs={"part": [1, 2, 3, 4]})) is turns.root


def test_goals_are_normalised() -> None:
    """What makes no difference to a reader is taken out."""
    assert normalised("  Which\n Files? ") == normalised("which files") == "which files"


# The policy


@pytest.mark.parametrize("then", ["escalate", "break", "warn"])
def test_the_policy_says_what_to_do_and_why(then: Any) -> None:
    """After so many turns without progress its action comes back, with a reason for the log."""
    assert judge(after("AA"), Stuck(then=then)) is None
    assert judge(after("AAA"), Stuck(then=then)) == (
        then,
        "stuck: turns 1 to 3 brought the same answers, artifacts and child results",
    )


def test_the_number_of_turns_can_be_chosen() -> None:
    """Fewer turns act sooner, more later."""
    assert judge(after("AA"), Stuck(after_turns=2)) is not None
    assert judge(after("AAA"), Stuck(after_turns=4)) is None


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"after_turns": 1}, InvalidInput), ({"after_turns": True}, WrongType), ({"then": "stop"}, InvalidInput)],
)
def test_what_is_of_no_use_is_refused(wrong: dict[str, Any], error: type[Exception]) -> None:
    """A number of turns in which nothing can repeat itself, what is no number, and unknown ends."""
    with pytest.raises(error, match=f"{next(iter(wrong))} of a Stuck"):
        Stuck(**wrong)


def test_a_turn_is_judged_before_its_verdict_is_recorded() -> None:
    """The feedback that is about to be recorded is given by hand, and the present turn counts."""
    turns = Turns()
    turns.take(feedback="again")
    turns.take(feedback="again")
    run_ = turns.take(go_on=False)
    assert judge(run_, Stuck(), feedback="something else") is None
    assert judge(run_, Stuck(), feedback="again") == (
        "escalate",
        "stuck: turns 1 to 3 were sent back with the same feedback: again",
    )


@pytest.mark.parametrize("wrong", [{"after_turns": 1}, {"after_turns": 2.5}, {"then": "panic"}])
def test_a_policy_of_no_use_is_refused(wrong: dict[str, Any]) -> None:
    """One turn is no pattern, and only three actions are known."""
    with pytest.raises((ValueError, TypeError)):
        Stuck(**wrong)


def test_it_reads_what_agents_record() -> None:
    """In a driven loop, answers, artifacts, verdicts and children are found where the driver puts them."""
    agent, helper = Agent("worker", max_turns=2), Agent("helper")
    store = MemoryStore()

    @agent.answer
    def work(loop: Loop) -> None:
        loop.answer("the same")
        loop.spawn("part", agent=helper)

    @agent.produce
    def make(loop: Loop) -> None:
        loop.produce("report.md", len(loop.child_results) > 0)

    agent.verify(lambda loop: Verdict.revise("not good"))
    helper.verify(lambda loop: Verdict.passed(1))
    result = run(agent, "a goal", store=store)
    found = findings(Journal(store, clock=FakeClock()).run(result.run_id))
    assert codes(found) == [("turns_repeat", "low"), ("feedback_repeats", "low")]
    assert found[1].evidence == {"turns": [1, 2], "feedback": "not good", "work_changed": False}
