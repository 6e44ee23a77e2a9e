"""The examples of controlled loops, run as their users run them: real processes, a real server, real kills."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from cortical.control import LoopController, StatePersistenceManager
from cortical.core.errors import RunNotFound
from cortical.core.status import Status, TerminationReason
from cortical.recovery import CheckpointManager, LoopRecoveryManager
from cortical.store import open_store
from examples.log_watcher import CHECKPOINT_EVERY, LAST_LINE, LogCut, chained, watcher

EXAMPLES = Path(__file__).parents[2] / "examples"


def play(*arguments: str, folder: Path, status: int = 0) -> str:
    """Run an example in `folder`, where it has to end with `status`; returns all that it wrote."""
    line = [sys.executable, str(EXAMPLES / arguments[0]), *arguments[1:]]
    done = subprocess.run(
        line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False
    )
    assert done.returncode == status, done.stdout
    return done.stdout


# The log watcher


def test_watcher_loses_and_repeats_no_line(tmp_path: Path) -> None:
    """Killed twice with kill -9 while the log grows, the watcher sees every line once and in order."""
    said = play("log_watcher.py", "--lines", "1500", "--kills", "2", "--store", "w.db", folder=tmp_path)
    assert said.count("☠ kill -9") == 2
    assert "the file has 1,500 lines, the loop saw 1,500:" in said
    assert said.endswith("every line once, in its order\n")
    store = open_store(tmp_path / "w.db", create=False)
    loop = LoopController("log-watcher", store=store)
    assert sum(one.result for one in loop.get_execution_history()) == 1500
    assert [one.state["lines"] for one in CheckpointManager(loop).get_checkpoints("log-watcher")] == [
        *range(CHECKPOINT_EVERY, 1500, CHECKPOINT_EVERY)
    ]
    assert store.check() == []
    store.close()
    assert "w.db is there already" in play("log_watcher.py", "--store", "w.db", folder=tmp_path, status=2)


def test_watcher_of_a_log_of_its_own(tmp_path: Path) -> None:
    """Killed between two lines of a log that somebody else writes, it goes on with the line after the last it saw."""
    log, store = tmp_path / "my.log", tmp_path / "w.db"
    lines = [b"INFO  one", b"WARN  \xff no UTF-8 \xe2\x80\xa8 and no line's end", b"", LAST_LINE.encode()]
    log.write_bytes(b"\n".join(lines[:2]) + b"\nhalf a li")
    line = [sys.executable, str(EXAMPLES / "log_watcher.py"), "--watch", str(log), "--store", str(store)]
    process = subprocess.Popen(line)
    with StatePersistenceManager(store) as states:
        while _seen(states) < 2:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        log.write_bytes(b"\n".join(lines) + b"\n")
        subprocess.run(line, check=True)
        state = states.load_state("log-watcher")
    digest = ""
    for each in lines:
        digest = chained(digest, each)
    assert (state["lines"], state["digest"]) == (4, digest)
    assert state["offset"] == log.stat().st_size


def test_watcher_of_a_log_that_was_cut(tmp_path: Path) -> None:
    """A log that has become shorter ends the loop with an error that says so."""
    log = tmp_path / "my.log"
    log.write_text("INFO  short\n")
    loop = LoopController("log-watcher", state={"offset": 100})
    result = loop.run(watcher(log, CheckpointManager(loop)))
    assert (result.status, result.reason) == (Status.FAILED, TerminationReason.ERROR)
    assert LogCut.__name__ in str(result.error)
    assert "shorter than the 100 bytes" in str(result.error)


def _seen(states: StatePersistenceManager) -> int:
    try:
        return int(states.load_state("log-watcher").get("lines", 0))
    except RunNotFound:
        return 0


# The flaky service


def test_each_failure_meets_its_strategy(tmp_path: Path) -> None:
    """Each class of failure is followed by its strategy, the sum is right in the end, and a seed tells one story."""
    said = play("flaky_service.py", "--seed", "7", "--store", "f.db", folder=tmp_path)
    assert said == play("flaky_service.py", "--seed", "7", folder=tmp_path)
    for happened, followed in (
        ("HTTP 503 Service Unavailable", r"transient +try again in [\d.]+ s \(attempt 3 of 3\)"),
        ("HTTP 503 Service Unavailable", r"transient +restore checkpoint \d+"),
        ("HTTP 429 Too Many Requests", "transient +try again"),
        ("ConnectionResetError", "transient +try again"),
        ("TimeoutError: timed out", "transient +try again"),
        ("HTTP 507 Insufficient Storage", r"resource +restore checkpoint \d+ .*; clear what it used"),
        ("HTTP 424 Failed Dependency", "dependency +block"),
        ("JSONDecodeError", "state +leave page"),
        ("TypeError", "programming +give up"),
    ):
        assert re.search(f"{happened}.* {followed}", said)
    total, right = re.findall(r"total ([\d.]+), by the service ([\d.]+)", said)[0]
    assert total == right
    with LoopRecoveryManager(tmp_path / "f.db") as manager:
        told = manager.get_recovery_history("flaky-service")
        assert {one.strategy for one in told if one.success} == {
            "retry",
            "restore_latest",
            "restore_with_usage_cleared",
            "leave_page_out",
            "escalate",
        }
        assert [one.strategy for one in told if not one.success] == ["give_up"]
