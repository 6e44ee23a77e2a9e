"""What stages need of each other: capabilities with versions, and which stage provides them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from attrs import evolve, field, frozen
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from cortical.core.checks import nearest, require_text, shown
from cortical.core.errors import InvalidInput, WrongType
from cortical.stages.errors import nearest_id

_PARTS: Final = re.compile(r"\s*([^\s<>=!~,;]+)\s*([<>=!~].*)?", re.DOTALL)


def require_version(value: object, what: str) -> Version:
    """`value` as a version, such as 1.2.

    Raises:
        WrongType, InvalidInput: it is none.
    """
    if isinstance(value, Version):
        return value
    text = require_text(value, what)
    try:
        return Version(text)
    except InvalidVersion:
        raise InvalidInput(f"{what} is a version such as '1.2', not {shown(text)}") from None


def require_range(value: object, what: str) -> SpecifierSet:
    """`value` as a range of versions, such as ``>=1,<2``; an empty text stands for every version.

    Raises:
        WrongType, InvalidInput: it is none.
    """
    if isinstance(value, SpecifierSet):
        return value
    text = value if value == "" else require_text(value, what)
    try:
        return SpecifierSet(str(text))
    except InvalidSpecifier:
        raise InvalidInput(f"{what} is a range of versions such as '>=1,<2', not {shown(text)}") from None


@frozen
class Requirement:
    """A capability that has to be provided before a stage can run.

    `versions` is the range it may be of. An `optional` one may go without a provider. `by` names the stage that is to
    provide it, where several could.
    """

    capability: str
    versions: SpecifierSet = field(factory=SpecifierSet)
    optional: bool = False
    by: str | None = None

    @classmethod
    def of(cls, value: object) -> Requirement:
        """`value`, or what a text such as ``schema>=2,<3`` says.

        Raises:
            WrongType, InvalidInput: it is no requirement.
        """
        if isinstance(value, Requirement):
            return value
        text = require_text(value, "a requirement")
        parts = _PARTS.fullmatch(text)
        if parts is None:
            raise InvalidInput(f"a requirement is a capability and its versions, 'schema>=2,<3', not {shown(text)}")
        return cls(parts[1], require_range((parts[2] or "").strip(), f"what requirement {text!r} says of versions"))

    def __str__(self) -> str:
        return f"{self.capability}{self.versions}"


def required(requirement: str, *, by: str | None = None) -> Requirement:
    """A requirement, such as ``schema>=2,<3``, that names the stage which is to provide it."""
    return evolve(Requirement.of(requirement), by=by)


def optional(requirement: str, *, by: str | None = None) -> Requirement:
    """A requirement that is of use where somebody provides it, and done without where nobody does."""
    return evolve(Requirement.of(requirement), optional=True, by=by)


@frozen
class Capability:
    """What a stage provides; of the version that stands beside it (``schema==2.1``), or else of the stage's own."""

    name: str
    version: Version

    @classmethod
    def of(cls, value: object, version: Version) -> Capability:
        """What a text such as ``schema`` or ``schema==2.1`` says, in a stage of this version.

        Raises:
            WrongType, InvalidInput: it is no capability.
        """
        if isinstance(value, Capability):
            return value
        text = require_text(value, "what a stage provides")
        name, equals, stated = (part.strip() for part in text.partition("=="))
        parts = _PARTS.fullmatch(name)
        if parts is None or parts[2]:
            raise InvalidInput(f"a stage provides a capability, 'schema' or 'schema==2.1', not {shown(text)}")
        return cls(name, require_version(stated, f"the version of {name!r}") if equals else version)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@frozen
class Resolved:
    """What became of one requirement of `stage_id`: the `provider` it waits for, a `note`, or a `problem`.

    A note says that an optional one is done without, and why. `kind` names the kind of problem.
    """

    stage_id: str
    requirement: Requirement
    provider: str | None = None
    note: str = ""
    problem: str = ""
    kind: str = ""


Providers = Mapping[str, Sequence[tuple[str, Version]]]


def providers_of(provided: Iterable[tuple[str, Sequence[Capability]]]) -> dict[str, list[tuple[str, Version]]]:
    """Of stage ids and what each provides: by capability, the stages with the version they provide it in."""
    found: dict[str, list[tuple[str, Version]]] = {}
    for stage_id, capabilities in provided:
        for capability in capabilities:
            found.setdefault(capability.name, []).append((stage_id, capability.version))
    return found


def resolve(stage_id: str, requirement: Requirement, providers: Providers, chosen: Mapping[str, str]) -> Resolved:
    """Which stage provides what `stage_id` requires.

    Args:
        providers: as from `providers_of`.
        chosen: by capability, the stage that is to provide it wherever no stage says otherwise.
    """
    offers = [offer for offer in providers.get(requirement.capability, ()) if offer[0] != stage_id]
    named = requirement.by or chosen.get(requirement.capability)
    if named is not None and named != stage_id:
        return _named(stage_id, requirement, offers, named)
    fitting = [offer for offer, version in offers if requirement.versions.contains(version, prereleases=True)]
    if len(fitting) == 1:
        return Resolved(stage_id, requirement, fitting[0])
    if fitting:
        told = f"{_asks(stage_id, requirement)} {' and '.join(map(repr, fitting))} both provide; name one of them"
        return Resolved(stage_id, requirement, problem=told, kind="ambiguous requirement")
    if not offers:
        told = f"{_asks(stage_id, requirement)} nobody provides"
        return _without(stage_id, requirement, told, nearest(requirement.capability, providers), "missing requirement")
    has = ", ".join(f"{offer!r} provides {version}" for offer, version in offers)
    return _without(stage_id, requirement, f"{_asks(stage_id, requirement)} nobody provides: {has}", "", "version")


def _named(stage_id: str, requirement: Requirement, offers: Sequence[tuple[str, Version]], named: str) -> Resolved:
    version = dict(offers).get(named)
    asks = _asks(stage_id, requirement)
    if version is None:
        told = f"{asks} {named!r} is to provide, which does not"
        meant = nearest_id(named, [offer for offer, _ in offers])
        return _without(stage_id, requirement, told, meant, "missing requirement")
    if not requirement.versions.contains(version, prereleases=True):
        return _without(stage_id, requirement, f"{asks} {named!r} provides in version {version}", "", "version")
    return Resolved(stage_id, requirement, named)


def _without(stage_id: str, requirement: Requirement, told: str, meant: str, kind: str) -> Resolved:
    if requirement.optional:
        return Resolved(stage_id, requirement, note=f"{told}; it does without")
    return Resolved(stage_id, requirement, problem=told + meant, kind=kind)


def _asks(stage_id: str, requirement: Requirement) -> str:
    return f"{stage_id!r} {'can use' if requirement.optional else 'requires'} {str(requirement)!r}, which"


def require_requirements(values: object, what: str) -> tuple[Requirement, ...]:
    """`values` as requirements.

    Raises:
        WrongType, InvalidInput: they are not several, or one is none, or a capability is required twice.
    """
    if isinstance(values, str | Requirement) or not isinstance(values, Iterable):
        raise WrongType(f"{what} is a list of requirements, not {shown(values)}")
    found = tuple(Requirement.of(value) for value in values)
    names = [requirement.capability for requirement in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(f"{what} names {shown(twice)} twice; join the versions with a comma")
    return found
