"""Run the groups of benchmarks named, or all; with `--json FILE` the figures are kept for `benchmarks.report`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sqlite3
import sys
import time
from pathlib import Path

from attrs import asdict

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
    "million",
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


def main(words: list[str]) -> int:
    """Print a table for each group; 2 when a name is unknown."""
    asked = _parser().parse_args(words)
    unknown = [name for name in asked.groups if name not in GROUPS]
    if unknown:
        print(f"no benchmark is called {', '.join(unknown)}; there are: {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    print(f"{machine()}; load {os.getloadavg()[0]:.1f} at the beginning")
    began = time.perf_counter()
    kept: dict[str, list[dict[str, object]]] = {}
    for name in asked.groups or GROUPS:
        module = importlib.import_module(f"benchmarks.{name}")
        figures = module.figures()
        kept[name] = [asdict(figure) for figure in figures]
        show(f"{name}: {(module.__doc__ or '').strip().splitlines()[0]}", figures)
    print(f"{time.perf_counter() - began:.0f} s in all")
    if asked.json is not None:
        asked.json.write_text(json.dumps({"machine": machine(), "groups": kept}, indent=1), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures are kept")
    return parser


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
