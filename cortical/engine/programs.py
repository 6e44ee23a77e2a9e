"""Runs a program to its end or to its time limit, and keeps the two ends of what it writes. For POSIX systems."""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Final

from attrs import frozen

_LOOK_SECONDS: Final = 0.05
_DRAIN_SECONDS: Final = 1.0
_BLOCK: Final = 65536
_READABLE: Final = select.POLLIN
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
    executable: str | None = None,
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
        executable: where the program is found; by default that is looked for, in the folders of its own ``PATH``.
        stdin: what it can read; nothing by default.
        seconds: how long it may take; None for any time.
        most_output: bytes of each output that are kept, half from the beginning and half from the end.
        joined: what it writes to stderr is part of `stdout`, in order.

    Raises:
        OSError: it cannot be started.
    """
    until = None if seconds is None else time.monotonic() + seconds
    finished = Finished(None, Ends(most_output), Ends(most_output))
    pipes = [os.pipe()]
    try:
        if not joined:
            pipes.append(os.pipe())
        process = _started(argv, executable or located(argv[0], env), cwd, env, stdin, [end for _, end in pipes])
    except BaseException:
        _close(end for end, _ in pipes)
        raise
    finally:
        _close(end for _, end in pipes)
    _living.add(process.pid)
    try:
        outputs = dict(zip((end for end, _ in pipes), (finished.stdout, finished.stderr), strict=False))
        status = _followed(process, outputs, until, stopped)
    finally:
        if process.poll() is None:
            _kill(process.pid)
            process.wait()
        _living.discard(process.pid)
        _close(end for end, _ in pipes)
    return Finished(status, finished.stdout, finished.stderr)


def _started(
    argv: Sequence[str],
    executable: str | None,
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str] | Mapping[bytes, bytes] | None,
    stdin: bytes | None,
    outputs: Sequence[int],
) -> subprocess.Popen[bytes]:
    """Start a program that writes to these descriptors: its output and its errors, or to one of them both.

    Popen's own pipes would cost a tenth of starting it more.
    """
    given = _file_of(stdin) if stdin else None
    try:
        return subprocess.Popen(  # noqa: S603  # a list, read by no shell
            argv,
            executable=executable,
            cwd=None if cwd is None else os.fspath(cwd),  # an error would show PosixPath('…')
            env=env,
            stdin=given or subprocess.DEVNULL,
            stdout=outputs[0],
            stderr=outputs[-1],
            start_new_session=True,
        )
    finally:
        if given is not None:
            given.close()


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def located(program: str, env: Mapping[str, str] | Mapping[bytes, bytes] | None) -> str | None:
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


def _file_of(given: bytes) -> IO[bytes]:
    """What a program reads from: a file, so that one that does not read all of it holds nothing up."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # it is closed once the program has it
    file.write(given)
    file.seek(0)
    return file


def _followed(
    process: subprocess.Popen[bytes],
    outputs: dict[int, Ends],
    until: float | None,
    stopped: Callable[[], bool] | None,
) -> int | None:
    """Take in the output until the program has ended; its exit status, or None when it is to be killed.

    What a program has left running may hold its output open, and write on: what it has written so far is taken in.
    """
    ended = False
    poll = select.poll()
    for stream in outputs:
        poll.register(stream, _READABLE)
    end = _end_of(process)
    try:
        if end is not None:
            poll.register(end, _READABLE)
        while True:
            left = _LOOK_SECONDS if until is None else min(_LOOK_SECONDS, max(0.0, until - time.monotonic()))
            ready = [stream for stream, _ in poll.poll(0 if ended else left * 1000) if stream != end]
            for stream in ready:
                if not _taken(stream, outputs[stream]):
                    poll.unregister(stream)
                    del outputs[stream]
            if not ended and process.poll() is not None:
                ended, until = True, time.monotonic() + _DRAIN_SECONDS
                ready = ready or list(outputs)  # what it wrote at the very end is still to be read
            late = until is not None and time.monotonic() >= until
            if ended and (late or not outputs or not ready):
                return process.returncode
            if not ended and (late or (stopped is not None and stopped())):
                return None
    finally:
        if end is not None:
            os.close(end)


def _taken(stream: int, ends: Ends) -> bool:
    """Take in a block of output; False when there is no more."""
    block = os.read(stream, _BLOCK)
    ends.add(block)
    return bool(block)


def _end_of(process: subprocess.Popen[bytes]) -> int | None:
    """A descriptor that can be waited for until the process has ended; None where the system has no such thing."""
    try:
        return os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        return None


def _kill(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


@atexit.register
def _kill_all() -> None:
    """Programs that a thread was waiting for when this process ended do not outlive it."""
    for group in list(_living):
        _kill(group)
