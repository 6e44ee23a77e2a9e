"""The commands `batch` and `workflow`: what each prints, where, and how it ends."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cortical.batch import BatchProcessor
from cortical.batch.workflow_batches import enter_alone
from cortical.batch.workflow_definition import batch_of
from cortical.engine.callers import this_process
from cortical.engine.lease import holding_lease
from cortical.store.face import Face
from tests.unit.said import Cortical, Said, command_on

TASKS = '''
from pathlib import Path

def count(name):
    """How many lines a file has; those that begin with b fail while there is a file `broken`."""
    if name.startswith("b") and Path("broken").exists():
        raise ConnectionError(f"{name} is broken")
    with Path("ran").open("a") as file:
        file.write(f"{name}\\n")
    return len(Path(name).read_text().splitlines())
'''
COUNT = {"task": "python", "with": {"function": "shop_tasks:count"}, "max_concurrency": 1}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with files to be counted, a module of tasks, and definitions."""
    (tmp_path / "shop_tasks.py").write_text(TASKS)
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(f"{name}\n" * 3)
    (tmp_path / "batch.json").write_text(json.dumps({"name": "lines", "items": {"files": "*.txt"}, **COUNT}))
    steps = [
        {"id": "list", "task": "file", "with": {"action": "list", "pattern": {"from": "parameters.pattern"}}},
        {"id": "count", "items": {"from": "steps.list"}, "depends_on": ["list"], **COUNT},
    ]
    parameters = {"pattern": "*.txt", "limit": 3}
    workflow = {"name": "counting", "parameters": parameters, "steps": steps}
    (tmp_path / "workflow.json").write_text(json.dumps(workflow))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("shop_tasks", None)


@pytest.fixture
def cli(folder: Path) -> Cortical:
    """Runs a command in that folder, on a store in it."""
    return command_on(folder / "runs.db", columns=160)


def ran(folder: Path) -> list[str]:
    path = folder / "ran"
    found = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


class TestBatchRun:
    """`cortical batch run`."""

    def test_a_function_is_called_with_each_file(self, cli: Cortical, folder: Path) -> None:
        """The counts are printed, one a line."""
        said = cli("batch", "run", "shop_tasks:count", "--files", "*.txt", "--workers", "1")
        assert (said.code, ran(folder)) == (0, ["a.txt", "b.txt", "c.txt"])
        assert [line.split() for line in said.out.splitlines()][:3] == [
            ["total", "3"],
            ["processed", "3"],
            ["failed", "0"],
        ]
        assert " completed: " in said.err

    @pytest.mark.parametrize(
        ("options", "typed"),
        [
            (("--item", "a.txt", "--item", "a.txt"), None),
            (("--items", "names"), None),
            (("--items", "-"), "a.txt\n\na.txt\n"),
        ],
    )
    def test_items_are_given_in_several_ways(
        self, cli: Cortical, folder: Path, options: tuple[str, ...], typed: str | None
    ) -> None:
        """One by one, as lines of a file, or of standard input; equal ones are each one, blank lines none."""
        (folder / "names").write_text("\na.txt\n  \na.txt\n\n")
        assert cli("batch", "run", "shop_tasks:count", *options, "--json", input=typed).json["stats"]["total"] == 2
        assert ran(folder) == ["a.txt", "a.txt"]

    def test_what_failed_can_be_looked_at_and_run_again(self, cli: Cortical, folder: Path) -> None:
        """Exit code 1; a table of the failed items; and a retry that runs these alone."""
        (folder / "broken").touch()
        said = cli("batch", "run", "batch.json")
        assert (said.code, ran(folder)) == (1, ["a.txt", "c.txt"])
        assert "lines has not succeeded: lines – 1 of 3 items failed, 0 tolerated" in said.err
        table = cli("batch", "failed", "lines")
        assert table.out.splitlines()[1].split(maxsplit=3) == ["1", "b.txt", "1", "ConnectionError: b.txt is broken"]
        assert "batch retry lines" in table.err
        (failure,) = cli("batch", "failed", "lines", "--json").json
        assert (failure["index"], failure["item"], failure["attempts"]) == (1, "b.txt", 1)
        still = cli("batch", "retry", "lines", "--json").json
        assert (still["ok"], still["why"]) == (False, "1 of 3 items failed, 0 tolerated")
        (folder / "broken").unlink()
        again = cli("batch", "retry", "lines", "--json")
        assert (again.code, ran(folder)) == (0, ["b.txt"])
        assert (again.json["ok"], again.json["stats"]["processed"]) == (True, 3)
        assert cli("batch", "failed", "lines") == Said("", "no item failed\n", 0)

    def test_the_same_name_goes_on(self, cli: Cortical, folder: Path) -> None:
        """Items that have a result are not run again; other items under that name are refused."""
        assert cli("batch", "run", "batch.json").code == 0
        ran(folder)
        assert (cli("batch", "run", "batch.json").code, ran(folder)) == (0, [])
        (folder / "d.txt").write_text("")
        refused = cli("batch", "run", "batch.json")
        assert (refused.code, ran(folder)) == (1, [])
        assert "it had 3 items, now there are 4" in refused.err

    def test_failures_can_be_tolerated(self, cli: Cortical, folder: Path) -> None:
        """With room for the failure the command succeeds, and says where to look."""
        (folder / "broken").touch()
        said = cli("batch", "run", "batch.json", "--tolerate", "1", "--name", "other")
        assert said.code == 0
        assert "batch failed other" in said.err

    def test_an_item_is_tried_again(self, cli: Cortical, folder: Path) -> None:
        """--attempts says how often; those beyond the first are counted."""
        (folder / "broken").touch()
        (folder / "quick.json").write_text(
            json.dumps({"name": "quick", "items": ["b.txt"], "retry": {"max_attempts": 3, "delay": 0}, **COUNT})
        )
        assert cli("batch", "run", "quick.json", "--json").json["stats"]["retried"] == 2

    @pytest.mark.parametrize(
        ("arguments", "told", "code"),
        [
            (("shop_tasks.count",), "write module:function", 2),
            (("shop_tasks:count",), "the batch has no items", 1),
            (("shop_tasks:cuont", "--item", "a"), "leads nowhere", 1),
            (("none_there:count", "--item", "a"), "cannot be imported", 1),
            (("none.yaml",), "it cannot be read", 1),
            (("batch.json", "--item", "a", "--files", "*"), "in one way only", 2),
            (("batch.json", "--items", "/none"), "cannot be read", 2),
            (("batch.json", "--workspace", "none"), "is no folder", 1),
            (("wrong.json",), "did you mean 'task'?", 1),
            (("shop_tasks:count", "--files", "*.tyop"), "matches '*.tyop'", 2),
            (("batch.json", "--files", "none/*"), "matches 'none/*'", 2),
            (("shop_tasks:count", "--items", "blank"), "'blank' has no item", 2),
            (("shop_tasks:count", "--items", "-"), "standard input has no item", 2),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, cli: Cortical, folder: Path, arguments: tuple[str, ...], told: str, code: int
    ) -> None:
        """Nothing is run, no batch is begun, and no store made."""
        (folder / "wrong.json").write_text('{"name": "x", "tsk": "shell", "items": []}')
        (folder / "blank").write_text("\n \n")
        said = cli("batch", "run", *arguments, columns=400)
        assert (said.out, said.code, ran(folder)) == ("", code, [])
        assert told in said.err
        assert not (folder / "runs.db").exists()


class TestBatchShow:
    """`cortical batch show`, and ids."""

    def test_it_tells_how_a_batch_stands(self, cli: Cortical) -> None:
        """Its task, counts and share; --json has its definition too."""
        cli("batch", "run", "batch.json")
        said = cli("batch", "show", "lines")
        assert "100.0 %" in said.out
        shown = cli("batch", "show", "lines", "--json").json
        assert shown["definition"]["with"] == {"function": "shop_tasks:count"}
        assert shown["stats"]["start"].endswith("+00:00")

    def test_of_an_open_one_it_is_said_who_drives_it(self, cli: Cortical, folder: Path) -> None:
        """Or that nobody does, and how it goes on; and no share while no item has ended."""
        with Face(folder / "runs.db") as face:
            enter_alone(face.journal, batch_of({"name": "lines", "items": ["a.txt"], **COUNT}, "here"), folder)
            left = cli("batch", "show", "lines")
            assert re.search(r"held by +nobody", left.out)
            assert "success" not in left.out
            assert re.fullmatch(r"nobody drives it; carry on: .* batch retry lines --store .*runs.db\n", left.err)
            with holding_lease(face.journal, "lines"):
                held = cli("batch", "show", "lines")
                assert (this_process() in held.out, held.err) == (True, "")
                assert cli("batch", "show", "lines", "--json").json["held_by"].startswith(this_process())
        assert cli("batch", "retry", "lines").code == 0
        assert "held by" not in cli("batch", "show", "lines").out

    def test_a_batch_of_a_program_is_shown_but_not_retried(self, cli: Cortical, folder: Path) -> None:
        """Only the program knows its handler."""
        with BatchProcessor(folder, "mine", lambda item, task, context: item, store=folder / "runs.db") as processor:
            processor.run([1, 2])
        assert cli("batch", "show", "mine", "--json").json["stats"]["processed"] == 2
        refused = cli("batch", "retry", "mine")
        assert refused.code == 1
        assert "was run by a program" in refused.err

    def test_unknown_ids_are_refused(self, cli: Cortical) -> None:
        """Each command says so."""
        cli("batch", "run", "batch.json")
        for command in ("show", "failed", "retry"):
            assert cli("batch", command, "zzz").code == 1


class TestWorkflow:
    """`cortical workflow`."""

    def test_one_that_can_be_run_is_said_to_be(self, cli: Cortical) -> None:
        """Nothing is printed as data; an array of nothing with --json."""
        assert cli("workflow", "validate", "workflow.json") == Said("", "counting can be run\n", 0)
        assert cli("workflow", "validate", "workflow.json", "--json").json == []

    def test_all_that_is_wrong_is_printed(self, cli: Cortical, folder: Path) -> None:
        """A line for each problem, and exit code 1."""
        steps = [{"id": "a", "task": "shel"}, {"id": "b", "task": "shell", "depends_on": ["c"]}]
        (folder / "wrong.json").write_text(json.dumps({"name": "wrong", "steps": steps}))
        said = cli("workflow", "validate", "wrong.json")
        assert (len(said.out.splitlines()), said.code) == (3, 1)
        assert said.err == "wrong cannot be run: 3 things are wrong with it\n"
        refused = cli("workflow", "run", "wrong.json")
        assert (refused.out, refused.code) == ("", 1)
        assert [line[:2] for line in refused.err.splitlines()] == ["wo", *(["- "] * 3)]

    def test_a_plan_runs_nothing(self, cli: Cortical, folder: Path) -> None:
        """It shows how many items there would be."""
        said = cli("workflow", "plan", "workflow.json", "--set", "pattern=a*.txt")
        assert "would carry out 1 item by 'python'" in said.out
        assert "count ← list" in said.out
        assert "step:" not in said.out
        assert (said.code, ran(folder)) == (0, [])

    def test_a_run_is_carried_on_after_its_batch_was_mended(self, cli: Cortical, folder: Path) -> None:
        """A failed item fails the step; a retry of the batch, then a resume, run nothing twice."""
        (folder / "broken").touch()
        said = cli("workflow", "run", "workflow.json")
        assert (said.code, ran(folder)) == (1, ["a.txt", "c.txt"])
        assert said.out.split()[0] == "step"
        assert "– step 'count' failed: " in said.err
        run_id = said.err.split("workflow resume ")[1].split()[0]
        assert cli("batch", "failed", run_id, "--json").json[0]["item"] == "b.txt"
        assert cli("batch", "retry", run_id).code == 1
        (folder / "broken").unlink()
        assert (cli("batch", "retry", run_id).code, ran(folder)) == (0, ["b.txt"])
        again = cli("workflow", "resume", run_id, "--json")
        assert (again.code, ran(folder)) == (0, [])
        assert [step["status"] for step in again.json["steps"]] == ["ok", "ok"]
        assert again.json["steps"][1]["value"]["stats"]["processed"] == 3

    def test_parameters_are_texts_or_json(self, cli: Cortical) -> None:
        """JSON where the default is no text; an unknown one and a broken one are refused."""
        assert cli("workflow", "run", "workflow.json", "--set", "pattern=007", "--set", "limit=4").code == 0
        broken = cli("workflow", "run", "workflow.json", "--set", "limit=many")
        assert (broken.code, "Invalid value for --set: 'many' is not JSON" in broken.err) == (2, True)
        unknown = cli("workflow", "run", "workflow.json", "--set", "patern=x")
        assert (unknown.code, "did you mean 'pattern'?" in unknown.err) == (1, True)

    @pytest.mark.parametrize("more", [("none.yaml",), ("wrong.json",), ("workflow.json", "--set", "patern=x")])
    def test_a_run_that_is_refused_leaves_no_store(self, cli: Cortical, folder: Path, more: tuple[str, ...]) -> None:
        """A file that is not there, a workflow that cannot be run, and a parameter that it does not have."""
        (folder / "wrong.json").write_text('{"name": "x", "steps": []}')
        assert cli("workflow", "run", *more).code == 1
        assert not (folder / "runs.db").exists()

    def test_what_is_no_workflow_is_refused(self, cli: Cortical) -> None:
        """A batch that stands alone is none."""
        cli("batch", "run", "batch.json")
        refused = cli("workflow", "resume", "lines")
        assert refused.code == 1
        assert "is no workflow" in refused.err
        run_id = cli("workflow", "run", "workflow.json", "--json").json["run_id"]
        other = cli("pipeline", "resume", run_id)
        assert (other.code, f"workflow resume {run_id}" in other.err) == (1, True)


@pytest.mark.parametrize(
    "command",
    [
        *(f"batch {one}" for one in ("run", "show", "failed", "retry")),
        *(f"workflow {one}" for one in ("validate", "plan", "run", "resume")),
    ],
)
def test_help_ends_in_an_example_that_runs(cli: Cortical, folder: Path, command: str) -> None:
    """The example does what it shows, on a module, a definition and a run of that name."""
    (folder / "my_tasks.py").write_text(TASKS.replace("count", "count_lines"))
    (folder / "count.yaml").write_text((folder / "workflow.json").read_text().replace('"limit": 3', '"folder": "."'))
    noun = ["batch", "run", "batch.json"] if command.startswith("batch") else ["workflow", "run", "workflow.json"]
    run_id = cli(*noun, "--json").json["run_id"]
    program, *arguments = shlex.split(cli(*command.split(), "--help").out.partition("Example:")[2])
    assert [program, *arguments[:2]] == ["cortical", *command.split()]
    given = {"3f2a": run_id, "runs.db": str(folder / "runs.db")}
    assert cli(*(given.get(argument, argument) for argument in arguments)).code == 0
    sys.modules.pop("my_tasks", None)
