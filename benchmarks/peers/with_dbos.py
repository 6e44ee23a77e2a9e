"""DBOS on SQLite, as it is set up by default: steps of one workflow, and child workflows started and waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dbos import DBOS

from benchmarks.peers.work import Do, doubled, line, main, successor

add_one, double, add_line = (DBOS.step()(function) for function in (successor, doubled, line))


def stepping(count: int) -> int:
    """Count up."""
    number = 0
    for _ in range(count):
        number = add_one(number)
    return number


def child(number: int) -> object:
    """Double a number."""
    return double(number)


def parent(count: int) -> list[object]:
    """Start all children, then wait for each."""
    handles = [DBOS.start_workflow(child_workflow, number) for number in range(count)]
    return [handle.get_result() for handle in handles]


def growing(count: int) -> int:
    """Gather lines."""
    return len([add_line(number) for number in range(count)])


child_workflow = DBOS.workflow()(child)
WORKFLOWS: dict[str, Callable[[int], object]] = {
    "steps": DBOS.workflow()(stepping),
    "children": DBOS.workflow()(parent),
    "growing": DBOS.workflow()(growing),
}


@contextmanager
def opened(work: str, file: Path, mode: str) -> Iterator[Do]:
    """A workflow whose steps are kept in a file."""
    DBOS(config={"name": "peers", "system_database_url": f"sqlite:///{file}", "log_level": "WARNING"})
    DBOS.launch()
    try:
        yield WORKFLOWS[work]
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    main(opened)
