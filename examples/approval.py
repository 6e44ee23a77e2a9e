"""A loop that waits for a person, and carries on in another process, today or next month.

::

    python examples/approval.py start ~/Downloads --store s.db     # drafts a plan, asks, and ends
    python examples/approval.py approve --store s.db               # or: reject "not the photos"
    python examples/approval.py carry-on --store s.db              # writes the plan

The plan says which files of a folder are copies of others, and could go. Nothing is deleted: what is written is a text.
Since the answer may come late, VERIFY looks at the folder once more; when the copies are no longer those that the
person saw, the loop goes round, drafts another plan, and asks again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

from cortical import Agent, Loop, Verdict, open_store, provide, resume, run
from cortical.agents import Result
from cortical.core.errors import CorticalError
from cortical.core.status import Status
from cortical.core.tree import Tree

GOAL: Final = "Plan the clean-up of {}"

#: Files with the same content, by path below the folder: the first stays, the others could go.
Copies: TypeAlias = list[list[str]]

# The loop

planner = Agent("clean-up-planner", max_turns=5)


@planner.question
def ask(loop: Loop) -> None:
    """Ask what is there twice."""
    loop.ask(f"Which files of {loop.inputs['folder']} are copies of others? {loop.feedback}".strip())


@planner.answer
def look(loop: Loop) -> None:
    """Find the copies. They are kept: a process that carries on goes by what the person was shown."""
    loop.answer(loop.step("find copies", find_copies, Path(loop.inputs["folder"])))


@planner.produce
def draft(loop: Loop) -> None:
    """Draft the plan, ask a person, and write it when the answer is yes. Until then the process may end."""
    plan = make_plan(Path(loop.inputs["folder"]), loop.answers[-1])
    loop.produce("plan", plan)
    if answer_to(loop) == "approve":
        write_whole(Path(loop.inputs["plan"]), plan)


@planner.verify
def check(loop: Loop) -> Verdict:
    """A rejected plan ends the loop; an approved one must still be true, and be written as it was shown."""
    answer, copies = answer_to(loop), loop.answers[-1]
    if answer != "approve":
        return Verdict.impossible(f"a person rejected the plan: {answer}")
    if find_copies(Path(loop.inputs["folder"])) != copies:
        return Verdict.revise("The folder has changed since the plan was approved.")
    if Path(loop.inputs["plan"]).read_text(encoding="utf-8") != loop.artifact("plan"):
        return Verdict.revise("The plan that is written is not the one that was approved.")
    superfluous = sum(len(same) - 1 for same in copies)
    return Verdict.passed({"plan": loop.inputs["plan"], "superfluous": superfluous}, evidence=copies)


def answer_to(loop: Loop) -> str:
    """What a person says to this turn's plan; the loop waits here until there is an answer."""
    superfluous = sum(len(same) - 1 for same in loop.answers[-1])
    question = f"{superfluous} files of {loop.inputs['folder']} are copies of others. May the plan be written?"
    return str(loop.ask_human(question, key=f"plan {loop.turn}"))


# The folder


def find_copies(folder: Path) -> Copies:
    """The files of a folder that have the same content as others, in groups; empty files are no copies."""
    by_size: dict[int, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            by_size.setdefault(path.stat().st_size, []).append(path)
    by_content: dict[str, list[str]] = {}
    for size, paths in by_size.items():
        for path in paths if size and len(paths) > 1 else ():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            by_content.setdefault(digest, []).append(path.relative_to(folder).as_posix())
    return sorted(group for group in by_content.values() if len(group) > 1)


def make_plan(folder: Path, copies: Copies) -> str:
    """The plan as a text."""
    lines = [f"# Clean-up of {folder.name}", ""]
    for stays, *others in copies:
        lines += [f"- keep `{stays}`", *(f"  - remove `{other}`, which is the same" for other in others)]
    return "\n".join([*lines, "" if copies else "Nothing is there twice.\n"])


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is never seen half written."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


# The command


def open_loop(store: str) -> str:
    """The id of the clean-up in the store that has not ended.

    Raises:
        LookupError: there is none, or more than one.
    """
    opened = open_store(store, create=False)
    try:
        found = [root.id for root in opened.roots(open_only=True) if root.goal.startswith(GOAL.format(""))]
    finally:
        opened.close()
    if len(found) != 1:
        raise LookupError(f"{store} has {len(found)} clean-ups that have not ended; this command is for one")
    return found[0]


def give(store: str, answer: str) -> None:
    """Answer the question that the clean-up in the store waits with."""
    loop_id = open_loop(store)
    opened = open_store(store)
    try:
        asked = Tree.of(opened.read(loop_id)).root.noted("asked")
    finally:
        opened.close()
    if not asked:
        raise LookupError(f"clean-up {loop_id} has asked nothing yet; run carry-on first")
    provide(store, loop_id, asked[-1]["key"], answer)
    print(f"Answered: {asked[-1]['question']} {answer}\nGo on with: carry-on --store {store}")


def tell(result: Result, store: str) -> int:
    """Say how the clean-up stands; returns the exit code."""
    match result.status:
        case Status.COMPLETED:
            print(f"Written: {result.value['plan']} ({result.value['superfluous']} files could go; none was deleted)")
            return 0
        case Status.BLOCKED:
            print(f"{result.artifacts['plan']}\n{result.why}\nAnswer with: approve --store {store}, or reject WHY")
            return 0
    print(f"The clean-up is {result.status.value}: {result.why}", file=sys.stderr)
    return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command says; returns 0 when the loop waits or has succeeded, 1 when it has not."""
    given = parsed(arguments)
    try:
        match given.command:
            case "start":
                folder, plan = given.folder.resolve(strict=True), given.plan.resolve()
                inputs = {"folder": str(folder), "plan": str(plan)}
                return tell(run(planner, GOAL.format(folder), store=given.store, inputs=inputs), given.store)
            case "approve":
                give(given.store, "approve")
            case "reject":
                give(given.store, f"reject: {given.why}")
            case "carry-on":
                return tell(resume(given.store, open_loop(given.store), agents=[planner]), given.store)
    except (CorticalError, OSError, LookupError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Plan a clean-up that a person has to approve. Nothing is deleted.")
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {
        "start": "draft a plan and ask",
        "approve": "say yes to the plan",
        "reject": "say no to the plan",
        "carry-on": "go on after the answer",
    }
    for name, told in helps.items():
        command = commands.add_parser(name, help=told)
        command.add_argument("--store", default="approval.db", help="the file that keeps the loop (%(default)s)")
        if name == "start":
            command.add_argument("folder", type=Path, help="where copies are looked for")
            command.add_argument(
                "--plan", type=Path, default=Path("clean-up.md"), help="the file to write (%(default)s)"
            )
        elif name == "reject":
            command.add_argument("why", nargs="?", default="no reason given", help="told in the log")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
