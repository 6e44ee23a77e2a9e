"""The reference says what the docstrings say."""

from __future__ import annotations

import runpy
from difflib import unified_diff

import pytest

from tests.docs.markdown import ROOT

REFERENCE = ROOT / "docs" / "reference"
BUILT: dict[str, str] = runpy.run_path(str(ROOT / "docs" / "build_reference.py"))["build"]()


@pytest.mark.parametrize("name", BUILT)
def test_page_is_as_built(name: str) -> None:
    """The page in the repository is the one that the script makes from the docstrings of today."""
    page = REFERENCE / name
    kept = page.read_text(encoding="utf-8") if page.exists() else ""
    difference = "\n".join(
        unified_diff(kept.splitlines(), BUILT[name].splitlines(), f"docs/reference/{name}", "as built", "", "", 0, "")
    )
    assert not difference, f"out of date; run: python docs/build_reference.py\n{difference}"


def test_no_page_is_left_over() -> None:
    """No page of the reference describes something that is no longer there."""
    assert {page.name for page in REFERENCE.glob("*.md")} == BUILT.keys()
