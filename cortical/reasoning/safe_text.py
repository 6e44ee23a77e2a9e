"""Recorded texts made safe to print, by the name under which the reasoning loops have it."""

from __future__ import annotations

from cortical.core.safe_text import one_line, printable

__all__ = ["one_line", "printable"]
