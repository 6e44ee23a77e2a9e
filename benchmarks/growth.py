"""Draw how costs grow with what is there already: each line should be flat.

::

    python -m benchmarks.growth docs/growth.svg

Needs matplotlib (`pip install 'cortical[charts]'`). One point is the median of several rounds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import rounds, seconds
from cortical.batch import BatchProcessor
from cortical.control import LoopController, max_iterations
from cortical.reasoning import NestedLoopExecutor
from cortical.stages import Pipeline, execute, stage
from cortical.store import open_store

#: How much is there already.
SIZES = (100, 1_000, 10_000, 100_000)
_STEPS = 2_000

Line = Mapping[int, float]


def steps(store: str | None) -> Line:
    """Microseconds of a step of one loop, after so many."""
    executor = NestedLoopExecutor(store=store)
    root = executor.start_root("g")
    found: dict[int, float] = {}
    done = 0
    for size in SIZES:
        with executor.transaction():
            for _ in range(size - done):
                executor.advance(root)

        def work() -> int:
            for _ in range(_STEPS):
                executor.advance(root)
            return _STEPS

        found[size] = rounds(work, times=5)[0]
        done = size + 5 * _STEPS
    return found


def children() -> Line:
    """Microseconds to spawn a child and complete it, with so many held."""
    executor = NestedLoopExecutor()
    root = executor.start_root("g")

    def pairs(count: int) -> int:
        for _ in range(count):
            executor.complete(executor.spawn_child(root, "sub"))
        return count

    found: dict[int, float] = {}
    held = 0
    for size in SIZES:
        pairs(max(0, size - held))
        found[size] = rounds(lambda: pairs(1_000), times=5)[0]
        held = size + 5_000
    return found


def stages() -> Line:
    """Microseconds a stage of a chain of so many that do nothing."""

    def chain(size: int) -> Pipeline:
        made = [stage(f"s:{number}")(lambda context: None) for number in range(size)]
        return Pipeline("chain", made, [(f"s:{number}", f"s:{number + 1}") for number in range(size - 1)])

    def work(pipeline: Pipeline) -> Callable[[], int]:
        return lambda: (execute(pipeline), len(pipeline))[1]

    return {size: rounds(work(chain(size)), times=3)[0] for size in (100, 1_000, 10_000, 50_000)}


def items(folder: Path) -> Line:
    """Microseconds an item of a batch of so many that do nothing."""

    def work(size: int) -> Callable[[], int]:
        def run() -> int:
            assert BatchProcessor(folder, "b", lambda item, task, context: item).run(range(size)).ok
            return size

        return run

    return {size: rounds(work(size), times=3)[0] for size in SIZES}


def iterations() -> Line:
    """Microseconds an iteration of a controlled loop of so many that do nothing."""

    def work(size: int) -> Callable[[], int]:
        def run() -> int:
            with LoopController("loop", stop_when=max_iterations(size)) as loop:
                loop.run(lambda state: None)
            return size

        return run

    return {size: rounds(work(size), times=3)[0] for size in SIZES}


def opened(folder: Path) -> Line:
    """Microseconds to open a store with so many ended loops."""
    path = folder / "many.db"
    found: dict[int, float] = {}
    held = 0
    with NestedLoopExecutor(store=str(path)) as executor:
        for size in SIZES:
            while held < size:
                with executor.transaction():
                    root = executor.start_root("g")
                    for child in executor.spawn_children(root, ["sub"] * 99):
                        executor.complete(child)
                    executor.complete(root)
                held += 100
            found[size] = seconds(lambda: open_store(path).close(), times=15) * 1e6
    return found


def drawn(lines: Mapping[str, Line], path: Path) -> None:
    """The picture: what each costs beside what it costs at the beginning, over how much is there."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "growth", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        axes: Any = figure.subplots()
        for name, line in lines.items():
            sizes: Sequence[int] = sorted(line)
            label = f"{name}: {line[sizes[-1]]:.3g} µs at {sizes[-1]:,}"
            axes.plot(sizes, [line[size] / line[sizes[0]] for size in sizes], marker="o", markersize=4, label=label)
        axes.set(
            xscale="log", ylim=(0, None), xlabel="what is there already", ylabel="cost, beside that of the first point"
        )
        axes.grid(visible=True, alpha=0.3)
        axes.legend(loc="lower left", fontsize="small", frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def main(words: list[str]) -> int:
    """Measure, and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("picture", type=Path)
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = {
            "step in memory": steps(None),
            "step on disk": steps(str(folder / "steps.db")),
            "child, in memory": children(),
            "stage of a chain": stages(),
            "item of a batch": items(folder),
            "iteration of a loop": iterations(),
            "opening a store": opened(folder),
        }
    drawn(lines, asked.picture)
    for what, line in lines.items():
        print(f"{what}: " + ", ".join(f"{size:,}: {cost:.3g} µs" for size, cost in line.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
