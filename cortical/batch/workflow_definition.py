"""Workflows and batches as data: what a definition may say, read from a dictionary or from TOML, YAML or JSON.

All that is wrong with the form of a definition is found at once. The classes are msgspec structs because msgspec
checks them against plain values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, field

from cortical.core.checks import nearest, require_finite, require_keys, shown, unknown_keys
from cortical.core.errors import InvalidInput
from cortical.core.policy import ONCE, Retry
from cortical.stages.definition import converted
from cortical.stages.errors import DefinitionError

S = TypeVar("S", bound=Struct)

#: What an id of a step looks like: no blanks, no dots (references are parted by them), no colons.
_ID: Final = r"^[^\s.:\x00-\x1f\x7f]+$"
_Id = Annotated[str, Meta(pattern=_ID, description="The id of a step.")]
_Count = Annotated[int, Meta(ge=1)]
_Seconds = Annotated[float, Meta(gt=0)]
_Rate = Annotated[float, Meta(gt=0)]


class RetryEntry(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How often something is tried, and after what delays, as `Retry` has it. It is tried again after any error."""

    max_attempts: _Count = 3
    delay: Annotated[float, Meta(ge=0)] = 1.0
    backoff: Annotated[float, Meta(ge=1)] = 2.0
    max_delay: Annotated[float, Meta(ge=0)] = 60.0
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.0

    @property
    def policy(self) -> Retry:
        """It, as a policy."""
        return Retry(**msgspec.structs.asdict(self), retry_on=Exception)


class OnError(Struct, forbid_unknown_fields=True):
    """After a failure, the step that is run in the place of those that wait for this one."""

    next: _Id


#: Keys whose values are tables of their own.
_TABLES: Final[dict[str, type[Struct]]] = {"retry": RetryEntry, "on_error": OnError}


#: Keys of a step without whose values what else is told of it, and of those that wait for it, would not be true.
_NEEDED: Final = ("id", "task", "with", "depends_on")


class BatchEntry(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A task, and the items it is for."""

    task: Annotated[str, Meta(min_length=1, description="python, shell, file, or the name of a registered task.")]
    with_: Annotated[dict[str, Any], Meta(description="What the task is told.")] = field(
        default_factory=dict, name="with"
    )
    items: Annotated[Any, Meta(description='A list, a reference, {"lines": file} or {"files": pattern}.')] = None
    retry: RetryEntry | None = None
    timeout: Annotated[_Seconds | None, Meta(description="Seconds that one attempt may take.")] = None
    max_concurrency: Annotated[_Count | None, Meta(description="How many items at a time.")] = None
    tolerated_failures: Annotated[
        Annotated[int, Meta(ge=0)] | Annotated[float, Meta(ge=0, le=1)],
        Meta(description="How many items, or (with a point) which share of them, may fail."),
    ] = 0
    rate_limit: Annotated[_Rate | None, Meta(description="How many items a second at most.")] = None

    @property
    def policy(self) -> Retry:
        """How often the task is tried."""
        return ONCE if self.retry is None else self.retry.policy


class BatchDefinition(BatchEntry, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A batch that stands alone."""

    name: Annotated[str, Meta(min_length=1, description="What it is called in the log.")]


class StepEntry(BatchEntry, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A step: a task to be done once, or with `items` for each of them."""

    id: _Id
    description: str = ""
    depends_on: Annotated[list[_Id], Meta(description="The steps it waits for.")] = []
    condition: Annotated[Any, Meta(description="It is skipped where this does not hold.")] = True
    on_error: Annotated[
        Literal["fail", "continue", "retry"] | OnError, Meta(description="What its failure means for the workflow.")
    ] = "fail"

    @property
    def handler(self) -> str | None:
        """The step that is run when this one has failed."""
        return self.on_error.next if isinstance(self.on_error, OnError) else None

    @property
    def is_tolerant(self) -> bool:
        """Whether the workflow goes on after its failure."""
        return self.on_error == "continue" or self.handler is not None

    @property
    def policy(self) -> Retry:
        """How often the task is tried."""
        if self.retry is None and self.on_error == "retry":
            return RetryEntry().policy
        return super().policy


class Parameter(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A value that is given when the workflow is run; without a default it has to be."""

    default: Any = msgspec.UNSET
    description: str = ""


class WorkflowDefinition(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A workflow: its steps, in which order follows from `depends_on`."""

    name: Annotated[str, Meta(min_length=1, description="What it is called in the log.")]
    description: str = ""
    parameters: dict[str, Parameter] = {}
    max_concurrency: Annotated[_Count, Meta(description="How many steps at a time.")] = 4
    on_failure: Annotated[
        Literal["fail_fast", "keep_going"],
        Meta(description="Whether steps that do not wait for a failed one are begun after it."),
    ] = "fail_fast"
    steps: list[StepEntry]


def workflow_of(value: object) -> tuple[WorkflowDefinition | None, list[str]]:
    """What plain values define, as far as that can be told, and all that is wrong with their form."""
    if not isinstance(value, Mapping):
        return None, [f"a workflow is a table with a name and steps, not {type(value).__name__}"]
    try:
        require_finite(value, "the workflow")
    except InvalidInput as error:
        return None, [str(error)]
    problems: list[str] = []
    steps = list(_steps_of(value.get("steps"), problems))
    parameters = _parameters_of(value.get("parameters", {}), problems)
    plain = {**value, "steps": [], "parameters": {}}
    own: list[str] = []
    fitting = _fitting(plain, WorkflowDefinition, "the workflow", own)
    if "name" not in fitting and "name" not in value:
        own.append("the workflow: object missing required field `name`")
    definition = converted({"name": "none", **fitting}, WorkflowDefinition)
    definition.name = fitting.get("name", "")
    definition.steps, definition.parameters = steps, parameters
    return definition, [*own, *problems]


def batch_of(value: object, where: str) -> BatchDefinition:
    """What plain values define.

    Raises:
        DefinitionError: a key is unknown (the message names the nearest), missing, or its value of no use.
    """
    if not isinstance(value, Mapping):
        raise DefinitionError(where, f"a batch is a table with a name, a task and items, not {type(value).__name__}")
    try:
        require_finite(value, "the batch")
        found = _converted(value, BatchDefinition, "the batch")
        if found.items is None:
            raise InvalidInput("the batch has no items; give a list of them")
        return found
    except (InvalidInput, msgspec.ValidationError) as error:
        raise DefinitionError(where, _told(error, "the batch")) from None


def plain_of(definition: Struct) -> dict[str, Any]:
    """A definition as plain values again."""
    plain: dict[str, Any] = msgspec.to_builtins(definition, builtin_types=(bytes,))
    return plain


def _steps_of(given: object, problems: list[str]) -> Iterator[StepEntry]:
    if not isinstance(given, list | tuple) or not given:
        problems.append("the workflow has no steps; give a list of them: steps = [{id, task, …}]")
        return
    for number, step in enumerate(given):
        named = step.get("id") if isinstance(step, Mapping) else None
        where = f"step {named!r}" if isinstance(named, str) else f"steps[{number}]"
        try:
            if not isinstance(step, Mapping):
                raise InvalidInput(f"a step is a table with an id and a task, not {type(step).__name__}")
            fitting = _fitting(step, StepEntry, where, problems)
            if all(name in fitting or name not in step for name in _NEEDED):
                yield converted(fitting, StepEntry)
        except (InvalidInput, msgspec.ValidationError) as error:
            problems.append(_told(error, where))


def _fitting(value: Mapping[Any, Any], kind: type[Struct], where: str, problems: list[str]) -> dict[str, Any]:
    """What of a table fits the record that it is to be; of each other key it is told what is wrong with it.

    So one problem does not hide the others, and what else is told does not follow from it: in the place of what is to
    follow an error stands a word with which nothing further is wrong.
    """
    fields = {one.encode_name: one for one in msgspec.structs.fields(kind)}
    problems += unknown_keys(value, fields, where)
    fitting = {}
    for name, field_info in fields.items():
        if name not in value:
            continue
        wrong = list(_misfits(value[name], name, field_info.type, where))
        problems += wrong
        if not wrong:
            fitting[name] = value[name]
        elif name == "on_error":
            fitting[name] = "continue"
    return fitting


def _misfits(value: object, name: str, kind: Any, where: str) -> Iterator[str]:
    """What is wrong with the value of one key; of a table of its own, with each of its keys."""
    inner = _TABLES.get(name)
    if inner is not None and isinstance(value, Mapping):
        yield from unknown_keys(value, [one.encode_name for one in msgspec.structs.fields(inner)], f"{where}: {name}")
        for one in msgspec.structs.fields(inner):
            if one.encode_name in value:
                yield from _misfits(value[one.encode_name], f"{name}.{one.encode_name}", one.type, where)
            elif one.required:
                yield f"{where}: {name}: object missing required field `{one.encode_name}`"
        return
    choices = list(_choices(kind))
    if choices and isinstance(value, str) and value not in choices:
        yield f"{where}: {name}: {shown(value)} is none of {', '.join(choices)}{nearest(value, choices)}"
        return
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield _told(error, where, name)
    except UnicodeEncodeError as error:
        yield f"{where}: {name}: {shown(error.object)} cannot be written as UTF-8: {error.reason}"


def _choices(kind: Any) -> Iterator[str]:
    """The words that a type allows."""
    for part in get_args(kind):
        if get_origin(kind) is Literal:
            yield part
        else:
            yield from _choices(part)


def _parameters_of(given: object, problems: list[str]) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    if not isinstance(given, Mapping):
        problems.append(f"parameters are a table, name to default, not {type(given).__name__}")
        return found
    for name, about in given.items():
        where = f"parameter {name!r}"
        try:
            if not isinstance(name, str) or not name or "." in name:
                raise InvalidInput(f"{where} cannot be referred to; its name is a text without dots")
            found[name] = _converted(about, Parameter, where) if isinstance(about, Mapping) else Parameter(about)
        except (InvalidInput, msgspec.ValidationError) as error:
            problems.append(_told(error, where))
    return found


def _converted(value: Mapping[str, Any], kind: type[S], where: str) -> S:
    _require_known(value, kind, where)
    for name, inner in _TABLES.items():
        if isinstance(value.get(name), Mapping):
            _require_known(value[name], inner, f"{where}: {name}")
    return converted(value, kind)


def _require_known(value: Mapping[str, Any], kind: type[Struct], where: str) -> None:
    require_keys(value, [one.encode_name for one in msgspec.structs.fields(kind)], where)


def _told(error: Exception, where: str, name: str = "") -> str:
    """What is wrong, and at which spot of what `where` names, or of the value of its key `name`."""
    if isinstance(error, InvalidInput):
        text = str(error)
        return text if text.startswith(where) else f"{where}: {text}"
    problem, at, spot = str(error).partition(" - at `$")
    field_name = (name + spot.rstrip("`") if at else name).lstrip(".")
    hint = "; an id has no blanks, dots or colons" if "matching regex" in problem else ""
    return f"{where}: {f'{field_name}: ' if field_name else ''}{problem[:1].lower()}{problem[1:]}{hint}"
