"""Is a project ready for release? One tree of everything that Cortical has, on a real folder of Python files.

::

    python examples/release_check.py                                    # this repository
    python examples/release_check.py ~/src/shop --workspace check       # any folder; killed, the same command goes on
    python examples/release_check.py ~/src/shop --workspace check --approve yes --write

A root agent asks. Its ANSWER runs a pipeline whose stages look at the project at the same time, one of them by a batch
over all files, while a controlled loop watches what that uses. Its PRODUCE mends in a loop stage what can be mended, by
decisions that are kept, and starts a child loop for each check that has to be made once more. VERIFY asks a person, and
passes with the evidence. All of it is looked at and mended in a copy; the project's own files are changed after a yes,
with --write, and not otherwise. It is longer than other examples, so that the parts stand in the order of the phases.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

if not __package__:  # run as a script: its neighbours are found from the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cortical import Agent, Loop, Verdict, open_store, provide, resume, run
from cortical.agents import Result
from cortical.batch import BatchProcessor
from cortical.control import Done, LoopHandle, ProcessMeter, State, cpu, memory, open_files
from cortical.core.errors import CorticalError, LeaseHeld
from cortical.core.extras import MissingExtra
from cortical.core.journal import Journal
from cortical.core.status import Status
from cortical.stages import Execution, Key, Pipeline, StageContext, execute, gantt, stage
from cortical.stages.loop import StageHandler, Work
from examples import project_checks as project
from examples.project_checks import Checked, Finding
from examples.release_screen import Screen, counted

GOAL: Final = "Is {} ready for release?"
CHECKS: Final = ("files", "lint", "types", "tests", "docs")
LEASE_SECONDS: Final = 1.0  # how long after a kill the tree is still taken to be driven
AT_ONCE: Final = 4
SOUND: Final = Key("sound", list[str])

checker = Agent("release-checker", concurrency=2, on_child_failure="carry on", max_turns=3)
rechecker = Agent("rechecker")


# QUESTION: what is looked at


@checker.question
def ask(loop: Loop) -> None:
    """Ask, and copy the project. A later turn has a copy of its own, of the project as it is then."""
    loop.ask(f"{loop.goal} {loop.feedback}".strip())
    files = loop.step("copy", project.copied, Path(loop.inputs["project"]), copy_of(loop))
    loop.produce("files", files)


def copy_of(loop: Loop) -> Path:
    """Where this turn's copy stands."""
    return Path(loop.inputs["workspace"]) / f"copy-{loop.turn}"


# ANSWER: a pipeline that looks, a batch in one of its stages, and a controlled loop beside it


@checker.answer
def look(loop: Loop) -> None:
    """Look at everything, and watch meanwhile what that uses."""
    over = threading.Event()
    watching = watch(loop, over)
    try:
        arguments = {**loop.inputs, "copy": str(copy_of(loop)), "paths": list(loop.artifact("files"))}
        how = Execution(max_concurrency=AT_ONCE, on_failure="keep_going")
        result = execute(checks, StageContext(arguments=arguments), store=loop.journal, parent=loop.id, how=how)
    finally:
        over.set()
    checked: dict[str, Checked] = {}
    for name in CHECKS:
        ended = result[f"check:{name}"]
        broken = project.found(name, "", 0, f"the check itself failed: {ended.why}", blocks=True)
        checked[name] = ended.output if ended.ok else {"means": "nothing", "findings": [broken]}
    watched = watching.wait()
    if watched.status is not Status.COMPLETED:
        told = f"checking used too much: {watched.details}"
        checked["files"]["findings"].append(project.found("files", "", 0, told, blocks=True))
    loop.answer(checked)


def watch(loop: Loop, over: threading.Event) -> LoopHandle:
    """A controlled loop that measures, until it is over or a limit is exceeded; killed, it goes on with its peaks."""
    meter = ProcessMeter()
    limits = memory(mib=loop.inputs["mib"]) | open_files(1000) | cpu(seconds=3600)

    def measure(state: dict[str, Any]) -> State:
        ended = over.wait(0.1)
        peaks = {name: max(used, state.get(name, 0.0)) for name, used in meter.used().items()}
        return Done(**peaks) if ended else State(**peaks)

    return loop.control(f"watch {loop.turn}", stop_when=limits, meter=meter).start(measure)


@stage("check:files", writes=[SOUND])
def check_files(context: StageContext) -> Checked:
    """Look at each file alone: a batch, four at a time."""
    paths = context.arguments["paths"]
    with BatchProcessor(
        ".", "files", look_at, store=context.journal, parent=context.run_id, max_concurrency=AT_ONCE
    ) as batch:
        result = batch.run(paths, {"copy": context.arguments["copy"], "pace": context.arguments["pace"]})
    findings = [finding for found in result.results for finding in found]
    for index, failed in result.failed.items():
        findings.append(project.found("files", paths[index], 0, f"cannot be read: {failed.error.message}", blocks=True))
    broken = {finding["path"] for finding in findings if finding["blocks"]}
    context[SOUND] = [path for path in paths if path not in broken]
    return {"means": f"each of {len(paths)} files", "findings": findings}


def look_at(path: str, task: Mapping[str, Any], context: Mapping[str, Any]) -> list[Finding]:
    """What is wrong with one file."""
    time.sleep(task["pace"])
    return project.look_at(Path(task["copy"]), path)


@stage("check:lint", after=["check:files"], reads=[SOUND])
def check_lint(context: StageContext) -> Checked:
    """Look for what a linter finds."""
    return check("lint", context.arguments, context[SOUND])


@stage("check:types", after=["check:files"], reads=[SOUND])
def check_types(context: StageContext) -> Checked:
    """Look for what is not annotated, or have mypy look."""
    return check("types", context.arguments, context[SOUND])


@stage("check:tests")
def check_tests(context: StageContext) -> Checked:
    """Run some of the tests."""
    return check("tests", context.arguments, context.arguments["paths"])


@stage("check:docs")
def check_docs(context: StageContext) -> Checked:
    """Follow links, and parse snippets."""
    return check("docs", context.arguments, context.arguments["paths"])


checks = Pipeline("checks", [check_files, check_lint, check_types, check_tests, check_docs])


def check(name: str, how: Mapping[str, Any], paths: Sequence[str]) -> Checked:
    """Make one of the checks, all at once: what its stage does, and what is done again after mending."""
    time.sleep(how["pace"])
    copy = Path(how["copy"])
    match name:
        case "files":
            return {"means": "", "findings": [finding for path in paths for finding in project.look_at(copy, path)]}
        case "lint":
            return project.lint(copy, paths, how["linter"])
        case "types":
            return project.types(copy, paths, mypy=how["mypy"])
        case "tests":
            return project.tests(copy, paths, how["tests"])
    return project.docs(copy, paths)


# PRODUCE: a loop stage that mends, and children that check once more

MENDING: Final = {
    "stages": {
        "mend": {
            "loop_config": {
                "type": "dynamic",
                "iteration_data_key": "files",
                "batch_size": 1,
                "iteration_decision": "how",
            },
            "substages": {"write": {"sequence": 1}, "prove": {"sequence": 2}, "decide": {"sequence": 3}},
            "decisions": {"how": {"batch_size": 1}, "outcome": {"kept": [], "taken back": []}},
        }
    }
}


@checker.produce
def mend(loop: Loop) -> None:
    """Mend file by file in the copy what can be mended; then have made once more each check that this concerns."""
    checked = loop.answers[-1]
    mends: dict[str, list[str]] = {}
    for finding in (finding for one in checked.values() for finding in one["findings"] if finding["mend"]):
        mends.setdefault(finding["path"], []).append(finding["mend"])
    outcome = mend_in_loop(loop, dict(sorted(mends.items()))) if mends else {"kept": [], "taken back": []}
    loop.produce("mended", outcome)
    for name in CHECKS if outcome["kept"] else ():
        paths = list(loop.artifact("files")) if name == "tests" else outcome["kept"]
        before = sum(finding["path"] in paths for finding in checked[name]["findings"])
        if before or (name == "tests" and not checked[name].get("not_made")):
            inputs = {**loop.inputs, "copy": str(copy_of(loop)), "check": name, "paths": paths, "before": before}
            inputs["turn"] = loop.turn
            loop.spawn(f"Check {name} once more", agent=rechecker, inputs=inputs, key=f"{name} {loop.turn}")


def mend_in_loop(loop: Loop, mends: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Go through the files in a loop stage; which were kept as mended, and which were taken back."""
    copy, source = copy_of(loop), Path(loop.inputs["project"])

    def work(at: Work) -> dict[str, Any]:
        time.sleep(loop.inputs["pace"])
        match at.substage:
            case "write":  # from the project's own file, so that doing it again gives the same
                for path in at.data:
                    text = project.mended(copy, path, project.read(source, path), mends[path])
                    project.write_whole(copy / path, text)
            case "prove":
                proven = [path for path in at.data if project.is_proven(copy, path, project.read(source, path))]
                at.carry = {"kept": proven, "taken back": [path for path in at.data if path not in proven]}
                return {"kept": len(proven)}
            case "decide":
                for path in at.carry["taken back"]:
                    project.write_whole(copy / path, project.read(source, path))
                decide(at)
        return {}

    handler = StageHandler(MENDING, store=loop.journal)
    handler.initialize_process("mending", parent=loop.id)
    handler.run_stage("mend", work, initial_data={"files": list(mends)})
    decided = [one.decided for one in handler.decision_history("mend", "outcome") if one.decided]
    return {what: [path for one in decided for path in one[what]] for what in ("kept", "taken back")}


def decide(at: Work) -> None:
    """Decide what becomes of an iteration's files, and how the loop goes on; after a crash, what is not decided yet."""
    handler, number = at.handler, at.iteration["current"] if at.iteration else 0
    made = handler.decision_history("mend")
    if not any(one.iteration == number and one.name == "outcome" for one in made):
        proven = "not all of it is proven" if at.carry["taken back"] else "proven to mean the same as before"
        handler.make_decision("mend", "outcome", at.carry, reason=proven, inherit=False)
    outcomes = [one.decided for one in handler.decision_history("mend", "outcome") if one.decided]
    if number == 2 and not any(one["taken back"] for one in outcomes) and not any(one.name == "how" for one in made):
        why = "nothing had to be taken back, so four files at a time from here on"
        handler.make_decision("mend", "how", {"batch_size": 4}, reason=why)
    if len(outcomes) > 1 and not any(one["kept"] for one in outcomes[-2:]):
        why = "nothing could be kept twice in a row; the rest is left to people"
        handler.make_decision("mend", "outcome", action="break", reason=why)


@rechecker.answer
def look_again(loop: Loop) -> None:
    """Make the check again, of what was mended; the tests as they were run before."""
    loop.answer(check(loop.inputs["check"], loop.inputs, loop.inputs["paths"])["findings"])


@rechecker.verify
def is_no_worse(loop: Loop) -> Verdict:
    """Mending may leave findings, but must not add any."""
    before, left = loop.inputs["before"], loop.answers[-1]
    if len(left) > before:
        return Verdict.impossible(f"mending made it worse: {before} findings before, {len(left)} after")
    result = {name: loop.inputs[name] for name in ("check", "turn", "paths")} | {"left": left}
    return Verdict.passed(result, evidence=f"{before} → {counted(len(left), 'finding')}")


# VERIFY: is it still that project, and what does a person say?


@checker.verify
def judge(loop: Loop) -> Verdict:
    """Pass with the answer, yes or no, and what it rests on; or go round when the project has changed meanwhile."""
    if not is_still_the_same(loop):
        return Verdict.revise("The project has changed since it was copied.")
    left = what_is_left(loop)
    report = Path(loop.inputs["workspace"]) / "report.md"
    project.write_whole(report, make_report(loop, left))
    blocking = [finding for finding in left if finding["blocks"]]
    evidence = {"files": loop.artifact("files"), "findings": left}
    not_made = {name: one["means"] for name, one in loop.answers[-1].items() if one.get("not_made")}
    value = {"report": str(report), "left": len(left), "blocking": len(blocking), "ready": False, "not_made": not_made}
    if blocking or loop.child_failures:
        return Verdict.passed(value, evidence)
    without = f", {without_what(not_made)}" if not_made else ""
    question = (
        f"{counted(len(left), 'finding')} left, none in the way{without}. Release {loop.inputs['name']}? (yes or no)"
    )
    value["ready"] = str(loop.ask_human(question, key=f"release {loop.turn}")).strip().lower() in ("y", "yes")
    if value["ready"] and loop.inputs["write"]:
        for path in loop.artifact("mended")["kept"]:
            project.write_whole(Path(loop.inputs["project"]) / path, project.read(copy_of(loop), path))
    return Verdict.passed(value, evidence)


def without_what(not_made: Mapping[str, str]) -> str:
    """That something is said though checks were not made, and why these were not."""
    return f"without {', '.join(f'{name} ({why})' for name, why in not_made.items())}"


def is_still_the_same(loop: Loop) -> bool:
    """Whether the project is as it was copied; a file that was written back already, before a crash, is."""
    source, copied = Path(loop.inputs["project"]), loop.artifact("files")
    kept = set(loop.artifact("mended")["kept"]) if loop.inputs["write"] else set()

    def is_same(path: str) -> bool:
        now = project.digest_of(source / path)
        return now == copied[path] or (path in kept and now == project.digest_of(copy_of(loop) / path))

    return set(project.files_of(source)) == set(copied) and all(map(is_same, copied))


def what_is_left(loop: Loop) -> list[Finding]:
    """The findings in files that were looked at once more, and in the others those of the first look."""
    again = {one["check"]: one for one in loop.child_results.values() if one["turn"] == loop.turn}
    left: list[Finding] = []
    for name, one in loop.answers[-1].items():
        seen_again = again.get(name, {"paths": [], "left": []})
        left += [finding for finding in one["findings"] if finding["path"] not in seen_again["paths"]]
        left += seen_again["left"]
    return left


def make_report(loop: Loop, left: Sequence[Finding]) -> str:
    """The report: what was looked at, mended and left; the same however often it was killed on the way."""
    mended = loop.artifact("mended")
    lines = [f"# {loop.goal}", "", "| check | by | found | left |", "|---|---|---|---|"]
    for name, one in loop.answers[-1].items():
        still = sum(finding["check"] == name for finding in left)
        counts = ("–", "–") if one.get("not_made") else (len(one["findings"]), still)
        lines.append(f"| {name} | {one['means']} | {counts[0]} | {counts[1]} |")
    for what, paths in mended.items():
        name = {"kept": "Mended", "taken back": "Not mended, as it would mean another thing"}[what]
        lines += ["", f"{name}: {', '.join(f'`{path}`' for path in paths)}."] if paths else []
    if left:
        lines += ["", "## What is left", ""]
    for finding in sorted(left, key=lambda one: (not one["blocks"], one["check"], one["path"], one["line"])):
        place = f"{finding['path']}:{finding['line']}" if finding["line"] else finding["path"]
        told = f"`{place}` {finding['told']}" if place else finding["told"]
        lines.append(f"- **blocks** {told}" if finding["blocks"] else f"- {told}")
    lines += ["", *(f"- {why}" for why in loop.child_failures.values())] if loop.child_failures else []
    return "\n".join([*lines, ""])


# The command


def carry_out(journal: Journal, given: argparse.Namespace, screen: Screen) -> Result:
    """Begin a check, or go on with the one that the store has; what has ended is only looked at."""
    goal, roots = GOAL.format(given.project.name), journal.store.roots()
    agents = [checker, rechecker]
    if not roots or (given.again and roots[0].ended_at is not None):
        inputs = {name: getattr(given, name) for name in ("linter", "mypy", "tests", "mib", "pace", "write")}
        inputs |= {"project": str(given.project), "workspace": str(given.workspace), "name": given.project.name}
        return run(checker, goal, store=journal, inputs=inputs, lease_seconds=LEASE_SECONDS)
    while True:
        try:
            return resume(journal, roots[0].id, agents=agents, lease_seconds=LEASE_SECONDS)
        except LeaseHeld as held:
            screen.wait_for(held)
            time.sleep(LEASE_SECONDS / 5)


def answered(journal: Journal, result: Result, answer: str) -> None:
    """Give the answer of the command line to the question that the root waits with."""
    asked = journal.run(result.run_id).noted("asked")[-1]
    provide(journal, result.run_id, asked["key"], answer)


def draw(journal: Journal, run_id: str, target: Path) -> str:
    """Draw the whole tree over time; where the drawing is, or why there is none."""
    try:
        target.write_text(gantt(journal.run(run_id), levels=4, most=8), encoding="utf-8")
    except MissingExtra as missing:
        return str(missing)
    return str(target)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a project; 0 when it is ready or a person is waited for, 1 when it is not, 130 when it was interrupted."""
    given = parsed(arguments)
    warnings.simplefilter("ignore", SyntaxWarning)  # of the files that are looked at
    given.workspace.mkdir(parents=True, exist_ok=True)
    place = given.workspace / "release.db"
    try:
        with closing(open_store(place)) as store:
            journal = Journal(store, clock=time, max_depth=10)
            screen = Screen(journal)
            result = carry_out(journal, given, screen)
            if result.status is Status.BLOCKED and given.approve:
                answered(journal, result, given.approve)
                result = carry_out(journal, given, screen)
            return tell(journal, result, screen, place)
    except (CorticalError, OSError) as error:
        print(f"{error}\nWhat was done is kept; the same command goes on.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on.", file=sys.stderr)
        return 130


def tell(journal: Journal, result: Result, screen: Screen, place: Path) -> int:
    """Say how it stands; returns the exit code."""
    screen.tree(result.run_id)
    screen.say(f"report   {place.parent / 'report.md'}")
    screen.say(f"drawing  {draw(journal, result.run_id, place.parent / 'release.svg')}")
    screen.say(f"tree     cortical tree {result.run_id[:8]} --store {shlex.quote(str(place))}")
    if result.status is Status.BLOCKED:
        screen.say(f"\n? {re.sub('^[0-9a-f]+: ', '', result.why)}")
        screen.say(f"  cortical answer {result.run_id[:8]} yes --store {shlex.quote(str(place))}")
        screen.say("  then the same command again")
        return 0
    if result.status is not Status.COMPLETED:
        screen.say(f"\n✗ not answered: {result.status.value}, {result.why}")
        return 1
    value = result.value
    told = "ready" if value["ready"] else "not ready"
    why = f"{counted(value['left'], 'finding')} left, {value['blocking']} in the way"
    why += f", {without_what(value['not_made'])}" if value["not_made"] else ""
    screen.say(f"\n{'✓' if value['ready'] else '✗'} {told}: {why}")
    return 0 if value["ready"] else 1


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("project", type=Path, nargs="?", default=here, help="a folder with Python files (this project)")
    parser.add_argument("--workspace", type=Path, help="where copy, store, report and drawing are kept")
    parser.add_argument("--approve", choices=("yes", "no"), help="the answer, where no person is to be asked")
    parser.add_argument("--write", action="store_true", help="after a yes, write what was mended into the project")
    parser.add_argument("--again", action="store_true", help="check once more what has been checked to its end")
    parser.add_argument("--linter", choices=("auto", "ruff", "rules"), default="auto", help="ruff, or rules of its own")
    parser.add_argument("--mypy", action="store_true", help="have mypy check all types, which may take minutes")
    parser.add_argument(
        "--tests", type=int, default=3, help="how many files of tests are run, the smallest (%(default)s)"
    )
    parser.add_argument("--mib", type=float, default=2048, help="how much memory checking may use (%(default)s)")
    parser.add_argument("--pace", type=float, default=0.0, help="how many seconds each piece of work takes longer")
    given = parser.parse_args(arguments)
    if not given.project.is_dir():
        parser.error(f"there is no folder {str(given.project)!r}")
    given.project = given.project.resolve()
    given.workspace = given.workspace or Path(tempfile.gettempdir()) / f"release-check-{given.project.name}"
    if given.workspace.resolve().is_relative_to(given.project):
        parser.error(f"the workspace {str(given.workspace)!r} is a part of the project; give a folder outside of it")
    return given


if __name__ == "__main__":
    sys.exit(main())
