"""Dry runs: what would happen, with real sizes; what nobody knows; and that nothing does happen."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cortical.core.errors import InvalidInput, WrongType
from cortical.stages import Effect, FunctionStage, Key, Pipeline, StageContext, stage
from cortical.stages.effects import chmod, copy, create, delete, mkdir, move, read, size_of, size_text

ROWS = Key("rows", list)


def never(context: StageContext) -> None:
    raise AssertionError("a dry run has run a stage")


def planned(name: str, *effects: Effect, **options: Any) -> FunctionStage:
    return stage(f"s:{name}", plan=lambda context: effects, **options)(never)


def tree(folder: Path) -> dict[str, tuple[int, int, bytes | None]]:
    """Everything about the files of a folder that a run could change."""
    return {
        str(path): (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in [folder, *sorted(folder.rglob("*"))]
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.csv").write_bytes(b"x" * 1500)
    (tmp_path / "raw" / "b.csv").write_bytes(b"x" * 500)
    (tmp_path / "old.csv").write_bytes(b"x" * 70)
    return tmp_path


def test_nothing_is_executed(folder: Path) -> None:
    """The files are as before, and so is the context; the plan has every effect with its real size."""

    def plan(context: StageContext) -> Iterator[Effect]:
        yield mkdir(folder / "out")
        yield copy(folder / "raw", folder / "out" / "raw")
        yield move(folder / "raw" / "a.csv", folder / "out" / "a.csv")
        yield delete(folder / "old.csv")
        yield create(folder / "raw" / "b.csv", 30)
        yield chmod(folder / "raw" / "b.csv", 0o600)
        context[ROWS] = [1]

    os.chmod(folder / "raw" / "b.csv", 0o644)
    before = tree(folder)
    context = StageContext({"given": 1})
    plan_of = Pipeline("tidy", [stage("s:a", plan=plan)(never)]).dry_run(context)
    assert tree(folder) == before
    assert list(context) == ["given"]
    assert [(effect.kind, effect.bytes, effect.reversible) for effect in plan_of.effects] == [
        ("mkdir", 0, True),
        ("copy", 2000, True),
        ("move", 1500, True),
        ("delete", 70, False),
        ("create", 30, False),
        ("chmod", 0, True),
    ]
    assert plan_of.bytes == {"mkdir": 0, "copy": 2000, "move": 1500, "delete": 70, "create": 30, "chmod": 0}
    assert plan_of.clean
    assert f"would copy {folder}/raw to {folder}/out/raw (2 kB)" in str(plan_of)
    assert f"would chmod {folder}/raw/b.csv from 644 to 600" in str(plan_of)
    assert "would delete" in str(plan_of)
    assert "(70 B, cannot be taken back)" in str(plan_of)


def test_sizes() -> None:
    """Of files, folders and what is not there; and in words."""
    assert size_of("/no/such/place") is None
    assert read("/no/such/place").bytes is None
    assert str(copy("/no/such/place", "/x")) == "would copy /no/such/place to /x (size not known)"
    assert [size_text(count) for count in (0, 999, 1500, 2_000_000, 3 * 10**9, 5 * 10**15)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2 MB",
        "3 GB",
        "5,000 TB",
    ]


def test_links_are_not_followed_in_folders(tmp_path: Path) -> None:
    """A folder that holds a link to itself has a size all the same."""
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "self").symlink_to(tmp_path)
    found = size_of(tmp_path)
    assert found is not None
    assert found >= 5


def test_effects_of_ones_own() -> None:
    """Any kind will do, with the words given for it; nonsense is refused."""
    mail = Effect("mail", "anna@example.org", seconds=2, reversible=False, description="send\nher the report")
    assert str(mail) == "would send her the report (2 s, cannot be taken back)"
    with pytest.raises(WrongType, match="kind of an effect"):
        Effect(3, "x")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="0 or more"):
        Effect("mail", "x", -1)
    with pytest.raises(WrongType, match="whole number"):
        Effect("mail", "x", 1.5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="a time"):
        Effect("mail", "x", seconds=float("nan"))


def test_what_cannot_be_simulated_is_unknown() -> None:
    """No plan, one that says nothing, raises, or gives no effects: unknown each time, and never a success."""

    async def later() -> None: ...

    def breaks(context: StageContext) -> list[Effect]:
        raise ValueError("no\nidea")

    stages = [
        stage("s:none")(never),
        stage("s:silent", plan=lambda context: None)(never),
        stage("s:breaks", plan=breaks)(never),
        stage("s:text", plan=lambda context: ["delete all"])(never),
        stage("s:one", plan=lambda context: Effect("mail", "x"))(never),
        stage("s:async", plan=lambda context: later())(never),
        stage("s:missing", plan=lambda context: context[ROWS])(never),
        planned("fine"),
    ]
    plan = Pipeline("p", stages).dry_run()
    assert plan.unknown == ["s:none", "s:silent", "s:breaks", "s:text", "s:one", "s:async", "s:missing"]
    assert not plan.clean
    why = {one.id: one.why for one in plan.stages}
    assert why["s:none"] == "it has no plan"
    assert why["s:silent"] == "it cannot say what it would do"
    assert why["s:breaks"] == "ValueError: no idea"
    assert "the context has no 'rows'" in why["s:missing"]
    assert "and what 7 unknown stages would do" in str(plan)
    assert "8. s:fine: nothing" in str(plan)


def test_skipped_stages() -> None:
    """A stage whose condition does not hold would be skipped; one whose condition cannot be told is unknown."""
    plan = Pipeline(
        "p",
        [
            planned("off", Effect("mail", "x"), when=lambda context: context["season"] == "winter"),
            planned("torn", when=lambda context: context["none"]),
        ],
    ).dry_run(StageContext({"season": "summer"}))
    assert [one.state for one in plan.stages] == ["skipped", "unknown"]
    assert plan.effects == []
    assert plan.unknown == ["s:torn"]


def test_plans_see_what_plans_wrote() -> None:
    """What a plan leaves in the context, later plans find; the mode is dry for both."""
    seen: list[Any] = []

    def first(context: StageContext) -> tuple[Effect, ...]:
        context[ROWS] = [1, 2]
        return ()

    def second(context: StageContext) -> tuple[Effect, ...]:
        seen.append((context[ROWS], context.dry, context.arguments["a"], context.configuration["c"]))
        return ()

    pipeline = Pipeline(
        "p",
        [stage("s:1", plan=first, writes=[ROWS])(never), stage("s:2", plan=second, reads=[ROWS])(never)],
        [("s:1", "s:2")],
    )
    assert pipeline.dry_run(StageContext(arguments={"a": 1}, configuration={"c": 2})).clean
    assert seen == [([1, 2], True, 1, 2)]


def test_conflicts(folder: Path) -> None:
    """Two writers in no order, and what is needed after it is gone; in order, and made anew, there is none."""
    target, source = folder / "out.csv", folder / "old.csv"
    writers = [planned("a", create(target, 1)), planned("b", copy(source, target))]
    told = Pipeline("p", writers).dry_run().conflicts
    assert [(one.kind, one.stages, one.target) for one in told] == [
        ("unordered writers of a target", ("s:a", "s:b"), str(target))
    ]
    assert Pipeline("p", writers, [("s:a", "s:b")]).dry_run().conflicts == ()
    gone = Pipeline("p", [planned("a", delete(source)), planned("b", copy(source, target))], [("s:a", "s:b")])
    assert [str(one) for one in gone.dry_run().conflicts] == [f"'s:b' needs {source}, which 's:a' has removed"]
    moved = Pipeline("p", [planned("a", move(source, target), read(source), read(target))]).dry_run()
    assert [str(one) for one in moved.conflicts] == [f"'s:a' needs {source}, which it has removed"]
    anew = Pipeline("p", [planned("a", delete(source), create(source, 5), read(source))]).dry_run()
    assert anew.conflicts == ()
    assert "conflict: 's:b' needs" in str(gone.dry_run())


def test_missing_keys_are_conflicts() -> None:
    """A key that is read and written by nobody stops a run, and so the plan is not clean."""
    pipeline = Pipeline("p", [planned("a", reads=[ROWS])])
    assert [one.kind for one in pipeline.dry_run().conflicts] == ["unwritten key"]
    assert pipeline.dry_run(StageContext({ROWS: []})).clean


def test_problems() -> None:
    """What keeps a pipeline from running stands in its plan; with a cycle there is nothing else in it."""
    unknown = Pipeline("p", ["s:none", planned("a", requires=["disk"])]).dry_run()
    assert [one.state for one in unknown.stages] == ["unknown", "planned"]
    assert [message.split(";")[0] for message in unknown.problems] == [
        "no stage has the id 's:none'",
        "'s:a' requires 'disk', which nobody provides",
    ]
    circle = Pipeline("p", [planned("a", after=["s:b"]), planned("b", after=["s:a"])]).dry_run()
    assert circle.stages == ()
    assert not circle.clean
    assert "problem: these stages wait for each other" in str(circle)


def test_times() -> None:
    """Serial time, the chain that takes longest, and how many could run at once."""

    def takes(name: str, seconds: float, *after: str) -> FunctionStage:
        return planned(name, Effect("work", name, seconds=seconds), after=[f"s:{one}" for one in after])

    plan = Pipeline("p", [takes("a", 1), takes("b", 2, "a"), takes("c", 5, "a"), takes("d", 1, "b", "c")]).dry_run()
    assert (plan.seconds, plan.critical_seconds, plan.width) == (9, 7, 2)
    assert plan.critical_path == ("s:a", "s:c", "s:d")
    assert "time: 9 s one after another, 7 s at best with 2 at a time" in str(plan)


def test_as_json(folder: Path) -> None:
    """The plan as JSON has everything that the text has."""
    pipeline = Pipeline("p", [planned("a", delete(folder / "old.csv")), stage("s:b")(never)])
    told = json.loads(pipeline.dry_run().to_json())
    assert told["totals"]["bytes"] == {"delete": 70}
    assert (told["totals"]["irreversible"], told["unknown"], told["clean"]) == (1, ["s:b"], False)
    assert told["stages"][0]["would"] == [str(delete(folder / "old.csv"))]
    assert told["stages"][0]["effects"][0]["kind"] == "delete"


def test_nothing_at_all() -> None:
    """A pipeline without stages has a plan without effects."""
    plan = Pipeline("p").dry_run()
    assert (plan.clean, plan.effects, plan.seconds, plan.width) == (True, [], 0, 0)


def test_text_is_safe_to_print() -> None:
    """What would steer a terminal, or break the lines, is made visible."""
    plan = Pipeline("p\x1b[2J", [planned("a", Effect("mail", "x\ny\x1b[31m"))]).dry_run()
    assert "\x1b" not in str(plan)
    assert len(str(plan).splitlines()) == 5
