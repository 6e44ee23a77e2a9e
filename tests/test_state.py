"""The state of a batch, in the document's shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cortical.batch import BatchProcessor, Retry


def handler(item: Any, task: Any, context: Any) -> Any:
    if item in ("bad", ["bad"]) or (item == "flaky" and context.attempt == 1):
        raise OSError(f"{item} is bad")
    return f"done {item}"


def test_a_new_batch_has_an_empty_state(tmp_path: Path) -> None:
    """Nothing processed, nothing failed, all counts zero."""
    state = BatchProcessor(tmp_path, "b").state
    assert state["processed"] == []
    assert state["failed"] == {}
    assert {name: state["stats"][name] for name in ("total", "processed", "failed", "retried")} == {
        "total": 0,
        "processed": 0,
        "failed": 0,
        "retried": 0,
    }


def test_what_was_processed_stands_in_order(tmp_path: Path) -> None:
    """`processed` holds the items in the order of the input, `failed` what is told of each that failed."""
    batch = BatchProcessor(tmp_path, "b", handler, max_concurrency=4)
    result = batch.run(["a", "bad", "007", None, 7, 0.5])
    assert batch.state["processed"] == ["a", "007", None, 7, 0.5]
    assert batch.state["failed"] == {"bad": {"success": False, "error": "bad is bad", "item": "bad", "retryable": True}}
    assert batch.state["stats"] == result.stats
    assert result.processed == ["a", "007", None, 7, 0.5]


def test_equal_and_unhashable_items_keep_their_failures(tmp_path: Path) -> None:
    """Each failure has a key of its own, also where the item cannot be one, or is there already."""
    batch = BatchProcessor(tmp_path, "b", handler)
    batch.run(["bad", ["bad"], "bad", "a"])
    assert list(batch.state["failed"]) == ["bad", "['bad'] #1", "bad #2"]


def test_retries_are_counted(tmp_path: Path) -> None:
    """`retried` counts the attempts beyond the first, of items that ended well and that failed."""
    batch = BatchProcessor(tmp_path, "b", handler, retry=Retry(max_attempts=3, delay=0))
    batch.run(["flaky", "bad", "a"])
    stats = batch.state["stats"]
    assert (stats["total"], stats["processed"], stats["failed"], stats["retried"]) == (3, 2, 1, 3)


def test_an_empty_batch(tmp_path: Path) -> None:
    """It succeeds, with zeros and 100 %."""
    result = BatchProcessor(tmp_path, "b", handler).run([])
    assert result.ok
    assert result.outcomes == []
    assert (result.stats["total"], result.stats["processed"], result.stats["success_rate"]) == (0, 0, 100.0)


def test_start_end_and_seconds(tmp_path: Path) -> None:
    """They are told in seconds since the epoch."""
    stats = BatchProcessor(tmp_path, "b", handler).run(["a"]).stats
    assert stats["seconds"] == stats["end"] - stats["start"] >= 0


def test_items_of_an_iterator_are_known_by_their_text(tmp_path: Path) -> None:
    """Small values are as they were; others, which nobody holds any more, stand by what they are called."""
    batch = BatchProcessor(tmp_path, "b", handler)
    batch.run(iter(["a", 7, (1, 2), Path("x/y")]))
    assert batch.state["processed"] == ["a", 7, "(1, 2)", "x/y"]


def test_the_state_can_be_changed_by_nobody(tmp_path: Path) -> None:
    """It is made anew from the log each time."""
    batch = BatchProcessor(tmp_path, "b", handler)
    batch.run(["a"])
    batch.state["processed"].append("b")
    assert batch.state["processed"] == ["a"]
