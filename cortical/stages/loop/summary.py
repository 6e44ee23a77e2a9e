"""What came of a loop, and of each of its iterations: read from the tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve

from cortical.core.checks import nearest
from cortical.core.errors import InvalidInput
from cortical.core.outcome import Failed, Ok, why_of
from cortical.core.run import Run
from cortical.core.topics import RESULT
from cortical.stages.loop.config import LoopConfig
from cortical.stages.loop.continuing import Stop, loop_seconds
from cortical.stages.loop.records import Functions, IterationRecord, LoopSummary, StageRecord, own
from cortical.stages.loop.views import Line, StageView, attempt_of, number_of
from cortical.stages.loop.words import CARRY

#: The aggregates that have a name of their own.
AGGREGATES = ("sum", "mean", "list")


def collected(view: StageView, at: float, stop: Stop | None) -> LoopSummary:
    """The summary of a loop, but for what functions of the user's make of its results."""
    tally = view.tally
    results = [own(run.value) for run in view.runs if type(run.outcome) is Ok and run.id not in view.undone]
    counted = tally.completed + tally.failed
    sums, means = totals(results)
    last = results[-1] if results else None
    return LoopSummary(
        view.name,
        stop is None or not stop.failed,
        tally.started,
        tally.completed,
        tally.failed,
        tally.skipped,
        tally.rolled_back,
        tally.abandoned,
        tally.attempts,
        tally.completed / counted if counted else None,
        loop_seconds(view, at),
        tally.seconds / tally.completed if tally.completed else None,
        "" if stop is None else stop.reason.value,
        "" if stop is None else stop.details,
        results,
        sums,
        means,
        None,
        last,
        last,
        own(view.data.get(CARRY)),
    )


def totals(results: Sequence[Any]) -> tuple[Any, Any]:
    """The sums and means of the numbers among results: by key where results are mappings, else of the results.

    None and None where there are no numbers.
    """
    numbers = [result for result in results if _is_number(result)]
    if numbers:
        return sum(numbers), sum(numbers) / len(numbers)
    by_key: dict[str, list[Any]] = {}
    for result in results:
        for key, value in result.items() if isinstance(result, Mapping) else ():
            if _is_number(value):
                by_key.setdefault(key, []).append(value)
    if not by_key:
        return None, None
    sums = {key: sum(values) for key, values in by_key.items()}
    return sums, {key: sums[key] / len(values) for key, values in by_key.items()}


def function_of(given: str | Callable[..., Any], functions: Functions, what: str, known: Iterable[str] = ()) -> Any:
    """The function that a configuration names, or is.

    Raises:
        InvalidInput: none of this name is registered.
    """
    if callable(given):
        return given
    found = functions.get(given)
    if found is None:
        there = [*known, *functions]
        meant = nearest(given, there) or "; register it with register(name, function)"
        raise InvalidInput(f"{what} names {given!r}, which is not known{meant}")
    return found


def finished(summary: LoopSummary, loop: LoopConfig, functions: Functions) -> LoopSummary:
    """The summary with the aggregate of its results, and the final result as transformed. Calls the user's functions.

    Raises:
        InvalidInput: one is named that is not registered.
        Whatever they raise.
    """
    aggregate, result = None, summary.last
    if loop.aggregate is not None:
        named: dict[Any, Any] = {"sum": summary.sums, "mean": summary.means, "list": list(summary.results)}
        if isinstance(loop.aggregate, str) and loop.aggregate in named:
            aggregate = named[loop.aggregate]
        else:
            aggregate = function_of(loop.aggregate, functions, "aggregate", AGGREGATES)(own(summary.results))
        result = aggregate
    if loop.transform is not None:
        result = function_of(loop.transform, functions, "transform")(own(result))
    return evolve(summary, aggregate=aggregate, result=result)


def require_functions(loop: LoopConfig, functions: Functions) -> None:
    """Refuse a loop whose configuration names functions that nobody registered.

    Raises:
        InvalidInput: it does.
    """
    if isinstance(loop.aggregate, str) and loop.aggregate not in AGGREGATES:
        function_of(loop.aggregate, functions, "aggregate", AGGREGATES)
    if isinstance(loop.transform, str):
        function_of(loop.transform, functions, "transform")


def stage_record(run: Run) -> StageRecord:
    """How a stage stands."""
    return StageRecord(
        name=run.name,
        run_id=run.id,
        status=run.status.value,
        started_at=run.started_at,
        ended_at=run.ended_at,
        result=own(run.value),
        error=error_text(run),
        reason=run.reason.value if run.reason else None,
        why=why_of(run.outcome),
    )


def iteration_record(view: StageView, run: Run) -> IterationRecord:
    """One attempt at an iteration, as it stands."""
    undone = view.undone.get(run.id)
    steps = Line.of(run)
    seconds = None if run.ended_at is None else run.ended_at - run.started_at
    results = run.value if type(run.outcome) is Ok else next(run.newest(RESULT), None)
    return IterationRecord(
        number_of(run),
        attempt_of(run),
        run.id,
        run.status.value,
        run.started_at,
        seconds,
        own(results),
        error_text(run),
        undone is not None and bool(undone["rolled_back"]),
        {name: step.status.value for name, step in steps.by_name.items()},
    )


def error_text(run: Run) -> str | None:
    """Why a run failed; None where it did not."""
    if not isinstance(run.outcome, Failed):
        return None
    failure = run.outcome.error
    return f"{failure.type.rpartition('.')[2]}: {failure.message}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
