"""Make a folder's failing tests pass, by trying small edits until one helps.

::

    python examples/repair.py examples/data/broken_package

One loop runs the tests and starts another for each that fails. Such a loop goes round, one edit in each turn: QUESTION
finds the candidates, ANSWER chooses the next, PRODUCE writes it, and VERIFY is the test itself. When all have ended,
the first loop's own VERIFY runs every test again. At the end stands a unified diff.

The rules know three mistakes: a number or bound that is off by one, a wrong operator, a missing return. The syntax tree
says where they may be, and the text is changed there and nowhere else. All of it happens in a copy of the folder,
unless ``--in-place`` is given. The tests are run, so try this only on code that you would run anyway.

An edit is one change of one place: a function with two mistakes that show only together stays as it is. The file is
somewhat longer than others, so that it can be copied and run whole.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from cortical import Agent, Loop, Verdict, run
from cortical.agents.verifiers import command
from cortical.core.errors import CorticalError
from cortical.core.status import Status

PYTEST: Final = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
#: Compiled files would hide an edit made within the same second as the one before.
ENVIRONMENT: Final = {"PYTHONDONTWRITEBYTECODE": "1"}
SECONDS_FOR_A_TEST: Final = 30.0

COMPARISONS: Final[dict[type[ast.AST], tuple[str, tuple[str, ...]]]] = {
    ast.Lt: ("<", ("<=", ">")),
    ast.LtE: ("<=", ("<", ">=")),
    ast.Gt: (">", (">=", "<")),
    ast.GtE: (">=", (">", "<=")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
}
OPERATORS: Final[dict[type[ast.AST], tuple[str, tuple[str, ...]]]] = {
    **COMPARISONS,
    ast.And: ("and", ("or",)),
    ast.Or: ("or", ("and",)),
    ast.Add: ("+", ("-",)),
    ast.Sub: ("-", ("+",)),
    ast.Mult: ("*", ("//",)),
    ast.FloorDiv: ("//", ("*", "%", "/")),
    ast.Div: ("/", ("//", "*")),
    ast.Mod: ("%", ("//",)),
}


class Edit(NamedTuple):
    """A change of one place of one file: the bytes from `start` to `end` become `text`."""

    rule: str
    function: str
    path: str
    line: int
    start: int
    end: int
    was: str
    text: str

    def __str__(self) -> str:
        was, text = " ".join(self.was.split()), " ".join(self.text.split())
        change = f"{was!r} becomes {text!r}" if was and text else f"add {text!r}" if text else f"leave out {was!r}"
        return f"{self.path}:{self.line} {self.rule}: {change}"


# The loops

repairer = Agent("repairer", on_child_failure="carry on", max_turns=2)
fixer = Agent("fixer")


@repairer.question
def ask(loop: Loop) -> None:
    """Keep the folder as it was, and ask what fails."""
    if loop.turn == 1:
        loop.produce("before", read_sources(Path(loop.inputs["folder"])))
    loop.ask(f"Which tests of {loop.goal} fail?")


@repairer.answer
def fix_each(loop: Loop) -> None:
    """Start a loop for each failing test. They share the folder, so they run one after another."""
    failing = loop.step("run the tests", failing_tests, Path(loop.inputs["folder"]))
    loop.answer(failing)
    print(f"{len(failing)} tests fail", flush=True)
    for test in failing:
        loop.spawn(f"Make {test} pass", agent=fixer, inputs={"folder": loop.inputs["folder"], "test": test})


@repairer.produce
def show(loop: Loop) -> None:
    """Make the diff."""
    loop.produce("repair.diff", diff(loop.artifact("before"), read_sources(Path(loop.inputs["folder"]))))


repairer.verify(command(PYTEST, cwd=lambda loop: loop.inputs["folder"], timeout=600, env=ENVIRONMENT))


@fixer.question
def find_edits(loop: Loop) -> None:
    """Keep the files as they are, and all edits that could help, the likeliest first."""
    if loop.turn == 1:
        sources = read_sources(Path(loop.inputs["folder"]))
        loop.produce("before", sources)
        # An earlier repair may have been enough, so nothing at all is tried first.
        loop.produce("candidates", [None, *map(list, likeliest_first(sources, loop.inputs["test"]))])
    loop.ask(f"Does edit {loop.turn - 1} of {len(loop.artifact('candidates')) - 1} help?")


@fixer.answer
def choose(loop: Loop) -> None:
    """Choose the next edit."""
    edit = chosen(loop)
    loop.answer(str(edit) if edit else "leave the files as they are")


@fixer.produce
def write(loop: Loop) -> None:
    """Write the files as they were, with this turn's edit. Doing it again changes nothing."""
    edit = chosen(loop)
    for name, text in loop.artifact("before").items():
        path = Path(loop.inputs["folder"]) / name
        wanted = edited(text, edit if edit and edit.path == name else None)
        if path.read_bytes() != wanted:
            path.write_bytes(wanted)


run_test = command(
    [*PYTEST, "--tb=no", lambda loop: loop.inputs["test"]],
    cwd=lambda loop: loop.inputs["folder"],
    timeout=SECONDS_FOR_A_TEST,
    env=ENVIRONMENT,
    most_output=500,
)


@fixer.verify
def check(loop: Loop) -> Verdict:
    """Run the test. An edit that makes it run for ever is as bad as any other that does not help."""
    if loop.turn > len(loop.artifact("candidates")):
        print(f"  {loop.inputs['test']}: no edit helps", flush=True)
        return Verdict.impossible(f"none of {loop.turn - 2} edits makes {loop.inputs['test']} pass")
    verdict = run_test(loop)
    tried = loop.answers[-1]
    print(f"  {loop.inputs['test']}: {tried} – {'passes' if verdict.kind == 'passed' else 'no'}", flush=True)
    return Verdict.passed(tried, verdict.evidence) if verdict.kind == "passed" else Verdict.revise(verdict.text)


def chosen(loop: Loop) -> Edit | None:
    """The edit of this turn; None for leaving everything as it was."""
    recorded = [*loop.artifact("candidates"), None][loop.turn - 1]
    return Edit(*recorded) if recorded else None


# The folder


def read_sources(folder: Path) -> dict[str, str]:
    """The Python files that may be edited, by path: all but the tests."""
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*.py")))
    return {path.as_posix(): (folder / path).read_bytes().decode() for path in paths if not is_test(path)}


def is_test(path: Path) -> bool:
    """Whether it is a file of tests, or for them, or hidden."""
    hidden = any(part.startswith(".") or part == "tests" for part in path.parts)
    return hidden or path.name.startswith("test_") or path.name.endswith("_test.py") or path.name == "conftest.py"


def failing_tests(folder: Path) -> list[str]:
    """The names of the failing tests, as pytest writes them.

    Raises:
        RuntimeError: the tests could not be run; the text is pytest's.
    """
    line = [*PYTEST, "--tb=no", "-rfE"]
    done = subprocess.run(
        line, cwd=folder, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False
    )
    if done.returncode > 1:
        raise RuntimeError(f"the tests of {folder} cannot be run: {done.stdout[-2000:]}{done.stderr[-500:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return [line.partition(" ")[2].partition(" - ")[0] for line in lines]


def edited(text: str, edit: Edit | None) -> bytes:
    """A file's text with an edit."""
    source = text.encode()
    return source if edit is None else source[: edit.start] + edit.text.encode() + source[edit.end :]


def diff(before: dict[str, str], after: dict[str, str]) -> str:
    """What has changed, as a unified diff."""
    lines: list[str] = []
    for path, text in before.items():
        old, new = text.splitlines(keepends=True), after.get(path, "").splitlines(keepends=True)
        lines += difflib.unified_diff(old, new, f"a/{path}", f"b/{path}")
    return "".join(lines)


# The rules


def likeliest_first(sources: dict[str, str], test: str) -> list[Edit]:
    """All candidate edits: first those in functions that share words with the test's name, then in the rules' order."""
    named = test.partition("::")[2].partition("[")[0]
    edits = [edit for path, text in sources.items() for edit in candidates(path, text)]
    edits.sort(key=lambda edit: (-likeness(edit.function, named), RULES.index(edit.rule)))
    places = {(edit.path, edit.start, edit.end, edit.text): edit for edit in reversed(edits)}  # a nested one has two
    return list(reversed(places.values()))


def likeness(function: str, test: str) -> int:
    """How many words the names of a function and of a test share, whole or in part."""
    words = [word for word in test.lower().replace("::", "_").split("_") if word not in ("test", "")]
    return sum(word in function.lower() for word in words)


RULES: Final = ("missing return", "off by one", "wrong operator", "wrong number")


def candidates(path: str, text: str) -> Iterator[Edit]:
    """The edits of one file that the rules know."""
    file = Source(path, text)
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from file.returns(function)
            for node in ast.walk(function):
                yield from file.bounds(function.name, node)
                yield from file.operators(function.name, node)


class Source:
    """A file and the edits of it. Places in a syntax tree are line and byte; here they become bytes of the file."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.bytes = text.encode()
        self.starts = [0]
        for line in self.bytes.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def returns(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Edit]:
        """A return of the last expression, or of a name that was given a value, where the function ends without one."""
        last = function.body[-1]
        is_generator = any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(function))
        if isinstance(last, ast.Return | ast.Raise) or is_generator:
            return
        if isinstance(last, ast.Expr):
            yield self._edit("missing return", function.name, last, (self._start(last),) * 2, "return ")
        names = [node.id for node in ast.walk(function) if isinstance(node, ast.Name) and is_stored(node)]
        for name in dict.fromkeys(names):
            text = f"\n{' ' * last.col_offset}return {name}"
            yield self._edit("missing return", function.name, last, (self._end(last),) * 2, text)

    def bounds(self, function: str, node: ast.AST) -> Iterator[Edit]:
        """One more or one less for a number, for the end of a range or slice; or without the one that stands there."""
        if isinstance(node, ast.Constant) and type(node.value) is int:
            for value in (node.value - 1, node.value + 1):
                if value >= 0:
                    yield self._edit("wrong number", function, node, (self._start(node), self._end(node)), str(value))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub) and is_one(node.right):
            yield self._edit("off by one", function, node, (self._end(node.left), self._end(node)), "")
        for bound in bounds_of(node):
            for more in (" - 1", " + 1"):
                yield self._edit("off by one", function, bound, (self._end(bound),) * 2, more)

    def operators(self, function: str, node: ast.AST) -> Iterator[Edit]:
        """Another operator between two expressions."""
        for left, operator, right in operations_of(node):
            sign, others = OPERATORS.get(type(operator), ("", ()))
            at = self.bytes.find(sign.encode(), self._end(left), self._start(right)) if sign else -1
            for other in others if at >= 0 else ():
                yield self._edit("wrong operator", function, right, (at, at + len(sign)), other)

    def _edit(self, rule: str, function: str, node: ast.expr | ast.stmt, place: tuple[int, int], text: str) -> Edit:
        was = self.bytes[slice(*place)].decode()
        return Edit(rule, function, self.path, node.lineno, *place, was, text)

    def _start(self, node: ast.expr | ast.stmt) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.starts[node.end_lineno - 1] + node.end_col_offset


def is_stored(node: ast.Name) -> bool:
    """Whether the name is given a value here."""
    return isinstance(node.ctx, ast.Store)


def is_one(node: ast.expr) -> bool:
    """Whether it is the number 1."""
    return isinstance(node, ast.Constant) and node.value == 1


def bounds_of(node: ast.AST) -> list[ast.expr]:
    """The arguments of a range and the ends of a slice, those that are no numbers themselves."""
    found: Sequence[ast.expr | None] = ()
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        found = node.args
    elif isinstance(node, ast.Slice):
        found = (node.lower, node.upper)
    return [bound for bound in found if isinstance(bound, ast.Name | ast.Attribute | ast.Call)]


def operations_of(node: ast.AST) -> list[tuple[ast.expr, Any, ast.expr]]:
    """The operators of an expression, each between what stands left and right of it."""
    match node:
        case ast.Compare(left=left, ops=operators, comparators=rights):
            return list(zip([left, *rights], operators, rights, strict=False))
        case ast.BoolOp(op=operator, values=values):
            return [(left, operator, right) for left, right in pairwise(values)]
        case ast.BinOp(left=left, op=operator, right=right):
            return [(left, operator, right)]
    return []


# The command


def main(arguments: Sequence[str] | None = None) -> int:
    """Repair a folder; returns 0 when all its tests pass, 1 when some do not."""
    parser = argparse.ArgumentParser(description="Make a folder's failing tests pass by trying small edits.")
    parser.add_argument("folder", type=Path, help="a folder with Python files and tests that pytest runs")
    parser.add_argument("--in-place", action="store_true", help="edit the folder itself, not a copy of it")
    parser.add_argument("--store", help="a file that keeps the loops, to be looked at (default: none)")
    given = parser.parse_args(arguments)
    if not given.folder.is_dir():
        parser.error(f"there is no folder {str(given.folder)!r}")
    with tempfile.TemporaryDirectory(prefix="repair-") as scratch:
        folder = given.folder.resolve()
        if not given.in_place:
            folder = Path(scratch) / folder.name
            shutil.copytree(given.folder, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        try:
            result = run(repairer, given.folder.resolve().name, store=given.store, inputs={"folder": str(folder)})
        except (CorticalError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
    print(result.artifacts.get("repair.diff", ""), end="")
    if result.status is Status.COMPLETED:
        print("All tests pass." if given.in_place else "All tests pass in a copy; the folder is as it was.")
        return 0
    print(f"Not repaired: {result.why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
