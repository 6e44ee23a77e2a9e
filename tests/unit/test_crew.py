"""The driver of a run's children: how many at once, in what order, how they end, and what is recorded with what."""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NoReturn

import pytest

from cortical.core import rules
from cortical.core.budget import Budget
from cortical.core.errors import EncodeError, InvalidInput, RunStateError, WrongType
from cortical.core.events import Changed, Ended, Started
from cortical.core.journal import Journal
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome
from cortical.core.policy import Retry
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.engine.crew import Crew
from cortical.engine.hands import Unit
from cortical.store import MemoryStore
from cortical.store.sqlite import SqliteStore
from tests.unit.clocks import WatchedClock
from tests.unit.crewed import ROOT, Given, Waiting, crew_threads, drive, items, plant, statuses, until


def returns(value: Any = None) -> Any:
    """A function of a unit that returns this."""
    return lambda attempt: value


def fails(times: int, error: BaseException | None = None) -> Any:
    """A function of a unit that fails in its first attempts, and then says which one it is."""

    def function(attempt: int) -> int:
        if attempt <= times:
            raise error or ValueError(f"attempt {attempt}")
        return attempt

    return function


def breaks(error: BaseException) -> Any:
    """A function of a unit that raises this."""
    return fails(1_000, error)


def numbered(count: int, function: Any = None, **settings: Any) -> list[Unit]:
    """Units u0, u1, …"""
    return [Unit(f"u{number}", function or returns(number), **settings) for number in range(count)]


class TestConcurrency:
    """How many at the same time, and where."""

    @pytest.mark.parametrize("is_async", [False, True])
    def test_as_many_as_allowed(self, is_async: bool) -> None:
        """With concurrency 3, three are carried out at once, and never more."""
        journal, lock = plant(), threading.Lock()
        now: list[int] = [0]
        most: list[int] = [0]
        together = threading.Barrier(3)

        def enter(step: int) -> None:
            with lock:
                now[0] += step
                most[0] = max(most[0], now[0])

        def meet(attempt: int) -> None:
            enter(1)
            together.wait(timeout=10)
            enter(-1)

        async def meet_in_loop(attempt: int) -> None:
            enter(1)
            for _ in range(200):
                if most[0] == 3:
                    break
                await asyncio.sleep(0.005)
            enter(-1)

        function = meet_in_loop if is_async else meet
        crew = drive(journal, Given(numbered(9, function, is_async=is_async)), concurrency=3)
        assert (crew.peak, most[0]) == (3, 3)
        assert set(statuses(journal).values()) == {"completed"}

    def test_threads_and_tasks_share_the_limit(self) -> None:
        """Functions and coroutines together are no more than the limit allows."""
        journal, lock = plant(), threading.Lock()
        now: list[int] = [0]
        seen: list[int] = []

        def count(attempt: int) -> None:
            with lock:
                now[0] += 1
                seen.append(now[0])
            with lock:
                now[0] -= 1

        async def wait(attempt: int) -> None:
            with lock:
                now[0] += 1
                seen.append(now[0])
            await asyncio.sleep(0.001)
            with lock:
                now[0] -= 1

        units = [Unit(f"u{n}", wait if n % 2 else count, is_async=bool(n % 2)) for n in range(40)]
        crew = drive(journal, Given(units), concurrency=2)
        assert max(seen) <= 2
        assert crew.peak == 2
        assert len(statuses(journal)) == 40

    def test_one_after_another_in_order(self) -> None:
        """With concurrency 1, functions are called in the source's order, in the thread that drives."""
        journal = plant()
        called: list[tuple[str, int]] = []

        def tell(name: str) -> Any:
            return lambda attempt: called.append((name, threading.get_ident()))

        names = [f"u{number}" for number in range(20)]
        crew = drive(journal, Given([Unit(name, tell(name)) for name in names]))
        assert called == [(name, threading.get_ident()) for name in names]
        assert crew.peak == 1
        kinds = [type(event) for event in journal.events(ROOT, below=True) if type(event) in (Started, Ended)]
        assert kinds[1:] == [Started, Ended] * 20

    def test_what_must_wait_for_others(self) -> None:
        """A unit that the source gives only after others is begun in the record in which the last of them ends."""
        journal = plant()
        source = Given(numbered(3), after={"u1": ["u0"], "u2": ["u1"]})
        drive(journal, source, concurrency=4)
        assert source.settlings == ["u0", "u1", "u2"]
        ended, begun = {}, {}
        for place, event in enumerate(journal.events(ROOT, below=True)):
            if type(event) is Ended:
                ended[journal.run(event.run_id).name] = (place, event.at)
            elif type(event) is Started and event.kind == "item":
                begun[event.name] = (place, event.at)
        for first, second in itertools.pairwise(("u0", "u1", "u2")):
            assert ended[first][1] == begun[second][1]  # one record has one time
            assert begun[second][0] - ended[first][0] == 2  # between them the parent's step

    def test_no_more_threads_than_were_at_work(self) -> None:
        """A concurrency of 50 begins no more threads than there were units at the same time, and they end."""
        journal = plant()
        threads: set[int] = set()
        chain = {f"u{number}": [f"u{number - 1}"] for number in range(1, 30)}
        drive(
            journal,
            Given(numbered(30, lambda attempt: threads.add(threading.get_ident())), after=chain),
            concurrency=50,
        )
        assert len(threads) == 1
        until(lambda: not crew_threads())

    @pytest.mark.parametrize("concurrency", [1, 2])
    def test_context_variables(self, concurrency: int) -> None:
        """A function sees the context variables of whoever drives; what it sets, nobody else sees."""
        variable: ContextVar[str] = ContextVar("variable", default="default")
        seen: list[str] = []

        def look(attempt: int) -> None:
            seen.append(variable.get())
            variable.set("changed")

        variable.set("outside")
        drive(plant(), Given(numbered(4, look)), concurrency=concurrency)
        assert seen == ["outside"] * 4
        assert variable.get() == "outside"

    @pytest.mark.parametrize("concurrency", [0, -1, True, 1.0, "4", None])
    def test_concurrency_is_a_number(self, concurrency: Any) -> None:
        """What is no whole number from 1 on is refused at once."""
        with pytest.raises((InvalidInput, WrongType), match=r"^concurrency is (1 or more|a whole number), not "):
            Crew(plant(), ROOT, "item", concurrency=concurrency)

    def test_a_crew_within_a_child(self) -> None:
        """A function may drive a crew of its own below its child."""
        journal = plant()

        def below(attempt: int) -> int:
            (outer,) = (run for run in journal.run(ROOT).children if run.name == "outer")
            inner = Crew(journal, outer.id, "step", concurrency=2)
            inner.drive(Given(numbered(5)))
            return len(outer.children)

        drive(journal, Given([Unit("outer", below), *numbered(2)]), concurrency=2)
        assert items(journal)["outer"].outcome == Ok(5)
        assert [run.outcome for run in items(journal)["outer"].children] == [Ok(n) for n in range(5)]

    def test_a_child_that_leaves_children_open(self) -> None:
        """What is still open below a child that ends is abandoned in the same record."""
        journal = plant()

        def leaves(attempt: int) -> None:
            (outer,) = journal.run(ROOT).children
            journal.insist(outer.id, rules.spawn, "step", {"below": "below"}, place=None)

        drive(journal, Given([Unit("outer", leaves)]))
        assert statuses(journal) == {"outer": "completed"}
        assert journal.run("below").status is Status.ABANDONED


class TestEnds:
    """How children end, and what is recorded with it."""

    @pytest.mark.parametrize("concurrency", [1, 3])
    def test_end_and_step_are_one_record(self, concurrency: int) -> None:
        """The end of a child and what the source adds of its parent are kept together, or neither."""
        journal = plant()
        drive(journal, Given([*numbered(5), Unit("bad", breaks(OSError("no")))]), concurrency=concurrency)
        log = journal.events(ROOT, below=True)
        ends = [(event.at, journal.run(event.run_id).name) for event in log if isinstance(event, Ended)]
        steps = [(event.at, name) for event in log if isinstance(event, Changed) for name in event.set]
        assert sorted(ends) == sorted(steps)
        assert journal.run(ROOT).data == {**{f"u{n}": "Ok" for n in range(5)}, "bad": "Failed"}

    def test_what_cannot_be_kept(self) -> None:
        """A result or data that the store cannot keep fails its child, and says where; others go on."""
        journal = plant()

        class WithData(Given):
            def outcome(self, unit: Unit, returned: Any) -> Outcome:
                unit.data = {"conn": returned}
                return Ok(None)

        values = [1, object(), {"a": [object()]}, float("nan"), "\ud800", 2**200, {1, 2}]
        for source in (Given, WithData):
            journal = plant()
            drive(journal, source(Unit(f"u{n}", returns(value)) for n, value in enumerate(values)), concurrency=2)
            assert [s == "failed" for s in statuses(journal).values()] == [False, True, True, *[False] * 4]
            failed = items(journal)["u2"].outcome
            assert isinstance(failed, Failed)
            assert "['a'][0]: object cannot be kept" in failed.error.message

    def test_a_result_is_what_it_was_when_it_was_recorded(self) -> None:
        """A list that its function goes on changing is kept as it stood."""
        journal, shared = plant(), [1]
        drive(journal, Given([Unit("u0", lambda attempt: shared), Unit("u1", lambda attempt: shared.append(2))]))
        assert items(journal)["u0"].value == [1]

    def test_an_outcome_that_raises(self) -> None:
        """What a source's `outcome` raises is the failure of its unit, to be tried again like any other."""
        journal = plant()
        source = Given(numbered(3), raises={("outcome", "u1"): LookupError("no column")})
        drive(journal, source)
        assert statuses(journal) == {"u0": "completed", "u1": "failed", "u2": "completed"}

    def test_data_of_a_child(self) -> None:
        """What an outcome sets as its unit's data stands in the child's own data, in the record of its end."""
        journal = plant()

        class WithData(Given):
            def outcome(self, unit: Unit, returned: Any) -> Outcome:
                unit.data = {"rows": returned}
                return Ok(None)

        drive(journal, WithData(numbered(2)), concurrency=2)
        assert [run.data for run in journal.run(ROOT).children] == [{"rows": 0}, {"rows": 1}]

    @pytest.mark.parametrize("concurrency", [1, 2])
    @pytest.mark.parametrize("method", ["next", "steps", "settled"])
    def test_a_source_that_raises(self, method: str, concurrency: int) -> None:
        """What a source raises comes out of the crew; what had ended is recorded, and the crew's threads end."""
        journal = plant()
        before = {"u3": ["u0", "u1", "u2"]}
        source = Given(numbered(4), after=before, raises={(method, "u3"): ZeroDivisionError(method)})
        with pytest.raises(ZeroDivisionError, match=method):
            drive(journal, source, concurrency=concurrency)
        found = items(journal)
        assert [found[f"u{n}"].status.value for n in range(3)] == ["completed"] * 3
        if method == "steps":
            assert found["u3"].status is Status.ACTIVE
        elif method == "settled":
            assert found["u3"].status is Status.COMPLETED
        else:
            assert "u3" not in found
        until(lambda: not crew_threads())

    def test_the_others_of_the_moment_are_recorded(self) -> None:
        """Of results that came together, one that a source trips over does not keep the others from the record."""
        journal, both_done = plant(), threading.Event()
        done: list[str] = []

        async def finish(attempt: int) -> None:
            while not source.settlings:
                await asyncio.sleep(0)
            done.append("")

        async def watch(attempt: int) -> None:
            while len(done) < 2:
                await asyncio.sleep(0)
            both_done.set()

        class Busy(Given):
            def settled(self, unit: Unit, outcome: Outcome) -> None:
                super().settled(unit, outcome)
                assert both_done.wait(timeout=10)  # what the crew finds next came together

        functions = {"first": lambda attempt: asyncio.sleep(0), "trips": finish, "other": finish, "watch": watch}
        units = [Unit(name, function, is_async=True) for name, function in functions.items()]
        source = Busy(units, raises={("steps", "trips"): ZeroDivisionError()})
        with pytest.raises(ZeroDivisionError):
            drive(journal, source, concurrency=4)
        assert statuses(journal)["trips"] == "active"
        assert statuses(journal)["first"] == statuses(journal)["other"] == "completed"

    def test_metadata_that_cannot_be_kept(self) -> None:
        """A unit that cannot be started for what it is started with raises, and the ends of that moment are kept."""
        journal = plant()
        units = [*numbered(1), Unit("bad", returns(), metadata={"key": object()})]
        with pytest.raises(EncodeError, match="metadata"):
            drive(journal, Given(units))
        assert statuses(journal) == {"u0": "completed"}

    def test_a_step_that_is_refused(self) -> None:
        """A step that its rule refuses raises; the child it belongs to stays open, others that ended are kept."""
        journal = plant()

        class Wrong(Given):
            def steps(self, unit: Unit, outcome: Outcome) -> list[tuple[Any, ...]]:
                return [(rules.restore, 99)] if unit.name == "u1" else []

        with pytest.raises(KeyError, match="no checkpoint 99"):
            drive(journal, Wrong(numbered(3)))
        assert statuses(journal) == {"u0": "completed", "u1": "active"}

    @pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
    @pytest.mark.parametrize(("concurrency", "is_async"), [(1, False), (2, False), (2, True)])
    def test_what_ends_the_process(self, error: BaseException, concurrency: int, is_async: bool) -> None:
        """A SystemExit or Ctrl-C in a function comes out of the crew; its child stays open, and the threads end."""
        journal = plant()

        async def exits(attempt: int) -> NoReturn:
            raise error

        units = [*numbered(2), Unit("exits", exits if is_async else breaks(error), is_async=is_async)]
        source = Given(units, after={"exits": ["u0", "u1"]})
        with pytest.raises(type(error)):
            drive(journal, source, concurrency=concurrency)
        assert statuses(journal) == {"u0": "completed", "u1": "completed", "exits": "active"}
        until(lambda: not crew_threads())

    def test_text_of_an_error_that_raises(self) -> None:
        """An exception whose text cannot be had is noted and kept like any other."""

        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

        journal = plant()
        drive(journal, Given([Unit("u", breaks(Mute()), retry=Retry(2, delay=0))]))
        run = items(journal)["u"]
        assert isinstance(run.outcome, Failed)
        assert run.outcome.attempts == 2
        assert "could not be had" in run.noted("attempt")[0]["error"]


class TestTime:
    """Time limits, retries and their delays."""

    def test_a_function_is_left_behind(self) -> None:
        """A function whose time is up fails its child; what it returns later counts for nothing."""
        journal, go_on, over = plant(), threading.Event(), threading.Event()

        def slow(attempt: int) -> str:
            go_on.wait(timeout=10)
            over.set()
            return "late"

        drive(journal, Given([Unit("slow", slow, seconds=0.02), Unit("quick", returns(1), seconds=5.0)]))
        go_on.set()
        assert over.wait(timeout=10)
        slow_run = items(journal)["slow"]
        assert isinstance(slow_run.outcome, Failed)
        assert slow_run.reason is TerminationReason.TIMEOUT
        assert items(journal)["quick"].value == 1
        until(lambda: not crew_threads())
        assert items(journal)["slow"].outcome is slow_run.outcome

    @pytest.mark.parametrize("manner", ["obeys", "swallows", "cleans up badly"])
    def test_a_coroutine_is_cancelled(self, manner: str) -> None:
        """A coroutine whose time is up is cancelled, and fails so whatever it makes of that."""
        journal = plant()
        cancelled: list[bool] = []

        async def slow(attempt: int) -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(True)
                if manner == "cleans up badly":
                    raise ValueError("while cleaning up") from None
                if manner == "obeys":
                    raise
            return "late"

        drive(journal, Given([Unit("slow", slow, is_async=True, seconds=0.02)]), concurrency=2)
        assert cancelled == [True]
        assert items(journal)["slow"].reason is TerminationReason.TIMEOUT

    @pytest.mark.parametrize("is_async", [False, True])
    def test_a_timeout_of_its_own(self, is_async: bool) -> None:
        """A TimeoutError that a function raises itself is an error, not the end of its time."""
        journal = plant()

        async def raises(attempt: int) -> NoReturn:
            raise TimeoutError("of a server")

        function = raises if is_async else breaks(TimeoutError("of a server"))
        drive(journal, Given([Unit("u", function, is_async=is_async, seconds=30.0)]))
        outcome = items(journal)["u"].outcome
        assert isinstance(outcome, Failed)
        assert outcome.error.message == "of a server"
        assert items(journal)["u"].reason is TerminationReason.ERROR

    def test_a_coroutine_that_was_cancelled_by_others(self) -> None:
        """A coroutine that waited for something that was cancelled has failed."""
        journal = plant()

        async def cancelled(attempt: int) -> None:
            raise asyncio.CancelledError

        drive(journal, Given([Unit("u", cancelled, is_async=True)]))
        assert statuses(journal) == {"u": "failed"}

    def test_what_is_no_coroutine(self) -> None:
        """A function that was said to be async and is not fails its child."""
        journal = plant()
        drive(journal, Given([Unit("u", returns(1), is_async=True)]))
        outcome = items(journal)["u"].outcome
        assert isinstance(outcome, Failed)
        assert outcome.error.type == "TypeError"

    @pytest.mark.parametrize("concurrency", [1, 3])
    def test_delays_are_exact(self, concurrency: int) -> None:
        """Attempts follow each other after exactly the delays of the policy, and are noted."""
        clock = Waiting()
        journal = plant(clock=clock)
        unit = Unit("u", fails(3), retry=Retry(4, delay=1.0, backoff=2.0))
        drive(journal, Given([unit]), concurrency=concurrency, sleep=clock.sleep)
        run = items(journal)["u"]
        assert clock.slept == [1.0, 2.0, 4.0]
        assert run.outcome == Ok(4)
        assert [note["attempt"] for note in run.noted("attempt")] == [1, 2, 3]
        assert run.noted("attempt")[0]["error"] == "ValueError: attempt 1"
        assert [event.at - clock.now + 7.0 for event in run.entries or ()] == [0.0, 1.0, 3.0]

    def test_jitter_by_the_given_chance(self) -> None:
        """The jitter of a delay comes from the numbers that the crew was given."""
        clock = Waiting()
        unit = Unit("u", fails(1), retry=Retry(2, delay=1.0, jitter=0.5))
        drive(plant(clock=clock), Given([unit]), sleep=clock.sleep, random=lambda: 1.0)
        assert clock.slept == [1.5]

    def test_a_failed_one_holds_no_worker(self) -> None:
        """While one waits for its next attempt, the others are carried out."""
        clock = Waiting()
        journal = plant(clock=clock)
        source = Given([Unit("u", fails(1), retry=Retry(2, delay=60.0)), *numbered(5)])
        drive(journal, source, sleep=clock.sleep)
        assert source.settlings == ["u0", "u1", "u2", "u3", "u4", "u"] or source.settlings[-1] == "u"
        assert clock.slept == [60.0]

    def test_only_what_is_to_be_tried_again(self) -> None:
        """An exception that the policy does not cover fails at once; attempts never exceed the policy's number."""
        journal = plant()
        retry = Retry(3, delay=0, retry_on=OSError)
        units = [Unit("value", breaks(ValueError()), retry=retry), Unit("os", breaks(OSError()), retry=retry)]
        units.append(Unit("named", breaks(ValueError()), retry=Retry(2, delay=0), retried=(KeyError,)))
        drive(journal, Given(units))
        attempts = {n: run.outcome.attempts for n, run in items(journal).items() if isinstance(run.outcome, Failed)}
        assert attempts == {"value": 1, "os": 3, "named": 1}

    def test_failed_before(self) -> None:
        """A child that was started and had failed before goes on with the attempt that is next."""
        journal = plant()
        journal.change(ROOT, rules.spawn, "item", {"old": "old"}, place=None)
        journal.change("old", rules.begin, "work")
        unit = Unit("old", fails(9), run_id="old", failed_before=2, retry=Retry(4, delay=0))
        drive(journal, Given([unit]))
        outcome = journal.run("old").outcome
        assert isinstance(outcome, Failed)
        assert outcome.attempts == 4
        assert [note["attempt"] for note in journal.run("old").noted("attempt")] == [3]
        assert len(items(journal)) == 1


class TestParent:
    """What happens when the parent's state changes, or its budget ends."""

    def test_exactly_as_many_as_the_budget_allows(self) -> None:
        """A budget of 5 descendants lets exactly 5 begin, whatever the concurrency; the rest is not lost."""
        for concurrency in (1, 2, 3, 4, 8):
            journal = plant(budget=Budget(descendants=5))
            source = Given(numbered(9))
            crew = drive(journal, source, concurrency=concurrency)
            assert list(statuses(journal)) == [f"u{n}" for n in range(5)]
            assert set(statuses(journal).values()) == {"completed"}
            left = [unit.name for unit in (*crew.not_begun, *source.waiting)]
            assert left == [f"u{n}" for n in range(5, 9)]
            assert all(unit.run_id is None for unit in crew.not_begun)
            assert crew.exhausted is not None
            assert crew.exhausted.limit == "descendants"

    def test_retries_go_on_without_room(self) -> None:
        """When there is no room for another child, those that wait for an attempt still have it."""
        clock = Waiting()
        journal = plant(clock=clock, budget=Budget(descendants=1))
        units = [Unit("first", fails(2), retry=Retry(3, delay=5.0)), Unit("second", returns())]
        drive(journal, Given(units), sleep=clock.sleep)
        assert statuses(journal) == {"first": "completed"}
        assert clock.slept == [5.0, 5.0 * 2]

    def test_no_attempt_after_the_budgets_time(self) -> None:
        """After the seconds of a budget nothing is tried again; what waits for it stays open."""
        clock = Waiting()
        journal = plant(clock=clock, budget=Budget(seconds=10))
        crew = drive(journal, Given([Unit("u", fails(9), retry=Retry(9, delay=8.0, backoff=1))]), sleep=clock.sleep)
        assert crew.exhausted is not None
        assert crew.exhausted.limit == "seconds"
        assert clock.slept == [8.0, 8.0]
        assert statuses(journal) == {"u": "active"}
        assert len(items(journal)["u"].noted("attempt")) == 2

    @pytest.mark.parametrize("concurrency", [1, 2])
    def test_paused_from_another_thread(self, concurrency: int) -> None:
        """A pause lets what is under way finish and holds the next back, until it is resumed."""
        journal = plant()

        def pause(attempt: int) -> None:
            journal.insist(ROOT, rules.pause, "lunch")

        source = Given([Unit("pauses", pause), *numbered(3)], after={f"u{n}": ["pauses"] for n in range(3)})
        driving = threading.Thread(target=drive, args=(journal, source), kwargs={"concurrency": concurrency})
        driving.start()
        until(lambda: statuses(journal).get("pauses") == "completed")
        driving.join(timeout=0.25)
        assert driving.is_alive()
        assert statuses(journal) == {"pauses": "completed"}
        journal.insist(ROOT, rules.resume)
        driving.join(timeout=10)
        assert set(statuses(journal).values()) == {"completed"}
        assert len(statuses(journal)) == 4

    def test_no_child_begins_while_it_is_paused(self) -> None:
        """A pause that comes while the next is being chosen still holds it back, and it is not lost."""
        journal = plant()
        paused: list[object] = []

        class Late(Given):
            def next(self) -> Unit | None:
                unit = super().next()
                if unit is not None and unit.name == "u2" and not paused:
                    paused.append(journal.insist(ROOT, rules.pause, "now"))
                return unit

        source = Late(numbered(5))
        crew = Crew(journal, ROOT, "item", sleep=lambda seconds: journal.insist(ROOT, rules.resume))
        crew.drive(source)
        log = [type(event).__name__ for event in journal.events(ROOT, below=True)]
        between = log[log.index("Paused") : log.index("Resumed")]
        assert "Started" not in between
        assert list(statuses(journal)) == [f"u{n}" for n in range(5)]
        assert not crew.not_begun

    @pytest.mark.parametrize("concurrency", [1, 3])
    def test_the_parent_is_broken(self, concurrency: int) -> None:
        """When the parent is ended the crew comes back; what its children still return counts for nothing."""
        journal = plant()

        def end(attempt: int) -> str:
            journal.insist(ROOT, rules.end_subtree, Abandoned("enough"), TerminationReason.MANUAL)
            return "late"

        source = Given([*numbered(2), Unit("ends", end), *numbered(3)], after={"ends": ["u0", "u1"]})
        source.waiting = source.waiting[:3]
        drive(journal, source, concurrency=concurrency)
        assert statuses(journal) == {"u0": "completed", "u1": "completed", "ends": "abandoned"}
        until(lambda: not crew_threads())

    def test_a_child_is_broken(self) -> None:
        """A child that somebody ends stays as it was ended; the source is told, and the others go on."""
        journal = plant()

        def broken(attempt: int) -> str:
            (run,) = (run for run in journal.run(ROOT).children if run.name == "broken")
            journal.insist(run.id, rules.end_subtree, Abandoned("not this one"), TerminationReason.MANUAL)
            return "late"

        source = Given([Unit("broken", broken), *numbered(2)])
        drive(journal, source, concurrency=2)
        assert statuses(journal) == {"broken": "abandoned", "u0": "completed", "u1": "completed"}
        assert source.outcomes["broken"] == Abandoned("not this one")

    def test_a_child_is_broken_while_it_waits(self) -> None:
        """One that is ended while it waits for its next attempt is not called again; what waited for it begins."""
        clock = Waiting()
        journal = plant(clock=clock)
        attempts: list[int] = []

        def fail(attempt: int) -> None:
            attempts.append(attempt)
            raise ValueError

        def end_it(seconds: float) -> None:
            clock.sleep(seconds)
            run = items(journal)["u"]
            journal.insist(run.id, rules.end_subtree, Abandoned("no more"), TerminationReason.MANUAL)

        source = Given([Unit("u", fail, retry=Retry(5)), Unit("then", returns(1))], after={"then": ["u"]})
        drive(journal, source, sleep=end_it)
        assert attempts == [1]
        assert statuses(journal) == {"u": "abandoned", "then": "completed"}

    def test_a_child_that_had_ended(self) -> None:
        """A unit whose child has an outcome already is not carried out; the source is told."""
        journal = plant()
        journal.change(ROOT, rules.spawn, "item", {"old": "old"}, place=None)
        journal.change("old", rules.end_subtree, Abandoned("gone"), TerminationReason.MANUAL)
        source = Given([Unit("old", breaks(AssertionError()), run_id="old"), *numbered(1)])
        drive(journal, source)
        assert source.outcomes == {"old": Abandoned("gone"), "u0": Ok(0)}

    @pytest.mark.parametrize("concurrency", [1, 2])
    def test_stop_starting(self, concurrency: int) -> None:
        """Told to start no other, the crew finishes what is under way, its further attempts too."""
        clock = Waiting()
        journal = plant(clock=clock)
        crew = Crew(journal, ROOT, "item", concurrency=concurrency, sleep=clock.sleep)

        def stop(attempt: int) -> int:
            crew.stop_starting()
            return fails(2)(attempt)  # type: ignore[no-any-return]

        source = Given(
            [Unit("stops", stop, retry=Retry(3)), *numbered(4)], after={f"u{n}": ["stops"] for n in range(4)}
        )
        crew.drive(source)
        assert statuses(journal) == {"stops": "completed"}
        assert len(source.waiting) == 4
        assert clock.slept == [1.0, 2.0]

    def test_stop_starting_while_it_is_paused(self) -> None:
        """A crew that waits for a pause to end, and is told to start no other, comes back."""
        journal = plant()
        journal.insist(ROOT, rules.pause, "")
        crew = Crew(journal, ROOT, "item")
        driving = threading.Thread(target=crew.drive, args=(Given(numbered(2)),))
        driving.start()
        driving.join(timeout=0.1)
        assert driving.is_alive()
        crew.stop_starting()
        driving.join(timeout=10)
        assert not driving.is_alive()
        assert statuses(journal) == {}

    def test_a_parent_that_cannot_be_driven(self) -> None:
        """A parent that was not started is refused; for one that has ended nothing is done; a crew drives once."""
        journal = Journal(MemoryStore(), clock=Waiting())
        journal.plant(ROOT, rules.start, "batch", "all")
        with pytest.raises(RunStateError, match="start it first"):
            drive(journal, Given(numbered(1)))
        journal.change(ROOT, rules.begin, "work")
        crew = drive(journal, Given([]))
        with pytest.raises(RunStateError, match="drives once"):
            crew.drive(Given(numbered(1)))
        journal.change(ROOT, rules.end, Ok(), TerminationReason.SUCCESS)
        source = Given(numbered(1))
        drive(journal, source)
        assert source.given == []

    def test_waiting_for_a_worker_is_quiet(self) -> None:
        """While every worker is busy, one whose attempt is due does not keep the crew from waiting."""

        class Watched(WatchedClock, Waiting): ...

        clock, both = Watched(), threading.Barrier(2)
        journal = plant(clock=clock)

        def fill(attempt: int) -> None:
            both.wait(timeout=10)
            clock.advance(100.0)  # the other one's attempt is due
            threading.Event().wait(timeout=0.3)

        source = Given(
            [Unit("again", fails(1), retry=Retry(2, delay=1.0)), *numbered(2, fill)],
        )
        drive(journal, source, concurrency=2, sleep=clock.sleep)
        assert set(statuses(journal).values()) == {"completed"}
        assert clock.looks < 100


def test_an_end_alone_is_one_statement(tmp_path: Path) -> None:
    """A child that ends, with nothing beginning then, costs a store in a file one insert; it is a listed run still."""
    store = SqliteStore(tmp_path / "runs.db")
    journal, statements = plant(store), list[str]()
    journal.change(ROOT, rules.spawn, "item", {"child": "child"}, place=None)
    journal.change("child", rules.begin, "work")
    store._open().set_trace_callback(statements.append)
    journal.change("child", rules.end, Ok(1), TerminationReason.SUCCESS)
    store._open().set_trace_callback(None)
    assert [statement.split()[0] for statement in statements] == ["INSERT"]
    assert store.root_of("child") == ROOT
    assert [root.status for root in store.roots(open_only=True)] == [Status.ACTIVE]
    assert store.check() == []
    store.close()


def test_a_run_is_what_its_log_says() -> None:
    """The tree in memory equals what its log folds into."""
    journal = plant()
    drive(journal, Given([*numbered(10), Unit("bad", breaks(ValueError()))]), concurrency=3)
    again = Journal(journal.store, clock=journal.clock)

    def told(run: Run) -> Any:
        return (run.name, run.outcome, run.seq, run.data)

    assert list(map(told, again.run(ROOT).tree.walk())) == list(map(told, journal.run(ROOT).tree.walk()))
