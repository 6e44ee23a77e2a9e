"""The commands for loops that run on: `checkpoint`, `recover`, `health`, `stats`, `watch`; and the others on them."""

from __future__ import annotations

import io
import shlex
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from cortical.cli import app
from cortical.cli.watched import frame
from cortical.cli.watching import Watch
from cortical.control import LoopController, State, max_iterations
from cortical.core import rules
from cortical.core.errors import RunStateError
from cortical.core.journal import Journal
from cortical.core.policy import Retry
from cortical.reasoning import LoopPhase, NestedLoopExecutor
from cortical.reasoning.validator import LoopValidator
from cortical.reasoning.verifier import QAPVVerifier
from cortical.recovery import CheckpointManager
from cortical.store import Store, open_store
from tests.unit.said import Cortical, command_on

FAILED, OPEN = "fetch pages", "count lines"
HOLDER = "process 7 on box"


def count(state: dict[str, Any]) -> State:
    number = state.get("number", 0) + 1
    return State(f"line {number}", number=number)


def fetch(state: dict[str, Any]) -> State:
    if state.get("number") == 4:
        raise ConnectionError("the 技術 service\nis away")
    return count(state)


def import_what_is_missing(state: dict[str, Any]) -> State:
    raise ModuleNotFoundError("no module named 'absent'")


def stop_in_fourth(state: dict[str, Any]) -> State:
    if state.get("number") == 3:
        raise KeyboardInterrupt
    return count(state)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with a controlled loop that failed in its 5th iteration, and one that was stopped by hand in its 4th."""
    found = tmp_path / "runs.db"
    store = open_store(found)
    controller = LoopController(FAILED, store=store, stop_when=max_iterations(9), retry=Retry(max_attempts=2, delay=0))
    controller.set_checkpoint_interval(2)
    controller.run(fetch)
    controller = LoopController(OPEN, store=store, stop_when=max_iterations(9))
    controller.set_checkpoint_interval(2)
    with pytest.raises(KeyboardInterrupt):
        controller.run(stop_in_fourth)
    store.close()
    return found


@pytest.fixture
def cli(path: Path) -> Cortical:
    """Runs a command on the prepared store."""
    return command_on(path)


def stored(path: Path) -> Store:
    return open_store(path)


def left_by_a_driver(path: Path, root_id: str) -> None:
    """As a tree is after its driver has died a minute ago."""
    store = stored(path)
    store.take_lease(root_id, HOLDER, now=time.time() - 60, seconds=1)
    store.close()


def add_failing_agent_loop(path: Path) -> str:
    """A tree whose root was started with an agent, and has failed; its id."""
    store = stored(path)
    journal = Journal(store, clock=time)
    root = journal.plant("agents", rules.start, "loop", "Audit", place="question", metadata={"agent": "m:a"})
    journal.change(root.id, rules.change, {"seen": 1})
    with NestedLoopExecutor(store=store) as executor:
        executor.fail(root.id, ConnectionError("away"))
    store.close()
    return root.id


class TestCheckpoint:
    """`cortical checkpoint`."""

    def test_list_shows_what_is_needed_to_have_one_back(self, cli: Cortical) -> None:
        """Each has its whole id, when it was taken, in which turn, and its label."""
        said = cli("checkpoint", "list", "fetch")
        heading, *rows = said.out.splitlines()
        assert heading.split() == ["id", "taken", "turn", "data", "label"]
        assert [row.split("@")[0] for row in rows] == [FAILED, FAILED]
        assert [row.split("  ")[-1] for row in rows] == ["iteration 2", "iteration 4"]
        assert (said.err, said.code) == ("", 0)

    def test_list_as_json_has_the_data(self, cli: Cortical) -> None:
        """A program gets the state of every checkpoint."""
        first, second = cli("checkpoint", "list", FAILED, "--json").json
        assert (first["state"], second["state"]) == ({"number": 1}, {"number": 3})
        assert first["id"] == f"{FAILED}@{first['number']}"
        assert (first["turn"], first["label"], first["metadata"]) == (2, "iteration 2", {})

    def test_a_run_without_one_is_no_failure(self, cli: Cortical, path: Path) -> None:
        """That there is none is told beside the (empty) data."""
        with NestedLoopExecutor(store=path) as executor:
            root = executor.start_root("Plain")
        said = cli("checkpoint", "list", root)
        assert (said.out, said.err, said.code) == ("", f"{root} has no checkpoint\n", 0)
        assert cli("checkpoint", "list", root, "--json").json == []

    def test_create_prints_the_id_that_restore_takes(self, cli: Cortical) -> None:
        """What create prints is all that is on standard output, and restore brings those data back."""
        made = cli("checkpoint", "create", "count", "--label", "before the move")
        assert made.out.startswith(f"{OPEN}@")
        assert f"checkpoint restore '{made.out.strip()}'" in made.err
        said = cli("checkpoint", "restore", made.out.strip())
        assert (said.out, said.code) == ("", 0)
        assert said.err == f"restored: {made.out.strip()} (before the move), 1 key\n"

    def test_restore_replaces_or_merges(self, cli: Cortical, path: Path) -> None:
        """Keys that were set since are gone, unless they are to stay."""
        with LoopController(OPEN, store=path) as controller:
            controller.update_state(later=True)
        oldest = cli("checkpoint", "list", OPEN, "--json").json[0]["id"]
        assert cli("checkpoint", "restore", oldest, "--merge").code == 0
        assert state_of(path) == {"number": 1, "later": True}
        assert cli("checkpoint", "restore", oldest).code == 0
        assert state_of(path) == {"number": 1}

    def test_the_run_of_a_checkpoint_is_known_by_a_prefix(self, cli: Cortical) -> None:
        """Only the number has to be whole."""
        number = cli("checkpoint", "list", OPEN, "--json").json[0]["number"]
        assert cli("checkpoint", "restore", f"cou@{number}").code == 0

    def test_restore_warns_of_who_drives(self, cli: Cortical, path: Path) -> None:
        """Somebody who drives the loop is named: what is under way there has the data of before."""
        oldest = cli("checkpoint", "list", OPEN, "--json").json[0]["id"]
        store = stored(path)
        store.take_lease(OPEN, HOLDER, now=time.time(), seconds=60)
        said = cli("checkpoint", "restore", oldest)
        assert said.code == 0
        assert f"{HOLDER} drives it" in said.err
        store.close()

    def test_what_has_ended_is_recovered_instead(self, cli: Cortical) -> None:
        """An ended run is refused, and the command is told that lets another go on with those data."""
        oldest = cli("checkpoint", "list", FAILED, "--json").json[0]["id"]
        said = cli("checkpoint", "restore", oldest)
        assert (said.out, said.code) == ("", 1)
        assert "it has ended" in said.err
        told = next(line for line in said.err.splitlines() if line.startswith("let another go on"))
        arguments = shlex.split(told)
        assert cli(*arguments[arguments.index("recover") :]).code == 0

    @pytest.mark.parametrize("given", ["x", "@3", "fetch@", "fetch@x", "fetch@-1", "fetch@٣"])
    def test_what_is_no_checkpoint_id_is_wrong_use(self, cli: Cortical, given: str) -> None:
        """The message says how one looks."""
        said = cli("checkpoint", "restore", given)
        assert said.code == 2
        assert "3f2a@8" in said.err

    @pytest.mark.parametrize("given", ["fetch@1", "nobody@3", f"fetch@{'9' * 40}"])
    def test_an_unknown_one_is_a_no(self, cli: Cortical, given: str) -> None:
        """No such run, or no such checkpoint of it: exit 1 and a sentence."""
        said = cli("checkpoint", "restore", given)
        assert (said.out, said.code) == ("", 1)
        assert said.err


def state_of(path: Path) -> dict[str, Any]:
    with LoopController(OPEN, store=path) as controller:
        return controller.get_state()


class TestRecover:
    """`cortical recover`."""

    def test_a_failed_loop_goes_on_as_another(self, cli: Cortical, path: Path) -> None:
        """What was done, which run goes on and what the person does next is told; its program then takes it up."""
        said = cli("recover", "fetch")
        assert said.code == 0
        rows = dict(line.split(maxsplit=1) for line in said.out.splitlines() if not line.startswith(" "))
        assert (rows["result"], rows["strategy"]) == ("recovered", "retry")
        assert "run its program again, which takes up 'fetch pages'" in said.err
        with LoopController(FAILED, store=path, stop_when=max_iterations(9)) as controller:
            assert controller.run_id == rows["goes"].split()[-1]
            assert controller.run(count).iterations == 9
            assert controller.get_state() == {"number": 9}

    def test_from_a_checkpoint(self, cli: Cortical, path: Path) -> None:
        """The run that goes on has the data of the checkpoint that was asked for."""
        oldest = cli("checkpoint", "list", FAILED, "--json").json[0]
        said = cli("recover", "fetch", "--checkpoint", f"fetch@{oldest['number']}", "--json")
        assert (said.json["recovered"], said.json["success"], said.json["strategy"]) == (FAILED, True, "roll_back")
        with LoopController(FAILED, store=path) as controller:
            assert (controller.run_id, controller.get_state()) == (said.json["run_id"], {"number": 1})
        followed = cli("checkpoint", "list", FAILED)
        assert followed.err == f"{said.json['run_id']} goes on in the place of {FAILED}; its checkpoints:\n"

    def test_where_there_is_nothing_to_recover_from(self, cli: Cortical, path: Path) -> None:
        """It exits 1, and says why."""
        with LoopController("done", store=path, stop_when=max_iterations(1)) as controller:
            controller.run(count)
        said = cli("recover", "done")
        assert said.code == 1
        assert "it has ended well (completed)" in said.out
        assert said.err == ""

    def test_what_needs_somebody_is_blocked(self, cli: Cortical, path: Path) -> None:
        """It is told that it is blocked and by what, and how to let it go on when that has been seen to."""
        with LoopController("needy", store=path, stop_when=max_iterations(3)) as controller:
            controller.run(import_what_is_missing)
        said = cli("recover", "needy")
        assert said.code == 0
        assert "waits for somebody" in said.out
        blocked = cli("list", "--open", "--json").json[0]
        assert blocked["status"] == "blocked"
        assert "it is blocked: needs somebody: ModuleNotFoundError" in said.err
        assert f"unpause {blocked['id']}" in said.err
        assert cli("unpause", blocked["id"]).code == 0

    def test_a_tree_of_agents_is_resumed(self, cli: Cortical, path: Path) -> None:
        """For what an agent drives, the command is told that carries it on."""
        said = cli("recover", add_failing_agent_loop(path), "--json")
        assert said.json["success"]
        assert f"resume {said.json['run_id']}" in said.err

    def test_without_an_id_it_lists_what_was_interrupted(self, cli: Cortical, path: Path) -> None:
        """Open trees whose driver is gone are listed, with who it was."""
        left_by_a_driver(path, OPEN)
        said = cli("recover")
        heading, row = said.out.splitlines()
        assert heading.split()[0] == "id"
        assert row.startswith(OPEN[:8])
        assert HOLDER in row
        assert f"recover '{OPEN}'" in said.err
        (one,) = cli("recover", "--json").json
        assert (one["id"], one["holder"], one["kind"]) == (OPEN, HOLDER, "loop")
        assert cli("recover", OPEN).code == 0

    def test_that_nothing_was_interrupted_is_no_failure(self, cli: Cortical, tmp_path: Path) -> None:
        """It says so, and exits 0."""
        empty = tmp_path / "empty.db"
        open_store(empty).close()
        said = cli("recover", store=empty)
        assert (said.out, said.err, said.code) == ("", "no tree was interrupted\n", 0)
        assert cli("recover", "--json", store=empty).json == []

    def test_a_checkpoint_without_a_run_is_wrong_use(self, cli: Cortical) -> None:
        """Which run is to go on with it has to be said."""
        assert cli("recover", "--checkpoint", "fetch@3").code == 2


class TestHealth:
    """`cortical health`."""

    def test_all_is_well(self, cli: Cortical, path: Path) -> None:
        """Nothing is found, and it exits 0."""
        cli("break", OPEN, "--reason", "over")
        said = cli("health")
        assert said.out.split() == ["open", "trees", "0", "health", "well,", "nothing", "found"]
        assert (said.err, said.code) == ("", 0)
        assert cli("health", "--json").json == {"well": True, "findings": []}

    def test_a_grave_finding_is_a_no(self, cli: Cortical, path: Path) -> None:
        """It stands under its severity, with what can be done, and the exit code is 1."""
        left_by_a_driver(path, OPEN)
        for said in (cli("health"), cli("health", "count")):
            assert said.code == 1
            lines = said.out.splitlines()
            assert lines[1].startswith("health")
            assert "not well" in lines[1]
            at = lines.index("high")
            assert lines[at + 1].split()[:3] == ["no", "heartbeat", "count"]
            assert HOLDER in lines[at + 1]
            told = " ".join("".join(lines[at + 2 :]).split())
            assert "→" in told
            assert f"run its program again, which takes up {OPEN!r} where it stands" in told

    def test_as_json(self, cli: Cortical, path: Path) -> None:
        """A program gets the evidence too."""
        left_by_a_driver(path, OPEN)
        said = cli("health", "--json")
        (finding,) = said.json["findings"]
        assert (said.json["well"], said.code) == (False, 1)
        assert (finding["severity"], finding["code"], finding["run_id"]) == ("high", "no_heartbeat", OPEN)
        assert finding["evidence"]["holder"] == HOLDER

    def test_of_another_run_nothing_is_said(self, cli: Cortical, path: Path) -> None:
        """With an id only what is below it is looked at."""
        left_by_a_driver(path, OPEN)
        assert cli("health", FAILED).code == 0

    def test_it_fits_a_narrow_terminal(self, cli: Cortical, path: Path) -> None:
        """No line is longer than the terminal is wide."""
        left_by_a_driver(path, OPEN)
        assert max(map(len, cli("health", columns=60).out.splitlines())) <= 60


class TestStats:
    """`cortical stats`."""

    def test_it_counts_what_the_log_tells(self, cli: Cortical) -> None:
        """Runs by how they ended, and iterations, failures and recoveries of each."""
        said = cli("stats")
        lines = [line.split() for line in said.out.splitlines()]
        assert lines[0] == ["kind", "started", "open", "completed", "failed", "abandoned", "skipped"]
        assert lines[1] == ["loop", "2", "1", "0", "1", "0", "0"]
        work = lines.index(["work"])
        assert lines[work + 2][:4] == ["loop", "7", "2", "0"]
        assert said.out.splitlines()[-1].endswith(OPEN)

    def test_of_one_run(self, cli: Cortical) -> None:
        """With an id only it and what is below it counts."""
        told = cli("stats", "fetch", "--json").json
        assert list(told["runs"]) == [FAILED]
        assert told["overall"]["iterations"] == 4
        assert told["overall"]["failures"] == 2

    def test_prometheus(self, cli: Cortical) -> None:
        """The text format ends in one line end, and names single runs only where one was asked for."""
        text = cli("stats", "--prometheus").out
        assert 'cortical_iterations_total{kind="loop"} 7\n' in text
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        assert FAILED not in text
        assert f'run_id="{FAILED}"' in cli("stats", "fetch", "--prometheus").out

    def test_one_form_at_a_time(self, cli: Cortical) -> None:
        """Both forms at once are wrong use."""
        assert cli("stats", "--json", "--prometheus").code == 2

    def test_an_empty_store(self, cli: Cortical, tmp_path: Path) -> None:
        """It is no failure that there is nothing yet."""
        open_store(tmp_path / "empty.db").close()
        said = cli("stats", store=tmp_path / "empty.db")
        assert (said.out, said.err, said.code) == ("", "the store is empty\n", 0)


class TestWatch:
    """`cortical watch --once`, and where it ends by itself."""

    def test_a_frame(self, cli: Cortical, path: Path) -> None:
        """Trees, how far they have come, what is wrong with them, and how many runs stand how."""
        left_by_a_driver(path, OPEN)
        lines = cli("watch", "--once").out.splitlines()
        assert lines[0].startswith("▶ count li  iteration #4")
        assert any(line.split()[:6] == ["▶", "count", "li", "3", "of", "9"] for line in lines)
        assert any(line.split()[:3] == ["high", "no", "heartbeat"] for line in lines)
        assert "1 tree, 1 run: 1 active" in lines[-1]
        assert not any(FAILED in line for line in lines)

    def test_a_large_tree_leaves_room_for_the_others(self, path: Path) -> None:
        """In a terminal each tree has its share of the lines, and no frame is higher than the terminal."""
        with NestedLoopExecutor(store=path) as executor:
            large = executor.start_root("Large")
            executor.spawn_children(large, [f"part {number}" for number in range(100)])
            for goal in ("Small", "Smaller"):
                executor.start_root(goal)
        store = stored(path)
        out = Console(width=80, height=20, file=io.StringIO())
        out.print(frame(out, Watch(store, None).look()))
        lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
        store.close()
        assert len(lines) <= 20
        assert [goal for goal in ("Large", "Small", "Smaller", OPEN) if f"  {goal}" in "\n".join(lines)] == [
            "Large",
            "Small",
            "Smaller",
            OPEN,
        ]
        assert sum("part" in line for line in lines) >= 4
        assert "104 runs" in "".join(lines)
        assert "not shown" in "".join(lines)

    def test_nothing_is_open(self, cli: Cortical) -> None:
        """It says so, and exits 0."""
        cli("break", OPEN, "--reason", "over")
        said = cli("watch", "--once")
        assert (said.out, said.err, said.code) == ("", "no tree is open\n", 0)

    def test_what_has_ended_is_told_once(self, cli: Cortical) -> None:
        """Watching one run ends when it has ended, without Ctrl-C."""
        said = cli("watch", "fetch")
        (line,) = said.out.splitlines()
        assert "✗ fetch pa  iteration #5" in line
        assert "ConnectionError" in line
        assert (said.err, said.code) == ("", 0)

    def test_an_unknown_id(self, cli: Cortical) -> None:
        """It is a no, as everywhere."""
        assert cli("watch", "nobody", "--once").code == 1

    @pytest.mark.parametrize("columns", [80, 120])
    def test_it_fits_the_terminal(self, cli: Cortical, path: Path, columns: int) -> None:
        """No line of a frame is longer than the terminal is wide."""
        left_by_a_driver(path, OPEN)
        assert max(map(len, cli("watch", "--once", columns=columns).out.splitlines())) <= columns


class TestControlledLoops:
    """The other commands, and the faces of reasoning loops, on loops that have no phases."""

    @pytest.mark.parametrize("command", ["tree", "show", "log", "why", "export", "check"])
    @pytest.mark.parametrize("loop", [FAILED, OPEN])
    def test_every_read_copes(self, cli: Cortical, command: str, loop: str) -> None:
        """Each shows the loop, and finds nothing wrong with it."""
        said = cli(command, loop)
        assert said.code == 0
        assert loop[:8] in said.out
        if command in ("tree", "show", "log", "why"):
            assert cli(command, loop, "--json").code == 0

    def test_show_has_checkpoints_and_the_last_visits(self, cli: Cortical, path: Path) -> None:
        """A loop that went round often is shown from its end, with what can be restored."""
        with LoopController("often", store=path, stop_when=max_iterations(100)) as controller:
            controller.set_checkpoint_interval(50)
            controller.run(count)
        lines = cli("show", "often").out.splitlines()
        assert "visits, the last 40 of 100; --json has all" in lines
        assert sum(line.startswith("  iteration #") for line in lines) == 40
        assert sum("often@" in line for line in lines) == 2
        assert len(cli("show", "often", "--json").json["visits"]) == 100

    def test_resume_leaves_it_to_its_program(self, cli: Cortical) -> None:
        """No agent drives it: the program does that drives it."""
        said = cli("resume", OPEN)
        assert said.code == 1
        assert f"run its program again, which takes up {OPEN!r} where it stands" in said.err

    def test_iterations_are_no_decisions(self, cli: Cortical) -> None:
        """`why` tells of what was decided, not of every time round."""
        assert [choice["what"] for choice in cli("why", FAILED, "--json").json["decisions"]] == [
            "retry",
            "retry",
            "break",
        ]

    def test_a_reasoning_face_on_one_has_no_phases(self, path: Path) -> None:
        """There is no phase, no context and no transition; to walk it through phases is refused."""
        with NestedLoopExecutor(store=path) as executor:
            loop = executor.get_loop(OPEN)
            assert loop.current_phase is None
            assert list(loop.phase_contexts) == list(loop.transitions) == loop.get_all_contexts() == []
            assert loop.get_summary()["current_phase"] is None
            before = len(loop.events())
            for refused in (
                lambda: loop.transition(LoopPhase.ANSWER),
                lambda: executor.advance(OPEN),
                loop.current_context,
            ):
                with pytest.raises(RunStateError, match="no phase"):
                    refused()
            assert len(loop.events()) == before
            assert executor.get_summary()["total_loops"] == 2
            assert executor.manager.get_stuck_loops() == []
            assert {found.id for found in executor.get_all_loops()} == {FAILED, OPEN}
            assert all(result.passed for result in LoopValidator().validate(loop))
            assert QAPVVerifier.of(loop).check_health() == []

    def test_handlers_of_transitions_hear_of_phases_only(self, caplog: pytest.LogCaptureFixture) -> None:
        """An iteration is no step from phase to phase: nobody is told, and nothing is reported."""
        with NestedLoopExecutor() as executor:
            heard: list[str] = []
            executor.manager.register_transition_handler(lambda loop, step: heard.append(loop.goal))
            reports: list[object] = []
            QAPVVerifier.watch(executor, lambda loop, report: reports.append(report))
            root = executor.start_root("Root")
            LoopController("below", store=executor.journal, parent=root, stop_when=max_iterations(3)).run(count)
            executor.advance(root)
            assert heard == ["Root", "Root"]
            assert (reports, caplog.records) == ([], [])

    def test_an_id_cannot_steer_the_terminal(self, path: Path, cli: Cortical) -> None:
        """An id is the user's own text: what would steer a terminal is shown as a sign."""
        with NestedLoopExecutor(store=path, new_id=lambda: "\x1b[31mred") as executor:
            CheckpointManager(executor).create_checkpoint(executor.start_root("Root"))
        left_by_a_driver(path, "\x1b[31mred")
        for command in (
            ["list"],
            ["tree"],
            ["show", "\x1b"],
            ["log", "\x1b"],
            ["doctor"],
            ["watch", "--once"],
            ["health"],
            ["stats"],
            ["recover"],
            ["checkpoint", "list", "\x1b"],
        ):
            assert "\x1b" not in cli(*command).out
            assert "␛[31mre" in cli(*command).out


GROUP = get_command(app).commands["checkpoint"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", [*(("checkpoint", name) for name in GROUP.commands), ("recover",)])
def test_help_ends_in_an_example_that_runs(cli: Cortical, path: Path, command: tuple[str, ...]) -> None:
    """The example of each command's help does what it shows, on a store, loop and checkpoint of that name."""
    said = CliRunner().invoke(app, [*command, "--help"], prog_name="cortical")
    program, *arguments = shlex.split(said.output.partition("Example:")[2])
    assert (program, tuple(arguments[: len(command)])) == ("cortical", command)
    loop = FAILED if command == ("recover",) else OPEN
    checkpoint = cli("checkpoint", "list", OPEN, "--json").json[0]["id"]
    given = {"3f2a": loop, "3f2a@8": checkpoint, "runs.db": str(path)}
    told = cli(*(given.get(argument, argument) for argument in arguments), store=None)
    assert told.code == 0, told.err
