"""For tests of this library and of what is built on it: a clock to hold, and the contract of a store."""

from __future__ import annotations

from cortical.testing.clock import FakeClock
from cortical.testing.store_contract import check_store, store_checks

__all__ = ["FakeClock", "check_store", "store_checks"]
