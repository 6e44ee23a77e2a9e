"""Durable trees of reasoning loops, and agents that drive them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cortical.core.lazy import found_later

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

_ELSEWHERE = {"Budget": "cortical.core.budget", "open_store": "cortical.store", "why": "cortical.looking.why"}

if not TYPE_CHECKING:
    __getattr__, __dir__ = found_later(__name__, dict.fromkeys(__all__, "cortical.agents") | _ELSEWHERE)
