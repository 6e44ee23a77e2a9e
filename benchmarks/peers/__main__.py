"""Run every system on the same work, in turn, and print medians beside each other and beside the floor.

With `--json FILE` the medians are kept for `benchmarks.report`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from attrs import field, frozen
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.__main__ import machine
from benchmarks.measure import number
from benchmarks.peers.environments import NotHere, last_word, python_of
from benchmarks.peers.work import WORKS

ROOT = Path(__file__).parents[2]
ROUNDS = 5
_WORK_SECONDS = 300

PINNED = {
    "langgraph": ("langgraph==1.2.22", "langgraph-checkpoint-sqlite==3.1.2"),
    "dbos": ("dbos==3.4.0",),
}


@frozen
class System:
    """One way to do the work."""

    name: str
    module: str
    mode: str
    #: What a commit is kept through; systems are compared with Cortical under the same promise.
    kept: str
    #: The key of `PINNED`; None for what runs in this environment.
    peer: str | None = None
    works: tuple[str, ...] = tuple(WORKS)


FLOOR, OURS = "sqlite3 alone (the floor)", "Cortical"
KILL, POWER = "kill -9", "a power cut"
SYSTEMS = (
    System(FLOOR, "with_bare", "NORMAL", KILL),
    System(OURS, "with_cortical", "process", KILL),
    System(FLOOR, "with_bare", "FULL", POWER),
    System(OURS, "with_cortical", "power", POWER),
    System("LangGraph 1.2.22", "with_langgraph", "plain", POWER, "langgraph"),
    System("LangGraph 1.2.22, delta channel (beta)", "with_langgraph", "delta", POWER, "langgraph", ("growing",)),
    System("DBOS 3.4.0", "with_dbos", "", POWER, "dbos"),
)

#: Work → what is asked, and in which unit.
ASKED = {
    "steps": ("1,000 steps one after another, each committed before the next", "/s"),
    "children": ("200 children spawned, run for a step each, and joined by their parent", "/s"),
    "growing": ("store after 1,000 steps that add 1 KiB each", "MiB"),
}


@frozen
class Taken:
    """What a system reached in one work: a figure a round, or why there is none."""

    system: System
    figures: list[float] = field(factory=list)
    missing: NotHere | None = None


def measured(work: str, systems: Iterable[System], pythons: Mapping[str, Path | NotHere], rounds: int) -> list[Taken]:
    """Every system that does this work, round by round in turn; one that fails is not asked again."""
    taken = {system: Taken(system) for system in systems if work in system.works}
    for _ in range(rounds):
        for system, sofar in taken.items():
            if sofar.missing is None:
                found = once(work, system, pythons)
                if isinstance(found, NotHere):
                    taken[system] = Taken(system, missing=found)
                else:
                    sofar.figures.append(found)
    return list(taken.values())


def once(work: str, system: System, pythons: Mapping[str, Path | NotHere]) -> float | NotHere:
    """One round of one system in a process and a folder of its own: a rate, or a size in MiB."""
    python = pythons[system.peer] if system.peer else Path(sys.executable)
    if isinstance(python, NotHere):
        return python
    count = WORKS[work].count
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), "-m", f"benchmarks.peers.{system.module}", work, folder, system.mode, str(count)]
        try:
            ended = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=_WORK_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return NotHere(f"not done after {_WORK_SECONDS} s")
        except OSError as error:
            return NotHere(str(error))
    if ended.returncode != 0:
        return NotHere(last_word(ended.stderr) or f"exit {ended.returncode}")
    found = json.loads(ended.stdout.splitlines()[-1])
    return float(found["bytes"] / 2**20 if ASKED[work][1] == "MiB" else count / found["seconds"])


def table_of(work: str, taken: Sequence[Taken]) -> Table:
    """The medians, and each cost as so many times that of Cortical and of the floor under the same promise."""
    title, unit = ASKED[work]
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    table.add_column("system", min_width=30)
    table.add_column("kept through")
    for column in (f"median, {unit}", "lowest", "highest", "cost, Cortical = 1", "cost, floor = 1"):
        table.add_column(column, justify="right")
    standards = {(one.system.name, one.system.kept): median(one.figures) for one in taken if one.figures}
    for one in taken:
        name, kept = one.system.name, one.system.kept
        if one.missing is not None:
            table.add_row(f"{name}: not available here: {escape(one.missing.reason)}", kept)
            continue
        middle = median(one.figures)
        ratios = [_cost(middle, standards.get((standard, kept)), unit) for standard in (OURS, FLOOR)]
        table.add_row(name, kept, *map(number, (middle, min(one.figures), max(one.figures))), *ratios)
    return table


def _cost(reached: float, standard: float | None, unit: str) -> str:
    if not standard:
        return ""
    return f"{reached / standard if unit == 'MiB' else standard / reached:.2f}"


def kept(work: str, taken: Sequence[Taken]) -> list[dict[str, object]]:
    """The medians of a work, for the report: of each system, under each promise."""
    title, unit = ASKED[work]
    return [
        {"what": title, "unit": unit, "system": one.system.name, "kept": one.system.kept, "median": median(one.figures)}
        for one in taken
        if one.figures
    ]


def main(words: list[str]) -> int:
    """Make the environments, measure, and print a table for each work."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the medians are kept")
    asked = parser.parse_args(words)
    console = Console(width=140)
    console.print(f"{machine()}; load {os.getloadavg()[0]:.1f} at the beginning; medians of {ROUNDS} rounds in turn")
    pythons = {name: python_of(ROOT / ".venv" / "peers" / name, pinned) for name, pinned in PINNED.items()}
    told: list[dict[str, object]] = []
    for work in WORKS:
        rounds = 1 if ASKED[work][1] == "MiB" else ROUNDS
        taken = measured(work, SYSTEMS, pythons, rounds)
        told += kept(work, taken)
        console.print(table_of(work, taken))
    if asked.json is not None:
        asked.json.write_text(json.dumps(told, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
