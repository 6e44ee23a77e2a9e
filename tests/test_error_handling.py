"""Errors of items have one shape, a hint whether to try again, and are logged once."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from cortical.batch import BatchFailed, BatchProcessor, ItemFailed, Retry
from cortical.core.outcome import Abandoned, Failed, Ok, Skipped
from cortical.engine.callers import this_process
from cortical.testing import FakeClock


def handler(item: Any, task: Any, context: Any) -> Any:
    if isinstance(item, Exception):
        raise item
    return item


def wrapped(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


def test_process_item_that_works(tmp_path: Path) -> None:
    """What the handler returns is the result, whatever it is: a user's own value is not looked into."""
    batch = BatchProcessor(tmp_path, "b", handler)
    assert batch.process_item(5, {}, {}) == {"success": True, "result": 5}
    value = {"success": False}
    assert batch.process_item(value, {}, {}) == {"success": True, "result": value}


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (OSError("disk"), True),
        (TimeoutError("late"), True),
        (ConnectionResetError("gone"), True),
        (ValueError("bad"), False),
        (wrapped(RuntimeError("while reading"), OSError("disk")), True),
        (wrapped(RuntimeError("while parsing"), ValueError("bad")), False),
    ],
)
def test_process_item_that_fails(error: Exception, retryable: bool, tmp_path: Path) -> None:
    """It never raises; it says what went wrong, with which item, and whether the root error may be otherwise later."""
    told = BatchProcessor(tmp_path, "b", handler).process_item(error, {}, {})
    assert told == {"success": False, "error": str(error), "item": error, "retryable": retryable}


def test_process_item_logs_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A failure is one line in the log, with what is told of it as attributes of the record."""
    with caplog.at_level(logging.ERROR, "cortical"):
        BatchProcessor(tmp_path, "b", handler).process_item(OSError("disk"), {}, {})
    (record,) = caplog.records
    assert "disk" in record.getMessage()
    assert (record.success, record.error, record.retryable) == (False, "disk", True)  # type: ignore[attr-defined]


def test_a_failure_is_logged_in_a_line_fit_for_a_terminal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What would steer a terminal is made visible and a long error is cut; the record has all of it."""
    text = "two\nlines \x1b[31m" + "x" * 10_000
    BatchProcessor(tmp_path, "b", handler).run([ValueError(text)])
    (record,) = caplog.records
    assert len(record.getMessage()) < 700
    assert record.getMessage().isprintable()
    assert record.error == text  # type: ignore[attr-defined]


def test_process_item_takes_any_handler_and_text(tmp_path: Path) -> None:
    """Coroutine functions, time limits, missing handlers and errors without a text are no exception."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    async def slow(item: Any, task: Any, context: Any) -> Any:
        await asyncio.sleep(item)
        return item

    assert BatchProcessor(tmp_path, "b", slow).process_item(0) == {"success": True, "result": 0}
    late = BatchProcessor(tmp_path, "b", slow, timeout=0.05).process_item(30)
    assert (late["success"], late["retryable"]) == (False, True)
    nap = BatchProcessor(tmp_path, "b", lambda item, task, context: threading.Event().wait(item), timeout=0.05)
    assert "longer than 0.05 s" in nap.process_item(2)["error"]
    assert "has no handler" in BatchProcessor(tmp_path, "b").process_item(1)["error"]
    assert BatchProcessor(tmp_path, "b", handler).process_item(Mute())["success"] is False


def test_two_of_four_fail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Failing items neither stop the batch nor raise; the result says which, and half is half."""
    result = BatchProcessor(tmp_path, "b", handler).run([1, ValueError("a"), 3, KeyError("b")])
    assert [type(outcome) for outcome in result.outcomes] == [Ok, Failed, Ok, Failed]
    assert (result.stats["processed"], result.stats["failed"], result.stats["success_rate"]) == (2, 2, 50.0)
    assert not result.ok
    assert isinstance(result.outcome, Ok)
    assert result.failed[1].error.type == "ValueError"
    assert len(caplog.records) == 2
    with pytest.raises(ExceptionGroup, match="2 of 4 items of batch 'b' failed") as raised:
        result.raise_for_failures()
    first = raised.value.exceptions[0]
    assert isinstance(first, ItemFailed)
    assert (first.index, first.failed.error.message) == (1, "a")


def test_all_failed_is_failed(tmp_path: Path) -> None:
    """A batch of which no item ended well has failed, whatever is tolerated."""
    for tolerated in (None, 1.0, 5):
        batch = BatchProcessor(tmp_path, "b", handler, tolerated_failures=tolerated)
        result = batch.run([ValueError("a"), ValueError("b")])
        assert isinstance(result.outcome, Failed)
        assert result.outcome.error.message == "2 of 2 items failed, and none ended well"
        assert result.status.value == "failed"


def test_fail_fast(tmp_path: Path) -> None:
    """Nothing is begun after the first failure, and the batch has failed."""
    result = BatchProcessor(tmp_path, "b", handler, fail_fast=True, max_concurrency=1).run([1, ValueError("a"), 3, 4])
    assert [type(outcome) for outcome in result.outcomes] == [Ok, Failed, Skipped, Skipped]
    assert result.stats["skipped"] == 2
    assert isinstance(result.outcome, Failed)


@pytest.mark.parametrize(
    ("tolerated", "ended", "ok"), [(0, 1, False), (1, 3, False), (2, 4, True), (0.25, 3, False), (0.5, 4, True)]
)
def test_tolerated_failures(tolerated: float, ended: int, ok: bool, tmp_path: Path) -> None:
    """As many failures as are tolerated, as a number or a share of all, exactly; one more stops the batch."""
    batch = BatchProcessor(tmp_path, "b", handler, tolerated_failures=tolerated, max_concurrency=1)
    result = batch.run([ValueError("a"), 2, ValueError("c"), 4])
    assert sum(not isinstance(outcome, Skipped) for outcome in result.outcomes) == ended
    assert isinstance(result.outcome, Ok) is ok


def test_a_share_of_unknown_many_is_judged_in_the_end(tmp_path: Path) -> None:
    """With items whose number nobody knows, a share is looked at when all were read."""
    batch = BatchProcessor(tmp_path, "b", handler, tolerated_failures=0.5)
    result = batch.run(iter([ValueError("a"), ValueError("b"), 3]))
    assert isinstance(result.outcome, Failed)
    assert result.outcome.error.message == "2 of 3 items failed, 1 tolerated"


def test_transient_errors_are_tried_again(tmp_path: Path) -> None:
    """An OSError is tried again after growing delays, a ValueError is not; attempts and retries are counted."""
    clock, waits, tries = FakeClock(), list[float](), list[tuple[str, int]]()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.advance(seconds)

    def flaky(item: str, task: Any, context: Any) -> str:
        tries.append((item, context.attempt))
        if item == "bad":
            raise ValueError(item)
        if context.attempt < 3:
            raise RuntimeError("wrapped") from OSError("busy")
        return item

    retry = Retry(max_attempts=3, delay=1.0, backoff=2.0)
    batch = BatchProcessor(tmp_path, "b", flaky, retry=retry, clock=clock, sleep=sleep, max_concurrency=1)
    result = batch.run(["bad", "busy"])
    assert tries == [("bad", 1), ("busy", 1), ("busy", 2), ("busy", 3)]
    assert waits == [1.0, 2.0]
    assert result.results == ["busy"]
    assert result.failed[0].attempts == 1
    assert result.stats["retried"] == 2


def test_retry_on_is_taken_at_its_word(tmp_path: Path) -> None:
    """With `retry_on` exactly those errors are tried again; without any Retry none is."""
    tries: list[int] = []

    def fails(item: Any, task: Any, context: Any) -> None:
        tries.append(context.attempt)
        raise ValueError("x")

    BatchProcessor(tmp_path, "a", fails, retry=Retry(max_attempts=2, delay=0, retry_on=ValueError)).run([1])
    assert tries == [1, 2]
    tries.clear()
    BatchProcessor(tmp_path, "b", fails, retry=Retry(max_attempts=2, delay=0, retry_on=OSError)).run([1])
    BatchProcessor(tmp_path, "c", handler).run([OSError("x")])
    assert tries == [1]


def test_time_limits_hold_for_every_handler(tmp_path: Path) -> None:
    """A function that takes too long is left behind, a coroutine cancelled, and the others go on."""
    cancelled: list[int] = []

    async def task(item: int, _: Any, context: Any) -> int:
        try:
            await asyncio.sleep(item * 30)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    def nap(item: int, _: Any, context: Any) -> int:
        threading.Event().wait(item * 2)
        return item

    for one in (task, nap):
        result = BatchProcessor(tmp_path, "b", one, timeout=0.2).run([0, 1, 0])
        assert result.results == [0, 0]
        assert result.failed[1].error.type.endswith("TimeIsUp")
        assert result.failed[1].attempts == 1
    assert cancelled == [1]


def test_a_result_that_cannot_be_kept_fails_its_item_alone(tmp_path: Path) -> None:
    """In a durable store it is a failure of that item, which names the spot."""

    def give(item: int, task: Any, context: Any) -> Any:
        return {"connection": object()} if item == 1 else item

    with BatchProcessor(tmp_path, "b", give, store=tmp_path / "runs.db") as batch:
        result = batch.run([0, 1, 2])
    assert result.results == [0, 2]
    assert "result['connection']: object cannot be kept" in result.failed[1].error.message


def test_callbacks_that_raise_hurt_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are reported to the log, and called again for the next."""
    told: list[Any] = []

    def bad(*args: Any) -> None:
        told.append(args)
        raise RuntimeError("callback")

    batch = BatchProcessor(tmp_path, "b", handler)
    result = batch.run([1, ValueError("x"), 3], on_progress=bad, on_item_error=bad)
    assert result.results == [1, 3]
    assert len(told) == 4
    assert sum("a callback of the batch raised" in record.getMessage() for record in caplog.records) == 4


def test_on_item_error_tells_item_and_outcome(tmp_path: Path) -> None:
    """It is called once for each item that failed, after its last attempt."""
    told: list[tuple[Any, Failed]] = []
    error = OSError("x")
    batch = BatchProcessor(tmp_path, "b", handler, retry=Retry(max_attempts=3, delay=0))
    batch.run([1, error], on_item_error=lambda item, failed: told.append((item, failed)))
    ((item, failed),) = told
    assert item is error
    assert (failed.error.message, failed.attempts) == ("x", 3)


def test_a_failing_aggregator_fails_the_batch(tmp_path: Path) -> None:
    """The items keep their results; run again, the batch has them all and tells of the failure."""

    def bad(results: list[Any]) -> Any:
        raise ZeroDivisionError("mean")

    batch = BatchProcessor(tmp_path, "b", handler)
    result = batch.run([1, 2], aggregator=bad)
    assert isinstance(result.outcome, Failed)
    assert result.results == [1, 2]
    with pytest.raises(BatchFailed, match="ZeroDivisionError: mean"):
        result.raise_for_failures()


def test_cancelled_items_are_abandoned(tmp_path: Path) -> None:
    """Cancelled from a handler's own thread: what was under way is abandoned, the rest not begun."""

    def stop(item: int, task: Any, context: Any) -> int:
        if item == 2:
            batch.cancel("enough")
        return item

    batch = BatchProcessor(tmp_path, "b", stop, max_concurrency=1)
    result = batch.run([1, 2, 3])
    assert [type(outcome) for outcome in result.outcomes] == [Ok, Abandoned, Skipped]
    assert result.outcome == Abandoned("enough", this_process())
    assert not result.ok
    with pytest.raises(BatchFailed, match="enough"):
        result.raise_for_failures()
