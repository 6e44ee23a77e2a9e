"""A minute in which four processes share one store, and are killed, stopped and out of disk."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Final

import pytest

from tests.soak.harness import soak

SECONDS: Final = float(os.environ.get("CORTICAL_SOAK_SECONDS", "60"))
SEED: Final = int(os.environ.get("CORTICAL_SOAK_SEED") or random.randrange(2**32))


@pytest.mark.timeout(3 * SECONDS + 240)
def test_soak(tmp_path: Path) -> None:
    """Whatever happens to the processes: no lost event, no fork, no open child, no budget overshot, nothing redone."""
    report = soak(tmp_path, seconds=SECONDS, seed=SEED)
    assert not report.problems, str(report)
    for figure in ("kills", "long stops", "disk-full failures", "take-overs", "looks", "trees"):
        assert report.figures.get(figure), f"it never came to that: {figure}\n{report}"
    assert report.figures["trees ended"] == report.figures["trees"]
