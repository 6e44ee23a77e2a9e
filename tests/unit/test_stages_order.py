"""The order of stages: who waits for whom, ties by insertion, and cycles named as they are."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from cortical.stages import DependencyCycle
from cortical.stages.dependency import Dependencies

Edges = list[tuple[int, int]]


def graph_of(count: int, edges: Edges) -> Dependencies:
    graph = Dependencies()
    for number in range(count):
        graph.add(str(number))
    for before, after in edges:
        graph.link(str(before), str(after))
    return graph


@st.composite
def dags(draw: st.DrawFn) -> tuple[int, Edges]:
    """A count, and edges without a cycle whose ends were put in at random."""
    count = draw(st.integers(1, 30))
    place = draw(st.permutations(range(count)))
    pairs = draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=80))
    return count, [(place[min(pair)], place[max(pair)]) for pair in pairs if pair[0] != pair[1]]


any_graph = st.integers(1, 15).flatmap(
    lambda count: st.tuples(
        st.just(count), st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=30)
    )
)


def plainly_ordered(count: int, edges: Edges) -> list[str]:
    """Again and again the first put in that waits for nothing left: the meaning, without any cleverness."""
    left = list(range(count))
    order = []
    while left:
        ready = next(n for n in left if not any(after == n and before in left for before, after in edges))
        left.remove(ready)
        order.append(str(ready))
    return order


@given(dags())
def test_the_order(dag: tuple[int, Edges]) -> None:
    """It respects every edge, takes the first put in of those that may come next, and is the same each time."""
    count, edges = dag
    order = graph_of(count, edges).order()
    place = {int(name): number for number, name in enumerate(order)}
    assert sorted(place) == list(range(count))
    assert all(place[before] < place[after] for before, after in edges)
    assert order == plainly_ordered(count, edges)
    shuffled = random.Random(1).sample(edges, len(edges))
    assert graph_of(count, shuffled).order() == order
    assert graph_of(count, edges).cycles() == []


@given(any_graph)
def test_cycles_are_true(drawn: tuple[int, Edges]) -> None:
    """Where there is no order, a cycle is named whose every step is an edge, once for each group; else there is one."""
    count, edges = drawn
    graph = graph_of(count, edges)
    cycles = graph.cycles()
    for cycle in cycles:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        assert all(graph.graph.has_edge(*step) for step in pairwise(cycle))
        assert int(cycle[0]) == min(map(int, cycle))
    named = {name for cycle in cycles for name in cycle}
    assert sum(len(set(cycle)) for cycle in cycles) == len(named)
    if cycles:
        with pytest.raises(DependencyCycle) as refusal:
            graph.order()
        path = refusal.value.path
        assert all(graph.graph.has_edge(*step) for step in pairwise(path))
    else:
        assert len(graph.order()) == count


@given(dags())
def test_reaching(dag: tuple[int, Edges]) -> None:
    """Who waits for whom, directly or not, is what following the edges says."""
    count, edges = dag
    graph = graph_of(count, edges)
    pairs = [(str(one), str(other)) for one in range(count) for other in range(count) if one != other]
    true = {(one, other) for one, other in pairs if one in graph.above([other])}
    assert graph.reaching(pairs) == true
    assert all((graph.path(*pair) is not None) == (pair in true) for pair in pairs)


@given(dags())
def test_waves(dag: tuple[int, Edges]) -> None:
    """Each stands in the wave after the last of those it waits for, and in each wave as in the order."""
    count, edges = dag
    graph = graph_of(count, edges)
    waves = graph.waves()
    level = {int(name): number for number, wave in enumerate(waves) for name in wave}
    for number in range(count):
        assert level[number] == 1 + max((level[before] for before, after in edges if after == number), default=-1)
    order = {name: number for number, name in enumerate(graph.order())}
    assert all(wave == sorted(wave, key=order.__getitem__) for wave in waves)


@given(dags())
def test_the_critical_path(dag: tuple[int, Edges]) -> None:
    """It is a chain of edges, and no chain takes longer."""
    count, edges = dag
    graph = graph_of(count, edges)
    seconds = {str(number): float(number % 7) for number in range(count)}
    path, total = graph.critical_path(seconds.__getitem__)
    assert total == sum(seconds[name] for name in path)
    assert all(graph.graph.has_edge(*step) for step in pairwise(path))
    longest: dict[str, float] = {}
    for name in graph.order():
        longest[name] = seconds[name] + max((longest[above] for above in graph.graph.pred[name]), default=0.0)
    assert total == max(longest.values())


def test_plain_orders() -> None:
    """The diamond, none at all, no edges, and three listed c, a, b with edges."""
    diamond = graph_of(4, [(0, 1), (0, 2), (1, 3), (2, 3)])
    assert diamond.order() == ["0", "1", "2", "3"]
    assert Dependencies().order() == Dependencies().waves() == []
    assert Dependencies().critical_path(lambda _: 1.0) == ([], 0.0)
    assert graph_of(3, []).order() == ["0", "1", "2"]
    listed = Dependencies()
    for name in "cab":
        listed.add(name)
    listed.link("a", "b")
    listed.link("b", "c")
    assert listed.order() == ["a", "b", "c"]


def test_a_chain_of_fifty_thousand() -> None:
    """A long chain put in backwards has its order, waves, path, cycle and reach; nothing recurses."""
    count = 50_000
    graph = graph_of(count, [(n + 1, n) for n in range(count - 1)])
    order = graph.order()
    assert order == [str(n) for n in reversed(range(count))]
    assert len(graph.waves()) == count
    assert graph.critical_path(lambda _: 1.0)[1] == count
    assert graph.reaching([(order[0], order[-1]), (order[-1], order[0])]) == {(order[0], order[-1])}
    graph.link(order[-1], order[0])
    assert len(graph.cycles()[0]) == count + 1


def test_a_cycle_is_named_in_order() -> None:
    """a → b → c → a, though c was linked first and others wait for the cycle."""
    graph = Dependencies()
    for name in "abcd":
        graph.add(name)
    for before, after in ("ca", "bc", "ab", "cd"):
        graph.link(before, after)
    with pytest.raises(DependencyCycle, match="a → b → c → a"):
        graph.order()
    assert graph.cycles() == [["a", "b", "c", "a"]]


def test_one_that_waits_for_itself() -> None:
    """A stage that waits for itself is a cycle of one."""
    graph = graph_of(2, [(1, 1)])
    assert graph.cycles() == [["1", "1"]]
