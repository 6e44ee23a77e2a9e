"""What the documentation points to: files, headings and tests."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.docs.markdown import ROOT, Page, read_page

_LINK_OUT: Final = re.compile(r"[a-z][a-z0-9+.-]*:|//")


def leads(page: Page, target: str) -> bool:
    """Whether a link leads to a file of the project, and to a heading of it, or out of the project to an address."""
    if _LINK_OUT.match(target):
        return _is_address(target)
    path, _, anchor = target.partition("#")
    file = (page.path.parent / path).resolve() if path else page.path
    if not file.exists() or (path and not file.is_relative_to(ROOT)):
        return False
    return not anchor or file.suffix != ".md" or anchor in read_page(file).anchors()


def _is_address(target: str) -> bool:
    """Whether it is written as an address of the web is; nobody is asked whether something is there."""
    parts = urlsplit(target)
    host = parts.hostname or ""
    return parts.scheme == "https" and re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", host) is not None


def is_test(name: str) -> bool:
    """Whether there is this file, and in it this class or function (``file.py::Class::test_name``)."""
    path, *names = name.split("::")
    file = ROOT / path
    if not file.exists():
        return False
    body: list[ast.stmt] = _parsed(file).body
    for wanted in names:
        found = [
            node
            for node in body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == wanted
        ]
        if not found:
            return False
        body = found[0].body
    return True


@cache
def names_in(file: Path) -> frozenset[str]:
    """The names of all classes and functions of a file."""
    nodes = ast.walk(_parsed(file)) if file.exists() else ()
    return frozenset(node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef))


@cache
def _parsed(file: Path) -> ast.Module:
    # A page may name a hundred tests of one file.
    return ast.parse(file.read_text(encoding="utf-8"))
