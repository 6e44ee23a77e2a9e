"""How far a process, its stages and their loops have come, and how long it will take."""

from __future__ import annotations

from cortical.core.run import Run
from cortical.core.status import Status
from cortical.stages.loop import continuing, decisions
from cortical.stages.loop.config import StageConfig
from cortical.stages.loop.records import ProcessProgress, StageProgress
from cortical.stages.loop.views import Books, Line, StageView, number_of
from cortical.stages.loop.words import LOOPED, LOOPING


def of_process(process: Run, at: float, books: Books) -> ProcessProgress:
    """How far a process has come."""
    stages = {name: of_stage(process, at, books, name) for name in books.config.stages}
    weights = {name: config.weight for name, config in books.config.stages.items()}
    share = sum(weights[name] * one.fraction for name, one in stages.items()) / sum(weights.values())
    return ProcessProgress(
        process.id, process.name, process.status.value, share, _process_eta(process, at, share), stages
    )


def of_stage(process: Run, at: float, books: Books, name: str) -> StageProgress:
    """How far a stage has come."""
    view = books.stage(process, name)
    if view is None:
        return StageProgress(name, Status.NOT_STARTED.value, 0.0, None, None, None, 0, 0, 0, None, {})
    if view.config.loop is None:
        share = 1.0 if _is_over(view) else _weighed(view.config, view)
        statuses = _statuses(view.config, view)
        left = None if share == 0 else (at - view.run.started_at) * (1 - share) / share
        return StageProgress(
            name, view.run.status.value, share, None, None, None, 0, 0, 0, _if_open(view, left), statuses
        )
    return _of_loop(view)


def _of_loop(view: StageView) -> StageProgress:
    tally = view.tally
    open_run = view.open_iteration
    within = None if open_run is None else _weighed(view.config, view.steps)
    begun = view.run.place in (LOOPING, LOOPED)
    total = continuing.total_of(view, decisions.parameters(view)) if begun else None
    done = tally.completed + tally.failed + tally.skipped + tally.abandoned
    of = total if total is not None else view.loop.max_iterations
    share = 0.0 if not of else min(1.0, (done + (within or 0.0)) / of)
    if _is_over(view) or view.run.place == LOOPED:
        share = 1.0
    left = None
    if total is not None and tally.completed:
        left = max(0.0, (total - done - (within or 0.0)) * tally.seconds / tally.completed)
    statuses = _statuses(view.config, view.steps if view.runs else None)
    number = None if open_run is None else number_of(open_run)
    return StageProgress(
        view.name,
        view.run.status.value,
        share,
        number,
        within,
        total,
        tally.completed,
        tally.failed,
        tally.skipped,
        _if_open(view, left),
        statuses,
    )


def _weighed(config: StageConfig, line: Line) -> float:
    """The share of the substages that are over, by their weights; 0.0 where there are none."""
    every = sum(one.weight for one in config.substages.values())
    over = sum(
        one.weight
        for name, one in config.substages.items()
        if name in line.by_name and line.by_name[name].reason is not None
    )
    return over / every if every else 0.0


def _statuses(config: StageConfig, line: Line | None) -> dict[str, str]:
    there = {} if line is None else line.by_name
    return {name: there[name].status.value if name in there else Status.NOT_STARTED.value for name in config.substages}


def _is_over(view: StageView) -> bool:
    return view.run.status in (Status.COMPLETED, Status.SKIPPED)


def _if_open(view: StageView, seconds: float | None) -> float | None:
    return seconds if view.run.reason is None else 0.0


def _process_eta(process: Run, at: float, share: float) -> float | None:
    if process.reason is not None:
        return 0.0
    return None if share == 0 else (at - process.started_at - process.waited) * (1 - share) / share
