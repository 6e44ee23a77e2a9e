"""A pipeline: stages, and which waits for which.

::

    pipeline = Pipeline("report", [load, check, clean, summarise], inputs=[FOLDER]).link("csv:load", "csv:clean")
    pipeline.validate()        # all that is wrong, as values
    pipeline.order()           # the order in which one worker would run them

A stage waits for those that its own `after` names, that name it in their `before`, that provide what it requires, and
that an edge of the pipeline leads from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

from cortical.core.checks import require_text
from cortical.core.digest import digest
from cortical.core.errors import InvalidInput
from cortical.stages.assembly import Assembly, Registered, StageRef
from cortical.stages.context import Key, StageContext, key_name
from cortical.stages.declared import Declared, require_id
from cortical.stages.definition import Definition, StageEntry, read_definition, to_definition
from cortical.stages.dependency import Dependencies
from cortical.stages.dry_run import Plan, dry_run
from cortical.stages.errors import DefinitionError, DuplicateStage, InvalidPipeline, UnknownStage
from cortical.stages.requirement import Resolved, providers_of, resolve
from cortical.stages.stage import Stage
from cortical.stages.validation import Problem, problems_of


class Pipeline(Assembly):
    """Stages, and which waits for which.

    Args:
        name: what it is called in the log.
        stages: the stages; those given by id or `StageRef` are looked up in `registry`.
        edges: pairs of ids, from the one waited for to the one that waits.
        description: for people.
        inputs: keys of the context that are given at the start.
        providers: by capability, the id of the stage that is to provide it.
        registry: the stages that there are, by id: a `StageRegistry` or any mapping.
        partial: stages may name others in `after`, `before` and `requires` that are not here.

    What is wrong with all of it together, `validate` tells; `add` and `link` refuse at once what cannot be.

    Raises:
        DuplicateStage: two stages have one id.
        WrongType, InvalidInput: something is no stage, id or key.
    """

    def __init__(
        self,
        name: str,
        stages: Iterable[Stage | StageRef | str] = (),
        edges: Iterable[Sequence[str]] = (),
        *,
        description: str = "",
        inputs: Iterable[Key[Any] | str] = (),
        providers: Mapping[str, str] | None = None,
        registry: Registered | None = None,
        partial: bool = False,
    ) -> None:
        self.name = require_text(name, "a pipeline's name")
        self.description = description and require_text(description, "a pipeline's description")
        self.inputs = tuple(dict.fromkeys(key_name(key, "inputs") for key in inputs))
        self.providers = {
            require_text(capability, "a capability"): require_id(by) for capability, by in (providers or {}).items()
        }
        super().__init__(registry, partial=partial)
        self._resolved: list[Resolved] = []
        self.enter(stages, edges)

    @classmethod
    def from_dict(cls, definition: Mapping[str, Any], registry: Registered) -> Self:
        """The pipeline that a dictionary defines, of stages that `registry` has.

        Raises:
            DefinitionError: a key is unknown, or a value of no use; the message names the spot.
        """
        where = "the definition"
        return cls._of(to_definition(definition, where), registry, where)

    @classmethod
    def from_file(cls, path: str | Path, registry: Registered) -> Self:
        """The pipeline that a TOML, YAML or JSON file defines, of stages that `registry` has.

        Raises:
            DefinitionError: it cannot be read, a key is unknown, or a value of no use.
            MissingExtra: it is YAML, and PyYAML is not installed.
        """
        return cls._of(read_definition(path), registry, str(path))

    @classmethod
    def _of(cls, read: Definition, registry: Registered, where: str) -> Self:
        entries = [StageEntry(entry) if isinstance(entry, str) else entry for entry in read.stages]
        edges = [(before, entry.id) for entry in entries for before in entry.after]
        edges += [(entry.id, after) for entry in entries for after in entry.before]
        try:
            return cls(
                read.name,
                [StageRef(entry.id, entry.version) for entry in entries],
                [*edges, *read.edges],
                description=read.description,
                inputs=read.inputs,
                providers=read.providers,
                registry=registry,
            )
        except (InvalidInput, DuplicateStage) as error:
            raise DefinitionError(where, str(error)) from None

    # Looking

    @property
    def dependencies(self) -> Dependencies:
        """Who waits for whom, requirements included. Not to be changed."""
        if self._all is None:
            self._all = self._with_requirements()
        return self._all

    @property
    def resolved(self) -> list[Resolved]:
        """What became of each requirement: its provider, a note that it is done without, or a problem."""
        assert self.dependencies
        return self._resolved

    @property
    def writers(self) -> dict[str, list[str]]:
        """By key, the stages that say they write it."""
        return self._by_key(attrgetter("writes"))

    @property
    def readers(self) -> dict[str, list[str]]:
        """By key, the stages that say they read it."""
        return self._by_key(attrgetter("reads"))

    def validate(self, given: Iterable[Key[Any] | str] = ()) -> list[Problem]:
        """All that is wrong with it; an empty list when it can be run.

        Args:
            given: keys that the context holds at the start, besides the pipeline's inputs.
        """
        return list(problems_of(self, {*self.inputs, *map(key_name, given)}))

    def require_valid(self, given: Iterable[Key[Any] | str] = ()) -> Self:
        """The pipeline itself, if it can be run.

        Raises:
            InvalidPipeline: it cannot; it holds everything that is wrong.
        """
        problems = self.validate(given)
        if problems:
            raise InvalidPipeline(self.name, problems)
        return self

    def order(self) -> list[str]:
        """The order in which one worker runs its stages; of those that may come next, the one that was added first.

        Raises:
            DependencyCycle: some wait for each other.
        """
        return self.dependencies.order()

    def waves(self) -> list[list[str]]:
        """Its stages by how many others have to come before: those of a wave may run at the same time.

        Raises:
            DependencyCycle: some wait for each other.
        """
        return self.dependencies.waves()

    @property
    def width(self) -> int:
        """How many stages its widest wave has."""
        return max(map(len, self.waves()), default=0)

    def critical_path(self, seconds: Mapping[str, float]) -> tuple[list[str], float]:
        """The chain of stages that takes longest, and how long.

        Args:
            seconds: how long each stage takes; one that is left out, no time.

        Raises:
            DependencyCycle: some wait for each other.
        """
        return self.dependencies.critical_path(lambda stage_id: seconds.get(stage_id, 0.0))

    def part(self, ids: Iterable[str], *, upstream: bool = False) -> Pipeline:
        """A pipeline of some of these stages, and with `upstream` of all that they wait for.

        Raises:
            UnknownStage: one of them is not part of the pipeline.
        """
        wanted = list(ids)
        for stage_id in wanted:
            if stage_id not in self.members:
                raise UnknownStage(stage_id, self.members)
        kept = self.dependencies.above(wanted) if upstream else set(wanted)
        graph = self.dependencies.graph
        edges = [(before, after) for before, after in graph.edges if before in kept and after in kept]
        members = [member for member in self.members.values() if member.id in kept]
        return Pipeline(
            self.name,
            [member.stage or StageRef(member.id, member.versions) for member in members],
            edges,
            description=self.description,
            inputs=self.inputs,
            providers={name: by for name, by in self.providers.items() if by in kept},
            registry=self.known_stages,
            partial=True,
        )

    def dry_run(self, context: StageContext | None = None) -> Plan:
        """What running it would do; nothing is executed.

        Args:
            context: what it would begin with; nothing by default. It stays as it is.
        """
        return dry_run(self, StageContext() if context is None else context)

    # Knowing it again

    @property
    def digests(self) -> dict[str, str]:
        """By stage id, a short text that changes when the stage does; empty where the stage does not exist."""
        return {member.id: member.stage.digest if member.stage else "" for member in self.members.values()}

    @property
    def digest(self) -> str:
        """A short text that changes when a stage does, or which waits for which."""
        edges = sorted(self.dependencies.graph.edges)
        return digest([repr((self.name, sorted(self.digests.items()), edges, self.inputs)).encode()])

    def to_dict(self) -> dict[str, Any]:
        """Its definition, as `from_dict` takes it: stages by id and version, edges as pairs."""
        stages = [{"id": member.id, "version": member.versions} for member in self.members.values()]
        told: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "inputs": list(self.inputs),
            "providers": dict(self.providers),
            "stages": [entry if entry["version"] else {"id": entry["id"]} for entry in stages],
            "edges": [list(edge) for edge in self.edges],
        }
        return {key: value for key, value in told.items() if value or key in ("name", "stages")}

    def __len__(self) -> int:
        return len(self.members)

    def __repr__(self) -> str:
        return f"<pipeline {self.name}: {len(self.members)} stages>"

    def _with_requirements(self) -> Dependencies:
        stages = self.stages
        self._resolved = []
        if not any(stage.declared.requires for stage in stages.values()):
            return self._declared
        providers = providers_of((stage_id, stage.declared.provides) for stage_id, stage in stages.items())
        graph = self._declared.copy()
        for stage_id, stage in stages.items():
            for requirement in stage.declared.requires:
                found = resolve(stage_id, requirement, providers, self.providers)
                if not (self.partial and found.problem):
                    self._resolved.append(found)
                if found.provider is not None:
                    graph.link(found.provider, stage_id, f"requires {requirement}")
        return graph

    def _by_key(self, keys: Callable[[Declared], Iterable[str]]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for stage_id, stage in self.stages.items():
            for key in keys(stage.declared):
                found.setdefault(key, []).append(stage_id)
        return found
