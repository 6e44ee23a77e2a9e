"""A stage: one named piece of work of a pipeline, with what it needs, what it gives, and how it is to be run.

::

    @stage("csv:load", provides=["rows"], writes=[ROWS])
    def load(context: StageContext) -> int:
        rows = read(context.arguments["folder"])
        context[ROWS] = rows
        return len(rows)

    class Check(Stage):
        id = "csv:check"
        requires = ("rows>=1",)
        reads = (ROWS,)

        def run(self, context: StageContext) -> None: ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, TypeVar

from packaging.version import Version

from cortical.core.checks import require_keys, shown
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.policy import ONCE, Retry
from cortical.stages.context import Key, StageContext
from cortical.stages.declared import Declared
from cortical.stages.effects import Effect
from cortical.stages.requirement import Requirement

F = TypeVar("F", bound=Callable[..., Any])
Plan = Iterable[Effect] | None


class Stage:
    """One piece of work. Derive from it and give it an `id` and a `run`, or use `@stage` on a function.

    What a class or an instance declares is looked at when the class is made and when the stage is first used.

    Attributes:
        id: `scope:name`, unique in a pipeline.
        name, description: for people; the name is the id unless it is given.
        version: such as 1.2; that of what it provides, unless that says its own.
        requires: capabilities that others provide: ``"storage"``, ``"schema>=2,<3"``, ``optional("cache")``.
        provides: capabilities it gives to others: ``"schema"`` or ``"schema==2.1"``.
        after, before: ids of stages it comes after and before, where they are part of the same pipeline.
        reads, writes: keys of the context. One that declares what it writes may write nothing else.
        timeout: seconds that one attempt may take.
        retry: how often, and when, it is tried again; not at all by default.
        weight: its share in the progress of a pipeline, beside the weights of the others.
        definition: says what the stage was made of where its code and declarations do not; part of its digest.
    """

    id: str = ""
    name: str = ""
    description: str = ""
    version: str | Version = "0"
    requires: Sequence[str | Requirement] = ()
    provides: Sequence[str] = ()
    after: Sequence[str] = ()
    before: Sequence[str] = ()
    reads: Sequence[Key[Any] | str] = ()
    writes: Sequence[Key[Any] | str] = ()
    timeout: float | None = None
    retry: Retry = ONCE
    weight: float = 1.0
    definition: str = ""

    _declared: Declared | None = None
    _digest: str = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if isinstance(cls.id, str) and cls.id:
            Declared.of(cls)

    def run(self, context: StageContext) -> Any:
        """Do the work; what comes back is the stage's output. May be a coroutine function.

        Raises:
            Exception: whatever goes wrong; the stage has then failed, and nothing it wrote is seen by others.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no run; a stage does its work in one")

    def when(self, context: StageContext) -> object:
        """Whether it is to run; anything that counts as false and it is skipped."""
        return True

    def plan(self, context: StageContext) -> Plan:
        """What `run` would do, without doing any of it; None: it cannot tell. What it writes, later plans may read."""
        return None

    def undo(self, context: StageContext) -> Any:
        """Take back what `run` did. May be a coroutine function."""
        return None

    @property
    def declared(self) -> Declared:
        """What it declares, checked.

        Raises:
            WrongType, InvalidInput: something that it declares makes no sense.
        """
        if self._declared is None:
            self._declared = Declared.of(self)
        return self._declared

    @property
    def digest(self) -> str:
        """A short text that changes when its code or what it declares does."""
        if not self._digest:
            self._digest = self.declared.digest(method for name, method in self._methods() if self._has(name))
        return self._digest

    @property
    def can_plan(self) -> bool:
        """Whether it can say what it would do."""
        return self._has("plan")

    @property
    def can_undo(self) -> bool:
        """Whether it can take back what it did."""
        return self._has("undo")

    @cached_property
    def is_async(self) -> bool:
        """Whether its `run` is a coroutine function."""
        return inspect.iscoroutinefunction(self.run)

    def _has(self, method: str) -> bool:
        return getattr(type(self), method) is not getattr(Stage, method)

    def _methods(self) -> list[tuple[str, object]]:
        return [(name, getattr(self, name)) for name in ("run", "when", "plan", "undo")]

    def __repr__(self) -> str:
        return f"<stage {self.id}>"


class FunctionStage(Stage):
    """A stage made of functions, as `@stage` makes it. It can be called as its function can."""

    def __init__(
        self,
        function: Callable[[StageContext], Any],
        *,
        when: Callable[[StageContext], object] | None = None,
        plan: Callable[[StageContext], Plan] | None = None,
        undo: Callable[[StageContext], Any] | None = None,
        **declared: Any,
    ) -> None:
        self._functions: dict[str, Callable[[StageContext], Any] | None] = {
            "run": function,
            "when": when,
            "plan": plan,
            "undo": undo,
        }
        for given in self._functions.values():
            if given is not None and not callable(given):
                raise WrongType(f"stage {declared.get('id')!r} is made of functions; {given!r} cannot be called")
        vars(self).update(declared)
        self.name = self.name or str(getattr(function, "__name__", ""))
        self.description = self.description or inspect.getdoc(function) or ""
        self.__wrapped__ = function
        self._declared = Declared.of(self)

    def __call__(self, context: StageContext) -> Any:
        """What the function gives."""
        return self.__wrapped__(context)

    def run(self, context: StageContext) -> Any:
        """Do the work: call the function."""
        return self.__wrapped__(context)

    def when(self, context: StageContext) -> object:
        """Whether it is to run."""
        when = self._functions["when"]
        return True if when is None else when(context)

    def plan(self, context: StageContext) -> Plan:
        """What it would do."""
        plan = self._functions["plan"]
        return None if plan is None else plan(context)

    def undo(self, context: StageContext) -> Any:
        """Take back what it did."""
        undo = self._functions["undo"]
        return None if undo is None else undo(context)

    @cached_property
    def is_async(self) -> bool:
        """Whether its function is a coroutine function."""
        return inspect.iscoroutinefunction(self.__wrapped__)

    def _has(self, method: str) -> bool:
        return self._functions[method] is not None

    def _methods(self) -> list[tuple[str, object]]:
        return list(self._functions.items())


_OPTIONS = frozenset(name for name in Stage.__annotations__ if not name.startswith("_")) | {"when", "plan", "undo"}


def stage(id: str, **options: Any) -> Callable[[Callable[[StageContext], Any]], FunctionStage]:
    """Make a stage of a function that takes the context.

    Args:
        id: `scope:name`.
        options: the attributes of `Stage`, and the functions `when`, `plan` and `undo`. The name is the function's and
            the description its docstring unless they are given.

    Raises:
        WrongType, InvalidInput: an option does not exist, or makes no sense.
    """
    if callable(id):
        raise WrongType("a stage needs an id: write @stage('scope:name') above the function")
    require_keys(options, sorted(_OPTIONS - {"id"}), f"stage {id!r}")

    def make(function: Callable[[StageContext], Any]) -> FunctionStage:
        return FunctionStage(function, id=id, **options)

    return make


def require_stage(value: object) -> Stage:
    """`value`, if it is a stage and what it declares makes sense.

    Raises:
        WrongType, InvalidInput: it is not, or does not.
    """
    if isinstance(value, type) and issubclass(value, Stage):
        raise WrongType(f"{value.__qualname__} is a class of stages; give one of them: {value.__qualname__}()")
    if not isinstance(value, Stage):
        raise WrongType(f"a stage is made by @stage or a class derived from Stage, not {shown(value)}")
    if not value.id:
        raise InvalidInput(f"{type(value).__qualname__} has no id; give it one: id = 'scope:name'")
    assert value.declared
    return value
