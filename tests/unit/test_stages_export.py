"""Drawings of pipelines, with and without a run."""

from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from cortical.core import rules
from cortical.core.drawing import seconds_text
from cortical.core.errors import InvalidInput
from cortical.core.journal import Journal
from cortical.core.outcome import Failed, Failure, Ok
from cortical.core.run import Run
from cortical.core.status import TerminationReason
from cortical.stages import Pipeline, StageContext, execute, export, gantt, stage
from cortical.store import MemoryStore
from cortical.testing import FakeClock
from tests.unit.staged import made

PIPELINE = Pipeline("report", [made("d", after=["s:b", "s:c"]), made("a"), made("b"), made("c")], [("s:a", "s:b")])


def a_run(name: str = "report") -> Run:
    """A run in which a has succeeded in 2 s, c failed after 90, b is at work, and d was not begun."""
    clock = FakeClock()
    journal = Journal(MemoryStore(), clock=clock)
    ids = {stage_id: journal.new_id() for stage_id in ("s:a", "s:c", "s:b", "s:d")}
    root = journal.new_id()
    journal.plant(root, rules.start, "pipeline", name, metadata=None, data=None)
    journal.change(root, rules.begin, "work")
    for stage_id, run_id in ids.items():
        journal.change(root, rules.spawn, "stage", {run_id: stage_id}, place=None)
    journal.change(ids["s:a"], rules.begin, "work")
    journal.change(ids["s:c"], rules.begin, "work")
    clock.advance(2)
    journal.change(ids["s:a"], rules.end, Ok(1), TerminationReason.SUCCESS)
    journal.change(ids["s:b"], rules.begin, "work")
    clock.advance(88)
    journal.change(ids["s:c"], rules.end, Failed(Failure("OSError", "no")), TerminationReason.ERROR)
    return journal.run(root)


def test_as_text() -> None:
    """Line by line in waves, each with what it waits for; with a run, how it stands."""
    assert export(PIPELINE) == "\n".join(["report", "  1  s:a", "     s:c", "  2  s:b ← s:a", "  3  s:d ← s:b, s:c"])
    assert export(PIPELINE, "text", a_run()) == "\n".join(
        [
            "report",
            "  1  ✓ s:a  [completed · 2 s]",
            "     ✗ s:c  [failed · 1 min 30 s]",
            "  2  ▶ s:b ← s:a  [active]",
            "  3  · s:d ← s:b, s:c  [not_started]",
        ]
    )


def test_as_mermaid() -> None:
    """Boxes in order with an arrow for each edge, coloured by status."""
    drawn = export(PIPELINE, "mermaid", a_run())
    assert drawn.startswith("graph LR\n")
    assert '    n0["s:a<br/>completed · 2 s"]:::completed' in drawn
    assert '    n3["s:d<br/>not_started"]:::not_started' in drawn
    assert re.findall(r"n\d --> n\d", drawn) == ["n0 --> n1", "n1 --> n3", "n2 --> n3"]
    assert '    n0["s:a"]:::not_started' in export(PIPELINE, "mermaid")


def test_as_dot() -> None:
    """The same for Graphviz."""
    drawn = export(PIPELINE, "dot", a_run())
    assert drawn.startswith("digraph pipeline {\n")
    assert '    n2 [label="s:c\\nfailed · 1 min 30 s", fillcolor="#ffcccc"];' in drawn
    assert re.findall(r"n\d -> n\d;", drawn) == ["n0 -> n1;", "n1 -> n3;", "n2 -> n3;"]


def test_no_such_format() -> None:
    """An unknown format names those that there are."""
    with pytest.raises(InvalidInput, match="choose text, mermaid, dot"):
        export(PIPELINE, "png")  # type: ignore[arg-type]


def test_odd_names() -> None:
    """Quotes, brackets, line ends and signs of the languages drawn in do not break out of their place."""
    odd = Pipeline('a"b\n<c>', [made('x"y<z>#;\\')])
    assert '["s:x#quot;y#lt;z#gt;#35;;\\"]' in export(odd, "mermaid")
    assert 'label="s:x\\"y<z>#;\\\\"' in export(odd, "dot")
    assert export(odd).splitlines()[0] == 'a"b <c>'
    assert export(Pipeline("none")) == "none"


def test_seconds_in_words() -> None:
    """Short times as parts of a second, long ones as minutes and hours; never with an exponent."""
    assert [seconds_text(seconds) for seconds in (0, 1e-7, 0.013, 4.251, 59.4, 187, 7300, 1e7)] == [
        "0 s",
        "0 s",
        "0.013 s",
        "4.25 s",
        "59.4 s",
        "3 min 7 s",
        "2 h 1 min",
        "2,777 h 46 min",
    ]


def test_a_result_is_drawn_as_its_run() -> None:
    """What `execute` gave is as good as the run in the store, whatever became of the stages."""
    clock = FakeClock()

    def work(context: StageContext) -> None:
        clock.advance(2)

    def fail(context: StageContext) -> None:
        clock.advance(1)
        raise ValueError("odd")

    made_of = [
        stage("s:a")(work),
        stage("s:b", after=["s:a"])(fail),
        stage("s:c", after=["s:b"])(work),
        stage("s:d", after=["s:a"], when=lambda context: False)(work),
    ]
    pipeline, journal = Pipeline("mixed", made_of), Journal(MemoryStore(), clock=clock)
    result = execute(pipeline, store=journal, on_failure="keep_going")
    run = journal.run(result.run_id)
    assert export(pipeline, "text", result) == export(pipeline, "text", run)
    assert export(pipeline, "mermaid", result) == export(pipeline, "mermaid", run)
    assert export(pipeline, "dot", result) == export(pipeline, "dot", run)
    assert gantt(result) == gantt(run)


def test_a_gantt_chart() -> None:
    """A bar for each stage that has begun, with its name and time; the same run gives the same file."""
    drawn = gantt(a_run("sales $1 & <all>"))
    assert drawn == gantt(a_run("sales $1 & <all>"))
    words = [text.text for text in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert {"s:a", "s:b", "s:c", "sales $1 & <all>"} <= {str(word).strip() for word in words}
    assert any("✓ 2 s" in str(word) for word in words)
    assert "s:d" not in words


def words_of(drawn: str) -> list[str]:
    """The words of a chart in the order of their places, without the spaces before them."""
    texts = ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")
    return [str(text.text).lstrip() for text in texts]


def test_a_gantt_chart_of_several_levels() -> None:
    """The bars below a run follow its own, names further right; where there are many, the last stands for the rest."""
    clock = FakeClock()
    journal = Journal(MemoryStore(), clock=clock)
    journal.plant("top", rules.start, "loop", "all", place="answer")
    journal.change("top", rules.spawn, "batch", {"b": "files"}, place=None)
    journal.change("b", rules.begin, "work")
    for number in range(5):
        journal.change("b", rules.spawn, "item", {f"i{number}": f"item {number}"}, place=None)
        journal.change(f"i{number}", rules.begin, "work")
        clock.advance(1)
        failed = number == 3
        journal.change(
            f"i{number}",
            rules.end,
            Failed(Failure("OSError", "no")) if failed else Ok(1),
            TerminationReason.ERROR if failed else TerminationReason.SUCCESS,
        )
    run = journal.run("top")
    names = [word for word in words_of(gantt(run, levels=2, most=3)) if word.startswith(("files", "item", "3 m"))]
    assert names == ["files" + 4 * "\u00a0", "item 0", "item 1", "3 more"]
    assert "✗ 3 s" in words_of(gantt(run, levels=2, most=3))
    assert "item 4" in words_of(gantt(run, levels=2))
    assert not any("item" in word for word in words_of(gantt(run)))
    journal.change("b", rules.spawn, "item", {"i5": "item 5"}, place=None)
    journal.change("i5", rules.begin, "work")
    clock.advance(2)
    journal.change("top", rules.note, "note", "later")
    assert "▶ 6 s" in words_of(gantt(journal.run("top"), levels=2, most=2))
    with pytest.raises(InvalidInput, match="levels is 1 or more"):
        gantt(run, levels=0)


def test_letters_of_other_scripts() -> None:
    """A name that no font at hand can draw is written all the same, without a warning."""
    assert "報告 🦆" in gantt(a_run("報告 🦆"))


def test_a_gantt_chart_of_nothing() -> None:
    """A run of which no stage has begun is an empty chart."""
    journal = Journal(MemoryStore(), clock=FakeClock())
    root = journal.new_id()
    journal.plant(root, rules.start, "pipeline", "empty", metadata=None, data=None)
    assert "empty" in gantt(journal.run(root))


def test_a_missing_extra() -> None:
    """Without matplotlib, a chart is refused with the name of the extra; the other drawings need nothing."""
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from cortical.stages import Pipeline, export, gantt\n"
        "print(export(Pipeline('p')))\n"
        "gantt(None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "p\n"
    assert "pip install 'cortical[charts]'" in done.stderr
