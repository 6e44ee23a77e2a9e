"""What importing costs, beside networkx alone, from compiled files as an installed package has them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable

from benchmarks.measure import Figure, rounds


def figures() -> list[Figure]:
    """Whole processes in turn: nothing imported, networkx, and the reasoning loops."""
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        works = [_importing(module, environment) for module in ("sys", "networkx", "cortical.reasoning", "cortical")]
        for compile_it in works:
            compile_it()
        bare, floor, ours, package = rounds(*works, times=15)
    return [
        Figure(
            "import cortical.reasoning",
            (ours - bare) / 1e3,
            "ms",
            (floor - bare) / 1e3 + 60,
            floor=(floor - bare) / 1e3,
            remark="asked: networkx's time and 60 ms; floor: networkx alone",
        ),
        Figure("python alone", bare / 1e3, "ms"),
        Figure("import cortical", (package - bare) / 1e3, "ms"),
    ]


def _importing(module: str, environment: dict[str, str]) -> Callable[[], int]:
    def work() -> int:
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True, env=environment)
        return 1

    return work
