"""Functions called by several threads at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

T = TypeVar("T")

_LONGEST_SECONDS: Final = 120.0


def in_threads(function: Callable[[T], object], given: Iterable[T]) -> None:
    """Call the function for each that is given, in a thread of its own; come back when all have ended."""
    threads = [threading.Thread(target=function, args=(one,)) for one in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_LONGEST_SECONDS)
    assert not any(thread.is_alive() for thread in threads), "a thread is still at work"
