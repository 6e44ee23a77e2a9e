"""Workflows: what a definition may say, the order of steps, conditions, failures, batches among the steps, resuming."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cortical.batch import register_task
from cortical.batch.workflow import Workflow, recorded_workflow, resume_workflow
from cortical.batch.workflow_batches import batch_at, failures_of, results_of
from cortical.batch.workflow_checks import InvalidWorkflow
from cortical.core.errors import RunStateError
from cortical.core.journal import Journal
from cortical.core.status import Status
from cortical.stages import StageFailed
from cortical.stages.errors import DefinitionError
from cortical.store import MemoryStore
from cortical.testing import FakeClock

#: What the tasks of these tests were called with, and which items fail.
called: list[Any] = []
broken: set[Any] = set()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Each test begins with nothing called and nothing broken."""
    called.clear()
    broken.clear()
    yield
    broken.clear()


@register_task("test_workflow.keep")
def keep(item: Any, task: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
    """Gives the task's `value`, or the item; fails where that is broken."""
    value = task.get("value", item)
    called.append(value)
    if isinstance(value, str) and value in broken:
        raise ConnectionError(f"{value} is broken")
    return value


def step(id: str, value: Any = None, **more: Any) -> dict[str, Any]:
    return {"id": id, "task": "test_workflow.keep", "with": {"value": id if value is None else value}, **more}


def batch(id: str, items: Any, **more: Any) -> dict[str, Any]:
    return {"id": id, "task": "test_workflow.keep", "items": items, **more}


def workflow(*steps: dict[str, Any], workspace: Path | str = ".", **more: Any) -> Workflow:
    return Workflow({"name": "test", "steps": list(steps), "max_concurrency": 1, **more}, workspace=workspace)


def statuses(result: Any) -> dict[str, str]:
    return {one.id: one.status for one in result.steps.values()}


class TestDefinition:
    """What a definition may say."""

    def test_all_that_is_wrong_is_told_at_once(self) -> None:
        """Unknown keys, tasks, steps and references each come with the nearest right one."""
        found = workflow(
            {"id": "a", "task": "shel"},
            {"id": "b", "task": "shell", "with": {"command": ["true"]}, "depend_on": ["a"]},
            step("c", {"from": "steps.aa"}, depends_on=["aa"]),
            step("d", {"from": "parameters.foldr"}, condition={"equal": [1, 2]}),
            paramters={},
            parameters={"folder": "."},
        ).validate()
        assert [problem for problem in found if "'paramters'" in problem and "'parameters'?" in problem]
        assert any("'depend_on'" in problem and "'depends_on'?" in problem for problem in found)

    def test_what_is_wrong_with_steps_is_told_of_each(self) -> None:
        """A step that does not exist, one that is not waited for, a parameter, a condition, a task."""
        found = workflow(
            {"id": "a", "task": "shel"},
            step("c", {"from": "steps.aa"}, depends_on=["aa"]),
            step("d", {"from": "parameters.foldr"}),
            step("e", condition={"equal": [1, 2]}),
            step("f", {"from": "steps.a"}),
            step("g", {"from": "item"}),
            step("h", {"from": "errors.c"}, depends_on=["c"]),
            {"id": "i", "task": "file", "with": {"action": "raed"}},
            step("i"),
            step("j", on_error={"next": "j"}, max_concurrency=2),
            parameters={"folder": "."},
        ).validate()
        expected = [
            "2 steps have the id 'i'",
            "step 'a': no task is called 'shel'; did you mean 'shell'?",
            "step 'c' waits for 'aa', which is no step; did you mean 'a'?",
            "step 'c': 'steps.aa' leads nowhere: there is no step 'aa'; did you mean 'a'?",
            "step 'd': 'parameters.foldr' leads nowhere: there is no parameter 'foldr'; did you mean 'folder'?",
            "step 'e': a condition has the key 'equal', which means nothing; did you mean 'equals'?",
            "step 'f': 'steps.a' leads nowhere: 'f' does not wait for 'a'; add it to depends_on",
            "step 'g': 'item' leads nowhere",
            "step 'h': 'errors.c' leads nowhere: the workflow does not go on after an error of 'c'",
            "step 'i': a file task's action is one of",
            "step 'j': on_error leads to the step itself",
            "step 'j': max_concurrency says how many items at a time, but it has no items",
        ]
        missing = [told for told in expected if not any(problem.startswith(told) for problem in found)]
        assert not missing, found

    def test_nothing_is_told_that_follows_from_another_problem(self) -> None:
        """A step with a key that means nothing is a step all the same, for those that wait for it."""
        wrong = step("a", function="math:sqrt")
        (problem,) = workflow(wrong, step("b", {"from": "steps.a"}, depends_on=["a"])).validate()
        assert problem.startswith("step 'a' has the key 'function', which means nothing")

    def test_one_problem_of_a_step_hides_no_other(self) -> None:
        """All that is wrong with its form is told, and what is wrong beyond it, with the words that are near."""
        wrong = {
            "on_error": "retri",
            "timeout": -1,
            "retry": {"max_attempts": 0, "delay": "x", "bakoff": 1},
            "depends_on": ["zz"],
            "condition": {"abov": [1, 2]},
            "tsk": "shell",
        }
        later = step("b", {"from": "errors.a"}, depends_on=["a"], on_error={"next": "zz"}, max_concurrency=0)
        found = workflow(
            {"id": "a", "task": "shell", "with": {"command": "ls"}, **wrong}, later, on_failure="keep going"
        ).validate()
        assert [problem.partition(";")[0] for problem in found] == [
            "the workflow: on_failure: 'keep going' is none of fail_fast, keep_going",
            "step 'a' has the key 'tsk', which means nothing",
            "step 'a': retry has the key 'bakoff', which means nothing",
            "step 'a': retry.max_attempts: expected `int` >= 1",
            "step 'a': retry.delay: expected `float`, got `str`",
            "step 'a': timeout: expected `float` > 0.0",
            "step 'a': on_error: 'retri' is none of fail, continue, retry",
            "step 'b': max_concurrency: expected `int` >= 1",
            "step 'a' waits for 'zz', which is no step",
            'step \'a\': a command is a list: ["wc", "-l", {"from": "item"}]',
            "step 'a': a condition has the key 'abov', which means nothing",
            "step 'b': on_error leads to 'zz', which is no step",
        ]
        assert [problem.partition("; ")[2] for problem in found if "none of" in problem] == [
            "did you mean 'keep_going'?",
            "did you mean 'retry'?",
        ]

    def test_a_step_without_items_has_no_item(self) -> None:
        """It is said that items are for steps that have some, also where the word itself is right."""
        (problem,) = workflow(step("a", {"from": "item.name"})).validate()
        assert problem == "step 'a': 'item.name' leads nowhere: there is 'item' only in a step with items"
        (problem,) = workflow({**batch("a", [1]), "condition": {"from": "item"}}).validate()
        assert problem == "step 'a': 'item' leads nowhere: there is 'item' only in what the task is told"

    @pytest.mark.parametrize(
        ("definition", "told"),
        [
            (None, "a workflow is a table"),
            ({}, "the workflow has no steps"),
            ({"name": "x", "steps": []}, "the workflow has no steps"),
            ({"name": "x", "steps": ["a"]}, "steps[0]: a step is a table"),
            ({"name": "x", "steps": [{"task": "shell"}]}, "steps[0]: object missing required field `id`"),
            ({"name": "x", "steps": [{"id": "a.b", "task": "shell"}]}, "step 'a.b': id:"),
            ({"name": "x", "steps": [step("a", retry={"max_attempts": 0})]}, "step 'a': retry.max_attempts:"),
            ({"name": "x", "steps": [step("a", on_error="ignore")]}, "step 'a': on_error:"),
            ({"name": "x", "steps": [batch("a", "abc")]}, "step 'a': items are a list"),
            ({"name": "x", "steps": [batch("a", {"line": "x"})]}, "did you mean 'lines'?"),
            ({"name": "x", "steps": [batch("a", {"lines": "x", "files": "y"})]}, "from one place"),
            ({"name": "x\ud800", "steps": [step("a")]}, "the workflow's name is to be made of texts"),
            ({"name": "x", "steps": [step("a", object())]}, "step 'a' is to be made of texts"),
            ({"name": "x", "steps": [step("a")], "parameters": {"p": {1, object}}}, "parameter 'p' is to be"),
            ({"name": "x", "steps": [step("a", {"from": 3})]}, "step 'a': a reference is written"),
            ({"name": "x", "steps": [step("a")], "parameters": {"a.b": 1}}, "parameter 'a.b'"),
            ({"name": "x", "steps": [step("a")], "parameters": {"p": {"defult": 1}}}, "parameter 'p' has the key"),
            ({"name": "x", "steps": [step("a", {"template": "{{ oops"})]}, "step 'a': the template"),
        ],
    )
    def test_what_is_no_workflow_is_refused(self, definition: Any, told: str) -> None:
        """Each problem names the spot; nothing is run."""
        wrong = Workflow(definition)
        assert any(told in problem for problem in wrong.validate()), wrong.validate()
        with pytest.raises(InvalidWorkflow) as caught:
            wrong.run()
        assert caught.value.problems == tuple(wrong.validate())
        assert called == []

    def test_a_cycle_is_told_as_a_path(self) -> None:
        """Steps that wait for each other are named in order."""
        assert workflow(step("a", depends_on=["b"]), step("b", depends_on=["a"])).validate() == [
            "these steps wait for each other: a → b → a"
        ]

    @pytest.mark.parametrize("form", ["json", "toml", "yaml"])
    def test_files_say_the_same(self, form: str, tmp_path: Path) -> None:
        """A workflow is the same whether it is read from JSON, TOML or YAML; it works in the file's folder."""
        texts = {
            "json": json.dumps({"name": "one", "steps": [step("a", [1, "x"])]}),
            "toml": 'name = "one"\n[[steps]]\nid = "a"\ntask = "test_workflow.keep"\nwith = {value = [1, "x"]}\n',
            "yaml": "name: one\nsteps:\n- {id: a, task: test_workflow.keep, with: {value: [1, x]}}\n",
        }
        path = tmp_path / f"one.{form}"
        path.write_text(texts[form])
        found = Workflow.from_file(path)
        assert found.workspace == tmp_path
        assert found.definition == Workflow(json.loads(texts["json"])).definition

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        """Missing, of another form, or broken: the message names the file."""
        half = tmp_path / "half.yaml"
        half.write_text("steps: [")
        for path in (tmp_path / "none.yaml", tmp_path / "x.ini", half):
            with pytest.raises(DefinitionError, match=path.name):
                Workflow.from_file(path)

    def test_parameters_are_given_or_have_a_default(self) -> None:
        """A missing one and an unknown one are both told; nothing is run."""
        found = workflow(
            step("a", {"from": "parameters.folder"}), parameters={"folder": {"description": "where"}, "limit": 3}
        )
        with pytest.raises(InvalidWorkflow, match="'limt'; did you mean 'limit'") as caught:
            found.run({"limt": 4})
        assert len(caught.value.problems) == 2
        assert found.run({"folder": "x"}).steps["a"].value == "x"


class TestRunning:
    """Steps in their order, their values, conditions."""

    def test_values_are_handed_on_as_they_are(self) -> None:
        """A reference leads into what a step gave; text that looks like code stays text."""
        rows = {"rows": [{"name": "; rm -rf x {{ 1 }}"}]}
        result = workflow(
            step("use", {"from": "steps.load.rows.0.name"}, depends_on=["load"]), step("load", rows)
        ).run()
        assert called == [rows, "; rm -rf x {{ 1 }}"]
        assert result.steps["use"].value == "; rm -rf x {{ 1 }}"

    def test_templates_are_filled_in_by_a_sandbox(self) -> None:
        """A template sees parameters and steps, and nothing behind them; what is not there is an error."""
        made = workflow(
            step("a"),
            step("b", {"template": "{{ parameters.who }} and {{ steps.a }}"}, depends_on=["a"]),
            parameters={"who": "Zoë"},
        ).run()
        assert made.steps["b"].value == "Zoë and a"
        for text in ("{{ nobody }}", "{{ ''.__class__.__mro__ }}", "{{ steps.__class__.__init__.__globals__ }}"):
            refused = workflow(step("a", {"template": text})).run()
            assert not refused.ok
            assert "cannot be filled in" in refused.steps["a"].why

    @pytest.mark.parametrize(
        ("condition", "runs"),
        [
            (True, True),
            (False, False),
            ({"from": "parameters.flag"}, True),
            ({"not": {"from": "parameters.flag"}}, False),
            ({"equals": [{"from": "steps.a"}, "a"]}, True),
            ({"above": [{"from": "parameters.limit"}, 3]}, False),
            ({"below": [{"from": "parameters.limit"}, 4]}, True),
            ({"in": [{"from": "steps.a"}, ["a", "b"]]}, True),
            ({"all": [True, {"any": [False, {"from": "parameters.flag"}]}]}, True),
            ({"any": []}, False),
        ],
    )
    def test_a_step_whose_condition_does_not_hold_is_skipped(self, condition: Any, runs: bool) -> None:
        """Conditions are references and tables of one key; those that wait for a skipped step are run."""
        result = workflow(
            step("a"),
            step("b", depends_on=["a"], condition=condition),
            step("c", depends_on=["b"]),
            parameters={"flag": True, "limit": 3},
        ).run()
        assert statuses(result) == {"a": "ok", "b": "ok" if runs else "skipped", "c": "ok"}

    def test_what_cannot_be_compared_fails_the_step(self) -> None:
        """The message shows both values."""
        result = workflow(step("a", condition={"above": ["x", 1]})).run()
        assert "'above' cannot be said of 'x' and 1" in result.steps["a"].why

    def test_a_plan_runs_nothing(self, tmp_path: Path) -> None:
        """It says what is known beforehand, and of what depends on other steps that it does."""
        (tmp_path / "a.txt").write_text("x")
        found = workflow(
            {"id": "list", "task": "file", "with": {"action": "list", "pattern": "*.txt"}},
            batch("each", {"from": "steps.list"}, depends_on=["list"]),
            step("sum", {"from": "steps.each.stats"}, depends_on=["each"]),
            {"id": "write", "task": "file", "with": {"action": "write", "path": "out", "content": "12345"}},
            workspace=tmp_path,
        ).plan()
        by_id = {stage.id: stage for stage in found.stages}
        assert [stage.state for stage in found.stages] == ["planned", "planned", "unknown", "planned"]
        assert "1 item by" in str(by_id["step:each"].effects[0])
        assert "step 'each'" in by_id["step:sum"].why
        assert by_id["step:write"].effects[0].bytes == 5
        assert called == []
        assert not (tmp_path / "out").exists()

    def test_a_plan_tells_no_sizes_and_times_that_it_does_not_know(self, tmp_path: Path) -> None:
        """To list files reads names and not what they hold; how long unknown steps take is not known."""
        (tmp_path / "a.txt").write_text("x" * 9000)
        listing = {"id": "list", "task": "file", "with": {"action": "list", "pattern": "*.txt"}}
        found = workflow(listing, workspace=tmp_path).plan()
        assert [str(effect) for effect in found.effects] == [f"would list *.txt in {tmp_path}"]
        assert str(found).splitlines()[-2:] == [
            "in all: 1 effect",
            "time: 0 s one after another, 0 s at best with 1 at a time",
        ]
        more = workflow(listing, batch("each", {"from": "steps.list"}, depends_on=["list"]), workspace=tmp_path)
        assert str(more.plan()).splitlines()[-1] == "time: not known"

    def test_many_steps_in_a_row(self) -> None:
        """A chain of 300 steps is run in order."""
        steps = [step(f"s{n}", n, depends_on=[f"s{n - 1}"] if n else []) for n in range(300)]
        assert workflow(*reversed(steps)).run().ok
        assert called == list(range(300))


class TestFailures:
    """What a failure means for the workflow."""

    def test_a_failed_step_fails_the_workflow(self) -> None:
        """Nothing new begins, and what was raised is the cause."""
        broken.add("a")
        result = workflow(step("a"), step("b", depends_on=["a"]), step("c")).run()
        assert (result.ok, result.status, called) == (False, Status.FAILED, ["a"])
        with pytest.raises(StageFailed, match="a is broken"):
            result.raise_for_failure()

    def test_keep_going_runs_what_does_not_wait_for_it(self) -> None:
        """Only those that wait for the failed step are not run."""
        broken.add("a")
        result = workflow(step("a"), step("b", depends_on=["a"]), step("c"), on_failure="keep_going").run()
        assert statuses(result) == {"a": "failed", "b": "upstream failed", "c": "ok"}

    def test_continue_goes_on_with_those_that_wait(self) -> None:
        """The failure is told, is there to be referred to, and never reads as a success."""
        broken.add("a")
        result = workflow(
            step("a", on_error="continue"),
            step("b", {"from": "errors.a.message"}, depends_on=["a"], condition={"from": "errors.a"}),
        ).run()
        assert result.ok
        assert statuses(result) == {"a": "tolerated", "b": "ok"}
        assert result.steps["b"].value == "a is broken"
        assert not result.steps["a"].ok

    def test_next_runs_another_step_in_place_of_those_that_wait(self) -> None:
        """Those that need the failed step are skipped, those that also wait for the other are run."""
        steps = (
            step("a", on_error={"next": "rescue"}),
            step("b", depends_on=["a"]),
            step("c", depends_on=["b"]),
            step("rescue"),
            step("end", depends_on=["a", "rescue"]),
        )
        assert statuses(workflow(*steps).run()) == {
            "a": "ok",
            "b": "ok",
            "c": "ok",
            "rescue": "skipped",
            "end": "ok",
        }
        broken.add("a")
        result = workflow(*steps).run()
        assert result.ok
        assert statuses(result) == {
            "a": "tolerated",
            "b": "skipped",
            "c": "skipped",
            "rescue": "ok",
            "end": "ok",
        }

    def test_a_step_is_tried_again(self) -> None:
        """`retry` says how often and when; `on_error: retry` alone stands for three attempts."""
        clock = FakeClock()
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            clock.advance(seconds)

        broken.add("a")
        result = workflow(step("a", retry={"max_attempts": 4, "delay": 2, "backoff": 3})).run(clock=clock, sleep=sleep)
        assert (result.steps["a"].attempts, called) == (4, ["a"] * 4)
        assert slept == [2, 6, 18]
        called.clear()
        result = workflow(step("a", on_error="retry")).run(clock=clock, sleep=sleep)
        assert (result.steps["a"].status, called) == ("failed", ["a"] * 3)

    def test_the_last_attempt_is_tolerated(self) -> None:
        """With `continue` a step is tried as often as it may be before the workflow goes on."""
        broken.add("a")
        clock = FakeClock()
        result = workflow(step("a", on_error="continue", retry={"max_attempts": 3})).run(
            clock=clock, sleep=clock.advance
        )
        assert (statuses(result), called) == ({"a": "tolerated"}, ["a"] * 3)

    def test_a_time_limit_is_one_of_the_step(self) -> None:
        """A program that takes too long is killed, and the failure can be tolerated."""
        slow = {"id": "slow", "task": "shell", "with": {"command": ["sleep", "30"]}, "timeout": 0.1}
        result = workflow({**slow, "on_error": "continue"}, step("b", depends_on=["slow"])).run()
        assert statuses(result) == {"slow": "tolerated", "b": "ok"}
        assert "0.1" in result.steps["slow"].why

    def test_no_text_of_a_step_reaches_a_shell_as_code(self, tmp_path: Path) -> None:
        """Values are arguments, whatever they hold."""
        result = workflow(
            step("a", "$(touch pwned); touch pwned"),
            {"id": "b", "task": "shell", "with": {"command": ["echo", {"from": "steps.a"}]}, "depends_on": ["a"]},
            workspace=tmp_path,
        ).run()
        assert result.steps["b"].value["stdout"] == "$(touch pwned); touch pwned\n"
        assert list(tmp_path.iterdir()) == []


class TestBatches:
    """A batch as a step."""

    def test_later_steps_see_what_the_items_gave(self) -> None:
        """Results in the order of the input, counts, and the items that failed."""
        broken.add("bad")
        result = workflow(
            batch("each", ["x", "bad", "y"], tolerated_failures=1),
            step("results", {"from": "steps.each.results"}, depends_on=["each"]),
            step("failed", {"from": "steps.each.failed.0.index"}, depends_on=["each"]),
            step("rate", {"from": "steps.each.stats.processed"}, depends_on=["each"]),
        ).run()
        assert [result.steps[one].value for one in ("results", "failed", "rate")] == [["x", "y"], 1, 2]

    @pytest.mark.parametrize(("tolerated", "ok"), [(0, False), (1, False), (2, True), (0.5, True), (0.4, False)])
    def test_failures_beyond_those_tolerated_fail_the_step(self, tolerated: float, ok: bool) -> None:
        """Tolerated is a number of items, or a share of them."""
        broken.update(["p", "q"])
        found = workflow(batch("each", ["p", "q", "x", "y"], tolerated_failures=tolerated, max_concurrency=1))
        assert found.run().ok is ok

    @pytest.mark.parametrize(("failing", "ok"), [(29, True), (30, False)])
    def test_a_share_is_rounded_as_the_batch_does(self, failing: int, ok: bool) -> None:
        """Of 100 items 0.29 are 29: the step succeeds where its batch does."""
        broken.update(f"item {number}" for number in range(failing))
        items = [f"item {number}" for number in range(100)]
        result = workflow(batch("each", items, tolerated_failures=0.29)).run()
        assert (result.ok, result.steps["each"].why == "") == (ok, ok)

    def test_all_items_failed_is_a_failed_step(self) -> None:
        """Whatever is tolerated among the items; the workflow goes on only where the step may fail."""
        broken.update(["p", "q"])
        all_failed = batch("each", ["p", "q"], tolerated_failures=1.0)
        assert statuses(workflow(all_failed).run()) == {"each": "failed"}
        result = workflow({**all_failed, "on_error": "continue"}, step("b", depends_on=["each"])).run()
        assert (result.ok, statuses(result)) == (True, {"each": "tolerated", "b": "ok"})

    def test_no_items_are_well(self) -> None:
        """A batch of nothing succeeds."""
        result = workflow(batch("each", [])).run()
        assert (result.ok, result.steps["each"].value["stats"]["success_rate"]) == (True, 100.0)

    def test_items_come_from_files(self, tmp_path: Path) -> None:
        """The lines of a file, or the files that match a pattern; nothing outside the workspace."""
        (tmp_path / "names.txt").write_text("007\nZoë\n")
        lines, files, outside = (
            workflow(batch("each", items), workspace=tmp_path).run()
            for items in ({"lines": "names.txt"}, {"files": "*.txt"}, {"lines": "../x"})
        )
        assert lines.ok
        assert files.ok
        assert (sorted(called[:2]), called[2:]) == (["007", "Zoë"], ["names.txt"])  # lines are at work side by side
        assert "OutsideWorkspace" in outside.steps["each"].why

    def test_the_batch_stands_below_its_step(self) -> None:
        """Pipeline, stage, batch, items: one tree, so whoever ends one ends all below it."""
        journal = Journal(MemoryStore(strict=True), clock=FakeClock())
        result = workflow(batch("each", [1, 2])).run(store=journal)
        found = batch_at(journal, result.run_id)
        assert [run.kind for run in found.tree.path(found)] == ["pipeline", "stage", "batch"]
        assert [child.kind for child in found.children] == ["item", "item"]
        assert results_of(journal, found.id) == [1, 2]

    def test_a_step_without_a_batch_has_none_to_show(self) -> None:
        """The message says what is there."""
        journal = Journal(MemoryStore(), clock=FakeClock())
        result = workflow(step("a")).run(store=journal)
        with pytest.raises(RunStateError, match="has no batch below it"):
            batch_at(journal, result.run_id)


class TestResuming:
    """Carrying on what has failed."""

    def test_only_what_has_not_succeeded_is_run(self) -> None:
        """Steps keep what they gave, items too; failed ones are run again."""
        journal = Journal(MemoryStore(strict=True), clock=FakeClock())
        found = workflow(
            step("load", ["x", "bad", "y"]),
            batch("each", {"from": "steps.load"}, depends_on=["load"]),
            step("sum", {"from": "steps.each.results"}, depends_on=["each"]),
        )
        broken.add("bad")
        first = found.run(store=journal)
        assert statuses(first) == {"load": "ok", "each": "failed", "sum": "upstream failed"}
        assert [one["item"] for one in failures_of(journal, batch_at(journal, first.run_id).id)] == ["bad"]
        broken.clear()
        called.clear()
        second = resume_workflow(journal, first.run_id)
        assert second.ok
        assert called == ["bad", ["x", "bad", "y"]]
        assert second.steps["each"].value["stats"]["processed"] == 3

    def test_it_can_fail_again_and_again(self) -> None:
        """Each time only the items without a result are run."""
        journal = Journal(MemoryStore(strict=True), clock=FakeClock())
        broken.update(["p", "q"])
        result = workflow(batch("each", ["p", "x", "q"], max_concurrency=1)).run(store=journal)
        for left in (["q"], []):
            called.clear()
            before = sorted(broken)
            broken.intersection_update(left)
            result = resume_workflow(journal, result.run_id)
            assert sorted(called) == before
        assert result.ok
        assert result.steps["each"].value["stats"]["processed"] == 3

    def test_one_that_succeeded_is_only_told_about(self) -> None:
        """Nothing is run."""
        journal = Journal(MemoryStore(strict=True), clock=FakeClock())
        first = workflow(step("a")).run(store=journal)
        called.clear()
        again = resume_workflow(journal, first.run_id)
        assert (again.ok, again.steps["a"].value, called) == (True, "a", [])

    def test_another_task_begins_the_batch_anew(self) -> None:
        """Where the definition of a failed batch has changed, its results are not taken for the new one's."""
        journal = Journal(MemoryStore(strict=True), clock=FakeClock())
        broken.add("bad")
        first = workflow(batch("each", ["x", "bad"])).run(store=journal)
        called.clear()
        mended = workflow(batch("each", ["x", "bad"], **{"with": {"value": "same"}}))
        assert resume_workflow(journal, first.run_id, mended).ok
        assert called == ["same", "same"]

    def test_what_is_no_workflow_is_refused(self) -> None:
        """The run of a batch below it is none; the message asks for another id."""
        journal = Journal(MemoryStore(), clock=FakeClock())
        result = workflow(batch("each", [1])).run(store=journal)
        with pytest.raises(RunStateError, match="is no workflow"):
            recorded_workflow(batch_at(journal, result.run_id))
