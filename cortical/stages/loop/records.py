"""What the handler hands out: frozen records that can be read like mappings too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import fields_dict, frozen

from cortical.core.checks import nearest
from cortical.core.copies import copied, detached
from cortical.stages.results import StageFailed


class Record(Mapping[str, Any]):
    """An attrs class whose fields are also keys. It equals every mapping with the same contents."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        known = fields_dict(type(self))  # type: ignore[arg-type]
        if key not in known:
            raise KeyError(f"{type(self).__name__} has no {key!r}{nearest(key, known)}")
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(fields_dict(type(self)))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(fields_dict(type(self)))  # type: ignore[arg-type]


def plain(value: Any) -> Any:
    """`value` with every record in it as a dictionary, so that a store can keep it."""
    if isinstance(value, Record):
        return {key: plain(value[key]) for key in value}
    if type(value) is dict:
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if type(value) is list else value


def own(value: Any) -> Any:
    """A copy of a value in which nothing can be changed that the original holds."""
    return detached(value) if type(value) is dict else copied(value)


@frozen(eq=False)
class StageRecord(Record):
    """How a stage stands: `status` as the core calls it, `result` what it was completed with, `error` why it failed.

    `reason` is why it ended, as the core calls it, None while it has not; `why` what was said about it, empty where
    there is nothing to say. Times are seconds since the epoch.
    """

    name: str
    run_id: str
    status: str
    started_at: float
    ended_at: float | None
    result: Any
    error: str | None
    reason: str | None
    why: str

    @property
    def ok(self) -> bool:
        """Whether it has succeeded, or was skipped."""
        return self.status in ("completed", "skipped")

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it is open."""
        return None if self.ended_at is None else self.ended_at - self.started_at

    def raise_for_failure(self) -> StageRecord:
        """This record, if the stage has succeeded or was skipped.

        Raises:
            StageFailed: it has not, or not yet.
        """
        if not self.ok:
            raise StageFailed(self.name, self.why or self.status)
        return self


@frozen(eq=False)
class LoopStart(Record):
    """How a loop is going to run: its configuration as resolved.

    `total` is None where nobody can know; `batch_size` where each iteration gets one piece of data, or none;
    `parameters` are those of the first iteration.
    """

    stage: str
    type: str
    total: int | None
    max_iterations: int | None
    batch_size: int | None
    item_count: int | None
    on_limit: str
    on_error: str
    continue_condition: str | None
    decisions: dict[str, dict[str, Any]]
    parameters: dict[str, Any]
    initial_data: dict[str, Any]


@frozen(eq=False)
class Iteration(Record):
    """An iteration that begins.

    `current` counts from 1, `index` from 0; `total` is None where nobody can know it. `data` is its part of the data
    (None where there are none), `parameters` what it works with; `attempt` is 2 when it is tried for the second time.
    `previous` are the results of the last iteration that was completed, `carry` what that one handed on.
    """

    stage: str
    current: int
    index: int
    total: int | None
    data: Any
    parameters: dict[str, Any]
    attempt: int
    previous: Any
    carry: Any
    run_id: str


@frozen(eq=False)
class IterationRecord(Record):
    """An iteration as it stands, one attempt at it. `substages` are their statuses by name."""

    number: int
    attempt: int
    run_id: str
    status: str
    started_at: float
    seconds: float | None
    results: Any
    error: str | None
    rolled_back: bool
    substages: dict[str, str]


@frozen(eq=False)
class LoopState(Record):
    """What a predicate is asked about: a loop, between two iterations.

    `results` are those of the last completed iteration, the initial data before the first.
    """

    stage: str
    completed: int
    failed: int
    results: Any
    carry: Any
    decisions: dict[str, dict[str, Any]]
    initial_data: dict[str, Any]


@frozen(eq=False)
class LoopSummary(Record):
    """What came of a loop.

    `iterations` were started, of which each was completed, failed, skipped or abandoned in the end; `attempts` counts
    those that were tried again too, `rolled_back` the attempts whose effects were undone. `success_rate` is the share
    of the completed among completed and failed, None where there were none. `seconds` are those from the beginning to
    the end without pauses, `seconds_mean` those of a completed iteration. `results` are of the completed, in order;
    `sums` and `means` of their numbers: by key, where results are mappings. `result` is the aggregate, or else the last
    result, as transformed.
    """

    stage: str
    success: bool
    iterations: int
    completed: int
    failed: int
    skipped: int
    rolled_back: int
    abandoned: int
    attempts: int
    success_rate: float | None
    seconds: float
    seconds_mean: float | None
    stop_reason: str
    stop_details: str
    results: list[Any]
    sums: Any
    means: Any
    aggregate: Any
    last: Any
    result: Any
    carry: Any


@frozen(eq=False)
class StageProgress(Record):
    """How far a stage has come, as shares from 0.0 to 1.0.

    `iteration` is the number of the one under way, and `iteration_fraction` how far that has come; None between two
    and in a stage that does not loop. `eta` are the seconds that are left by the mean of the completed iterations;
    None where that cannot be known.
    """

    stage: str
    status: str
    fraction: float
    iteration: int | None
    iteration_fraction: float | None
    total: int | None
    completed: int
    failed: int
    skipped: int
    eta: float | None
    substages: dict[str, str]


@frozen(eq=False)
class ProcessProgress(Record):
    """How far a process has come: the stages by name, weighed; `eta` in seconds, where it can be known."""

    process_id: str
    name: str
    status: str
    fraction: float
    eta: float | None
    stages: dict[str, StageProgress]


Functions = Mapping[str, Callable[..., Any]]
