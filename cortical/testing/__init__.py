"""For tests of this library and of what is built on it.

A clock to hold, agents that follow a script, events captured, a store's contract, crashes on purpose, and fixtures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cortical.core.lazy import found_later

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

if not TYPE_CHECKING:
    # pytest loads the plugin of this package in every project that has it installed.
    __getattr__, __dir__ = found_later(
        __name__,
        {
            "Asked": "cortical.testing.scripted",
            "CapturedEvents": "cortical.testing.capture",
            "CrashReport": "cortical.testing.crash",
            "DyingStore": "cortical.testing.crash",
            "FakeClock": "cortical.testing.clock",
            "ProcessDied": "cortical.testing.crash",
            "ScriptEnded": "cortical.testing.scripted",
            "ScriptedAgent": "cortical.testing.scripted",
            "capture_events": "cortical.testing.capture",
            "check_store": "cortical.testing.store_contract",
            "crash_everywhere": "cortical.testing.crash",
            "outline": "cortical.testing.compare",
            "store_checks": "cortical.testing.store_contract",
        },
    )
