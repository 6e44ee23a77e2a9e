"""What blocks is not called where an event loop would stand still for it."""

from __future__ import annotations

import sys


def refuse_event_loop(name: str, instead: str) -> None:
    """Refuse to block the event loop that the caller runs in.

    Raises:
        RuntimeError: there is one; it says what to call instead.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:  # what was never imported runs no loop
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"{name}() would block the event loop it is called in; use `await {instead}(…)` there")
