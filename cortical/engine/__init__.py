"""Where driven work is carried out: threads and an event loop on this machine."""

from __future__ import annotations

from cortical.engine.local import LocalEngine

__all__ = ["LocalEngine"]
