"""The hierarchy in networkx."""

from __future__ import annotations

import networkx as nx

from cortical.reasoning import NestedLoopExecutor


def test_the_graph_is_as_networkx_makes_it(executor: NestedLoopExecutor) -> None:
    """The hierarchy is a graph of networkx, which answers from it; children stand in the order they were started."""
    root = executor.start_root("g")
    expected: nx.DiGraph[str] = nx.DiGraph()
    expected.add_node(root)
    parents = [root]
    for number in range(3):
        children = executor.spawn_children(parents[-1], [f"{number}.{child}" for child in range(3)])
        expected.add_edges_from((parents[-1], child) for child in children)
        parents.append(children[1])
    graph = executor.get_loop(root).run.tree.graph
    assert nx.utils.graphs_equal(graph, expected)
    assert all(list(graph.successors(node)) == list(expected.successors(node)) for node in expected)
    assert nx.ancestors(graph, parents[-1]) == set(parents[:-1])
    assert nx.is_arborescence(graph)
    assert nx.shortest_path(graph, root, parents[-1]) == parents


def test_the_graph_is_that_of_the_moment(executor: NestedLoopExecutor) -> None:
    """Each asking gives the hierarchy as it is then."""
    root = executor.start_root("g")
    tree = executor.get_loop(root).run.tree
    before = tree.graph
    child = executor.spawn_child(root, "sub")
    assert (list(before.nodes), list(tree.graph.edges)) == ([root], [(root, child)])
