"""The examples, run as their users run them."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cortical.reasoning import CognitiveLoop, LoopPhase, LoopStatus, LoopTransition, NestedLoopExecutor
from cortical.store import open_store
from examples.audit_package import Audit, Counts, audit, list_definitions, read_tables, recount

EXAMPLES = Path(__file__).parents[2] / "examples"

FIRST_SCENE = """\
============================================================
  Demo 1: Basic Nested Loops
============================================================
✓ Created root loop: ROOT
  Goal: Build web application
  Starting phase: question

  Advancing through QAPV phases...
  → answer
  → produce

✓ Spawned child loop: CHILD
  Goal: Implement backend API
  Depth: 1
  Parent status: PAUSED
  Answers so far: ['Flask, with PostgreSQL behind it']

✓ Completed child loop
  Returned parent: ROOT
  Parent status: ACTIVE

  Parent received child result:
  {'framework': 'Flask', 'db': 'PostgreSQL'}
  and stands where it stood: produce
"""

ODD_CODE = '''\
import functools

class Plain:
    """A docstring."""
    def bare(self): return lambda a, b: a
    def full(self, a: int, *rest: str, key: int = (lambda x, y: x)(1, 2), **more: str) -> None: "On one line."
    @staticmethod
    def static(a) -> None:
        ("in brackets"
         r' and joined')
    @property
    def size(self) -> dict[str, "int"]:
        """A docstring."""
    @size.setter
    def size(self, value: int) -> None:
        self._size = value
    async def wait(self, /, until: int = {"a": [1, 2]}[0], *, now=lambda a, b: 1) -> None:
        f"no {until} docstring"
    class Inner:
        def deep(*self: int) -> None: ...
    def _hidden(self): ...

class _Private:
    def method(self): ...

if functools:
    def branch(x, y):
        """A docstring."""
        def local(): ...
else:
    try:
        @functools.wraps(len)
        def branch(x: int, y: int = 3) -> int: "A docstring"; return x
    except ValueError:
        class Late(Exception): b"no docstring"

listcomp = [x for x in range(3) if (lambda: x)()]
def after(x: int) -> (lambda y: y): "a" + "b"
   '''

ODD_FINDINGS = [
    [5, "Plain.bare", "docstring, annotations"],
    [8, "Plain.static", "annotations"],
    [17, "Plain.wait", "docstring, annotations"],
    [19, "Plain.Inner", "docstring"],
    [20, "Plain.Inner.deep", "docstring"],
    [27, "branch", "annotations"],
    [35, "Late", "docstring"],
    [38, "after", "docstring"],
]


def run(*arguments: str, folder: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run an example in `folder`, whose packages can be found; it is to end with `status`."""
    command = [sys.executable, str(EXAMPLES / arguments[0]), *arguments[1:]]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a small package that can be found, and must not be imported."""
    modules = {
        "__init__.py": "raise SystemExit('it was imported')\n",
        "first.py": 'def one() -> None:\n    """A docstring."""\ndef two(x): ...\n',
        "inner/__init__.py": "",
        "inner/second.py": "class Three: ...\n",
        "inner/core/third.py": "def four() -> None: ...\n",
    }
    folder = tmp_path / "little"
    for name, text in modules.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def walk(package: Path, executor: NestedLoopExecutor, said: list[str]) -> Audit:
    """An audit of the little package, walked to its end."""
    audit = Audit(executor, "little", package.parent / "little.md", say=said.append)
    audit.run()
    return audit


def totals(report: Path) -> Counts:
    """The counts under the report's first heading."""
    return Counts(*map(int, read_tables(report.read_text())["Totals"][0][1:]))


def count_by_hand(paths: list[Path]) -> Counts:
    """What the report should come to, found upwards from each node, and by the names of parameters."""
    definitions = undocumented = unannotated = 0
    for path in paths:
        tree = ast.parse(path.read_bytes())
        above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or not public(node, above):
                continue
            definitions += 1
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            elsewhere = re.search(r"overload|setter|deleter", decorators)
            undocumented += not elsewhere and ast.get_docstring(node) is None
            if not isinstance(node, ast.ClassDef):
                bare = {arg.arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg) and not arg.annotation}
                unannotated += not node.returns or not bare <= {"self", "cls"}
    return Counts(definitions, undocumented, unannotated)


def public(node: ast.AST, above: dict[ast.AST, ast.AST]) -> bool:
    """Whether neither the definition nor a class around it is private, and no function is around it."""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    outer = above.get(node)
    while outer and not isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        outer = above.get(outer)
    hidden = node.name.startswith("_") or isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
    return not hidden and (outer is None or public(outer, above))


def test_demo_tells_what_happens() -> None:
    """The demo plays six scenes, the first of them as documented, with the ids that the executor gave."""
    out = run("nested_loop_demo.py", folder=EXAMPLES).stdout
    assert re.findall(r"  Demo (\d): (.*)", out) == [
        ("1", "Basic Nested Loops"),
        ("2", "Multi-Level Nesting"),
        ("3", "Result Aggregation"),
        ("4", "Early Termination"),
        ("5", "Depth Limiting"),
        ("6", "Executor Summary"),
    ]
    root, child = re.findall(r"loop: ([0-9a-f]{8})\n", out)[:2]
    assert root != child
    assert FIRST_SCENE.replace("ROOT", root).replace("CHILD", child) in out


def test_demo_shows_the_state() -> None:
    """Trees, refusals and counts of the later scenes are the executor's own."""
    out = run("nested_loop_demo.py", folder=EXAMPLES).stdout
    assert "  ✓ Build e-commerce platform: ['a shop', 'its backend', 'its login', 'a token']" in out
    assert "✓ Completed: Choose the main dish; parent status: PAUSED" in out
    assert "✓ Completed: Choose the dessert; parent status: ACTIVE" in out
    assert re.search(r"⊘ [0-9a-f]{8} \[abandoned question\] Read its changelog – framework X is deprecated", out)
    assert re.search(r"✗ DepthLimitReached:\n  '[0-9a-f]{20}' may not spawn: depth limit 3 reached", out)
    assert "  max_depth_reached: 2" in out


def test_audit_of_a_real_package(tmp_path: Path) -> None:
    """The report of an installed package has the counts that another count finds, and says where it is."""
    done = run("audit_package.py", "packaging", "--store", "s.db", "--report", "r.md", folder=tmp_path)
    spec = importlib.util.find_spec("packaging")
    assert spec is not None
    assert spec.origin is not None
    paths = sorted(Path(spec.origin).parent.rglob("*.py"))
    assert read_tables((tmp_path / "r.md").read_text())["Totals"][0][0] == str(len(paths))
    assert totals(tmp_path / "r.md") == count_by_hand(paths)
    assert "Report:   r.md\n" in done.stdout
    assert re.search(r"Tree:     cortical tree [0-9a-f]{8} --store s\.db\n", done.stdout)


def test_report_is_the_same_everywhere(package: Path, tmp_path: Path) -> None:
    """Neither the depth of the tree nor place and time change a byte of the report; nothing is imported."""
    for depth in ("2", "3", "9"):
        run("audit_package.py", "little", "--max-depth", depth, "--report", f"{depth}.md", folder=tmp_path)
    reports = {(tmp_path / f"{depth}.md").read_text() for depth in (2, 3, 9)}
    assert reports == {
        """\
# Audit of little

Public functions, classes, and methods of public classes.

## Totals

| modules | definitions | without docstring | without annotations |
| ---: | ---: | ---: | ---: |
| 5 | 4 | 3 | 1 |

## By package

| package | modules | definitions | without docstring | without annotations |
| --- | ---: | ---: | ---: | ---: |
| little | 2 | 2 | 1 | 1 |
| little.inner | 2 | 1 | 1 | 0 |
| little.inner.core | 1 | 1 | 1 | 0 |

## Worst modules

| module | definitions | without docstring | without annotations |
| --- | ---: | ---: | ---: |
| little.first | 2 | 1 | 1 |
| little.inner.core.third | 1 | 1 | 0 |
| little.inner.second | 1 | 1 | 0 |
| little.__init__ | 0 | 0 | 0 |
| little.inner.__init__ | 0 | 0 | 0 |

## All findings

| module | line | name | lacks |
| --- | ---: | --- | --- |
| little.first | 3 | two | docstring, annotations |
| little.inner.core.third | 1 | four | docstring |
| little.inner.second | 1 | Three | docstring |
"""
    }
    store = open_store(tmp_path / "audit.db")
    assert [root.status for root in store.roots()] == [LoopStatus.COMPLETED] * 3
    store.close()


def test_tree_is_shaped_like_the_package(package: Path, executor: NestedLoopExecutor) -> None:
    """Each subpackage and module has a loop below that of the package it is in, and each went through all phases."""
    audit = walk(package, executor, [])
    loops = executor.get_subtree(audit.root)
    assert [(loop.depth, loop.goal) for loop in loops] == [
        (0, "Which public functions and classes of little lack docstrings or annotations?"),
        (1, "Audit module little.__init__"),
        (1, "Audit module little.first"),
        (1, "Audit package little.inner"),
        (2, "Audit module little.inner.__init__"),
        (2, "Audit package little.inner.core"),
        (3, "Audit module little.inner.core.third"),
        (2, "Audit module little.inner.second"),
    ]
    for loop in loops:
        assert [step.to_phase for step in loop.transitions] == list(LoopPhase)
        assert loop.status is LoopStatus.COMPLETED
    assert loops[0].result == {"modules": 5, "counts": [4, 3, 1]}


def test_a_file_changed_before_the_recount(package: Path, executor: NestedLoopExecutor) -> None:
    """When the two counts differ, the audit goes round again, for the modules that differ and no others."""

    def change(loop: CognitiveLoop, step: LoopTransition) -> None:
        if loop.parent_id is None and step.to_phase is LoopPhase.VERIFY and len(loop.transitions) == 4:
            (package / "inner" / "second.py").write_text("class Three: ...\nclass Five: ...\n")
            (package / "first.py").unlink()
            (package / "fourth.py").write_text("def six(): ...\n")

    executor.manager.register_transition_handler(change)
    said: list[str] = []
    audit = walk(package, executor, said)
    root = executor.get_loop(audit.root)
    assert root.status is LoopStatus.COMPLETED
    assert root.get_iteration_count(LoopPhase.VERIFY) == 2
    assert "Not verified: counts differ in little.first, little.fourth, little.inner.second" in said
    goals = [loop.goal for loop in executor.get_subtree(audit.root)]
    assert [goals.count(f"Audit module little.{name}") for name in ("inner.second", "fourth", "__init__")] == [2, 1, 1]
    assert totals(audit.report) == Counts(4, 4, 1)
    assert read_tables(audit.report.read_text())["Not audited"] == [["little.first", "the file is gone"]]


def test_a_module_changed_under_its_own_audit(package: Path, executor: NestedLoopExecutor) -> None:
    """A module whose symbol table shows something else than was audited is audited again, by the same loop."""

    def change(loop: CognitiveLoop, step: LoopTransition) -> None:
        if loop.goal.endswith("first") and step.to_phase is LoopPhase.VERIFY:
            (package / "first.py").write_text("def one(): ...\n")

    executor.manager.register_transition_handler(change)
    audit = walk(package, executor, [])
    loop = next(loop for loop in executor.get_subtree(audit.root) if loop.goal.endswith("first"))
    assert loop.get_iteration_count(LoopPhase.ANSWER) == 2
    assert loop.result["findings"] == [[1, "one", "docstring, annotations"]]
    assert executor.get_loop(audit.root).get_iteration_count(LoopPhase.VERIFY) == 1


def test_a_damaged_report_is_written_again(package: Path, executor: NestedLoopExecutor) -> None:
    """The recount reads the report too: one that lost a line is written again, and no module is audited again."""

    def damage(loop: CognitiveLoop, step: LoopTransition) -> None:
        if loop.parent_id is None and step.to_phase is LoopPhase.VERIFY and len(loop.transitions) == 4:
            report = package.parent / "little.md"
            report.write_text("".join(report.read_text().splitlines(keepends=True)[:-1]))

    executor.manager.register_transition_handler(damage)
    said: list[str] = []
    audit = walk(package, executor, said)
    assert "Not verified: the report does not add up" in said
    assert executor.get_loop(audit.root).status is LoopStatus.COMPLETED
    assert len(executor.get_subtree(audit.root)) == 8
    assert audit.report.read_text().endswith("Three | docstring |\n")


def test_counts_that_never_agree(package: Path, executor: NestedLoopExecutor) -> None:
    """An audit whose counts differ in every turn fails after the third, and says in what."""

    def change(loop: CognitiveLoop, step: LoopTransition) -> None:
        if loop.parent_id is None and step.to_phase is LoopPhase.VERIFY:
            with (package / "first.py").open("a") as file:
                file.write("def again(): ...\n")

    executor.manager.register_transition_handler(change)
    audit = walk(package, executor, [])
    root = executor.get_loop(audit.root)
    assert root.status is LoopStatus.FAILED
    assert root.get_iteration_count(LoopPhase.VERIFY) == 3
    assert "CountsDiffer: counts differ in little.first, after 3 turns" in executor.export(audit.root)


def test_unreadable_modules_are_named(package: Path, tmp_path: Path) -> None:
    """A module that is no Python fails by itself; the others are audited, and the report says why it was not."""
    (package / "broken.py").write_text("def f(:\n")
    (package / "latin.py").write_bytes(b"# \xe9\n")
    (package / "unknown.py").write_text("# coding: klingon\n")
    (package / "odd.py").write_text(ODD_CODE)
    run("audit_package.py", "little", "--report", "r.md", folder=tmp_path)
    tables = read_tables((tmp_path / "r.md").read_text())
    assert [row[0] for row in tables["Not audited"]] == ["little.broken", "little.latin", "little.unknown"]
    assert tables["Not audited"][0][1] == "line 1: invalid syntax"
    assert tables["Totals"][0][0] == "6"
    assert str(tmp_path) not in (tmp_path / "r.md").read_text()


def test_a_loop_paused_by_hand_stops_the_audit(package: Path, tmp_path: Path) -> None:
    """An audit goes on around a loop that was paused by hand, says why it cannot end, and ends when it is resumed."""
    with NestedLoopExecutor(store=tmp_path / "audit.db") as executor:
        audit = Audit(executor, "little", tmp_path / "little.md", say=lambda line: None)
        while (loop := audit.active()) is not None and not loop.goal.endswith("second"):
            audit.work(loop)
        assert loop is not None
        executor.pause(loop.id, "not now")
    done = run("audit_package.py", "little", folder=tmp_path, status=1)
    assert "No loop is active" in done.stderr
    assert not (tmp_path / "little-audit.md").exists()
    with NestedLoopExecutor(store=tmp_path / "audit.db") as executor:
        executor.resume(loop.id)
    done = run("audit_package.py", "little", folder=tmp_path)
    assert done.stdout.startswith("Auditing little: 5 modules, 4 of them are done\n")
    assert totals(tmp_path / "little-audit.md") == Counts(4, 3, 1)


def test_three_ways_of_counting_agree() -> None:
    """Syntax tree, symbol table and tokens see the same in odd code, and it is what a person sees."""
    counts, findings = audit(ODD_CODE)
    assert findings == ODD_FINDINGS
    assert counts == Counts(13, 6, 4)
    assert len(list_definitions(ODD_CODE)) == 13
    assert recount(ODD_CODE) == counts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_package"], "no top-level package 'no_such_package' is installed here"),
        (["networkx.algorithms"], "no top-level package 'networkx.algorithms'"),
        (["sys"], "'sys' has no Python files"),
        (["packaging", "--max-depth", "1"], "leaves no room for modules; give 2 or more"),
        (["packaging", "--report", "nowhere/r.md"], "the folder 'nowhere' does not exist"),
    ],
)
def test_wrong_use_is_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    """What cannot be audited is refused with exit code 2, and leaves nothing behind."""
    done = run("audit_package.py", *arguments, folder=tmp_path, status=2)
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_opened(tmp_path: Path) -> None:
    """A file that is no store is refused with exit code 1, and stays as it is."""
    (tmp_path / "s.db").write_text("my diary")
    done = run("audit_package.py", "packaging", "--store", "s.db", folder=tmp_path, status=1)
    assert "s.db is not a store" in done.stderr
    assert (tmp_path / "s.db").read_text() == "my diary"
