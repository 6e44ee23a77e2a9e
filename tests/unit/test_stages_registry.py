"""The registry: what is known under an id, who uses it, and what packages bring."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cortical.core.errors import InvalidInput, WrongType
from cortical.stages import (
    DuplicateStage,
    Pipeline,
    Stage,
    StageContext,
    StageInUse,
    StageRegistry,
    UnknownPipeline,
    UnknownStage,
)
from tests.threads import in_threads
from tests.unit.staged import made


def test_stages_by_id() -> None:
    """They are had by id and listed in the order they came; the same one may come twice."""
    a, b = made("a"), made("b")
    registry = StageRegistry([b, a])
    registry.register(a)
    assert registry.get("s:a") is a
    assert registry.list() == [b, a]
    assert ("s:a" in registry, "s:c" in registry, 3 in registry, len(registry)) == (True, False, False, 2)
    with pytest.raises(UnknownStage, match="did you mean 's:a'"):
        registry.get("s:aa")


def test_all_or_none_are_registered() -> None:
    """One that is refused keeps those given with it out too."""
    registry = StageRegistry([made("a")])
    with pytest.raises(DuplicateStage, match="the registry has a stage 's:a' already; replace it"):
        registry.register(made("b"), made("a"))
    with pytest.raises(DuplicateStage):
        registry.register(made("c"), made("c"))
    with pytest.raises(WrongType, match="made by @stage"):
        registry.register(made("b"), 3)  # type: ignore[arg-type]
    assert [one.id for one in registry.list()] == ["s:a"]


def test_replacing() -> None:
    """A stage takes the place of that with its id, and a snapshot stays as it was."""
    old, new = made("a"), made("a", version="2")
    registry = StageRegistry([old, made("b")])
    before = registry.snapshot()
    assert registry.replace(new) is old
    assert (registry.get("s:a"), before["s:a"]) == (new, old)
    assert [one.id for one in registry.list()] == ["s:a", "s:b"]
    with pytest.raises(UnknownStage):
        registry.replace(made("x"))
    with pytest.raises(TypeError):
        before["s:a"] = new  # type: ignore[index]


def test_a_stage_in_use_stays() -> None:
    """It is forgotten when no pipeline uses it, or together with those that do."""
    registry = StageRegistry([made("a"), made("b")])
    one = Pipeline("one", ["s:a"], registry=registry)
    registry.add_pipeline(one)
    registry.add_pipeline(Pipeline("two", ["s:a", "s:b"], registry=registry))
    with pytest.raises(StageInUse, match=r"'s:a' is used by 'one', 'two'.*cascade=True"):
        registry.unregister("s:a")
    assert "s:a" in registry
    assert registry.remove_pipeline("two").name == "two"
    registry.unregister("s:b")
    assert registry.unregister("s:a", cascade=True) == ("one",)
    assert (len(registry), registry.pipelines()) == (0, {})
    with pytest.raises(UnknownStage):
        registry.unregister("s:a")


def test_pipelines_by_name() -> None:
    """One name, one pipeline, unless it is to be replaced; then its former stages are free."""
    registry = StageRegistry([made("a"), made("b")])
    registry.add_pipeline(Pipeline("p", ["s:a"], registry=registry))
    other = Pipeline("p", ["s:b"], registry=registry)
    with pytest.raises(InvalidInput, match="pass replace=True"):
        registry.add_pipeline(other)
    registry.add_pipeline(other, replace=True)
    registry.add_pipeline(other)
    assert registry.pipeline("p") is other
    assert registry.unregister("s:a") == ()
    with pytest.raises(UnknownPipeline, match="did you mean 'p'"):
        registry.pipeline("pp")
    with pytest.raises(UnknownPipeline):
        registry.remove_pipeline("zzz")


def test_many_threads() -> None:
    """Threads that register, replace, look and forget at once lose nothing of each other's."""
    registry = StageRegistry()
    wrong: list[BaseException] = []

    def work(who: int) -> None:
        try:
            for turn in range(50):
                name = f"{who}-{turn}"
                registry.register(made(name))
                assert f"s:{name}" in registry.snapshot()
                registry.replace(made(name, version="2"))
                if turn % 2:
                    registry.unregister(f"s:{name}")
        except Exception as error:  # noqa: BLE001
            wrong.append(error)

    in_threads(work, range(8))
    assert not wrong
    assert len(registry) == 8 * 25


PACKAGE = """
from cortical.stages import Stage, stage

@stage("{name}:load")
def load(context):
    return "loaded"

@stage("{name}:check")
def check(context):
    return "checked"

class Report(Stage):
    id = "{name}:report"

    def run(self, context):
        return "reported"

several = [load, Report]
nothing = []
number = 3
"""


def install(folder: Path, name: str, entry_points: str, code: str = PACKAGE) -> None:
    """A package as an installer would leave it: its code, and what it says of itself."""
    (folder / f"{name}.py").write_text(code.format(name=name))
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[cortical.stages]\n{entry_points}")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_plugins(packages: Path) -> None:
    """An entry point leads to a stage, a class, several, or a module; all of them are registered, once."""
    install(packages, "acme_one", "one = acme_one:load\ntwo = acme_one:Report\nthree = acme_one:check\n")
    install(packages, "acme_two", "four = acme_two\n")
    install(packages, "acme_three", "five = acme_three:several\n")
    registry = StageRegistry()
    loaded = {plugin.name: plugin for plugin in registry.load_plugins()}
    assert loaded["one"].stages == ("acme_one:load",)
    assert loaded["two"].stages == ("acme_one:report",)
    assert loaded["four"].stages == ("acme_two:load", "acme_two:check")
    assert loaded["five"].stages == ("acme_three:load", "acme_three:report")
    assert all(plugin.error is None for plugin in loaded.values())
    report = registry.get("acme_one:report")
    assert report.run(StageContext()) == "reported"
    assert {plugin.name for plugin in registry.load_plugins()} == set(loaded)
    assert registry.get("acme_one:report") is report
    assert len(registry) == 7


def test_broken_plugins(packages: Path) -> None:
    """A broken one is told of by name with its error; the others load, and nothing of the broken one stays."""
    install(packages, "acme_good", "good = acme_good:load\n")
    install(packages, "acme_bad", "bad = acme_bad:load\n", "raise RuntimeError('no licence')")
    points = "none = acme_odd:missing\nnumber = acme_odd:number\nempty = acme_odd:nothing\n"
    install(packages, "acme_odd", points)
    install(packages, "acme_twice", "twice = acme_twice\n", PACKAGE.replace('"{name}:check"', '"acme_good:load"'))
    registry = StageRegistry()
    failed = {plugin.name: plugin.error for plugin in registry.load_plugins() if plugin.error is not None}
    assert failed.keys() == {"bad", "none", "number", "empty", "twice"}
    assert failed["bad"].message == "no licence"
    assert failed["none"].type == "AttributeError"
    assert "leads to no stage" in failed["empty"].message
    assert "'acme_good:load' already" in failed["twice"].message
    assert [one.id for one in registry.list()] == ["acme_good:load"]
    for name in ("acme_bad", "acme_odd", "acme_twice", "acme_good"):
        sys.modules.pop(name, None)


def test_modules(packages: Path) -> None:
    """The stages that are attributes of a module are registered; one without any, or none at all, is refused."""
    (packages / "acme_module.py").write_text(PACKAGE.format(name="acme_module"))
    (packages / "acme_empty.py").write_text("")
    registry = StageRegistry()
    assert registry.load_module("acme_module") == ("acme_module:load", "acme_module:check")
    assert registry.load_module("acme_module") == ("acme_module:load", "acme_module:check")
    with pytest.raises(InvalidInput, match="'acme_empty' has no stage"):
        registry.load_module("acme_empty")
    with pytest.raises(ModuleNotFoundError):
        registry.load_module("acme_nowhere")


def test_a_stage_may_use_the_registry() -> None:
    """A stage that registers another while it runs does so; what runs does not see it."""
    registry = StageRegistry()

    class Grows(Stage):
        id = "s:grows"

        def run(self, context: StageContext) -> int:
            registry.register(made("new"))
            return len(registry)

    registry.register(Grows())
    before = registry.snapshot()
    assert before["s:grows"].run(StageContext()) == 2
    assert list(before) == ["s:grows"]
