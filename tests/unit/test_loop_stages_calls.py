"""Loop stages, call by call."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from typing import Any

import pytest

from cortical.core.conditions import ConditionRaised
from cortical.core.errors import EncodeError, InvalidInput, RunNotFound, RunStateError, WrongType
from cortical.core.tree import Tree
from cortical.stages import Pipeline, execute, progress, resume, stage
from cortical.stages.loop import StageHandler, default_config
from cortical.store import MemoryStore, open_store
from cortical.testing import FakeClock

SUBSTAGES = {"load": {"sequence": 1}, "extra": {"sequence": 2, "optional": True}, "save": {"sequence": 3}}
DECISIONS = {"begin": {"batch_size": 2}, "each": {"threshold": 0.5, "mode": "plain"}}


def looping(substages: bool = False, store: Any = None, clock: Any = None, **loop: Any) -> StageHandler:
    """A handler with one stage, called s, whose loop has begun."""
    keys = {"type": "fixed", "count": 3, **loop}
    stage: dict[str, Any] = {"loop_config": keys, "decisions": DECISIONS}
    if substages:
        stage["substages"] = SUBSTAGES
    handler = StageHandler({"stages": {"s": stage}}, store=store, clock=clock or FakeClock())
    handler.start_stage("s")
    handler.initialize_loop("s")
    return handler


def state(handler: StageHandler) -> list[Any]:
    """All that is recorded."""
    return handler.store.read(handler.process_id)


def refused(handler: StageHandler, call: Callable[[], object], told: str = "", error: type = RunStateError) -> None:
    """The call is refused, and nothing has changed by it."""
    before = state(handler)
    with pytest.raises(error, match=told or None):
        call()
    assert state(handler) == before


def finish(handler: StageHandler, *results: Any) -> None:
    """So many iterations, each completed with its result."""
    for result in results:
        handler.start_iteration("s")
        handler.complete_iteration("s", True, result)


# The documented use


#: The configuration and the use of it as they were asked for, to the letter.
ASKED_CONFIG = """
'stages': {
    'data_processing': {
        'sequence': 3,
        'requires_previous': True,
        'validation_required': True,
        'loop_config': {
            'enabled': True,
            'type': 'dynamic',  # 'fixed', 'dynamic', or 'condition-based'
            'init_decision': 'processing_initialization',
            'iteration_decision': 'iteration_parameters',
            'continue_condition': 'has_more_data',
            'max_iterations': 10,  # Safety limit
            'iteration_data_key': 'data_batch'
        },
        'substages': {
            'prepare_iteration': {
                'sequence': 1,
                'description': 'Prepare data for current iteration'
            },
            'process_batch': {
                'sequence': 2,
                'description': 'Process the current data batch'
            },
            'validate_results': {
                'sequence': 3,
                'description': 'Validate results from this iteration'
            },
            'store_iteration_results': {
                'sequence': 4,
                'description': 'Store results from this iteration'
            }
        },
        'decisions': {
            'processing_initialization': {
                'batch_size': 100,
                'processing_mode': 'standard'
            },
            'iteration_parameters': {
                'apply_filters': True,
                'threshold': 0.5
            }
        }
    },
    # Other stages...
}
"""
ASKED_USE = """
# Start a loop stage
stage = stage_handler.start_stage("data_processing")

# Initialize the loop
loop_config = stage_handler.initialize_loop(
    "data_processing",
    initial_data={"total_items": 500}
)

# Process each iteration
while stage_handler.has_next_iteration("data_processing"):
    # Start the next iteration
    iteration = stage_handler.start_iteration("data_processing")
    current_iteration = iteration['current']

    # Process this iteration's substages
    stage_handler.start_substage("data_processing", "prepare_iteration")
    # ... do preparation work ...
    stage_handler.complete_substage("data_processing", "prepare_iteration", success=True)

    stage_handler.start_substage("data_processing", "process_batch")
    # ... process the batch ...
    stage_handler.complete_substage("data_processing", "process_batch", success=True)

    stage_handler.start_substage("data_processing", "validate_results")
    # ... validate the results ...
    stage_handler.complete_substage("data_processing", "validate_results", success=True)

    stage_handler.start_substage("data_processing", "store_iteration_results")
    # ... store the results ...
    stage_handler.complete_substage("data_processing", "store_iteration_results", success=True)

    # Complete this iteration
    stage_handler.complete_iteration(
        "data_processing",
        success=True,
        iteration_results={"processed_items": 100, "success_rate": 0.98}
    )

    # Update loop condition if needed
    if some_condition:
        stage_handler.update_loop_condition("data_processing", continue_loop=False)

# Complete the loop stage
loop_summary = stage_handler.complete_loop("data_processing")
stage_handler.complete_stage("data_processing", success=True, result_data=loop_summary)
"""


def test_the_use_that_was_asked_for_runs_unchanged() -> None:
    """The configuration is the default one; used to the letter, its summary is the result of the stage."""
    config = ast.literal_eval(f"{{{ASKED_CONFIG}}}")
    assert config == default_config()
    stage_handler = StageHandler(config)
    names: dict[str, Any] = {"stage_handler": stage_handler, "some_condition": False}
    exec(ASKED_USE, names)
    record = stage_handler.get_stage("data_processing")
    assert record is not None
    assert (record.status, record.result["iterations"], record.result["stop_reason"]) == ("completed", 5, "completed")
    assert record.result["sums"] == {"processed_items": 500, "success_rate": pytest.approx(4.9)}
    assert record.result == dict(names["loop_summary"])


def test_the_use_that_was_asked_for_ends_when_it_is_told() -> None:
    """With the condition that the loop is not to go on, it ends after the first iteration."""
    stage_handler = StageHandler(default_config())
    exec(ASKED_USE, {"stage_handler": stage_handler, "some_condition": True})
    record = stage_handler.get_stage("data_processing")
    assert record is not None
    assert (record.status, record.result["iterations"]) == ("completed", 1)


def test_the_documented_use() -> None:
    """The default configuration, used as its documentation says: 500 items in hundreds are five iterations."""
    stage_handler = StageHandler(default_config())
    stage_handler.start_stage("data_processing")
    loop_config = stage_handler.initialize_loop("data_processing", initial_data={"total_items": 500})
    assert (loop_config["total"], loop_config["batch_size"]) == (5, 100)
    seen = []
    while stage_handler.has_next_iteration("data_processing"):
        iteration = stage_handler.start_iteration("data_processing")
        seen.append((iteration["current"], iteration["data"]))
        for substage in default_config()["stages"]["data_processing"]["substages"]:
            stage_handler.start_substage("data_processing", substage)
            stage_handler.complete_substage("data_processing", substage, success=True)
        stage_handler.complete_iteration(
            "data_processing", success=True, iteration_results={"processed_items": 100, "success_rate": 0.98}
        )
    assert seen == [(n, range(n * 100 - 100, n * 100)) for n in range(1, 6)]
    summary = stage_handler.complete_loop("data_processing")
    stage = stage_handler.complete_stage("data_processing", success=True, result_data=summary)
    assert stage.result == dict(summary)
    assert summary.sums["processed_items"] == 500
    assert (summary.success_rate, summary.stop_reason) == (1.0, "completed")


# Stages


def three(**second: Any) -> StageHandler:
    stages = {
        "last": {"sequence": 3, "requires_previous": True},
        "first": {"sequence": 1},
        "second": {"sequence": 2, "requires_previous": True, **second},
    }
    return StageHandler({"stages": stages})


def test_stages_in_order() -> None:
    """A stage that requires those before it starts when they are completed or skipped, and not before."""
    handler = three()
    with pytest.raises(RunStateError, match="'first' should be completed or skipped before it"):
        handler.start_stage("second")
    assert not handler.has_process
    assert handler.store.roots() == []
    handler.start_stage("first")
    refused(handler, lambda: handler.start_stage("second"), "'first' should be")
    refused(handler, lambda: handler.start_stage("first"), "started already")
    handler.complete_stage("first", success=True)
    handler.skip_stage("second", "not today")
    assert handler.start_stage("last").status == "active"
    refused(handler, lambda: handler.skip_stage("second"), "has ended")


def test_an_optional_stage_blocks_nothing() -> None:
    """A stage behind an optional one starts though that was left out or has failed, and the process ends well."""
    handler = three(optional=True)
    handler.start_stage("first")
    handler.complete_stage("first", success=True)
    handler.start_stage("second")
    handler.complete_stage("second", success=False, error="no luck")
    handler.start_stage("last")
    handler.complete_stage("last", success=True)
    assert handler.journal.run(handler.process_id).status.value == "completed"


def test_a_failed_stage_can_be_started_again() -> None:
    """A stage that failed keeps the process open, and can be started again."""
    handler = StageHandler({"stages": {"s": {"substages": SUBSTAGES}}})
    handler.start_stage("s")
    handler.start_substage("s", "load")
    failed = handler.complete_stage("s", success=False, error=OSError("disk"))
    assert (failed.status, failed.error) == ("failed", "OSError: disk")
    assert handler.start_stage("s").run_id != failed.run_id
    refused(handler, lambda: handler.complete_stage("s", success=True), "'load', 'save' not done")
    handler.complete_process(success=False)
    refused(handler, lambda: handler.start_stage("s"))


@pytest.mark.parametrize("name", ["S", "", None, 3, ["s"], "s\x00", "\ud800"])
def test_a_stage_that_is_not_there(name: Any) -> None:
    """A name that the configuration does not have is refused by every call, and changes nothing."""
    handler = looping()
    for call in (
        handler.start_stage,
        handler.start_iteration,
        handler.has_next_iteration,
        handler.complete_loop,
        handler.get_progress if name is not None else handler.skip_stage,
        lambda stage: handler.start_substage(stage, "load"),
        lambda stage: handler.complete_iteration(stage, True),
        lambda stage: handler.make_decision(stage, "each", {}),
        lambda stage: handler.cache_get(stage, "k"),
    ):
        refused(handler, lambda call=call: call(name), error=Exception, told="stage|named")  # type: ignore[misc]


def test_no_process_yet() -> None:
    """Calls before any process was begun say what to do."""
    handler = StageHandler(default_config())
    with pytest.raises(RunStateError, match="initialize_process first"):
        handler.start_iteration("data_processing")


# Substages


def test_substages_in_order_in_every_iteration() -> None:
    """Substages are fresh in every iteration and in order in each; an optional one blocks nothing."""
    handler = looping(substages=True)
    refused(handler, lambda: handler.start_substage("s", "load"), "no iteration is open")
    for number in (1, 2):
        handler.start_iteration("s")
        refused(handler, lambda: handler.start_substage("s", "save"), "'load' should be completed or skipped")
        handler.start_substage("s", "load")
        refused(handler, lambda: handler.start_substage("s", "load"), "active already")
        told = f"iteration {number} of 's' may not be completed as a success: 'load', 'save' not done"
        refused(handler, lambda: handler.complete_iteration("s", True), told)
        handler.complete_substage("s", "load")
        handler.start_substage("s", "save")
        handler.complete_substage("s", "save", True, {"rows": 3})
        refused(handler, lambda: handler.complete_substage("s", "save"), "has ended")
        handler.complete_iteration("s", True)
    first, second = handler.get_iterations("s")
    assert first.substages == second.substages == {"load": "completed", "save": "completed"}
    assert first.run_id != second.run_id


def test_optional_skipped_and_failed_substages() -> None:
    """A skipped substage counts as done; a failed optional one does not block; a failed one that is needed does."""
    handler = looping(substages=True)
    handler.start_iteration("s")
    handler.skip_substage("s", "load", "nothing to load")
    handler.start_substage("s", "extra")
    handler.complete_substage("s", "extra", success=False)
    handler.start_substage("s", "save")
    handler.complete_substage("s", "save", success=False)
    refused(handler, lambda: handler.complete_iteration("s", True), "'save' not done")
    handler.start_substage("s", "save")
    refused(handler, lambda: handler.complete_iteration("s", True), "'save' not done")
    handler.complete_substage("s", "save")
    handler.complete_iteration("s", True)
    refused(handler, lambda: handler.start_substage("s", "lod"), error=InvalidInput)
    refused(handler, lambda: handler.start_substage("s", 3), error=WrongType)  # type: ignore[arg-type]


def test_a_failed_iteration_takes_its_open_substage_along() -> None:
    """Without success an iteration can be ended as it stands; what is open in it is abandoned."""
    handler = looping(substages=True, on_error="continue")
    handler.start_iteration("s")
    handler.start_substage("s", "load")
    handler.complete_iteration("s", False, error=ValueError("bad row"))
    (one,) = handler.get_iterations("s")
    assert (one.status, one.error, one.substages) == ("failed", "ValueError: bad row", {"load": "abandoned"})


# Types and limits


@pytest.mark.parametrize("count", [0, 1, 3])
def test_fixed_is_exact(count: int) -> None:
    """A fixed loop has exactly its count of iterations."""
    handler = looping(count=count)
    finish(handler, *range(count))
    assert not handler.has_next_iteration("s")
    refused(handler, lambda: handler.start_iteration("s"), f"all {count} iterations are over")
    summary = handler.complete_loop("s")
    assert (summary.iterations, summary.stop_reason, summary.success) == (count, "completed", True)


@pytest.mark.parametrize(("on_limit", "success"), [("stop", True), ("fail", False)])
def test_the_limit_is_exact_both_ways(on_limit: str, success: bool) -> None:
    """max_iterations is exactly that many; on_limit says whether the loop has failed by it."""
    handler = looping(count=9, max_iterations=2, on_limit=on_limit)
    assert handler.start_iteration("s").total == 2
    handler.complete_iteration("s", True)
    finish(handler, None)
    assert not handler.has_next_iteration("s")
    summary = handler.complete_loop("s")
    assert (summary.iterations, summary.stop_reason, summary.success) == (2, "max_iterations", success)
    if not success:
        refused(handler, lambda: handler.complete_stage("s", True), "its loop has failed: max_iterations 2")
        assert handler.complete_stage("s", False, summary).status == "failed"


def test_a_count_that_is_the_limit_does_not_fail() -> None:
    """A loop that is through at its limit has not failed by it."""
    handler = looping(count=2, max_iterations=2, on_limit="fail")
    finish(handler, 1, 2)
    assert handler.complete_loop("s").success


def test_the_initial_decision_gives_the_count() -> None:
    """The count may come from the initial decision, given with the call or before."""
    stage = {"loop_config": {"type": "fixed", "init_decision": "begin"}, "decisions": {"begin": {}}}
    handler = StageHandler({"stages": {"s": stage}})
    handler.start_stage("s")
    refused(handler, lambda: handler.initialize_loop("s"), "nothing says how often", InvalidInput)
    refused(handler, lambda: handler.initialize_loop("s", decision={"count": "2"}), "whole number", WrongType)
    assert handler.initialize_loop("s", decision={"count": 2}).total == 2
    assert [one.decided for one in handler.decision_history("s")] == [{"count": 2}]


def test_items_and_batches() -> None:
    """Items come one by one, or in batches of which the last may be smaller; a decision changes their size."""
    items = [{"row": number} for number in range(7)]
    one_by_one = looping(type="dynamic", count=None, items=items)
    assert one_by_one.start_iteration("s").data == {"row": 0}
    handler = looping(type="dynamic", count=None, items=items, init_decision="begin")
    first = handler.start_iteration("s")
    assert (first.data, first.total) == (items[:2], 4)
    first.data[0]["row"] = "changed by its reader"
    handler.complete_iteration("s", True)
    handler.make_decision("s", "begin", {"batch_size": 4})
    second = handler.start_iteration("s")
    assert (second.data, second.total) == (items[2:6], 3)
    handler.complete_iteration("s", True)
    refused_size = handler.make_decision("s", "begin", {"batch_size": 0})
    assert refused_size == {"batch_size": 0}
    refused(handler, lambda: handler.start_iteration("s"), "batch_size is 1 or more", InvalidInput)
    handler.make_decision("s", "begin", {"batch_size": 4})
    assert handler.start_iteration("s").data == items[6:]
    handler.complete_iteration("s", True)
    assert handler.complete_loop("s").iterations == 3
    assert items[0] == {"row": 0}


def test_data_given_with_the_loop() -> None:
    """Under its key the initial data hold a list of which each iteration gets its part; wrong ones are refused."""
    stage = {"loop_config": {"type": "dynamic", "iteration_data_key": "rows", "batch_size": 2}}
    handler = StageHandler({"stages": {"s": stage}})
    handler.start_stage("s")
    for wrong in ({}, {"row": [1]}, {"rows": "abc"}, {"total_items": -1}, {"total_items": "5"}, {"rows": 3}):
        refused(handler, lambda wrong=wrong: handler.initialize_loop("s", wrong), error=Exception)  # type: ignore[misc]
    refused(handler, lambda: handler.initialize_loop("s", [1]), "values by name", WrongType)  # type: ignore[arg-type]
    assert handler.initialize_loop("s", {"rows": [1, 2, 3]}).total == 2
    assert handler.start_iteration("s").data == [1, 2]
    refused(handler, lambda: handler.initialize_loop("s", {"rows": []}), "begun already")


def test_more_data_than_can_be_counted() -> None:
    """A total may be any whole number; only ranges are made of it."""
    loop = {"type": "dynamic", "iteration_data_key": "rows", "batch_size": 10**20}
    handler = StageHandler({"stages": {"s": {"loop_config": loop}}})
    handler.start_stage("s")
    assert handler.initialize_loop("s", {"total_items": 10**21}).total == 10
    assert handler.start_iteration("s").data == range(10**20)


def test_no_data_no_iteration() -> None:
    """A loop over nothing has no iteration, and has not failed."""
    handler = looping(type="dynamic", count=None, items=[])
    assert not handler.has_next_iteration("s")
    assert handler.complete_loop("s").success_rate is None


def conditional(**functions: Callable[..., Any]) -> StageHandler:
    loop = {"type": "condition-based", "continue_condition": "more", "max_iterations": 5}
    handler = StageHandler({"stages": {"s": {"loop_config": loop}}}, functions=functions)
    handler.start_stage("s")
    return handler


def test_a_registered_predicate() -> None:
    """A predicate of the condition's name is asked between iterations, once for each state, and sees the results."""
    asked = []

    def more(loop: Any) -> bool:
        asked.append((loop.completed, loop.results))
        return bool(loop.completed < 2)

    handler = conditional(more=more)
    handler.initialize_loop("s")
    while handler.has_next_iteration("s"):
        handler.start_iteration("s")
        handler.complete_iteration("s", True, {"n": len(asked)})
    assert asked == [(0, {}), (1, {"n": 1}), (2, {"n": 2})]
    assert handler.complete_loop("s").stop_reason == "condition_met"


def test_a_key_of_the_results() -> None:
    """Without a predicate a truthy key of the last results says whether to go on; nothing at all is refused."""
    handler = conditional()
    refused(handler, lambda: handler.initialize_loop("s"), "nothing is known of the continue_condition", InvalidInput)
    handler.initialize_loop("s", {"more": True})
    finish(handler, {"more": 1}, {"more": 0})
    assert not handler.has_next_iteration("s")
    assert "say no 'more'" in handler.complete_loop("s").stop_details


def test_a_predicate_that_raises() -> None:
    """A predicate that raises is told by its name, and nothing has changed."""
    handler = conditional(more=lambda loop: loop.nothing)
    handler.initialize_loop("s")
    refused(handler, lambda: handler.has_next_iteration("s"), "'more' raised AttributeError", ConditionRaised)
    refused(handler, lambda: handler.start_iteration("s"), "'more' raised", ConditionRaised)


def test_nobody_decides() -> None:
    """A loop whose going on nobody decides is refused when it is initialised."""
    loop = {"type": "condition-based", "max_iterations": 5}
    handler = StageHandler({"stages": {"s": {"loop_config": loop}}})
    handler.start_stage("s")
    refused(handler, lambda: handler.initialize_loop("s"), "nothing decides whether 's' goes on", InvalidInput)


def test_the_loop_condition() -> None:
    """The condition can be changed inside and between iterations; the loop ends after the current one."""
    handler = looping()
    handler.start_iteration("s")
    handler.update_loop_condition("s", continue_loop=False)
    handler.complete_iteration("s", True)
    assert not handler.has_next_iteration("s")
    handler.update_loop_condition("s", continue_loop=True)
    assert handler.has_next_iteration("s")
    refused(handler, lambda: handler.complete_loop("s"), "iteration 2 is still to come")
    handler.update_loop_condition("s", False)
    assert handler.complete_loop("s").stop_reason == "condition_met"
    refused(handler, lambda: handler.update_loop_condition("s", False), "its loop is over")
    refused(handler, lambda: handler.update_loop_condition("s", 0), "True or False", WrongType)  # type: ignore[arg-type]


# Failures


def test_on_error_fail() -> None:
    """After a failure nothing more begins, unless the iteration is tried again on purpose."""
    handler = looping()
    handler.start_iteration("s")
    handler.complete_iteration("s", False, error="broken")
    assert not handler.has_next_iteration("s")
    handler.retry_iteration("s")
    assert (again := handler.start_iteration("s")).attempt == 2
    assert again.current == 1
    handler.complete_iteration("s", False, error="broken again")
    summary = handler.complete_loop("s")
    assert (summary.success, summary.stop_reason, summary.attempts, summary.iterations) == (False, "error", 2, 1)
    assert "iteration 1 failed 2 times: broken again" in summary.stop_details


@pytest.mark.parametrize(("tolerated", "success"), [(None, True), (1, False), (2, True), (0.5, True), (0.4, False)])
def test_on_error_continue(tolerated: float | None, success: bool) -> None:
    """The loop goes on after failures, as many (or as large a share) of them as it tolerates."""
    handler = looping(count=4, on_error="continue", tolerated_failures=tolerated)
    good = iter([True, False, False, True])
    while handler.has_next_iteration("s"):
        handler.start_iteration("s")
        handler.complete_iteration("s", next(good), {"n": 1})
    summary = handler.complete_loop("s")
    assert summary.success is success
    assert summary.failed == 2
    if success:
        assert (summary.completed, summary.success_rate, summary.sums) == (2, 0.5, {"n": 2})


def test_all_failed_is_no_success() -> None:
    """A loop of which no iteration was completed and some failed has failed, whatever it tolerates."""
    handler = looping(count=1, on_error="continue")
    handler.start_iteration("s")
    handler.complete_iteration("s", False)
    summary = handler.complete_loop("s")
    assert (summary.success, summary.success_rate) == (False, 0.0)


def test_on_error_retry() -> None:
    """A failed iteration is tried again after the policy's delay, as often as it says, with the same data."""
    clock = FakeClock()
    retry = {"max_attempts": 2, "delay": 4.0, "retry_on": OSError}
    handler = looping(type="dynamic", count=None, items=["a", "b"], on_error="retry", retry=retry, clock=clock)
    handler.start_iteration("s")
    handler.complete_iteration("s", False, error=OSError("busy"))
    clock.advance(1)
    assert handler.retry_delay("s") == 3.0
    again = handler.start_iteration("s")
    assert (again.current, again.attempt, again.data, again.total) == (1, 2, "a", 2)
    handler.complete_iteration("s", True)
    assert handler.start_iteration("s").data == "b"
    handler.complete_iteration("s", False, error=ValueError("not covered"))
    summary = handler.complete_loop("s")
    assert (summary.attempts, summary.iterations, summary.failed, summary.success) == (3, 2, 1, False)


def test_on_error_rollback() -> None:
    """Rolled back, state, decisions and carry are as before the iteration; its record stays, marked."""
    handler = looping(on_error="rollback", iteration_decision="each")
    handler.start_iteration("s")
    handler.complete_iteration("s", True, {"n": 1}, carry={"offset": 1})
    before = (handler.get_decisions("s"), dict(handler.journal.run(handler.get_stage("s").run_id).data or {}))  # type: ignore[union-attr]
    handler.start_iteration("s")
    handler.make_decision("s", "each", {"threshold": 0.9})
    handler.complete_iteration("s", False, {"n": 99}, carry={"offset": 2})
    after = (handler.get_decisions("s"), dict(handler.journal.run(handler.get_stage("s").run_id).data or {}))  # type: ignore[union-attr]
    assert after == before
    _, undone = handler.get_iterations("s")
    assert (undone.rolled_back, undone.status, undone.results) == (True, "failed", {"n": 99})
    third = handler.start_iteration("s")
    assert (third.current, third.carry, third.previous, third.parameters["threshold"]) == (
        3,
        {"offset": 1},
        {"n": 1},
        0.5,
    )
    handler.complete_iteration("s", True, {"n": 3})
    summary = handler.complete_loop("s")
    assert (summary.rolled_back, summary.failed, summary.completed, summary.sums) == (1, 1, 2, {"n": 4})
    assert [one.undone for one in handler.decision_history("s", "each")] == [True]


def test_rollback_by_hand() -> None:
    """An iteration that is open, or completed as the newest, can be rolled back; it then comes again."""
    handler = looping()
    finish(handler, 1)
    handler.start_iteration("s")
    handler.complete_iteration("s", True, 20, carry="late")
    handler.rollback_iteration("s", "wrong file")
    refused(handler, lambda: handler.rollback_iteration("s"), "tried again already")
    again = handler.start_iteration("s")
    assert (again.current, again.attempt, again.carry, again.previous) == (2, 2, None, 1)
    handler.rollback_iteration("s")
    assert handler.start_iteration("s").attempt == 3
    handler.complete_iteration("s", True, 2)
    finish(handler, 3)
    summary = handler.complete_loop("s")
    assert (summary.results, summary.rolled_back, summary.attempts, summary.iterations) == ([1, 2, 3], 2, 5, 3)
    refused(handler, lambda: handler.rollback_iteration("s"), "its loop is over")


def test_skip_and_break() -> None:
    """A skipped iteration counts as one; a broken loop abandons the open one and lets no other begin."""
    handler = looping(substages=True)
    handler.start_iteration("s")
    handler.start_substage("s", "load")
    handler.skip_iteration("s", "empty")
    refused(handler, lambda: handler.skip_iteration("s"), "no iteration is open")
    assert handler.start_iteration("s").current == 2
    handler.break_loop("s", "enough")
    refused(handler, lambda: handler.break_loop("s"), "stopped already")
    refused(handler, lambda: handler.retry_iteration("s"), "was ended: enough")
    refused(handler, lambda: handler.start_iteration("s"), "enough")
    summary = handler.complete_loop("s")
    assert (summary.skipped, summary.abandoned, summary.stop_reason, summary.stop_details) == (1, 1, "manual", "enough")
    assert summary.success
    handler.complete_stage("s", True)
    assert handler.journal.run(handler.process_id).status.value == "completed"


# Time


def test_timeouts() -> None:
    """The loop's timeout lets no other iteration begin; an iteration that is late fails; pauses do not count."""
    clock = FakeClock()
    handler = looping(substages=True, clock=clock, timeout=100, iteration_timeout=10, on_error="continue", count=9)
    handler.start_iteration("s")
    handler.skip_substage("s", "load")
    handler.skip_substage("s", "save")
    handler.complete_iteration("s", True)
    handler.start_iteration("s")
    handler.pause_loop("s")
    clock.advance(1000)
    handler.resume_loop("s")
    handler.start_substage("s", "load")
    clock.advance(10.5)
    handler.complete_substage("s", "load")
    refused(handler, lambda: handler.start_substage("s", "save"), "more than 10 s")
    handler.skip_substage("s", "save")
    handler.complete_iteration("s", True, {"n": 1})
    _, late = handler.get_iterations("s")
    assert (late.status, late.results) == ("failed", {"n": 1})
    assert "iteration_timeout is 10 s" in str(late.error)
    clock.advance(89.5)
    assert not handler.has_next_iteration("s")
    summary = handler.complete_loop("s")
    assert (summary.stop_reason, summary.seconds) == ("timeout", 100.0)


def test_pause() -> None:
    """A paused loop lets nothing new begin; what is under way may be completed."""
    handler = looping(substages=True)
    handler.start_iteration("s")
    handler.start_substage("s", "load")
    handler.pause_loop("s", "lunch")
    refused(handler, lambda: handler.pause_loop("s"))
    handler.complete_substage("s", "load")
    refused(handler, lambda: handler.start_substage("s", "save"), "it is paused; resume it first")
    assert not handler.has_next_iteration("s")
    handler.resume_loop("s")
    refused(handler, lambda: handler.resume_loop("s"))
    handler.start_substage("s", "save")
    handler.pause_loop("s")
    handler.complete_substage("s", "save")
    handler.complete_iteration("s", True)
    refused(handler, lambda: handler.start_iteration("s"), "it is paused")
    refused(handler, lambda: handler.complete_loop("s"), "still|paused")
    handler.break_loop("s")
    assert handler.complete_loop("s").completed == 1


# Decisions


def test_decisions_are_inherited_and_kept_apart() -> None:
    """Defaults < loop and earlier iterations < the iteration itself; each iteration keeps what held in it."""
    handler = looping(init_decision="begin", iteration_decision="each")
    assert handler.make_decision("s", "each", {"mode": "loop"}) == {"threshold": 0.5, "mode": "loop"}
    handler.start_iteration("s")
    handler.make_decision("s", "each", {"threshold": 0.7})
    handler.make_decision("s", "each", {"mode": "once"}, inherit=False)
    assert handler.get_decisions("s")["each"] == {"threshold": 0.7, "mode": "once"}
    handler.complete_iteration("s", True)
    second = handler.start_iteration("s")
    assert second.parameters == {"batch_size": 2, "threshold": 0.7, "mode": "loop"}
    handler.complete_iteration("s", True)
    handler.make_decision("s", "each", {"threshold": 0.1}, reason="too few")
    assert handler.get_decisions("s", iteration=1)["each"] == {"threshold": 0.7, "mode": "once"}
    assert handler.get_decisions("s", iteration=2)["each"] == {"threshold": 0.7, "mode": "loop"}
    assert handler.get_decisions("s")["each"]["threshold"] == 0.1
    told = [(one.iteration, one.decided) for one in handler.decision_history("s", "each")]
    assert told == [
        (None, {"mode": "loop"}),
        (1, {"threshold": 0.7}),
        (1, {"mode": "once"}),
        (None, {"threshold": 0.1}),
    ]
    with pytest.raises(InvalidInput, match="no iteration 3; there are 1 to 2"):
        handler.get_decisions("s", iteration=3)


def test_wrong_decisions() -> None:
    """A decision that the stage does not have, or that cannot be acted on, is refused whole."""
    handler = looping()
    refused(handler, lambda: handler.make_decision("s", "eech", {}), "did you mean 'each'?", InvalidInput)
    refused(handler, lambda: handler.make_decision("s", "each", {}, action="brake"), "did you mean", InvalidInput)
    refused(handler, lambda: handler.make_decision("s", "each", {"a": 1}, action="skip"), "no iteration is open")
    refused(handler, lambda: handler.make_decision("s", "each", {"a": 1}, action="retry"), "none has been started")
    refused(handler, lambda: handler.make_decision("s", "each", "a=1"), "values by name", WrongType)  # type: ignore[arg-type]
    refused(handler, lambda: handler.make_decision("s", "each", {3: 1}), error=WrongType)  # type: ignore[dict-item]


def test_what_decisions_do() -> None:
    """A decision may end, pause, skip or retry, in the record in which it is noted."""
    handler = looping(count=4)
    handler.start_iteration("s")
    handler.make_decision("s", "each", {"threshold": 0.1}, action="retry", reason="again")
    assert handler.start_iteration("s").attempt == 2
    handler.make_decision("s", "each", action="skip")
    handler.start_iteration("s")
    handler.make_decision("s", "each", {"mode": "slow"}, action="pause")
    assert handler.get_stage("s").status == "paused"  # type: ignore[union-attr]
    handler.resume_loop("s")
    handler.complete_iteration("s", True)
    handler.update_loop_condition("s", False)
    handler.make_decision("s", "each", action="continue")
    assert handler.has_next_iteration("s")
    handler.start_iteration("s")
    length = len(state(handler))
    handler.make_decision("s", "each", {"mode": "off"}, action="break", reason="done for today")
    assert len(state(handler)) == length + 4
    summary = handler.complete_loop("s")
    assert (summary.stop_details, summary.skipped, summary.completed, summary.abandoned) == ("done for today", 1, 1, 1)
    assert [one.action for one in handler.decision_history("s")] == ["retry", "skip", "pause", "continue", "break"]
    assert Tree.of(state(handler)).index.runs[handler.process_id].open_children == 1


def test_parameters_of_each_iteration() -> None:
    """Parameters of the configuration may be a list, one for each iteration; decisions stand over them."""
    handler = looping(parameters=[{"depth": 1}, {"depth": 2, "mode": "given"}], iteration_decision="each")
    found = []
    for _ in range(3):
        found.append(handler.start_iteration("s").parameters)
        handler.complete_iteration("s", True)
    each: Any = DECISIONS["each"]
    assert found == [{"depth": 1, **each}, {"depth": 2, **each}, each]


# Results


@pytest.mark.parametrize(
    ("aggregate", "results", "expected"),
    [
        ("sum", [1, 2.5], 3.5),
        ("mean", [{"n": 1}, {"n": 3, "x": "no number"}], {"n": 2.0}),
        ("list", ["a", True], ["a", True]),
        ("sum", ["a", None], None),
        (max, [3, 9], 9),
        ("longest", ["aa", "b"], "aa"),
    ],
)
def test_aggregates(aggregate: Any, results: list[Any], expected: Any) -> None:
    """Results are summed, averaged, listed, or given to a function, which may be named; then transformed."""
    loop = {"type": "fixed", "count": len(results), "aggregate": aggregate, "transform": "told"}
    functions = {"longest": lambda texts: max(texts, key=len), "told": lambda value: {"result": value}}
    handler = StageHandler({"stages": {"s": {"loop_config": loop}}}, functions=functions)
    handler.start_stage("s")
    handler.initialize_loop("s")
    finish(handler, *results)
    summary = handler.complete_loop("s")
    assert summary.aggregate == expected
    assert summary.result == {"result": expected}
    assert summary.last == results[-1]


def test_functions_that_nobody_registered() -> None:
    """A loop that names an unknown function is refused when it is initialised; one that raises leaves it as it was."""
    handler = StageHandler({"stages": {"s": {"loop_config": {"type": "fixed", "count": 1, "aggregate": "summ"}}}})
    handler.start_stage("s")
    refused(handler, lambda: handler.initialize_loop("s"), "did you mean 'sum'?", InvalidInput)
    handler.register("summ", lambda results: results[1])
    handler.initialize_loop("s")
    finish(handler, 1)
    refused(handler, lambda: handler.complete_loop("s"), error=IndexError)
    handler.register("summ", len)
    assert handler.complete_loop("s").result == 1


def test_results_cannot_be_changed_from_outside() -> None:
    """What is handed in and out are copies: nothing done to them later reaches the record."""
    handler = looping()
    result, carry = {"rows": [1]}, {"seen": [1]}
    handler.start_iteration("s")
    handler.complete_iteration("s", True, result, carry)
    result["rows"].append(2)
    carry["seen"].append(2)
    second = handler.start_iteration("s")
    assert (second.previous, second.carry) == ({"rows": [1]}, {"seen": [1]})
    second.previous["rows"].append(3)
    handler.complete_iteration("s", True)
    assert handler.get_loop_summary("s").results[0] == {"rows": [1]}


def test_what_cannot_be_kept_is_refused() -> None:
    """A value that a durable store cannot keep is refused, and the iteration is open as before."""
    handler = looping(store=MemoryStore(strict=True))
    handler.start_iteration("s")
    refused(handler, lambda: handler.complete_iteration("s", True, {"lock": object()}), error=EncodeError)
    refused(handler, lambda: handler.complete_iteration("s", True, None, carry=object()), error=EncodeError)
    handler.complete_iteration("s", True)


@pytest.mark.parametrize("success", [None, 1, "yes"])
def test_success_is_a_truth(success: Any) -> None:
    """Success is True or False and nothing else, and has no error."""
    handler = looping()
    handler.start_iteration("s")
    refused(handler, lambda: handler.complete_iteration("s", success), error=WrongType)
    refused(handler, lambda: handler.complete_iteration("s", True, error="but"), error=InvalidInput)
    refused(handler, lambda: handler.complete_iteration("s", False, error=3), error=WrongType)  # type: ignore[arg-type]


# Progress, drawings, cache


def test_progress() -> None:
    """Progress weighs substages and stages; what is left follows from the iterations that are completed."""
    clock = FakeClock()
    substages = {"load": {"sequence": 1, "weight": 3}, "save": {"sequence": 2}}
    stages = {
        "s": {"loop_config": {"type": "fixed", "count": 4}, "substages": substages, "weight": 3, "sequence": 1},
        "t": {"substages": substages, "sequence": 2},
    }
    handler = StageHandler({"stages": stages}, clock=clock)
    handler.start_stage("s")
    handler.initialize_loop("s")
    assert handler.get_progress("s").eta is None
    handler.start_iteration("s")
    for name in substages:
        handler.start_substage("s", name)
        clock.advance(5)
        handler.complete_substage("s", name)
    handler.complete_iteration("s", True)
    handler.start_iteration("s")
    handler.start_substage("s", "load")
    handler.complete_substage("s", "load")
    found: Any = handler.get_progress("s")
    assert (found.fraction, found.iteration, found.iteration_fraction, found.eta) == (1.75 / 4, 2, 0.75, 22.5)
    assert found["substages"] == {"load": "completed", "save": "not_started"}
    assert handler.get_progress().fraction == pytest.approx(3 / 4 * 1.75 / 4)
    handler.start_stage("t")
    handler.start_substage("t", "load")
    handler.skip_substage("t", "load")
    assert handler.get_progress("t").fraction == 0.75
    with pytest.raises(KeyError, match="did you mean 'fraction'"):
        handler.get_progress("t")["fractions"]


def test_drawings() -> None:
    """A process is drawn as text, Mermaid and JSON, with the status and seconds of each part."""
    handler = looping(substages=True, on_error="rollback", count=30)
    handler.start_iteration("s")
    handler.start_substage("s", "load")
    handler.complete_iteration("s", False, error='a "quoted"\nfailure')
    for _ in range(28):
        handler.start_iteration("s")
        handler.skip_substage("s", "load")
        handler.skip_substage("s", "save")
        handler.complete_iteration("s", True)
    text = handler.export()
    assert '✗ iteration 1, rolled back 0.00 s – NoSuccess: a "quoted" failure  ⊘' in text
    assert "… 9 iterations more" in text
    mermaid = handler.export(format="mermaid")
    assert mermaid.startswith("graph TD")
    assert 'iteration 29<br/>completed, 0.00 s"]:::completed' in mermaid
    drawn = json.loads(handler.export(format="json"))
    assert len(drawn["stages"][0]["iterations"]) == 29
    assert drawn["stages"][0]["iterations"][0]["rolled_back"] is True
    with pytest.raises(InvalidInput, match="choose text, mermaid, json"):
        handler.export(format="png")
    with pytest.raises(RunNotFound):
        handler.export("nobody")


def test_the_cache() -> None:
    """What is remembered belongs to an iteration; a decision forgets that of its own iteration, not of those before."""
    handler = looping()
    handler.cache_put("s", "plan", "whole")
    handler.start_iteration("s")
    handler.cache_put("s", "rows", 1)
    handler.complete_iteration("s", True)
    handler.start_iteration("s")
    handler.cache_put("s", "rows", 2)
    assert handler.cache_get("s", "rows") == 2
    handler.make_decision("s", "each", {"threshold": 0.9})
    assert handler.cache_get("s", "rows", "gone") == "gone"
    assert handler.cache_get("s", "rows", iteration=1) == 1
    handler.cache_put("s", "rows", 3)
    assert handler.cache_get("s", "rows") == 3
    handler.retry_iteration("s")
    handler.start_iteration("s")
    assert handler.cache_get("s", "rows") is None
    handler.complete_iteration("s", True)
    assert handler.cache_get("s", "plan") is None


# Another process


def test_another_handler_goes_on(tmp_path: Any) -> None:
    """Paused here and resumed there: the same iteration, the same decisions, the same data."""
    where = tmp_path / "runs.db"
    with looping(substages=True, store=where, iteration_decision="each") as handler:
        finish_one = handler.start_iteration("s")
        assert finish_one.current == 1
        handler.make_decision("s", "each", {"threshold": 0.8})
        handler.start_substage("s", "load")
        handler.complete_substage("s", "load", True, [1, 2])
        handler.pause_loop("s", "night")
        config = handler.config
    with StageHandler(config, store=where) as other:
        assert other.resume_process() == handler.process_id
        refused(other, lambda: other.start_substage("s", "save"), "paused")
        other.resume_loop("s")
        refused(other, lambda: other.start_iteration("s"), "iteration 1 is still open")
        assert other.get_decisions("s")["each"]["threshold"] == 0.8
        other.start_substage("s", "save")
        other.complete_substage("s", "save")
        other.complete_iteration("s", True)
        assert other.start_iteration("s").parameters["threshold"] == 0.8


def test_two_handlers_on_one_store(tmp_path: Any) -> None:
    """Two handlers of one store take turns; what one has done, the other knows or is told."""
    store = open_store(tmp_path / "runs.db")
    here = looping(store=store)
    there = StageHandler(here.config, store=store)
    there.resume_process(here.process_id)
    assert here.start_iteration("s").current == 1
    refused(there, lambda: there.start_iteration("s"), "still open|another writer", Exception)
    there.complete_iteration("s", True, 1)
    assert here.has_next_iteration("s")
    assert here.start_iteration("s").previous == 1
    there.pause_loop("s")
    here.complete_iteration("s", True, 2)
    assert not here.has_next_iteration("s")
    store.close()


def test_another_configuration_is_refused() -> None:
    """A process goes on with the configuration it was begun with, unless another is forced, which is recorded."""
    handler = looping()
    changed = StageHandler({"stages": {"s": {"loop_config": {"type": "fixed", "count": 5}}}}, store=handler)
    with pytest.raises(RunStateError, match="another configuration of 's'"):
        changed.resume_process(handler.process_id)
    changed.resume_process(handler.process_id, force=True)
    finish(changed, *range(5))
    again = StageHandler(changed.config, store=handler)
    again.resume_process()
    assert again.complete_loop("s").completed == 5


def test_what_is_no_process() -> None:
    """Only a process of stages can be gone on with."""
    handler = looping()
    stage = handler.get_stage("s")
    assert stage is not None
    with pytest.raises(InvalidInput, match="no process of a StageHandler"):
        handler.resume_process(stage.run_id)
    with pytest.raises(RunNotFound):
        handler.resume_process("nobody")
    with pytest.raises(RunNotFound):
        StageHandler(default_config()).resume_process()


def test_a_process_below_another_run() -> None:
    """A process may stand below a run of another kind, which stays as it is."""
    handler = looping()
    stage = handler.get_stage("s")
    assert stage is not None
    below = StageHandler({"stages": {"t": {}}}, store=handler)
    below.initialize_process("inner", "of the stage", parent=stage.run_id)
    below.start_stage("t")
    refused(handler, lambda: handler.complete_process())
    below.complete_stage("t", True)
    assert below.journal.run(below.process_id).parent_id == stage.run_id
    assert handler.has_next_iteration("s")


def test_calls_in_a_transaction() -> None:
    """Several calls in a transaction become true together, or none of them."""
    handler = looping()
    before = state(handler)
    with pytest.raises(RunStateError), handler.journal.transaction():
        finish(handler, 1, 2, 3, "one too many")
    assert state(handler) == before
    with handler.journal.transaction():
        finish(handler, 1, 2)
        assert handler.has_next_iteration("s")
    assert handler.start_iteration("s").current == 3


def test_a_process_is_no_pipeline() -> None:
    """It has a kind of its own: what is asked about pipelines is not answered from a process, nor the other way."""
    handler = looping()
    assert handler.journal.run(handler.process_id).kind == "process"
    pipeline = Pipeline("p", [stage("t:a")(lambda context: None)])
    with pytest.raises(RunNotFound):
        progress(handler, handler.process_id)
    with pytest.raises(RunNotFound):
        resume(handler, handler.process_id, pipeline)
    run_id = execute(pipeline, store=handler).run_id
    with pytest.raises(InvalidInput, match="no process of a StageHandler"):
        handler.resume_process(run_id)
