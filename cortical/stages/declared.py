"""What a stage declares, checked at the door and in one form."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from attrs import frozen
from packaging.version import Version

from cortical.core.checks import require_number, require_seconds, require_text, shown
from cortical.core.digest import code_of, digest
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.policy import Retry
from cortical.stages.context import key_name
from cortical.stages.requirement import Capability, Requirement, require_requirements, require_version

#: What an id looks like, for every reader of regular expressions: a scope, one or two colons, a name.
ID: Final = r"^[^\s:\x00-\x1f\x7f]+::?[^\s:\x00-\x1f\x7f]+$"
_ID: Final = re.compile(ID[1:-1])


def require_id(value: object, what: str = "a stage's id") -> str:
    """`value`, if it is an id such as ``csv:load``.

    Raises:
        WrongType, InvalidInput: it is none.
    """
    text = require_text(value, what)
    if _ID.fullmatch(text) is None:
        raise InvalidInput(f"{what} is 'scope:name' without blanks, not {shown(text)}")
    return text


@frozen(eq=False)
class Declared:
    """What a stage declares: ids and keys as text, versions and requirements as such."""

    id: str
    name: str
    description: str
    version: Version
    requires: tuple[Requirement, ...]
    provides: tuple[Capability, ...]
    after: tuple[str, ...]
    before: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    timeout: float | None
    retry: Retry
    weight: float
    definition: str

    @classmethod
    def of(cls, source: Any) -> Declared:
        """What a stage, or a class of stages, declares.

        Raises:
            WrongType, InvalidInput: something of it makes no sense.
        """
        stage_id = require_id(source.id)
        whose = f"stage {stage_id!r}:"
        version = require_version(source.version, f"{whose} the version")
        _require_functions(source, whose)
        return cls(
            stage_id,
            require_text(source.name or stage_id, f"{whose} the name"),
            source.description and require_text(source.description, f"{whose} the description"),
            version,
            require_requirements(source.requires, f"{whose} requires") if source.requires != () else (),
            tuple(Capability.of(value, version) for value in _several(source.provides, f"{whose} provides")),
            _ids(source.after, f"{whose} after"),
            _ids(source.before, f"{whose} before"),
            _keys(source.reads, f"{whose} reads"),
            _keys(source.writes, f"{whose} writes"),
            _timeout(source.timeout, f"{whose} the timeout"),
            _retry(source.retry, whose),
            _weight(source.weight, f"{whose} the weight"),
            source.definition and require_text(source.definition, f"{whose} the definition"),
        )

    def digest(self, functions: Iterable[object]) -> str:
        """A short text that changes when what matters of the declarations does, or the code of a function."""
        return digest([*self._told(), *(code_of(function) + b"\0" for function in functions)])

    def _told(self) -> Iterator[bytes]:
        requires = [(str(need), need.optional, need.by) for need in self.requires]
        provides = [str(capability) for capability in self.provides]
        order = (self.after, self.before, self.reads, self.writes)
        told = (self.id, str(self.version), requires, provides, order, self.timeout, self.retry, self.definition)
        yield repr(told).encode()


def _require_functions(source: Any, whose: str) -> None:
    for name in ("when", "plan"):
        function = getattr(source, "_functions", {}).get(name) or getattr(source, name)
        if inspect.iscoroutinefunction(function):
            raise WrongType(f"{whose} {name} is a coroutine function; it only looks, so make it a plain one")


def _several(values: object, what: str) -> tuple[Any, ...]:
    if values == ():
        return ()
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise WrongType(f"{what} is a list, not {shown(values)}")
    found = tuple(values)
    twice = next((value for number, value in enumerate(found) if value in found[:number]), None)
    if twice is not None:
        raise InvalidInput(f"{what} names {shown(twice)} twice")
    return found


def _ids(values: object, what: str) -> tuple[str, ...]:
    return tuple(require_id(value, f"{what}: an id") for value in _several(values, what))


def _keys(values: object, what: str) -> tuple[str, ...]:
    return tuple(key_name(value, what) for value in _several(values, what))


def _timeout(value: object, what: str) -> float | None:
    return None if value is None else require_seconds(value, what, above_zero=True)


def _retry(value: object, whose: str) -> Retry:
    if not isinstance(value, Retry):
        raise WrongType(f"{whose} retry is a Retry, not {shown(value)}")
    return value


def _weight(value: object, what: str) -> float:
    return float(require_number(value, what, finite=True))
