"""What a process uses, measured: memory, CPU, files, time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from cortical.core.conditions import CPU, MEMORY, OPEN_FILES
from cortical.core.ports import Clock, seconds_on

if TYPE_CHECKING:
    import psutil

#: The least time between two measurements, in seconds: one costs some tenths of a millisecond.
SAMPLE_SECONDS: Final = 0.5

_MIB: Final = 2**20


class Meter(Protocol):
    """Tells what is used. Asked before each iteration: it has to be quick, and may answer from its last sample."""

    def start(self) -> None:
        """Count from here what grows with time; called when a loop is taken up, and when its usage is cleared."""
        ...

    def used(self) -> Mapping[str, float]:
        """What is used, by name."""
        ...


class ProcessMeter:
    """Measures this process through psutil: at most every half second, however often it is asked, and less often where
    measuring takes long, so that it takes no more than a two-hundredth of the time.

    `memory` is resident MiB (2**20 bytes) of this process, `open_files` its file descriptors: the whole process's,
    whatever else runs in it. `cpu` are CPU seconds of this process and of the children it has waited for or that
    still run, since `start`; so is `wall`, in seconds of the clock.
    """

    def __init__(self, clock: Clock = time, *, sample_seconds: float = SAMPLE_SECONDS) -> None:
        self._seconds = seconds_on(clock)
        self._sample_seconds = self._pause = sample_seconds
        self._sampled_at = float("-inf")
        self._used: dict[str, float] = {}
        self._since = 0.0
        self._cpu_before = 0.0

    def start(self) -> None:
        self._since = self._seconds()
        self._cpu_before = self._cpu_seconds()
        self._sampled_at, self._pause = float("-inf"), self._sample_seconds

    def used(self) -> Mapping[str, float]:
        now = self._seconds()
        if now - self._sampled_at >= self._pause:
            self._sampled_at = now
            began = time.perf_counter()
            self._used = self._sample(now)
            self._pause = max(self._sample_seconds, 200 * (time.perf_counter() - began))
        return self._used

    def _sample(self, now: float) -> dict[str, float]:
        process = self._process()
        return {
            MEMORY: process.memory_info().rss / _MIB,
            CPU: self._cpu_seconds() - self._cpu_before,
            OPEN_FILES: process.num_fds(),
            "wall": now - self._since,
        }

    def _cpu_seconds(self) -> float:
        times = self._process().cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system) + self._running_children()

    def _running_children(self) -> float:
        import psutil

        total = 0.0
        for child in self._process().children(recursive=True):
            try:
                times = child.cpu_times()
            except psutil.Error:  # it has ended since it was listed
                continue
            total += times.user + times.system
        return total

    @staticmethod
    def _process() -> psutil.Process:
        import psutil  # only where something is measured

        return psutil.Process()
