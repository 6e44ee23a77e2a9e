"""Which stage waits for which: one graph, with an edge from each dependency to its dependent.

Everything here is iterative and goes by the order in which stages were put in, so a chain of any length works and the
answer is the same each time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import networkx as nx

from cortical.stages.errors import DependencyCycle

if TYPE_CHECKING:

    class Graph(nx.DiGraph[str]):
        _succ: dict[str, dict[str, dict[str, Any]]]
        _pred: dict[str, dict[str, dict[str, Any]]]

else:
    Graph = nx.DiGraph

#: How many starting points are followed at a time when it is asked who reaches whom.
_AT_A_TIME: Final = 4096


class Dependencies:
    """Names in the order they were added, and which comes after which."""

    def __init__(self) -> None:
        self.graph = Graph()

    def copy(self) -> Dependencies:
        """The same, to be changed on its own."""
        twin = Dependencies()
        twin.graph = self.graph.copy()
        return twin

    def add(self, name: str) -> None:
        """Add a name; nothing happens when it is there."""
        self.graph.add_node(name)

    def link(self, before: str, after: str, why: str = "edge") -> None:
        """Let `after` wait for `before`, both of which are there. The reason that was given first is kept."""
        if not self.graph.has_edge(before, after):
            self.graph.add_edge(before, after, why=why)

    def unlink(self, before: str, after: str) -> None:
        """Take an edge out again."""
        self.graph.remove_edge(before, after)

    def link_safely(self, before: str, after: str) -> bool:
        """Let `after` wait for `before`; whether that is new.

        Raises:
            DependencyCycle: `before` waits for `after` already; nothing was changed.
        """
        if self.graph.has_edge(before, after):
            return False
        path = self.path(after, before)
        if path is not None:
            raise DependencyCycle([*path, after])
        self.link(before, after)
        return True

    def path(self, start: str, end: str) -> list[str] | None:
        """A way along the edges, both ends included; None where there is none.

        It is sought from both ends, so that it costs little where one of them has little behind or before it.
        """
        if start == end:
            return [start]
        if not (self.graph._succ[start] and self.graph._pred[end]):
            return None
        try:
            found: list[str] = nx.bidirectional_shortest_path(self.graph, start, end)
        except nx.NetworkXNoPath:
            return None
        return found

    def order(self) -> list[str]:
        """All names, each after those it waits for; of those that may come next always the one that was added first.

        Raises:
            DependencyCycle: some wait for each other.
        """
        names = list(self.graph)
        if self._stands_in_order(names):
            return names
        ordered = self._sorted(names)
        if len(ordered) < len(names):
            raise DependencyCycle(self._cycle_among(set(names).difference(ordered)))
        return ordered

    def cycles(self) -> list[list[str]]:
        """One cycle of each group of names that wait for each other: a, b, c, a. None where there is an order."""
        names = list(self.graph)
        if self._stands_in_order(names):
            return []
        ordered = self._sorted(names)
        left: Any = self.graph.subgraph(set(names).difference(ordered))
        number = {name: n for n, name in enumerate(names)}
        groups = [
            group
            for group in nx.strongly_connected_components(left)
            if len(group) > 1 or any(self.graph.has_edge(name, name) for name in group)
        ]
        return [
            self._cycle_among(group) for group in sorted(groups, key=lambda group: min(number[name] for name in group))
        ]

    def _stands_in_order(self, names: Sequence[str]) -> bool:
        seen: set[str] = set()
        for name, waits_for in zip(names, self.graph._pred.values(), strict=True):
            if waits_for and not waits_for.keys() <= seen:
                return False
            seen.add(name)
        return True

    def _sorted(self, names: Sequence[str]) -> list[str]:
        """As far as there is an order."""
        number = {name: n for n, name in enumerate(names)}
        after = [[number[name] for name in below] for below in self.graph._succ.values()]
        waiting = [len(above) for above in self.graph._pred.values()]
        ready = [n for n, count in enumerate(waiting) if not count]  # in order, and so a heap
        found: list[str] = []
        while ready:
            n = heapq.heappop(ready)
            found.append(names[n])
            for below in after[n]:
                waiting[below] -= 1
                if not waiting[below]:
                    heapq.heappush(ready, below)
        return found

    def _cycle_among(self, names: set[str]) -> list[str]:
        """A cycle among names each of which waits for another of them; it begins with that which was added first."""
        number = {name: n for n, name in enumerate(self.graph) if name in names}
        name = next(iter(number))
        seen: dict[str, int] = {}
        while name not in seen:
            seen[name] = len(seen)
            name = min((above for above in self.graph._pred[name] if above in names), key=number.__getitem__)
        cycle = list(seen)[seen[name] :][::-1]
        first = cycle.index(min(cycle, key=number.__getitem__))
        return [*cycle[first:], *cycle[: first + 1]]

    def waves(self) -> list[list[str]]:
        """Those that wait for nobody, those that wait only for these, and so on; in each, as in `order`.

        Raises:
            DependencyCycle: some wait for each other.
        """
        depth: dict[str, int] = {}
        waves: list[list[str]] = []
        for name in self.order():
            depth[name] = level = 1 + max((depth[above] for above in self.graph._pred[name]), default=-1)
            if level == len(waves):
                waves.append([])
            waves[level].append(name)
        return waves

    def critical_path(self, seconds: Callable[[str], float]) -> tuple[list[str], float]:
        """The chain that takes longest, and how long: no number of workers can be done sooner.

        Args:
            seconds: how long each takes.

        Raises:
            DependencyCycle: some wait for each other.
        """
        done: dict[str, float] = {}
        last_above: dict[str, str | None] = {}
        for name in self.order():
            above = max(self.graph._pred[name], key=done.__getitem__, default=None)
            last_above[name] = above
            done[name] = seconds(name) + (0.0 if above is None else done[above])
        if not done:
            return [], 0.0
        last: str | None = max(done, key=done.__getitem__)
        path = []
        total = done[last] if last is not None else 0.0
        while last is not None:
            path.append(last)
            last = last_above[last]
        return path[::-1], total

    def above(self, names: Iterable[str]) -> set[str]:
        """All that these wait for, directly or not, and they themselves."""
        return _closed(names, self.graph._pred)

    def below(self, names: Iterable[str]) -> set[str]:
        """All that wait for these, directly or not, and they themselves."""
        return _closed(names, self.graph._succ)

    def reaching(self, pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of the pairs whose second waits, directly or not, for the first.

        Raises:
            DependencyCycle: some wait for each other.
        """
        asked = set(pairs)
        found = {pair for pair in asked if pair[0] in self.graph._pred[pair[1]]}
        ends: dict[str, list[str]] = {}
        for start, end in asked - found:
            ends.setdefault(start, []).append(end)
        starts = list(ends)
        order = self.order() if starts else []
        for begin in range(0, len(starts), _AT_A_TIME):
            some = starts[begin : begin + _AT_A_TIME]
            found.update(self._reached(order, {start: ends[start] for start in some}))
        return found

    def _reached(self, order: Sequence[str], ends: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
        bit = {start: 1 << n for n, start in enumerate(ends)}
        reached: dict[str, int] = {}
        for name in order:
            behind = 0
            for above in self.graph._pred[name]:
                behind |= reached[above] | bit.get(above, 0)
            reached[name] = behind
        for start, wanted in ends.items():
            yield from ((start, end) for end in wanted if reached[end] & bit[start])


def _closed(names: Iterable[str], next_to: Mapping[str, Iterable[str]]) -> set[str]:
    """These, what is next to them, what is next to that, and so on."""
    found = set(names)
    waiting = list(found)
    while waiting:
        new = [one for one in next_to[waiting.pop()] if one not in found]
        found.update(new)
        waiting.extend(new)
    return found
