"""What subscribers cost a hot loop: a controlled one, in memory, with an empty body.

The floor is the same loop with no subscriber. A handler has a thread of its own, so that one that does something shares
the interpreter with the loop; none may stop it, and one that raises or waits for ever costs no more than a quick one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from statistics import median

from benchmarks.measure import Figure
from cortical.control import LoopController
from cortical.core import rules
from cortical.core.conditions import max_iterations
from cortical.core.events import Event
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.phases import ITERATION
from cortical.monitoring import Anomalies, EventBus, Metrics
from cortical.store import MemoryStore

ITERATIONS = 20_000
MANY = 100_000
ROUNDS = 5
#: The most that being listened to may cost, times the loop that nobody listens to.
WITHIN = 1.25

Handler = Callable[[Event], object]


def figures() -> list[Figure]:
    """Seconds of a loop with each kind of subscriber, beside the loop with none."""
    logging.getLogger("cortical").setLevel(logging.CRITICAL)  # five tracebacks a round
    works: dict[str, Callable[[], float]] = {
        "a handler that counts": lambda: _loop(ITERATIONS, _Counting().hear),
        "a handler that raises (dropped after five)": lambda: _loop(ITERATIONS, _raise),
        "a handler that never returns": lambda: _blocked(ITERATIONS),
        "a thousand runs watched by one handler": lambda: _loop(ITERATIONS, _Counting().hear, others=1000),
        "metrics": lambda: _loop(ITERATIONS, Metrics().take),
        "anomalies": lambda: _loop(ITERATIONS, Anomalies().take),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            taken[name].append((work(), _loop(ITERATIONS, None)))
    queued = {name for name in works if name not in ("metrics", "anomalies")}  # these two work on each event
    shown = [_figure(name, pairs, ITERATIONS, WITHIN if name in queued else None) for name, pairs in taken.items()]
    many = [(_loop(MANY, _Counting().hear), _loop(MANY, None)) for _ in range(3)]
    return [*shown, _figure("100,000 events, a handler that counts", many, MANY, WITHIN)]


class _Counting:
    def __init__(self) -> None:
        self.count = 0

    def hear(self, _: Event) -> None:
        self.count += 1


def _figure(name: str, pairs: list[tuple[float, float]], events: int, within: float | None = None) -> Figure:
    reached, floor = (median(pair[side] for pair in pairs) / events * 1e6 for side in (0, 1))
    return Figure(name, reached, "µs/iteration", floor=floor, within=within)


def _loop(iterations: int, handler: Handler | None, *, others: int = 0) -> float:
    """Seconds that a controlled loop of so many iterations takes, its body empty."""
    journal = Journal(MemoryStore(), clock=time)
    bus = EventBus(journal)
    watched = [f"other {number}" for number in range(others)]
    for run_id in watched:
        journal.plant(run_id, rules.start, LOOP, "another", place=ITERATION)
    with LoopController("hot", store=journal, stop_when=max_iterations(iterations)) as loop:
        if handler is not None:
            runs = [*watched, loop.run_id] if others else []
            bus.on(handler, runs=runs, on_missed=lambda _: None)
        began = time.perf_counter()
        loop.run(_nothing)
        took = time.perf_counter() - began
    bus.close(timeout=0)
    return took


def _blocked(iterations: int) -> float:
    """The same, with a handler that does not return while the loop runs."""
    released = threading.Event()
    try:
        return _loop(iterations, lambda _: released.wait(60))
    finally:
        released.set()


def _nothing(_: object) -> None:
    """Do nothing, as a body."""


def _raise(_: Event) -> None:
    raise RuntimeError("a handler that always raises")
