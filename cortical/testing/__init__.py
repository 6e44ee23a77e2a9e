"""For tests of this library and of what is built on it.

A clock to hold, agents that follow a script, events captured, a store's contract, crashes on purpose, and fixtures.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cortical.testing.capture import CapturedEvents, capture_events
    from cortical.testing.clock import FakeClock
    from cortical.testing.compare import outline
    from cortical.testing.crash import CrashReport, DyingStore, ProcessDied, crash_everywhere
    from cortical.testing.scripted import Asked, ScriptedAgent, ScriptEnded
    from cortical.testing.store_contract import check_store, store_checks

__all__ = [
    "Asked",
    "CapturedEvents",
    "CrashReport",
    "DyingStore",
    "FakeClock",
    "ProcessDied",
    "ScriptEnded",
    "ScriptedAgent",
    "capture_events",
    "check_store",
    "crash_everywhere",
    "outline",
    "store_checks",
]

_HOMES = {
    "Asked": "scripted",
    "CapturedEvents": "capture",
    "CrashReport": "crash",
    "DyingStore": "crash",
    "FakeClock": "clock",
    "ProcessDied": "crash",
    "ScriptEnded": "scripted",
    "ScriptedAgent": "scripted",
    "capture_events": "capture",
    "check_store": "store_contract",
    "crash_everywhere": "crash",
    "outline": "compare",
    "store_checks": "store_contract",
}


def __getattr__(name: str) -> Any:
    # Found when first asked for: pytest loads the plugin of this package in every project that has it installed.
    if name not in _HOMES:
        raise AttributeError(f"module 'cortical.testing' has no attribute {name!r}")
    value = getattr(import_module(f"cortical.testing.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
