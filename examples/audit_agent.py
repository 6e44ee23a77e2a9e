"""The audit of `audit_package.py`, by agents that drive themselves: the same report, from a third of the code.

::

    python examples/audit_agent.py networkx --store agent.db --report networkx.md

One loop asks about the whole package and starts one for each module, four at a time. All of them go through QUESTION,
ANSWER, PRODUCE and VERIFY by themselves, and what they know is kept in the store. The program can be killed at any
moment; the same command carries on as soon as the lease of the dead process has run out, two seconds later.

How files are counted, and how the report is written, is taken from the example that does it step by step.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

if not __package__:  # run as a script: its neighbours are found from the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cortical import Agent, Loop, Verdict, open_store, resume, run
from cortical.agents import Result
from cortical.core.errors import CorticalError
from cortical.core.ports import Store
from cortical.core.status import Status
from examples.audit_package import (
    MODULE,
    MOST_TURNS,
    Audited,
    Counts,
    NotThere,
    Unreadable,
    adds_up,
    audit,
    find_modules,
    list_definitions,
    make_report,
    read_source,
    reading,
    recount,
    total,
    version_of,
    write_whole,
)

GOAL: Final = "Audit the public names of {}"
LEASE_SECONDS: Final = 2.0

# The loops

package_auditor = Agent("package-auditor", concurrency=4, on_child_failure="carry on", max_turns=MOST_TURNS)
module_auditor = Agent("module-auditor", max_turns=MOST_TURNS)


@package_auditor.question
def ask(loop: Loop) -> None:
    """Ask about all modules, and in later turns about those whose counts differed."""
    loop.ask(f"What do the modules lack? {loop.feedback}".strip())


@package_auditor.answer
def audit_modules(loop: Loop) -> None:
    """Start a loop for each module."""
    for module, path in loop.step("list modules", list_modules, loop).items():
        loop.spawn(MODULE.format(module), agent=module_auditor, inputs={"module": module, "path": path})


@package_auditor.produce
def write_report(loop: Loop) -> None:
    """Write the report from what the modules' loops brought back."""
    audited, unread = results(loop)
    text = make_report(loop.inputs["title"], audited, unread)
    write_whole(Path(loop.inputs["report"]), text)
    loop.produce("report.md", text)


@package_auditor.verify
def recount_all(loop: Loop) -> Verdict:
    """Count every module again by its tokens, and compare with the results and with the report."""
    audited, unread = results(loop)
    recorded = {**{module: result.counts for module, result in audited.items()}, **dict.fromkeys(unread)}
    counted = {module: count_again(path) for module, path in find_modules(loop.inputs["package"]).items()}
    differing = sorted(name for name in counted.keys() | recorded if counted.get(name) != recorded.get(name, ()))
    loop.produce("differing", differing)
    sums = total(counts for counts in counted.values() if counts is not None)
    if differing:
        return Verdict.revise(f"counts differ in {', '.join(differing[:3])} ({len(differing)} in all)")
    if not adds_up(Path(loop.inputs["report"]), sums):
        return Verdict.revise("the report does not add up")
    result = {"report": loop.inputs["report"], "modules": len(audited), "unread": len(unread), "counts": list(sums)}
    return Verdict.passed(result, evidence=f"{len(counted)} modules counted again by their tokens")


@module_auditor.answer
def look(loop: Loop) -> None:
    """Find what the definitions of a module lack, or why it cannot be read."""
    answer: dict[str, Any] = {"module": loop.inputs["module"]}
    try:
        with reading_alone():
            counts, findings = audit(source_of(loop))
        answer |= {"counts": list(counts), "findings": findings}
    except Unreadable as error:
        answer |= {"unread": str(error)}
    loop.answer(answer)


@module_auditor.verify
def compare(loop: Loop) -> Verdict:
    """Compare with what the symbol table has."""
    answer = loop.answers[-1]
    try:
        with reading_alone():
            there = len(list_definitions(source_of(loop)))
    except Unreadable as error:
        again = answer.get("unread") != str(error)
        return Verdict.revise(str(error)) if again else Verdict.passed(answer, evidence=str(error))
    if "unread" in answer or there != answer["counts"][0]:
        return Verdict.revise(f"the symbol table has {there} definitions")
    return Verdict.passed(answer, evidence=f"the symbol table has the same {there} definitions")


# What they use


def list_modules(loop: Loop) -> dict[str, str]:
    """The modules that this turn is about, and their paths; an empty one for a module that is gone."""
    paths = find_modules(loop.inputs["package"])
    return {module: str(paths.get(module, "")) for module in (paths if loop.turn == 1 else loop.artifact("differing"))}


def results(loop: Loop) -> tuple[dict[str, Audited], dict[str, str]]:
    """What was found in each module that was audited, and why each other was not. A later turn's result counts."""
    latest = {result["module"]: result for result in loop.child_results.values()}
    found = [latest[module] for module in sorted(latest)]
    audited = {new["module"]: Audited(Counts(*new["counts"]), new["findings"]) for new in found if "counts" in new}
    return audited, {new["module"]: new["unread"] for new in found if "unread" in new}


def source_of(loop: Loop) -> str:
    """The text of a loop's module."""
    path = loop.inputs["path"]
    if not path or not Path(path).exists():
        raise Unreadable("the file is gone")
    return read_source(Path(path))


def count_again(path: Path) -> Counts | None:
    """The counts of a file by its tokens; None when it cannot be read."""
    try:
        with reading_alone():
            source = read_source(path)
            list_definitions(source)  # tokens alone can be had from much that is not Python
            return recount(source)
    except Unreadable:
        return None


@contextmanager
def reading_alone() -> Iterator[None]:
    """`reading`, by one thread at a time: which warnings are shown is one setting for the whole process."""
    with _ONE_READER, reading():
        yield


_ONE_READER: Final = threading.Lock()

# The command


def carry_out(store: Store, package: str, report: Path, *, workers: int = 4) -> Result:
    """Take up the audit of a package that is open in the store, or begin one."""
    goal = GOAL.format(package)
    unfinished = [root.id for root in store.roots(open_only=True) if root.goal == goal]
    if unfinished:
        agents = [package_auditor, module_auditor]
        return resume(store, unfinished[0], agents=agents, workers=workers, lease_seconds=LEASE_SECONDS)
    title = f"{package} {version_of(package)}".strip()
    inputs = {"package": package, "title": title, "report": os.path.abspath(report)}
    return run(package_auditor, goal, store=store, inputs=inputs, workers=workers, lease_seconds=LEASE_SECONDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the audit; returns 0 when it was verified, 1 when it was not, 130 when it was interrupted."""
    parser = argparse.ArgumentParser(description="Audit the public names of a package, by agents.")
    parser.add_argument("package", help="the top-level name of an installed package")
    parser.add_argument("--store", default="audit-agent.db", help="the file that keeps the loops (%(default)s)")
    parser.add_argument("--report", type=Path, help="the file to write (default: PACKAGE-audit.md)")
    given = parser.parse_args(arguments)
    report = given.report or Path(f"{given.package}-audit.md")
    if not report.parent.is_dir():
        parser.error(f"the folder {str(report.parent)!r} does not exist; make it first")
    try:
        find_modules(given.package)  # before there is a store
        store = open_store(given.store)
        try:
            return tell(carry_out(store, given.package, report), given.store)
        finally:
            store.close()
    except NotThere as error:
        parser.error(str(error))
    except (CorticalError, OSError) as error:
        print(f"{error}\nWhat was done is kept; the same command carries on.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the same command carries on.", file=sys.stderr)
        return 130


def tell(result: Result, store: str) -> int:
    """Say how the audit came out; returns the exit code."""
    tree = f"Tree:     cortical tree {result.run_id[:8]} --store {store}"
    if result.status is not Status.COMPLETED:
        print(f"The audit is {result.status.value}: {result.why}\n{tree}", file=sys.stderr)
        return 1
    print(f"Verified: {result.value['modules']} modules audited, {result.value['unread']} not; {result.evidence}")
    print(f"Report:   {result.value['report']}\n{tree}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
