"""Takes back what stages did, the last first."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any

from cortical.core import rules
from cortical.core.errors import RunStateError
from cortical.core.journal import Journal
from cortical.core.outcome import Ok, told
from cortical.core.ports import Clock
from cortical.core.run import Run
from cortical.core.topics import UNDONE
from cortical.engine.event_loop import refuse_event_loop
from cortical.engine.lease import holding_lease
from cortical.stages.context import StageContext
from cortical.stages.pipeline import Pipeline
from cortical.stages.recorded import family_of, recorded_context, succeeded
from cortical.stages.stage import Stage
from cortical.store.face import Face, Place


def undo(store: Place, run_id: str, pipeline: Pipeline, *, clock: Clock = time) -> list[str]:
    """Take back what the stages of a pipeline did that has ended: the ids of those whose `undo` was called, in order.

    The last to end is the first. Each is called once and noted; one that raises is noted too, and keeps no other
    from being called. A pipeline that is resumed later runs these stages again, and all that wait for them.

    Args:
        run_id: its id, or a prefix that no other id begins with.

    Raises:
        RunNotFound: there is no such pipeline.
        RunStateError: it has not ended; resume it, or break it, first.
        LeaseHeld: somebody else drives the tree that it is part of.
    """
    refuse_event_loop("undo", "asyncio.to_thread")
    with Face(store, clock=clock, create=False) as face:
        journal = face.journal
        run = family_of(journal, journal.resolve(run_id))[-1]
        with holding_lease(journal, run.tree.root.id):
            run = journal.refresh(run.id)
            if run.reason is None:
                raise RunStateError(f"pipeline {run.id!r} has not ended; resume it, or break it, first", run.id)
            context = recorded_context(run, pipeline)
            for child in succeeded(family_of(journal, run.id)).values():
                context.put_back(child.name, child.data)
            return undo_stages(journal, pipeline, run.id, context)


def undo_stages(journal: Journal, pipeline: Pipeline, run_id: str, context: StageContext) -> list[str]:
    """Take back what succeeded, in reverse order of its ending; the ids of the stages whose undo was called.

    Each is noted, and so not called again. One that raises is noted too, and the others go on.
    """
    done = [child for child in succeeded(family_of(journal, run_id)).values() if isinstance(child.outcome, Ok)]
    called: list[str] = []
    for child in reversed(sorted(done, key=_ended)):  # noqa: C413  # of two that ended together, the later one first
        stage = pipeline.stages.get(child.name)
        if stage is None or not stage.can_undo:
            continue
        error = _undone(stage, context)
        journal.insist(run_id, rules.annotate, UNDONE, {"stage": stage.id, "run": child.id, "error": error})
        called.append(stage.id)
    return called


def _ended(run: Run) -> float:
    return run.ended_at or 0.0


def _undone(stage: Stage, context: StageContext) -> str | None:
    view = context.for_stage(stage.id)
    try:
        returned = stage.undo(view)
        if inspect.isawaitable(returned):
            asyncio.run(_finished(returned))
    except Exception as error:  # noqa: BLE001  # told in the log; the others are still to be undone
        return told(error)
    finally:
        context.drop(view)
    return None


async def _finished(awaitable: Any) -> None:
    await awaitable
