"""Pipelines: the order of their stages, beside graphlib and networkx; carrying them out, beside what it could cost."""

from __future__ import annotations

import gc
import random
import sqlite3
import tempfile
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path

import networkx as nx

from benchmarks.measure import Figure, rounds
from cortical.core.ids import new_id
from cortical.stages import Pipeline, Stage, execute, stage
from cortical.stages.context import StageContext
from cortical.stages.dependency import Dependencies
from cortical.store import open_store

Edges = list[tuple[str, str]]

_COUNT = 10_000


def figures() -> list[Figure]:
    """The order of 10,000 stages in several shapes and of a chain of 50,000; what making and checking costs."""
    found = []
    for shape, edges in _shapes(_COUNT).items():
        ours, theirs, other = _ordering(_COUNT, edges)
        found.append(Figure(f"order of 10,000 stages, {shape}", ours, "µs a stage", floor=theirs, remark="graphlib"))
        found.append(Figure(f"order of 10,000 stages, {shape}", ours, "µs a stage", floor=other, remark="networkx"))
    chains = {count: _ordering(count, _chain_backwards(count))[0] for count in (5_000, 50_000)}
    found.append(
        Figure(
            "order of a chain of 50,000 put in backwards",
            chains[50_000],
            "µs a stage",
            floor=chains[5_000],
            within=3.0,
            remark="floor: 5,000",
        )
    )
    edges = _shapes(_COUNT)["three edges each, in order"]
    stages = _stages(_COUNT, edges)
    made, checked = rounds(lambda: _made(stages, edges), lambda: _checked(stages, edges), times=3)
    found.append(Figure("a pipeline of 10,000 stages made", made, "µs a stage"))
    found.append(Figure("… made and checked, each reading what the others write", checked, "µs a stage"))
    return found + _carried_out()


def _carried_out() -> list[Figure]:
    many, few = _pipeline(_COUNT), _pipeline(1_000)
    long = _pipeline(50_000)
    gc.freeze()  # what these hold is no part of what carrying them out costs
    order, memory, plain = rounds(
        _counting(_COUNT, many.order), lambda: _executed(many), lambda: _called(many), times=5
    )
    longest = rounds(lambda: _executed(long), times=3)[0]
    over = memory - order
    gc.unfreeze()
    with tempfile.TemporaryDirectory() as folder:
        durable, bare, found = rounds(
            lambda: _kept(Path(folder), few),
            lambda: _bare(Path(folder), len(few)),
            lambda: _bare(Path(folder), len(few), ids=True),
            times=9,
        )
    return [
        Figure(
            "10,000 no-op stages in memory", over, "µs a stage", asked=15.0, floor=plain, remark="floor: plain calls"
        ),
        Figure("… a chain of 50,000", longest, "µs a stage", floor=memory, within=1.5, remark="floor: 10,000"),
        Figure(
            "1,000 no-op stages on disk", durable, "µs a stage", floor=bare, within=3.0, remark="floor: bare commits"
        ),
        Figure("… each found by its id", durable, "µs a stage", floor=found, remark="floor: commits with an id each"),
    ]


def _pipeline(count: int) -> Pipeline:
    """A chain: nothing can be done together."""
    return Pipeline("chain", _stages(count, []), [(f"s:{n}", f"s:{n + 1}") for n in range(count - 1)])


def _executed(pipeline: Pipeline) -> int:
    assert execute(pipeline).ok
    return len(pipeline)


def _called(pipeline: Pipeline) -> int:
    context = StageContext()
    for one in pipeline.stages.values():
        one.run(context)
    return len(pipeline)


def _kept(folder: Path, pipeline: Pipeline) -> int:
    path = folder / "runs.db"
    store = open_store(path)
    assert execute(pipeline, store=store).ok
    store.close()
    for left in folder.glob("runs.db*"):
        left.unlink()
    return len(pipeline)


def _bare(folder: Path, count: int, *, ids: bool = False) -> int:
    """As many commits, each of as many bytes as the end of one stage and the beginning of the next take.

    Args:
        ids: with a second row in each, by which the run that it begins can be found again by its id.
    """
    path = folder / "bare.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE log (number INTEGER PRIMARY KEY, events BLOB)")
    connection.execute("CREATE TABLE runs (id TEXT PRIMARY KEY, root TEXT NOT NULL) WITHOUT ROWID")
    for number in range(count):
        if ids:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO runs VALUES (?, ?)", (new_id(), "r" * 20))
        connection.execute("INSERT INTO log VALUES (?, ?)", (number, b"x" * 300))
        if ids:
            connection.execute("COMMIT")
    connection.close()
    for left in folder.glob("bare.db*"):
        left.unlink()
    return count


def _shapes(count: int) -> dict[str, Edges]:
    dice = random.Random(1)
    named = [f"s:{number}" for number in range(count)]
    in_order = [(named[dice.randrange(n)], named[n]) for n in range(1, count) for _ in range(3)]
    shuffled = dice.sample(named, count)
    place = dict(zip(named, shuffled, strict=True))
    return {
        "no edges": [],
        "three edges each, in order": in_order,
        "three edges each, put in at random": [(place[one], place[other]) for one, other in in_order],
        "a chain put in backwards": _chain_backwards(count),
    }


def _chain_backwards(count: int) -> Edges:
    return [(f"s:{n + 1}", f"s:{n}") for n in range(count - 1)]


def _ordering(count: int, edges: Edges) -> list[float]:
    names = [f"s:{number}" for number in range(count)]
    ours = Dependencies()
    above: dict[str, list[str]] = {name: [] for name in names}
    theirs: nx.DiGraph[str] = nx.DiGraph()
    theirs.add_nodes_from(names)
    theirs.add_edges_from(edges)
    for name in names:
        ours.add(name)
    for one, other in edges:
        ours.link(one, other)
        above[other].append(one)
    gc.collect()
    return rounds(
        _counting(count, ours.order),
        _counting(count, lambda: list(TopologicalSorter(above).static_order())),
        _counting(count, lambda: list(nx.topological_sort(theirs))),
    )


def _counting(count: int, work: Callable[[], object]) -> Callable[[], int]:
    def counted() -> int:
        work()
        return count

    return counted


def _stages(count: int, edges: Edges) -> list[Stage]:
    def nothing(context: StageContext) -> None:
        return None

    reads: dict[str, list[str]] = {}
    for one, other in dict.fromkeys(edges):
        reads.setdefault(other, []).append(f"key of {one}")
    names = [f"s:{number}" for number in range(count)]
    return [stage(name, reads=reads.get(name, ()), writes=[f"key of {name}"])(nothing) for name in names]


def _made(stages: list[Stage], edges: Edges) -> int:
    Pipeline("many", stages, edges).order()
    return len(stages)


def _checked(stages: list[Stage], edges: Edges) -> int:
    Pipeline("many", stages, edges).validate()
    return len(stages)
