"""Processes that tests start."""

from __future__ import annotations

import os


def unmeasured() -> dict[str, str]:
    """The environment of processes that are killed: what coverage sees in one is lost with it, and takes long."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}
