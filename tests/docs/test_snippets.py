"""What the documentation shows works, and what it points to exists.

Every page is followed as a reader would follow it, in a folder of its own:

* A ``python`` block runs. The blocks of a page share one namespace. One whose first line is a comment that is a file
  name (``# choose.py``) is saved under this name instead, and something on the page has to use it.
* A ``text`` block (or ``json``, ``mermaid``, ``dot``, ``markdown``) with nothing but blank lines between it and a
  ``python`` block is what that block printed, and is compared with it.
* In a ``console`` block ``$ cortical …`` and ``$ python …`` are run as processes of their own. What stands below a
  command is what it printed, to both streams; nothing there, and it is not compared. The exit status is 0, or the next
  line is ``$ echo $?`` and shows it. ``> FILE`` keeps the output; ``$ export NAME=value`` holds for the page.
  ``$ pip``, ``$ make``, ``$ git``, ``$ cd`` and ``$ source`` are not run.
* Ids, times, durations and sizes need not be the same; `tests/docs/shown.py` says what stands for what.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cortical.cli import app
from tests.docs.markdown import ROOT, Page, pages
from tests.docs.pointers import is_test, leads, names_in
from tests.docs.running import CONSOLE, Reader, commands

PAGES = pages()

_TEST = re.compile(r"tests/[\w/]+\.py(?:::\w+)*")
_TEST_NAME = re.compile(r"Test\w+|test_\w+")
_FILE = re.compile(r"(?:cortical|examples|benchmarks|docs)/[\w./-]+\.(?:py|md|sql)\b")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a page may let the end of the process close its files
@each_page
def test_blocks(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of the page runs, and prints what the page shows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Reader(page, tmp_path).follow()


@each_page
def test_links(page: Page) -> None:
    """Every link of the page that stays inside the project leads to a file, and to a heading of it."""
    broken = [f"{page.name}:{link.line}: {link.target}" for link in page.links() if not leads(page, link.target)]
    assert not broken, "\n".join(["these lead nowhere:", *broken])


@each_page
def test_named_files(page: Page) -> None:
    """Every file and every test that the page names exists."""
    missing = []
    for number, line in enumerate(page.path.read_text(encoding="utf-8").splitlines(), start=1):
        missing += [f"{page.name}:{number}: {name}" for name in _TEST.findall(line) if not is_test(name)]
        missing += [f"{page.name}:{number}: {name}" for name in _FILE.findall(line) if not (ROOT / name).exists()]
    for link in page.links():
        file = _TEST.search(link.target)
        if file and _TEST_NAME.fullmatch(link.text) and link.text not in names_in(ROOT / file[0]):
            missing.append(f"{page.name}:{link.line}: {link.text} in {file[0]}")
    assert not missing, "\n".join(["there is no", *missing])


@each_page
def test_named_commands(page: Page) -> None:
    """Every make target and every command of `cortical` that the page names exists."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    known = {"make": targets, "cortical": {str(command.name) for command in app.registered_commands}}
    known["cortical"] |= {str(group.name) for group in app.registered_groups}
    named = list(page.code())
    for block in page.blocks:
        if block.language in CONSOLE:
            named += [(command.line, command.text) for command in commands(block)]
    unknown = []
    for line, text in named:
        program, _, rest = text.partition(" ")
        word = re.match(r"[a-z][\w-]*$", rest.split()[0]) if program in known and rest.split() else None
        if word and word[0] not in known[program]:
            unknown.append(f"{page.name}:{line}: {text}")
    assert not unknown, "\n".join(["there is no", *unknown])


@pytest.mark.parametrize("name", ["docs/index.md", "llms.txt"])
def test_every_page_can_be_found(name: str) -> None:
    """The index, and the one for coding agents, link to every page of the documentation and to every example."""
    [index] = [page for page in PAGES if page.name == name]
    linked = {(index.path.parent / link.target.partition("#")[0]).resolve() for link in index.links()}
    pages = [page.path for page in PAGES if page.path.is_relative_to(ROOT / "docs") and page is not index]
    examples = [path for path in (ROOT / "examples").glob("*.*") if path.name != "__init__.py"]
    missing = [path.relative_to(ROOT).as_posix() for path in [*pages, *examples] if path not in linked]
    assert not missing, "\n".join([f"{name} has no link to", *missing])
