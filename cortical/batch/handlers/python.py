"""Calls a Python function for each item: in this process, or apart, in a folder of its own and with its output kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from cortical.batch.handlers.config import confined, filled, fixed, require_inside, workspace_of
from cortical.batch.process import Processes
from cortical.batch.tasks import handler_name, is_async, load_function, register_task
from cortical.core.checks import require_keys, require_seconds, require_values, shown
from cortical.core.errors import InvalidInput, WrongType

_KEYS: Final = frozenset({"function", "args", "kwargs", "cwd", "capture", "timeout"})
_APART: Final = ("cwd", "capture", "timeout")

_processes = Processes()


def check(task: Mapping[str, Any]) -> None:
    """Refuse a configuration that makes no sense, before anything is run."""
    require_keys(task, sorted(_KEYS), "a python task")
    if "function" not in task:
        raise InvalidInput('a python task has a function: {"function": "module:name"}, or one that can be called')
    function = _function(task["function"])
    if is_async(function):
        raise InvalidInput("give a coroutine function as the batch's handler itself; a python task calls functions")
    settings = fixed(task)
    if not isinstance(settings.get("args") or [], list | tuple):
        raise WrongType(f"args is a list of what the function is called with, not {shown(settings['args'])}")
    require_values(settings.get("kwargs") or {}, "kwargs")
    if settings.get("cwd") is not None:
        require_inside(settings["cwd"])
    if settings.get("timeout") is not None:
        require_seconds(settings["timeout"], "timeout", above_zero=True)
    if any(task.get(key) for key in _APART) and load_function(handler_name(function)) is not function:
        raise InvalidInput(f"{function!r} cannot be found by its name in another process, which cwd and capture need")


@register_task("python", check=check)
def python_task(item: Any, task: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
    """What a function returns for an item.

    ``function`` is one that can be called, or ``"module:name"``; ``args`` and ``kwargs`` are what it is called with,
    with references to the item and its context, and the item alone by default. With ``cwd`` (a folder of the
    workspace), ``capture`` or ``timeout`` it is called in a process of its own; with ``capture`` what comes back is
    ``{"value", "stdout", "stderr"}``, of each output no more than 64 KiB.

    Raises:
        Whatever the function raises.
        TimeIsUp, ProcessDied: its process was not done in time, or died.
    """
    function = _function(task["function"])
    settings = filled({key: value for key, value in task.items() if key != "function"}, item, context)
    args, kwargs = settings.get("args"), settings.get("kwargs") or {}
    given = list(args) if args is not None else [] if kwargs else [item]
    if not any(settings.get(key) for key in _APART):
        return function(*given, **kwargs)
    cwd = confined(workspace_of(context), settings.get("cwd") or ".")
    if not cwd.is_dir():
        raise InvalidInput(f"the folder {settings['cwd']!r} is not there; make it first")
    captured = bool(settings.get("capture"))
    value = _processes.call(
        handler_name(function),
        given,
        kwargs,
        seconds=settings.get("timeout"),
        cwd=str(cwd),
        captured=captured,
        stopped=lambda: bool(getattr(context, "stopped", False)),
    )
    return dict(zip(("value", "stdout", "stderr"), value, strict=True)) if captured else value


def _function(given: Any) -> Callable[..., Any]:
    if isinstance(given, str):
        return load_function(given)
    if not callable(given):
        raise InvalidInput(f"a python task's function is 'module:name', or one that can be called, not {shown(given)}")
    return given  # type: ignore[no-any-return]
