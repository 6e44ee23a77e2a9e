"""The page for whoever takes a loop over."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st
from markdown_it import MarkdownIt

from cortical import why
from cortical.core import rules
from cortical.core.outcome import Skipped
from cortical.reasoning import CognitiveLoop, LoopPhase, LoopStateSerializer, NestedLoopExecutor, TerminationReason
from cortical.stages.loop import StageHandler
from cortical.testing import FakeClock

START = 1_740_821_400.0  # 2025-03-01 09:30 UTC


def page_of(loop: CognitiveLoop) -> str:
    return LoopStateSerializer().generate_handoff(loop)


def section(page: str, title: str) -> str:
    """What stands under a heading; empty when the page has no such section."""
    _, _, rest = page.partition(f"\n## {title}\n\n")
    return rest.partition("\n\n## ")[0].strip()


WHOLE_PAGE = """\
# Handoff: Choose a database for \\*orders\\*

## Where it stands

- **Loop:** `root`
- **Status:** blocked – the DBA is away
- **Phase:** ANSWER, visit 2, for 45 min; overdue, its time box is 30 min
- **Age:** 1 h 5 min, since 2025-03-01 09:30 UTC

## What comes next

Remove what blocks it, then resume it. It stands in ANSWER: record what was found and decided, and why; then \
move to PRODUCE, or back to QUESTION.

## Decisions

- **use PostgreSQL** – many writers *(answer 1, 2025-03-01 09:40 UTC)*
- **no cache** – no reason given *(answer 1, 2025-03-01 09:40 UTC)*

## Answers

- ten writers *(answer 1, 2025-03-01 09:40 UTC)*
- `{'rows': 10000}` *(answer 1, 2025-03-01 09:40 UTC)*

## Open questions

- Who pays for max_size?\\
  And \\_when\\_? *(question 2, 2025-03-01 09:50 UTC)*

## Earlier questions

Something was answered or decided after these; the record does not say which it settled.

- How many writers? *(question 1, 2025-03-01 09:30 UTC)*

## Blockers

- the DBA is away

## Artifacts

- schema.sql *(answer 1, 2025-03-01 09:40 UTC)*

## Children

- ✓ measure (`measure`): completed (success), with `{'writers': 10}`
- ⊘ ask around (`ask`): abandoned (manual) – nobody answers

## Notes

- \\- see the wiki *(answer 1, 2025-03-01 09:40 UTC)*

## Last steps

- 2025-03-01 09:30 UTC: begun → question
- 2025-03-01 09:40 UTC: question → answer
- 2025-03-01 09:50 UTC: answer → question – who pays?
- 2025-03-01 09:50 UTC: question → answer
"""


def test_a_whole_page() -> None:
    """The page says where the loop stands, what comes next, and all that was recorded, from the record alone."""
    clock = FakeClock(START)
    executor = NestedLoopExecutor(clock=clock, new_id=iter(["root", "measure", "ask"]).__next__)
    root = executor.start_root("Choose a database for *orders*")
    loop = executor.get_loop(root)
    loop.current_context().record_question("How many writers?")
    clock.now += 600
    executor.advance(root)
    measure, ask = executor.spawn_children(root, ["measure", "ask around"])
    executor.complete(measure, {"writers": 10})
    executor.break_loop(ask, "nobody answers")
    executor.record_answer(root, "ten writers")
    executor.record_answer(root, {"rows": 10000})
    loop.current_context().record_decision("use PostgreSQL", "many writers")
    loop.current_context().record_decision("no cache")
    loop.current_context().record_artifact("schema.sql")
    loop.add_note("- see the wiki")
    clock.now += 600
    loop.transition(LoopPhase.QUESTION, "who pays?")
    loop.current_context().record_question("Who pays for max_size?\n\n  And _when_?")
    loop.transition(LoopPhase.ANSWER)
    loop.block("the DBA is away")
    clock.now += 45 * 60
    assert page_of(loop) == WHOLE_PAGE


def test_an_empty_loop_says_what_is_missing() -> None:
    """A loop that was not started has a short page: sections whose emptiness is news say so, the rest is left out."""
    page = page_of(CognitiveLoop("later", clock=FakeClock(START), new_id=lambda: "a1"))
    assert page == (
        "# Handoff: later\n\n## Where it stands\n\n- **Loop:** `a1`\n- **Status:** not started\n"
        "- **Age:** 0 s, since 2025-03-01 09:30 UTC\n\n## What comes next\n\nStart it: nothing has been done yet.\n\n"
        "## Decisions\n\nNone recorded.\n\n## Open questions\n\nNone were raised.\n\n## Blockers\n\nNone.\n\n"
        "## Artifacts\n\nNone recorded.\n"
    )


def test_a_page_survives_the_way_through_text() -> None:
    """A loop that was read from its text has the same page, but for the records of children that are elsewhere."""
    clock = FakeClock(START)
    executor = NestedLoopExecutor(clock=clock)
    root = executor.start_root("whole")
    executor.record_answer(root, "ten")
    child = executor.spawn_child(root, "part")
    serializer = LoopStateSerializer(clock=clock)
    manager = serializer.deserialize_manager(serializer.serialize_manager(executor.manager))
    same = manager.get_loop(root)
    assert same is not None
    assert page_of(same) == page_of(executor.get_loop(root))
    alone = serializer.deserialize(serializer.serialize(executor.get_loop(root)))
    assert section(page_of(alone), "Children") == f"- `{child}`: its record is not here"


@pytest.mark.parametrize(
    ("change", "status", "comes_next"),
    [
        (lambda loop: None, "active", "It stands in QUESTION: settle what is asked, then move to ANSWER."),
        (lambda loop: loop.pause("lunch"), "paused – lunch", "Resume it. It stands in QUESTION"),
        (lambda loop: loop.block("rain"), "blocked – rain", "Remove what blocks it, then resume it. It stands in"),
        (lambda loop: loop.spawn_child("part"), "active", "It cannot complete before its open children have ended."),
        (lambda loop: loop.complete(), "completed (success)", "Nothing: it is done."),
        (
            lambda loop: loop.complete(TerminationReason.USER_APPROVED),
            "completed (user_approved)",
            "Nothing: it is done.",
        ),
        (
            lambda loop: loop.abandon("dull"),
            "abandoned (manual) – dull",
            "Nothing here: start another loop if the goal",
        ),
        (
            lambda loop: loop.journal.change(loop.id, rules.end, Skipped("known"), TerminationReason.CONDITION_MET),
            "skipped (condition_met) – known",
            "Nothing here: start another loop",
        ),
    ],
)
def test_every_status_says_what_comes_next(
    change: Callable[[CognitiveLoop], object], status: str, comes_next: str
) -> None:
    """However a loop stands, the page says so, why, and what there is to do."""
    loop = CognitiveLoop("a goal")
    loop.start()
    change(loop)
    page = page_of(loop)
    assert f"- **Status:** {status}\n" in page
    assert comes_next in section(page, "What comes next")


@pytest.mark.parametrize(
    ("phase", "todo"),
    [
        (LoopPhase.QUESTION, "move to ANSWER"),
        (LoopPhase.ANSWER, "move to PRODUCE"),
        (LoopPhase.PRODUCE, "move to VERIFY"),
        (LoopPhase.VERIFY, "complete the loop, or begin the next turn"),
    ],
)
def test_every_phase_leads_on(phase: LoopPhase, todo: str) -> None:
    """In each phase the page says what is done in it, and where it leads."""
    loop = CognitiveLoop("a goal")
    loop.start(phase)
    assert todo in section(page_of(loop), "What comes next")


def test_a_parent_waits_for_its_children() -> None:
    """A parent's page names its open children, and those of them that are blocked as blockers."""
    executor = NestedLoopExecutor()
    root = executor.start_root("whole")
    going, stuck = executor.spawn_children(root, ["going", "stuck"])
    executor.block(stuck, "no key")
    page = page_of(executor.get_loop(root))
    assert section(page, "What comes next").startswith("Finish its open children; it becomes active again when")
    assert section(page, "Blockers") == f"- Its child `{stuck}`, stuck: no key"
    assert f"- ▶ going (`{going}`): active in QUESTION\n" in page
    assert f"- ■ stuck (`{stuck}`): blocked in QUESTION – no key" in page
    assert f"- **Parent:** `{root}` – whole\n" in page_of(executor.get_loop(going))


def test_a_failure_tells_its_root_cause() -> None:
    """A failed loop's page has the error, and what was at the root of it."""
    executor = NestedLoopExecutor()
    root = executor.start_root("whole")
    error = RuntimeError("no *answer*")
    error.__cause__ = ConnectionError("refused")
    executor.fail(root, error)
    page = page_of(executor.get_loop(root))
    assert "- **Status:** failed (error) – RuntimeError: no \\*answer\\*\n" in page
    assert "- **Root cause:** ConnectionError: refused\n" in page


def test_a_done_loop_tells_its_result_and_its_time() -> None:
    """A completed loop's page has its result, and how long it took."""
    clock = FakeClock(START)
    loop = CognitiveLoop("a goal", clock=clock)
    loop.start()
    clock.now += 3 * 86400 + 7200
    loop.complete(result=("a", 1))
    page = page_of(loop)
    assert "- **Result:** `('a', 1)`\n" in page
    assert "- **Took:** 3 d 2 h, from 2025-03-01 09:30 UTC to 2025-03-04 11:30 UTC\n" in page
    assert "- **Phase:** QUESTION, visit 1, left after 3 d 2 h; overdue, its time box is 30 min\n" in page


def test_questions_all_answered_are_none_open() -> None:
    """When something was answered after every question, none is open, and the earlier ones are still told."""
    executor = NestedLoopExecutor()
    root = executor.start_root("whole")
    executor.get_loop(root).current_context().record_question("how?")
    executor.record_answer(root, "so")
    page = page_of(executor.get_loop(root))
    assert section(page, "Open questions") == "None: something was answered or decided after each."
    assert "- how? *(question 1, " in section(page, "Earlier questions")


def test_only_the_last_steps_are_told() -> None:
    """Of many steps the last five are told, and how many there were."""
    executor = NestedLoopExecutor(clock=FakeClock(START))
    root = executor.start_root("whole")
    for _ in range(11):
        executor.advance(root)
    steps = section(page_of(executor.get_loop(root)), "Last steps").splitlines()
    assert steps[0] == "The last 5 of 12:"
    assert steps[2] == "- 2025-03-01 09:30 UTC: produce → verify"
    assert len(steps) == 7


class Moody:
    def __repr__(self) -> str:
        raise RuntimeError("not today")


def test_runs_of_every_kind_are_handed_over(clock: FakeClock) -> None:
    """An iteration of a loop stage has its page, and its decisions stand in it with their reasons."""
    stage = {"loop_config": {"type": "fixed", "count": 2}, "decisions": {"depth": {"limit": 1}}}
    handler = StageHandler({"stages": {"s": stage}}, clock=clock)
    handler.start_stage("s")
    handler.initialize_loop("s")
    iteration = handler.start_iteration("s").run_id
    handler.make_decision("s", "depth", {"limit": 2}, reason="it is deep")
    handler.journal.change(iteration, rules.note, "decision", "by hand")
    page = page_of(CognitiveLoop.of(handler.journal, iteration))
    assert section(page, "What comes next") == "It stands in WORK: go on with what it is for."
    assert [line.partition(" *(")[0] for line in section(page, "Decisions").splitlines()] == [
        "- **depth** – it is deep",
        "- **by hand** – no reason given",
    ]
    assert [choice.why for choice in why(handler, iteration).decisions] == ["depth – it is deep", "by hand"]


def test_odd_values_are_shown_as_well_as_can_be() -> None:
    """A value that cannot show itself, a long one, a blank one and one with backticks each have their line."""
    executor = NestedLoopExecutor(clock=FakeClock(START))
    root = executor.start_root("whole")
    for value in (Moody(), "x" * 2500, ["y" * 2500], " \n ", {"code": "``a``"}, "one\ttwo\x07", "\ud800"):
        executor.record_answer(root, value)
    lines = [
        line.removesuffix(" *(question 1, 2025-03-01 09:30 UTC)*")
        for line in section(page_of(executor.get_loop(root)), "Answers").splitlines()
    ]
    assert lines == [
        "- `<a Moody that cannot be shown: RuntimeError>`",
        f"- {'x' * 2000} … (2,000 of 2,500 characters)",
        f"- `['{'y' * 1998}` … (2,000 of 2,504 characters)",
        "- (empty)",
        "- ``` {'code': '``a``'} ```",
        "- one two�",
        "- �",
    ]


# Hostile text

HOSTILE = st.one_of(
    st.text(st.sampled_from("#*_`[]()<>|~-+=!&;:\\\n\t .1a0$\"'{}é\u2028"), min_size=1, max_size=25),
    st.sampled_from(
        [
            "# heading",
            "a\n# heading",
            "a\n===",
            "a\n---",
            "```\ncode",
            "~~~",
            "1. one",
            "2) two",
            "> quote",
            "- - x",
            "* * *",
            "<script>alert(1)</script>",
            "<!-- ",
            "[link](http://x)",
            "![image](x)",
            "[ ] task",
            "**bold** __bold__ _it_ `code`",
            "&lt;b&gt; &#35;",
            "ends in \\",
            "a\\\n# b",
            "| a | b |\n|---|---|",
            "C#",
            "a #",
            "    indented",
            "[ref]: http://x",
            "[^1]: note",
        ]
    ),
    st.text(min_size=1, max_size=15),
).filter(lambda text: not text.isspace())

EXPECTED_HEADINGS = [
    "Where it stands",
    "What comes next",
    "Decisions",
    "Answers",
    "Open questions",
    "Earlier questions",
    "Blockers",
    "Artifacts",
    "Children",
    "Notes",
    "Last steps",
]


def plain(text: str) -> str:
    """What a reader sees of a text: its characters without white space."""
    return "".join(text.split())


@settings(max_examples=200, deadline=None)
@given(HOSTILE)
def test_no_text_breaks_the_page(text: str) -> None:
    """Whatever a goal, note, decision or reason says, it is seen as it was written, and nothing becomes mark-up."""
    executor = NestedLoopExecutor(clock=FakeClock(START), new_id=iter(["root", "child"]).__next__)
    root = executor.start_root(text)
    loop = executor.get_loop(root)
    loop.current_context().record_question(text)
    executor.record_answer(root, text)
    executor.record_answer(root, [text])
    loop.current_context().record_decision(text, text)
    loop.current_context().record_artifact(text)
    loop.add_note(text)
    loop.current_context().record_question("and then?")
    loop.spawn_child(text)
    loop.block(text)
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page_of(loop))
    headings = [tokens[index + 1].content for index, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings[1:] == EXPECTED_HEADINGS
    assert {token.type.removesuffix("_open").removesuffix("_close") for token in tokens} == {
        "heading",
        "inline",
        "bullet_list",
        "list_item",
        "paragraph",
    }
    parts = [part for token in tokens if token.type == "inline" for part in token.children or ()]
    assert {part.type.removesuffix("_open").removesuffix("_close") for part in parts} <= {
        "text",
        "text_special",
        "strong",
        "em",
        "code_inline",
        "hardbreak",
    }
    seen = [
        plain("".join(part.content for part in token.children or () if part.type != "hardbreak"))
        for token in tokens
        if token.type == "inline"
    ]
    if all(char.isprintable() or char.isspace() for char in text):
        said = plain(text)
        assert seen[0] == f"Handoff:{said}"
        assert f"{said}(question1,2025-03-0109:30UTC)" in seen
        assert f"{said}–{said}(question1,2025-03-0109:30UTC)" in seen
