"""Handlers by name: registered here, or announced by an installed package; and the document's batch task wrapper.

A handler is anything that can be called as ``handler(item, task, context)``: a function or a coroutine function.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sized
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from attrs import frozen

from cortical.core.checks import meant, require_text, shown
from cortical.core.errors import InvalidInput, WrongType

Handler: TypeAlias = Callable[..., Any]
Check: TypeAlias = Callable[[Mapping[str, Any]], None]
Prepare: TypeAlias = Callable[[Mapping[str, Any]], Handler]
H = TypeVar("H", bound=Handler)

#: Where installed packages announce handlers: name = "module:function".
ENTRY_POINTS: Final = "cortical.tasks"

_BUILT_IN: Final = ("file", "python", "shell")
_registered: dict[str, RegisteredTask] = {}


@frozen
class RegisteredTask:
    """A handler, and the name it is known by.

    `check(task)` raises where a task's configuration makes no sense. `prepare(task)` makes a handler for one batch,
    that need not do for each item what is the same for all.
    """

    name: str
    handler: Handler
    check: Check | None = None
    prepare: Prepare | None = None


def register_task(name: str, *, check: Check | None = None, prepare: Prepare | None = None) -> Callable[[H], H]:
    """Let a handler be given by this name; a decorator.

    Args:
        check: is given a task's configuration before anything of it is run, and raises where it makes no sense.
        prepare: is given a task's configuration when a batch begins, and returns a handler for its items that does
            the same as the one registered; it is called in threads as that one is. Handlers that are called in
            processes of their own, and coroutine functions, are not prepared.

    Raises:
        InvalidInput: the name is taken by another handler.
    """
    name = require_text(name, "a task's name")

    def register(handler: H) -> H:
        known = _registered.get(name)
        require_handler(handler, "a handler")
        taken = known is not None and handler_name(known.handler) != handler_name(handler)
        if taken or (name in _BUILT_IN and not handler.__module__.startswith(f"{__package__}.")):
            raise InvalidInput(f"the task name {name!r} is taken; choose another")
        _registered[name] = RegisteredTask(name, handler, check, prepare)
        return handler

    return register


def find_task(name: str) -> RegisteredTask:
    """The handler of this name.

    Raises:
        InvalidInput: there is none; the message names those that are like it.
    """
    name = require_text(name, "a task's name")
    _load_built_in()
    if name not in _registered:
        for announced in entry_points(group=ENTRY_POINTS, name=name):
            handler = announced.load()
            return RegisteredTask(name, handler, getattr(handler, "check", None), getattr(handler, "prepare", None))
        raise InvalidInput(f"no task is called {name!r}{meant(name, task_names())}")
    return _registered[name]


def task_names() -> list[str]:
    """The names of all handlers, sorted: built in, registered by this process, announced by installed packages."""
    _load_built_in()
    return sorted({*_registered, *(announced.name for announced in entry_points(group=ENTRY_POINTS))})


def handler_name(handler: Handler) -> str:
    """Where a handler is found: ``module:name``, of an object that can be called those of its class."""
    inner = handler
    while isinstance(inner, functools.partial):
        inner = inner.func
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{named.__module__}:{named.__qualname__}"


def require_handler(handler: object, what: str) -> None:
    """Refuse what cannot be called as a handler is.

    Raises:
        WrongType: it is none; the message says what is missing, or too much.
    """
    if not callable(handler):
        raise WrongType(f"{what} is called with an item, its task and a context; {handler!r} cannot be called")
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # some functions of Python itself do not tell
        return
    try:
        signature.bind(None, None, None)
    except TypeError as error:
        name = handler_name(handler)
        raise WrongType(f"{what} is called with an item, its task and a context; {name} cannot be: {error}") from None


def is_async(handler: Handler) -> bool:
    """Whether what it returns has to be awaited."""
    inner = handler
    while isinstance(inner, functools.partial):
        inner = inner.func
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(inner, "__call__", None))  # noqa: B004


def load_function(reference: str) -> Handler:
    """The function that ``module:name`` refers to.

    Raises:
        InvalidInput: there is none; the message says whether the module or the name is missing.
    """
    module_name, _, name = require_text(reference, "a function").partition(":")
    if not module_name or not name:
        raise InvalidInput(f"a function is given as 'module:name', not {shown(reference)}")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except ImportError as error:
        raise InvalidInput(f"{reference!r}: the module cannot be imported: {error}") from error
    except AttributeError as error:
        raise InvalidInput(
            f"{reference!r} leads nowhere: {error}; only what a module holds can be referred to"
        ) from None
    if not callable(found):
        raise InvalidInput(f"{reference!r} is {found!r}, which cannot be called")
    return found  # type: ignore[no-any-return]


def create_batch_task_handler(func: Callable[[Any, Mapping[str, Any], dict[str, Any]], Any]) -> Handler:
    """Make `wrapper(step, context, workspace)` of a function `func(items, step, batch_context)`.

    The items are the step's ``items``, or else its ``iterate_over``. `batch_context` holds ``workspace``, ``engine``
    (the context's, or None), ``batch_name`` (the step's ``name``, or ``unnamed_batch``) and ``retry_config`` (its
    ``retry``, or an empty mapping). The function keeps its name and docstring; what it returns is returned.

    Raises:
        ValueError: from the wrapper: the step has no items, or an empty list of them.
    """

    @functools.wraps(func)
    def wrapper(step: Mapping[str, Any], context: Mapping[str, Any], workspace: Path) -> Any:
        items = step.get("items")
        if items is None or (isinstance(items, Sized) and not len(items)):
            items = step.get("iterate_over")
        if items is None or (isinstance(items, Sized) and not len(items)):
            raise InvalidInput("No items provided for batch processing")
        batch_context = {
            "workspace": workspace,
            "engine": context.get("engine"),
            "batch_name": step.get("name", "unnamed_batch"),
            "retry_config": step.get("retry", {}),
        }
        return func(items, step, batch_context)

    return wrapper


def _load_built_in() -> None:
    for name in _BUILT_IN:
        importlib.import_module(f"{__package__}.handlers.{name}")
