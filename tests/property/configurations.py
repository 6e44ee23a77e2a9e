"""Configurations of every reader that are right, and how they come to be wrong."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from datetime import date
from itertools import islice
from typing import Any

from hypothesis import strategies as st

PIPELINE: dict[str, Any] = {
    "name": "report",
    "description": "Sums up.",
    "inputs": ["folder"],
    "stages": [
        {"id": "t:load", "version": ">=1,<2", "before": ["t:sum"]},
        {"id": "t:sum", "after": ["t:load"]},
        "t:tell",
    ],
    "edges": [["t:sum", "t:tell"]],
    "providers": {"rows": "t:load"},
}
WORKFLOW: dict[str, Any] = {
    "name": "nightly",
    "description": "Every night.",
    "parameters": {"folder": {"default": ".", "description": "where"}, "count": 3},
    "max_concurrency": 2,
    "on_failure": "keep_going",
    "steps": [
        {"id": "list", "task": "fuzz.keep", "with": {"value": {"from": "parameters.count"}}, "timeout": 30},
        {
            "id": "each",
            "task": "fuzz.keep",
            "items": [1, 2],
            "depends_on": ["list"],
            "retry": {"max_attempts": 2, "delay": 0.0, "backoff": 2, "max_delay": 1, "jitter": 0.5},
            "max_concurrency": 2,
            "tolerated_failures": 0.5,
            "rate_limit": 1000.0,
            "on_error": "continue",
            "with": {"value": {"template": "{{ item }}-{{ parameters.folder }}"}},
        },
        {
            "id": "tell",
            "task": "fuzz.keep",
            "description": "Tells.",
            "depends_on": ["each", "list"],
            "condition": {"all": [{"equals": [{"from": "steps.list"}, 3]}, True]},
            "on_error": {"next": "mend"},
        },
        {"id": "mend", "task": "fuzz.keep", "depends_on": ["tell"]},
    ],
}
BATCH: dict[str, Any] = {
    "name": "shout",
    "task": "fuzz.keep",
    "with": {"value": 1},
    "items": ["a", "b"],
    "retry": {"max_attempts": 2, "delay": 0},
    "timeout": 5.0,
    "max_concurrency": 2,
    "tolerated_failures": 1,
    "rate_limit": 100.0,
}
PROCESS: dict[str, Any] = {
    "stages": {
        "load": {
            "sequence": 1,
            "description": "Loads.",
            "requires_previous": True,
            "validation_required": False,
            "optional": False,
            "weight": 2.0,
            "substages": {
                "read": {"sequence": 1, "description": "Reads.", "optional": True, "weight": 1},
                "check": {"sequence": 2},
            },
            "decisions": {"more": {"limit": 3, "threshold": 0.5}},
            "loop_config": {
                "enabled": True,
                "type": "dynamic",
                "items": [1, 2, 3],
                "batch_size": 2,
                "iteration_decision": "more",
                "max_iterations": 5,
                "on_limit": "stop",
                "on_error": "retry",
                "retry": {
                    "max_attempts": 2,
                    "delay": 1,
                    "backoff": 2.0,
                    "max_delay": 9,
                    "jitter": 0,
                    "retry_on": "OSError",
                },
                "tolerated_failures": 0.5,
                "timeout": 100,
                "iteration_timeout": 10,
                "parameters": {"a": 1},
            },
        },
        "count": {"sequence": 2, "loop_config": {"type": "fixed", "count": 2}},
        "ask": {
            "loop_config": {"type": "condition-based", "init_decision": "go", "max_iterations": 3},
            "decisions": {"go": {}},
        },
    }
}


def _cyclic() -> tuple[list[Any], dict[str, Any]]:
    cycle: list[Any] = []
    cycle.append(cycle)
    table: dict[str, Any] = {}
    table["a"] = table
    return cycle, table


class Laughs(list[Any]):
    """Few lists that stand for more values than anybody could write out; not shown, as that would never end."""

    def __init__(self) -> None:
        value: list[Any] = ["ha"]
        for _ in range(30):
            value = [value] * 9
        super().__init__(value)

    def __repr__(self) -> str:
        return "Laughs()"

    def __deepcopy__(self, memo: Any) -> Laughs:
        return self


def _deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


#: Values that stand where others were meant.
JUNK = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            -1,
            0,
            1,
            3.5,
            math.nan,
            math.inf,
            -math.inf,
            1e308,
            2**63,
            10**30,
            "",
            " ",
            "\t\n",
            "\udc80",
            "\0",
        ]
    ),
    st.sampled_from(
        ["x" * 5000, "é\u2028", "a:b", "t:load", "../../x", "{{ 1 / 0 }}", "{{", "{% for", ">=1", "OSError"]
    ),
    st.sampled_from([date(2026, 1, 1), b"bytes", object, ...]),
    st.sampled_from(
        [
            *(list, dict, Laughs, lambda: [[]], lambda: [None], lambda: {"": 1}, lambda: {1: 2}, lambda: {(1, 2): 3}),
            *(lambda: ["a", "a"], lambda: {"from": "steps.x"}, lambda: {"lines": "x"}, lambda: {"from": 3}),
            *(lambda: {"template": "{{ x"}, lambda: {"not": 1}, lambda: {"any": "x"}, lambda: {"next": "list"}),
            *(lambda: {"files": "**"}, lambda: _cyclic()[0], lambda: _cyclic()[1], lambda: _deep(60)),
            *(lambda: _deep(150), lambda: _deep(5000)),
        ]
    ).map(lambda make: make()),
    st.just(6000).map(lambda power: 16**power),  # too long to be shown
    st.text(max_size=5),
    st.integers(),
    st.floats(),
)


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in plain values, down to a depth, as the keys and positions that lead there."""
    yield path
    if len(path) < 7 and not isinstance(value, Laughs):
        entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, one in entries:
            yield from spots(one, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """What stands at a spot."""
    for key in path:
        value = value[key]
    return value


@st.composite
def changed(draw: st.DrawFn, right: Any) -> Any:
    """The right configuration with a few things dropped, renamed, doubled, moved or replaced."""
    value = copy.deepcopy(right)
    for _ in range(draw(st.integers(1, 3))):
        everywhere = list(islice(spots(value), 300))
        path = draw(st.sampled_from(everywhere))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return draw(JUNK)
            continue
        above, key = at(value, path[:-1]), path[-1]
        _HOW[draw(st.sampled_from(sorted(_HOW)))](draw, above, key, at(value, draw(st.sampled_from(everywhere))))
    return value


def _replace(draw: st.DrawFn, above: Any, key: Any, other: Any) -> None:
    above[key] = draw(JUNK)


def _drop(draw: st.DrawFn, above: Any, key: Any, other: Any) -> None:
    del above[key]


def _rename(draw: st.DrawFn, above: Any, key: Any, other: Any) -> None:
    if isinstance(above, dict):
        new = draw(st.sampled_from([f"{key}s", str(key)[1:], str(key).upper(), 7, None, (1,), "", "\udc80"]))
        above[new] = above.pop(key)


def _copy(draw: st.DrawFn, above: Any, key: Any, other: Any) -> None:
    above[key] = copy.deepcopy(other)


def _wrap(draw: st.DrawFn, above: Any, key: Any, other: Any) -> None:
    wraps: list[Callable[[Any], Any]] = [lambda one: [one], lambda one: {"a": one}, lambda one: [one, one], str, repr]
    above[key] = draw(st.sampled_from(wraps))(above[key])


def _add(draw: st.DrawFn, above: Any, key: Any, other: Any) -> None:
    if isinstance(above, dict):
        above[draw(st.text(max_size=4))] = draw(JUNK)
    else:
        above.append(draw(JUNK))


_HOW: dict[str, Callable[[st.DrawFn, Any, Any, Any], None]] = {
    "replace": _replace,
    "drop": _drop,
    "rename": _rename,
    "copy": _copy,
    "wrap": _wrap,
    "add": _add,
}
