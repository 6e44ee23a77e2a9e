"""Processes that call functions, each one at a time: for work that Python's threads do not share, or that may crash.

Only functions that can be imported are called, by name; values travel as the text that a store would keep of them.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout, suppress
from io import TextIOBase
from multiprocessing.connection import Connection
from typing import Any, Final

from cortical.batch.errors import ProcessDied
from cortical.batch.tasks import load_function
from cortical.core.codec import decode, encode
from cortical.core.errors import EncodeError
from cortical.core.outcome import Failure, chain
from cortical.engine.limited import TimeIsUp
from cortical.engine.programs import Ends

_OUTPUT_BYTES: Final = 65_536
_LOOK_SECONDS: Final = 0.2
#: A process that is not up after so long imports something that never ends.
_UP_SECONDS: Final = 120.0


class Processes:
    """Calls functions in processes of its own, as many as threads ask at the same time; close it in the end."""

    def __init__(self) -> None:
        self._idle: list[_Process] = []
        self._lock = threading.Lock()

    def call(
        self,
        function: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        seconds: float | None = None,
        cwd: str | None = None,
        captured: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Any:
        """What the function that ``module:name`` refers to returns; with `captured`, that and what it printed.

        Args:
            seconds: how long it may take, not counted what its process takes to come up; it is killed then.
            cwd: the folder it works in.
            stopped: looked at now and then: True kills its process.

        Raises:
            EncodeError: an argument, or what it returned, cannot be kept as text.
            TimeIsUp: it took longer than `seconds`.
            ProcessDied: its process ended before it had returned; or it was stopped.
            Whatever it raised, as an exception of the same type where that can be made again.
        """
        call = _encoded([function, list(args), dict(kwargs or {}), cwd, captured], {"args": args, **(kwargs or {})})
        process = self._take()
        try:
            status, *answer = process.ask(call, seconds, stopped)
        except BaseException:
            process.kill()
            raise
        with self._lock:
            self._idle.append(process)
        if status == "error":
            raise _remade(answer[0])
        return tuple(answer) if captured else answer[0]

    def close(self) -> None:
        """End the processes that have nothing to do."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.kill()

    def _take(self) -> _Process:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _Process()


class _Process:
    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there,), name="cortical-batch", daemon=True)
        self._process.start()
        self._is_up = False
        there.close()

    def ask(self, call: bytes, seconds: float | None, stopped: Callable[[], bool]) -> list[Any]:
        try:
            if not self._is_up:
                if not self._answered(_UP_SECONDS, stopped):
                    raise TimeIsUp(_UP_SECONDS, "killed: its process did not come up")
                self._here.recv_bytes()
                self._is_up = True
            self._here.send_bytes(call)
            if not self._answered(seconds, stopped):
                raise TimeIsUp(seconds or 0.0, "killed, with its process")
            answer: list[Any] = decode(self._here.recv_bytes())
        except (EOFError, OSError) as error:
            if isinstance(error, TimeIsUp):
                raise
            self._process.join(1.0)
            raise ProcessDied(self._process.exitcode) from None
        return answer

    def kill(self) -> None:
        self._here.close()
        self._process.kill()
        self._process.join()
        self._process.close()

    def _answered(self, seconds: float | None, stopped: Callable[[], bool]) -> bool:
        left = seconds
        while left is None or left > 0:
            wait = _LOOK_SECONDS if left is None else min(left, _LOOK_SECONDS)
            if self._here.poll(wait):
                return True
            if stopped():
                self._process.kill()
            left = None if left is None else left - wait
        return False


def _serve(there: Connection) -> None:
    """Answer calls until nobody is there any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the process that asks
    with suppress(EOFError, ConnectionError):
        there.send_bytes(b"")  # it is up; from now on the time of a call counts
        while True:
            there.send_bytes(_answer(there.recv_bytes()))


def _answer(call: bytes) -> bytes:
    """What a call gives, or why it failed, as text."""
    try:
        value, *printed = _called(*decode(call))
        return _encoded(["ok", value, *printed], {"result": value})
    except Exception as error:  # noqa: BLE001  # raised again where the call was made
        return encode(["error", [_told(link) for link in chain(error)]])


def _encoded(message: list[Any], parts: Mapping[str, Any]) -> bytes:
    """The message as text; where it cannot be kept, the error names the spot as the parts do."""
    try:
        return encode(message)
    except EncodeError:
        for name, part in parts.items():
            encode(part, name)
        raise


def _called(
    function: str, args: list[Any], kwargs: dict[str, Any], cwd: str | None, captured: bool
) -> tuple[Any, str, str]:
    wanted = load_function(function)
    out, err = _Kept(), _Kept()
    with chdir(cwd or os.curdir):
        if not captured:
            return wanted(*args, **kwargs), "", ""
        with redirect_stdout(out), redirect_stderr(err):
            value = wanted(*args, **kwargs)
    return value, out.ends.text(), err.ends.text()


class _Kept(TextIOBase):
    def __init__(self) -> None:
        self.ends = Ends(_OUTPUT_BYTES)

    def write(self, text: str) -> int:
        self.ends.add(text.encode("utf-8", "replace"))
        return len(text)


def _told(error: BaseException) -> list[str]:
    failure = Failure.of(error)
    return [type(error).__module__, type(error).__qualname__, failure.message, failure.traceback]


def _remade(links: list[list[str]]) -> Exception:
    """An exception as it was raised in another process, with its causes; of the base class where it cannot be made."""
    error, *causes = (_remade_one(*link) for link in links)
    last = error
    for cause in causes:
        last.__cause__ = cause
        last = cause
    return error


def _remade_one(module: str, name: str, message: str, trace: str) -> Exception:
    error: Exception | None = None
    try:
        kind: Any = importlib.import_module(module)
        for part in name.split("."):
            kind = getattr(kind, part)
        if isinstance(kind, type) and issubclass(kind, Exception):
            error = kind.__new__(kind, message)
            error = error if str(error) == message else None
    except Exception:  # noqa: BLE001  # whatever a class of the user's may raise
        error = None
    if error is None:
        error = RuntimeError(f"{module}.{name}: {message}")
    error.add_note(f"In the process that raised it:\n{trace}")
    return error
