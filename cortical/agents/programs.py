"""Runs a program to its end or to its time limit, and keeps the two ends of what it writes. For POSIX systems."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from typing import Final

_LOOK_SECONDS: Final = 0.05
_DRAIN_SECONDS: Final = 1.0
_BLOCK: Final = 65536


def finished(
    line: list[str], cwd: str | None, env: dict[str, str], timeout: float | None, most_output: int
) -> tuple[int | None, str]:
    """Run `line` without input; return its exit status (None: not done in time) and its output, errors included.

    When the time is over, or something interrupts the wait, the program is killed with all processes of its group.
    What it has itself left running when it ends is let alone.

    Args:
        timeout: seconds; None for any time.
        most_output: bytes of output that are kept, half from the beginning and half from the end.

    Raises:
        OSError: it cannot be started.
    """
    until = None if timeout is None else time.monotonic() + timeout
    ends = _Ends(most_output)
    with subprocess.Popen(  # noqa: S603  # a list, read by no shell
        line,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            _read(process, ends, until)
            status = process.wait(None if until is None else max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None, ends.text()
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
    return status, ends.text()


def _read(process: subprocess.Popen[bytes], ends: _Ends, until: float | None) -> None:
    """Take in the output until there is no more, the time is over, or the program has ended.

    What a program has left running may hold its output open, and write on: this is waited for a moment only.
    """
    assert process.stdout is not None
    ended = False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while until is None or time.monotonic() < until:
            if not ended and process.poll() is not None:
                ended, until = True, time.monotonic() + _DRAIN_SECONDS
            left = _LOOK_SECONDS if until is None else min(_LOOK_SECONDS, max(0.0, until - time.monotonic()))
            if not selector.select(0 if ended else left):
                if ended:
                    return
                continue
            block = os.read(process.stdout.fileno(), _BLOCK)
            if not block:
                return
            ends.add(block)


class _Ends:
    """The beginning and the end of an output, `most` bytes in all, however long it is."""

    def __init__(self, most: int) -> None:
        self._most_head = most // 2
        self._most_tail = most - self._most_head
        self._head = bytearray()
        self._tail = bytearray()
        self._left_out = 0

    def add(self, block: bytes) -> None:
        """Take in more of the output."""
        room = self._most_head - len(self._head)
        self._head += block[:room]
        self._tail += block[room:]
        over = len(self._tail) - self._most_tail
        if over > 0:
            del self._tail[:over]
            self._left_out += over

    def text(self) -> str:
        """What was kept; a line between its two parts says how much is missing."""
        if not self._left_out:
            return (self._head + self._tail).decode("utf-8", "replace").strip()
        head, tail = (part.decode("utf-8", "replace") for part in (self._head, self._tail))
        return f"{head}\n… {self._left_out} bytes left out …\n{tail}".strip()
