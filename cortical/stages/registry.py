"""The stages there are, by id, and the pipelines made of them; shared by threads."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from attrs import frozen

from cortical.core.checks import require_text
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.outcome import Failure
from cortical.stages.errors import DuplicateStage, StageInUse, UnknownPipeline, UnknownStage
from cortical.stages.stage import Stage, require_stage

if TYPE_CHECKING:
    from cortical.stages.pipeline import Pipeline

#: The entry point group under which packages offer stages.
GROUP: Final = "cortical.stages"


Stages: TypeAlias = list[Stage]  # names that the method `list` does not hide


@frozen
class Plugin:
    """What came of one entry point: the ids of the stages it brought, or the error that kept it from loading."""

    name: str
    value: str
    stages: tuple[str, ...] = ()
    error: Failure | None = None


Plugins: TypeAlias = list[Plugin]


class StageRegistry:
    """Stages by id, and pipelines by name.

    Whoever runs a pipeline works with a `snapshot`, so nothing is locked while a stage runs, and a stage may use the
    registry.
    """

    def __init__(self, stages: Iterable[Stage] = ()) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, Stage] = {}
        self._snapshot: Mapping[str, Stage] | None = None
        self._pipelines: dict[str, Pipeline] = {}
        self._users: dict[str, set[str]] = {}
        self._loaded: dict[tuple[str, str], Plugin] = {}
        self.register(*stages)

    def register(self, *stages: Stage) -> None:
        """Make stages known: all of them or, when one is refused, none. One that is known already may come again.

        Raises:
            DuplicateStage: another has the id of one of them.
            WrongType, InvalidInput: one is no stage.
        """
        checked = [require_stage(stage) for stage in stages]
        with self._lock:
            new: dict[str, Stage] = {}
            for stage in checked:
                if self._stages.get(stage.id, new.get(stage.id, stage)) is not stage:
                    raise DuplicateStage(stage.id, "the registry", "replace it, or give the other an id of its own")
                new[stage.id] = stage
            self._stages.update(new)
            self._snapshot = None

    def replace(self, stage: Stage) -> Stage:
        """Put a stage in the place of the one that has its id, and give that back. Pipelines keep what they have.

        Raises:
            UnknownStage: none has.
        """
        require_stage(stage)
        with self._lock:
            former = self._known(stage.id)
            self._stages[stage.id] = stage
            self._snapshot = None
        return former

    def unregister(self, stage_id: str, *, cascade: bool = False) -> tuple[str, ...]:
        """Forget a stage, and with `cascade` the pipelines that are made of it; the names of these.

        Raises:
            UnknownStage: none has this id.
            StageInUse: a pipeline is made of it; nothing was changed.
        """
        with self._lock:
            self._known(stage_id)
            users = tuple(name for name in self._pipelines if name in self._users.get(stage_id, ()))
            if users and not cascade:
                raise StageInUse(stage_id, users)
            for name in users:
                self._forget(name)
            del self._stages[stage_id]
            self._snapshot = None
        return users

    def get(self, stage_id: str) -> Stage:
        """The stage of this id.

        Raises:
            UnknownStage: none has it; the message names the nearest.
        """
        with self._lock:
            return self._known(stage_id)

    def list(self) -> Stages:
        """All stages in the order in which they became known; a new list."""
        return [*self.snapshot().values()]

    def snapshot(self) -> Mapping[str, Stage]:
        """All stages by id, as they are now; what is registered later does not change it."""
        with self._lock:
            if self._snapshot is None:
                self._snapshot = MappingProxyType(dict(self._stages))
            return self._snapshot

    def __contains__(self, stage_id: object) -> bool:
        with self._lock:
            return stage_id in self._stages

    def __len__(self) -> int:
        with self._lock:
            return len(self._stages)

    # Pipelines

    def add_pipeline(self, pipeline: Pipeline, *, replace: bool = False) -> None:
        """Keep a pipeline under its name; its stages can then not be forgotten by accident.

        Raises:
            InvalidInput: another has the name, and it is not to be replaced.
        """
        with self._lock:
            if self._pipelines.get(pipeline.name, pipeline) is not pipeline and not replace:
                raise InvalidInput(f"there is a pipeline {pipeline.name!r} already; pass replace=True, or remove it")
            if pipeline.name in self._pipelines:
                self._forget(pipeline.name)
            self._pipelines[pipeline.name] = pipeline
            for stage_id in pipeline.members:
                self._users.setdefault(stage_id, set()).add(pipeline.name)

    def remove_pipeline(self, name: str) -> Pipeline:
        """Forget a pipeline, and give it back.

        Raises:
            UnknownPipeline: none has this name.
        """
        with self._lock:
            self._known_pipeline(name)
            return self._forget(name)

    def pipeline(self, name: str) -> Pipeline:
        """The pipeline of this name.

        Raises:
            UnknownPipeline: none has it; the message names the nearest.
        """
        with self._lock:
            return self._known_pipeline(name)

    def pipelines(self) -> dict[str, Pipeline]:
        """All pipelines by name; a new dictionary."""
        with self._lock:
            return dict(self._pipelines)

    # Stages from elsewhere

    def load_module(self, name: str) -> tuple[str, ...]:
        """Import a module and register every stage that is an attribute of it; their ids.

        Raises:
            ImportError: the module cannot be imported.
            InvalidInput: it has no stage.
            DuplicateStage: one of them has the id of another.
        """
        stages = _stages_of(importlib.import_module(require_text(name, "a module's name")), name)
        self.register(*stages)
        return tuple(stage.id for stage in stages)

    def load_plugins(self, group: str = GROUP) -> Plugins:
        """Register the stages that installed packages offer under an entry point group.

        An entry point leads to a stage, a class of stages, several of these, or a module that has some. One that
        cannot be loaded is told of by its name and error, and keeps no other from loading. What was loaded before is
        not loaded again.
        """
        return [self._plugin(point) for point in sorted(entry_points(group=group), key=lambda point: point.name)]

    def _plugin(self, point: EntryPoint) -> Plugin:
        loaded = self._loaded.get((point.name, point.value))
        if loaded is not None:
            return loaded
        try:
            stages = _stages_of(point.load(), point.value)
            self.register(*stages)
        except Exception as error:  # noqa: BLE001  # whatever somebody else's package may raise
            return Plugin(point.name, point.value, error=Failure.of(error))
        plugin = Plugin(point.name, point.value, tuple(stage.id for stage in stages))
        self._loaded[point.name, point.value] = plugin
        return plugin

    # Under the lock

    def _known(self, stage_id: str) -> Stage:
        stage = self._stages.get(stage_id)
        if stage is None:
            raise UnknownStage(stage_id, self._stages)
        return stage

    def _known_pipeline(self, name: str) -> Pipeline:
        pipeline = self._pipelines.get(name)
        if pipeline is None:
            raise UnknownPipeline(name, self._pipelines)
        return pipeline

    def _forget(self, name: str) -> Pipeline:
        pipeline = self._pipelines.pop(name)
        for users in self._users.values():
            users.discard(name)
        return pipeline


def _stages_of(value: object, where: str) -> Sequence[Stage]:
    if isinstance(value, ModuleType):
        found = list(dict.fromkeys(one for one in vars(value).values() if isinstance(one, Stage)))
        if not found:
            raise InvalidInput(f"module {where!r} has no stage among its attributes; make one with @stage")
        return found
    several: Iterable[Any] = value if isinstance(value, Iterable) else (value,)
    stages = [one() if isinstance(one, type) and issubclass(one, Stage) else one for one in several]
    if not stages:
        raise WrongType(f"{where!r} leads to no stage")
    return [require_stage(one) for one in stages]
