"""How a batch is carried out: what a processor was given, checked at the door."""

from __future__ import annotations

import os
import random as chance
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from attrs import define

from cortical.batch.errors import BatchChanged
from cortical.batch.items import Key
from cortical.batch.ledger import HANDLER, TASK
from cortical.batch.reading import require_rules
from cortical.batch.source import Stop
from cortical.batch.tasks import Handler, handler_name, is_async, load_function
from cortical.core.budget import Budget
from cortical.core.checks import (
    require_count,
    require_instance,
    require_number,
    require_seconds,
    require_tolerance,
    shown,
)
from cortical.core.conditions import NEVER, Condition
from cortical.core.digest import code_of, digest
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.policy import ONCE, Retry

Workers: TypeAlias = Literal["threads", "process"]

#: How many coroutines are carried out at the same time, where nobody said.
_TASKS: Final = 64


@define(kw_only=True)
class Settings:
    """What `BatchProcessor` was given; it says what each means.

    Raises:
        WrongType, InvalidInput: something of it makes no sense.
    """

    name: str
    workspace: Path
    max_concurrency: int | None = None
    workers: Workers = "threads"
    retry: Retry = ONCE
    timeout: float | None = None
    rate_limit: float | None = None
    chunk_size: int | None = None
    key: Key | None = None
    fail_fast: bool = False
    tolerated_failures: int | float | None = None
    stop_when: Condition | None = None
    previous_result: bool = False
    parent: str | None = None
    budget: Budget | None = None
    lease_seconds: float = 10.0
    sleep: Callable[[float], object] | None = None
    random: Callable[[], float] = chance.random

    def __attrs_post_init__(self) -> None:
        require_rules(self.name, self.key, "list", self.chunk_size)
        if not is_folder(self.workspace):
            raise InvalidInput(f"the workspace {shown(str(self.workspace))} is no folder; make it first")
        if self.max_concurrency is not None:
            require_count(self.max_concurrency, "max_concurrency")
        if self.workers not in ("threads", "process"):
            raise InvalidInput(f'workers is "threads" or "process", not {shown(self.workers)}')
        require_seconds(self.lease_seconds, "lease_seconds", above_zero=True)
        require_instance(self.retry, Retry, "retry")
        if self.timeout is not None:
            require_seconds(self.timeout, "timeout", above_zero=True)
        if self.rate_limit is not None:
            require_number(self.rate_limit, "rate_limit", above=0, finite=True)
        if self.stop_when is not None and not isinstance(self.stop_when, Condition):
            raise WrongType(f"stop_when is a condition, such as max_iterations(10), not {shown(self.stop_when)}")
        if self.previous_result and self.max_concurrency not in (None, 1):
            raise InvalidInput("previous_result needs one item after another; leave max_concurrency out, or give 1")
        if self.budget is not None and not isinstance(self.budget, Budget):
            raise WrongType(f"budget is a Budget, or None, not {shown(self.budget)}")
        self._check_tolerated()

    @property
    def stop(self) -> Stop:
        """When no other item is begun."""
        condition = NEVER if self.stop_when is None else self.stop_when
        return Stop.beyond(0 if self.fail_fast else self.tolerated_failures, condition)

    def concurrency(self, handler: Handler) -> int:
        """How many items are carried out at the same time."""
        if self.previous_result:
            return 1
        if self.max_concurrency is not None:
            return self.max_concurrency
        cores = os.cpu_count() or 1
        if self.workers == "process":
            return cores
        return _TASKS if is_async(handler) else min(32, cores + 4)

    def require_apart(self, handler: Handler) -> None:
        """Refuse a handler that cannot be called in a process of its own, where it is to be.

        Raises:
            InvalidInput: it is a coroutine function, or another process could not import it.
        """
        if self.workers != "process":
            return
        if is_async(handler):
            raise InvalidInput('coroutines share a thread; leave workers="process" out for them')
        if load_function(handler_name(handler)) is not handler:
            raise InvalidInput(f"{handler!r} cannot be found by its name in another process; give a module's function")

    def _check_tolerated(self) -> None:
        tolerated = self.tolerated_failures
        if tolerated is None:
            return
        if self.fail_fast:
            raise InvalidInput("fail_fast tolerates no failure; give it or tolerated_failures, not both")
        require_tolerance(tolerated, "tolerated_failures")


def is_folder(path: Path) -> bool:
    """Whether there is a folder of this name, which may be one that cannot be."""
    try:
        return path.is_dir()
    except OSError:
        return False


def as_path(workspace: object) -> Path:
    """What a workspace was given as, as a path.

    Raises:
        WrongType: it is none.
    """
    if not isinstance(workspace, str | os.PathLike):
        raise WrongType(f"a workspace is the path of a folder, not {shown(workspace)}")
    return Path(workspace)


def told_name(handler: Handler) -> str:
    """What a batch keeps of its handler: its name, and of one that has no name of its own its code.

    A script that is run has the name by which it could be imported.
    """
    module, _, own = handler_name(handler).partition(":")
    if module == "__main__":
        script = sys.modules["__main__"]
        spec, file = getattr(script, "__spec__", None), getattr(script, "__file__", None)
        module = spec.name if spec is not None else Path(file).stem if file is not None else module
    name = f"{module}:{own}"
    return f"{name}#{digest([code_of(handler)])}" if "<lambda>" in name else name


def require_same(name: str, kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a batch that was begun otherwise.

    Raises:
        BatchChanged: its handler, or its task, is another.
    """
    if HANDLER in kept and kept[HANDLER] != now[HANDLER]:
        raise BatchChanged(name, f"its handler was {kept[HANDLER]!r}, now it is {now[HANDLER]!r}")
    if TASK in kept and kept[TASK] != now[TASK]:
        raise BatchChanged(name, "what its task is told is not what it was")
