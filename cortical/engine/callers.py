"""Who calls, for people to read in a log."""

from __future__ import annotations

import os


def this_process() -> str:
    """Which process this is, and where it runs."""
    import socket  # slow to import, and needed now and then

    return f"process {os.getpid()} on {socket.gethostname()}"
