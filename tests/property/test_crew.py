"""Whatever depends on whatever, fails and is tried again: every unit ends once, and the limits are kept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from attrs import define
from hypothesis import given, settings, strategies as st

from cortical.core.budget import Budget
from cortical.core.events import Ended, Started
from cortical.core.journal import Journal
from cortical.core.outcome import Failed, Ok
from cortical.core.policy import Retry
from cortical.core.tree import Tree
from cortical.engine.hands import Unit
from cortical.looking.soundness import unsound
from tests.unit.crewed import ROOT, Given, Waiting, drive, items, plant


@define
class Plan:
    """What one unit does: how often it fails, how often it may be tried, and what it waits for."""

    fails: int
    attempts: int
    delay: float
    is_async: bool
    seconds: float | None
    after: tuple[int, ...]


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    """Units, each after some of those before it."""
    count = draw(st.integers(0, 14))
    return [
        Plan(
            draw(st.integers(0, 3)),
            draw(st.integers(1, 3)),
            draw(st.sampled_from([0.0, 0.5, 3.0])),
            draw(st.booleans()),
            draw(st.sampled_from([None, None, 60.0])),
            tuple(draw(st.sets(st.integers(0, number - 1), max_size=2))) if number else (),
        )
        for number in range(count)
    ]


class Counter:
    """How many are at work, and were at most; and which attempts each unit had."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = 0
        self.most = 0
        self.attempts: dict[str, list[int]] = {}

    def enter(self, name: str, attempt: int) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.attempts.setdefault(name, []).append(attempt)

    def leave(self) -> None:
        with self.lock:
            self.now -= 1


def function_of(name: str, plan: Plan, counter: Counter) -> Callable[[int], Any]:
    """The function, or coroutine function, that does as planned."""

    def end(attempt: int) -> str:
        counter.leave()
        if attempt <= plan.fails:
            raise ValueError(f"{name} {attempt}")
        return name

    def function(attempt: int) -> str:
        counter.enter(name, attempt)
        return end(attempt)

    async def coroutine(attempt: int) -> str:
        counter.enter(name, attempt)
        await asyncio.sleep(0)
        return end(attempt)

    return coroutine if plan.is_async else function


def source_of(plans: list[Plan], counter: Counter) -> Given:
    """A source that gives these units."""
    units = [
        Unit(
            f"u{number}",
            function_of(f"u{number}", plan, counter),
            is_async=plan.is_async,
            seconds=plan.seconds,
            retry=Retry(plan.attempts, delay=plan.delay),
        )
        for number, plan in enumerate(plans)
    ]
    after = {f"u{number}": [f"u{before}" for before in plan.after] for number, plan in enumerate(plans)}
    return Given(units, after=after)


def require_sound(journal: Journal) -> None:
    """The log can have come about, and the tree in memory is what it folds into."""
    tree, log = journal.run(ROOT).tree, journal.store.read(ROOT)
    assert unsound(log, tree) == []
    assert [run.outcome for run in Tree.of(log).walk()] == [run.outcome for run in tree.walk()]


@settings(max_examples=60, deadline=None)
@given(plans(), st.integers(1, 4))
def test_every_unit_ends_once(plans: list[Plan], concurrency: int) -> None:
    """Every unit ends once, as planned, after what it waited for; never more at once than were allowed."""
    clock, counter = Waiting(), Counter()
    journal = plant(clock=clock)
    source = source_of(plans, counter)
    crew = drive(journal, source, concurrency=concurrency, sleep=clock.sleep)
    names = [f"u{number}" for number in range(len(plans))]
    assert sorted(source.settlings) == sorted(names)
    assert counter.most <= crew.peak <= concurrency
    found = items(journal)
    for name, plan in zip(names, plans, strict=True):
        tried = min(plan.fails + 1, plan.attempts)
        assert counter.attempts[name] == list(range(1, tried + 1))
        outcome = found[name].outcome
        if plan.fails < plan.attempts:
            assert outcome == Ok(name)
        else:
            assert isinstance(outcome, Failed)
            assert outcome.attempts == plan.attempts
        assert len(found[name].noted("attempt")) == tried - 1
    assert journal.run(ROOT).data == ({name: type(found[name].outcome).__name__ for name in names} or None)
    require_order(journal, plans)
    require_sound(journal)


def require_order(journal: Journal, plans: list[Plan]) -> None:
    """In the log, each starts after the ends of what it waited for."""
    place: dict[tuple[str, type], int] = {}
    for position, event in enumerate(journal.store.read(ROOT)):
        if isinstance(event, Started | Ended):
            key = (journal.run(event.run_id).name, type(event))
            assert key not in place
            place[key] = position
    for number, plan in enumerate(plans):
        for before in plan.after:
            assert place[f"u{before}", Ended] < place[f"u{number}", Started]


@settings(max_examples=30, deadline=None)
@given(plans(), st.integers(1, 4), st.integers(0, 8))
def test_budgets_are_kept(plans: list[Plan], concurrency: int, descendants: int) -> None:
    """With a budget of descendants exactly as many begin as there is room for, and all of these end."""
    clock, counter = Waiting(), Counter()
    journal = plant(clock=clock, budget=Budget(descendants=descendants))
    source = source_of(plans, counter)
    crew = drive(journal, source, concurrency=concurrency, sleep=clock.sleep)
    assert len(items(journal)) == min(len(plans), descendants)
    assert all(run.outcome is not None for run in items(journal).values())
    assert len(items(journal)) + len(crew.not_begun) + len(source.waiting) == len(plans)
    assert (crew.exhausted is not None) == (len(plans) > descendants)
    require_sound(journal)
