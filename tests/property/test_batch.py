"""Whatever fails, is stopped and run again, and in whatever shape: each item ends once, in its place."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings, strategies as st

from cortical.batch import BatchProcessor, Retry
from cortical.batch.items import key_of, short_text
from cortical.core.outcome import Failed, Ok
from cortical.store import MemoryStore

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=6,
)


@given(st.lists(values, max_size=12), st.integers(1, 5), st.one_of(st.none(), st.integers(1, 4)), st.booleans())
@settings(max_examples=80, deadline=None)
def test_any_items_come_back_in_order(items: list[Any], workers: int, chunk: int | None, lazily: bool) -> None:
    """Values of any kind, by any number of workers, chunked or not, from a list or an iterator."""
    with tempfile.TemporaryDirectory() as folder:
        batch = BatchProcessor(
            folder,
            "b",
            lambda item, *_: item,
            max_concurrency=workers,
            chunk_size=chunk,
            store=MemoryStore(strict=True),
        )
        first = batch.run(iter(items) if lazily else items).raise_for_failures()
        assert repr(first.results) == repr(items)
        assert repr(batch.run(items).results) == repr(items)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=12),
    st.integers(1, 4),
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(0, 3)),
)
@settings(max_examples=80, deadline=None)
def test_run_again_until_all_is_done(failures: list[int], workers: int, attempts: int, tolerated: int | None) -> None:
    """Items fail so often each, and runs stop early: in the end each has succeeded once, and none ran after that."""
    calls = [0] * len(failures)

    def work(item: int, task: Any, context: Any) -> int:
        calls[item] += 1
        if calls[item] <= failures[item]:
            raise OSError(item)
        return item

    retry = Retry(max_attempts=attempts, delay=0)
    batch = BatchProcessor(
        Path.cwd(), "b", work, max_concurrency=workers, retry=retry, tolerated_failures=tolerated, clock=_Clock()
    )
    for _ in range(4 * len(failures) + 4):
        result = batch.run(range(len(failures)))
        assert len(result.outcomes) == len(failures)
        stats = result.stats
        assert stats["processed"] + stats["failed"] + stats["skipped"] == stats["total"]
        assert isinstance(result.outcome, Failed) == (
            bool(stats["failed"])
            and (not stats["processed"] or (tolerated is not None and stats["failed"] > tolerated))
        )
        if result.ok and not stats["skipped"]:
            break
    assert result.results == list(range(len(failures)))
    assert calls == [count + 1 for count in failures]
    assert all(isinstance(outcome, Ok) for outcome in result.outcomes)


@given(values)
@settings(max_examples=200, deadline=None)
def test_every_value_has_a_name_and_a_key(value: Any) -> None:
    """The name is short, one that can be written down and says something; the key is the same for equal encodings."""
    name = short_text(value)
    assert name.strip()
    assert len(name) <= 700
    name.encode()
    assert key_of(value) == key_of(value)


class _Clock:
    """A clock whose time goes on by itself."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        self.now += 1.0
        return self.now
