"""The commands `stages` and `pipeline`: what each prints, where, and how it ends."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cortical.store.face import Face
from tests.unit.said import Cortical, Said, command_on

STAGES = '''
from pathlib import Path
from cortical.stages import Effect, stage

def note(text):
    with Path("ran").open("a") as file:
        file.write(text)

def plan(context):
    return [Effect("read", "shop.csv", 12)]

@stage("shop:load", version="1.2", provides=["rows"], writes=["rows"], plan=plan)
def load(context):
    """Load the rows.

    All of them.
    """
    note("load ")
    context["rows"] = [1, 2, context.get("more", "none"), context.arguments.get("day", "no day")]
    return len(context["rows"])

@stage("shop:sell", requires=["rows"], reads=["rows"])
def sell(context):
    note("sell ")
    if Path("closed").exists():
        raise ConnectionError("the shop is closed")
    return context["rows"]

@stage("shop:clean")
def clean(context):
    note("clean ")
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module of stages, and definitions of pipelines."""
    (tmp_path / "shop_stages.py").write_text(STAGES)
    (tmp_path / "no_stages.py").write_text("x = 1\n")
    (tmp_path / "shop.yaml").write_text("name: shop\nstages: [shop:load, shop:sell, shop:clean]\n")
    (tmp_path / "wrong.yaml").write_text("name: wrong\nstages: [shop:lod, shop:sell]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("shop_stages", "no_stages"):
        sys.modules.pop(name, None)


@pytest.fixture
def cli(folder: Path) -> Cortical:
    """Runs a command in that folder, on a store in it."""
    return command_on(folder / "runs.db", columns=160)


def ran(folder: Path) -> list[str]:
    path = folder / "ran"
    found = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


class TestStages:
    """`cortical stages list`."""

    def test_stages_of_a_module_are_listed(self, cli: Cortical) -> None:
        """Each row has the id, version, what it requires and provides, and its description."""
        said = cli("stages", "list", "shop_stages")
        heading, first, second, _ = said.out.splitlines()
        assert heading.split() == ["stage", "version", "requires", "provides", "description"]
        assert first.split(maxsplit=3) == ["shop:load", "1.2", "rows", "Load the rows."]
        assert second.split() == ["shop:sell", "0", "rows"]
        assert said.code == 0

    def test_json_has_all_that_a_stage_declares(self, cli: Cortical) -> None:
        """Requirements, keys, and what it can do besides its work."""
        load, sell, clean = cli("stages", "list", "shop_stages", "--json").json
        assert (load["provides"], load["writes"], load["can_plan"]) == (["rows 1.2"], ["rows"], True)
        assert (sell["requires"], sell["can_plan"]) == ([{"capability": "rows", "optional": False, "by": None}], False)
        assert clean["id"] == "shop:clean"

    @pytest.mark.parametrize(
        ("name", "told", "code"),
        [
            ("nothing_there", "there is no module 'nothing_there'", 1),
            ("not.there", "there is no module 'not.there'", 1),
            ("no_stages", "has no stage", 1),
            ("shop_stages.py", "write the name of a module", 2),
        ],
    )
    def test_what_has_no_stages_is_refused(self, cli: Cortical, name: str, told: str, code: int) -> None:
        """The message says what is wrong with the name."""
        said = cli("stages", "list", name)
        assert (said.out, said.code) == ("", code)
        assert told in said.err


class TestPipeline:
    """`cortical pipeline`."""

    def test_one_that_can_be_run_is_said_to_be(self, cli: Cortical) -> None:
        """Nothing is printed as data."""
        assert cli("pipeline", "validate", "shop.yaml", "--stages", "shop_stages") == Said("", "shop can be run\n", 0)

    def test_all_that_is_wrong_is_printed(self, cli: Cortical) -> None:
        """A line for each problem, and exit code 1; with --json its kind and stages."""
        said = cli("pipeline", "validate", "wrong.yaml", "--stages", "shop_stages")
        assert said.code == 1
        assert "did you mean 'shop:load'" in said.out
        problems = cli("pipeline", "validate", "wrong.yaml", "--stages", "shop_stages", "--json").json
        assert len(problems) == len(said.out.splitlines())
        assert problems[0]["stages"] == ["shop:lod"]

    def test_a_plan_is_a_table_and_a_drawing(self, cli: Cortical, folder: Path) -> None:
        """Each stage with what it would do; nothing is run."""
        said = cli("pipeline", "plan", "shop.yaml", "--stages", "shop_stages")
        table, drawing, totals = said.out.split("\n\n")
        assert "would read shop.csv (12 B)" in table
        assert "unknown" in table
        assert "shop:sell ← shop:load" in drawing
        assert totals.startswith("in all: 1 effect,")
        assert (said.code, ran(folder)) == (0, [])
        assert cli("pipeline", "plan", "shop.yaml", "--stages", "shop_stages", "--json").json["unknown"] == [
            "shop:sell",
            "shop:clean",
        ]

    def test_a_plan_of_what_cannot_be_run_ends_with_1(self, cli: Cortical) -> None:
        """The problems stand below the rest."""
        said = cli("pipeline", "plan", "wrong.yaml", "--stages", "shop_stages")
        assert said.code == 1
        assert "problem: no stage has the id 'shop:lod'" in said.out

    def test_a_run_prints_what_came_of_each_stage(self, cli: Cortical, folder: Path) -> None:
        """Inputs and arguments reach the stages; --json has their outputs."""
        said = cli("pipeline", "run", "shop.yaml", "--stages", "shop_stages")
        assert [line.split()[:2] for line in said.out.splitlines()[1:]] == [
            ["shop:load", "ok"],
            ["shop:sell", "ok"],
            ["shop:clean", "ok"],
        ]
        assert said.err.startswith("shop completed: ")
        assert (said.code, ran(folder)) == (0, ["load", "sell", "clean"])
        options = ("--input", "more=3", "--argument", "day=friday", "--workers", "2", "--json")
        result = cli("pipeline", "run", "shop.yaml", "--stages", "shop_stages", *options).json
        assert result["stages"][1]["output"] == [1, 2, "3", "friday"]

    @pytest.mark.parametrize("file", ["none.yaml", "wrong.yaml"])
    def test_a_run_that_is_refused_leaves_no_store(self, cli: Cortical, folder: Path, file: str) -> None:
        """A file that is not there, and a pipeline that cannot be run."""
        assert cli("pipeline", "run", file, "--stages", "shop_stages").code == 1
        assert not (folder / "runs.db").exists()

    def test_what_failed_is_carried_on(self, cli: Cortical, folder: Path) -> None:
        """Exit code 1, the command that goes on, and then only what had not succeeded is run."""
        (folder / "closed").touch()
        said = cli("pipeline", "run", "shop.yaml", "--stages", "shop_stages")
        assert (said.code, ran(folder)) == (1, ["load", "sell"])
        assert "ConnectionError: the shop is closed" in said.out
        run_id = said.err.split("pipeline resume ")[1].split()[0]
        assert cli("pipeline", "resume", run_id).code == 1  # the stages are nowhere to be found
        assert ran(folder) == []
        (folder / "closed").unlink()
        again = cli("pipeline", "resume", run_id[:9], "--stages", "shop_stages")
        assert (again.code, ran(folder)) == (0, ["sell", "clean"])

    def test_with_keep_going_others_are_run(self, cli: Cortical, folder: Path) -> None:
        """After a failure what does not wait for the failed stage is run."""
        (folder / "closed").touch()
        said = cli("pipeline", "run", "shop.yaml", "--stages", "shop_stages", "--keep-going")
        assert (said.code, ran(folder)) == (1, ["load", "sell", "clean"])

    def test_a_changed_stage_is_refused_unless_said_otherwise(self, cli: Cortical, folder: Path) -> None:
        """What has succeeded and is another now is kept, or run again, as one says."""
        (folder / "closed").touch()
        said = cli("pipeline", "run", "shop.yaml", "--stages", "shop_stages")
        run_id = said.err.split("pipeline resume ")[1].split()[0]
        sys.modules.pop("shop_stages")
        (folder / "shop_stages.py").write_text(STAGES.replace("[1, 2,", "[1, 2, 2.5,"))
        (folder / "closed").unlink()
        ran(folder)
        refused = cli("pipeline", "resume", run_id, "--stages", "shop_stages")
        assert (refused.code, ran(folder)) == (1, [])
        assert "'shop:load'" in refused.err
        assert cli("pipeline", "resume", run_id, "--stages", "shop_stages", "--changed", "run-again").code == 0
        assert ran(folder) == ["load", "sell", "clean"]

    def test_what_is_no_pipeline_is_refused(self, cli: Cortical, folder: Path) -> None:
        """A stage's id, an unknown id, and a file that is not there."""
        result = cli("pipeline", "run", "shop.yaml", "--stages", "shop_stages", "--json").json
        with Face(folder / "runs.db") as face:
            stage_id = face.journal.run(result["run_id"]).children[0].id
        assert "is no pipeline" in cli("pipeline", "resume", stage_id).err
        assert cli("pipeline", "resume", "zzz").code == 1
        missing = cli("pipeline", "run", "none.yaml")
        assert missing.code == 1
        assert "none.yaml: it cannot be read" in missing.err


@pytest.mark.parametrize(
    "command", ["stages list", *(f"pipeline {one}" for one in ("validate", "plan", "run", "resume"))]
)
def test_help_ends_in_an_example_that_runs(cli: Cortical, folder: Path, command: str) -> None:
    """The example does what it shows, on a module, a definition and a run of that name."""
    (folder / "my_stages.py").write_text(STAGES)
    (folder / "report.yaml").write_text((folder / "shop.yaml").read_text())
    run_id = cli("pipeline", "run", "shop.yaml", "--stages", "shop_stages", "--json").json["run_id"]
    said = cli(*command.split(), "--help")
    program, *arguments = shlex.split(said.out.partition("Example:")[2])
    assert [program, *arguments[:2]] == ["cortical", *command.split()]
    given = {"3f2a": run_id}
    assert cli(*(given.get(argument, argument) for argument in arguments)).code == 0
    sys.modules.pop("my_stages", None)
