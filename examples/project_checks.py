"""What `release_check.py` looks for in a project, and mends: plain functions over a folder, nothing of Cortical.

A finding is a mapping that any store can keep. One that `blocks` stands in the way of a release; one with a `mend` can
be mended: white space, the end of a file, an import that nothing uses, a link whose target has moved. What is mended is
proven: a Python file has to mean the same as before. Checks and mending stand in one file, as they use the same rules.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NotRequired, TypedDict

#: Folders that are no part of a project, besides those that are hidden.
LEFT_OUT: Final = frozenset({"__pycache__", "node_modules", "build", "dist", "site-packages"})
SECONDS_FOR_TESTS: Final = 120
SECONDS_FOR_TOOLS: Final = 600

_ONE_PARSER: Final = threading.Lock()
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,}) *([\w+-]*)")
_CODE: Final = re.compile(r"(`+)(.+?)\1(?!`)")
_LINK: Final = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?[^)]*\)")
_MYPY: Final = re.compile(r"(?P<path>[^:]+):(?P<line>\d+)(?::\d+)?: error: (?P<told>.*)")


class Finding(TypedDict):
    """What is wrong with a line of a file (0: with the whole of it)."""

    check: str
    path: str
    line: int
    told: str
    blocks: bool
    mend: str | None


class Checked(TypedDict):
    """What a check has found, and by what means: "ruff", "3 of 41 test files"; where it was not made, why."""

    means: str
    findings: list[Finding]
    not_made: NotRequired[bool]


def found(check: str, path: str, line: int, told: str, *, blocks: bool = False, mend: str | None = None) -> Finding:
    """A finding."""
    return {"check": check, "path": path, "line": line, "told": told, "blocks": blocks, "mend": mend}


# The project


def is_left_out(path: Path) -> bool:
    """Whether a file or folder is no part of the project: hidden, made by tools, or a database."""
    made = path.name in LEFT_OUT or path.name.endswith((".egg-info", ".db", ".db-wal", ".db-shm"))
    return path.name.startswith(".") or made or (path / "pyvenv.cfg").exists()


def _is_data(folder: Path) -> bool:
    return folder.name == "data" and not (folder / "__init__.py").exists()


def files_of(folder: Path) -> list[str]:
    """The Python and Markdown files of a project, by their paths below it, in order; no data that tests work on."""
    names: list[str] = []
    for top, below, files in os.walk(folder):
        parts = [Path(top, name) for name in below]
        below[:] = [part.name for part in parts if not is_left_out(part) and not _is_data(part)]
        names += [Path(top, name).relative_to(folder).as_posix() for name in files if name.endswith((".py", ".md"))]
    return sorted(name for name in names if not is_left_out(folder / name))


def copied(folder: Path, target: Path) -> dict[str, str]:
    """Copy a project, in place of what an earlier try has left; the digest of each of its files that are looked at."""
    if target.exists():
        shutil.rmtree(target)

    def left_out(top: str, names: list[str]) -> list[str]:
        return [name for name in names if is_left_out(Path(top, name))]

    shutil.copytree(folder, target, symlinks=True, ignore=left_out)
    return {path: digest_of(target / path) for path in files_of(target)}


def digest_of(path: Path) -> str:
    """A digest of a file's content; empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def read(folder: Path, path: str) -> str:
    """A file's text, its line ends as they are."""
    return (folder / path).read_bytes().decode()


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is never seen half written."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(text.encode())
    os.replace(part, path)


# One file


def look_at(folder: Path, path: str) -> list[Finding]:
    """What is wrong with a file, looked at alone.

    Raises:
        UnicodeDecodeError: it is no text.
    """
    text = read(folder, path)
    findings: list[Finding] = []
    if path.endswith(".py"):
        try:
            if not ast.get_docstring(tree := parse(text)) and tree.body:
                findings.append(found("files", path, 1, "the module has no docstring"))
        except SyntaxError as error:
            return [found("files", path, error.lineno or 0, f"does not parse: {error.msg}", blocks=True)]
        for number, line in enumerate(text.split("\n"), 1):
            if line.rstrip("\r") != line.rstrip():
                findings.append(found("files", path, number, "white space at the end of the line", mend="white space"))
    if text and not text.endswith("\n"):
        last = text.count("\n") + 1
        findings.append(found("files", path, last, "the last line has no end", mend="end of file"))
    return findings


# All files


def lint(folder: Path, paths: Sequence[str], linter: str = "auto") -> Checked:
    """What a linter says: ruff where it is to be had, with the project's own settings; else some rules of our own."""
    if linter == "ruff" or (linter == "auto" and importlib.util.find_spec("ruff") is not None):
        return {"means": "ruff", "findings": list(_by_ruff(folder, set(paths)))}
    trees = ((path, parsed(folder, path)) for path in paths if path.endswith(".py"))
    findings = [finding for path, tree in trees if tree is not None for finding in _by_rules(path, tree)]
    return {"means": "rules of its own, as ruff is not used", "findings": findings}


def _by_ruff(folder: Path, paths: set[str]) -> Iterator[Finding]:
    line = [sys.executable, "-m", "ruff", "check", "--no-cache", "--exit-zero", "--output-format", "json", "."]
    for said in json.loads(output_of(line, folder)):
        path = os.path.relpath(said["filename"], folder.resolve())
        code = said["code"] or "syntax"
        if path in paths and code[:3] not in ("W29", "syn"):  # of these the look at each file tells
            mend = "import" if code == "F401" else None
            yield found("lint", path, said["location"]["row"], f"{code} {said['message']}", mend=mend)


def _by_rules(path: str, tree: ast.Module) -> Iterator[Finding]:
    for imported, names in unused_imports(path, tree):
        yield found("lint", path, imported.lineno, f"{', '.join(names)} imported and not used", mend="import")
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield found("lint", path, node.lineno, "a bare except catches Ctrl-C too")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                if isinstance(default, ast.List | ast.Dict | ast.Set):
                    yield found("lint", path, default.lineno, f"{node.name} shares a default that can be changed")


def types(folder: Path, paths: Sequence[str], *, mypy: bool = False) -> Checked:
    """Which public functions lack annotations; or what mypy says of the whole project, which may take minutes."""
    if mypy:
        line = [sys.executable, "-m", "mypy", "--no-error-summary", "--cache-dir", os.devnull, "."]
        errors = [match for text in output_of(line, folder).splitlines() if (match := _MYPY.fullmatch(text))]
        return {
            "means": "mypy",
            "findings": [
                found("types", one["path"], int(one["line"]), one["told"], blocks=True)
                for one in errors
                if one["path"] in paths
            ],
        }
    findings = []
    for path in paths:
        tree = parsed(folder, path) if path.endswith(".py") and not is_test(path) else None
        bare = [function for function in _public(tree.body) if not _is_annotated(function)] if tree else []
        if bare:
            names = ", ".join(function.name for function in bare[:3]) + (" …" if bare[3:] else "")
            findings.append(found("types", path, bare[0].lineno, f"not fully annotated: {names}"))
    return {"means": "annotations of public functions", "findings": findings}


def _public(body: Iterable[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _public(node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node


def _is_annotated(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return function.returns is not None and all(one.annotation or one.arg in ("self", "cls") for one in given)


def tests(folder: Path, paths: Sequence[str], most: int) -> Checked:
    """Which tests fail, of the smallest `most` files of tests; or why none was run."""
    files = [path for path in paths if is_test(path) and path.endswith(".py") and "test" in Path(path).stem.split("_")]
    if not files:
        return {"means": "the project has none", "findings": []}
    if not most:
        return {"means": "not run, as none is to be", "findings": [], "not_made": True}
    if importlib.util.find_spec("pytest") is None:
        return {"means": "not run, as pytest is not installed", "findings": [], "not_made": True}
    chosen = sorted(files, key=lambda path: ("integration" in path, (folder / path).stat().st_size, path))[:most]
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "-rfE", *sorted(chosen)]
    means = f"{len(chosen)} of {len(files)} files of tests"
    try:
        said = output_of(line, folder, seconds=SECONDS_FOR_TESTS, at_most=1).splitlines()
    except (subprocess.SubprocessError, RuntimeError) as error:
        return {"means": means, "findings": [found("tests", chosen[0], 0, f"cannot be run: {error}", blocks=True)]}
    failed = [text.partition(" ")[2].partition(" - ")[0] for text in said if text.startswith(("FAILED ", "ERROR "))]
    findings = [found("tests", one.partition("::")[0], 0, f"{one} fails", blocks=True) for one in failed]
    return {"means": means, "findings": findings}


def docs(folder: Path, paths: Sequence[str]) -> Checked:
    """Links of Markdown files that lead nowhere, and snippets of Python that do not parse."""
    pages = [path for path in paths if path.endswith(".md")]
    findings = [finding for page in pages for finding in _of_page(folder, page)]
    return {"means": f"links and snippets of {len(pages)} pages", "findings": findings}


def _of_page(folder: Path, page: str) -> Iterator[Finding]:
    for number, target in links(read(folder, page)):
        if not leads(folder, page, target):
            moved = new_target(folder, page, target)
            told = f"the link to {target} leads nowhere" + (f"; {moved} is meant" if moved else "")
            yield found("docs", page, number, told, blocks=True, mend="link" if moved else None)
    for number, snippet in snippets(read(folder, page)):
        try:
            parse(snippet, await_at_top=True)
        except SyntaxError as error:
            told = f"a snippet does not parse: {error.msg}"
            yield found("docs", page, number + (error.lineno or 1), told, blocks=True)


def links(text: str) -> Iterator[tuple[int, str]]:
    """The links of a page that stay in the project, without what follows a #, each with its line."""
    for number, line, language in _parts(text):
        for target in _LINK.findall(_CODE.sub("", line)) if language is None else ():
            if not re.match(r"[a-z][a-z0-9+.-]*:|#|/", target):
                yield number, target.partition("#")[0]


def snippets(text: str) -> Iterator[tuple[int, str]]:
    """The blocks of Python of a page, each with the line before it."""
    for number, block, language in _parts(text):
        if language in ("python", "py") and not block.startswith(">>>"):
            yield number, block


def _parts(text: str) -> Iterator[tuple[int, str, str | None]]:
    """The lines of a page with None, and its fenced blocks with their language; a block without an end is none."""
    fence: re.Match[str] | None = None
    begin, inside = 0, list[str]()
    for number, line in enumerate(text.split("\n"), 1):
        mark = _FENCE.match(line)
        if fence is None and mark is None:
            yield number, line, None
        elif fence is None:
            fence, begin, inside = mark, number, []
        elif mark is not None and mark[1].startswith(fence[1]) and not mark[2]:
            yield begin, textwrap.dedent("\n".join(inside)), fence[2]
            fence = None
        else:
            inside.append(line)


def leads(folder: Path, page: str, target: str) -> bool:
    """Whether there is something where a link leads."""
    return (folder / page).parent.joinpath(target).exists()


def new_target(folder: Path, page: str, target: str) -> str:
    """Where a link has to lead, if there is one file of that name and no other; else empty."""
    same = [path for path in files_of(folder) if Path(path).name == Path(target).name]
    return os.path.relpath(same[0], Path(page).parent) if len(same) == 1 else ""


def is_test(path: str) -> bool:
    """Whether it is a file of tests, or for them."""
    return Path(path).name.startswith("test_") or path.endswith("_test.py") or "tests" in Path(path).parts


def parse(text: str, *, await_at_top: bool = False) -> ast.Module:
    """The syntax tree of a text, made by one thread at a time: how deep the maker has come is kept once for all.

    Raises:
        SyntaxError: it has none.
    """
    flags = ast.PyCF_ONLY_AST | (ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if await_at_top else 0)
    with _ONE_PARSER:
        tree = compile(text, "<text>", "exec", flags, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    return tree


def parsed(folder: Path, path: str) -> ast.Module | None:
    """A file's syntax tree; None where it has none."""
    try:
        return parse(read(folder, path))
    except (SyntaxError, UnicodeDecodeError):
        return None


def output_of(line: Sequence[str], folder: Path, *, seconds: float = SECONDS_FOR_TOOLS, at_most: int = 1) -> str:
    """What a program prints, run in a folder whose modules it can import.

    Raises:
        RuntimeError: its exit status is above `at_most`.
        subprocess.TimeoutExpired: it took longer.
    """
    above = os.pathsep.join([str(folder), str(folder / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": above, "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        line, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    if done.returncode > at_most:
        said = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
        raise RuntimeError(f"{line[2]} ends with status {done.returncode}: {said[-1]}")
    return done.stdout


# Mending


def mended(folder: Path, path: str, text: str, mends: Iterable[str]) -> str:
    """A file's text with what was found in it mended; `folder` is where its links lead."""
    asked = set(mends)
    if "import" in asked:
        text = without_imports(path, text)
    if "white space" in asked:
        text = "\n".join(line.rstrip() + "\r" * line.endswith("\r") for line in text.split("\n"))
    if "end of file" in asked:
        text += "\n" * (not text.endswith("\n"))
    if "link" in asked:
        for _, target in list(links(text)):
            moved = "" if leads(folder, path, target) else new_target(folder, path, target)
            if moved:
                text = re.sub(rf"(\]\(<?){re.escape(target)}(?=[#)>\s])", rf"\g<1>{moved}", text)
    return text


def is_proven(folder: Path, path: str, before: str) -> bool:
    """Whether a mended file is sound: Python means the same but for imports that nothing used, and links lead on."""
    if path.endswith(".md"):
        targets = [target for _, target in links(read(folder, path)) if not leads(folder, path, target)]
        return not any(new_target(folder, path, target) for target in targets)
    after = parsed(folder, path)
    if after is None:
        return False
    return ast.dump(_stripped(path, after)) == ast.dump(_stripped(path, parse(before)))


def unused_imports(path: str, tree: ast.Module) -> Iterator[tuple[ast.Import | ast.ImportFrom, list[str]]]:
    """The imports at the top of a file with names that nothing in it uses; a name that a text has counts as used."""
    if Path(path).name == "__init__.py":
        return
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    used |= {word for text in texts for word in re.findall(r"\w+", text)}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", None) != "__future__":
            names = [_bound(alias) for alias in node.names if not _is_kept(alias, used)]
            if names:
                yield node, names


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _is_kept(alias: ast.alias, used: set[str]) -> bool:
    return alias.name == "*" or alias.asname == alias.name or _bound(alias) in used


def without_imports(path: str, text: str) -> str:
    """A file's text without the imports that nothing uses: those that stand alone on their lines."""
    tree = parse(text)
    lines = text.split("\n")
    for node, names in reversed(list(unused_imports(path, tree))):
        end = node.end_lineno or node.lineno
        alone = sum(other.lineno <= end and (other.end_lineno or 0) >= node.lineno for other in tree.body) == 1
        if not alone or any("#" in line for line in lines[node.lineno - 1 : end]):
            continue
        left = [alias for alias in node.names if _bound(alias) not in names]
        node.names = left
        lines[node.lineno - 1 : end] = [ast.unparse(node)] if left else []
    return "\n".join(lines)


def _stripped(path: str, tree: ast.Module) -> ast.Module:
    gone: list[ast.stmt] = []
    for node, names in unused_imports(path, tree):
        node.names = [alias for alias in node.names if _bound(alias) not in names]
        gone += [] if node.names else [node]
    tree.body = [node for node in tree.body if node not in gone]
    return tree
