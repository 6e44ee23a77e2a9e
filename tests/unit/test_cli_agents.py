"""The commands that set agents to work: what they print, where, and how they end; and how a driven tree is drawn."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cortical.agents import Agent, Loop, Verdict, run
from cortical.agents.running import MAX_DEPTH, start
from cortical.cli.live import frame
from cortical.core import rules
from cortical.core.budget import Budget
from cortical.core.journal import Journal
from cortical.core.outcome import Abandoned, Ok
from cortical.core.status import TerminationReason
from cortical.core.topics import DRAIN
from cortical.core.tree import Tree
from cortical.engine.lease import holding_lease
from cortical.reasoning import NestedLoopExecutor
from cortical.store import MemoryStore, Store, open_store
from cortical.testing import FakeClock
from tests.unit.said import Cortical, Said, command_on

greeter, asker, quitter, raiser, escalator, family, spinner = map(
    Agent, ("greeter", "asker", "quitter", "raiser", "escalator", "family", "spinner")
)
no_verify = Agent("no-verify")
changing = Agent("changing")


@greeter.produce
def greet(loop: Loop) -> None:
    loop.produce("greeting.md", f"Hello, {loop.inputs.get('name', 'nobody')}")
    loop.produce("empty.md", "")


@greeter.verify
def greeted(loop: Loop) -> Verdict:
    return Verdict.passed({"said": loop.artifact("greeting.md"), "inputs": dict(loop.inputs)})


@asker.question
def ask(loop: Loop) -> None:
    loop.answer(loop.ask_human("Publish?", key="publish"))


@asker.verify
def asked(loop: Loop) -> Verdict:
    return Verdict.passed(loop.answers[-1])


@quitter.verify
def quit_it(loop: Loop) -> Verdict:
    return Verdict.impossible("there is no such thing")


@raiser.produce
def raise_it(loop: Loop) -> None:
    raise OSError("disk\nfull")


@raiser.verify
def never(loop: Loop) -> Verdict:
    return Verdict.passed()


@escalator.verify
def escalate(loop: Loop) -> Verdict:
    return Verdict.passed("good") if loop.turn and loop.feedback else Verdict.escalate("Good enough?")


@spinner.verify
def not_yet(loop: Loop) -> Verdict:
    return Verdict.revise("more")


@family.answer
def have_children(loop: Loop) -> None:
    for number in range(2):
        loop.spawn(f"child {number}", agent=asker)


@family.verify
def children_are_well(loop: Loop) -> Verdict:
    return Verdict.passed(list(loop.child_results.values()))


@changing.question
def ask_first(loop: Loop) -> None:
    loop.ask_human("Go on?")


@changing.verify
def go_on(loop: Loop) -> Verdict:
    return Verdict.passed("changed")


@pytest.fixture
def cli(tmp_path: Path) -> Cortical:
    """Runs a command on the store `runs.db`, in a pipe."""
    return command_on(tmp_path / "runs.db", columns=None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The same store, for looking at."""
    opened = open_store(tmp_path / "runs.db")
    yield opened
    opened.close()


def here(agent: str) -> str:
    return f"{__name__}:{agent}"


def rows(said: Said) -> dict[str, str]:
    return dict(re.split(r" {2,}", line, maxsplit=1) for line in said.out.splitlines())


def root_of(store: Store) -> str:
    return store.roots()[0].id


class TestRun:
    """`cortical run`."""

    def test_the_result_is_data_and_the_rest_is_talk(self, cli: Cortical, store: Store, tmp_path: Path) -> None:
        """Value and the names of artifacts on standard output; a line for each event, and what to type, beside it."""
        said = cli("run", here("greeter"), "greet", "--input", "name=Ada", "--input", "mood=a=b")
        assert said.code == 0
        told = rows(said)
        assert told["loop"] == root_of(store)
        assert told["status"] == "completed at verify"
        assert told["value"] == "{'said': 'Hello, Ada', 'inputs': {'name': 'Ada', 'mood': 'a=b'}}"
        assert told["artifacts"] == "greeting.md, empty.md"
        assert told["reason"] == "success"
        assert "why" not in told
        *lines, last = said.err.splitlines()
        assert [line.split()[3] for line in lines] == [
            "started", "moved", "moved", "noted", "noted", "moved", "noted", "ended",
        ]  # fmt: skip
        assert last.startswith("the tree: ")
        assert last.endswith(f"tree {told['loop']} --store {tmp_path / 'runs.db'}")

    def test_json_is_the_whole_result(self, cli: Cortical, store: Store) -> None:
        """With the contents of the artifacts."""
        result = cli("run", here("greeter"), "greet", "--json").json
        assert (result["run_id"], result["status"], result["reason"]) == (root_of(store), "completed", "success")
        assert result["artifacts"] == {"greeting.md": "Hello, nobody", "empty.md": ""}
        assert result["verdict"] == "passed"

    @pytest.mark.parametrize(
        ("agent", "status", "reason", "why"),
        [
            ("quitter", "abandoned at verify", "question_invalid", "there is no such thing"),
            ("raiser", "failed at produce", "error", "OSError: disk"),
        ],
    )
    def test_what_does_not_succeed_is_a_no(self, cli: Cortical, agent: str, status: str, reason: str, why: str) -> None:
        """The exit code is 1, and why is part of the result."""
        said = cli("run", here(agent), "try")
        assert said.code == 1
        told = dict(line.split(maxsplit=1) for line in said.out.splitlines()[:4])
        assert (told["status"], told["reason"], told["why"]) == (status, reason, why)
        assert "carry on" not in said.err

    def test_a_waiting_loop_says_how_to_answer_it(self, cli: Cortical, store: Store, tmp_path: Path) -> None:
        """Its question, the command that answers it, and the one that carries on."""
        said = cli("run", here("asker"), "publish")
        assert said.code == 1
        loop = root_of(store)
        place = f"--store {tmp_path / 'runs.db'}"
        assert rows(said)["status"] == "blocked at question"
        tree, asks, answer, carry_on = said.err.splitlines()[-4:]
        assert tree.endswith(f"tree {loop} {place}")
        assert asks == "it asks: Publish?"
        assert answer.endswith(f'answer {loop} "…" {place}')
        assert carry_on.endswith(f"resume {loop} {place}")

    def test_the_depth_is_limited(self, cli: Cortical) -> None:
        """At one level there is no room for children; the help names the library's own limit."""
        said = cli("run", here("family"), "grow", "--max-depth", "1")
        assert said.code == 1
        assert "depth limit 1 reached" in rows(said)["why"]
        assert f"[default: {MAX_DEPTH};" in cli("run", "--help").out

    def test_a_budget_holds_for_the_tree(self, cli: Cortical) -> None:
        """At a limit the loop ends; the result names the limit, and says what was spent."""
        said = cli("run", here("spinner"), "turn", "--budget", "iterations=2", "--budget", "usd=0.5")
        told = rows(said)
        assert said.code == 1
        assert (told["reason"], told["limit"]) == ("budget_exhausted", "iterations")
        assert told["spent"].startswith("2 iterations")

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["no_such_module:agent", "x"], "there is no module 'no_such_module', here or among the installed ones\n"),
            (["tests.no_such:agent", "x"], "there is no module 'tests.no_such', here or among the installed ones\n"),
            (["json:agent", "x"], "json has no agent 'agent'; it has none at all\n"),
            ([f"{__name__}:store", "x"], f"{__name__} has no agent 'store'; it has greeter, asker, quitter, "),
            ([f"{__name__}:no_verify", "x"], "agent 'no-verify' has no verify function"),
            ([f"{__name__}:greeter", "  "], "a goal is empty"),
        ],
    )
    def test_what_cannot_be_begun_is_told(
        self, cli: Cortical, store: Store, arguments: list[str], sentence: str
    ) -> None:
        """In a sentence, and nothing is recorded."""
        said = cli("run", *arguments)
        assert (said.out, said.code) == ("", 1)
        assert sentence in said.err
        assert store.roots() == []

    @pytest.mark.parametrize(
        "arguments",
        [
            ["greeter", "x"],
            ["agents:greeter:x", "x"],
            ["agents.py:greeter", "x"],
            ["./agents:greeter", "x"],
            [":greeter", "x"],
            [here("greeter"), "x", "--input", "name"],
            [here("greeter"), "x", "--input", "=1"],
            [here("greeter"), "x", "--input", "a=1", "--input", "a=2"],
            [here("greeter"), "x", "--workers", "0"],
            [here("greeter"), "x", "--budget", "toknes=1"],
            [here("greeter"), "x", "--budget", "tokens=many"],
            [here("greeter"), "x", "--budget", "tokens=-1"],
        ],
    )
    def test_wrong_use_exits_2(self, cli: Cortical, store: Store, arguments: list[str]) -> None:
        """An address of another form, an input without a key or value, and limits of no use."""
        assert cli("run", *arguments).code == 2
        assert store.roots() == []

    def test_an_import_missing_in_the_module_is_not_taken_for_the_module(
        self, cli: Cortical, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the module itself raises is shown as Python shows it."""
        (tmp_path / "needs_more.py").write_text("import not_installed_at_all")
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(ModuleNotFoundError, match="not_installed_at_all"):
            cli("run", "needs_more:agent", "x")

    def test_a_run_that_is_refused_leaves_no_store(self, cli: Cortical, tmp_path: Path) -> None:
        """Of an agent that is not there, and for a goal without a word."""
        for arguments in ((here("nobody"), "greet"), (here("greeter"), "")):
            assert cli("run", *arguments).code == 1
        assert not (tmp_path / "runs.db").exists()

    def test_a_long_result_is_printed_whole(self, cli: Cortical) -> None:
        """It is what the command is for; the lines that tell of the run show the beginning of it."""
        said = cli("run", here("greeter"), "greet", "--input", f"name={'x' * 5000}")
        assert "x" * 5000 in said.out
        assert max(map(len, said.err.splitlines())) < 2200
        assert "left out" in said.err


class TestAnswerAndResume:
    """`cortical answer` and `cortical resume`."""

    def test_an_answer_takes_the_loop_on(self, cli: Cortical, store: Store) -> None:
        """The key is that of the question that blocks it; resuming prints the result, and again when it has ended."""
        cli("run", here("asker"), "publish")
        loop = root_of(store)
        said = cli("answer", loop[:8], "yes")
        assert (said.out, said.code) == ("", 0)
        answered, carry_on = said.err.splitlines()
        assert answered == f"answered: {loop}"
        assert f"resume {loop}" in carry_on
        resumed = cli("resume", loop[:8])
        assert (rows(resumed)["value"], resumed.code) == ("yes", 0)
        assert "started" not in resumed.err, "what happened before is not shown again"
        assert rows(cli("resume", loop)) == rows(resumed)

    def test_an_answer_may_be_json(self, cli: Cortical, store: Store) -> None:
        """Text is a text unless it is said to be JSON; what is none is a wrong use."""
        cli("run", here("asker"), "publish")
        loop = root_of(store)
        assert cli("answer", loop, "{yes", "--json-value").code == 2
        assert cli("answer", loop, '{"yes": [1, null]}', "--json-value").code == 0
        assert cli("resume", loop, "--json").json["value"] == {"yes": [1, None]}

    def test_an_answer_to_another_question_is_kept_for_it(self, cli: Cortical, store: Store) -> None:
        """The loop asks its own question again."""
        cli("run", here("asker"), "publish")
        loop = root_of(store)
        assert cli("answer", loop, "blue", "--key", "colour").code == 0
        again = cli("resume", loop)
        assert (again.code, rows(again)["status"]) == (1, "blocked at question")

    def test_the_question_of_an_escalation_is_its_key(self, cli: Cortical, store: Store) -> None:
        """Without the word that says it was escalated."""
        said = cli("run", here("escalator"), "judge")
        assert "it asks: escalated: Good enough?" in said.err
        assert cli("answer", root_of(store), "yes").code == 0
        assert [event.value["key"] for event in NotedIn(store, "provided")] == ["Good enough?"]
        assert rows(cli("resume", root_of(store)))["value"] == "good"

    def test_only_a_blocked_loop_is_answered(self, cli: Cortical, store: Store) -> None:
        """Those below it that are blocked are named; nothing is recorded, not even with a key."""
        cli("run", here("family"), "grow", "--workers", "1")
        root = root_of(store)
        events = store.read(root)
        said = cli("answer", root, "yes", "--key", "publish")
        assert (said.out, said.code) == ("", 1)
        assert re.match(
            rf"loop '{root}' waits for no answer: it is paused; blocked below it: \w+ \(Publish\?\)\n", said.err
        )
        assert store.read(root) == events
        for _ in range(2):
            blocked = re.search(r"blocked below it: (\w+) ", cli("answer", root, "yes").err)
            assert blocked
            assert cli("answer", blocked[1], "yes").code == 0
            done = cli("resume", root)
        assert (rows(done)["value"], done.code) == ("['yes', 'yes']", 0)

    def test_an_agent_below_another_run_is_resumed_by_itself(self, cli: Cortical, store: Store) -> None:
        """What it drives is taken up, answered and drained, not the tree around it, which may have ended well."""
        journal = Journal(store, clock=time)
        journal.plant("top", rules.start, "pipeline", "top", place="work")
        below = run(asker, "ask", store=journal, parent="top").run_id
        other = run(asker, "ask again", store=journal, parent="top").run_id
        answered = cli("answer", below, "yes")
        assert f"resume {below} --store" in answered.err
        with holding_lease(journal, "top"):
            assert f"resume {below} --store" in cli("drain", below).err
        assert [len(Journal(store, clock=time).run(each).noted(DRAIN)) for each in ("top", below)] == [0, 1]
        done = cli("resume", below)
        assert (rows(done)["loop"], rows(done)["value"], done.code) == (below, "yes", 0)
        journal.refresh("top")
        journal.insist(other, rules.end, Abandoned("too late"), TerminationReason.MANUAL)
        journal.insist("top", rules.end, Ok("all is well"), TerminationReason.COMPLETED)
        looked_at = cli("resume", other)
        assert (rows(looked_at)["loop"], rows(looked_at)["why"], looked_at.code) == (other, "too late", 1)

    def test_only_trees_of_agents_are_resumed(self, cli: Cortical, tmp_path: Path) -> None:
        """One that a program walks by hand is refused."""
        with NestedLoopExecutor(store=tmp_path / "runs.db") as executor:
            root = executor.start_root("by hand")
        said = cli("resume", root)
        assert (said.out, said.code) == ("", 1)
        assert said.err.startswith(f"loop {root!r} was not started with an agent")

    def test_a_changed_agent_has_to_be_allowed(
        self, cli: Cortical, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The command that allows it is said."""
        cli("run", here("changing"), "x")
        loop = root_of(store)
        cli("answer", loop, "yes")
        monkeypatch.setattr(changing, "max_turns", 3)
        refused = cli("resume", loop)
        assert (refused.out, refused.code) == ("", 1)
        assert "agent 'changing' has changed" in refused.err
        assert f"resume {loop} --allow-changed --store" in refused.err
        assert rows(cli("resume", loop, "--allow-changed"))["value"] == "changed"

    def test_a_tree_that_is_driven_is_not_resumed(self, cli: Cortical, store: Store) -> None:
        """The holder is named; an answer reaches it."""
        cli("run", here("asker"), "publish")
        loop = root_of(store)
        store.take_lease(loop, "process 7 on mars", now=time.time(), seconds=60)
        refused = cli("resume", loop)
        assert (refused.out, refused.code) == ("", 1)
        assert "is driven by process 7 on mars" in refused.err
        assert cli("answer", loop, "yes").err == f"answered: {loop}\nprocess 7 on mars carries on\n"


class NotedIn:
    """What was noted on a topic, in the newest tree of a store."""

    def __init__(self, store: Store, topic: str) -> None:
        self._tree = Tree.of(store.read(root_of(store)))
        self._topic = topic

    def __iter__(self) -> Iterator[Any]:
        for run_ in self._tree.walk():
            yield from (entry for entry in run_.entries or () if entry.topic == self._topic)


class TestDrain:
    """`cortical drain`."""

    def test_the_holder_is_asked(self, cli: Cortical, store: Store) -> None:
        """A note on the root, whichever loop of the tree was named."""
        cli("run", here("family"), "grow")
        root = root_of(store)
        child = Tree.of(store.read(root)).root.children[0].id
        store.take_lease(root, "process 7 on mars", now=time.time(), seconds=60)
        said = cli("drain", child)
        assert (said.out, said.code) == ("", 0)
        asked, later = said.err.splitlines()
        assert asked == "asked: process 7 on mars lets the open phases finish, begins no others, and stops"
        assert f"resume {root} --store" in later
        (note,) = NotedIn(store, DRAIN)
        assert note.run_id == root

    def test_nobody_is_not_asked(self, cli: Cortical, store: Store) -> None:
        """Where nobody drives the tree, or not any more, nothing is recorded."""
        cli("run", here("asker"), "publish")
        root = root_of(store)
        for _ in range(2):
            said = cli("drain", root)
            assert said.err.startswith(f"nobody holds {root}: no phase of it is under way\n")
            assert said.code == 0
            store.take_lease(root, "process 7 on mars", now=time.time() - 60, seconds=50)
        assert list(NotedIn(store, DRAIN)) == []

    def test_what_has_ended_is_not_drained(self, cli: Cortical, store: Store) -> None:
        """It is a no."""
        cli("run", here("greeter"), "greet")
        said = cli("drain", root_of(store))
        assert (said.out, said.code) == ("", 1)
        assert "may not be drained: it has ended" in said.err


class TestHolders:
    """`doctor`, `tree` and `show` say who holds an open tree."""

    def test_a_lease_names_the_holder(self, cli: Cortical, store: Store) -> None:
        """Nobody holds a tree whose lease has run out."""
        for _ in range(2):
            cli("run", here("asker"), "publish")
        held, other = (root.id for root in store.roots())
        store.take_lease(held, "process 7 on mars", now=time.time(), seconds=60)
        store.take_lease(other, "process 8 on mars", now=time.time() - 60, seconds=50)
        doctor = cli("doctor")
        holders = {line.split()[0]: re.split(r" {2,}", line)[3] for line in doctor.out.splitlines()[-2:]}
        assert holders == {held[:8]: "process 7 on mars", other[:8]: "nobody"}
        assert doctor.err == "a tree that nobody holds goes on when a program takes it up\n"
        trees = {tree["id"]: tree["held_by"] for tree in cli("doctor", "--json").json["open_trees"]}
        assert trees == {held: "process 7 on mars", other: None}
        assert cli("tree").err == f"{held} is held by process 7 on mars\n"
        assert cli("tree", other).err == ""
        assert cli("tree", held, "--json").json[0]["held_by"] == "process 7 on mars"
        assert re.search(r"held by +process 7 on mars", cli("show", held).out)
        assert re.search(r"held by +nobody", cli("show", other).out)
        assert cli("show", other, "--json").json["held_by"] is None
        store.take_lease(other, "process 9 on mars", now=time.time(), seconds=60)
        assert cli("doctor").err == ""

    def test_an_ended_tree_is_held_by_no_one(self, cli: Cortical, store: Store) -> None:
        """Nothing is said about it."""
        cli("run", here("greeter"), "greet")
        assert cli("tree", root_of(store)).err == ""
        assert "held by" not in cli("show", root_of(store)).out


class TestFrame:
    """The picture of a tree that is being driven."""

    def drawn(self, tree: Tree, *, room: int, draining: bool = False) -> list[str]:
        out = Console(file=StringIO(), width=100, color_system=None)
        out.print(frame(tree, tree.at + 3, room=room, draining=draining))
        assert isinstance(out.file, StringIO)
        return [line.rstrip() for line in out.file.getvalue().splitlines()]

    def test_it_shows_the_tree_the_counts_and_what_ctrl_c_does(self, executor: NestedLoopExecutor) -> None:
        """Status, phase, turn, seconds and goal of each loop."""
        root = executor.start_root("Build")
        executor.advance(root)
        child = executor.spawn_child(root, "Part")
        top, part, summary, hint = self.drawn(executor.get_loop(root).run.tree, room=10)
        assert top.startswith(f"⏸ {root[:8]}  answer  3s  Build")
        assert f"▶ {child[:8]}  question  3s  Part" in part
        assert summary == "2 loops: 1 active, 1 paused; 3.0s"
        assert hint == "Ctrl-C lets the open phases finish, and stops"
        *_, stopping = self.drawn(executor.get_loop(root).run.tree, room=10, draining=True)
        assert stopping == "stopping after the open phases; Ctrl-C again stops at once"

    def test_what_is_under_way_is_shown_before_what_is_not(self, executor: NestedLoopExecutor) -> None:
        """A tree larger than the terminal is cut to its open loops, each with all above it; the others are counted."""
        root = executor.start_root("wide")
        done = executor.spawn_children(root, [f"done {number}" for number in range(20)])
        for loop in done:
            executor.complete(loop)
        middle = executor.spawn_child(root, "middle")
        executor.spawn_child(middle, "deep")
        lines = self.drawn(executor.get_loop(root).run.tree, room=5)
        assert [goal for line in lines for goal in re.findall(r"wide|done \d+|middle|deep", line)] == [
            "wide", "done 0", "done 1", "middle", "deep",
        ]  # fmt: skip
        assert lines[5] == "23 loops (18 not shown): 1 active, 2 paused, 20 completed; 3.0s"

    def test_it_shows_what_is_left_of_a_budget(self, clock: FakeClock) -> None:
        """Of what is used up, what is limited."""
        journal = Journal(MemoryStore(), clock=clock)
        root_id = start(journal, spinner, "turn", budget=Budget(iterations=3, usd=0.25, seconds=9))
        assert self.drawn(journal.run(root_id).tree, room=5)[2] == "left: 2 of 3 iterations, 0.25 of 0.25 usd"

    def test_when_it_has_ended_there_is_nothing_to_stop(self, executor: NestedLoopExecutor) -> None:
        """The hint goes, and the time stands still."""
        root = executor.start_root("short")
        executor.complete(root)
        lines = self.drawn(executor.get_loop(root).run.tree, room=5)
        assert lines[1:] == ["1 loop: 1 completed; 0.0s"]


AGENTS = """
from cortical.agents import Agent, Loop, Verdict

greeter = Agent("greeter")

@greeter.question
def ask(loop: Loop) -> None:
    if loop.goal == "ask":
        loop.ask_human("Publish?")

@greeter.verify
def check(loop: Loop) -> Verdict:
    return Verdict.passed(loop.inputs.get("name"))
"""


@pytest.fixture
def my_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working folder with a module `my_agents`, forgotten at the end."""
    (tmp_path / "my_agents.py").write_text(AGENTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("my_agents", None)


@pytest.mark.usefixtures("my_agents")
@pytest.mark.parametrize("command", ["run", "resume", "answer", "drain"])
def test_help_ends_in_an_example_that_runs(cli: Cortical, command: str) -> None:
    """The example of each command's help does what it shows, in a folder with such a module, store and loop."""
    _, _, example = cli(command, "--help").out.partition("Example:")
    program, *arguments = shlex.split(example)
    assert (program, arguments[0]) == ("cortical", command)
    if command != "run":
        assert cli("run", "my_agents:greeter", "ask", "--store", "runs.db").code == 1
    opened = open_store("runs.db")
    loop = "" if command == "run" else root_of(opened)
    if command == "resume":
        assert cli("answer", loop, "yes").code == 0
    opened.close()
    said = cli(*(loop[:8] if argument == "3f2a" else argument for argument in arguments))
    assert said.code == 0, said.err
    if command == "run":
        assert rows(said)["value"] == "Ada"


def test_the_library_and_the_command_share_trees(cli: Cortical, tmp_path: Path) -> None:
    """A tree that a program started is answered and resumed by the command."""
    result = run(asker, "publish", store=tmp_path / "runs.db")
    assert cli("answer", result.run_id, "yes").code == 0
    assert rows(cli("resume", result.run_id))["value"] == "yes"
    assert f"process {os.getpid()} on " not in cli("doctor").out, "it let go of the lease"
