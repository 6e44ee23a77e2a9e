"""The table of all figures: written by a program, and about what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from attrs import asdict

from benchmarks.__main__ import GROUPS
from benchmarks.measure import Figure
from benchmarks.report import BEGIN, END, PAGE, TITLES, table, written

FIGURES = [
    Figure("steps", 12_345.6, "/s", 10_000, "more", 20_000.0),
    Figure("an item", 7.0, "µs", None, "less", 2.0, 3.0, remark="floor: a call"),
    Figure("ids", 0, ""),
]
MEDIANS = [
    {"what": "steps", "unit": "/s", "system": "sqlite3 alone (the floor)", "kept": "a power cut", "median": 3000.0},
    {"what": "steps", "unit": "/s", "system": "Cortical", "kept": "a power cut", "median": 2000.0},
    {"what": "steps", "unit": "/s", "system": "Other 1.0", "kept": "a power cut", "median": 500.0},
]


def test_a_line_a_figure() -> None:
    """Each figure has a line that says whether it is as good as was asked, and how it stands beside its floor."""
    told = table({"machine": "a machine", "groups": {"driven": [asdict(figure) for figure in FIGURES]}}, MEDIANS)
    lines = told.splitlines()
    assert "Taken on a machine." in lines
    assert "| ✓ | steps | ≥ 10,000 | 12,346 /s | 20,000 | 1.62 |  |" in lines
    assert "| ✗ | an item (floor: a call) | ≤ 3 × floor | 7 µs | 2 | 3.50 |  |" in lines
    assert "|  | ids |  | 0 |  |  |  |" in lines
    assert "|  | steps, kept through a power cut |  | 2,000 /s | 3,000 | 1.50 | Other 1.0: 500 |" in lines


def test_the_table_stands_in_its_place() -> None:
    """Writing the page changes what is between its two marks, and needs them."""
    assert written(f"a\n{BEGIN}\nold\n{END}\nz\n", "new") == f"a\n{BEGIN}\n\nnew\n\n{END}\nz\n"
    with pytest.raises(ValueError, match="has no lines"):
        written("a page", "new")


def test_every_group_stands_in_the_table() -> None:
    """The page has a part for each group of benchmarks, and says of each line that was asked for whether it is met."""
    assert set(TITLES) == set(GROUPS)
    page = Path(PAGE).read_text(encoding="utf-8")
    told = page.partition(BEGIN)[2].partition(END)[0]
    assert set(re.findall(r"\| `(\w+)` \|", told)) == set(GROUPS)
    rows = [line.split(" | ") for line in told.splitlines() if line.startswith("| ") and "**" not in line]
    asked = [row for row in rows if len(row) > 2 and row[2].strip() and row[2] not in ("asked", "---:")]
    assert asked
    assert all(row[0] in ("| ✓", "| ✗") for row in asked)
