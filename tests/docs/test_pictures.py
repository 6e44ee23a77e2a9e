"""The pictures of the terminal show what the commands print."""

from __future__ import annotations

import re
import runpy
from html import unescape
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, pages

PICTURES = ROOT / "docs" / "pictures"
MOST_BYTES = 30_000


@pytest.fixture(scope="module")
def built() -> dict[str, str]:
    """The pictures as the script makes them today."""
    made: dict[str, str] = runpy.run_path(str(ROOT / "docs" / "build_pictures.py"))["build"]()
    return made


def shown(svg: str) -> list[str]:
    """The lines of a picture, without its colours: how a picture is written down changes with Rich's version."""
    lines: dict[float, dict[float, str]] = {}
    for x, y, text in re.findall(r'<text [^>]*?x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', svg):
        lines.setdefault(float(y), {})[float(x)] = unescape(text).replace("\xa0", " ")
    return ["".join(parts[x] for x in sorted(parts)).rstrip() for _, parts in sorted(lines.items())]


def test_pictures_are_as_built(built: dict[str, str]) -> None:
    """Each picture in the repository shows what its commands print today, and none is left over."""
    again = "run: python docs/build_pictures.py"
    kept = {file.name: file.read_text(encoding="utf-8") for file in PICTURES.glob("*.svg")}
    assert kept.keys() == built.keys(), again
    for name, svg in built.items():
        assert shown(svg), f"{name} shows nothing"
        assert shown(kept[name]) == shown(svg), f"{name} is out of date; {again}"


def test_pictures_stand_alone(built: dict[str, str]) -> None:
    """A picture is small, loads nothing from elsewhere, and says nothing of the machine it was made on."""
    for name, svg in built.items():
        assert len(svg.encode()) < MOST_BYTES, name
        assert re.findall(r"https?://[^\s\"'<>]+", svg) == ["http://www.w3.org/2000/svg"], name
        assert not re.search(r"url\((?!#)|<script|@import", svg), name
        assert str(Path.home()) not in svg, name
        assert str(ROOT) not in svg, name


def test_every_picture_is_on_a_page(built: dict[str, str]) -> None:
    """No picture is made for nothing."""
    linked = {Path(link.target).name for page in pages() for link in page.links()}
    assert built.keys() <= linked
