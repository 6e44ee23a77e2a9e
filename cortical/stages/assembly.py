"""The stages of a pipeline and the edges between them, as they are put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Self, TypeAlias

from attrs import frozen
from packaging.specifiers import SpecifierSet

from cortical.core.checks import shown
from cortical.core.errors import InvalidInput, WrongType
from cortical.stages.declared import require_id
from cortical.stages.dependency import Dependencies
from cortical.stages.errors import DependencyCycle, DuplicateStage, UnknownStage
from cortical.stages.registry import StageRegistry
from cortical.stages.requirement import require_range
from cortical.stages.stage import Stage, require_stage

Registered: TypeAlias = Mapping[str, Stage] | StageRegistry


@frozen
class StageRef:
    """A stage by its id and the versions of it that will do; every one by default."""

    id: str
    versions: str = ""


@frozen(eq=False)
class Member:
    """A stage of a pipeline: its id, and the stage; None where none has this id.

    `asked` are the versions that will do, where it was given by its id; None where it was given itself.
    """

    id: str
    asked: SpecifierSet | None
    stage: Stage | None

    @property
    def versions(self) -> str:
        """The versions that will do, as a definition says it."""
        if self.asked is None and self.stage is not None:
            return f"=={self.stage.declared.version}"
        return str(self.asked or "")


class Assembly:
    """Stages and edges: what a pipeline is made of."""

    name: str

    def __init__(self, registry: Registered | None, *, partial: bool) -> None:
        self.known_stages = registry.snapshot() if isinstance(registry, StageRegistry) else registry or {}
        self.partial = partial
        self.members: dict[str, Member] = {}
        self.edges: list[tuple[str, str]] = []
        self._declared = Dependencies()
        self._waiting: dict[str, list[tuple[str, str, str]]] = {}
        self._all: Dependencies | None = None

    def enter(self, stages: Iterable[Stage | StageRef | str], edges: Iterable[Sequence[str]]) -> None:
        """Take all of these, also what cannot be; `validate` tells of it.

        Raises:
            DuplicateStage: two stages have one id.
            WrongType, InvalidInput: something is no stage or id.
        """
        for stage in stages:
            self._enter(self._member(stage))
        members = self.members
        for edge in edges:
            match edge:
                case (str() as before, str() as after) if before in members and after in members:
                    self._link(before, after, "edge")
                case _:
                    self._link(*_pair(edge), "edge")

    @property
    def stages(self) -> dict[str, Stage]:
        """Its stages by id, as they were added; without those that do not exist."""
        return {member.id: member.stage for member in self.members.values() if member.stage is not None}

    @property
    def open_edges(self) -> list[tuple[str, str]]:
        """Edges one of whose ends is no stage of the pipeline."""
        waiting = [edge for edges in self._waiting.values() for edge in edges]
        return [(before, after) for before, after, why in waiting if why == "edge" or not self.partial]

    def add(self, *stages: Stage | StageRef | str) -> Self:
        """Add stages; what they say they come after and before counts at once.

        Raises:
            DuplicateStage, DependencyCycle: a stage cannot be added; those before it have been.
            UnknownStage: it is given by its id, and there is none.
        """
        for stage in stages:
            member = self._member(stage)
            if member.stage is None:
                raise UnknownStage(member.id, self.known_stages)
            self._require_free(member.id)
            above, below = self._neighbours(member.stage)
            for after in below:
                for before in above:
                    if (path := self._declared.path(after, before)) is not None:
                        raise DependencyCycle([member.id, *path, member.id])
            self._enter(member)
        return self

    def link(self, *ids: str) -> Self:
        """Let each of these stages wait for the one before it.

        Raises:
            UnknownStage: one of them is not part of the pipeline.
            DependencyCycle: some would wait for each other; no edge was added.
        """
        if len(ids) < 2:
            raise InvalidInput("an edge leads from one stage to another; give two ids or more")
        for stage_id in ids:
            if stage_id not in self.members:
                raise UnknownStage(stage_id, self.members)
        linked: list[tuple[str, str]] = []
        try:
            linked.extend(edge for edge in pairwise(ids) if self._declared.link_safely(*edge))
        except DependencyCycle:
            for edge in linked:
                self._declared.unlink(*edge)
            raise
        self.edges.extend(pairwise(ids))
        self._all = None
        return self

    def _member(self, stage: Stage | StageRef | str) -> Member:
        if isinstance(stage, str):
            stage = StageRef(stage)
        if isinstance(stage, StageRef):
            stage_id = require_id(stage.id)
            versions = require_range(stage.versions, f"the versions of {stage_id!r}")
            return Member(stage_id, versions, self.known_stages.get(stage_id))
        found = require_stage(stage)
        return Member(found.id, None, found)

    def _enter(self, member: Member) -> None:
        self._require_free(member.id)
        self.members[member.id] = member
        self._declared.add(member.id)
        for edge in self._waiting.pop(member.id, ()):
            self._link_declared(*edge)
        if member.stage is not None:
            for before in member.stage.declared.after:
                self._link_declared(before, member.id, "after")
            for after in member.stage.declared.before:
                self._link_declared(member.id, after, "before")
        self._all = None

    def _link(self, before: str, after: str, why: str) -> None:
        self.edges.append((before, after))
        self._link_declared(before, after, why)
        self._all = None

    def _link_declared(self, before: str, after: str, why: str) -> None:
        missing = next((one for one in (before, after) if one not in self.members), None)
        if missing is None:
            self._declared.link(before, after, why)
        else:
            self._waiting.setdefault(missing, []).append((before, after, why))

    def _neighbours(self, stage: Stage) -> tuple[list[str], list[str]]:
        """Those that a stage would wait for, and that would wait for it, if it were added now."""
        waiting = self._waiting.get(stage.id, ())
        above = [*stage.declared.after, *(before for before, after, _ in waiting if after == stage.id)]
        below = [*stage.declared.before, *(after for before, after, _ in waiting if before == stage.id)]
        return [one for one in above if one in self.members], [one for one in below if one in self.members]

    def _require_free(self, stage_id: str) -> None:
        if stage_id in self.members:
            raise DuplicateStage(stage_id, f"pipeline {self.name!r}", "give the other an id of its own")


def _pair(edge: object) -> tuple[str, str]:
    match edge:
        case (before, after) if not isinstance(edge, str):
            return require_id(before, "an edge: an id"), require_id(after, "an edge: an id")
    raise WrongType(f"an edge is a pair of ids, from the one waited for to the one that waits, not {shown(edge)}")
