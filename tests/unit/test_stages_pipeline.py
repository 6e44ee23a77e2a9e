"""Pipelines: what they are made of, what is wrong with them, and how they are known again."""

from __future__ import annotations

from typing import Any

import pytest

from cortical.core.errors import InvalidInput, WrongType
from cortical.stages import (
    DependencyCycle,
    DuplicateStage,
    InvalidPipeline,
    Key,
    Pipeline,
    StageRef,
    UnknownStage,
    optional,
    required,
)
from tests.unit.staged import made

ROWS = Key("rows", list)


def of(*names: str, edges: tuple[str, ...] = ()) -> Pipeline:
    return Pipeline("p", [made(name) for name in names], [(f"s:{edge[0]}", f"s:{edge[1]}") for edge in edges])


def told(pipeline: Pipeline, *given: Any) -> list[str]:
    return [str(problem) for problem in pipeline.validate(given)]


def kinds(pipeline: Pipeline, *given: Any) -> list[str]:
    return [problem.kind for problem in pipeline.validate(given)]


def test_orders() -> None:
    """Edges, `after` and `before` say who waits for whom; ties go by insertion."""
    assert of("c", "a", "b").order() == ["s:c", "s:a", "s:b"]
    assert of("c", "a", "b", edges=("ab", "bc")).order() == ["s:a", "s:b", "s:c"]
    assert of("a", "b", "c", "d", edges=("ab", "ac", "bd", "cd")).waves() == [["s:a"], ["s:b", "s:c"], ["s:d"]]
    by_word = Pipeline("p", [made("last", after=["s:mid"]), made("mid"), made("first", before=["s:mid"])])
    assert by_word.order() == ["s:first", "s:mid", "s:last"]
    assert by_word.width == 1
    assert of().order() == []
    assert of().width == 0


def test_the_critical_path() -> None:
    """The chain that takes longest; a stage whose time is not told takes none."""
    diamond = of("a", "b", "c", "d", edges=("ab", "ac", "bd", "cd"))
    assert diamond.critical_path({"s:a": 1, "s:b": 2, "s:c": 5, "s:d": 1}) == (["s:a", "s:c", "s:d"], 7.0)
    assert diamond.critical_path({"s:b": 2}) == (["s:a", "s:b"], 2.0)


def test_requirements_order() -> None:
    """A stage waits for the one that provides what it requires."""
    pipeline = Pipeline("p", [made("uses", requires=["schema>=2,<3"]), made("gives", provides=["schema==2.1"])])
    assert pipeline.order() == ["s:gives", "s:uses"]
    assert told(pipeline) == []


def test_requirements_that_are_not_met() -> None:
    """No provider, the wrong version, and a name that is nearly right are each told."""
    uses = made("uses", requires=["schema>=3"])
    assert told(Pipeline("p", [uses])) == ["'s:uses' requires 'schema>=3', which nobody provides"]
    old = Pipeline("p", [uses, made("gives", version="2.5", provides=["schema"])])
    assert told(old) == ["'s:uses' requires 'schema>=3', which nobody provides: 's:gives' provides 2.5"]
    assert kinds(old) == ["version"]
    assert "did you mean 'schemas'?" in told(Pipeline("p", [uses, made("gives", provides=["schemas"])]))[0]


def test_optional_requirements() -> None:
    """One that nobody provides is done without, and that is said; one that somebody provides orders as any other."""
    uses = made("uses", requires=[optional("cache>=1")])
    without = Pipeline("p", [uses])
    assert told(without) == []
    assert [found.note for found in without.resolved] == [
        "'s:uses' can use 'cache>=1', which nobody provides; it does without"
    ]
    old = Pipeline("p", [uses, made("gives", provides=["cache==0.5"])])
    assert (told(old), old.order()) == ([], ["s:uses", "s:gives"])
    assert Pipeline("p", [uses, made("gives", provides=["cache==1"])]).order() == ["s:gives", "s:uses"]


def test_two_providers() -> None:
    """Two are an error, unless the stage or the pipeline names one; it is told when that one does not fit."""
    gives = [made("one", provides=["disk"]), made("two", provides=["disk"])]
    both = Pipeline("p", [made("uses", requires=["disk"]), *gives])
    assert kinds(both) == ["ambiguous requirement"]
    assert "'s:one' and 's:two' both provide; name one" in told(both)[0]
    named = Pipeline("p", [made("uses", requires=[required("disk", by="s:two")]), *gives])
    assert (told(named), named.order()) == ([], ["s:one", "s:two", "s:uses"])
    chosen = Pipeline("p", [made("uses", requires=["disk"]), *gives], providers={"disk": "s:one"})
    assert (told(chosen), chosen.order()) == ([], ["s:one", "s:uses", "s:two"])
    wrong = Pipeline("p", [made("uses", requires=[required("disk", by="s:tow")]), *gives])
    assert "'s:tow' is to provide, which does not; did you mean 's:two'?" in told(wrong)[0]
    versions = Pipeline(
        "p", [made("uses", requires=["disk>1"]), made("one", provides=["disk==1"]), made("two", provides=["disk==2"])]
    )
    assert (told(versions), versions.order()) == ([], ["s:one", "s:two", "s:uses"])


def test_a_stage_does_not_provide_for_itself() -> None:
    """A stage that requires what it provides waits for another that does."""
    itself = Pipeline("p", [made("a", requires=["x"], provides=["x"])])
    assert kinds(itself) == ["missing requirement"]


def test_all_problems_at_once() -> None:
    """Everything that is wrong is told together, and running it is refused with all of it."""
    registry = {"s:old": made("old", version="1.0")}
    pipeline = Pipeline(
        "p",
        [
            made("a", requires=["disk"], after=["s:b"]),
            made("b", after=["s:c"]),
            made("c", after=["s:a"], reads=["nothing"]),
            "s:lod",
            StageRef("s:old", ">=2"),
        ],
        [("s:a", "s:z")],
        registry=registry,
    )
    assert kinds(pipeline) == [
        "unknown stage",
        "version",
        "unknown stage",
        "missing requirement",
        "cycle",
        "unwritten key",
    ]
    problems = told(pipeline)
    assert problems[0] == "no stage has the id 's:lod'; did you mean 's:old'?"
    assert problems[1] == "the pipeline asks for 's:old' >=2, but there is version 1.0"
    assert problems[4] == "these stages wait for each other: s:a → s:c → s:b → s:a"
    with pytest.raises(InvalidPipeline) as refusal:
        pipeline.require_valid()
    assert [str(problem) for problem in refusal.value.problems] == problems
    assert "6 things are wrong" in str(refusal.value)
    assert all(problem in str(refusal.value) for problem in problems)


def test_two_writers() -> None:
    """Two stages may write one key only one after the other."""
    writers = [made("a", writes=[ROWS]), made("b", writes=[ROWS]), made("c", writes=["rows"])]
    assert kinds(Pipeline("p", writers)) == ["unordered writers"] * 2
    assert told(Pipeline("p", writers, [("s:a", "s:b"), ("s:b", "s:c")])) == []
    half = Pipeline("p", writers, [("s:a", "s:b"), ("s:a", "s:c")])
    assert told(half) == ["'s:b' and 's:c' both write 'rows', in no order; add an edge between them"]


def test_reads() -> None:
    """What is read has to be written before, or given; in no order with its writer, it is a matter of chance."""
    writes, reads = made("w", writes=[ROWS]), made("r", reads=[ROWS])
    assert kinds(Pipeline("p", [reads])) == ["unwritten key"]
    assert told(Pipeline("p", [reads], inputs=[ROWS])) == told(Pipeline("p", [reads]), ROWS) == []
    assert told(Pipeline("p", [reads]), "rows") == []
    assert kinds(Pipeline("p", [writes, reads])) == ["unordered read"]
    assert told(Pipeline("p", [writes, reads], [("s:w", "s:r")])) == []
    late = Pipeline("p", [writes, reads], [("s:r", "s:w")])
    assert told(late) == ["'s:r' reads 'rows' before 's:w', which waits for it, has written it"]
    assert told(late, ROWS) == []
    assert kinds(Pipeline("p", [writes, reads]), ROWS) == ["unordered read"]
    assert "did you mean 'rows'" in told(Pipeline("p", [made("r", reads=["row"], after=["s:w"]), writes]))[0]
    assert kinds(Pipeline("p", [made("both", reads=[ROWS], writes=[ROWS])])) == ["unwritten key"]


def test_building() -> None:
    """`add` and `link` give the pipeline back; a chain of ids is a chain of edges."""
    pipeline = Pipeline("p").add(made("c"), made("a")).add(made("b")).link("s:a", "s:b", "s:c")
    assert pipeline.order() == ["s:a", "s:b", "s:c"]
    assert pipeline.edges == [("s:a", "s:b"), ("s:b", "s:c")]
    assert pipeline.link("s:a", "s:b").order() == ["s:a", "s:b", "s:c"]
    assert len(pipeline) == 3


@pytest.mark.parametrize(
    ("ids", "error", "says"),
    [
        (("s:a", "s:x"), UnknownStage, "no stage has the id 's:x'"),
        (("s:b", "s:a"), DependencyCycle, "s:a → s:b → s:a"),
        (("s:a", "s:a"), DependencyCycle, "s:a → s:a"),
        (("s:c", "s:d", "s:b", "s:a"), DependencyCycle, "s:a → s:b → s:a"),
        (("s:c", "s:d", "s:c"), DependencyCycle, "s:c → s:d → s:c"),
        (("s:a",), InvalidInput, "two ids or more"),
    ],
)
def test_a_bad_edge_is_refused_when_it_is_given(ids: tuple[str, ...], error: type[Exception], says: str) -> None:
    """Nothing of a refused chain is kept."""
    pipeline = of("a", "b", "c", "d", edges=("ab",))
    with pytest.raises(error) as refusal:
        pipeline.link(*ids)
    assert says in str(refusal.value)
    assert pipeline.edges == [("s:a", "s:b")]
    assert list(pipeline.dependencies.graph.edges) == [("s:a", "s:b")]
    assert pipeline.link("s:d", "s:c").order() == ["s:a", "s:b", "s:d", "s:c"]


def test_a_bad_stage_is_refused_when_it_is_added() -> None:
    """A second of one id, one that closes a circle, an id that nobody has, and what is no stage."""
    pipeline = of("a", "b", edges=("ab",))
    with pytest.raises(DuplicateStage, match="pipeline 'p' has a stage 's:a' already"):
        pipeline.add(made("a"))
    with pytest.raises(DependencyCycle, match="s:c → s:a → s:b → s:c"):
        pipeline.add(made("c", after=["s:b"], before=["s:a"]))
    with pytest.raises(UnknownStage, match="'s:z'"):
        pipeline.add("s:z")
    with pytest.raises(WrongType, match="made by @stage"):
        pipeline.add(3)  # type: ignore[arg-type]
    assert pipeline.order() == ["s:a", "s:b"]
    pipeline.add(made("d", before=["s:e"]))
    with pytest.raises(DependencyCycle, match="s:e → s:d → s:e"):
        pipeline.add(made("e", before=["s:d"]))
    assert pipeline.add(made("e")).order() == ["s:a", "s:b", "s:d", "s:e"]


@pytest.mark.parametrize("edges", [[("s:a",)], ["s:a"], [("s:a", "b")], [("s:a", "s:b", "s:c")], [3], [("s:a", 3)]])
def test_edges_that_are_none(edges: list[Any]) -> None:
    """An edge is a pair of ids."""
    with pytest.raises((WrongType, InvalidInput)):
        Pipeline("p", [made("a"), made("b")], edges)


def test_unknown_neighbours() -> None:
    """An edge to a stage that is not there is a problem until the stage is added."""
    pipeline = Pipeline("p", [made("a", after=["s:b"])], [("s:a", "s:c")])
    assert kinds(pipeline) == ["unknown stage", "unknown stage"]
    pipeline.add(made("c"), made("b"))
    assert (told(pipeline), pipeline.order()) == ([], ["s:b", "s:a", "s:c"])


def test_a_part() -> None:
    """Of some stages alone, or with all that they wait for, in the same order."""
    whole = Pipeline(
        "p",
        [made("d", requires=["x"]), made("c", provides=["x"], after=["s:a"]), made("b"), made("a")],
        [("s:b", "s:d")],
    )
    assert whole.part(["s:d"], upstream=True).order() == ["s:b", "s:a", "s:c", "s:d"]
    alone = whole.part(["s:d"])
    assert (alone.order(), told(alone)) == (["s:d"], [])
    assert whole.part(["s:c"], upstream=True).order() == ["s:a", "s:c"]
    with pytest.raises(UnknownStage, match="did you mean"):
        whole.part(["s:dd"])


def test_digests() -> None:
    """The digest changes with a stage, an edge or the inputs, and with nothing else."""
    plain = of("a", "b")
    assert plain.digest == of("a", "b").digest == of("b", "a").digest
    assert plain.digests.keys() == {"s:a", "s:b"}
    others = [
        of("a", "b", edges=("ab",)),
        of("a", "c"),
        Pipeline("p", [made("a", version="3"), made("b")]),
        Pipeline("p", [made("a"), made("b")], inputs=["k"]),
    ]
    assert len({plain.digest, *(other.digest for other in others)}) == 5


def test_a_large_pipeline() -> None:
    """10,000 stages in a chain, each reading what the one before wrote, are put together, checked and ordered."""
    count = 10_000
    stages = [
        made(str(n), writes=[f"k{n}"], reads=[f"k{n - 1}"] if n else [], after=[f"s:{n - 1}"] if n else [])
        for n in range(count)
    ]
    pipeline = Pipeline("long", reversed(stages))
    assert pipeline.validate() == []
    assert pipeline.order() == [f"s:{n}" for n in range(count)]
