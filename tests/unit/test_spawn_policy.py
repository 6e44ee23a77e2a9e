"""Whether a loop should hand questions to children, and which."""

from __future__ import annotations

from typing import Any

import pytest

from cortical.agents.spawn_policy import (
    Decision,
    DefaultSpawnPolicy,
    SpawnContext,
    SpawnPolicy,
    content_words,
    open_questions,
)
from cortical.core import rules
from cortical.reasoning import NestedLoopExecutor
from cortical.testing import FakeClock

APART = ("Which database fits?", "Who signs the contract?", "How long may the outage last?")


def context(*questions: str, **more: Any) -> SpawnContext:
    return SpawnContext("Move the shop", questions, **more)


def test_independent_questions_are_handed_to_children() -> None:
    """Several questions that share no words, time left, room below: spawn, one child each."""
    policy: SpawnPolicy = DefaultSpawnPolicy()
    assert policy.should_spawn(context(*APART)) == Decision(True, "3 of 3 open questions can be answered independently")
    assert policy.suggest_goals(context(*APART)) == list(APART)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (context(), "0 questions are open; children are worth while from 2 on"),
        (context(APART[0]), "1 question is open; children are worth while from 2 on"),
        (context(*APART, depth=4, depth_left=0), "the tree may not be deeper than here (depth 4)"),
        (context(*APART, elapsed=0.8), "80% of the time box is used; it is too late from 75% on"),
        (
            context("Which database fits?", "Which database fits best?"),
            "1 of 2 open questions can be answered independently; children are worth while from 2 on",
        ),
    ],
)
def test_it_says_why_not(given: SpawnContext, why: str) -> None:
    """Too few questions, no room below, no time, or questions that need each other: no children, and the reason."""
    assert DefaultSpawnPolicy().should_spawn(given) == Decision(False, why)


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        ("Which database fits?", "Who signs the contract?", True),
        ("Which database is fast?", "Which databases are the fastest on disk?", True),
        ("Which database is fast?", "Is a fast database needed?", False),
        ("Does cortical/core.py parse?", "Does cortical/store.py parse?", True),
        ("Does core.py parse?", "What does core.py parse?", False),
        ("How is the shop moved?", "When is the shop closed?", True),
        ("Which database fits?", "What does it cost?", False),
        ("Which?", "Who?", False),
    ],
)
def test_independence_goes_by_words(first: str, second: str, apart: bool) -> None:
    """Content words in common bind, other names and the goal's own words do not; pointing back does."""
    assert (len(DefaultSpawnPolicy().suggest_goals(context(first, second))) == 2) is apart


def test_what_is_asked_already_is_not_suggested() -> None:
    """The goal of the loop, of those above and of its children is not asked once more."""
    given = context("Move the shop!", *APART, asked=frozenset({"move the shop", "which database fits"}))
    assert DefaultSpawnPolicy().suggest_goals(given) == list(APART[1:])


def test_no_more_is_suggested_than_wanted() -> None:
    """The first asked come first; without room below there is nothing to suggest."""
    assert DefaultSpawnPolicy(most=2).suggest_goals(context(*APART)) == list(APART[:2])
    assert DefaultSpawnPolicy().suggest_goals(context(*APART, depth_left=0)) == []


def test_the_thresholds_can_be_chosen() -> None:
    """One question may be enough, and time be of no matter."""
    policy = DefaultSpawnPolicy(at_least=1, latest=10)
    assert policy.should_spawn(context(APART[0], elapsed=2.0)).spawn


@pytest.mark.parametrize("wrong", [{"at_least": 0}, {"most": 0}, {"most_overlap": 1.5}, {"latest": 0}])
def test_thresholds_of_no_use_are_refused(wrong: dict[str, Any]) -> None:
    """Each has its range."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DefaultSpawnPolicy(**wrong)


def test_content_words_leave_out_filling() -> None:
    """Case, filling words and plurals make no difference; names keep their dots."""
    assert content_words("Which of the Endpoints do we test in api/v1.py?") == {"endpoint", "test", "api/v1.py"}


# The snapshot


def test_the_snapshot_tells_how_a_loop_stands(executor: NestedLoopExecutor, clock: FakeClock) -> None:
    """Questions, answers, depth and time are taken from the run."""
    root = executor.start_root("Move the shop")
    child = executor.spawn_child(root, "Move the data")
    run = executor.get_loop(child).run
    for question in APART:
        executor.journal.change(child, rules.note, "question", question)
    executor.record_answer(child, "That database which is there")
    clock.advance(900)
    assert SpawnContext.of(run, now=clock.time(), max_depth=5) == SpawnContext(
        "Move the data",
        APART[1:],
        ("That database which is there",),
        depth=1,
        depth_left=3,
        elapsed=0.5,
        asked=frozenset({"move the shop", "move the data"}),
    )


def test_the_share_of_time_goes_by_the_loops_own_box(clock: FakeClock) -> None:
    """A loop with a time box of its own is measured by it, the time it waited left out."""
    executor = NestedLoopExecutor(clock=clock, time_box_minutes=10)
    root = executor.start_root("Move the shop")
    clock.advance(60)
    executor.pause(root, "lunch")
    clock.advance(3600)
    executor.resume(root)
    clock.advance(60)
    assert SpawnContext.of(executor.get_loop(root).run, now=clock.time()).elapsed == pytest.approx(0.2)


@pytest.mark.parametrize(("max_depth", "left"), [(1, 0), (2, 1), (None, None)])
def test_depth_left_is_what_the_rule_allows(executor: NestedLoopExecutor, max_depth: Any, left: Any) -> None:
    """A root in a tree of one level may have no child."""
    run = executor.get_loop(executor.start_root("g")).run
    assert SpawnContext.of(run, now=run.started_at, max_depth=max_depth).depth_left == left


@pytest.mark.parametrize(
    ("said", "still_open"),
    [
        (["?a", "?b", "?a"], ["a", "b"]),
        (["?Which database?", "?Who signs?", "!Anna signs"], ["Which database?"]),
        (["?Which database?", "?Who signs?", "!Postgres"], ["Who signs?"]),
        (["!before", "?Who signs?"], ["Who signs?"]),
        (["?Who signs?", "!Anna", "?who signs"], ["who signs"]),
        (["?Who signs?", "?A part?"], ["Who signs?"]),
    ],
)
def test_an_answer_closes_one_question(executor: NestedLoopExecutor, said: list[str], still_open: list[str]) -> None:
    """The one it has words in common with, or the oldest; a child's question is not the loop's any more."""
    root = executor.start_root("g")
    executor.complete(executor.spawn_child(root, "a part"))
    for text in said:
        executor.journal.change(root, rules.note, "question" if text[0] == "?" else "answer", text[1:])
    assert open_questions(executor.get_loop(root).run) == still_open


def test_an_answer_may_name_its_question(executor: NestedLoopExecutor) -> None:
    """One that names a question closes that and no other."""
    root = executor.start_root("g")
    for question in ("Who signs?", "Which database?"):
        executor.journal.change(root, rules.note, "question", question)
    executor.record_answer(root, {"question": "which database", "answer": "Anna signs for it"})
    executor.record_answer(root, {"question": "Something else?", "answer": 1})
    assert open_questions(executor.get_loop(root).run) == ["Who signs?"]
