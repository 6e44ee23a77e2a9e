"""Which public functions and classes of an installed package lack docstrings or annotations?

::

    python examples/audit_package.py networkx --store audit.db --report networkx.md

The audit is a tree of loops, shaped like the package: one for the whole, below it one for each subpackage, below
those one for each module. Every loop goes its own way through QUESTION, ANSWER, PRODUCE and VERIFY.

What the audit knows stands in the log of its loops and nowhere else. `Audit.run` asks the executor which loop is
active and does the work of the phase where that loop stands; what a phase records and the move to the next one are
one transaction. So the program can be killed at any moment, and the same command carries on: a module that has
ended is not read again, and a phase that was under way is simply done once more.

No code of the package is imported. Its files are counted in three ways: the symbol table tells what there is, the
syntax tree what is missing, and the tokens count it all again, to be compared with the report.

The file is twice as long as others, so that it can be copied and run whole. The loops come first; what they use
follows: the package, the three ways of counting, the report, the command.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import symtable
import sys
import tokenize
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from importlib.util import decode_source, find_spec
from itertools import takewhile
from keyword import iskeyword
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from cortical.core.errors import CorticalError
from cortical.core.outcome import Failed
from cortical.reasoning import CognitiveLoop, LoopPhase, LoopStatus, NestedLoopExecutor

#: The goals of the three kinds of loops. A goal names what its loop is about, so the log can be read without more.
WHOLE: Final = "Which public functions and classes of {} lack docstrings or annotations?"
PACKAGE: Final = "Audit package {}"
MODULE: Final = "Audit module {}"

#: How often a loop may go round when two counts differ, before it fails.
MOST_TURNS: Final = 3

#: Decorators whose function is documented elsewhere: at the property's getter, or at the implementation.
DOCUMENTED_ELSEWHERE: Final = frozenset({"overload", "setter", "deleter"})

Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Finding: TypeAlias = list[Any]  # line, name, what it lacks; a list, as that is what a log gives back


class Counts(NamedTuple):
    """How many public definitions there are, and how many of them lack something."""

    definitions: int
    undocumented: int
    unannotated: int


class Audited(NamedTuple):
    """What the audit of a module brought."""

    counts: Counts
    findings: list[Finding]


class NotThere(Exception):
    """No such package is installed, or it has no Python files."""


class Unreadable(Exception):
    """A module cannot be audited; the text says why, and names no path of this machine."""


class CountsDiffer(Exception):
    """Two ways of counting came to different results, however often they were repeated."""


# The loops


class Audit:
    """The audit of one package: taken up where it stands in the store, or begun.

    Args:
        executor: holds the loops.
        package: the top-level name.
        report: the file to write.
        say: is given each line of progress.
    """

    def __init__(
        self,
        executor: NestedLoopExecutor,
        package: str,
        report: Path,
        *,
        say: Callable[[str], None] = partial(print, flush=True),
    ) -> None:
        self.executor, self.package, self.report, self.say = executor, package, report, say
        self.paths = find_modules(package)
        goal = WHOLE.format(package)
        unfinished = [root.id for root in executor.store.roots(open_only=True) if root.goal == goal]
        title = f"{package} {version_of(package)}".strip()
        self.root = unfinished[0] if unfinished else executor.start_root(goal, metadata={"title": title})
        self.title = executor.get_context(self.root).metadata["title"]

    def run(self) -> LoopStatus:
        """Go on until no loop is active; returns how the root stands then."""
        audited, unread = self.results()
        done = f", {len(audited) + len(unread)} of them are done" if audited or unread else ""
        self.say(f"Auditing {self.title}: {len(self.paths)} modules{done}")
        while (loop := self.active()) is not None:
            self.work(loop)
        return self.executor.get_loop(self.root).status

    def active(self) -> CognitiveLoop | None:
        """The loop to work on: the deepest of those that are active, the first by name; None when none is."""
        loops = (loop for loop in self.executor.get_active_loops() if self._is_ours(loop))
        return min(loops, key=lambda loop: (-loop.depth, loop.goal), default=None)

    def work(self, loop: CognitiveLoop) -> None:
        """Do the work of the phase in which an active loop stands."""
        kind = WHOLE if loop.parent_id is None else MODULE if _is_module(loop) else PACKAGE
        assert loop.current_phase is not None
        try:
            _WORK[kind, loop.current_phase](self, loop)
        except Unreadable as error:
            self.executor.fail(loop.id, error)

    def results(self, above: str | None = None) -> tuple[dict[str, Audited], dict[str, str]]:
        """What was found in each module that was audited, and why each other was not; those below `above`, or all."""
        audited: dict[str, Audited] = {}
        unread: dict[str, str] = {}
        for loop in self.executor.get_subtree(above or self.root):
            if _is_module(loop) and loop.status.ended:
                name = _name(loop)  # a loop of a later turn comes later, and replaces what is known
                audited.pop(name, None)
                unread.pop(name, None)
                outcome = loop.run.outcome
                if loop.status is LoopStatus.COMPLETED:
                    audited[name] = Audited(Counts(*loop.result["counts"]), loop.result["findings"])
                else:
                    unread[name] = outcome.error.message if isinstance(outcome, Failed) else "it was broken off"
        return dict(sorted(audited.items())), dict(sorted(unread.items()))

    def _is_ours(self, loop: CognitiveLoop) -> bool:
        return self.executor.get_loop_hierarchy(loop.id)[0] == self.root

    def _go_round(self, loop: CognitiveLoop, why: str, **metadata: object) -> None:
        """From VERIFY to QUESTION again, or to the loop's end when it has gone round too often."""
        if loop.get_iteration_count(LoopPhase.VERIFY) >= MOST_TURNS:
            self.executor.fail(loop.id, CountsDiffer(f"{why}, after {MOST_TURNS} turns"))
            return
        with self.executor.transaction():
            loop.add_note(why)
            loop.current_context().record_decision("go round again", rationale=why)
            self.executor.update_metadata(loop.id, metadata)
            self.executor.advance(loop.id)

    # A package, or the whole

    def _ask(self, loop: CognitiveLoop) -> None:
        turn = loop.get_iteration_count(LoopPhase.QUESTION)
        question = "What does each part lack?" if turn == 1 else "What do the modules lack whose counts differed?"
        with self.executor.transaction():
            loop.current_context().record_question(question)
            self.executor.advance(loop.id)

    def _audit_whole(self, root: CognitiveLoop) -> None:
        if "due" not in self.executor.get_context(root.id).metadata:
            # Kept, so that whoever carries on goes by the same list.
            self.executor.update_metadata(root.id, {"due": list(self.paths)})
        self._audit_parts(root)

    def _audit_parts(self, loop: CognitiveLoop) -> None:
        """Start a loop for each part, all in one record; go on when all have ended."""
        if loop.current_context().answers:
            self.executor.advance(loop.id)
            return
        package = _name(loop) if loop.parent_id else self.package
        levels = self.executor.max_depth
        deeper = levels is None or loop.depth + 2 < levels  # there is room for a subpackage and its modules
        parts = list(dict.fromkeys(_part(package, module, deeper) for module in self._due(loop)))
        with self.executor.transaction():
            reason = "each can be audited, and fail, by itself"
            loop.current_context().record_decision(f"a loop for each of {len(parts)} parts", rationale=reason)
            self.executor.record_answer(loop.id, parts)
            if parts:
                self.executor.spawn_children(loop.id, parts)

    def _due(self, loop: CognitiveLoop) -> list[str]:
        """The modules that this turn is about, of those below the loop."""
        due: list[str] = self.executor.get_context(self.root).metadata["due"]
        return [module for module in due if loop.parent_id is None or module.startswith(f"{_name(loop)}.")]

    def _sum_up(self, loop: CognitiveLoop) -> None:
        results = self.executor.get_context(loop.id).child_results.values()
        with self.executor.transaction():
            loop.current_context().record_artifact(list(total(Counts(*result["counts"]) for result in results)))
            self.executor.advance(loop.id)

    def _check_sum(self, loop: CognitiveLoop) -> None:
        """Add up the modules themselves, not the parts. If some have brought nothing, the root will find it."""
        audited, unread = self.results(loop.id)
        by_modules = list(total(result.counts for result in audited.values()))
        by_parts = loop.get_all_contexts(LoopPhase.PRODUCE)[-1].artifacts_produced[-1]
        findings = sum(len(result.findings) for result in audited.values())
        with self.executor.transaction():
            loop.add_note(f"{len(audited)} of {len(self._due(loop))} modules: {by_modules}; by parts: {by_parts}")
            self.executor.complete(loop.id, {"modules": len(audited), "counts": by_modules})
        self.say(f"  {_name(loop):<44}{len(audited) + len(unread):>5} modules {findings:>6} findings")

    def _write_report(self, root: CognitiveLoop) -> None:
        audited, unread = self.results()
        write_whole(self.report, make_report(self.title, audited, unread))
        with self.executor.transaction():
            root.current_context().record_artifact(str(self.report))
            self.executor.advance(root.id)
        findings = sum(len(result.findings) for result in audited.values())
        self.say(f"Written: {len(audited)} modules audited, {len(unread)} not; {findings} definitions lack something")

    def _recount_all(self, root: CognitiveLoop) -> None:
        audited, unread = self.results()
        self.paths = find_modules(self.package)
        recorded = {**{module: result.counts for module, result in audited.items()}, **dict.fromkeys(unread)}
        counted = {module: self._recount(module, was_unread=module in unread) for module in self.paths}
        differing = sorted(name for name in counted.keys() | recorded if counted.get(name) != recorded.get(name))
        sums = total(counts for counts in counted.values() if counts is not None)
        if not differing and adds_up(self.report, sums):
            with self.executor.transaction():
                root.add_note(f"{len(counted)} modules counted again by their tokens: the report is right")
                self.executor.complete(root.id, {"modules": len(audited), "counts": list(sums)})
            self.say(f"Verified: {len(counted)} modules counted again, with the same result")
            return
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        why = f"counts differ in {', '.join(differing[:3])}{more}" if differing else "the report does not add up"
        self.say(f"Not verified: {why}")
        self._go_round(root, why, due=differing)

    def _recount(self, module: str, *, was_unread: bool) -> Counts | None:
        try:
            with reading():
                source = read_source(self.paths[module])
                if was_unread:
                    list_definitions(source)  # tokens alone can be had from much that is not Python
                return recount(source)
        except Unreadable:
            return None

    # A module

    def _source(self, loop: CognitiveLoop) -> str:
        path = self.paths.get(_name(loop))
        if path is None:
            raise Unreadable("the file is gone")
        return read_source(path)

    def _list_definitions(self, loop: CognitiveLoop) -> None:
        with reading():
            names = list_definitions(self._source(loop))
        with self.executor.transaction():
            loop.current_context().record_question(f"Which of {len(names)} definitions lack something?")
            self.executor.advance(loop.id)

    def _audit_module(self, loop: CognitiveLoop) -> None:
        with reading():
            counts, findings = audit(self._source(loop))
        with self.executor.transaction():
            chosen = f"name {len(findings)} of {counts.definitions} definitions"
            loop.current_context().record_decision(chosen, rationale="the syntax tree shows what they lack")
            self.executor.record_answer(loop.id, {"counts": list(counts), "findings": findings})
            self.executor.advance(loop.id)

    def _present(self, loop: CognitiveLoop) -> None:
        answer = self.executor.get_context(loop.id).accumulated_answers[-1]
        with self.executor.transaction():
            loop.current_context().record_artifact(answer["counts"])
            self.executor.advance(loop.id)

    def _check_module(self, loop: CognitiveLoop) -> None:
        with reading():
            there = len(list_definitions(self._source(loop)))
        answer = self.executor.get_context(loop.id).accumulated_answers[-1]
        audited = answer["counts"][0]
        if there != audited:
            self._go_round(loop, f"{audited} definitions were audited, the symbol table has {there}")
            return
        with self.executor.transaction():
            loop.add_note(f"the symbol table has the same {there} definitions")
            self.executor.complete(loop.id, answer)


_WORK: Final[dict[tuple[str, LoopPhase], Callable[[Audit, CognitiveLoop], None]]] = {
    (WHOLE, LoopPhase.QUESTION): Audit._ask,
    (WHOLE, LoopPhase.ANSWER): Audit._audit_whole,
    (WHOLE, LoopPhase.PRODUCE): Audit._write_report,
    (WHOLE, LoopPhase.VERIFY): Audit._recount_all,
    (PACKAGE, LoopPhase.QUESTION): Audit._ask,
    (PACKAGE, LoopPhase.ANSWER): Audit._audit_parts,
    (PACKAGE, LoopPhase.PRODUCE): Audit._sum_up,
    (PACKAGE, LoopPhase.VERIFY): Audit._check_sum,
    (MODULE, LoopPhase.QUESTION): Audit._list_definitions,
    (MODULE, LoopPhase.ANSWER): Audit._audit_module,
    (MODULE, LoopPhase.PRODUCE): Audit._present,
    (MODULE, LoopPhase.VERIFY): Audit._check_module,
}


def _is_module(loop: CognitiveLoop) -> bool:
    return loop.goal == MODULE.format(_name(loop))


def _name(loop: CognitiveLoop) -> str:
    return loop.goal.rpartition(" ")[-1]


def _part(package: str, module: str, deeper: bool) -> str:
    """The goal of the child of `package` that `module` belongs to: its own, or its subpackage's."""
    below = module[len(package) + 1 :].split(".")
    return PACKAGE.format(f"{package}.{below[0]}") if deeper and len(below) > 1 else MODULE.format(module)


# The package


def find_modules(package: str) -> dict[str, Path]:
    """The files of an installed top-level package by module name, sorted. Nothing is imported.

    The module of a package itself is called ``package.__init__``.

    Raises:
        NotThere: there are none.
    """
    try:
        spec = find_spec(package) if package.isidentifier() else None
    except ValueError:  # a module of this program itself
        spec = None
    if spec is None:
        raise NotThere(f"no top-level package {package!r} is installed here; check the name, or install it first")
    found = {} if spec.submodule_search_locations else {package: Path(spec.origin or "")}
    for folder in map(Path, spec.submodule_search_locations or ()):
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            if all(part.isidentifier() for part in parts):
                found[".".join((package, *parts))] = path
    modules = {name: path for name, path in sorted(found.items()) if path.suffix == ".py"}
    if not modules:
        raise NotThere(f"{package!r} has no Python files; there is nothing to audit")
    return modules


def version_of(package: str) -> str:
    """The installed version, or nothing when no distribution tells it."""
    distributions = metadata.packages_distributions().get(package)
    return metadata.version(distributions[0]) if distributions else ""


@contextmanager
def reading() -> Iterator[None]:
    """A context in which whatever makes a file unreadable becomes `Unreadable`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about the audited code, and for its authors
            yield
    except SyntaxError as error:
        raise Unreadable(f"line {error.lineno}: {error.msg}" if error.lineno else error.msg) from error
    except OSError as error:
        raise Unreadable(error.strerror or type(error).__name__) from error
    except (ValueError, RecursionError, tokenize.TokenError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def read_source(path: Path) -> str:
    """The text of a Python file, decoded as it says itself."""
    return decode_source(path.read_bytes())


# Counting, one: the symbol table


def list_definitions(source: str) -> list[str]:
    """The names of the public functions, classes, and methods of public classes."""
    found = []
    waiting: list[tuple[str, symtable.SymbolTable]] = [("", symtable.symtable(source, "module", "exec"))]
    while waiting:
        prefix, table = waiting.pop()
        for child in table.get_children():
            kind, name = str(child.get_type()), child.get_name()
            if kind.startswith("type parameter"):  # the scope of [T] in def f[T](): …, around that of f
                waiting.append((prefix, child))
            elif kind in ("class", "function") and is_public(name) and not _is_expression(child):
                found.append(prefix + name)
                if kind == "class":
                    waiting.append((f"{prefix}{name}.", child))
    return found


def _is_expression(table: symtable.SymbolTable) -> bool:
    """Whether it is the scope of a lambda or a comprehension."""
    name = table.get_name()
    if iskeyword(name) or not name.isidentifier():
        return True
    return isinstance(table, symtable.Function) and ".0" in table.get_parameters()


def is_public(name: str) -> bool:
    """Whether the name does not begin with an underscore."""
    return not name.startswith("_")


# Counting, two: the syntax tree


def audit(source: str) -> Audited:
    """Count the public definitions, and list what they lack."""
    definitions = 0
    findings: list[Finding] = []
    for name, node, in_class in _walk(ast.parse(source).body):
        definitions += 1
        lacks = _lacks(node, in_class)
        if lacks:
            findings.append([node.lineno, name, ", ".join(lacks)])
    return Audited(count(definitions, findings), findings)


def count(definitions: int, findings: Sequence[Finding]) -> Counts:
    """The counts of so many definitions with these findings."""
    lacks = [finding[-1] for finding in findings]
    return Counts(definitions, sum("docstring" in lack for lack in lacks), sum("annotations" in lack for lack in lacks))


def total(counts: Iterable[Counts]) -> Counts:
    """Their sum; all zero when there are none."""
    return Counts(*map(sum, zip((0, 0, 0), *counts, strict=True)))


def _walk(body: Sequence[ast.AST], prefix: str = "") -> Iterator[tuple[str, Definition, bool]]:
    for node in body:
        if isinstance(node, Definition):
            if is_public(node.name):
                yield prefix + node.name, node, bool(prefix)
                if isinstance(node, ast.ClassDef):
                    yield from _walk(node.body, f"{prefix}{node.name}.")
        else:
            for block in ("body", "handlers", "orelse", "finalbody", "cases"):
                yield from _walk(getattr(node, block, ()), prefix)


def _lacks(node: Definition, in_class: bool) -> list[str]:
    decorators = {_decorator(decorator) for decorator in node.decorator_list}
    lacks = []
    if ast.get_docstring(node, clean=False) is None and not decorators & DOCUMENTED_ELSEWHERE:
        lacks.append("docstring")
    if not isinstance(node, ast.ClassDef) and not _is_annotated(node, in_class and "staticmethod" not in decorators):
        lacks.append("annotations")
    return lacks


def _decorator(node: ast.expr) -> str:
    while isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_annotated(node: ast.FunctionDef | ast.AsyncFunctionDef, bound: bool) -> bool:
    """Whether the result and every parameter are annotated; the first one of a bound method need not be."""
    given = node.args
    parameters = [*given.posonlyargs, *given.args][1 if bound else 0 :]
    parameters += [*given.kwonlyargs, *(star for star in (given.vararg, given.kwarg) if star)]
    return node.returns is not None and all(parameter.annotation for parameter in parameters)


# Counting, three: the tokens


def recount(source: str) -> Counts:
    """What `audit` counts, found without its syntax tree."""
    definitions = undocumented = unannotated = 0
    enclosing: list[tuple[int, bool]] = []  # the indentation of each definition around, and whether its methods count
    decorators: set[str] = set()
    wants_docstring = False
    for indentation, statement in _statements(source):
        undocumented += wants_docstring and not _is_docstring(statement)
        wants_docstring = False
        while enclosing and enclosing[-1][0] >= indentation:
            enclosing.pop()
        if statement[0] == "@":
            decorators.add([*takewhile(lambda token: token != "(", statement)][-1])
        elif _is_definition(statement):
            kind, name = statement[statement[0] == "async" :][:2]
            public = is_public(name) and all(counts for _, counts in enclosing)
            bound = bool(enclosing) and "staticmethod" not in decorators
            definitions += public
            unannotated += public and kind == "def" and not _header_is_annotated(statement, bound)
            wants_docstring = public and not decorators & DOCUMENTED_ELSEWHERE
            enclosing.append((indentation, public and kind == "class"))
            decorators = set()
    return Counts(definitions, undocumented, unannotated)


def _statements(source: str) -> Iterator[tuple[int, list[str]]]:
    """The indentation and tokens of each line that Python sees; a body beside its header is a line of its own."""
    for indentation, line in _logical_lines(source):
        if _is_definition(line):
            header, body = _split(line, ":")[:2]
            yield indentation, header
            if body:
                yield indentation + 1, body
        else:
            yield indentation, line


def _logical_lines(source: str) -> Iterator[tuple[int, list[str]]]:
    indentation = 0
    line: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        match token.type:
            case tokenize.OP | tokenize.NAME | tokenize.NUMBER | tokenize.STRING:
                line.append(token.string)
            case tokenize.NEWLINE if line:
                yield indentation, line
                line = []
            case tokenize.INDENT:
                indentation += 1
            case tokenize.DEDENT:
                indentation -= 1
            case tokenize.COMMENT | tokenize.NL | tokenize.NEWLINE | tokenize.ENDMARKER:
                continue
            case _:
                line.append('f""')  # a piece of a formatted string, whose text must not be taken for code


def _is_definition(line: Sequence[str]) -> bool:
    return line[0] in ("def", "class") or line[:2] == ["async", "def"]


def _split(tokens: Sequence[str], separator: str) -> list[list[str]]:
    """The parts between separators, those inside brackets or the head of a lambda not counted."""
    parts: list[list[str]] = [[]]
    depth = lambdas = 0
    for token in tokens:
        depth += _step(token)
        lambdas += depth == 0 and token == "lambda"
        if depth == 0 and lambdas and token == ":":
            lambdas -= 1
        elif depth == 0 and not lambdas and token == separator:
            parts.append([])
            continue
        parts[-1].append(token)
    return parts


def _step(token: str) -> int:
    """One bracket deeper, one back, or neither."""
    return (token in ("(", "[", "{")) - (token in (")", "]", "}"))


def _header_is_annotated(header: Sequence[str], bound: bool) -> bool:
    head, *result = _split(header, "->")
    opening, depth = len(head) - 1, 1  # go back from the last bracket to the one that it closes
    while depth:
        opening -= 1
        depth -= _step(head[opening])
    parameters = _split(head[opening + 1 : -1], ",")
    if bound and parameters[0][:1] not in (["*"], ["**"]):
        parameters = parameters[1:]
    named = [parameter for parameter in parameters if parameter not in ([], ["*"], ["/"])]
    return bool(result) and all(":" in _split(parameter, "=")[0] for parameter in named)


def _is_docstring(statement: Sequence[str]) -> bool:
    tokens = _split(statement, ";")[0]
    while tokens[:1] == ["("] and tokens[-1] == ")":
        tokens = tokens[1:-1]
    return bool(tokens) and all(token.lstrip("rRuU")[:1] in ("'", '"') for token in tokens)


# The report


def make_report(title: str, audited: dict[str, Audited], unread: dict[str, str]) -> str:
    """The report in Markdown; the same for the same results, whenever and wherever it is made."""
    by_package: dict[str, list[Counts]] = {}
    for module, result in audited.items():
        by_package.setdefault(module.rpartition(".")[0] or module, []).append(result.counts)
    worst = sorted(audited, key=lambda module: (-len(audited[module].findings), module))[:10]
    findings = [[module, *finding] for module, result in audited.items() for finding in result.findings]
    packages = [[name, len(counts), *total(counts)] for name, counts in sorted(by_package.items())]
    totals = [len(audited), *total(result.counts for result in audited.values())]
    counted = ["definitions", "without docstring", "without annotations"]
    sections = [
        f"# Audit of {title}\n\nPublic functions, classes, and methods of public classes.\n",
        _table("Totals", ["modules", *counted], [totals]),
        _table("By package", ["package", "modules", *counted], packages),
        _table("Worst modules", ["module", *counted], [[module, *audited[module].counts] for module in worst]),
        _table("Not audited", ["module", "why"], [[module, _cell(why)] for module, why in unread.items()]),
        _table("All findings", ["module", "line", "name", "lacks"], findings),
    ]
    return "\n".join(section for section in sections if section)


def _table(heading: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A section with a table, or nothing where there are no rows. Numbers stand to the right."""
    if not rows:
        return ""
    rules = ["---:" if isinstance(cell, int) else "---" for cell in rows[0]]
    lines = [" | ".join(map(str, row)) for row in (columns, rules, *rows)]
    return f"## {heading}\n\n" + "".join(f"| {line} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def read_tables(report: str) -> dict[str, list[list[str]]]:
    """The cells of the report's tables, row by row, by heading."""
    tables = {}
    for section in report.split("\n## ")[1:]:
        heading, *lines = section.splitlines()
        rows = [line[2:-2].split(" | ") for line in lines if line.startswith("| ")]
        tables[heading] = rows[2:]
    return tables


def adds_up(path: Path, expected: Counts) -> bool:
    """Whether the report is there and each of its tables comes to these counts."""
    if not path.exists():
        return False
    tables = read_tables(path.read_text(encoding="utf-8", errors="replace"))
    try:
        stated = [Counts(*map(int, row[1:])) for row in tables["Totals"]]
        packages = [Counts(*map(int, row[2:])) for row in tables.get("By package", [])]
    except (LookupError, TypeError, ValueError):
        return False  # it was cut off, or edited
    listed = count(expected.definitions, tables.get("All findings", []))
    return stated == [expected] and total(packages) == listed == expected


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is never seen half written."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


# The command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the audit; returns 0 when it was verified, 1 when it was not, 130 when it was interrupted."""
    parser = argparse.ArgumentParser(description="Audit the public names of a package, as a tree of durable loops.")
    parser.add_argument("package", help="the top-level name of an installed package")
    parser.add_argument("--store", default="audit.db", help="the file that keeps the loops (default: %(default)s)")
    parser.add_argument("--report", type=Path, help="the file to write (default: PACKAGE-audit.md)")
    parser.add_argument("--max-depth", type=int, default=5, help="levels of loops, 2 or more (default: %(default)s)")
    given = parser.parse_args(arguments)
    report = given.report or Path(f"{given.package}-audit.md")
    if given.max_depth < 2:
        parser.error("--max-depth leaves no room for modules; give 2 or more")
    if not report.parent.is_dir():
        parser.error(f"the folder {str(report.parent)!r} does not exist; make it first")
    try:
        find_modules(given.package)  # before there is a store
        with NestedLoopExecutor(given.max_depth, store=given.store) as executor:
            audit = Audit(executor, given.package, report)
            return _tell(audit, audit.run(), given.store)
    except NotThere as error:
        parser.error(str(error))
    except (CorticalError, OSError) as error:
        print(f"{error}\nWhat was done is kept; the same command carries on.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the same command carries on.", file=sys.stderr)
        return 130


def _tell(audit: Audit, status: LoopStatus, store: str) -> int:
    print(f"Report:   {audit.report}\nTree:     cortical tree {audit.root[:8]} --store {store}")
    if status is LoopStatus.COMPLETED:
        return 0
    if status.ended:
        print(f"The audit ended as {status.value}; the same command begins another.", file=sys.stderr)
    else:
        print("No loop is active, so nothing can go on; resume what was paused or blocked by hand.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
