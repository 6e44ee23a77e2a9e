"""Whatever is called in whatever order: a refused call changes nothing, and the rules of loops hold."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings, strategies as st

from cortical.core.errors import CorticalError
from cortical.core.events import Started
from cortical.core.outcome import Ok
from cortical.core.run import Run
from cortical.core.tree import Tree
from cortical.stages.loop import StageHandler
from cortical.store import MemoryStore
from cortical.testing import FakeClock
from cortical.testing.compare import outline

SUBSTAGES = {"a": {"sequence": 1}, "b": {"sequence": 2, "optional": True}, "c": {"sequence": 2}, "d": {"sequence": 3}}

loops = st.fixed_dictionaries(
    {
        "on_error": st.sampled_from(["fail", "continue", "retry", "rollback"]),
        "on_limit": st.sampled_from(["stop", "fail"]),
        "max_iterations": st.integers(1, 4),
    }
) | st.just({"on_error": "continue", "tolerated_failures": 0.5, "max_iterations": 3})
sources = st.sampled_from(
    [
        {"type": "fixed", "count": 3},
        {"type": "dynamic", "items": [1, 2, 3, 4, 5], "batch_size": 2},
        {"type": "condition-based", "continue_condition": "more"},
    ]
)
some_stage = st.sampled_from(["loop", "plain"])
substage = st.sampled_from(list(SUBSTAGES))
truth = st.booleans()
reason = st.sampled_from(["", "because"])
calls = st.one_of(
    st.tuples(st.just("start_iteration"), st.just("loop")),
    st.tuples(st.just("start_iteration"), st.just("loop")),
    st.tuples(st.just("through"), st.just("loop"), truth),
    st.tuples(st.just("through"), st.just("loop"), st.just(True)),
    st.tuples(st.sampled_from(["start_stage", "initialize_loop", "complete_loop"]), some_stage),
    st.tuples(st.just("complete_stage"), some_stage, truth),
    st.tuples(st.sampled_from(["start_substage", "complete_substage", "skip_substage"]), some_stage, substage),
    st.tuples(st.just("complete_substage"), some_stage, substage, truth),
    st.tuples(st.just("complete_iteration"), st.just("loop"), truth, st.just({"more": 1}), st.integers(0, 3)),
    st.tuples(st.just("complete_iteration"), st.just("loop"), truth, st.just({"more": 0})),
    st.tuples(st.sampled_from(["skip_iteration", "retry_iteration", "rollback_iteration"]), st.just("loop"), reason),
    st.tuples(st.sampled_from(["pause_loop", "break_loop"]), st.just("loop"), reason),
    st.tuples(st.sampled_from(["resume_loop", "resume_loop"]), st.just("loop")),
    st.tuples(st.just("update_loop_condition"), st.just("loop"), truth),
    st.tuples(st.just("decide"), st.sampled_from([None, "continue", "break", "pause", "skip", "retry"])),
)


def handler_of(loop: dict[str, Any], store: Any) -> StageHandler:
    stages = {
        "loop": {"loop_config": loop, "substages": SUBSTAGES, "decisions": {"d": {"limit": 0}}},
        "plain": {"substages": SUBSTAGES},
    }
    handler = StageHandler({"stages": stages}, store=store, clock=FakeClock())
    handler.initialize_process("any")
    return handler


def call(handler: StageHandler, name: str, *args: Any) -> None:
    """One call; `through` is an iteration with its substages, `decide` a decision."""
    match name:
        case "initialize_loop":
            handler.initialize_loop(args[0], {"more": True})
        case "decide":
            handler.make_decision("loop", "d", {"limit": len(handler.store.read(handler.process_id))}, action=args[0])
        case "through":
            handler.start_iteration("loop")
            for one in ("a", "c", "d"):
                handler.start_substage("loop", one)
                handler.complete_substage("loop", one)
            handler.complete_iteration("loop", args[1], {"more": 1, "n": 1})
        case _:
            getattr(handler, name)(*args)


def stands(handler: StageHandler) -> list[Any]:
    """All that can be asked about a process."""
    found: list[Any] = [handler.get_progress(), handler.export(format="json"), handler.get_stage("loop")]
    for ask in (
        handler.has_next_iteration,
        handler.get_loop_summary,
        handler.get_iterations,
        handler.get_decisions,
        handler.decision_history,
        handler.retry_delay,
    ):
        try:
            found.append(ask("loop"))
        except CorticalError as error:
            found.append(str(error))
    return found


def check(handler: StageHandler, most: int) -> None:
    """The rules that hold at every moment."""
    tree = handler.journal.run(handler.process_id).tree
    again = StageHandler(handler.config, store=handler.store, clock=handler.journal.clock)
    again.resume_process(handler.process_id)
    assert stands(again) == stands(handler)
    for stage in tree.root.children:
        if stage.name == "loop":
            numbers = [run.metadata["number"] for run in stage.children]
            assert max(numbers, default=0) <= most
            assert numbers == sorted(numbers)
            assert set(numbers) == set(range(1, len(set(numbers)) + 1))
            assert sum(run.reason is None for run in stage.children) <= 1
        for above in [stage, *stage.children]:
            in_order(above)


def in_order(above: Run) -> None:
    """No substage was started before those it has to come after were over."""
    good: list[str] = []
    for run in above.children:
        if run.kind == "step":
            needed = [name for name, one in SUBSTAGES.items() if one["sequence"] < SUBSTAGES[run.name]["sequence"]]
            missing = {name for name in needed if name != "b"} - {*good}
            assert not missing or run.status.value == "skipped"
            if run.status.value in ("completed", "skipped"):
                good.append(run.name)


@settings(max_examples=150, deadline=None)
@given(st.builds(lambda loop, source: {**loop, **source}, loops, sources), st.lists(calls, max_size=40))
def test_any_sequence_of_calls(loop: dict[str, Any], sequence: list[tuple[Any, ...]]) -> None:
    """A refused call changes nothing; limits and orders hold; a fresh fold of the log, and a fresh handler, agree."""
    store = MemoryStore(strict=True)
    handler = handler_of(loop, store)
    call(handler, "start_stage", "loop")
    call(handler, "initialize_loop", "loop")
    for name, *args in sequence:
        before = store.read(handler.process_id)
        asked = stands(handler)
        assert store.read(handler.process_id) == before  # asking changes nothing
        try:
            with handler.journal.transaction():
                call(handler, name, *args)
        except CorticalError:
            assert store.read(handler.process_id) == before
            assert stands(handler) == asked
    check(handler, loop["max_iterations"])
    summary = next((one for one in stands(handler) if hasattr(one, "success_rate")), None)
    if summary is not None:
        log = store.read(handler.process_id)
        folded = Tree.of(log)
        assert outline(store)[0]["children"] == outline(handler.store)[0]["children"]
        stage = [run for run in folded.root.children if run.name == "loop"][-1]
        counted = summary.completed + summary.failed
        assert summary.success_rate == (summary.completed / counted if counted else None)
        assert summary.attempts == sum(isinstance(event, Started) and event.parent_id == stage.id for event in log)
        assert summary.completed <= sum(isinstance(run.outcome, Ok) for run in stage.children)
        assert sum((summary.completed, summary.failed, summary.skipped, summary.abandoned)) <= summary.iterations


@settings(max_examples=60, deadline=None)
@given(st.lists(calls, max_size=30))
def test_one_by_one_without_a_transaction(sequence: list[tuple[Any, ...]]) -> None:
    """Single calls that are refused leave log and tree as they were, and the tree is the fold of the log."""
    store = MemoryStore(strict=True)
    handler = handler_of({"type": "fixed", "count": 3, "max_iterations": 3, "on_error": "rollback"}, store)
    call(handler, "start_stage", "plain")
    call(handler, "start_stage", "loop")
    call(handler, "initialize_loop", "loop")
    for name, *args in sequence:
        before = store.read(handler.process_id)
        try:
            call(handler, name, *args)
        except CorticalError:
            if name != "through":  # of several calls
                assert store.read(handler.process_id) == before
        kept = handler.journal.run(handler.process_id).tree
        folded = Tree.of(store.read(handler.process_id))
        assert [(run.id, run.status, run.seq, run.data) for run in kept.walk()] == [
            (run.id, run.status, run.seq, run.data) for run in folded.walk()
        ]
    check(handler, 3)
