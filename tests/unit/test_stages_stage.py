"""What a stage may declare, and how it is known again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cortical.core.errors import InvalidInput, WrongType
from cortical.core.policy import Retry
from cortical.stages import Effect, FunctionStage, Key, Stage, StageContext, optional, stage
from cortical.stages.stage import require_stage

ROWS = Key("rows", list)


def nothing(context: StageContext) -> None:
    """Do nothing."""


def test_a_function_becomes_a_stage() -> None:
    """Its name and description are the function's; keys, requirements and versions are read; it can be called."""

    @stage("csv:load", version="1.2", requires=["disk>=2,<3", optional("cache")], writes=[ROWS, "count"], timeout=5)
    def load(context: StageContext) -> int:
        """Load the rows."""
        return 7

    declared = load.declared
    assert (load.id, load.name, load.description) == ("csv:load", "load", "Load the rows.")
    assert [str(need) for need in declared.requires] == ["disk<3,>=2", "cache"]
    assert [need.optional for need in declared.requires] == [False, True]
    assert (declared.writes, declared.timeout, str(declared.version)) == (("rows", "count"), 5, "1.2")
    assert load(StageContext()) == load.run(StageContext()) == 7
    assert not load.is_async
    assert load.when(StageContext()) is True


def test_a_coroutine_function_becomes_a_stage() -> None:
    """A stage whose work is a coroutine says so, as a function and as a class."""

    @stage("a:b")
    async def wait(context: StageContext) -> str:
        return "done"

    class Waits(Stage):
        id = "a:c"

        async def run(self, context: StageContext) -> str:
            return "done too"

    assert wait.is_async
    assert Waits().is_async
    assert asyncio.run(wait.run(StageContext())) == "done"
    assert asyncio.run(Waits().run(StageContext())) == "done too"


def test_a_class_of_stages() -> None:
    """What a class declares holds for its stages, and an instance may say otherwise for itself."""

    class Load(Stage):
        id = "csv:load"
        provides = ("rows==2.1", "source")
        version = "1.5"

        def __init__(self, folder: str) -> None:
            self.id = f"csv:load-{folder}"

        def run(self, context: StageContext) -> None: ...

        def plan(self, context: StageContext) -> list[Effect]:
            return []

    loads = Load("a")
    assert loads.declared.id == "csv:load-a"
    assert [str(capability) for capability in loads.declared.provides] == ["rows 2.1", "source 1.5"]
    assert (loads.can_plan, loads.can_undo) == (True, False)
    assert loads.declared.name == "csv:load-a"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"id": "load"}, InvalidInput, "'scope:name'"),
        ({"id": "a b:c"}, InvalidInput, "'scope:name'"),
        ({"id": "a:b\n"}, InvalidInput, "'scope:name'"),
        ({"id": "a:b:c"}, InvalidInput, "'scope:name'"),
        ({"id": 7}, WrongType, "a stage's id is a text"),
        ({"version": "one"}, InvalidInput, "a version such as '1.2', not 'one'"),
        ({"version": 1.0}, WrongType, "the version is a text"),
        ({"requires": "disk"}, WrongType, "a list of requirements"),
        ({"requires": ["disk>=two"]}, InvalidInput, "a range of versions"),
        ({"requires": ["disk>1", "disk<2"]}, InvalidInput, "names 'disk' twice"),
        ({"requires": ["> 2"]}, InvalidInput, "a capability and its versions"),
        ({"provides": "rows"}, WrongType, "provides is a list"),
        ({"provides": ["rows>=2"]}, InvalidInput, "'schema==2.1'"),
        ({"provides": ["rows", "rows"]}, InvalidInput, "'rows' twice"),
        ({"after": ["load"]}, InvalidInput, "'scope:name'"),
        ({"reads": [3]}, WrongType, "a key is a text"),
        ({"timeout": 0}, InvalidInput, "nothing can be done"),
        ({"timeout": "1"}, WrongType, "a number of seconds"),
        ({"retry": 3}, WrongType, "retry is a Retry"),
        ({"weight": -1}, InvalidInput, "0 or more"),
        ({"weight": float("nan")}, InvalidInput, "0 or more"),
        ({"weight": True}, WrongType, "a number"),
        ({"requres": ["disk"]}, InvalidInput, "did you mean 'requires'"),
        ({"colour": "red"}, InvalidInput, "there are after, before"),
        ({"plan": 3}, WrongType, "cannot be called"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], error: type[Exception], says: str) -> None:
    """A wrong declaration is refused where it is made, and the message says what would do."""
    with pytest.raises(error) as refusal:
        stage(options.pop("id", "a:b"), **options)(nothing)
    assert says in str(refusal.value)


def test_a_class_is_looked_at_when_it_is_made() -> None:
    """A class of stages that declares nonsense cannot even be written down."""
    with pytest.raises(InvalidInput, match=r"a:b.*version"):
        type("Wrong", (Stage,), {"id": "a:b", "version": "x"})


def test_looking_is_no_coroutine() -> None:
    """`when` and `plan` only look, so coroutine functions are refused, in functions and classes."""

    async def later(context: StageContext) -> bool:
        return True

    with pytest.raises(WrongType, match="when is a coroutine function"):
        stage("a:b", when=later)(nothing)
    with pytest.raises(WrongType, match="plan is a coroutine function"):
        type("Wrong", (Stage,), {"id": "a:b", "plan": later})


def test_a_stage_without_parentheses() -> None:
    """`@stage` without an id says what is missing."""
    with pytest.raises(WrongType, match="@stage\\('scope:name'\\)"):
        stage(nothing)  # type: ignore[arg-type]


def test_what_is_no_stage() -> None:
    """A class in place of a stage, a stage without id, and anything else are told apart."""

    class Load(Stage):
        id = "csv:load"

    class Nameless(Stage): ...

    with pytest.raises(WrongType, match=r"Load\(\)"):
        require_stage(Load)
    with pytest.raises(InvalidInput, match="has no id"):
        require_stage(Nameless())
    with pytest.raises(WrongType, match="made by @stage"):
        require_stage(nothing)
    with pytest.raises(NotImplementedError, match="has no run"):
        Load().run(StageContext())


def made(function: Callable[[StageContext], Any] = nothing, **options: Any) -> FunctionStage:
    return stage("a:b", **options)(function)


def test_a_digest_changes_with_the_stage() -> None:
    """Code, version, keys, retry and the functions beside it change the digest; its words and weight do not."""

    def other(context: StageContext) -> int:
        return 1

    def undo(context: StageContext) -> None: ...

    digests = [
        made().digest,
        made(other).digest,
        made(version="2").digest,
        made(writes=["k"]).digest,
        made(retry=Retry()).digest,
        made(undo=undo).digest,
        made(definition="of three parts").digest,
    ]
    assert len(set(digests)) == len(digests)
    assert made(description="says more", weight=3).digest == made().digest


def test_a_digest_of_a_class() -> None:
    """Two classes that do the same have the same digest; one that does something else has another."""

    def of(value: int) -> str:
        class One(Stage):
            id = "a:b"

            if value == 1:

                def run(self, context: StageContext) -> int:
                    return 1
            else:

                def run(self, context: StageContext) -> int:
                    return 2

        return One().digest

    assert of(1) == of(1) != of(2)


def test_functions_beside_the_work() -> None:
    """`when`, `plan` and `undo` of a function's stage are called as they are."""

    def plan(context: StageContext) -> Iterator[Effect]:
        yield Effect("mail", "anna")

    given = made(when=lambda context: False, plan=plan, undo=lambda context: "undone")
    context = StageContext()
    assert (given.when(context), given.undo(context)) == (False, "undone")
    assert [effect.target for effect in given.plan(context) or ()] == ["anna"]
    assert given.can_plan
    assert given.can_undo
    assert made().plan(context) is None
    assert made().undo(context) is None
