"""A tree as a drawing."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any, get_args

import pytest

from cortical.core.errors import InvalidInput
from cortical.core.outcome import Skipped
from cortical.core.rules import end
from cortical.core.status import TerminationReason
from cortical.engine.callers import this_process
from cortical.looking.export import Format
from cortical.reasoning import LoopPhase, NestedLoopExecutor
from cortical.testing import FakeClock


@pytest.fixture
def tree(clock: FakeClock) -> tuple[NestedLoopExecutor, str]:
    """A tree with every status in it, and a goal that could break a drawing."""
    ids = (f"{number:020x}" for number in range(99))
    executor = NestedLoopExecutor(clock=clock, new_id=lambda: next(ids))
    root = executor.start_root('Say "hi" <b>#1</b>\nand \\ more')
    for _ in range(4):
        executor.advance(root)
    active, blocked, failed, skipped, broken, done = executor.spawn_children(root, ["a", "b", "c", "d", "e", "f"])
    executor.get_loop(active).spawn_child("waits")
    executor.block(blocked, "no key")
    executor.fail(failed, ConnectionError("refused"))
    executor.journal.change(skipped, end, Skipped("not needed"), TerminationReason.CONDITION_MET)
    executor.break_loop(broken, "too late")
    executor.get_loop(done).complete(TerminationReason.USER_APPROVED, {"n": 1})
    executor.record_answer(active, object())
    return executor, root


def test_tree(tree: tuple[NestedLoopExecutor, str]) -> None:
    """The text shows sign, id, status, phase, turn, goal, and why it stands so, each loop on one line."""
    executor, root = tree
    assert executor.export(root).splitlines() == [
        '⏸ 00000000 [paused question #2] Say "hi" <b>#1</b> and \\ more – waiting for 6 children',
        "├── ▶ 00000000 [active question] a",
        "│   └── · 00000000 [not_started] waits",
        "├── ■ 00000000 [blocked question] b – no key",
        "├── ✗ 00000000 [failed question] c – ConnectionError: refused",
        "├── ↷ 00000000 [skipped question] d – not needed",
        "├── ⊘ 00000000 [abandoned question] e – too late",
        "└── ✓ 00000000 [completed question] f – user_approved",
    ]


def test_mermaid(tree: tuple[NestedLoopExecutor, str]) -> None:
    """The graph has a node for each loop, its edges, and a class for each status; hostile text is escaped."""
    executor, root = tree
    lines = executor.export(root, format="mermaid").splitlines()
    assert lines[0] == "graph TD"
    assert lines[1] == (
        '    n0["Say #quot;hi#quot; #lt;b#gt;#35;1#lt;/b#gt; and \\ more<br/>00000000 · paused · question"]:::paused'
    )
    assert sum(" --> " in line for line in lines) == 7
    assert "    n1 --> n2" in lines
    assert "    classDef blocked fill:#ffd8b5,stroke:#555;" in lines


def test_dot(tree: tuple[NestedLoopExecutor, str]) -> None:
    """The graph is one that dot can read."""
    executor, root = tree
    text = executor.export(root, format="dot")
    assert text.startswith("digraph loops {")
    assert 'label="Say \\"hi\\" <b>#1</b> and \\\\ more\\n00000000 · paused · question"' in text
    assert text.count(" -> ") == 7
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tplain"], input=text.encode(), check=True, capture_output=True)


def test_json(tree: tuple[NestedLoopExecutor, str], clock: FakeClock) -> None:
    """The text holds each loop with its visits and outcome; a value that JSON lacks is shown as its repr."""
    executor, root = tree
    read: dict[str, Any] = json.loads(executor.export(root, format="json"))
    assert read["root"] == root
    loops = {loop["goal"]: loop for loop in read["loops"]}
    assert loops["f"]["outcome"] == {"ok": {"n": 1}}
    failed = loops["c"]["outcome"]["failed"]
    assert (failed["type"], failed["message"], failed["attempts"], failed["causes"]) == (
        "ConnectionError",
        "refused",
        1,
        [],
    )
    assert loops["d"]["outcome"] == {"skipped": "not needed"}
    assert loops["e"]["outcome"] == {"abandoned": "too late", "by": this_process()}
    assert loops["waits"]["phase"] is None
    assert loops["a"]["visits"][0]["entries"][0]["value"].startswith("<object object")
    assert [visit["phase"] for visit in read["loops"][0]["visits"]] == [
        *(phase.value for phase in LoopPhase),
        "question",
    ]
    assert loops["b"]["started_at"] == "2026-01-01T12:00:00+00:00"


def test_a_part_of_a_tree(tree: tuple[NestedLoopExecutor, str]) -> None:
    """Any loop can be the top of a drawing."""
    executor, root = tree
    child = executor.get_loop(root).child_ids[0]
    assert executor.export(child).splitlines()[1].startswith("└── · ")
    assert executor.export(child, format="mermaid").count("-->") == 1


def test_very_deep_trees_are_drawn() -> None:
    """Depth is no matter of recursion."""
    executor = NestedLoopExecutor(max_depth=3000)
    loop = root = executor.start_root("0")
    for level in range(1, 2000):
        loop = executor.spawn_child(loop, str(level))
    for form in get_args(Format):
        assert "1999" in executor.export(root, format=form)


def test_unknown_formats(executor: NestedLoopExecutor) -> None:
    """A format that there is not is refused with those there are."""
    root = executor.start_root("g")
    with pytest.raises(InvalidInput, match="'svg' is no export format; choose tree, mermaid, dot, json"):
        executor.export(root, format="svg")  # type: ignore[arg-type]
