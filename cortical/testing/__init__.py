"""For tests of this library and of what is built on it: a clock to hold, a store's contract, crashes on purpose."""

from __future__ import annotations

from cortical.testing.clock import FakeClock
from cortical.testing.crash import CrashReport, DyingStore, ProcessDied, crash_everywhere, outline
from cortical.testing.store_contract import check_store, store_checks

__all__ = [
    "CrashReport",
    "DyingStore",
    "FakeClock",
    "ProcessDied",
    "check_store",
    "crash_everywhere",
    "outline",
    "store_checks",
]
