"""What stages share: values under typed keys, and how the pipeline was called.

::

    REPORT = Key("report", Report)

    context[REPORT] = Report(…)      # seen by other stages once this one has succeeded
    context[REPORT].title            # a Report, for the type checker too

What is written is kept apart until the stage has succeeded, so a failed stage leaves nothing behind. A stage sees the
values as they were when it began, and its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, Generic, TypeVar, get_origin, overload

from attrs import frozen

from cortical.core.checks import nearest, require_text, shown
from cortical.core.copies import detached
from cortical.core.errors import WrongType
from cortical.core.journal import Journal
from cortical.core.outcome import type_name
from cortical.stages.errors import MissingKey, UndeclaredKey, WrongValue
from cortical.stages.values import Entry, Values

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Mode(Enum):
    """Whether stages do what they are for, or only say what they would do."""

    LIVE = "live"
    DRY = "dry"


class ReadKey(Generic[T_co]):
    """What a key is to one who reads: what stands there may be asked for as something wider."""

    __slots__ = ()


@frozen
class Key(ReadKey[T]):
    """A name in the context with the type of what stands there.

    Raises:
        WrongType, InvalidInput: the name is no text, or the type none that values can be checked against.
    """

    name: str
    type: type[T]

    def __attrs_post_init__(self) -> None:
        require_text(self.name, "a key's name")
        try:
            self.holds(None)
        except TypeError:
            raise WrongType(f"values under {self.name!r} cannot be checked to be {self.type!r}; give a class") from None

    def holds(self, value: object) -> bool:
        """Whether `value` may stand here. Of ``list[str]`` only the list is looked at; an int will do for a float."""
        if self.type is float and isinstance(value, int):
            return True
        return isinstance(value, get_origin(self.type) or self.type)


def key_name(key: object, what: str = "a key") -> str:
    """The name of a key, or of one that is given as its name alone.

    Raises:
        WrongType, InvalidInput: it is no key.
    """
    return key.name if isinstance(key, Key) else require_text(key, f"{what}: a key")


@frozen
class _Called:
    """How a pipeline was called: what its context and all views of it have in common."""

    mode: Mode
    configuration: Mapping[str, Any]
    arguments: Mapping[str, Any]
    copies: bool
    declared_writers: Mapping[str, Sequence[str]]


class StageContext:
    """The values of a pipeline, and how it was called. Iterating gives the names of what there is.

    A pipeline's own context is given what it begins with, and gives each stage its view of it (`for_stage`).

    Args:
        values: what there is at the beginning, by key or name.
        mode: whether stages do what they are for.
        configuration, arguments: for stages to read; they cannot be changed.
        copies: hand out copies, so that a stage changes nothing by changing a value in its own place. Without it,
            stages are handed the values themselves, and have to leave them as they are.
        writers: of the values, which stage wrote each, where one did.
        declared_writers: which stages say that they write a key; for messages.

    Raises:
        WrongType, InvalidInput, WrongValue: a key is none, or its value is of another type.
    """

    __slots__ = (
        "_called",
        "_copied",
        "_may_write",
        "_number",
        "_own",
        "_shared",
        "_version",
        "journal",
        "run_id",
        "stage_id",
    )

    _version: int | None

    def __init__(
        self,
        values: Mapping[Any, Any] | None = None,
        *,
        mode: Mode = Mode.LIVE,
        configuration: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
        copies: bool = True,
        writers: Mapping[str, str] | None = None,
        declared_writers: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if not isinstance(mode, Mode):
            raise WrongType(f"mode is Mode.LIVE or Mode.DRY, not {shown(mode)}")
        given = {key_name(key): _require_value(key, value, None) for key, value in (values or {}).items()}
        self._called = _Called(
            mode,
            MappingProxyType(dict(configuration or {})),
            MappingProxyType(dict(arguments or {})),
            copies,
            declared_writers or {},
        )
        self._shared = Values(given, writers or {})
        self._number, self._version = 0, None
        self._own: dict[str, Any] = {}
        self._copied: dict[str, Any] | None = None
        self._may_write: Sequence[str] = ()
        self.stage_id: str | None = None
        #: In a live run, what keeps it, and the run that the stage is: for what a stage starts below itself.
        self.journal: Journal | None = None
        self.run_id: str | None = None

    @property
    def mode(self) -> Mode:
        """Whether stages do what they are for."""
        return self._called.mode

    @property
    def configuration(self) -> Mapping[str, Any]:
        """For stages to read; it cannot be changed."""
        return self._called.configuration

    @property
    def arguments(self) -> Mapping[str, Any]:
        """For stages to read; they cannot be changed."""
        return self._called.arguments

    @property
    def copies(self) -> bool:
        """Whether stages are handed copies of what others wrote."""
        return self._called.copies

    @property
    def declared_writers(self) -> Mapping[str, Sequence[str]]:
        """By key, the stages that say they write it."""
        return self._called.declared_writers

    # What a stage uses

    @property
    def dry(self) -> bool:
        """Whether stages only say what they would do."""
        return self._called.mode is Mode.DRY

    @overload
    def __getitem__(self, key: ReadKey[T]) -> T: ...
    @overload
    def __getitem__(self, key: str) -> Any: ...
    def __getitem__(self, key: ReadKey[Any] | str) -> Any:
        """What stands under a key.

        Raises:
            MissingKey: nothing does; the message says who would write it.
            WrongValue: it is of another type than the key's; the message says who wrote it.
        """
        name = key_name(key)
        if name in self._own:
            return _require_value(key, self._own[name], self.stage_id)
        entry = self._shared.at(name, self._version)
        if entry is None:
            raise MissingKey(name, self._why_missing(name))
        return _require_value(key, self._handed_out(name, entry), entry.writer)

    @overload
    def get(self, key: ReadKey[T], default: T) -> T: ...
    @overload
    def get(self, key: ReadKey[T], default: None = None) -> T | None: ...
    @overload
    def get(self, key: str, default: Any = None) -> Any: ...
    def get(self, key: ReadKey[Any] | str, default: Any = None) -> Any:
        """What stands under a key, or `default` where nothing does.

        Raises:
            WrongValue: it is of another type than the key's.
        """
        return self[key] if self.has(key) else default

    def set(self, key: Key[T] | str, value: T) -> None:
        """Put `value` under a key: at once for the stage itself, for others when it has succeeded.

        Raises:
            WrongValue: it is of another type than the key's.
            UndeclaredKey: the stage says what it writes, and this is not among it.
        """
        name = key_name(key)
        _require_value(key, value, self.stage_id)
        if self.stage_id is None:
            self._shared.accept({name: value}, None)
            return
        if self._may_write and name not in self._may_write:
            raise UndeclaredKey(self.stage_id, name, self._may_write)
        self._own[name] = value

    def __setitem__(self, key: Key[T] | str, value: T) -> None:
        self.set(key, value)

    def has(self, key: ReadKey[Any] | str) -> bool:
        """Whether something stands under a key."""
        name = key_name(key)
        return name in self._own or self._shared.at(name, self._version) is not None

    def __contains__(self, key: object) -> bool:
        return isinstance(key, Key | str) and self.has(key)

    def __iter__(self) -> Iterator[str]:
        shared = self._shared
        there = [name for name in list(shared.entries) if shared.at(name, self._version) is not None]
        return iter(dict.fromkeys([*there, *self._own]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def writer(self, key: Key[Any] | str) -> str | None:
        """Which stage wrote what stands under a key; None for what was there at the beginning, and for nothing."""
        name = key_name(key)
        if name in self._own:
            return self.stage_id
        entry = self._shared.at(name, self._version)
        return None if entry is None else entry.writer

    def execute_live(self, action: Callable[[], T]) -> T | None:
        """What `action` gives; in a dry run it is not called, and None comes back."""
        return None if self.dry else action()

    # What a pipeline uses

    def for_stage(self, stage_id: str, *, writes: Sequence[str] = ()) -> StageContext:
        """A stage's own view: the values as they are now, and what it will write.

        Hand it back by `accept` when the stage has succeeded, by `drop` when it has not.

        Args:
            writes: the names it may write; any where there are none.
        """
        view = object.__new__(type(self))
        view._called, view._shared = self._called, self._shared
        view._number, view._version = self._shared.begin()
        view._own, view._copied, view._may_write = {}, None, writes
        view.stage_id, view.journal, view.run_id = stage_id, self.journal, self.run_id
        return view

    @property
    def written(self) -> dict[str, Any]:
        """What a stage has written, by name; a new dictionary with the values themselves."""
        return dict(self._own)

    def accept(self, view: StageContext) -> None:
        """Let what a stage wrote be seen by those that begin from now on."""
        self._shared.end(view._number)
        if view._own:
            self._shared.accept(view._own, view.stage_id)

    def drop(self, view: StageContext) -> None:
        """Forget what a stage wrote."""
        self._shared.end(view._number)

    def put_back(self, stage_id: str, written: Mapping[str, Any] | None) -> None:
        """Let what a stage wrote before this context was made be seen again."""
        if written:
            self._shared.accept(written, stage_id)

    def values(self) -> dict[str, Any]:
        """All that there is, by name; a new dictionary."""
        return {name: self[name] for name in self}

    def _handed_out(self, name: str, entry: Entry) -> Any:
        if not self._called.copies:
            return entry.value
        if self.stage_id is None:
            return detached({name: entry.value})[name]
        if self._copied is None:
            self._copied = {}
        if name not in self._copied:
            self._copied[name] = detached({name: entry.value})[name]
        return self._copied[name]

    def _why_missing(self, name: str) -> str:
        declared = [writer for writer in self.declared_writers.get(name, ()) if writer != self.stage_id]
        if declared:
            return f"{' or '.join(map(repr, declared))} is to write it, and has not succeeded by now"
        return f"nobody has written it{nearest(name, self) or ', and no stage says that it does'}"


def _require_value(key: object, value: Any, writer: str | None) -> Any:
    if isinstance(key, Key) and not key.holds(value):
        by = f"as {writer!r} wrote it" if writer else "as it was given"
        wanted = getattr(key.type, "__name__", str(key.type))
        told = f"{key.name!r} in the context is {wanted}, and {type_name(type(value))} {by}; make the two agree"
        raise WrongValue(key.name, told, writer)
    return value
