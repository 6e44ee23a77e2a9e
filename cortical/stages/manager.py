"""Stages, the pipelines made of them, and the store in which their runs are kept: all in one place.

::

    with StageManager(store="runs.db") as manager:
        manager.start()
        manager.register(load, check, report)
        manager.create_pipeline("nightly", ["csv:load", "csv:check", "csv:report"])
        print(manager.dry_run_pipeline("nightly"))
        manager.execute_pipeline("nightly", max_concurrency=4).raise_for_failure()
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from cortical.core.errors import CorticalError
from cortical.core.ports import Clock
from cortical.stages.assembly import StageRef
from cortical.stages.context import Key, StageContext
from cortical.stages.core_stages import Plugin, plugin_stages
from cortical.stages.dry_run import Plan
from cortical.stages.execution import execute, resume
from cortical.stages.pipeline import Pipeline
from cortical.stages.registry import Plugin as LoadedPlugin, StageRegistry
from cortical.stages.results import PipelineResult, StageResult
from cortical.stages.stage import Stage
from cortical.store.face import Face, Place

Context = StageContext | Mapping[Any, Any]


class ManagerStopped(CorticalError, RuntimeError):
    """The manager has been stopped, and runs nothing until it is started again."""

    def __init__(self) -> None:
        super().__init__("the manager of stages has been stopped; start it again before running anything")


class Life(Enum):
    """Where a manager stands in its life."""

    NEW = "new"
    INITIALIZED = "initialized"
    STARTED = "started"
    STOPPED = "stopped"


class StageManager(Face):
    """Keeps stages and pipelines, and runs them.

    Args:
        store: a path or URL, an open store, a journal, or another face to share; in memory by default.
        registry: the stages there are; a new one by default.
        plugins: what the three core stages bring up.

    It may be used at once: what is run first starts it. It may be used by several threads.
    """

    def __init__(
        self,
        store: Place | None = None,
        *,
        registry: StageRegistry | None = None,
        plugins: Iterable[Plugin] = (),
        clock: Clock = time,
        create: bool = True,
        **options: Any,
    ) -> None:
        self.registry = StageRegistry() if registry is None else registry
        self._core = plugin_stages(plugins)
        self._life = Life.NEW
        self._changing = threading.Lock()
        #: What came of the entry points of installed packages; empty before `initialize`.
        self.loaded: list[LoadedPlugin] = []
        super().__init__(store, clock=clock, create=create, **options)

    # Its life

    @property
    def life(self) -> Life:
        """Where it stands."""
        return self._life

    def initialize(self) -> None:
        """Register the core stages, and those of installed packages; nothing happens the second time.

        A package that cannot be loaded keeps nothing else from working: `loaded` tells of it.

        Raises:
            DuplicateStage: the registry has other stages under the ids of the core stages.
        """
        if self._life is not Life.NEW:
            return
        self.registry.register(*self._core)
        self.loaded = self.registry.load_plugins()
        self._pass_on(Life.NEW, Life.INITIALIZED)

    def start(self) -> None:
        """Let it run things; initialised first, if it is not. Nothing happens when it has started."""
        self.initialize()
        self._pass_on(Life.INITIALIZED, Life.STARTED)
        self._pass_on(Life.STOPPED, Life.STARTED)

    def stop(self) -> None:
        """Let it run nothing any more; what runs goes on. Nothing happens when it has not started."""
        self._pass_on(Life.STARTED, Life.STOPPED)

    def _pass_on(self, one: Life, other: Life) -> None:
        with self._changing:
            if self._life is one:
                self._life = other

    def _require_running(self) -> None:
        if self._life is Life.STOPPED:
            raise ManagerStopped
        self.start()

    # Stages and pipelines

    def register(self, *stages: Stage) -> None:
        """Make stages known: all or none; see `StageRegistry.register`."""
        self.registry.register(*stages)

    def create_pipeline(
        self,
        name: str,
        stages: Iterable[Stage | StageRef | str] = (),
        edges: Iterable[Sequence[str]] = (),
        *,
        description: str = "",
        inputs: Iterable[Key[Any] | str] = (),
        providers: Mapping[str, str] | None = None,
        replace: bool = False,
    ) -> Pipeline:
        """Make a pipeline of stages, given themselves or by id, and keep it under its name.

        Raises:
            InvalidPipeline: something is wrong with it; all of it is told, and nothing is kept.
            InvalidInput: there is a pipeline of this name, and it is not to be replaced.
        """
        pipeline = Pipeline(
            name,
            stages,
            edges,
            description=description,
            inputs=inputs,
            providers=providers,
            registry=self.registry,
        )
        return self.add_pipeline(pipeline, replace=replace)

    def add_pipeline(self, pipeline: Pipeline, *, replace: bool = False) -> Pipeline:
        """Keep a pipeline under its name, and give it back.

        Raises:
            InvalidPipeline, InvalidInput: as `create_pipeline`.
        """
        self.registry.add_pipeline(pipeline.require_valid(), replace=replace)
        return pipeline

    def pipeline(self, name: str | Pipeline) -> Pipeline:
        """The pipeline of this name; a pipeline is given back as it is.

        Raises:
            UnknownPipeline: none has it; the message names the nearest.
        """
        return name if isinstance(name, Pipeline) else self.registry.pipeline(name)

    # Running

    def execute_stage(
        self,
        stage_id: str,
        context: Context | None = None,
        *,
        pipeline: str | Pipeline | None = None,
        with_upstream: bool = False,
        **options: Any,
    ) -> StageResult:
        """Run one stage: alone, or after all that it waits for.

        Args:
            context: what there is at the beginning.
            pipeline: where to look for the stage and what it waits for; all that are registered by default.
            with_upstream: run what it waits for first.
            options: as `cortical.stages.execute` takes them.

        Raises:
            UnknownStage, UnknownPipeline: there is none.
            ManagerStopped: the manager has been stopped.
        """
        self._require_running()
        if pipeline is None:
            whole = Pipeline("all stages", [*self.registry.snapshot().values()], partial=True)
        else:
            whole = self.pipeline(pipeline)
        part = whole.part([stage_id], upstream=with_upstream)
        return execute(part, context, store=self, clock=self.journal.clock, **options)[stage_id]

    def execute_pipeline(
        self, pipeline: str | Pipeline, context: Context | None = None, **options: Any
    ) -> PipelineResult:
        """Run a pipeline; see `cortical.stages.execute`, which takes the same options.

        Raises:
            UnknownPipeline: there is none of this name.
            ManagerStopped: the manager has been stopped.
        """
        self._require_running()
        return execute(self.pipeline(pipeline), context, store=self, clock=self.journal.clock, **options)

    def resume_pipeline(self, run_id: str, pipeline: str | Pipeline | None = None, **options: Any) -> PipelineResult:
        """Carry on a run of a pipeline; see `cortical.stages.resume`, which takes the same options.

        Args:
            pipeline: as it is now; by default the one that has the name of the run.

        Raises:
            RunNotFound: there is no such run.
            UnknownPipeline: there is none of this name.
            ManagerStopped: the manager has been stopped.
        """
        self._require_running()
        run = self.journal.find(run_id)
        return resume(self, run.id, self.pipeline(pipeline or run.name), clock=self.journal.clock, **options)

    def dry_run_pipeline(self, pipeline: str | Pipeline, context: Context | None = None) -> Plan:
        """What running a pipeline would do; nothing is executed.

        Raises:
            UnknownPipeline: there is none of this name.
        """
        given = context if isinstance(context, StageContext) else StageContext(context)
        return self.pipeline(pipeline).dry_run(given)
