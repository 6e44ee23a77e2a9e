"""Pipelines: the order of their stages, beside graphlib and networkx."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from graphlib import TopologicalSorter

import networkx as nx

from benchmarks.measure import Figure, rounds
from cortical.stages import Pipeline, Stage, stage
from cortical.stages.context import StageContext
from cortical.stages.dependency import Dependencies

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
    return found


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
