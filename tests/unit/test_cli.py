"""The command `cortical`: what each command prints, where, and how it ends."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from attrs import frozen
from typer.main import get_command
from typer.testing import CliRunner

import cortical
from cortical.cli import app
from cortical.cli.render import cut
from cortical.cli.text import age, duration, id_length
from cortical.core.outcome import Skipped
from cortical.core.rules import change, end
from cortical.core.safe_text import one_line
from cortical.core.status import TerminationReason
from cortical.engine.callers import this_process
from cortical.reasoning import LoopPhase, NestedLoopExecutor
from cortical.store import MemoryStore, open_store
from tests.unit.said import Cortical, Said, command_on

BUILD, RESEARCH = "Build web application", "Research 技術 🎉"


@frozen
class Prepared:
    """A store with loops of every status, and the ids of those that tests speak of."""

    store: Path
    ids: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.ids[name]


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """An open tree three levels deep with loops of every status; an ended tree; one that was broken."""
    path = tmp_path / "runs.db"
    with NestedLoopExecutor(store=path) as executor:
        ended = executor.start_root(RESEARCH, metadata={"owner": "anna"})
        part = executor.spawn_child(ended, "Investigate")
        executor.record_answer(part, {"framework": "X"})
        executor.complete(part, {"tables": ["users"]})
        context = executor.get_loop(ended).current_context()
        context.record_decision("use X", rationale="it is small")
        context.add_note("first line\nsecond line")
        executor.advance(ended)
        executor.complete(ended, "take X")
        broken = executor.start_root("Broken")
        executor.spawn_child(broken, "Taken along")
        executor.break_loop(broken, "plans changed")
        root = executor.start_root(BUILD)
        executor.advance(root)
        goals = ["blocked", "paused", "failed", "abandoned", "active", "skipped"]
        ids = dict(zip(goals, executor.spawn_children(root, goals), strict=True))
        executor.block(ids["blocked"], "no key for the provider")
        executor.pause(ids["paused"], "lunch")
        try:
            raise RuntimeError("no luck") from OSError("disk full")
        except RuntimeError as error:
            executor.fail(ids["failed"], error)
        executor.break_loop(ids["abandoned"], "not needed")
        executor.journal.change(ids["skipped"], end, Skipped("not today"), TerminationReason.CONDITION_MET)
        ids["later"] = executor.manager.create_loop("later", parent_id=ids["active"]).id
    return Prepared(path, {**ids, "root": root, "ended": ended, "part": part, "broken": broken})


@pytest.fixture
def cli(prepared: Prepared) -> Cortical:
    """Runs a command on the prepared store, in a terminal of so many columns."""
    return command_on(prepared.store)


def events_of(prepared: Prepared, root: str = "root") -> int:
    store = open_store(prepared.store)
    events = len(store.read(prepared[root]))
    store.close()
    return events


def still(drawing: str) -> str:
    """A drawing made at another time is the same but for the ages in it."""
    return re.sub(r"\b\d+s\b", "0s", drawing)


class TestList:
    """`cortical list`."""

    def test_trees_come_newest_first(self, cli: Cortical, prepared: Prepared) -> None:
        """Each row has the id, status, reason, start, duration and goal of a root."""
        said = cli("list")
        heading, *rows = said.out.splitlines()
        assert heading.split() == ["id", "status", "reason", "started", "took", "goal"]
        assert [row.split()[0] for row in rows] == [prepared[name][:8] for name in ("root", "broken", "ended")]
        assert "⏸ paused" in rows[0]
        assert "⊘ abandoned  manual" in rows[1]
        assert rows[2].endswith(RESEARCH)
        assert (said.err, said.code) == ("", 0)

    def test_open_leaves_out_what_has_ended(self, cli: Cortical, prepared: Prepared) -> None:
        """Only trees whose root is open are listed."""
        assert [tree["id"] for tree in cli("list", "--open", "--json").json] == [prepared["root"]]

    def test_a_limit_is_told(self, cli: Cortical) -> None:
        """When there are more trees than are listed, that is said beside the list, not in it."""
        said = cli("list", "--limit", "2", "--json")
        assert (len(said.json), said.err) == (2, "there are more; --limit 4 shows twice as many\n")
        assert cli("list", "--limit", "3").err == ""

    def test_json_has_what_the_rows_have(self, cli: Cortical, prepared: Prepared) -> None:
        """Times are ISO 8601 in UTC; what is not there is null."""
        still_open, broken, _ = cli("list", "--json").json
        assert (broken["status"], broken["reason"], broken["goal"]) == ("abandoned", "manual", "Broken")
        assert (still_open["reason"], still_open["ended_at"]) == (None, None)
        assert still_open["started_at"].endswith("+00:00")

    def test_a_narrow_terminal_gets_fewer_columns(self, cli: Cortical) -> None:
        """In 60 columns the reason is left out, and the start becomes an age."""
        lines = cli("list", columns=60).out.splitlines()
        assert lines[0].split() == ["id", "status", "age", "took", "goal"]
        assert all(len(line) <= 60 for line in lines)

    def test_an_empty_store_is_said_to_be_empty(self, cli: Cortical, tmp_path: Path) -> None:
        """Nothing stands in the data; JSON is an empty array."""
        empty = tmp_path / "empty.db"
        open_store(empty).close()
        assert cli("list", store=empty) == Said("", "the store is empty\n", 0)
        assert cli("list", "--open", store=empty).err == "no tree is open\n"
        assert cli("list", "--json", store=empty).json == []
        assert cli("tree", store=empty) == Said("", "the store is empty\n", 0)


class TestTree:
    """`cortical tree`."""

    def test_a_loop_is_drawn_with_all_below_it(self, cli: Cortical, prepared: Prepared) -> None:
        """Each line has sign, id, phase, age, goal and reason; guides show who is below whom."""
        lines = still(cli("tree", prepared["root"]).out).splitlines()
        assert lines[0] == f"⏸ {prepared['root'][:8]}  answer  0s  {BUILD} – waiting for 6 children"
        assert lines[1] == f"├── ■ {prepared['blocked'][:8]}  question  0s  blocked – no key for the provider"
        assert lines[3].endswith("in 0s  failed – RuntimeError: no luck")
        assert lines[5] == f"├── ▶ {prepared['active'][:8]}  question  0s  active"
        assert lines[6] == f"│   └── · {prepared['later'][:8]}  0s  later"
        assert lines[7] == f"└── ↷ {prepared['skipped'][:8]}  question  in 0s  skipped – not today"

    def test_without_id_all_open_trees_are_drawn(self, cli: Cortical, prepared: Prepared) -> None:
        """Ended ones are not."""
        with NestedLoopExecutor(store=prepared.store) as executor:
            executor.start_root("Another")
        said = cli("tree")
        assert (said.out.count(BUILD), said.out.count("Another"), said.out.count("Broken")) == (1, 1, 0)
        assert len(cli("tree", "--json").json) == 2
        assert cli("tree", "--limit", "1").err.startswith("only the newest 1 open trees are drawn")

    def test_with_none_open_the_most_recent_are_drawn(self, cli: Cortical, prepared: Prepared) -> None:
        """And that is said."""
        assert cli("break", prepared["root"], "--reason", "done").code == 0
        said = cli("tree")
        assert said.err == "no tree is open; the most recent:\n"
        assert [said.out.count(goal) for goal in (BUILD, "Broken", RESEARCH)] == [1, 1, 1]

    def test_levels_below_may_be_left_out(self, cli: Cortical, prepared: Prepared) -> None:
        """Those that are left out are counted; more levels than there are draw all."""
        lines = cli("tree", prepared["root"], "--levels", "1").out.splitlines()
        assert len(lines) == 7
        assert f"▶ {prepared['active'][:8]}  (+1 below)  question" in lines[5]
        assert "(+7 below)" in cli("tree", prepared["root"], "--levels", "0").out
        all_levels = cli("tree", prepared["root"], "--levels", "9999999").out
        assert still(all_levels) == still(cli("tree", prepared["root"]).out)

    def test_a_part_of_a_tree_can_be_drawn(self, cli: Cortical, prepared: Prepared) -> None:
        """The loop that was asked for stands on top."""
        lines = cli("tree", prepared["active"]).out.splitlines()
        assert [line[:3] for line in lines] == ["▶ " + prepared["active"][0], "└──"]

    def test_json_is_an_array_of_trees(self, cli: Cortical, prepared: Prepared) -> None:
        """With ID as without."""
        (tree,) = cli("tree", prepared["active"], "--json").json
        assert tree["root"] == prepared["active"]
        assert [loop["id"] for loop in tree["loops"]] == [prepared["active"], prepared["later"]]
        assert tree["loops"][0]["children"] == [prepared["later"]]

    @pytest.mark.parametrize("columns", [60, 80, 200])
    def test_no_line_is_wider_than_the_terminal(self, cli: Cortical, prepared: Prepared, columns: int) -> None:
        """Long goals and reasons are cut, so that the guides stay whole."""
        with NestedLoopExecutor(store=prepared.store) as executor:
            loop = executor.start_root("very long goal " * 30)
            for level in range(4):
                loop = executor.spawn_child(loop, f"level {level} " + "with a goal that goes on " * 20)
            executor.block(loop, "because of this and that " * 20)
            top = executor.get_loop_hierarchy(loop)[0]
        lines = cli("tree", top, columns=columns).out.splitlines()
        assert len(lines) == 5
        assert all(len(line) <= columns for line in lines)
        assert all("…" in line for line in lines)
        assert "level" in lines[4]
        assert " – because" in lines[4]

    def test_a_tree_too_deep_for_the_terminal_loses_nothing(self, cli: Cortical, prepared: Prepared) -> None:
        """Thirty levels in 60 columns are drawn wider than the terminal."""
        with NestedLoopExecutor(40, store=prepared.store) as executor:
            loop = top = executor.start_root("top")
            for level in range(30):
                loop = executor.spawn_child(loop, f"level {level}")
        assert cli("tree", top, columns=60).out.splitlines()[-1].endswith("level 29")

    def test_where_room_is_scarce_goal_and_reason_stay(self, cli: Cortical, prepared: Prepared) -> None:
        """Time and phase give way first."""
        assert cli("tree", prepared["blocked"], columns=40).out == (
            f"■ {prepared['blocked'][:8]}  blocked – no key for the pr…\n"
        )

    def test_without_a_terminal_nothing_is_cut(self, cli: Cortical, prepared: Prepared) -> None:
        """Into a pipe goes the whole goal, however long, on one line."""
        goal = "a goal " * 300
        with NestedLoopExecutor(store=prepared.store) as executor:
            loop = executor.start_root(goal)
        (line,) = cli("tree", loop, columns=None).out.splitlines()
        assert line.endswith(goal.strip())

    def test_a_turn_is_numbered_from_the_second_on(self, cli: Cortical, prepared: Prepared) -> None:
        """The first visit of a phase has no number."""
        with NestedLoopExecutor(store=prepared.store) as executor:
            for _ in range(4):
                executor.advance(prepared["active"])
        assert "  question #2  " in cli("tree", prepared["active"]).out

    def test_goals_cannot_steer_the_terminal(self, cli: Cortical, prepared: Prepared) -> None:
        """Escape sequences, line breaks and characters that turn text around become harmless signs."""
        with NestedLoopExecutor(store=prepared.store) as executor:
            loop = executor.start_root("a\x1b[31mb\nc\u202ed\x9be\u2028f")
        for command in ("tree", "show", "why", "log"):
            out = cli(command, loop).out
            assert "a␛[31mb" in out
            assert not set(out) & set("\x1b\u202e\x9b\u2028"), command


class TestShow:
    """`cortical show`."""

    def test_everything_about_a_loop_is_shown(self, cli: Cortical, prepared: Prepared) -> None:
        """Status, times, visits with what was recorded, children with their results, its own result, its metadata."""
        out = cli("show", prepared["ended"]).out
        for expected in (
            f"✓ {prepared['ended']}  {RESEARCH}",
            "completed at answer",
            "take X",
            "anna",
            "use X – it is small",
            "second line",
            f"✓ {prepared['part'][:8]}  completed  Investigate",
            "{'tables': ['users']}",
        ):
            assert expected in out

    def test_a_failure_is_shown_with_its_cause(self, cli: Cortical, prepared: Prepared) -> None:
        """With the path from the root, the traceback, and what caused it."""
        out = cli("show", prepared["failed"]).out
        assert f"{prepared['root'][:8]} › {prepared['failed'][:8]}" in out
        assert re.search(r"caused by +OSError: disk full", out)
        assert "Traceback (most recent call last)" in out
        failed = cli("show", prepared["failed"], "--json").json["outcome"]["failed"]
        assert (failed["type"], failed["attempts"]) == ("RuntimeError", 1)
        assert [cause["message"] for cause in failed["causes"]] == ["disk full"]

    def test_json_has_the_path_and_the_results(self, cli: Cortical, prepared: Prepared) -> None:
        """Beside all that the tree's JSON has."""
        shown = cli("show", prepared["ended"], "--json").json
        assert shown["child_results"] == {prepared["part"]: {"tables": ["users"]}}
        assert (shown["outcome"], shown["metadata"]) == ({"ok": "take X"}, {"owner": "anna"})
        assert [entry["topic"] for entry in shown["visits"][0]["entries"]] == ["decision", "note"]
        blocked = cli("show", prepared["blocked"], "--json").json
        assert blocked["path"] == [prepared["root"], prepared["blocked"]]
        assert (blocked["why"], blocked["outcome"]) == ("no key for the provider", None)
        abandoned = cli("show", prepared["abandoned"], "--json").json
        assert abandoned["outcome"] == {"abandoned": "not needed", "by": this_process()}

    def test_a_long_value_is_shortened_and_said_to_be(self, cli: Cortical, prepared: Prepared) -> None:
        """The whole of it is in the JSON."""
        with NestedLoopExecutor(store=prepared.store) as executor:
            loop = executor.start_root("long")
            executor.record_answer(loop, "x" * 5000)
        out = cli("show", loop).out
        assert "(3,000 characters left out; the whole is in --json)" in re.sub(r"\s+", " ", out)
        assert out.count("x") == 2000
        assert "x" * 5000 in cli("show", loop, "--json").out

    def test_a_loop_that_was_not_begun_has_no_visits(self, cli: Cortical, prepared: Prepared) -> None:
        """Nor a phase."""
        out = cli("show", prepared["later"]).out
        assert "not_started" in out
        assert "visits" not in out


class TestLog:
    """`cortical log`."""

    def test_the_events_of_a_tree_are_shown_in_order(self, cli: Cortical, prepared: Prepared) -> None:
        """Time, run, event and content, a line each."""
        lines = cli("log", prepared["ended"]).out.splitlines()
        words = [line.split()[3] for line in lines]
        assert words == [
            "started", "changed", "started", "paused", "noted", "ended", "resumed", "noted", "noted", "moved", "ended",
        ]  # fmt: skip
        ended, part = prepared["ended"][:8], prepared["part"][:8]
        assert [line.split(maxsplit=3)[2] for line in lines[:3]] == [ended, ended, part]
        assert lines[1].endswith("owner = anna")
        assert lines[2].endswith(f"Investigate (below {ended}) – at question")
        assert lines[4].endswith("answer: {'framework': 'X'}")
        assert lines[7].endswith("decision: use X – it is small")
        assert lines[9].endswith("→ answer")
        assert lines[10].endswith("completed: take X")

    def test_the_log_of_a_part_has_only_what_is_below_it(self, cli: Cortical, prepared: Prepared) -> None:
        """A child's log leaves out its siblings and what is above."""
        events = [json.loads(line) for line in cli("log", prepared["active"], "--json").out.splitlines()]
        assert [(event["event"], event["run_id"]) for event in events] == [
            ("started", prepared["active"]),
            ("started", prepared["later"]),
        ]

    def test_every_event_has_a_line_of_json(self, cli: Cortical, prepared: Prepared) -> None:
        """With its position in the tree's log, its time, and its outcome under one key."""
        events = [json.loads(line) for line in cli("log", prepared["root"], "--json").out.splitlines()]
        assert [event["position"] for event in events] == list(range(events_of(prepared)))
        outcomes = {event["run_id"]: event["outcome"] for event in events if event["event"] == "ended"}
        assert outcomes[prepared["abandoned"]] == {"abandoned": "not needed", "by": this_process()}
        assert outcomes[prepared["skipped"]] == {"skipped": "not today"}
        assert all(event["at"].endswith("+00:00") for event in events)
        changed = json.loads(cli("log", prepared["ended"], "--json").out.splitlines()[1])
        assert (changed["set"], changed["removed"]) == ({"owner": "anna"}, [])

    def test_each_kind_of_event_can_be_read(self, cli: Cortical, prepared: Prepared) -> None:
        """Blocks, pauses, resumptions, ends and visits that were ended all say what they are about."""
        with NestedLoopExecutor(store=prepared.store) as executor:
            executor.resume(prepared["blocked"])
            executor.journal.change(prepared["blocked"], change, {"key": "there"}, ("old",))
            executor.get_loop(prepared["active"]).transition(LoopPhase.PRODUCE, "spike")
            executor.get_loop(prepared["active"]).current_context().end_phase()
            executor.get_loop(prepared["paused"]).resume()
            executor.get_loop(prepared["paused"]).complete(TerminationReason.USER_APPROVED)
        out = cli("log", prepared["root"]).out
        for expected in (
            "blocked  no key for the provider",
            "paused   waiting for 6 children",
            "resumed",
            "later (below",
            "not begun",
            "ended    failed: RuntimeError: no luck",
            "ended    abandoned – not needed",
            "ended    skipped – not today",
            "ended    completed (user_approved)",
            "→ produce – spike",
            "changed  key = there, old removed",
            "noted    visit ended",
        ):
            assert expected in out

    def test_a_long_value_is_shortened_in_a_pipe_too(self, cli: Cortical, prepared: Prepared) -> None:
        """Where no terminal's edge cuts it off, it is said how much is left out; the JSON has the whole."""
        with NestedLoopExecutor(store=prepared.store) as executor:
            loop = executor.start_root("long")
            executor.record_answer(loop, "x" * 5000)
            executor.journal.change(loop, change, {"key": "y" * 5000}, ())
            executor.fail(loop, RuntimeError("z" * 5000))
        out = cli("log", loop, columns=None).out
        assert out.count("(3,000 characters left out; the whole is in --json)") == 2
        assert max(map(len, out.splitlines())) < 2200
        assert "x" * 5000 in cli("log", loop, "--json").out

    def test_following_ends_with_the_loop(self, cli: Cortical, prepared: Prepared) -> None:
        """Of a loop that has ended nothing more can come."""
        assert cli("log", prepared["ended"], "--follow") == cli("log", prepared["ended"])
        assert cli("log", prepared["failed"], "-f").out.count("\n") == 2

    def test_a_line_stays_in_a_narrow_terminal(self, cli: Cortical, prepared: Prepared) -> None:
        """Dates give way, contents are cut."""
        lines = cli("log", prepared["root"], columns=60).out.splitlines()
        assert len(lines) == events_of(prepared)
        assert all(len(line) <= 60 for line in lines)
        assert re.match(r"\d\d:\d\d:\d\d  ", lines[0])


class TestWhy:
    """`cortical why`."""

    def test_a_waiting_loop_names_what_it_waits_for(self, cli: Cortical, prepared: Prepared) -> None:
        """With how those stand, and what would take it on."""
        out = cli("why", prepared["root"]).out
        assert re.search(r"because +it waits for 3 open children", out)
        assert f"■ {prepared['blocked'][:8]}  blocked      blocked – no key for the provider" in out
        assert "complete or break the runs it waits for" in out
        assert "above it" not in out

    def test_a_blocked_loop_names_its_path_and_who_waits(self, cli: Cortical, prepared: Prepared) -> None:
        """And its own last events."""
        out = cli("why", prepared["blocked"]).out
        assert re.search(rf"waited for by +{prepared['root'][:8]}", out)
        assert f"⏸ {prepared['root'][:8]}  paused  {BUILD}" in out
        assert out.splitlines()[-1].endswith("blocked  no key for the provider")

    def test_decisions_are_told_with_who_chose(self, cli: Cortical, prepared: Prepared) -> None:
        """And the reason of an end is among the rows."""
        assert re.search(
            r"\ndecisions\n  .*  block  caller  no key for the provider\n", cli("why", prepared["blocked"]).out
        )
        out = cli("why", prepared["broken"]).out
        assert re.search(r"reason +manual", out)
        assert re.search(r"  break +caller  ", out)

    def test_json_has_the_same(self, cli: Cortical, prepared: Prepared) -> None:
        """Runs in brief, events with their positions."""
        told = cli("why", prepared["root"], "--json").json
        assert told["because"] == "it waits for 3 open children"
        assert [run["id"] for run in told["waits_for"]] == [
            prepared["blocked"], prepared["paused"], prepared["active"], prepared["later"],
        ]  # fmt: skip
        assert told["last_events"][-1]["event"] == "paused"
        assert (told["reason"], told["limit"]) == (None, None)
        assert [(one["what"], one["by"]) for one in told["decisions"]][-1] == ("spawn", "caller")
        assert told["decisions"][0]["at"].endswith("+00:00")
        assert cli("why", prepared["blocked"], "--json").json["waited_for_by"][0]["id"] == prepared["root"]


class TestCheck:
    """`cortical check`."""

    def test_a_loop_that_went_the_whole_way_is_well(self, cli: Cortical, prepared: Prepared) -> None:
        """Nothing is found, and the command says yes."""
        with NestedLoopExecutor(store=prepared.store) as executor:
            loop_id = executor.start_root("exemplary")
            loop = executor.get_loop(loop_id)
            executor.advance(loop_id)
            loop.current_context().record_decision("this", rationale="that")
            executor.advance(loop_id)
            loop.current_context().record_artifact("file.md")
            executor.advance(loop_id)
            loop.add_note("counted again")
            executor.complete(loop_id)
        said = cli("check", loop_id)
        assert said.out.splitlines() == [
            f"checked   {loop_id}",
            "tree      sound, 8 events",
            "practice  nothing found in 1 loop",
        ]
        assert said.code == 0
        assert cli("check", loop_id, "--json").json == {
            "well": True, "id": loop_id, "events": 8, "loops": 1, "problems": [], "findings": [],
        }  # fmt: skip

    def test_something_grave_is_a_no(self, cli: Cortical, prepared: Prepared) -> None:
        """A loop that completed without producing and verifying makes the command exit 1; findings are grouped."""
        said = cli("check", prepared["ended"])
        assert said.code == 1
        assert "high: premature_exit, in 2 loops" in said.out
        assert said.out.index("high: ") < said.out.index("warning: ")
        assert "→  verify before completing" in said.out
        findings = cli("check", prepared["ended"], "--json").json["findings"]
        assert {finding["id"] for finding in findings} == {prepared["ended"], prepared["part"]}

    def test_advice_alone_is_a_yes(self, cli: Cortical, prepared: Prepared) -> None:
        """A warning is printed, and the exit code is 0."""
        with NestedLoopExecutor(store=prepared.store) as executor:
            loops = executor.spawn_children(executor.start_root("top"), [f"part {number}" for number in range(7)])
            for loop in loops:
                executor.advance(loop)
        said = cli("check", executor.journal.run(loops[0]).parent_id or "")
        assert said.code == 0
        assert "warning: answer_evidence_required, in 7 loops" in said.out
        assert "  and 2 more; --json has all" in said.out

    def test_an_unsound_tree_is_a_no(self, cli: Cortical, tmp_path: Path) -> None:
        """A log that cannot have come about is told, and no loop of it is judged."""
        path = tmp_path / "unsound.db"
        made = NestedLoopExecutor(store=MemoryStore())
        root = made.start_root("top")
        made.spawn_child(root, "part")
        store = open_store(path)
        log = made.store.read(root)
        store.append(store.prepare(root, 0, [*log, *log[-1:]]))
        store.close()
        said = cli("check", root, store=path)
        assert said.code == 1
        assert "\ntree      unsound, 4 events\npractice  nothing found in 0 loops\n" in said.out
        assert "the count has a gap: 3 is due" in said.out
        assert cli("check", root, "--json", store=path).json["well"] is False
        assert cli("doctor", store=path).code == 1


class TestChange:
    """`cortical break`, `pause` and `unpause`."""

    def test_breaking_ends_all_below(self, cli: Cortical, prepared: Prepared) -> None:
        """What was done is told; the data are empty; the reason, and who did it, are in the log."""
        said = cli("break", prepared["active"], "--reason", "no longer needed", "--by", "Ada")
        assert said == Said("", f"broken: {prepared['active']}, and 1 open below it\n", 0)
        assert cli("show", prepared["later"], "--json").json["outcome"] == {
            "abandoned": "no longer needed",
            "by": "Ada",
        }

    def test_the_parent_that_goes_on_is_told(self, cli: Cortical, prepared: Prepared) -> None:
        """When the last open child is broken, its parent becomes active."""
        for name in ("blocked", "paused"):
            assert cli("break", prepared[name], "--reason", "x").err == f"broken: {prepared[name]}\n"
        said = cli("break", prepared["active"], "--reason", "x")
        assert said.err.splitlines()[1] == f"active again: {prepared['root']}"

    def test_a_loop_is_paused_and_unpaused(self, cli: Cortical, prepared: Prepared) -> None:
        """Both are told, and so is that a blocked loop is active again."""
        said = cli("pause", prepared["active"], "--reason", "review")
        assert said == Said("", f"paused: {prepared['active']}\n", 0)
        assert cli("show", prepared["active"], "--json").json["why"] == "review"
        assert cli("unpause", prepared["active"]).err == f"active again: {prepared['active']}\n"
        assert cli("unpause", prepared["blocked"]).err == f"active again: {prepared['blocked']}\n"

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (
                ("break", "ended", "--reason", "x"),
                "may not be broken: it has ended: completed (success); start another",
            ),
            (("pause", "paused", "--reason", "x"), "may not pause: it is not active but paused; resume it first"),
            (("unpause", "active"), "may not resume: it is active, not paused or blocked; nothing is needed"),
            (("unpause", "root"), "may not resume: it waits for its 3 open children"),
        ],
    )
    def test_a_refusal_is_a_sentence_and_changes_nothing(
        self, cli: Cortical, prepared: Prepared, arguments: tuple[str, ...], sentence: str
    ) -> None:
        """What the rules refuse goes to standard error; the exit code is 1, and the log is as it was."""
        command, name, *options = arguments
        before = [events_of(prepared, root) for root in ("root", "ended")]
        said = cli(command, prepared[name], *options)
        assert (said.out, said.code) == ("", 1)
        assert said.err.startswith(f"loop {prepared[name]!r} {sentence}")
        assert [events_of(prepared, root) for root in ("root", "ended")] == before

    def test_a_reason_must_be_given(self, cli: Cortical, prepared: Prepared) -> None:
        """Without one the command was used wrongly."""
        assert cli("break", prepared["active"]).code == 2
        assert cli("pause", prepared["active"], "--reason", " ").code == 1


class TestExport:
    """`cortical export`."""

    @pytest.mark.parametrize(
        ("format", "beginning"), [("tree", "⏸ "), ("mermaid", "graph TD"), ("dot", "digraph"), ("json", "{")]
    )
    def test_each_format_is_written(self, cli: Cortical, prepared: Prepared, format: str, beginning: str) -> None:
        """As the library draws it."""
        said = cli("export", prepared["root"], "--format", format)
        assert said.out.startswith(beginning)
        assert BUILD in said.out

    def test_an_unknown_format_is_a_wrong_use(self, cli: Cortical, prepared: Prepared) -> None:
        """The right ones are named."""
        said = cli("export", prepared["root"], "--format", "svg")
        assert said.code == 2
        assert "mermaid" in said.err


class TestDoctor:
    """`cortical doctor`."""

    def test_a_healthy_store_is_well(self, cli: Cortical, prepared: Prepared) -> None:
        """Health, version, schema, sizes and counts, and the open trees with the age of their last event."""
        said = cli("doctor")
        rows = dict(line.split(maxsplit=1) for line in said.out.splitlines()[:7])
        assert rows["health"] == "well"
        assert rows["version"] == f"{cortical.__version__}, schema 2"
        assert (rows["trees"], rows["runs"]) == ("3, 1 open", "12")
        assert rows["size"].startswith(f"database {prepared.store.stat().st_size:,} bytes")
        assert re.search(rf"{prepared['root'][:8]}  ⏸ paused  \d\.\ds ago +nobody   {BUILD}", said.out)
        assert said.err == "nobody holds an open tree: it goes on when a program takes it up\n"
        assert said.code == 0

    def test_json_has_the_same(self, cli: Cortical, prepared: Prepared) -> None:
        """With the time of the last event, and nobody holding the tree."""
        told = cli("doctor", "--json").json
        assert (told["well"], told["problems"], told["schema"], told["runs"]) == (True, [], 2, 12)
        (still_open,) = told["open_trees"]
        assert (still_open["id"], still_open["held_by"]) == (prepared["root"], None)
        assert told["bytes"]["database"] == prepared.store.stat().st_size

    def test_the_trees_that_stand_still_longest_come_first(self, cli: Cortical, prepared: Prepared) -> None:
        """Twenty are shown, the others counted; the JSON has all."""
        with NestedLoopExecutor(store=prepared.store) as executor:
            for number in range(25):
                executor.start_root(f"tree {number}")
        said = cli("doctor")
        assert said.out.index(BUILD) < said.out.index("tree 0") < said.out.index("tree 18")
        assert "tree 19" not in said.out
        assert said.err.startswith("and 6 more, with later events; `cortical list --open` lists them\n")
        assert len(cli("doctor", "--json").json["open_trees"]) == 26

    def test_nothing_open_is_not_listed(self, cli: Cortical, prepared: Prepared) -> None:
        """Nor is anything said about who holds it."""
        cli("break", prepared["root"], "--reason", "x")
        said = cli("doctor")
        assert "held by" not in said.out
        assert said.err == ""

    def test_a_damaged_file_is_a_no(self, cli: Cortical, tmp_path: Path) -> None:
        """What is wrong is a sentence; no traceback, no empty store."""
        for content, sentence in ((b"", "is empty"), (b"not a database", "is not a store")):
            path = tmp_path / "damaged.db"
            path.write_bytes(content)
            said = cli("doctor", store=path)
            assert (said.out, said.code) == ("", 1)
            assert sentence in said.err


class TestEdges:
    """What holds for every command."""

    def test_the_store_is_named_by_option_or_environment(self, cli: Cortical, prepared: Prepared) -> None:
        """The option goes before the environment; a URL will do."""
        url = f"sqlite:///{prepared.store}"
        assert cli("list", "--store", url, store="/nowhere.db").out == cli("list").out

    def test_without_a_name_the_store_is_in_this_folder(
        self, cli: Cortical, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When it is not there either, the error says how to name one, and none is made."""
        monkeypatch.chdir(tmp_path)
        said = cli("list", store=None)
        assert (said.out, said.code) == ("", 1)
        assert said.err.splitlines() == [
            "cortical.db: there is no store; check the path, or start a loop to make one",
            "name the store with --store FILE, or in CORTICAL_STORE",
        ]
        assert not (tmp_path / "cortical.db").exists()
        prepared.store.rename(tmp_path / "cortical.db")
        assert BUILD in cli("list", store=None).out

    @pytest.mark.parametrize("command", ["tree", "show", "log", "why", "check", "export", "unpause"])
    def test_an_id_may_be_shortened_but_not_unknown(self, cli: Cortical, prepared: Prepared, command: str) -> None:
        """A prefix that no id or several ids begin with is refused in a sentence."""
        if command != "unpause":
            assert prepared["broken"][:8] in cli(command, prepared["broken"][:10]).out
        for unknown in ("zz", ""):
            said = cli(command, unknown)
            assert (said.out, said.code) == ("", 1)
            assert said.err == f"no run has the id {unknown!r}; look it up with `cortical list`\n"

    def test_an_ambiguous_id_names_the_candidates(self, cli: Cortical, tmp_path: Path) -> None:
        """And asks for more characters."""
        path = tmp_path / "numbered.db"
        ids = iter(["loop-000001", "loop-000002"])
        with NestedLoopExecutor(store=path, new_id=lambda: next(ids)) as executor:
            executor.spawn_child(executor.start_root("top"), "part")
        said = cli("show", "loop", store=path)
        assert said.err == "'loop' begins several ids (loop-000001, loop-000002); give more characters\n"
        assert said.code == 1
        assert "loop-000002" in cli("tree", store=path).out, "ids are shown as long as it takes to tell them apart"

    @pytest.mark.parametrize("arguments", [(), ("nonsense",), ("show",), ("list", "--limit", "0"), ("tree", "--x")])
    def test_wrong_use_exits_2(self, cli: Cortical, arguments: tuple[str, ...]) -> None:
        """Unknown commands and options, missing arguments, and limits of no use."""
        assert cli(*arguments).code == 2

    def test_the_version_can_be_asked_for(self, cli: Cortical) -> None:
        """Without a command."""
        assert cli("--version") == Said(f"{cortical.__version__}\n", "", 0)

    @pytest.mark.parametrize("columns", ["0", "7", "x"])
    def test_an_absurd_width_does_no_harm(self, cli: Cortical, prepared: Prepared, columns: str) -> None:
        """What a terminal says about itself is not always true."""
        result = CliRunner().invoke(app, ["tree", prepared["root"]], env={
            "COLUMNS": columns, "CORTICAL_STORE": str(prepared.store),
        })  # fmt: skip
        assert result.exit_code == 0
        assert len(result.stdout.splitlines()) == 8


#: For each command, the loop that its example is tried on.
EXAMPLE_IDS = {"break": "active", "pause": "active", "unpause": "paused", "log": "ended", "check": "exemplary"}


@pytest.mark.parametrize(
    ("seconds", "in_two_units", "in_one"),
    [
        (-1.0, "0.0s", "0s"),
        (0.04, "0.0s", "0s"),
        (9.94, "9.9s", "9s"),
        (9.96, "10s", "9s"),
        (59.7, "1m 00s", "59s"),
        (3599.6, "1h 00m", "59m"),
        (7384, "2h 03m", "2h"),
        (86399.9, "1d 0h", "23h"),
        (4 * 86400 + 3 * 3600, "4d 3h", "4d"),
    ],
)
def test_times_are_told_in_the_units_that_count(seconds: float, in_two_units: str, in_one: str) -> None:
    """A duration never reads like 60 seconds or 24 hours; an age is rounded down."""
    assert (duration(seconds), age(seconds)) == (in_two_units, in_one)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("  a  b ", "a b"),
        ("a\r\n\tb\x0bc", "a b c"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("a\x7f\x85\udcffb", "a� �b"),
        ("👩‍👩‍👧 é ﷽", "👩‍👩‍👧 é ﷽"),
        ("x\u200fy\u2066z\u202e", "x\u200fy�z�"),
    ],
)
def test_any_text_can_be_printed_on_a_line(text: str, line: str) -> None:
    """White space is joined, what steers a terminal is made visible, and all else stays as it is."""
    assert one_line(text) == line


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short", 5, "short"),
        ("too long", 5, "too …"),
        ("日本語", 5, "日本…"),
        ("x", 0, "x"),
        ("a" + " " * 99 + "b", 5, "a…"),
    ],
)
def test_a_cut_text_fits_its_cells(text: str, width: int, shown: str) -> None:
    """Wide characters count as two; what is missing leaves an ellipsis."""
    assert cut(text, width) == shown


def test_ids_are_as_long_as_it_takes_to_tell_them_apart() -> None:
    """Eight characters at least; the same id twice is one."""
    assert id_length([]) == 8
    assert id_length(["0123456789", "0123456789", "1123456789"]) == 8
    assert id_length(["loop-000001", "loop-000002"]) == 11
    assert id_length(["a", "ab"]) == 8


def help_of(command: str) -> str:
    result = CliRunner().invoke(app, [*([command] if command else []), "--help"], prog_name="cortical")
    assert result.exit_code == 0
    return result.stdout


def commands() -> list[str]:
    return list(get_command(app).commands)  # type: ignore[attr-defined]


#: Commands whose examples need something of the user's: an agent, a module, a definition. Others show that they run.
NEED_MORE = {"demo", "run", "resume", "answer", "drain", "recover", "watch", "stages", "pipeline", "batch", "workflow"}


@pytest.mark.parametrize("command", ["", *(name for name in commands() if name not in NEED_MORE)])
def test_help_ends_in_an_example_that_runs(cli: Cortical, prepared: Prepared, command: str, tmp_path: Path) -> None:
    """The example of each command's help does what it shows, on a store and loop of that name."""
    _, _, example = help_of(command).partition("Example:")
    program, *arguments = shlex.split(example)
    assert program == "cortical"
    assert "--store" in arguments
    if command:
        assert arguments[0] == command
    loop = prepared[EXAMPLE_IDS.get(command, "root")] if command != "check" else verified(prepared)
    given = {"3f2a": loop[:9], "runs.db": str(prepared.store)}
    said = cli(*(given.get(argument, argument) for argument in arguments), store=None)
    assert said.code == 0, said.err


def test_an_id_is_explained_alike_everywhere() -> None:
    """Each command that takes the id of a run says the same about it, for ids of runs of every kind do."""
    waiting: list[object] = [get_command(app)]
    told: list[str] = []
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        told += [each.help for each in getattr(command, "params", ()) if each.metavar == "ID"]
    assert len(told) > 15
    assert set(told) == {"The run: its id, or enough of its beginning."}


def verified(prepared: Prepared) -> str:
    """A loop that went round the whole cycle."""
    with NestedLoopExecutor(store=prepared.store) as executor:
        loop = executor.start_root("exemplary")
        for _ in range(3):
            executor.advance(loop)
        executor.complete(loop)
    return loop
