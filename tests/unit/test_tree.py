"""The hierarchy in networkx."""

from __future__ import annotations

import networkx as nx

from cortical.reasoning import NestedLoopExecutor


def test_the_graph_is_as_networkx_makes_it(executor: NestedLoopExecutor) -> None:
    """The hierarchy kept by hand has the nodes, edges and answers of one that networkx built."""
    root = executor.start_root("g")
    expected: nx.DiGraph[str] = nx.DiGraph()
    expected.add_node(root)
    parents = [root]
    for number in range(3):
        children = executor.spawn_children(parents[-1], [f"{number}.{child}" for child in range(3)])
        expected.add_edges_from((parents[-1], child) for child in children)
        parents.append(children[1])
    graph = executor.get_loop(root).run.tree.graph
    assert list(graph.nodes) == list(expected.nodes)
    assert list(graph.edges) == list(expected.edges)
    assert nx.utils.graphs_equal(nx.DiGraph(graph), expected)
    assert nx.ancestors(graph, parents[-1]) == set(parents[:-1])
    assert nx.is_arborescence(graph)
    assert dict(graph.in_degree()) == dict(expected.in_degree())
    assert list(graph.reverse().edges) == list(expected.reverse().edges)
    assert nx.shortest_path(graph, root, parents[-1]) == parents


def test_the_graph_notices_new_children(executor: NestedLoopExecutor) -> None:
    """What networkx remembers of the graph is forgotten when a child comes."""
    root = executor.start_root("g")
    graph = executor.get_loop(root).run.tree.graph
    assert list(graph.adj[root]) == []
    child = executor.spawn_child(root, "sub")
    assert list(graph.adj[root]) == list(graph.succ[root]) == [child]
    assert list(graph.pred[child]) == [root]
