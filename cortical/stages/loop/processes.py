"""A process of stages and their substages, step by step: the half of the handler that knows nothing of loops."""

from __future__ import annotations

import random as chance
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec

from cortical.core import rules
from cortical.core.checks import require_callable, require_reason, require_seconds, require_text
from cortical.core.codec import encode
from cortical.core.errors import EncodeError, InvalidInput, RunNotFound, RunStateError
from cortical.core.events import Event
from cortical.core.kinds import PROCESS
from cortical.core.phases import WORK
from cortical.core.ports import Clock
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.engine.below import begun_below, found_by
from cortical.stages.loop import drawing, progress, stage_rules
from cortical.stages.loop.cache import IterationCache
from cortical.stages.loop.config import ProcessConfig, parse
from cortical.stages.loop.records import ProcessProgress, StageProgress, StageRecord, own, plain
from cortical.stages.loop.stage_rules import outcome_of
from cortical.stages.loop.summary import stage_record
from cortical.stages.loop.views import Books
from cortical.stages.loop.words import CONFIGURATION, HANDLED
from cortical.store.face import Face, Place

P = ParamSpec("P")


class ProcessFace(Face):
    """Starts processes, stages and substages, and ends them; see `StageHandler`."""

    def __init__(
        self,
        config: Mapping[str, Any] | ProcessConfig,
        *,
        store: Place | None = None,
        clock: Clock = time,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        lease_seconds: float = 10.0,
        sleep: Callable[[float], object] = time.sleep,
        random: Callable[[], float] = chance.random,
    ) -> None:
        self.config = parse(config)
        self.functions: dict[str, Callable[..., Any]] = {}
        for name, function in (functions or {}).items():
            self.register(name, function)
        self.lease_seconds = require_seconds(lease_seconds, "lease_seconds", above_zero=True)
        self.sleep = sleep
        self.random = random
        super().__init__(store, clock=clock)
        self._books = Books(self.config)
        self._process_id: str | None = None
        #: What was remembered, and what predicates answered: by stage, for which state of its loop.
        self._cache = IterationCache()
        self._answers: dict[str, tuple[Any, bool]] = {}

    def register(self, name: str, function: Callable[..., Any]) -> None:
        """Let the configuration name this function: as a continue_condition, an aggregate or a transform."""
        require_callable(function)
        self.functions[require_text(name, "a function's name")] = function

    # Processes

    @property
    def has_process(self) -> bool:
        """Whether a process was begun or gone on with."""
        return self._process_id is not None

    @property
    def process_id(self) -> str:
        """The id of the process that calls are about.

        Raises:
            RunStateError: there is none yet.
        """
        if self._process_id is None:
            raise RunStateError("no process has been begun; initialize_process first, or resume_process", "")
        return self._process_id

    def initialize_process(self, name: str, description: str = "", *, parent: str | None = None) -> str:
        """Start a process, which the calls that follow are about, and return its id.

        Below a parent it is found again by its name: where the parent has begun it already during its present visit,
        it is gone on with; one that has succeeded is only looked at, for one that has not there is another.

        Args:
            parent: the id of an open run of the same store, below which the process is to stand.

        Raises:
            EncodeError: a durable store cannot keep the configuration.
            RunStateError: one that is found again was begun with another configuration; or the parent has ended.
        """
        name = require_text(name, "a process's name")
        text = description if description == "" else require_text(description, "a description")
        before = None if parent is None else begun_below(self.journal, parent, PROCESS, name, keeps=HANDLED)
        if before is not None and before.status not in (Status.FAILED, Status.ABANDONED):
            return self.resume_process(before.id)
        metadata = {"description": text, HANDLED: self.config.plain()}
        new_id = self.journal.new_id()
        if parent is None:
            self.journal.plant(new_id, rules.start, PROCESS, name, place=WORK, metadata=metadata)
        else:
            depth = self.journal.max_depth
            metadata |= found_by(self.journal.run(parent), name)
            self.journal.change(
                parent, rules.start_below, new_id, PROCESS, name, WORK, metadata=metadata, max_depth=depth
            )
        self._process_id = new_id
        return new_id

    def resume_process(self, process_id: str | None = None, *, force: bool = False) -> str:
        """Go on with a process of the store, the newest that is open by default; returns its id.

        Everything stands where it stood, in whatever process of this machine that was.

        Args:
            force: go on with this handler's configuration though the process was begun with another, which is recorded.

        Raises:
            RunNotFound: there is no such process; InvalidInput: it is none of stages.
            RunStateError: the process was begun with another configuration.
        """
        run = self.journal.refresh(self._newest() if process_id is None else process_id)
        if run.kind != PROCESS or HANDLED not in run.metadata:
            raise InvalidInput(f"{run.kind} {run.id!r} is no process of a StageHandler; give the id of one")
        given, kept = self.config.plain(), next(run.newest(CONFIGURATION), run.metadata[HANDLED])
        others = [name for name in {**given, **kept} if not _alike(given.get(name), kept.get(name))]
        if others and not force:
            names = ", ".join(map(repr, others))
            raise RunStateError(
                f"process {run.id!r} was begun with another configuration of {names}; "
                "give that one, or go on with this by force=True",
                run.id,
            )
        if others and run.reason is None:
            self.journal.insist(run.id, rules.note, CONFIGURATION, given)
        self._process_id = run.id
        return run.id

    def complete_process(self, success: bool = True, *, error: BaseException | str | None = None) -> None:
        """End the process before all its stages are over; it ends by itself with the last of them.

        Raises:
            RunStateError: it has ended; or, with success, a stage is open. Without, open stages are abandoned.
        """
        outcome, reason = outcome_of(success, None, error, "the process")
        self.journal.insist(self.process_id, stage_rules.complete_process, outcome, reason)

    # Stages

    def start_stage(self, name: str) -> StageRecord:
        """Start a stage, and with it a process, where none was begun. One that failed may be started again.

        Raises:
            RunStateError: it has been started, or a stage that has to be over before it is not.
            InvalidInput: there is no such stage.
        """
        self._first(stage_rules.start_stage, name)
        return self._stage_record(name)

    def complete_stage(
        self, name: str, success: bool, result_data: Any = None, *, error: BaseException | str | None = None
    ) -> StageRecord:
        """End a stage; with the last of them the process ends too. Without success, what is open in it is abandoned.

        Raises:
            RunStateError: it is not open; or it cannot be called a success: a substage that it needs is not done, its
                loop is not over, or has failed.
        """
        outcome, reason = outcome_of(success, own(plain(result_data)), error, f"stage {name!r}")
        self._change(stage_rules.complete_stage, name, outcome, reason)
        return self._stage_record(name)

    def skip_stage(self, name: str, reason: str = "") -> StageRecord:
        """Leave a stage out, or leave it as it stands; those after it may begin.

        Raises:
            RunStateError: it has ended, or it is not its turn yet.
        """
        self._first(stage_rules.skip_stage, name, require_reason(reason))
        return self._stage_record(name)

    def get_stage(self, name: str) -> StageRecord | None:
        """How a stage stands; None while it has not been started."""
        with self._reading() as process:
            view = self._books.stage(process, name)
            return None if view is None else stage_record(view.run)

    # Substages

    def start_substage(self, stage: str, substage: str) -> None:
        """Start a substage: of the stage, or in a loop of the iteration under way. One that failed may start again.

        Raises:
            RunStateError: it has been started; one before it is not over; no iteration is open, or its time is up; the
                stage is paused.
            InvalidInput: there is no such substage.
        """
        self._change(stage_rules.start_substage, stage, substage)

    def complete_substage(
        self,
        stage: str,
        substage: str,
        success: bool = True,
        result_data: Any = None,
        *,
        error: BaseException | str | None = None,
    ) -> None:
        """End a substage that was started.

        Raises:
            RunStateError: it was not, or has ended.
        """
        value = result_data if result_data is None else own(plain(result_data))
        outcome, reason = outcome_of(success, value, error, f"substage {substage!r}")
        self._change(stage_rules.complete_substage, stage, substage, outcome, reason)

    def skip_substage(self, stage: str, substage: str, reason: str = "") -> None:
        """Leave a substage out, or leave it as it stands; those after it may begin.

        Raises:
            RunStateError: it has ended; no iteration is open.
        """
        self._change(stage_rules.skip_substage, stage, substage, require_reason(reason))

    # Looking on

    def get_progress(self, stage: str | None = None) -> StageProgress | ProcessProgress:
        """How far a stage has come, or the whole process."""
        with self._reading() as process:
            at = self.journal.clock.time()
            if stage is None:
                return progress.of_process(process, at, self._books)
            return progress.of_stage(process, at, self._books, stage)

    def export(self, process_id: str | None = None, format: str = "text") -> str:
        """A process as a drawing: ``"text"``, ``"mermaid"`` or ``"json"``; the present one by default.

        Of a long loop text and Mermaid show the newest iterations; JSON shows all.

        Raises:
            RunNotFound: there is no such process.
            InvalidInput: there is no such format.
        """
        with self._reading(process_id) as process:
            return drawing.export(process, self.journal.clock.time(), self._books, format)

    # Below

    def _change(
        self, rule: Callable[Concatenate[Run, float, Books, P], Sequence[Event]], *args: P.args, **kwargs: P.kwargs
    ) -> Sequence[Event]:
        return self.journal.change(self._process_id or self.process_id, rule, self._books, *args, **kwargs)

    def _insist(
        self, rule: Callable[Concatenate[Run, float, Books, P], Sequence[Event]], *args: P.args, **kwargs: P.kwargs
    ) -> Sequence[Event]:
        return self.journal.insist(self.process_id, rule, self._books, *args, **kwargs)

    def _first(self, rule: Callable[..., Sequence[Event]], *args: Any) -> None:
        """A call that may be the first of all: it begins a process then, in the same commit."""
        if self._process_id is not None:
            self._change(rule, *args)
            return
        try:
            with self.journal.transaction():
                self.initialize_process("process")
                self._change(rule, *args)
        except BaseException:
            self._process_id = None
            raise

    @contextmanager
    def _reading(self, process_id: str | None = None, *, anew: bool = True) -> Iterator[Run]:
        """The process, with all that is recorded of it, while nobody changes it; as it is in memory if not `anew`."""
        look = self.journal.refresh if anew else self.journal.run
        with self.journal.holding(look(process_id or self.process_id).tree):
            yield self.journal.run(process_id or self.process_id)

    def _stage_record(self, name: str) -> StageRecord:
        found = self.get_stage(name)
        assert found is not None
        return found

    def _newest(self) -> str:
        for root in self.store.roots(open_only=True):
            if root.kind == PROCESS and HANDLED in self.journal.run(root.id).metadata:
                return root.id
        raise RunNotFound("newest open process")


def _alike(given: object, kept: object) -> bool:
    """Whether two configurations are the same; a NaN is itself, though Python says it is not."""
    if given == kept:
        return True
    try:
        return encode(given) == encode(kept)
    except EncodeError:
        return False
