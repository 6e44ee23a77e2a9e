"""What the tests of the documentation read in a page: its fenced blocks, links, headings and the names in its text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attrs import frozen

ROOT: Final = Path(__file__).resolve().parents[2]

_FENCE: Final = re.compile(r"(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>[\w+-]*)")
_LINK: Final = re.compile(
    r"\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\(\s*<?(?P<inline>[^)\s>]+)>?[^)]*\)"
    r"|^ {0,3}\[[^\]]+\]:\s*(?P<reference>\S+)",
    re.MULTILINE,
)
_HEADING: Final = re.compile(r"#{1,6}\s+(.*?)\s*#*$")
_ANCHOR: Final = re.compile(r"<a\s+(?:id|name)=[\"']([^\"']+)")
_CODE: Final = re.compile(r"(`+)(.+?)\1(?!`)")


@frozen
class Block:
    """A fenced block: its language, its text, and the line of the page on which the text begins."""

    language: str
    text: str
    line: int
    #: Whether nothing but blank lines stands between it and the block before it.
    follows_directly: bool


@frozen
class Link:
    """A link: its text without backticks, where it leads, and the line where it begins."""

    text: str
    target: str
    line: int


@frozen
class Page:
    """A Markdown page of this project."""

    path: Path
    blocks: tuple[Block, ...]
    #: The lines that stand in no block, each with its number (1, 2, …).
    prose: tuple[tuple[int, str], ...]

    @property
    def name(self) -> str:
        """Its path from the top of the project."""
        return self.path.relative_to(ROOT).as_posix() if self.path.is_relative_to(ROOT) else self.path.name

    def links(self) -> Iterator[Link]:
        """Its links, those whose text goes over two lines too."""
        text = "\n".join(line for _, line in self.prose)
        for match in _LINK.finditer(_CODE.sub(lambda code: "`" * len(code[0]), text)):
            line, _ = self.prose[text.count("\n", 0, match.start())]
            words = text[match.start("text") : match.end("text")] if match["inline"] else ""
            yield Link(" ".join(words.replace("`", "").split()), match["inline"] or match["reference"], line)

    def anchors(self) -> set[str]:
        """What a link may point to inside it: the names that headings have on the web, and those given by hand."""
        found: set[str] = set()
        for _, line in self.prose:
            found.update(_ANCHOR.findall(line))
            heading = _HEADING.match(line)
            if heading:
                slug = _slug(heading[1])
                times = sum(1 for other in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other))
                found.add(f"{slug}-{times}" if times else slug)
        return found

    def code(self) -> Iterator[tuple[int, str]]:
        """The `code` in its text, each with its line."""
        for number, line in self.prose:
            for _, text in _CODE.findall(line):
                yield number, text.strip()


def pages() -> list[Page]:
    """All pages whose words are to be true: those at the top of the project, and all of docs/."""
    top = [*sorted(ROOT.glob("*.md")), ROOT / "llms.txt"]
    return [read_page(path) for path in [*top, *sorted((ROOT / "docs").rglob("*.md"))]]


def read_page(path: Path) -> Page:
    """The page in this file.

    Raises:
        ValueError: a fenced block has no end.
    """
    blocks: list[Block] = []
    prose: list[tuple[int, str]] = []
    directly = False
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            prose.append((number, line))
            directly = directly and not line.strip()
            continue
        text = _until_end(lines, fence, f"{path}:{number}: this block has no end")
        blocks.append(Block(fence["language"].lower(), text, number + 1, directly))
        directly = True
    return Page(path, tuple(blocks), tuple(prose))


def _until_end(lines: Iterator[tuple[int, str]], fence: re.Match[str], endless: str) -> str:
    text: list[str] = []
    for _, line in lines:
        if re.fullmatch(rf" *{fence['fence'][0]}{{{len(fence['fence'])},}}\s*", line):
            return "".join(f"{line}\n" for line in text)
        text.append(line.removeprefix(fence["indent"]))
    raise ValueError(endless)


def _slug(heading: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
