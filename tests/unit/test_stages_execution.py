"""Pipelines carried out: order, failures, undo, resuming, limits, and what stands below a stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cortical.agents
from cortical.agents import Agent, Loop, Verdict
from cortical.control import LoopController, State, max_iterations
from cortical.core import rules
from cortical.core.budget import Budget
from cortical.core.errors import (
    EncodeError,
    InvalidInput,
    LeaseHeld,
    LeaseLost,
    RunNotFound,
    RunStateError,
    StoreError,
    WrongType,
)
from cortical.core.events import Event, Started
from cortical.core.journal import Journal
from cortical.core.outcome import Abandoned, Failed, Ok, Skipped
from cortical.core.policy import Retry
from cortical.core.status import Status, TerminationReason
from cortical.engine.below import begun_below
from cortical.engine.lease import holding_lease
from cortical.engine.limited import TimeIsUp
from cortical.monitoring import ProgressReport
from cortical.stages import (
    DefinitionChanged,
    Execution,
    FunctionStage,
    InvalidPipeline,
    Mode,
    Pipeline,
    PipelineFailed,
    StageContext,
    StageFailed,
    StageRegistry,
    StageResult,
    UnknownStage,
    execute,
    resume,
    stage,
)
from cortical.stages.progress import progress
from cortical.stages.undoing import undo
from cortical.store import open_store
from cortical.store.face import Face
from cortical.testing import DyingStore, FakeClock, crash_everywhere
from tests.unit.kept import strict

Trace = list[str]


def noting(trace: Trace, name: str, **options: Any) -> FunctionStage:
    """A stage that notes its name when it is called, and gives it back."""

    def work(context: StageContext) -> str:
        trace.append(name)
        return name

    return stage(f"t:{name}", **options)(work)


def failing(name: str, error: Exception, **options: Any) -> FunctionStage:
    """A stage that writes a value and then raises."""

    def work(context: StageContext) -> None:
        context["half"] = "done"
        raise error

    return stage(f"t:{name}", **options)(work)


def ids(*names: str) -> list[str]:
    return [f"t:{name}" for name in names]


# Order


def test_the_order_is_the_same_ten_times() -> None:
    """With one at a time, ten runs of a pipeline call its stages in exactly the pipeline's order."""
    for _ in range(10):
        trace: Trace = []
        stages = [
            noting(trace, "c", after=ids("b")),
            noting(trace, "a"),
            noting(trace, "b", after=ids("a")),
            noting(trace, "d"),
        ]
        pipeline = Pipeline("p", stages)
        assert execute(pipeline).ok
        assert ids(*trace) == pipeline.order() == ids("a", "b", "c", "d")


def test_a_long_chain() -> None:
    """A chain of 10,000 stages is carried out without recursion, each once."""
    count = 10_000
    trace: Trace = []
    stages = [noting(trace, str(n), after=ids(str(n - 1)) if n else ()) for n in range(count)]
    result = execute(Pipeline("chain", stages))
    assert result.ok
    assert trace == [str(n) for n in range(count)]
    assert len(result.critical_path) == count


def test_two_hundred_at_once() -> None:
    """Two hundred stages run at the same time when so many may, each seeing the values from before."""
    together = threading.Barrier(200)

    def work(context: StageContext) -> int:
        together.wait(20)
        return int(context["start"]) + 1

    stages = [stage(f"t:{n}", reads=["start"])(work) for n in range(200)]
    result = execute(Pipeline("wide", stages, inputs=["start"]), {"start": 1}, max_concurrency=200)
    assert result.ok
    assert result.width == 200
    assert {one.output for one in result.stages.values()} == {2}


def test_async_stages_run_beside_each_other() -> None:
    """Stages that are coroutine functions run as tasks, and wait for each other's doing."""
    import asyncio

    met: list[str] = []

    def meeting(name: str) -> FunctionStage:
        async def work(context: StageContext) -> str:
            met.append(name)
            while len(met) < 2:
                await asyncio.sleep(0)
            return name

        return stage(f"t:{name}")(work)

    result = execute(Pipeline("p", [meeting("a"), meeting("b")]), max_concurrency=2)
    assert [one.output for one in result.stages.values()] == ["a", "b"]


def test_a_stage_may_use_the_registry_while_it_runs() -> None:
    """A stage registers another in the very registry its pipeline came from; the run goes on as it was defined."""
    registry = StageRegistry()
    trace: Trace = []

    def work(context: StageContext) -> int:
        registry.register(noting(trace, "new"))
        registry.unregister("t:late")
        return len(registry.snapshot())

    registry.register(stage("t:busy")(work), noting(trace, "late", after=["t:busy"]))
    result = execute(Pipeline("p", ["t:busy", "t:late"], registry=registry))
    assert result["t:busy"].output == 2
    assert trace == ["late"]


# Values


def test_what_a_stage_wrote_is_seen_once_it_has_succeeded() -> None:
    """Stages that wait for it see what a stage wrote, and the result has it."""

    def write(context: StageContext) -> None:
        context["x"] = [1]

    def read(context: StageContext) -> int:
        context["x"].append(2)
        return len(context["x"])

    pipeline = Pipeline("p", [stage("t:w", writes=["x"])(write), stage("t:r", reads=["x"], after=["t:w"])(read)])
    result = execute(pipeline, store=strict())
    assert (result["t:r"].output, result.values) == (2, {"x": [1]})


def test_the_context_that_is_given_stays_as_it_is() -> None:
    """An execution has a context of its own; arguments, configuration and written values reach the stages."""
    given = StageContext({"x": 1}, configuration={"c": 2}, arguments={"a": 3})

    def work(context: StageContext) -> tuple[int, int, int]:
        context["y"] = 1
        return context["x"], context.configuration["c"], context.arguments["a"]

    result = execute(Pipeline("p", [stage("t:w", reads=["x"])(work)]), given, store=strict())
    assert result["t:w"].output == (1, 2, 3)
    assert (dict(given.values()), result.values) == ({"x": 1}, {"x": 1, "y": 1})


def test_a_value_that_cannot_be_kept_fails_its_stage_alone() -> None:
    """What a durable store cannot keep, as an output or written, makes a failure that names the spot."""

    def write(context: StageContext) -> None:
        context["lock"] = threading.Lock()

    stages = [stage("t:out")(lambda context: object()), stage("t:written")(write), noting([], "well")]
    result = execute(Pipeline("p", stages), store=strict(), on_failure="keep_going")
    assert [one.status for one in result.stages.values()] == ["failed", "failed", "ok"]
    assert "lock" in result["t:written"].why
    assert result.values == {}


def test_a_context_that_cannot_be_kept_is_refused() -> None:
    """Values to begin with that a durable store cannot keep are refused, and nothing is begun."""
    store = strict()
    with pytest.raises(EncodeError, match="conn"):
        execute(Pipeline("p", [noting([], "a")]), {"conn": object()}, store=store)
    assert store.roots() == []


# Failures


def of_failures(error: Exception) -> list[FunctionStage]:
    return [
        noting([], "first"),
        failing("bad", error, after=ids("first")),
        noting([], "beside", after=ids("first")),
        noting([], "below", after=ids("bad")),
        noting([], "last", after=ids("below", "beside")),
    ]


@pytest.mark.parametrize(
    ("how", "beside"), [("fail_fast", "not run"), ("keep_going", "ok")], ids=["fail_fast", "keep_going"]
)
def test_failure_in_the_middle(how: str, beside: str) -> None:
    """Every stage has its outcome, the exception itself is the cause, and nothing the failed stage wrote is seen."""
    error = ValueError("odd")
    store = strict()
    result = execute(Pipeline("p", of_failures(error)), store=store, on_failure=how)
    assert [one.status for one in result.stages.values()] == [
        "ok",
        "failed",
        beside,
        "upstream failed",
        "upstream failed",
    ]
    assert result["t:last"].upstream == "t:bad"
    assert result.values == {}
    assert (result.status, result.reason) == (Status.FAILED, TerminationReason.ERROR)
    with pytest.raises(StageFailed, match=r"stage 't:bad' failed: ValueError: odd") as raised:
        result.raise_for_failure()
    assert raised.value.stage_id == "t:bad"
    assert raised.value.__cause__ is error
    journal = Journal(store, clock=FakeClock())
    outcome = journal.run(result.run_id).outcome
    assert isinstance(outcome, Failed)
    assert outcome.root.type == "ValueError"
    assert not list(journal.index.open_runs())


def test_fail_fast_lets_those_that_run_finish() -> None:
    """With several at a time, a failure lets finish what runs, and begins nothing new."""
    failed, trace = threading.Event(), list[str]()

    def slow(context: StageContext) -> str:
        assert failed.wait(10)
        return "finished"

    def bad(context: StageContext) -> None:
        raise KeyError("gone")

    def told(ended: StageResult) -> None:
        if ended.status == "failed":
            failed.set()

    stages = [
        stage("t:slow")(slow),
        stage("t:bad")(bad),
        noting(trace, "more"),
        noting(trace, "later", after=ids("slow")),
    ]
    result = execute(Pipeline("p", stages), max_concurrency=2, on_stage=told)
    assert [one.status for one in result.stages.values()] == ["ok", "failed", "not run", "not run"]
    assert trace == []


def test_when_says_no() -> None:
    """A stage whose `when` says no is skipped; those that wait for it run. One whose `when` raises has failed."""

    def raises(context: StageContext) -> bool:
        raise OSError("no answer")

    stages = [
        noting([], "no", when=lambda context: 0),
        noting([], "after", after=ids("no")),
        noting([], "odd", when=raises),
    ]
    result = execute(Pipeline("p", stages), store=strict())
    assert isinstance(result["t:no"].outcome, Skipped)
    assert [one.status for one in result.stages.values()] == ["skipped", "ok", "failed"]


def test_retries_are_counted_and_see_no_writes_of_before() -> None:
    """A stage is tried as often as its policy says; what an attempt that failed wrote is gone in the next."""
    seen: list[bool] = []

    def work(context: StageContext) -> str:
        seen.append("half" in context)
        context["half"] = len(seen)
        if len(seen) < 3:
            raise ConnectionError("not yet")
        return "well"

    clock = FakeClock()
    stages = [stage("t:w", retry=Retry(max_attempts=3, delay=5.0))(work)]
    result = execute(Pipeline("p", stages), store=strict(), clock=clock, sleep=clock.advance)
    assert (result["t:w"].attempts, result["t:w"].output, seen) == (3, "well", [False] * 3)
    assert result.values == {"half": 3}
    assert result["t:w"].seconds >= 10


def test_time_is_up() -> None:
    """A stage that takes too long is left behind: it has failed, and what it still does counts for nothing."""
    go_on, over = threading.Event(), threading.Event()

    def slow(context: StageContext) -> None:
        go_on.wait(10)
        context["late"] = 1
        over.set()
        raise ValueError("too late to be told")

    async def slow_task(context: StageContext) -> None:
        import asyncio

        await asyncio.sleep(60)

    stages = [stage("t:slow", timeout=0.05)(slow), stage("t:task", timeout=0.05)(slow_task)]
    result = execute(Pipeline("p", stages), on_failure="keep_going")
    go_on.set()
    assert over.wait(10)
    assert [one.status for one in result.stages.values()] == ["failed", "failed"]
    assert TimeIsUp.__name__ in result["t:slow"].why
    assert TimeIsUp.__name__ in result["t:task"].why
    assert result.values == {}
    with pytest.raises(StageFailed) as raised:
        result.raise_for_failure()
    assert "0.05 s" in str(raised.value.__cause__)


def test_what_is_no_exception_leaves_it_open() -> None:
    """A KeyboardInterrupt in a stage goes through; the pipeline stays open, and is carried on with what had ended."""
    trace: Trace = []
    interrupt = [True]

    def work(context: StageContext) -> str:
        if interrupt:
            interrupt.clear()
            raise KeyboardInterrupt
        return "well"

    store = strict()
    pipeline = Pipeline("p", [noting(trace, "a"), stage("t:b", after=ids("a"))(work)])
    with pytest.raises(KeyboardInterrupt):
        execute(pipeline, store=store)
    run_id = store.roots(open_only=True)[0].id
    result = resume(store, run_id, pipeline)
    assert (result.run_id, result.ok, trace, result["t:b"].output) == (run_id, True, ["a"], "well")


def test_on_stage_hears_of_each_stage() -> None:
    """Each stage's result is told once it is recorded; one who raises hurts nothing."""
    told: list[tuple[str, str]] = []

    def hear(ended: StageResult) -> None:
        told.append((ended.id, ended.status))
        raise RuntimeError("not interested")

    execute(Pipeline("p", of_failures(ValueError("odd"))), on_failure="keep_going", on_stage=hear)
    assert sorted(told) == sorted(
        zip(
            ids("first", "bad", "beside", "below", "last"),
            ["ok", "failed", "ok", "upstream failed", "upstream failed"],
            strict=True,
        )
    )


# Undo


def undoing(trace: Trace, name: str, *, raises: bool = False, **options: Any) -> FunctionStage:
    def take_back(context: StageContext) -> None:
        trace.append(f"{name} undone, {context.get('first')}")
        if raises:
            raise OSError("it is stuck")

    def work(context: StageContext) -> None:
        trace.append(name)
        if name == "first":
            context["first"] = 1

    return stage(f"t:{name}", undo=take_back, **options)(work)


def test_undo_in_reverse_order() -> None:
    """After a failure what had succeeded is taken back, the last first; an undo that raises keeps no other back."""
    trace: Trace = []
    broken = [True]

    def work(context: StageContext) -> None:
        if broken:
            raise ValueError("odd")

    def mended() -> Pipeline:
        stages = [
            undoing(trace, "first"),
            undoing(trace, "second", raises=True, after=ids("first")),
            noting(trace, "third", after=ids("second")),
            stage("t:bad", after=ids("third"))(work),
        ]
        return Pipeline("p", stages)

    store = strict()
    result = execute(mended(), store=store, undo_on_failure=True)
    assert trace == ["first", "second", "third", "second undone, 1", "first undone, 1"]
    trace.clear()
    broken.clear()
    assert resume(store, result.run_id, mended()).ok
    assert trace == ["first", "second", "third"]


def test_undo_on_request() -> None:
    """What a pipeline did that has ended is taken back once, and done again when it is resumed."""
    trace: Trace = []
    store = strict()
    pipeline = Pipeline(
        "p", [undoing(trace, "first"), undoing(trace, "second", after=ids("first")), noting(trace, "third")]
    )
    result = execute(pipeline, store=store)
    trace.clear()
    assert undo(store, result.run_id, pipeline) == ids("second", "first")
    assert undo(store, result.run_id, pipeline) == []
    assert trace == ["second undone, 1", "first undone, 1"]
    again = resume(store, result.run_id, pipeline)
    assert again.ok
    assert trace[2:] == ["first", "second"]
    assert undo(store, again.run_id, pipeline) == ids("second", "first")


def test_undo_of_what_is_open_is_refused() -> None:
    """A pipeline that has not ended is not taken back; what is no pipeline is not found."""
    store = strict()
    pipeline = Pipeline("p", [stage("t:a")(interrupted)])
    with pytest.raises(KeyboardInterrupt):
        execute(pipeline, store=store)
    run_id = store.roots()[0].id
    with pytest.raises(RunStateError, match="has not ended; resume it"):
        undo(store, run_id, pipeline)
    with pytest.raises(RunNotFound):
        undo(store, "nobody", pipeline)


def interrupted(context: StageContext) -> None:
    raise KeyboardInterrupt


# Resuming


class TestTakenUpBeforeItBegan:
    """A process that stands still between entering a pipeline and holding its lease, while another takes it up."""

    def test_another_has_carried_it_out(self, tmp_path: Path) -> None:
        """It is refused as a late driver is, and gives no result in which what the other did is missing."""
        trace: Trace = []
        pipeline = Pipeline("p", [noting(trace, "one"), noting(trace, "two", after=["t:one"])])
        with Face(tmp_path / "runs.db") as mine:
            once(mine.journal, lambda run_id: resume(tmp_path / "runs.db", run_id, pipeline))
            with pytest.raises(LeaseLost):
                execute(pipeline, store=mine)
        assert trace == ["one", "two"]

    def test_another_has_died_over_it(self, tmp_path: Path) -> None:
        """What had succeeded is not run again, and its values are there."""
        trace: Trace = []

        def work(context: StageContext) -> None:
            trace.append("two")
            if trace.count("two") == 1:
                raise KeyboardInterrupt

        @stage("t:one")
        def first(context: StageContext) -> None:
            trace.append("one")
            context["found"] = 7

        pipeline = Pipeline("p", [first, stage("t:two", after=["t:one"])(work)])

        def die_over(run_id: str) -> None:
            with pytest.raises(KeyboardInterrupt):
                resume(tmp_path / "runs.db", run_id, pipeline)

        with Face(tmp_path / "runs.db") as mine:
            once(mine.journal, die_over)
            result = execute(pipeline, store=mine)
        assert (result.ok, result.values, trace) == (True, {"found": 7}, ["one", "two", "two"])

    def test_another_has_carried_out_its_next_life(self, tmp_path: Path) -> None:
        """So it is where a pipeline that had failed goes on in another run."""
        trace: Trace = []

        def work(context: StageContext) -> None:
            trace.append("two")
            if trace.count("two") == 1:
                raise OSError("no luck")

        pipeline = Pipeline("p", [noting(trace, "one"), stage("t:two", after=["t:one"])(work)])
        with Face(tmp_path / "runs.db") as mine:
            failed = execute(pipeline, store=mine)
            once(mine.journal, lambda run_id: resume(tmp_path / "runs.db", run_id, pipeline))
            with pytest.raises(LeaseLost):
                resume(mine, failed.run_id, pipeline)
        assert trace == ["one", "two", "two"]


def once(journal: Journal, act: Callable[[str], object]) -> None:
    """Act on the next pipeline that this journal enters, at the moment it is entered."""
    acted: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Started) and event.kind == "pipeline" and not acted:
            acted.append(event.run_id)
            act(event.run_id)

    journal.subscribe(hear)


def test_resume_runs_what_has_not_succeeded() -> None:
    """A pipeline that failed is carried on by another run: what succeeded does not run again, its values are there."""
    trace: Trace = []
    store = strict()

    def write(context: StageContext) -> str:
        trace.append("write")
        context["x"] = 1
        return "written"

    def bad(context: StageContext) -> int:
        trace.append("bad")
        if trace.count("bad") == 1:
            raise ValueError("odd")
        return int(context["x"])

    pipeline = Pipeline("p", [stage("t:w", writes=["x"])(write), stage("t:bad", reads=["x"], after=ids("w"))(bad)])
    first = execute(pipeline, store=store)
    second = resume(store, first.run_id, pipeline)
    assert second.run_id != first.run_id
    assert (trace, second.values, second["t:w"].output) == (["write", "bad", "bad"], {"x": 1}, "written")
    third = resume(store, first.run_id, pipeline)
    assert (third.run_id, third.values, len(trace)) == (second.run_id, {"x": 1}, 3)
    assert [one.status for one in third.stages.values()] == ["ok", "ok"]


def test_crash_at_every_write() -> None:
    """Killed before or after any write and carried on, a pipeline leaves what an undisturbed one leaves."""

    def write(context: StageContext) -> str:
        context["x"] = 1
        return "written"

    stages = [
        stage("t:w", writes=["x"])(write),
        noting([], "no", when=lambda context: False),
        stage("t:r", reads=["x"], after=ids("w", "no"))(lambda context: context["x"]),
        noting([], "last", after=ids("r")),
    ]
    pipeline = Pipeline("p", stages)

    def scenario(store: Any) -> None:
        roots = store.roots()
        result = resume(store, roots[0].id, pipeline) if roots else execute(pipeline, store=store)
        assert result.values == {"x": 1}

    assert crash_everywhere(scenario).crashes > 10


def changed_pipelines() -> tuple[Trace, Pipeline, Pipeline]:
    """A pipeline whose last stage fails, and the same with another second stage and a last that does not fail."""
    trace: Trace = []

    def other(context: StageContext) -> str:
        trace.append("b, changed")
        return "changed"

    before = [noting(trace, "a"), noting(trace, "b", after=ids("a")), noting(trace, "c", after=ids("b"))]
    after = [before[0], stage("t:b", after=ids("a"))(other), before[2]]
    bad = failing("bad", ValueError("odd"), after=ids("c"))
    well = noting(trace, "bad", after=ids("c"))
    return trace, Pipeline("p", [*before, bad]), Pipeline("p", [*after, well])


def test_a_changed_definition_is_refused() -> None:
    """Stages that have succeeded and are others now are named; the one that failed may change. Nothing is recorded."""
    trace, before, after = changed_pipelines()
    store = strict()
    result = execute(before, store=store)
    with pytest.raises(DefinitionChanged, match="t:b") as raised:
        resume(store, result.run_id, after)
    assert "t:bad" not in str(raised.value)
    assert len(store.roots()) == 1
    with pytest.raises(InvalidInput, match="changed is"):
        resume(store, result.run_id, after, changed="rerun")  # type: ignore[arg-type]
    assert trace == ["a", "b", "c"]


def test_a_changed_definition_is_kept_or_run_again() -> None:
    """What changed stages gave is kept; or they run again, and all that wait for them. After that all is well."""
    trace, before, after = changed_pipelines()
    store = strict()
    result = execute(before, store=store)
    trace.clear()
    kept = resume(store, result.run_id, after, changed="keep")
    assert (trace, kept["t:b"].output) == (["bad"], "b")

    trace, before, after = changed_pipelines()
    store = strict()
    result = execute(before, store=store)
    trace.clear()
    again = resume(store, result.run_id, after, changed="run again")
    assert (trace, again["t:b"].output) == (["b, changed", "c", "bad"], "changed")
    assert resume(store, result.run_id, after).ok


def test_other_edges_are_a_change() -> None:
    """A stage that has succeeded and now waits for a new one is another; one that was taken out is one too."""
    trace: Trace = []
    store = strict()
    bad = failing("bad", ValueError("odd"), after=ids("b"))
    result = execute(Pipeline("p", [noting(trace, "b"), bad]), store=store)
    new = Pipeline("p", [noting(trace, "new"), noting(trace, "b"), bad], [("t:new", "t:b")])
    with pytest.raises(DefinitionChanged, match="t:b"):
        resume(store, result.run_id, new)
    with pytest.raises(DefinitionChanged, match="t:b"):
        resume(store, result.run_id, Pipeline("p", [noting(trace, "other")]))


def test_one_that_has_succeeded_is_not_told_of_as_another() -> None:
    """With other stages it is refused, and they are named, unless it is said that what it gave is kept."""
    trace: Trace = []
    store = strict()
    result = execute(Pipeline("p", [noting(trace, "a"), noting(trace, "b")]), store=store)
    other = Pipeline("p", [noting(trace, "a"), noting(trace, "new")])
    with pytest.raises(InvalidInput, match="made of other stages: it differs in 't:b', 't:new'"):
        resume(store, result.run_id, other)
    assert resume(store, result.run_id, other, changed="keep")["t:new"].status == "not run"
    assert trace == ["a", "b"]


def test_a_result_of_no_such_stage_is_refused() -> None:
    """The nearest id is named."""
    result = execute(Pipeline("p", [noting([], "load")]))
    with pytest.raises(UnknownStage, match="did you mean 't:load'"):
        result["t:laod"]
    with pytest.raises(KeyError, match="look among the `stages` of 'p'"):
        result["another"]


def test_run_again_in_one_that_is_open() -> None:
    """In a pipeline whose process died, changed stages run again too, and the new result counts."""
    trace: Trace = []
    store = strict()
    last = stage("t:last", after=ids("b"))(interrupted)
    with pytest.raises(KeyboardInterrupt):
        execute(Pipeline("p", [noting(trace, "b"), last]), store=store)

    def other(context: StageContext) -> str:
        return "other"

    changed = Pipeline("p", [stage("t:b")(other), noting(trace, "last", after=ids("b"))])
    result = resume(store, store.roots()[0].id, changed, changed="run again")
    assert [one.output for one in result.stages.values()] == ["other", "last"]


# Stopping and pausing


def test_broken_from_another_thread(tmp_path: Path) -> None:
    """Broken from outside, the pipeline begins nothing more; its result says who waits no longer, and why."""
    running, go_on = threading.Event(), threading.Event()

    def work(context: StageContext) -> None:
        running.set()
        go_on.wait(10)

    pipeline = Pipeline("p", [stage("t:a")(work), noting([], "b", after=ids("a"))])
    store = open_store(tmp_path / "runs.db")
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(execute(pipeline, store=store, max_concurrency=2)))
    thread.start()
    assert running.wait(10)
    other = Journal(open_store(tmp_path / "runs.db"), clock=time)
    run_id = other.store.roots()[0].id
    other.insist(run_id, rules.end_subtree, Abandoned("not wanted any more"), TerminationReason.MANUAL)
    thread.join(10)
    go_on.set()
    other.store.close()
    store.close()
    result = results[0]
    assert (result.status, result.why) == (Status.ABANDONED, "not wanted any more")
    assert [one.status for one in result.stages.values()] == ["stopped", "not run"]
    assert {one.why for one in result.stages.values()} == {"not wanted any more"}
    with pytest.raises(PipelineFailed, match="is abandoned: not wanted any more") as raised:
        result.raise_for_failure()
    assert raised.value.result is result


def test_a_paused_pipeline_begins_nothing() -> None:
    """Paused by a stage of its own, it waits before the next stage until it is resumed."""
    trace: Trace = []

    def pause(context: StageContext) -> None:
        assert context.journal is not None
        assert context.run_id is not None
        parent = context.journal.run(context.run_id).parent_id
        assert parent is not None
        context.journal.insist(parent, rules.pause, "a look first")
        threading.Timer(0.2, lambda: resumed(context.journal, parent)).start()

    def resumed(journal: Journal | None, run_id: str) -> None:
        assert journal is not None
        trace.append("resumed")
        journal.insist(run_id, rules.resume)

    result = execute(Pipeline("p", [stage("t:a")(pause), noting(trace, "b", after=ids("a"))]))
    assert result.ok
    assert trace == ["resumed", "b"]


def test_a_budget_that_runs_out() -> None:
    """Where the budget has no room for another stage, the rest is not run, and the limit is named."""
    trace: Trace = []
    result = execute(Pipeline("p", [noting(trace, name) for name in "abc"]), budget=Budget(descendants=2))
    assert (result.reason, trace) == (TerminationReason.BUDGET_EXHAUSTED, ["a", "b"])
    assert result["t:c"].status == "not run"
    assert "descendants" in result["t:c"].why


def test_what_is_not_run_uses_nothing() -> None:
    """Stages that are entered only to say that they are not run, for want of room or after a failure, cost nothing."""
    trace: Trace = []
    many = [noting(trace, name) for name in "abc"]
    after = [failing("a", OSError("no")), noting(trace, "b", after=ids("a"))]
    for stages, limit, used in ((many, 2, 2), (after, 5, 1)):
        store = strict()
        result = execute(Pipeline("p", stages), store=store, budget=Budget(descendants=limit))
        account = Journal(store, clock=FakeClock()).run(result.run_id).account
        assert account is not None
        assert account.spent == {"descendants": used}
        assert len(result.stages) == len(stages)


# Looking


def test_times_and_the_critical_path() -> None:
    """The result knows how long each stage took, the chain that took longest, and all of them together."""
    clock = FakeClock()

    def taking(name: str, seconds: float, **options: Any) -> FunctionStage:
        return stage(f"t:{name}", **options)(lambda context: clock.advance(seconds))

    stages = [taking("a", 1), taking("b", 5), taking("c", 3, after=ids("a")), taking("d", 2, after=ids("b"))]
    result = execute(Pipeline("p", stages), clock=clock)
    assert (result.critical_path, result.critical_seconds) == (("t:b", "t:d"), 7.0)
    assert (result.serial_seconds, result.seconds, result.width) == (11.0, 11.0, 1)
    assert (result["t:c"].started_at, result["t:c"].seconds) == (clock.time() - 5, 3.0)


def test_progress_is_weighted() -> None:
    """How far a pipeline has come counts stages by their weight; the report for any run counts them by number."""
    seen: list[Any] = []
    store = strict()

    def look(context: StageContext) -> None:
        assert context.journal is not None
        assert context.run_id is not None
        run_id = str(context.journal.run(context.run_id).parent_id)
        seen.append(progress(context.journal, run_id))
        seen.append(ProgressReport.of(context.journal, run_id))

    stages = [noting([], "a", weight=3), stage("t:b", after=ids("a"))(look), noting([], "c", after=ids("b"), weight=6)]
    result = execute(Pipeline("p", stages), store=store)
    assert (seen[0].fraction, seen[0].done, seen[0].total) == (0.3, 1, 3)
    assert list(seen[0].stages.values()) == [1.0, 0.0, 0.0]
    assert (seen[1].done, seen[1].total) == (1, 3)
    assert progress(store, result.run_id).fraction == 1.0


# Wrong calls


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_concurrency": 0}, InvalidInput),
        ({"max_concurrency": "4"}, WrongType),
        ({"max_concurrency": True}, WrongType),
        ({"on_failure": "carry on"}, InvalidInput),
        ({"max_concurency": 4}, InvalidInput),
        ({"lease_seconds": 0}, InvalidInput),
        ({"on_stage": "print"}, WrongType),
        ({"undo_on_failure": "yes"}, WrongType),
        ({"how": Execution(), "max_concurrency": 2}, InvalidInput),
        ({"how": 4}, WrongType),
        ({"key": "again"}, InvalidInput),
    ],
)
def test_wrong_options_change_nothing(options: dict[str, Any], error: type[Exception]) -> None:
    """Options that make no sense are refused before anything is begun."""
    store = strict()
    with pytest.raises(error):
        execute(Pipeline("p", [noting([], "a")]), store=store, **options)
    assert store.roots() == []


def test_wrong_pipelines_and_contexts() -> None:
    """What is no pipeline, cannot be run, or is a context for dry runs is refused, and nothing is begun."""
    store = strict()
    with pytest.raises(WrongType, match="is a Pipeline"):
        execute([noting([], "a")], store=store)  # type: ignore[arg-type]
    with pytest.raises(InvalidPipeline):
        execute(Pipeline("p", [noting([], "a", reads=["nothing"])]), store=store)
    with pytest.raises(InvalidInput, match="dry"):
        execute(Pipeline("p", [noting([], "a")]), StageContext(mode=Mode.DRY), store=store)
    with pytest.raises(WrongType, match=r"values by name, not \['a'\]"):
        execute(Pipeline("p", [noting([], "a")]), ["a"], store=store)  # type: ignore[arg-type]
    with pytest.raises(WrongType, match="a store is a path"):
        execute(Pipeline("p", [noting([], "a")]), store=5)  # type: ignore[arg-type]
    with pytest.raises(RunNotFound):
        execute(Pipeline("p", [noting([], "a")]), store=store, parent="nobody")
    assert store.roots() == []
    assert execute(Pipeline("p", [noting([], "a", reads=["given"])]), {"given": 1}).ok


def test_an_empty_pipeline() -> None:
    """A pipeline without stages succeeds at once."""
    result = execute(Pipeline("empty"), store=strict())
    assert (result.ok, dict(result.stages), result.critical_path) == (True, {}, ())


def test_inside_an_event_loop() -> None:
    """Called inside an event loop it is refused, with what to call instead."""
    import asyncio

    async def call() -> None:
        with pytest.raises(RuntimeError, match=r"asyncio\.to_thread"):
            execute(Pipeline("p"))
        assert (await asyncio.to_thread(execute, Pipeline("p"))).ok

    asyncio.run(call())


def test_a_store_that_is_full() -> None:
    """Where the store cannot write any more, it is said at once; what was kept is carried on with later."""
    trace: Trace = []
    store = strict()
    pipeline = Pipeline("p", [noting(trace, name) for name in "abcd"])

    class Full(DyingStore):
        def append(self, *records: Any) -> None:
            if self.writes == 3:
                raise StoreError("no space left on device")
            super().append(*records)

    with pytest.raises(StoreError, match="no space left"):
        execute(pipeline, store=Full(store))
    done = list(trace)
    result = resume(store, store.roots()[0].id, pipeline)
    assert result.ok
    assert [name for name in "abcd" if trace.count(name) > 1] == done[-1:]


# Below a stage


def below(function: Callable[[Journal, str], Any]) -> Callable[[StageContext], Any]:
    """A stage's function, given the journal and the run of the stage."""

    def work(context: StageContext) -> Any:
        assert context.journal is not None
        assert context.run_id is not None
        return function(context.journal, context.run_id)

    return work


def test_twenty_pipelines_in_each_other() -> None:
    """A pipeline in a stage of a pipeline, twenty deep, is one tree; the value comes up through all of them."""
    store = strict()

    def nested(level: int) -> Pipeline:
        def work(journal: Journal, run_id: str) -> int:
            if not level:
                return 1
            inner = execute(nested(level - 1), store=journal, parent=run_id)
            return 1 + int(inner.raise_for_failure()["t:only"].output)

        return Pipeline(f"level {level}", [stage("t:only")(below(work))])

    assert execute(nested(20), store=store)["t:only"].output == 21
    assert len(store.roots()) == 1


def test_an_inner_failure_comes_up_with_its_cause() -> None:
    """The failure of a stage of an inner pipeline is the cause of the outer stage's failure."""
    error = ValueError("deep")
    inner = Pipeline("inner", [failing("bad", error)])
    outer = stage("t:outer")(below(lambda j, r: execute(inner, store=j, parent=r).raise_for_failure()))
    result = execute(Pipeline("outer", [outer]), store=strict())
    with pytest.raises(StageFailed) as raised:
        result.raise_for_failure()
    cause = raised.value.__cause__
    assert isinstance(cause, StageFailed)
    assert cause.__cause__ is error


def test_inner_pipelines_and_loops_are_found_again() -> None:
    """Killed at any write and carried on, what a stage had begun below itself goes on, and is not begun twice."""

    def body(state: dict[str, Any]) -> State:
        return State(count=state.get("count", 0) + 1)

    def poll(journal: Journal, run_id: str) -> int:
        controller = LoopController("poll", store=journal, parent=run_id, stop_when=max_iterations(3))
        return controller.run(body).iterations

    inner = Pipeline("inner", [noting([], "a"), noting([], "b", after=ids("a"))])
    stages = [
        stage("t:inner")(below(lambda j, r: execute(inner, store=j, parent=r).raise_for_failure().ok)),
        stage("t:poll", after=ids("inner"))(below(poll)),
    ]
    outer = Pipeline("outer", stages)

    def scenario(store: Any) -> None:
        roots = store.roots()
        result = resume(store, roots[0].id, outer) if roots else execute(outer, store=store)
        assert [one.output for one in result.raise_for_failure().stages.values()] == [True, 3]

    assert crash_everywhere(scenario).crashes > 20


def test_a_resumed_pipeline_carries_on_its_inner_pipelines() -> None:
    """When the outer pipeline is resumed after a failure, what had succeeded in the inner one is not run again."""
    trace: Trace = []

    def bad(context: StageContext) -> str:
        trace.append("b")
        if trace.count("b") == 1:
            raise ValueError("odd")
        return "well"

    inner = Pipeline("inner", [noting(trace, "a"), stage("t:b", after=ids("a"))(bad)])
    work = below(lambda j, r: execute(inner, store=j, parent=r).raise_for_failure().ok)
    outer = Pipeline("outer", [stage("t:outer")(work)])
    store = strict()
    failed = execute(outer, store=store)
    assert resume(store, failed.run_id, outer).ok
    assert trace == ["a", "b", "b"]


def test_retried_stages_carry_on_their_inner_pipelines() -> None:
    """Tried again, or after its time was up, a stage carries on the pipeline that it had begun; nobody drives twice."""
    trace: Trace = []
    go_on = threading.Event()

    def slow(context: StageContext) -> str:
        trace.append("slow")
        if trace.count("slow") == 1:
            go_on.wait(10)
        return "well"

    inner = Pipeline("inner", [noting(trace, "a"), stage("t:slow", after=ids("a"))(slow)])
    work = below(lambda j, r: execute(inner, store=j, parent=r).raise_for_failure()["t:slow"].output)
    outer = stage("t:outer", timeout=0.5, retry=Retry(max_attempts=2, delay=0.0))(work)
    result = execute(Pipeline("outer", [outer]), store=strict())
    go_on.set()
    assert (result["t:outer"].output, result["t:outer"].attempts) == ("well", 2)
    assert trace == ["a", "slow", "slow"]


def test_two_of_one_name_below_a_stage() -> None:
    """One pipeline run twice below a stage with other values needs keys; with them each has its own run."""
    inner = Pipeline("inner", [stage("t:in", reads=["x"])(lambda context: context["x"])], inputs=["x"])

    def twice(journal: Journal, run_id: str, *keys: str | None) -> list[int]:
        results = [execute(inner, {"x": x}, store=journal, parent=run_id, key=key) for x, key in enumerate(keys)]
        return [one["t:in"].output for one in results]

    stages = [
        stage("t:keyed")(below(lambda j, r: twice(j, r, "one", "two"))),
        stage("t:unkeyed")(below(lambda j, r: twice(j, r, None, None))),
    ]
    result = execute(Pipeline("outer", stages), store=strict())
    assert result["t:keyed"].output == [0, 1]
    assert "give each its own key" in result["t:unkeyed"].why


# Agents


def writer() -> Agent:
    """An agent that answers with its goal in capitals."""
    agent = Agent("writer")

    @agent.verify
    def check(loop: Loop) -> Verdict:
        return Verdict.passed(loop.goal.upper())

    return agent


def lead(helper: Agent) -> Agent:
    """An agent that hands two goals on, and puts together what comes back."""
    agent = Agent("lead")

    @agent.answer
    def hand_on(loop: Loop) -> None:
        loop.spawn("one", agent=helper)
        loop.spawn("two", agent=helper)

    @agent.verify
    def check(loop: Loop) -> Verdict:
        return Verdict.passed(sorted(loop.child_results.values()))

    return agent


def thinking() -> tuple[Pipeline, list[Agent]]:
    """A pipeline one of whose stages is an agent that spawns others."""
    helper = writer()
    leader = lead(helper)

    def think(journal: Journal, run_id: str) -> Any:
        result = cortical.agents.run(leader, "think", store=journal, parent=run_id, agents=[helper])
        return result.raise_for_failure().value

    return Pipeline("thinking", [stage("t:think")(below(think)), noting([], "use", after=ids("think"))]), [
        leader,
        helper,
    ]


def test_a_stage_that_is_an_agent() -> None:
    """Killed at any write and carried on, a stage drives its agent's loops to the same end, in the one tree."""
    pipeline, _ = thinking()

    def scenario(store: Any) -> None:
        roots = store.roots()
        result = resume(store, roots[0].id, pipeline) if roots else execute(pipeline, store=store)
        assert result.raise_for_failure()["t:think"].output == ["ONE", "TWO"]
        assert len(store.roots()) == 1

    assert crash_everywhere(scenario).crashes > 20


def test_a_pipeline_in_the_phase_of_an_agent() -> None:
    """An agent's phase runs a pipeline whose stage is an agent; each turn has its own, at any crash."""
    pipeline, agents = thinking()
    outer = Agent("outer")

    @outer.answer
    def work(loop: Loop) -> None:
        result = execute(pipeline, store=loop.journal, parent=loop.id)
        loop.answer(result.raise_for_failure()["t:think"].output)

    @outer.verify
    def check(loop: Loop) -> Verdict:
        return Verdict.passed(loop.answers[-1]) if loop.turn == 2 else Verdict.revise("once more")

    def scenario(store: Any) -> None:
        roots = store.roots()
        if roots:
            result = cortical.agents.resume(store, roots[0].id, agents=[outer, *agents])
        else:
            result = cortical.agents.run(outer, "all", store=store)
        assert result.raise_for_failure().value == ["ONE", "TWO"]
        journal = Journal(store, clock=time)
        kinds = [child.kind for child in journal.run(result.run_id).children]
        assert kinds == ["pipeline", "pipeline"]

    assert crash_everywhere(scenario).crashes > 40


def test_a_pipeline_in_a_controlled_loop() -> None:
    """A loop runs a pipeline in each of its iterations; each has its own run below the loop."""
    journal = Journal(strict(), clock=FakeClock())
    trace: Trace = []
    controller = LoopController("rounds", store=journal, stop_when=max_iterations(3))

    def body(state: dict[str, Any]) -> int:
        pipeline = Pipeline("inner", [noting(trace, "a")])
        return len(execute(pipeline, store=journal, parent=controller.run_id).raise_for_failure().stages)

    assert controller.run(body).iterations == 3
    assert trace == ["a"] * 3
    assert [child.kind for child in journal.run(controller.run_id).children] == ["pipeline"] * 3


def test_an_agent_below_a_run_that_others_drive() -> None:
    """While somebody else drives the tree, an agent is not started below one of its runs by another journal."""
    store = strict()
    journal = Journal(store, clock=time)
    journal.plant("top", rules.start, "pipeline", "top", place="work")
    with holding_lease(journal, "top"):
        assert cortical.agents.run(writer(), "well", store=journal, parent="top").value == "WELL"
        with pytest.raises(LeaseHeld):
            cortical.agents.run(writer(), "other", store=store, parent="top")
    found = begun_below(journal, "top", "loop", "well")
    assert found is not None
    assert isinstance(found.outcome, Ok)
    with pytest.raises(InvalidInput, match="give the parent too"):
        cortical.agents.run(writer(), "well", store=store, key="k")


def test_huge_values(durable: Any) -> None:
    """A value of some megabytes is kept, handed on, and there after a resume."""
    big = "x" * 3_000_000

    def write(context: StageContext) -> None:
        context["big"] = big

    stages = [
        stage("t:w", writes=["big"])(write),
        stage("t:r", reads=["big"], after=ids("w"))(lambda context: len(context["big"])),
    ]
    result = execute(Pipeline("p", stages), store=durable)
    assert result["t:r"].output == len(big)
    assert resume(durable, result.run_id, Pipeline("p", stages)).values == {"big": big}
