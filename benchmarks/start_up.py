"""What importing costs, beside networkx alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from benchmarks.measure import Figure, rounds


def figures() -> list[Figure]:
    """Whole processes in turn: nothing imported, networkx, and the reasoning loops."""
    bare, floor, ours, package = rounds(
        _importing("sys"), _importing("networkx"), _importing("cortical.reasoning"), _importing("cortical"), times=15
    )
    return [
        Figure("import cortical.reasoning, beyond networkx", (ours - floor) / 1e3, "ms", 60),
        Figure("import networkx", (floor - bare) / 1e3, "ms"),
        Figure("import cortical", (package - bare) / 1e3, "ms"),
    ]


def _importing(module: str) -> Callable[[], int]:
    def work() -> int:
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
        return 1

    return work
