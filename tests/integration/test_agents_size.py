"""Trees of agents that are deep, wide or long: they come to their end, and each turn costs what the first did."""

from __future__ import annotations

import gc
import sys
import threading
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

from cortical import Agent, Loop, Verdict, open_store, run
from cortical.core.status import Status
from cortical.core.tree import Tree
from cortical.store import MemoryStore
from tests.integration.agent_scenarios import agent_with, passes

DEEPEST = 199
WIDTH = 5_000
TURNS = 2_000


def test_deep() -> None:
    """A tree of 200 levels, one loop each, is driven by four workers; what the last brings back comes to the root."""

    def go_down(loop: Loop) -> None:
        if loop.depth < DEEPEST:
            loop.spawn(f"level {loop.depth + 1}")

    def come_up(loop: Loop) -> Verdict:
        return Verdict.passed([loop.depth, *(level for below in loop.child_results.values() for level in below)])

    store = MemoryStore()
    diver = agent_with("diver", answer=go_down, verify=come_up)
    result = run(diver, "level 0", store=store, workers=4, max_depth=DEEPEST + 1)
    assert result.value == list(range(DEEPEST + 1))
    assert {loop.status for loop in Tree.of(store.read(result.run_id)).walk()} == {Status.COMPLETED}


def test_wide() -> None:
    """A root with 5,000 children is driven by four workers, which never do more than four things at a time."""
    lock, now, most, used = threading.Lock(), 0, 0, set[int]()

    def work(loop: Loop) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            used.add(threading.get_ident())
        with lock:
            now -= 1

    small = agent_with("small", answer=work)

    def divide(loop: Loop) -> None:
        for number in range(WIDTH):
            loop.spawn(str(number), agent=small)

    wide = agent_with("wide", answer=divide, verify=lambda loop: Verdict.passed(list(loop.child_results.values())))
    wide.concurrency = 100
    result = run(wide, "all", workers=4)
    assert result.value == [str(number) for number in range(WIDTH)]
    assert most <= 4
    assert len(used) <= 4


def long_runner(at_turn: Any) -> Agent:
    """An agent of so many turns, each with an artifact of its own; `at_turn` is called with each loop in QUESTION."""

    def judge(loop: Loop) -> Verdict:
        assert loop.artifact("page").startswith(f"{loop.turn:04} ")
        return passes(loop) if loop.turn == TURNS else Verdict.revise(f"page {loop.turn + 1} is to come")

    def begin(loop: Loop) -> None:
        assert loop.turn == 1 or loop.feedback == f"page {loop.turn} is to come"
        at_turn(loop)

    return agent_with(
        "long",
        question=begin,
        produce=lambda loop: loop.produce("page", f"{loop.turn:04} ".ljust(1000, "x")),
        verify=judge,
    )


def test_room_for_many_turns(tmp_path: Path) -> None:
    """In 2,000 turns, each of which makes 1 KB, objects in memory, events in the log and bytes in the file grow by the
    same little with each turn, whether it is an early or a late one.
    """
    path = tmp_path / "runs.db"
    objects: list[int] = []

    def count(loop: Loop) -> None:
        if loop.turn % 500 == 1:
            gc.collect()
            objects.append(sys.getallocatedblocks())

    with closing(open_store(path)) as store:
        result = run(long_runner(count), "write", store=store)
        log = store.read(result.run_id)
    assert result.status is Status.COMPLETED
    grown = [after - before for before, after in pairwise(objects)]
    assert max(grown[1:]) <= 1.25 * min(grown[1:])
    assert max(grown[1:]) < 500 * 100
    turns = [position for position, event in enumerate(log) if getattr(event, "place", None) == "question"]
    assert len(turns) == TURNS
    assert {after - before for before, after in pairwise(turns)} == {6}
    assert path.stat().st_size < TURNS * 3 * 1024


def test_work_of_many_turns() -> None:
    """A turn after 1,900 others takes no more instructions than one after 100."""
    counted: dict[int, int] = {}

    def count(frame: FrameType, event: str, arg: object) -> Any:
        frame.f_trace_opcodes = True
        if event == "opcode":
            counted[last] = counted.get(last, 0) + 1
        return count

    last, before = 0, sys.gettrace()

    def look(loop: Loop) -> None:
        nonlocal last, before
        if loop.turn in (100, 1900):
            last, before = loop.turn, sys.gettrace()
            sys.settrace(count)
            for frame in frames_below(sys._getframe()):
                frame.f_trace = count
                frame.f_trace_opcodes = True
        elif loop.turn in (105, 1905):
            sys.settrace(before)

    run(long_runner(look), "write")
    assert counted[1900] <= 1.1 * counted[100]
    assert counted[100] > 1000


def frames_below(frame: FrameType | None) -> list[FrameType]:
    """A frame, and those that called it."""
    return [] if frame is None else [frame, *frames_below(frame.f_back)]
