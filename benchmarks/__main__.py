"""Run the groups of benchmarks named, or all."""

from __future__ import annotations

import importlib
import os
import platform
import sqlite3
import sys
import time
from pathlib import Path

from benchmarks.measure import show

GROUPS = (
    "memory_speed",
    "durable_speed",
    "waiting_together",
    "driven",
    "batch",
    "control",
    "loop_stages",
    "large_trees",
    "monitoring",
    "stages",
    "stores",
    "sizes",
    "start_up",
    "package",
)


def machine() -> str:
    """What these figures were taken on."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def main(names: list[str]) -> int:
    """Print a table for each group; 2 when a name is unknown."""
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        print(f"no benchmark is called {', '.join(unknown)}; there are: {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    print(machine())
    began = time.perf_counter()
    for name in names or GROUPS:
        module = importlib.import_module(f"benchmarks.{name}")
        show(f"{name}: {(module.__doc__ or '').strip().splitlines()[0]}", module.figures())
    print(f"{time.perf_counter() - began:.0f} s in all")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
