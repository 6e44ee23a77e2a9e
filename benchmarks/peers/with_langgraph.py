"""LangGraph with its SQLite saver: a node that is entered again and again, and a subgraph for each child.

Each super-step is saved before the next begins (``durability="sync"``). The mode says how a log is kept: in an ordinary
channel with a reducer, or in the delta channel, which is in beta.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import uuid4

from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from benchmarks.peers.work import Do, doubled, line, main, successor


class Counting(TypedDict):
    """How far it has counted, and how far it is to count."""

    number: int
    count: int


class Family(TypedDict):
    """What a parent knows of its children."""

    count: int
    results: Annotated[list[int], operator.add]


class Child(TypedDict):
    """What a child knows."""

    number: int
    results: list[int]


def joined(log: list[str], writes: Sequence[list[str]]) -> list[str]:
    """The log with all that was added in a super-step."""
    return [*log, *(line for added in writes for line in added)]


class Log(TypedDict):
    """A log in an ordinary channel."""

    count: int
    log: Annotated[list[str], operator.add]


class DeltaLog(TypedDict):
    """A log in a channel that saves what was added, and all of it now and then."""

    count: int
    log: Annotated[list[str], DeltaChannel(joined)]


def stepping(_mode: str) -> Any:
    """One node that counts."""
    graph = StateGraph(Counting)
    graph.add_node("work", lambda state: {"number": successor(state["number"])})
    graph.add_edge(START, "work")
    graph.add_conditional_edges("work", lambda s: END if s["number"] >= s["count"] else "work", ["work", END])
    return graph


def parent(_mode: str) -> Any:
    """A subgraph for each number, all sent off at once."""
    child = StateGraph(Child)
    child.add_node("work", lambda state: {"results": [doubled(state["number"])]})
    child.add_edge(START, "work")
    child.add_edge("work", END)
    graph = StateGraph(Family)
    graph.add_node("child", child.compile())
    graph.add_conditional_edges(START, lambda s: [Send("child", {"number": n}) for n in range(s["count"])], ["child"])
    graph.add_edge("child", END)
    return graph


def growing(mode: str) -> Any:
    """One node that adds a line."""
    graph = StateGraph(DeltaLog if mode == "delta" else Log)
    graph.add_node("work", lambda state: {"log": [line(len(state["log"]))]})
    graph.add_edge(START, "work")
    graph.add_conditional_edges("work", lambda s: END if len(s["log"]) >= s["count"] else "work", ["work", END])
    return graph


#: Work → the graph, the part of its state that the work fills, and what that begins with.
GRAPHS: dict[str, tuple[Callable[[str], Any], str, Any]] = {
    "steps": (stepping, "number", 0),
    "children": (parent, "results", []),
    "growing": (growing, "log", []),
}


@contextmanager
def opened(work: str, file: Path, mode: str) -> Iterator[Do]:
    """A graph that is saved in a file."""
    build, filled, begin = GRAPHS[work]
    with SqliteSaver.from_conn_string(str(file)) as saver:
        graph = build(mode).compile(checkpointer=saver)

        def do(count: int) -> object:
            config = {"configurable": {"thread_id": str(uuid4())}, "recursion_limit": count + 10}
            found = graph.invoke({filled: begin, "count": count}, config, durability="sync")[filled]
            return len(found) if work == "growing" else found

        yield do


if __name__ == "__main__":
    main(opened)
