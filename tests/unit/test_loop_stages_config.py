"""Configurations of loop stages: what they may say, and how they are refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from cortical.core.errors import InvalidInput
from cortical.core.policy import Retry
from cortical.stages.loop import ConfigInvalid, StageHandler, default_config
from cortical.stages.loop.config import parse


def one(**loop: Any) -> dict[str, Any]:
    return {"stages": {"work": {"loop_config": loop}}}


def problems_of(config: object) -> tuple[str, ...]:
    with pytest.raises(ConfigInvalid) as refused:
        parse(config)
    return refused.value.problems


def test_the_default_configuration_is_taken() -> None:
    """The default configuration can be used as it is, and is a new one at each call."""
    stage = parse(default_config()).stages["data_processing"]
    assert stage.loop is not None
    assert (stage.loop.type, stage.loop.max_iterations) == ("dynamic", 10)
    assert list(stage.substages) == [
        "prepare_iteration",
        "process_batch",
        "validate_results",
        "store_iteration_results",
    ]
    changed = default_config()
    changed["stages"].clear()
    assert default_config()["stages"]


@pytest.mark.parametrize(
    ("path", "key", "meant"),
    [
        ((), "stage", "stages"),
        (("data_processing",), "sequnce", "sequence"),
        (("data_processing", "loop_config"), "max_iteration", "max_iterations"),
        (("data_processing", "substages", "process_batch"), "wieght", "weight"),
    ],
)
def test_an_unknown_key_names_the_nearest(path: tuple[str, ...], key: str, meant: str) -> None:
    """A key that means nothing is refused when it is given, wherever it stands, and the nearest right one is named."""
    config: Any = default_config()
    at = config if not path else config["stages"]
    for name in path:
        at = at[name]
    at[key] = 1
    (problem,) = problems_of(config)
    assert f"the key {key!r}, which means nothing; did you mean {meant!r}?" in problem


def test_all_problems_at_once() -> None:
    """Everything that is wrong with a configuration is told in one error."""
    config = {
        "stages": {
            "a": {"sequence": -1, "optional": "yes", "loop_config": {"type": "fixd", "on_error": "retyr"}},
            "b": {"substages": {"s": {"weight": 0}, "": {}}, "decisions": {"d": 3}},
            7: {},
            "c": None,
        }
    }
    told = "\n".join(problems_of(config))
    for part in (
        "stages.a.sequence",
        "stages.a.optional",
        "did you mean 'fixed'?",
        "did you mean 'retry'?",
        "stages.b.substages.s.weight",
        "a name in stages.b.substages is empty",
        "stages.b.decisions.d",
        "a name in stages is a text",
        "stages.c is a mapping",
    ):
        assert part in told


@pytest.mark.parametrize(
    ("loop", "told"),
    [
        ({"type": "fixed"}, "needs count"),
        ({"type": "fixed", "count": -1}, "count is 0 or more"),
        ({"type": "fixed", "count": True}, "count is a whole number"),
        ({"type": "dynamic", "count": 3, "max_iterations": 3}, "count is for loops of the type 'fixed'"),
        ({"type": "dynamic"}, "needs max_iterations"),
        ({"type": "condition-based", "continue_condition": "more"}, "needs max_iterations"),
        ({"type": "dynamic", "items": [1], "iteration_data_key": "k"}, "two sources"),
        ({"type": "dynamic", "items": "abc"}, "items is a list"),
        ({"type": "fixed", "count": 1, "batch_size": 2}, "batch_size needs items"),
        ({"type": "dynamic", "items": [1], "batch_size": 0}, "batch_size is 1 or more"),
        ({"type": "fixed", "count": 1, "retry": {"max_attempts": 2}}, "retry is for on_error"),
        (
            {"type": "fixed", "count": 1, "on_error": "retry", "retry": {"max_atempts": 2}},
            "did you mean 'max_attempts'?",
        ),
        ({"type": "fixed", "count": 1, "on_error": "retry", "retry": {"retry_on": "ValueErorr"}}, "'ValueError'"),
        ({"type": "fixed", "count": 1, "on_error": "retry", "retry": {"max_attempts": 0}}, "max_attempts of a Retry"),
        ({"type": "fixed", "count": 1, "tolerated_failures": 1}, "tolerated_failures is for on_error"),
        ({"type": "fixed", "count": 1, "on_error": "continue", "tolerated_failures": 1.5}, "a share from 0.0 to 1.0"),
        ({"type": "fixed", "count": 1, "on_error": "continue", "tolerated_failures": float("nan")}, "a share"),
        ({"type": "fixed", "count": 1, "timeout": -1}, "timeout is a time"),
        ({"type": "fixed", "count": 1, "timeout": 0}, "timeout is more than 0"),
        ({"type": "fixed", "count": 1, "iteration_timeout": 0}, "iteration_timeout is more than 0"),
        ({"type": "fixed", "count": 1, "on_limit": "explode"}, "one of stop, fail"),
        ({"type": "fixed", "count": 1, "parameters": [1]}, "parameters is values by name"),
        ({"type": "fixed", "count": 1, "aggregate": 3}, "aggregate (a function, or the name of one)"),
        ({"type": "fixed", "count": 1, "init_decision": "begin"}, "not among its decisions"),
        ({"type": ["fixed"], "count": 1}, "type is one of"),
        ({"enabled": True}, "needs type"),
    ],
)
def test_what_does_not_go_together_is_refused(loop: dict[str, Any], told: str) -> None:
    """Values that are of no use, alone or together, are refused when they are given."""
    assert told in " ".join(problems_of(one(**loop)))


@pytest.mark.parametrize("config", [None, [], "stages", {}, {"stages": {}}, {"stages": []}, {"stages": None}])
def test_no_configuration_at_all(config: object) -> None:
    """What is no configuration, or one without stages, is refused."""
    with pytest.raises(InvalidInput):
        StageHandler(config)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "means"), [("count", "fixed"), ("data-driven", "dynamic"), ("decision", "condition-based")]
)
def test_other_words_for_the_types(word: str, means: str) -> None:
    """Each type of loop has another word."""
    keys = {"count": 2} if means == "fixed" else {"max_iterations": 2}
    loop = parse(one(type=word, **keys)).stages["work"].loop
    assert loop is not None
    assert loop.type == means


def test_a_retry_policy_from_its_keys() -> None:
    """A retry policy may be given by its keys, built-in exceptions by name."""
    loop = parse(one(type="count", count=1, on_error="retry", retry={"max_attempts": 2, "retry_on": ["OSError"]}))
    assert loop.stages["work"].loop is not None
    assert loop.stages["work"].loop.retry == Retry(max_attempts=2, retry_on=(OSError,))


def test_the_configuration_given_is_not_kept() -> None:
    """What the caller does to the configuration later changes nothing, and it is itself left alone."""
    config = default_config()
    before = copy.deepcopy(config)
    handler = StageHandler(config)
    config["stages"]["data_processing"]["decisions"]["iteration_parameters"]["threshold"] = 9.0
    handler.start_stage("data_processing")
    assert handler.get_decisions("data_processing")["iteration_parameters"]["threshold"] == 0.5
    handler.make_decision("data_processing", "iteration_parameters", {"threshold": 0.7})
    config["stages"]["data_processing"]["decisions"]["iteration_parameters"]["threshold"] = 0.5
    assert config == before


def test_what_is_kept_of_a_configuration() -> None:
    """A process keeps what was said, without what would be so anyway, and functions by their names."""
    loop = {"type": "count", "count": 1, "aggregate": max, "on_error": "retry", "retry": {"retry_on": "OSError"}}
    kept = parse({"stages": {"s": {"loop_config": loop, "decisions": {"d": {"a": 0}}}}}).plain()
    told = {
        "type": "fixed",
        "count": 1,
        "aggregate": "builtins.max",
        "on_error": "retry",
        "retry": {"retry_on": "OSError"},
    }
    assert kept == {"s": {"loop_config": told, "decisions": {"d": {"a": 0}}}}


def test_a_loop_that_is_not_enabled_is_a_plain_stage() -> None:
    """A loop_config that is not enabled leaves a stage that does not loop."""
    handler = StageHandler(
        {"stages": {"work": {"loop_config": {"enabled": False, "type": "fixed", "count": 3}, "substages": {"s": {}}}}}
    )
    handler.start_stage("work")
    with pytest.raises(ValueError, match="does not loop"):
        handler.initialize_loop("work")
    handler.start_substage("work", "s")
    handler.complete_substage("work", "s")
    assert handler.complete_stage("work", success=True).status == "completed"
