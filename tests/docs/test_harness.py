"""The test of the documentation finds what is wrong in a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, pages, read_page
from tests.docs.pointers import is_test, leads
from tests.docs.running import Reader
from tests.docs.shown import Ids

TREE = """\
✓ 3f2a9c01  verify  in 0s  Move the shop
└── ▶ 77aa10b2  question  0s  Copy the files
"""


def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *blocks: str) -> None:
    """Follow a page of these blocks, each written as its language and then its lines."""
    text = "\n\n".join(f"```{block.strip()}\n```" for block in blocks)
    (tmp_path / "page.md").write_text(f"# A page\n\n{text}\n")
    monkeypatch.chdir(tmp_path)
    Reader(read_page(tmp_path / "page.md"), tmp_path).follow()


@pytest.mark.parametrize(
    ("blocks", "problem"),
    [
        (["python\nx = 1", "python\nprint(y)"], r"page\.md:8: this block raises NameError"),
        (["python\nx = (", "text\n("], r"page\.md:4: this block raises SyntaxError"),
        (["python\nprint('a')", "text\nb"], r"page\.md:8: the block before this one prints something else[^$]*- b"),
        (["python\nx = 1", "text\n1"], r"page\.md:8: the block before this one prints something else"),
        (["console\n$ python -c 'print(1)'\n2"], r"page\.md:4: `python -c 'print\(1\)'` prints something else"),
        (["console\n$ python -c 'raise SystemExit(3)'"], r"page\.md:4: .* ends with exit status 3"),
        (["console\n$ python -c 'raise SystemExit(3)'\n$ echo $?\n4"], r"page\.md:5: `echo \$\?` prints something"),
        (["console\n$ rm -r /"], r"page\.md:4: `rm` is no command"),
        (["python\n# tool.py\nprint(1)"], r"page\.md:4: tool\.py is saved, but"),
    ],
)
def test_what_is_wrong_is_found(
    blocks: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that fails, or prints something else, is told with page and line."""
    with pytest.raises(AssertionError, match=problem):
        follow(tmp_path, monkeypatch, *blocks)


def test_what_is_right_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks share a namespace and a folder, an exit status may be shown, and a killed program says so."""
    follow(
        tmp_path,
        monkeypatch,
        "python\n# tool.py\nimport os, sys\nprint(sys.argv[1])\nsys.stdout.flush()\nos.kill(os.getpid(), 9)",
        "python\nx = 2\nopen('made', 'w').close()",
        "python\nimport os\nprint(x, os.path.exists('made'))",
        "text\n2 True",
        "console\n$ pip install nothing\n$ python tool.py hello\nhello\nKilled\n$ echo $?\n137",
    )


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        (TREE, True),
        (TREE.replace("3f2a9c01", "0123abcd").replace("  0s", "  2m"), True),
        (TREE.replace("Copy", "Lose"), False),
        (TREE.replace("▶", "✗"), False),
        (TREE.replace("3f2a9c01", "77aa10b2"), False),
        (TREE + "more\n", False),
        ("", False),
    ],
)
def test_what_may_differ(printed: str, same: bool) -> None:
    """Ids and durations may differ, nothing else; and two ids may not be one."""
    assert (Ids().compare(TREE, printed) == "") is same


def test_ids_are_bound_for_the_page() -> None:
    """An id of the page stands for one real id, in later output and in commands."""
    ids = Ids()
    assert ids.compare("root 3f2a9c01", "root 0123abcd") == ""
    assert ids.in_command("cortical show 3f2a9c01") == "cortical show 0123abcd"
    assert ids.compare("3f2a9c0111111111111f", "0123abcd222222222222") == ""
    assert ids.compare("3f2a9c01", "ffffffff") != ""
    assert ids.compare("00000000", "ffffffff") == ""


def test_dots_stand_for_any_lines() -> None:
    """A line of dots stands for any lines, none among them."""
    for printed in ("a\nb", "a\nx\ny\nb"):
        assert Ids().compare("a\n…\nb", printed) == ""
    assert Ids().compare("a\n…\nb", "a\nx") != ""


def test_links_are_followed(tmp_path: Path) -> None:
    """A link leads to a file and a heading that exist, or out of the project."""
    (tmp_path / "page.md").write_text(
        "# A page\n\n## To `do`: *this*\n\n[one](#to-do-this) and [two\n](https://x.org)\n"
    )
    page = read_page(tmp_path / "page.md")
    assert [(link.text, link.target, link.line) for link in page.links()] == [
        ("one", "#to-do-this", 5),
        ("two", "https://x.org", 5),
    ]
    assert page.anchors() == {"a-page", "to-do-this"}
    assert all(leads(page, link.target) for link in page.links())
    wrong = ["nowhere.md", "#to-do", "picture.svg", "http://x.org", "https://x", "https:/x.org", "//x.org", "mailto:x"]
    assert [target for target in wrong if leads(page, target)] == []


def test_every_page_is_looked_at() -> None:
    """No Markdown at the top or in docs/ is left out, nor is llms.txt."""
    names = {page.name for page in pages()}
    assert {"README.md", "AGENTS.md", "CHANGELOG.md", "llms.txt", "docs/index.md"} <= names
    assert names >= {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}


def test_pictures_are_links_too(tmp_path: Path) -> None:
    """A picture that is not there is found like any other link that leads nowhere."""
    (tmp_path / "page.md").write_text("![a tree](tree.svg)\n")
    page = read_page(tmp_path / "page.md")
    assert [(link.text, link.target, leads(page, link.target)) for link in page.links()] == [
        ("a tree", "tree.svg", False)
    ]


def test_named_tests_are_looked_up() -> None:
    """A test is named by its file, or by its class and name in it."""
    here = "tests/docs/test_harness.py"
    assert is_test(here)
    assert is_test(f"{here}::test_named_tests_are_looked_up")
    assert not is_test(f"{here}::TestHarness::test_nothing")
    assert not is_test("tests/docs/test_nothing.py")
