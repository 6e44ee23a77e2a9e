"""The manager: stages, pipelines and their store in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from cortical.core.errors import InvalidInput
from cortical.stages import (
    DuplicateStage,
    InvalidPipeline,
    Key,
    Life,
    ManagerStopped,
    Plugin,
    StageContext,
    StageManager,
    UnknownPipeline,
    UnknownStage,
    stage,
)

ROWS = Key("rows", list)
TOTAL = Key("total", int)


@stage("m:load", writes=[ROWS], provides=["rows"])
def load(context: StageContext) -> int:
    context[ROWS] = [1, 2, context.arguments.get("more", 3)]
    return 3


@stage("m:sum", requires=["rows"], reads=[ROWS], writes=[TOTAL], plan=lambda context: ())
def total(context: StageContext) -> int:
    context[TOTAL] = sum(context[ROWS])
    return context[TOTAL]


@stage("m:fails", after=["m:sum"])
def fails(context: StageContext) -> None:
    raise OSError("the disk is full")


def manager_of(store: Path | None = None) -> StageManager:
    manager = StageManager(store)
    manager.register(total, load, fails)
    return manager


def test_a_pipeline_is_made_and_run(tmp_path: Path) -> None:
    """It is kept under its name, run in order, and its run stands in the store."""
    with manager_of(tmp_path / "runs.db") as manager:
        pipeline = manager.create_pipeline("sums", ["m:sum", "m:load"])
        result = manager.execute_pipeline("sums", StageContext(arguments={"more": 7}))
        assert result["m:sum"].output == 10
        assert manager.pipeline("sums") is manager.pipeline(pipeline) is pipeline
        run_id = result.run_id
    with manager_of(tmp_path / "runs.db") as manager:
        run = manager.journal.run(run_id)
        assert (run.kind, run.name, [child.value for child in run.children]) == ("pipeline", "sums", [3, 10])


def test_a_pipeline_that_cannot_be_is_not_kept() -> None:
    """What is wrong is told at once, and the name stays free."""
    manager = manager_of()
    with pytest.raises(InvalidPipeline, match="did you mean 'm:load'"):
        manager.create_pipeline("sums", ["m:laod"])
    with pytest.raises(UnknownPipeline):
        manager.pipeline("sums")
    manager.create_pipeline("sums", ["m:load"])
    with pytest.raises(InvalidInput, match="replace=True"):
        manager.create_pipeline("sums", ["m:load"])
    assert len(manager.create_pipeline("sums", ["m:load", "m:sum"], replace=True)) == 2


def test_an_option_that_means_nothing_is_refused(tmp_path: Path) -> None:
    """By its nearest name, whatever holds the store; and what is shared is not told anew."""
    with StageManager(tmp_path / "runs.db", max_depth=3) as manager:
        for place in (tmp_path / "runs.db", manager, manager.journal, manager.store):
            with pytest.raises(InvalidInput, match="did you mean 'max_depth'"):
                StageManager(place, max_depht=3)
        with pytest.raises(InvalidInput, match="max_depth is said to the journal"):
            StageManager(manager, max_depth=4)
        assert StageManager(manager, max_depth=3).journal is manager.journal


def test_one_stage() -> None:
    """A stage is run alone with what it is given, or after all that it waits for."""
    manager = manager_of()
    assert manager.execute_stage("m:load").output == 3
    assert manager.execute_stage("m:sum", with_upstream=True).output == 6
    assert manager.execute_stage("m:sum", {ROWS: [5]}).output == 5
    assert isinstance(manager.execute_stage("m:fails").error, OSError)
    manager.create_pipeline("sums", ["m:sum", "m:load"])
    assert manager.execute_stage("m:sum", pipeline="sums", with_upstream=True).output == 6
    with pytest.raises(UnknownStage, match="did you mean 'm:sum'"):
        manager.execute_stage("m:som")
    with pytest.raises(UnknownPipeline):
        manager.execute_stage("m:sum", pipeline="sons")


def test_dry_runs() -> None:
    """Nothing is executed, and nothing stands in the store."""
    manager = manager_of()
    manager.create_pipeline("sums", ["m:sum", "m:load"])
    plan = manager.dry_run_pipeline("sums")
    assert plan.unknown == ["m:load"]
    assert list(manager.store.roots()) == []
    assert manager.dry_run_pipeline("sums", {"rows": [1]}).unknown == ["m:load"]


def test_its_life() -> None:
    """Each step may be taken twice; stopped, it runs nothing until it is started again."""
    manager = manager_of()
    assert manager.life is Life.NEW
    manager.stop()
    assert manager.life is Life.NEW
    for _ in range(2):
        manager.initialize()
        assert manager.life is Life.INITIALIZED
    assert "core::plugin_initialization" in manager.registry
    for _ in range(2):
        manager.start()
        assert manager.life is Life.STARTED
    manager.initialize()
    for _ in range(2):
        manager.stop()
        assert manager.life is Life.STOPPED
    manager.create_pipeline("sums", ["m:load"])
    with pytest.raises(ManagerStopped, match="start it again"):
        manager.execute_pipeline("sums")
    with pytest.raises(ManagerStopped):
        manager.execute_stage("m:load")
    manager.start()
    assert manager.execute_pipeline("sums").ok


def test_it_starts_itself() -> None:
    """What is run first starts it."""
    manager = manager_of()
    manager.execute_stage("m:load")
    assert manager.life is Life.STARTED


def test_core_stages() -> None:
    """The three core stages bring up the plug-ins that it was given."""
    hooks: list[str] = []

    class Mail(Plugin):
        id = "mail"

        def post_initialize(self, context: StageContext) -> None:
            hooks.append(self.id)

    manager = StageManager(plugins=[Mail()])
    assert manager.execute_stage("core::plugin_post_initialization", with_upstream=True).ok
    assert hooks == ["mail"]


def test_core_ids_are_taken() -> None:
    """A stage of one's own may not stand in the place of a core stage."""
    manager = StageManager()
    manager.register(stage("core::plugin_initialization")(lambda context: None))
    with pytest.raises(DuplicateStage, match="core::plugin_initialization"):
        manager.start()
    assert manager.life is Life.NEW


def test_resuming(tmp_path: Path) -> None:
    """A run that failed is carried on by another manager, and what had succeeded is not run again."""
    broken = [True]

    @stage("m:flaky", after=["m:sum"])
    def flaky(context: StageContext) -> int:
        if broken[0]:
            raise OSError("not yet")
        return context[TOTAL]

    stages = ["m:load", "m:sum", "m:flaky"]
    with manager_of(tmp_path / "runs.db") as manager:
        manager.register(flaky)
        manager.create_pipeline("sums", stages)
        result = manager.execute_pipeline("sums")
        assert not result.ok
    broken[0] = False
    with manager_of(tmp_path / "runs.db") as manager:
        manager.register(flaky)
        manager.create_pipeline("sums", stages)
        again = manager.resume_pipeline(result.run_id)
        assert (again.ok, again["m:flaky"].output, again["m:load"].attempts) == (True, 6, 1)
