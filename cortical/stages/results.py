"""What came of a pipeline: of each stage, and of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from cortical.core.errors import CorticalError
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome, Skipped, why_of
from cortical.core.status import Status, TerminationReason
from cortical.stages.errors import UnknownStage


class StageFailed(CorticalError, RuntimeError):
    """A stage of a pipeline failed; `stage_id` names it, and what it raised is the cause."""

    def __init__(self, stage_id: str, told: str) -> None:
        super().__init__(f"stage {stage_id!r} failed: {told}")
        self.stage_id = stage_id


class PipelineFailed(CorticalError, RuntimeError):
    """A pipeline did not succeed though no stage failed: it was stopped, or is not at its end; `result` says how."""

    def __init__(self, result: PipelineResult) -> None:
        told = result.why or "not at its end"
        super().__init__(f"pipeline {result.name!r} ({result.run_id}) is {result.status.value}: {told}")
        self.result = result


class RecordedFailure(CorticalError, RuntimeError):
    """Stands for an exception of another process, of which only what the log keeps is left."""


@frozen(slots=False)  # made for every stage: without slots in a third of the time
class StageResult:
    """What came of one stage.

    `outcome` is `Ok` with its output, `Failed`, `Skipped` with the reason, or `Abandoned`: it was stopped, or never
    begun, and `upstream` names the failed stage that it waited for, if that is why. Times are in seconds since the
    epoch, None where it was never begun. `error` is the exception itself where this process has seen it.
    """

    id: str
    outcome: Outcome | None
    started_at: float | None = None
    ended_at: float | None = None
    attempts: int = 0
    upstream: str | None = None
    error: BaseException | None = field(default=None, eq=False)

    @property
    def ok(self) -> bool:
        """Whether it has succeeded."""
        return isinstance(self.outcome, Ok)

    @property
    def output(self) -> Any:
        """What it gave; None where it did not succeed."""
        return self.outcome.value if isinstance(self.outcome, Ok) else None

    @property
    def upstream_failed(self) -> bool:
        """Whether it was not begun because a stage that it waits for has failed."""
        return self.upstream is not None

    @property
    def seconds(self) -> float:
        """How long it took, all its attempts and the waits between them; 0.0 where it was never begun."""
        return 0.0 if self.started_at is None or self.ended_at is None else self.ended_at - self.started_at

    @property
    def status(self) -> str:
        """How it stands, in a word or two: ok, failed, skipped, upstream failed, stopped, not run, running."""
        match self.outcome:
            case Ok():
                return "ok"
            case Failed():
                return "failed"
            case Skipped():
                return "skipped"
            case Abandoned() if self.upstream_failed:
                return "upstream failed"
            case Abandoned():
                return "not run" if self.started_at is None else "stopped"
        return "not run" if self.started_at is None else "running"

    @property
    def why(self) -> str:
        """Why it did not succeed; empty where it did, or where nothing was said."""
        return why_of(self.outcome)


@frozen
class PipelineResult:
    """What came of a pipeline; it has every stage, in the pipeline's order.

    `seconds` is how long it took by the clock, `serial_seconds` how long all its stages together; `critical_path` are
    the stages of the chain that took longest, and `critical_seconds` how long that was. `width` is the most stages
    that ran at the same time in this process.
    """

    run_id: str
    name: str
    status: Status
    reason: TerminationReason | None
    stages: Mapping[str, StageResult]
    values: Mapping[str, Any] = field(repr=False)
    seconds: float
    serial_seconds: float
    critical_path: tuple[str, ...]
    critical_seconds: float
    width: int
    why: str = ""

    @property
    def ok(self) -> bool:
        """Whether every stage has succeeded or was skipped."""
        return self.status is Status.COMPLETED

    @property
    def failed(self) -> list[StageResult]:
        """The stages that failed themselves, in order."""
        return [stage for stage in self.stages.values() if isinstance(stage.outcome, Failed)]

    def __getitem__(self, stage_id: str) -> StageResult:
        """What came of this stage.

        Raises:
            UnknownStage: the pipeline has none of this id.
        """
        if stage_id not in self.stages:
            raise UnknownStage(stage_id, self.stages, f"look among the `stages` of {self.name!r}")
        return self.stages[stage_id]

    def raise_for_failure(self) -> PipelineResult:
        """This result, if the pipeline succeeded.

        Raises:
            StageFailed: of the first stage that failed, what it raised being the cause.
            PipelineFailed: it did not succeed, though no stage failed: it was stopped, or is not at its end.
        """
        if self.ok:
            return self
        for stage in self.failed:
            raise StageFailed(stage.id, stage.why) from (stage.error or RecordedFailure(stage.why))
        raise PipelineFailed(self)
