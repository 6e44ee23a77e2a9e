"""What stages share, who sees what, and what a failed stage leaves: nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from cortical.core.errors import InvalidInput, WrongType
from cortical.stages import Key, MissingKey, Mode, StageContext, UndeclaredKey, WrongValue
from tests.threads import in_threads

ROWS: Key[list[int]] = Key("rows", list)
COUNT = Key("count", int)
SHARE = Key("share", float)


def test_typed_keys() -> None:
    """A value is had under its key, or under the key's name alone."""
    context = StageContext({ROWS: [1, 2], "count": 2})
    assert context[ROWS] == [1, 2]
    assert context[COUNT] == context["count"] == 2
    assert context.get(COUNT, 5) == 2
    assert context.get(SHARE, 0.5) == 0.5
    assert context.get("other") is None
    assert (context.has(ROWS), "rows" in context, SHARE in context, 3 in context) == (True, True, False, False)
    assert list(context) == ["rows", "count"]
    assert len(context) == 2


def test_a_missing_key() -> None:
    """The message says that nobody wrote it, who would, or which key was meant."""
    context = StageContext({"rows": []}, declared_writers={"report": ["csv:report"]})
    with pytest.raises(MissingKey, match="nobody has written it"):
        context["nothing like it"]
    with pytest.raises(MissingKey, match="did you mean 'rows'"):
        context["row"]
    with pytest.raises(KeyError, match="'csv:report' is to write it, and has not succeeded"):
        context["report"]


def test_a_value_of_another_type() -> None:
    """The message says who wrote it, on reading as on writing."""
    context = StageContext({"rows": 3})
    with pytest.raises(WrongValue, match="'rows' in the context is list, and int as it was given") as refusal:
        context[ROWS]
    assert refusal.value.writer is None
    view = context.for_stage("csv:load")
    with pytest.raises(TypeError, match="'csv:load' wrote it"):
        view[ROWS] = "text"  # type: ignore[misc]
    view["rows"] = "text"
    context.accept(view)
    with pytest.raises(WrongValue, match="str as 'csv:load' wrote it"):
        context[ROWS]
    with pytest.raises(WrongValue, match="as it was given"):
        StageContext({COUNT: "3"})


def test_keys_that_are_none() -> None:
    """A key has a name and a class; an int will do for a float; unions and generics are looked at as far as can be."""
    with pytest.raises(WrongType, match="a key's name"):
        Key(3, int)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        Key(" ", int)
    with pytest.raises(WrongType, match="cannot be checked"):
        Key("a", "int")  # type: ignore[arg-type]
    assert SHARE.holds(1)
    assert Key("a", list[str]).holds([1])
    with pytest.raises(WrongType, match="a key is a text"):
        StageContext()[3]  # type: ignore[call-overload]


def test_writes_are_seen_after_success() -> None:
    """A stage sees its own writes at once; others see them when it has succeeded, and with its name."""
    context = StageContext()
    load, beside = context.for_stage("csv:load"), context.for_stage("csv:beside")
    load[ROWS] = [1]
    assert load[ROWS] == [1]
    assert load.written == {"rows": [1]}
    assert ROWS not in context
    context.accept(load)
    assert context[ROWS] == [1]
    assert context.writer(ROWS) == "csv:load"
    assert ROWS not in beside
    assert context.for_stage("csv:later")[ROWS] == [1]


def test_a_failed_stage_leaves_nothing() -> None:
    """What a failed stage wrote, and what it changed in place in values of others, is seen by nobody."""
    context = StageContext({ROWS: [1]})
    view = context.for_stage("csv:fails")
    view[COUNT] = 9
    view[ROWS].append(2)
    assert view[ROWS] == [1, 2]
    context.drop(view)
    assert context[ROWS] == context.for_stage("csv:next")[ROWS] == [1]
    assert COUNT not in context


def test_values_themselves() -> None:
    """Without copies, stages are handed the values themselves."""
    rows = [1]
    context = StageContext({ROWS: rows}, copies=False)
    assert context.for_stage("a:b")[ROWS] is rows


def test_declared_writes() -> None:
    """A stage that says what it writes may write nothing else; one that says nothing, anything."""
    context = StageContext()
    view = context.for_stage("a:b", writes=("rows",))
    with pytest.raises(UndeclaredKey, match="did you mean 'rows'"):
        view["row"] = []
    with pytest.raises(UndeclaredKey, match="it declares 'rows'"):
        view["x"] = []
    view[ROWS] = []
    assert view.written == {"rows": []}
    context.for_stage("a:c")["x"] = 1


def test_dry_runs_do_nothing() -> None:
    """`execute_live` calls in a live run only."""
    files = ["a", "b", "c"]
    assert StageContext().execute_live(files.pop) == "c"
    assert StageContext(mode=Mode.DRY).execute_live(files.pop) is None
    assert files == ["a", "b"]
    with pytest.raises(WrongType, match=r"Mode\.LIVE"):
        StageContext(mode="dry")  # type: ignore[arg-type]


def test_configuration_and_arguments() -> None:
    """Stages read them, and cannot change them; nor does the caller, afterwards."""
    arguments: dict[str, Any] = {"folder": "a"}
    context = StageContext(arguments=arguments, configuration={"deep": 1})
    arguments["folder"] = "b"
    view = context.for_stage("a:b")
    assert (view.arguments["folder"], view.configuration["deep"], view.dry) == ("a", 1, False)
    with pytest.raises(TypeError):
        view.arguments["folder"] = "c"  # type: ignore[index]


@given(st.lists(st.tuples(st.sampled_from(["begin", "accept", "drop"]), st.integers(0, 4), st.integers(0, 2))))
def test_a_view_stays_as_it_was(steps: list[tuple[str, int, int]]) -> None:
    """However stages begin, succeed and fail, each sees what had been accepted when it began, and its own."""
    context = StageContext({"k0": -1})
    accepted: dict[str, int] = {"k0": -1}
    views: dict[int, tuple[StageContext, dict[str, int]]] = {}
    for number, (what, who, key) in enumerate(steps):
        if what == "begin" and who not in views:
            views[who] = (context.for_stage(f"s:{who}"), dict(accepted))
            views[who][0][f"k{key}"] = number
            views[who][1][f"k{key}"] = number
        elif what != "begin" and who in views:
            view, _ = views.pop(who)
            if what == "accept":
                context.accept(view)
                accepted.update(view.written)
            else:
                context.drop(view)
        assert context.values() == accepted
        for view, expected in views.values():
            assert {name: view[name] for name in view} == expected
            assert {name for name in ("k0", "k1", "k2") if view.has(name)} == set(expected)


def test_many_threads() -> None:
    """Views of many threads at once keep to themselves, and all that was accepted is there in the end."""
    context = StageContext({"shared": [0]})
    wrong: list[str] = []

    def work(who: int) -> None:
        for turn in range(50):
            view = context.for_stage(f"s:{who}")
            before = view.get("turn")
            view[f"own{who}"] = turn
            if view["shared"] != [0] or view[f"own{who}"] != turn or view.get("turn") != before:
                wrong.append(f"{who} {turn}")
            view["shared"].append(who)
            view["turn"] = turn
            context.accept(view)

    in_threads(work, range(8))
    assert not wrong
    assert {name: context[name] for name in context if name.startswith("own")} == {f"own{n}": 49 for n in range(8)}
