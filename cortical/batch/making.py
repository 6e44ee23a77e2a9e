"""What a batch is made of, from what its processor was given: the handler, the calls of it, the source of its items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cortical.batch.calling import Calling
from cortical.batch.process import Processes
from cortical.batch.rate import RateLimit
from cortical.batch.reading import Reading
from cortical.batch.retrying import for_items
from cortical.batch.settings import Settings, told_name
from cortical.batch.source import BatchSource
from cortical.batch.tasks import Handler, RegisteredTask, find_task, require_handler
from cortical.core.checks import shown
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.ports import Clock
from cortical.engine.meter import ProcessMeter


def given_task(handler: Handler | str | None) -> RegisteredTask | None:
    """The handler of a processor, given as one or by name; None where each task names its own.

    Raises:
        WrongType, InvalidInput: it cannot be called; no handler has this name.
    """
    if handler is None:
        return None
    if isinstance(handler, str):
        return find_task(handler)
    require_handler(handler, "task_handler")
    return RegisteredTask(told_name(handler), handler, getattr(handler, "check", None))


def chosen_task(
    handler: RegisteredTask | None, task: Mapping[str, Any] | str | None
) -> tuple[RegisteredTask, Mapping[str, Any]]:
    """The handler that a task is for, and the configuration that it is given.

    Raises:
        WrongType, InvalidInput: the task makes no sense, or names no handler where one is needed.
    """
    if task is not None and not isinstance(task, Mapping | str):
        raise WrongType(f"a task is what the handler is told, by name, or a handler's name; not {shown(task)}")
    config = {"task": task} if isinstance(task, str) else dict(task or {})
    if handler is not None and isinstance(task, str):
        raise InvalidInput(f"the batch has a handler; the task {task!r} names another")
    if handler is None:
        if "task" not in config:
            raise InvalidInput('the batch has no handler; give one, or a task that names it: {"task": "shell", …}')
        handler = find_task(config.pop("task"))
    if handler.check is not None:
        handler.check(config)
    return handler, config


def calling(
    settings: Settings,
    clock: Clock,
    task: RegisteredTask,
    config: Mapping[str, Any],
    context: Mapping[str, Any],
    stopped: Callable[[], bool] = lambda: False,
) -> Calling:
    """What calls a task's handler.

    Raises:
        WrongType, InvalidInput: the context is no mapping; the handler cannot be called in another process.
    """
    settings.require_apart(task.handler)
    if not isinstance(context, Mapping):
        raise WrongType(f"context is values by name, not {shown(context)}")
    return Calling(
        task,
        config,
        settings.name,
        settings.workspace,
        context,
        settings.timeout,
        settings.chunk_size,
        None if settings.rate_limit is None else RateLimit(settings.rate_limit, clock),
        Processes() if settings.workers == "process" else None,
        settings.sleep,
        stopped,
    )


def source(settings: Settings, clock: Clock, reading: Reading, calls: Calling) -> BatchSource:
    """What the crew works on."""
    meter = ProcessMeter(clock) if settings.stop.condition.measures else None
    if meter is not None:
        meter.start()
    retry = for_items(settings.retry)
    return BatchSource(reading, calls, retry, settings.stop, clock, meter, in_order=settings.previous_result)
