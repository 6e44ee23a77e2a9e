"""Ids of runs."""

from __future__ import annotations

import os


def new_id() -> str:
    """Twenty hexadecimal digits from the system's randomness: 80 bits.

    Ten million ids collide with a probability of 4e-11 (birthday bound, n²/2^81). The system's source is used
    rather than `random`, whose state a forked process would share.
    """
    return os.urandom(10).hex()
