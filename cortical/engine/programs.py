"""Runs a program to its end or to its time limit, and keeps the two ends of what it writes. For POSIX systems."""

from __future__ import annotations

import atexit
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Final

from attrs import frozen

_LOOK_SECONDS: Final = 0.05
_DRAIN_SECONDS: Final = 1.0
_BLOCK: Final = 65536
#: The groups of processes that this process has started and not waited for yet.
_living: Final[set[int]] = set()


class Ends:
    """The beginning and the end of an output, `most` bytes in all, however long it is; `size` is that of all of it."""

    def __init__(self, most: int) -> None:
        self._most_head = most // 2
        self._most_tail = most - self._most_head
        self._head = bytearray()
        self._tail = bytearray()
        self.size = 0

    def add(self, block: bytes) -> None:
        """Take in more of the output."""
        self.size += len(block)
        room = self._most_head - len(self._head)
        self._head += block[:room]
        self._tail += block[room:]
        over = len(self._tail) - self._most_tail
        if over > 0:
            del self._tail[:over]

    @property
    def left_out(self) -> int:
        """How many bytes were not kept."""
        return self.size - len(self._head) - len(self._tail)

    def text(self) -> str:
        """What was kept, as it was; a line between its two parts says how much is missing."""
        if not self.left_out:
            return (self._head + self._tail).decode("utf-8", "replace")
        head, tail = (part.decode("utf-8", "replace") for part in (self._head, self._tail))
        return f"{head}\n… {self.left_out} bytes left out …\n{tail}"


@frozen
class Finished:
    """What came of a program: its exit status, None when it was not done in time or was stopped; and its output."""

    status: int | None
    stdout: Ends
    stderr: Ends


def run_program(
    argv: Sequence[str],
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
    stdin: bytes | None = None,
    seconds: float | None = None,
    most_output: int = 8_000,
    joined: bool = False,
    stopped: Callable[[], bool] | None = None,
) -> Finished:
    """Run a program, without a shell, and wait for it.

    When the time is over, `stopped()` says so, or something interrupts the wait, the program is killed with all
    processes of its group. What it has itself left running when it ends is let alone.

    Args:
        stdin: what it can read; nothing by default.
        seconds: how long it may take; None for any time.
        most_output: bytes of each output that are kept, half from the beginning and half from the end.
        joined: what it writes to stderr is part of `stdout`, in order.

    Raises:
        OSError: it cannot be started.
    """
    until = None if seconds is None else time.monotonic() + seconds
    finished = Finished(None, Ends(most_output), Ends(most_output))
    with _input(stdin) as given, _started(argv, cwd, env, given, joined=joined) as process:
        _living.add(process.pid)
        try:
            streams = {process.stdout: finished.stdout, process.stderr: finished.stderr}
            given_streams = {stream: ends for stream, ends in streams.items() if stream is not None}
            status = _followed(process, given_streams, until, stopped)
        finally:
            if process.poll() is None:
                _kill(process.pid)
            _living.discard(process.pid)
    return Finished(status, finished.stdout, finished.stderr)


def _started(
    argv: Sequence[str],
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str] | Mapping[bytes, bytes] | None,
    stdin: IO[bytes] | int,
    *,
    joined: bool,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  # a list, read by no shell
        argv,
        executable=_located(argv[0], env),
        cwd=cwd,
        env=env,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if joined else subprocess.PIPE,
        start_new_session=True,
    )


def _located(program: str, env: Mapping[str, str] | Mapping[bytes, bytes] | None) -> str | None:
    """Where a program named without a folder is found; None where the system is to look for it.

    Looking costs far less than what the system does: it tries to start it in one folder after another.
    """
    if "/" in program:
        return None
    for folder in os.get_exec_path(env):  # type: ignore[arg-type]  # it takes bytes too
        if not folder.startswith("/"):
            return None  # it is meant from where the program will be
        path = f"{folder}/{program}"
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


@contextmanager
def _input(given: bytes | None) -> Iterator[IO[bytes] | int]:
    """What a program reads from: a file, so that one that does not read all of it holds nothing up."""
    if not given:
        yield subprocess.DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(given)
        file.seek(0)
        yield file


def _followed(
    process: subprocess.Popen[bytes],
    streams: Mapping[IO[bytes], Ends],
    until: float | None,
    stopped: Callable[[], bool] | None,
) -> int | None:
    """Take in the output until the program has ended; its exit status, or None when it is to be killed.

    What a program has left running may hold its output open, and write on: what it has written so far is taken in.
    """
    writing, ended = len(streams), False
    with selectors.PollSelector() as selector, _end_of(process) as end:
        for stream, ends in streams.items():
            selector.register(stream, selectors.EVENT_READ, ends)
        if end is not None:
            selector.register(end, selectors.EVENT_READ)
        while True:
            left = _LOOK_SECONDS if until is None else min(_LOOK_SECONDS, max(0.0, until - time.monotonic()))
            ready = [key for key, _ in selector.select(0 if ended else left) if key.data is not None]
            for key in ready:
                if not _taken(key):
                    selector.unregister(key.fileobj)
                    writing -= 1
            if not ended and process.poll() is not None:
                ended, until = True, time.monotonic() + _DRAIN_SECONDS
                ready = ready or list(selector.get_map().values())  # what it wrote at the very end is still to be read
            late = until is not None and time.monotonic() >= until
            if ended and (late or not writing or not ready):
                return process.returncode
            if not ended and (late or (stopped is not None and stopped())):
                return None


def _taken(key: selectors.SelectorKey) -> bool:
    """Take in a block of output; False when there is no more."""
    block = os.read(key.fd, _BLOCK)
    key.data.add(block)
    return bool(block)


@contextmanager
def _end_of(process: subprocess.Popen[bytes]) -> Iterator[int | None]:
    """A descriptor that can be waited for until the process has ended; None where the system has no such thing."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _kill(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


@atexit.register
def _kill_all() -> None:
    """Programs that a thread was waiting for when this process ended do not outlive it."""
    for group in list(_living):
        _kill(group)
