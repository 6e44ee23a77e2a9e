"""What a process of stages is made of: its stages, their substages, decisions, and how a stage loops.

Everything is looked at when it is given: what is wrong, is told then, all of it, and with the key that was most likely
meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from attrs import Factory, asdict, field, frozen

from cortical.core.checks import meant, nearest, require_finite, require_text, require_values, shown, unknown_keys
from cortical.core.copies import detached
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.outcome import type_name
from cortical.core.policy import Retry
from cortical.stages.loop import reading
from cortical.stages.loop.reading import ConfigInvalid, read

#: The words for the types of loops, and which type each stands for.
TYPES: Final = {
    "fixed": "fixed",
    "count": "fixed",
    "dynamic": "dynamic",
    "data-driven": "dynamic",
    "condition-based": "condition-based",
    "decision": "condition-based",
}

T = TypeVar("T", bound="SubstageConfig | StageConfig")


def _loop_type(given: Any) -> Any:
    return TYPES.get(given, given) if isinstance(given, str) else given


def _before(items: Mapping[str, T]) -> dict[str, tuple[str, ...]]:
    """For each name, those that have to be over first: of a lower sequence, and not optional."""
    return {
        name: tuple(other for other, before in items.items() if before.sequence < one.sequence and not before.optional)
        for name, one in items.items()
    }


@frozen(kw_only=True)
class SubstageConfig:
    """One substage: its place in the order, whether it may be left out, and how much it counts in the progress."""

    sequence: int = field(default=0, validator=reading.whole(0, needed=True))
    description: str = field(default="", validator=reading.text)
    optional: bool = field(default=False, validator=reading.truth)
    weight: float = field(default=1.0, validator=reading.weight)


@frozen(kw_only=True)
class LoopConfig:
    """How a stage loops; the how-to page on loop stages says what each key means.

    Raises:
        ConfigInvalid: the keys do not go together.
    """

    enabled: bool = field(default=True, validator=reading.truth)
    type: str = field(converter=_loop_type, validator=reading.one_of(*TYPES))
    count: int | None = field(default=None, validator=reading.whole(0))
    items: Sequence[Any] | None = field(default=None, validator=reading.sequence)
    iteration_data_key: str | None = field(default=None, validator=reading.text)
    batch_size: int | None = field(default=None, validator=reading.whole(1))
    init_decision: str | None = field(default=None, validator=reading.text)
    iteration_decision: str | None = field(default=None, validator=reading.text)
    continue_condition: str | None = field(default=None, validator=reading.text)
    max_iterations: int | None = field(default=None, validator=reading.whole(1))
    on_limit: str = field(default="stop", validator=reading.one_of("stop", "fail"))
    on_error: str = field(default="fail", validator=reading.one_of("fail", "continue", "retry", "rollback"))
    retry: Retry | None = field(default=None, converter=reading.as_retry)
    tolerated_failures: float | None = field(default=None, validator=reading.tolerance)
    timeout: float | None = field(default=None, validator=reading.seconds)
    iteration_timeout: float | None = field(default=None, validator=reading.seconds)
    aggregate: str | Callable[..., Any] | None = field(default=None, validator=reading.function)
    transform: str | Callable[..., Any] | None = field(default=None, validator=reading.function)
    parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] = field(factory=dict, validator=reading.parameters)

    def __attrs_post_init__(self) -> None:
        problems = list(self._contradictions())
        if problems:
            raise ConfigInvalid(problems)

    def _contradictions(self) -> Iterator[str]:
        if self.type == "fixed" and self.count is None and self.init_decision is None:
            yield "a fixed loop needs count, or an init_decision that gives it"
        if self.type != "fixed" and self.count is not None:
            yield f"count is for loops of the type 'fixed', not {shown(self.type)}; max_iterations limits any loop"
        if self.items is not None and self.iteration_data_key is not None:
            yield "items and iteration_data_key are two sources of the same data; give one of them"
        if self.batch_size is not None and self.items is None and self.iteration_data_key is None:
            yield "batch_size needs items, or an iteration_data_key, to take batches of"
        endless = self.type == "condition-based" or (
            self.type == "dynamic" and self.items is None and self.iteration_data_key is None
        )
        if endless and self.max_iterations is None:
            yield f"a {self.type} loop that nothing else is sure to end needs max_iterations"
        if self.retry is not None and self.on_error not in ("retry", "rollback"):
            yield f"retry is for on_error 'retry' or 'rollback', not {shown(self.on_error)}"
        if self.tolerated_failures is not None and self.on_error == "fail":
            yield "tolerated_failures is for on_error 'continue', 'retry' or 'rollback': 'fail' tolerates none"


@frozen(kw_only=True)
class StageConfig:
    """One stage: its place in the order, its substages in theirs, its decisions, and how it loops, if it does."""

    sequence: int = field(default=0, validator=reading.whole(0, needed=True))
    description: str = field(default="", validator=reading.text)
    requires_previous: bool = field(default=False, validator=reading.truth)
    validation_required: bool = field(default=False, validator=reading.truth)
    optional: bool = field(default=False, validator=reading.truth)
    weight: float = field(default=1.0, validator=reading.weight)
    loop_config: LoopConfig | None = None
    substages: Mapping[str, SubstageConfig] = field(factory=dict)
    decisions: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    #: For each substage those that have to be over before it.
    before: Mapping[str, tuple[str, ...]] = field(init=False, eq=False, repr=False)
    #: How it loops; None for a plain stage.
    loop: LoopConfig | None = field(init=False, eq=False, repr=False)
    #: The substages without which nothing can be completed.
    required: tuple[str, ...] = field(init=False, eq=False, repr=False)

    @before.default
    def _before(self) -> Mapping[str, tuple[str, ...]]:
        return _before(self.substages)

    @loop.default
    def _loop(self) -> LoopConfig | None:
        return self.loop_config if self.loop_config is not None and self.loop_config.enabled else None

    @required.default
    def _required(self) -> tuple[str, ...]:
        return tuple(name for name, substage in self.substages.items() if not substage.optional)

    def __attrs_post_init__(self) -> None:
        loop = self.loop_config
        named = () if loop is None else ("init_decision", "iteration_decision")
        problems = [
            f"{key} is {getattr(loop, key)!r}, which is not among its decisions"
            + (nearest(getattr(loop, key), self.decisions) or "; declare it there, an empty one will do")
            for key in named
            if getattr(loop, key) is not None and getattr(loop, key) not in self.decisions
        ]
        if problems:
            raise ConfigInvalid(problems)


@frozen
class ProcessConfig:
    """The stages of a process, in their order."""

    stages: Mapping[str, StageConfig]
    before: Mapping[str, tuple[str, ...]] = field(init=False, eq=False, repr=False)

    @before.default
    def _before(self) -> Mapping[str, tuple[str, ...]]:
        return _before(self.stages)

    def stage(self, name: object) -> StageConfig:
        """The stage of this name.

        Raises:
            WrongType, InvalidInput: there is none such.
        """
        if not isinstance(name, str):
            raise WrongType(f"a stage is named by a text, not by {shown(name)}")
        found = self.stages.get(name)
        if found is None:
            raise InvalidInput(f"there is no stage {name!r}{meant(name, self.stages)}")
        return found

    def plain(self) -> dict[str, Any]:
        """The same as plain values, as it is kept with a process; functions stand there by their names."""
        return {name: asdict(stage, filter=_told, value_serializer=_plain) for name, stage in self.stages.items()}


def parse(config: object) -> ProcessConfig:
    """The configuration of a process: ``{"stages": {name: stage, …}}``.

    Raises:
        ConfigInvalid: it is of no use; everything that is wrong with it is told.
    """
    if isinstance(config, ProcessConfig):
        return config
    if not isinstance(config, Mapping):
        raise ConfigInvalid([f"a configuration is a mapping with the key 'stages', not {shown(config)}"])
    try:
        require_finite(config, "the configuration")
    except InvalidInput as error:
        raise ConfigInvalid([str(error)]) from None
    problems: list[str] = []
    problems.extend(unknown_keys(config, ["stages"], "the configuration"))
    stages = _each(config.get("stages"), "stages", problems, _stage)
    if not stages and not problems:
        problems.append("the configuration has no stages")
    if problems:
        raise ConfigInvalid(problems)
    return ProcessConfig(_in_order(stages))


def _stage(given: object, where: str, problems: list[str]) -> StageConfig | None:
    if not isinstance(given, Mapping):
        return read(StageConfig, given, where, problems)
    parts = dict(given)
    before = len(problems)
    if given.get("loop_config") is not None:
        parts["loop_config"] = read(LoopConfig, given["loop_config"], f"{where}.loop_config", problems)
    substages = _each(given.get("substages", {}), f"{where}.substages", problems, _substage)
    parts["substages"] = _in_order(substages)
    parts["decisions"] = _each(given.get("decisions", {}), f"{where}.decisions", problems, _decision)
    nested = len(problems) - before
    made = read(StageConfig, parts, where, problems)
    return None if nested else made


def _substage(given: object, where: str, problems: list[str]) -> SubstageConfig | None:
    return read(SubstageConfig, given, where, problems)


def _decision(given: object, where: str, problems: list[str]) -> dict[str, Any] | None:
    try:
        return detached(dict(require_values(given, where)))
    except WrongType as error:
        problems.append(str(error))
        return None


def _each(
    given: object, where: str, problems: list[str], one: Callable[[object, str, list[str]], Any]
) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        problems.append(f"{where} is a mapping from names, not {shown(given)}")
        return {}
    found = {}
    for name, value in given.items():
        try:
            require_text(name, f"a name in {where}")
        except (InvalidInput, WrongType) as error:
            problems.append(str(error))
            continue
        found[name] = one(value, f"{where}.{name}", problems)
    return found


def _in_order(items: Mapping[str, T]) -> dict[str, T]:
    """By sequence; equals as they were given. What could not be read is left out."""
    there = [(name, one) for name, one in items.items() if one is not None]
    return dict(sorted(there, key=lambda item: item[1].sequence))


def _told(attribute: Any, value: Any) -> bool:
    """Only what is not as it would be anyway: so a key that is new in a later version makes no difference."""
    default = attribute.default
    if isinstance(default, Factory):  # type: ignore[arg-type]
        return bool(attribute.init and value)
    return bool(attribute.init) and not (isinstance(value, str | float | int | None) and value == default)


def _plain(_: object, __: object, value: Any) -> Any:
    if isinstance(value, type):
        return type_name(value)
    if isinstance(value, Sequence) and not isinstance(value, str | list | tuple):
        return repr(value)
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else value
