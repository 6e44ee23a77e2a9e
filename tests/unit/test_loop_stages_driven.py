"""Loop stages that are driven: the same rules, called by the library."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

import cortical.agents
from cortical import Agent, Loop, Verdict
from cortical.batch import BatchProcessor
from cortical.core import rules
from cortical.core.errors import InvalidInput, LeaseHeld, RunStateError, WrongType
from cortical.core.journal import Journal
from cortical.stages import Pipeline, execute, stage
from cortical.stages.loop import StageHandler, Work
from cortical.store import MemoryStore
from cortical.testing import FakeClock, crash_everywhere
from tests.threads import in_threads

SUBSTAGES = {"load": {"sequence": 1}, "extra": {"sequence": 2, "optional": True}, "save": {"sequence": 3}}


def handler_of(substages: Any = SUBSTAGES, store: Any = None, **options: Any) -> StageHandler:
    given = {key: options.pop(key) for key in ("clock", "sleep") if key in options}
    loop = {"type": "fixed", "count": 3, **options}
    stage = {"loop_config": loop, "substages": substages, "decisions": {"d": {"limit": 1}}}
    return StageHandler({"stages": {"s": stage}}, store=store, **given)


def test_every_substage_of_every_iteration() -> None:
    """The work is called for each substage in order; results are joined, and the summary is the stage's."""
    seen = []

    def work(at: Work) -> Any:
        assert at.iteration is not None
        seen.append((at.iteration.current, at.substage))
        at.carry = (at.carry or 0) + 1
        return {"rows": at.iteration.current} if at.substage == "load" else at.substage == "save" or None

    record = handler_of().run_stage("s", work)
    assert seen == [(number, name) for number in (1, 2, 3) for name in SUBSTAGES]
    assert record.status == "completed"
    assert record.result["results"] == [{"rows": number, "save": True} for number in (1, 2, 3)]
    assert (record.result["sums"], record.result["carry"]) == ({"rows": 6}, 9)


def test_a_lease_of_no_time_is_refused() -> None:
    """When the handler is made, before any process is begun."""
    with pytest.raises(InvalidInput, match="lease_seconds is more than 0"):
        StageHandler({"stages": {"s": {}}}, lease_seconds=0)


def test_coroutines() -> None:
    """A coroutine function is awaited; inside an event loop the call is refused."""

    async def work(at: Work) -> int:
        await asyncio.sleep(0)
        return at.data * 2 if at.data else 0

    handler = handler_of({}, type="dynamic", count=None, items=[1, 2])
    assert handler.run_stage("s", work).result["results"] == [2, 4]

    async def inside() -> None:
        handler_of().run_stage("s", work)

    with pytest.raises(RuntimeError, match="would block the event loop"):
        asyncio.run(inside())


def test_a_plain_stage() -> None:
    """A stage that does not loop is driven through its substages; one that fails ends it."""
    handler = StageHandler({"stages": {"s": {"substages": SUBSTAGES}}})

    def work(at: Work) -> str:
        assert (at.iteration, at.data, at.parameters) == (None, None, {})
        if at.substage == "extra":
            raise OSError("not there")
        return f"{at.substage} done"

    assert handler.run_stage("s", work).result == {"load": "load done", "save": "save done"}
    broken = StageHandler({"stages": {"s": {"substages": SUBSTAGES}}})
    record = broken.run_stage("s", lambda at: 1 // 0)
    assert (record.status, record.error) == ("failed", "ZeroDivisionError: integer division or modulo by zero")
    again = broken.run_stage("s", lambda at: 1)
    assert again.status == "completed"


def test_failures_are_tried_again() -> None:
    """A failed iteration is tried again after its delay, all its substages anew; an optional one fails alone."""
    clock = FakeClock()
    waited: list[float] = []
    calls: list[tuple[int, str | None]] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        clock.advance(seconds)

    def work(at: Work) -> int:
        assert at.iteration is not None
        calls.append((at.iteration.attempt, at.substage))
        if at.substage == "extra" or (at.substage == "save" and at.iteration.attempt == 1):
            raise OSError("busy")
        return 1

    retry = {"max_attempts": 2, "delay": 3.0}
    record = handler_of(count=1, on_error="retry", retry=retry, clock=clock, sleep=sleep).run_stage("s", work)
    assert waited == [3.0]
    assert calls == [(attempt, name) for attempt in (1, 2) for name in SUBSTAGES]
    assert (record.status, record.result["attempts"]) == ("completed", 2)


def test_a_failed_loop_fails_its_stage() -> None:
    """A loop that fails ends the stage as failed, with what stopped it."""
    record = handler_of().run_stage("s", lambda at: 1 // 0)
    assert record.status == "failed"
    assert "iteration 1 failed: integer division" in str(record.error)


def test_pause_and_go_on() -> None:
    """Paused by its own work the drive returns; driven again it goes on after what is done, with the same results."""
    seen = []

    def work(at: Work) -> Any:
        assert at.iteration is not None
        seen.append((at.iteration.current, at.substage))
        if seen[-1] == (2, "load") and seen.count((2, "load")) == 1:
            at.handler.make_decision("s", "d", {"limit": 2}, action="pause")
        return at.substage

    handler = handler_of()
    assert handler.run_stage("s", work).status == "paused"
    assert handler.run_stage("s", work).status == "paused"
    handler.resume_loop("s")
    record = handler.run_stage("s", work)
    assert seen == [(number, name) for number in (1, 2, 3) for name in SUBSTAGES]
    assert record.result["results"][1] == {"load": "load", "extra": "extra", "save": "save"}
    assert handler.run_stage("s", work).result == record.result


@pytest.mark.parametrize(
    ("action", "started", "completed"), [("break", 2, 1), ("skip", 3, 2), ("retry", 3, 3), ("modify", 3, 3)]
)
def test_decisions_of_the_work(action: str, started: int, completed: int) -> None:
    """The work may break, skip, retry and modify by decisions; what it leaves is not done further."""
    after = []

    def work(at: Work) -> None:
        assert at.iteration is not None
        if (at.iteration.current, at.iteration.attempt, at.substage) == (2, 1, "load"):
            at.handler.make_decision("s", "d", {"limit": 2}, action=action)
        elif at.iteration.current == 2:
            after.append((at.iteration.attempt, at.substage))

    result = handler_of().run_stage("s", work).result
    assert (result["iterations"], result["completed"]) == (started, completed)
    expected = {
        "break": [],
        "skip": [],
        "retry": [(2, name) for name in SUBSTAGES],
        "modify": [(1, "extra"), (1, "save")],
    }
    assert after == expected[action]


@pytest.mark.parametrize(
    ("action", "started", "completed"), [("break", 2, 1), ("skip", 3, 2), ("retry", 3, 3), ("modify", 3, 3)]
)
@pytest.mark.parametrize("substages", [SUBSTAGES, {}])
def test_decisions_of_others(action: str, started: int, completed: int, substages: Any, tmp_path: Path) -> None:
    """What another process decides while an iteration's work is under way holds as if the work had decided it."""
    calls: list[tuple[int, int]] = []

    def work(at: Work) -> None:
        assert at.iteration is not None
        calls.append((at.iteration.current, at.iteration.attempt))
        at.carry = len(calls)
        if calls.count((2, 1)) == 1 and calls[-1] == (2, 1):
            with StageHandler(at.handler.config, store=tmp_path / "s.db") as other:
                other.resume_process(at.handler.process_id)
                other.make_decision("s", "d", {"limit": 2}, action=action)

    with handler_of(substages, tmp_path / "s.db") as handler:
        result = handler.run_stage("s", work).result
    assert (result["iterations"], result["completed"]) == (started, completed)
    assert result["attempts"] == started + (action == "retry")
    if not substages:
        assert len(calls) == result["attempts"]  # the work of an iteration is not called twice


def test_a_pause_by_another_process(tmp_path: Path) -> None:
    """Paused by another process the drive returns after the iteration under way, or a tenth of a second later."""
    with handler_of({}, tmp_path / "s.db", count=10**6) as handler:

        def work(at: Work) -> None:
            if at.iteration is not None and at.iteration.current == 2:
                with StageHandler(handler.config, store=tmp_path / "s.db") as other:
                    other.resume_process(handler.process_id)
                    other.pause_loop("s", "by hand")

        assert handler.run_stage("s", work).status == "paused"
        assert 2 <= len(handler.get_iterations("s")) < 10**6


def test_a_stage_that_another_process_ends(tmp_path: Path) -> None:
    """A stage that another process ends while its work is under way is left as that has ended it."""
    with handler_of(store=tmp_path / "s.db") as handler:

        def work(at: Work) -> None:
            with StageHandler(handler.config, store=tmp_path / "s.db") as other:
                other.resume_process(handler.process_id)
                other.skip_stage("s", "not needed")

        assert handler.run_stage("s", work).status == "skipped"


def test_ctrl_c_leaves_the_stage_open() -> None:
    """Ctrl-C goes through; driven again, the substage that was under way is called once more, the others are not."""
    calls: list[str | None] = []

    def work(at: Work) -> None:
        calls.append(at.substage)
        if calls == ["load", "extra"]:
            raise KeyboardInterrupt

    handler = handler_of(count=1)
    with pytest.raises(KeyboardInterrupt):
        handler.run_stage("s", work)
    assert handler.run_stage("s", work).status == "completed"
    assert calls == ["load", "extra", "extra", "save"]


def test_what_a_substage_carries_on_is_not_lost() -> None:
    """What a substage means to carry on is kept with it: driven again, the substages after it find it."""
    died: list[Any] = []

    def work(at: Work) -> None:
        if at.substage == "load":
            at.carry = [*(at.carry or []), at.data]
        elif at.substage == "save" and len(at.carry) == 2 and not died:
            died.append(at.carry)
            raise KeyboardInterrupt

    handler = handler_of(type="dynamic", count=None, items=["a", "b", "c"])
    with pytest.raises(KeyboardInterrupt):
        handler.run_stage("s", work)
    assert died == [["a", "b"]]
    assert handler.run_stage("s", work).result["carry"] == ["a", "b", "c"]


def test_time_is_up() -> None:
    """Work that takes longer than the iteration may is left behind, and the iteration fails."""
    release = threading.Event()
    handler = handler_of({}, count=2, iteration_timeout=0.05, on_error="continue")

    def work(at: Work) -> str:
        assert at.iteration is not None
        if at.iteration.current == 1:
            release.wait(10)
        return "quick"

    result = handler.run_stage("s", work).result
    release.set()
    assert (result["failed"], result["results"]) == (1, ["quick"])
    assert "TimeIsUp" in str(handler.get_iterations("s")[0].error)


def test_one_driver_at_a_time() -> None:
    """Who drives holds the lease on the process: another driver is told before it does any work."""
    handler = handler_of(count=1)

    def work(at: Work) -> None:
        if at.substage == "load":
            other = StageHandler(handler.config, store=handler.store)
            other.resume_process(handler.process_id)
            with pytest.raises(LeaseHeld):
                other.run_stage("s", work)

    assert handler.run_stage("s", work).status == "completed"


def test_what_cannot_be_kept_fails_its_iteration() -> None:
    """A result that the store cannot keep makes its substage, or its iteration, fail; nothing else."""
    handler = handler_of(store=MemoryStore(strict=True), on_error="continue")
    result = handler.run_stage("s", lambda at: object() if at.iteration.current == 2 else 1).result  # type: ignore[union-attr]
    assert (result["completed"], result["failed"]) == (2, 1)
    plain = handler_of({}, store=MemoryStore(strict=True), on_error="continue")
    result = plain.run_stage("s", lambda at: object() if at.iteration.current == 2 else 1).result  # type: ignore[union-attr]
    assert (result["completed"], result["failed"]) == (2, 1)


def test_what_is_no_work() -> None:
    """Work that cannot be called is refused before anything begins."""
    handler = handler_of()
    with pytest.raises(WrongType):
        handler.run_stage("s", "work")  # type: ignore[arg-type]
    assert not handler.has_process


def test_threads_share_a_handler() -> None:
    """Threads that walk stages of one handler at the same moment do not disturb each other."""
    names = [f"s{number}" for number in range(4)]
    stages = {name: {"loop_config": {"type": "fixed", "count": 50}, "substages": SUBSTAGES} for name in names}
    handler = StageHandler({"stages": stages})
    handler.initialize_process("threads")
    failed: list[BaseException] = []

    def walk(name: str) -> None:
        try:
            handler.start_stage(name)
            handler.initialize_loop(name)
            while handler.has_next_iteration(name):
                handler.start_iteration(name)
                for substage in SUBSTAGES:
                    handler.start_substage(name, substage)
                    handler.complete_substage(name, substage)
                handler.complete_iteration(name, True, 1)
            handler.complete_stage(name, True, handler.complete_loop(name))
        except BaseException as error:  # noqa: BLE001  # told below
            failed.append(error)

    in_threads(walk, names)
    assert failed == []
    process = handler.journal.run(handler.process_id)
    assert process.status.value == "completed"
    assert [child.value["sums"] for child in process.children] == [50] * 4


# Below another run


def test_a_loop_stage_in_the_phase_of_an_agent() -> None:
    """A phase drives a process and runs a batch, each found again at any crash; each turn has its own process.

    What it runs so is no child that brings back a result of its own.
    """
    outer = Agent("outer")

    @outer.answer
    def work(loop: Loop) -> None:
        handler = handler_of(store=loop.journal)
        handler.initialize_process("inner", parent=loop.id)
        record = handler.run_stage("s", rows_saved)
        # One item after another: those that end at the same moment are one record, and how many do is chance.
        name = f"double {loop.turn}"
        batch = BatchProcessor(".", name, doubled, store=loop.journal, parent=loop.id, max_concurrency=1)
        loop.answer([record.result["sums"], batch.run([1, 2]).results])
        assert (loop.child_results, loop.child_failures) == ({}, {})

    @outer.verify
    def check(loop: Loop) -> Verdict:
        return Verdict.passed(loop.answers[-1]) if loop.turn == 2 else Verdict.revise("once more")

    def scenario(store: Any) -> None:
        roots, clock = store.roots(), FakeClock()  # the summaries tell how long it took
        if roots:
            result = cortical.agents.resume(store, roots[0].id, agents=[outer], clock=clock)
        else:
            result = cortical.agents.run(outer, "all", store=store, clock=clock)
        assert result.raise_for_failure().value == [{"rows": 6}, [2, 4]]
        kinds = [child.kind for child in Journal(store, clock=clock).run(result.run_id).children]
        assert kinds == ["process", "batch"] * 2

    assert crash_everywhere(scenario).crashes > 100


def rows_saved(at: Work) -> dict[str, int] | None:
    assert at.iteration is not None
    return {"rows": at.iteration.current} if at.substage == "save" else None


def doubled(item: int, task: Any, context: Any) -> int:
    return 2 * item


def begun(handler: StageHandler, parent: str = "top") -> str:
    return handler.initialize_process("inner", parent=parent)


def test_a_process_is_found_again_below_its_parent() -> None:
    """Begun again below the same run it is the same process; one that failed is begun anew, one of a pipeline is not
    taken for it, and another configuration is refused.
    """
    journal = Journal(MemoryStore(strict=True), clock=FakeClock())
    journal.plant("top", rules.start, "stage", "top", place="work")
    handler = handler_of(store=journal)
    first = begun(handler)
    handler.start_stage("s")
    with pytest.raises(RunStateError, match="another configuration of 's'"):
        begun(handler_of(count=4, store=journal))
    assert begun(again := handler_of(store=journal)) == first
    assert again.run_stage("s", lambda at: at.substage).status == "completed"
    assert begun(handler_of(store=journal)) == first
    pipeline = Pipeline("inner", [stage("t:one")(lambda context: 1)])
    assert execute(pipeline, store=journal, parent="top").ok
    assert begun(handler_of(store=journal)) == first

    journal.plant("other", rules.start, "stage", "other", place="work")
    failed = begun(handler := handler_of(store=journal), "other")
    handler.complete_process(success=False)
    assert begun(handler_of(store=journal), "other") not in (first, failed)
