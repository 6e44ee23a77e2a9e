"""Durable trees of reasoning loops, and agents that drive them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cortical.agents import (
        Agent,
        Loop,
        Quorum,
        Reconciled,
        Retry,
        Verdict,
        arun,
        command,
        human,
        provide,
        quorum,
        resume,
        run,
        stream,
    )
    from cortical.core.budget import Budget
    from cortical.looking.why import why
    from cortical.store import open_store

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Budget",
    "Loop",
    "Quorum",
    "Reconciled",
    "Retry",
    "Verdict",
    "arun",
    "command",
    "human",
    "open_store",
    "provide",
    "quorum",
    "resume",
    "run",
    "stream",
    "why",
]

_HOMES = {"Budget": "cortical.core.budget", "open_store": "cortical.store", "why": "cortical.looking.why"}


def __getattr__(name: str) -> Any:
    # Found when first asked for: `import cortical` alone costs nothing.
    if name not in __all__:
        raise AttributeError(f"module 'cortical' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "cortical.agents")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
