"""The state of a batch and of the tree it stands in are one log: other processes, stores and faces see the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cortical.batch import BatchChanged, BatchProcessor
from cortical.core.errors import LeaseHeld, RunStateError
from cortical.core.outcome import Abandoned, Failed, Ok, Skipped
from cortical.monitoring import ProgressReport
from cortical.store import Store, open_store

ran: list[Any] = []
broken: set[Any] = set()


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()
    broken.clear()


def handler(item: Any, task: Any, context: Any) -> Any:
    ran.append(item)
    if item in broken:
        raise ValueError(f"{item} is broken")
    return f"{item}!"


def other(item: Any, task: Any, context: Any) -> Any:
    return handler(item, task, context)


def test_state_is_read_from_the_store(tmp_path: Path, any_store: Store) -> None:
    """Another processor of the same name sees the state without running anything."""
    broken.add("b")
    BatchProcessor(tmp_path, "letters", handler, store=any_store).run(["a", "b", "c"])
    state = BatchProcessor(tmp_path, "letters", store=any_store).state
    assert state["processed"] == ["a", "c"]
    assert state["failed"]["b"]["error"] == "b is broken"
    assert state["stats"]["total"] == 3


def test_what_is_done_is_not_run_again(tmp_path: Path, any_store: Store) -> None:
    """Run again, a batch that is done returns its results without calling anything; so it does in another life."""
    items = ["a", "b", "c"]
    first = BatchProcessor(tmp_path, "letters", handler, store=any_store).run(items)
    ran.clear()
    again = BatchProcessor(tmp_path, "letters", handler, store=any_store).run(items)
    assert ran == []
    assert again.results == first.results == ["a!", "b!", "c!"]
    assert again.run_id == first.run_id
    assert again.stats == first.stats


def test_failed_items_run_again(tmp_path: Path, any_store: Store) -> None:
    """Those that failed, and only those, are run again, in another life; results of both stand in input order."""
    broken.update("bd")
    batch = BatchProcessor(tmp_path, "letters", handler, store=any_store)
    first = batch.run(list("abcd"))
    assert first.stats["failed"] == 2
    ran.clear()
    broken.discard("b")
    kept = batch.run(list("abcd"), retry_failed=False)
    assert (ran, kept.run_id, kept.failed.keys()) == ([], first.run_id, {1, 3})
    second = batch.run(list("abcd"))
    assert ran == ["b", "d"]
    assert [type(outcome) for outcome in second.outcomes] == [Ok, Ok, Ok, Failed]
    assert second.results == ["a!", "b!", "c!"]
    assert second.run_id != first.run_id
    assert batch.state["processed"] == ["a", "b", "c"]
    broken.clear()
    assert batch.run(list("abcd")).ok


def test_a_batch_that_was_stopped_goes_on(tmp_path: Path, any_store: Store) -> None:
    """Items that were never begun are run when it is run again."""
    broken.add(2)
    batch = BatchProcessor(tmp_path, "n", handler, store=any_store, fail_fast=True, max_concurrency=1)
    assert isinstance(batch.run(range(6)).outcomes[5], Skipped)
    broken.clear()
    ran.clear()
    result = batch.run(range(6))
    assert ran == [2, 3, 4, 5]
    assert result.ok
    assert result.results == [f"{number}!" for number in range(6)]


def test_an_interrupted_batch_stays_open_and_goes_on(tmp_path: Path, any_store: Store) -> None:
    """A Ctrl-C leaves the batch open; run again, what was open is entered again in the same run."""

    def interrupted(item: int, task: Any, context: Any) -> Any:
        if item == 3 and not broken:
            broken.add("interrupted")
            raise KeyboardInterrupt
        return handler(item, task, context)

    batch = BatchProcessor(tmp_path, "n", interrupted, store=any_store, max_concurrency=1)
    with pytest.raises(KeyboardInterrupt):
        batch.run(range(6))
    assert ran == [0, 1, 2]
    assert batch.state["stats"]["end"] is None
    result = BatchProcessor(tmp_path, "n", interrupted, store=any_store, max_concurrency=1).run(range(6))
    assert ran == [0, 1, 2, 3, 4, 5]
    assert result.ok
    assert len(batch.journal.refresh("n").children) == 6


def test_what_was_open_is_abandoned_where_items_are_matched_by_key(tmp_path: Path, any_store: Store) -> None:
    """An item that was open when its driver stopped is run again as another child, wherever it stands now."""

    def interrupted(item: str, task: Any, context: Any) -> Any:
        if item == "b" and not broken:
            broken.add("interrupted")
            raise KeyboardInterrupt
        return handler(item, task, context)

    batch = BatchProcessor(tmp_path, "n", interrupted, store=any_store, max_concurrency=1)
    with pytest.raises(KeyboardInterrupt):
        batch.run(["a", "b", "c"])
    assert batch.run(["c", "b", "a"], match="key").results == ["c!", "b!", "a!"]
    assert ran == ["a", "c", "b"]
    children = batch.journal.refresh("n").children
    assert [type(child.outcome) for child in children] == [Ok, Abandoned, Ok, Ok]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (["a", "x", "c"], "item 1 is another than it was"),
        (["a", "b"], "it had 3 items, now there are 2"),
        (["a", "b", "c", "d"], "it had 3 items, now there are 4"),
        (["c", "b", "a"], "item 0 is another"),
    ],
)
@pytest.mark.parametrize("lazily", [False, True])
def test_changed_items_are_refused(
    items: list[str], words: str, lazily: bool, tmp_path: Path, any_store: Store
) -> None:
    """Other items, more or fewer of them are noticed before anything is run."""
    broken.add("b")
    batch = BatchProcessor(tmp_path, "letters", handler, store=any_store)
    batch.run(["a", "b", "c"])
    ran.clear()
    with pytest.raises(BatchChanged, match=words if not lazily else "was begun otherwise"):
        batch.run(iter(items) if lazily else items)
    assert ran == ["b"] * (lazily and len(items) == 4)


def test_a_changed_handler_or_task_is_refused(tmp_path: Path, any_store: Store) -> None:
    """Another handler, or the same with another task, is noticed; with match="key" the results are kept."""
    broken.add("b")
    BatchProcessor(tmp_path, "letters", handler, store=any_store).run(["a", "b"], {"size": 1})
    broken.clear()
    with pytest.raises(BatchChanged, match=r"its handler was '.*:handler', now it is '.*:other'"):
        BatchProcessor(tmp_path, "letters", other, store=any_store).run(["a", "b"], {"size": 1})
    with pytest.raises(BatchChanged, match="what its task is told is not what it was"):
        BatchProcessor(tmp_path, "letters", handler, store=any_store).run(["a", "b"], {"size": 2})
    ran.clear()
    result = BatchProcessor(tmp_path, "letters", other, store=any_store).run(["a", "b"], {"size": 2}, match="key")
    assert (ran, result.results) == (["b"], ["a!", "b!"])


def test_lambdas_are_told_apart(tmp_path: Path) -> None:
    """A function without a name of its own is known by its code."""
    store = open_store(tmp_path / "runs.db")
    BatchProcessor(tmp_path, "b", lambda item, task, context: 1 / item, store=store).run([1, 0])
    with pytest.raises(BatchChanged, match="its handler was"):
        BatchProcessor(tmp_path, "b", lambda item, task, context: 2 / item, store=store).run([1, 0])
    store.close()


def test_matched_by_key_the_list_may_change(tmp_path: Path, any_store: Store) -> None:
    """With match="key" items keep their results wherever they stand, equal ones in their order; new ones are run."""
    batch = BatchProcessor(tmp_path, "letters", handler, store=any_store, max_concurrency=1)
    batch.run(["a", "b", "a"])
    ran.clear()
    result = batch.run(["new", "a", "a", "a"], match="key")
    assert ran == ["new", "a"]
    assert result.results == ["new!", "a!", "a!", "a!"]
    ran.clear()
    assert batch.run(["b", "a", "new", "a", "a"], match="key").ok
    assert ran == []


def test_a_key_function_says_what_an_item_is(tmp_path: Path, any_store: Store) -> None:
    """Items with the same key are the same, whatever else of them has changed."""
    batch = BatchProcessor(tmp_path, "rows", lambda item, *_: item["v"], store=any_store, key=lambda item: item["id"])
    batch.run([{"id": 1, "v": "x"}, {"id": 2, "v": "y"}])
    assert batch.run([{"id": 1, "v": "z"}, {"id": 2, "v": "y"}]).results == ["x", "y"]
    with pytest.raises(BatchChanged, match="item 0 is another"):
        batch.run([{"id": 9, "v": "x"}, {"id": 2, "v": "y"}])


def test_odd_items_are_known_again(tmp_path: Path) -> None:
    """Equal items, unhashable ones, "007" and 7, None, NaN, sets, names with "/" and of 300 characters."""
    items: list[Any] = [
        *["same", "same", ["un", "hashable"], {"k": [1]}, "007", 7, 7.0, None, float("nan"), {"x", "y", "z"}, True, 1],
        *["a/b/c", "x" * 300, "", " ", "\n", "\ud800", b"bytes", Path("p/q"), (1, 2), "日本", 10**400],
    ]
    with BatchProcessor(tmp_path, "odd/名前", lambda item, *_: [item], store=tmp_path / "runs.db") as batch:
        first = batch.run(items).raise_for_failures()
        again = batch.run(items)
    given = [[sorted(item)] if isinstance(item, set) else [item] for item in items]
    for result in (first, again):
        got = [[sorted(item)] if isinstance(item, set) else [item] for (item,) in result.results]
        assert repr(got) == repr(given)
    assert again.run_id == first.run_id


def test_sets_are_known_in_every_process() -> None:
    """The key of a set does not depend on the order in which a process happens to hold it."""
    code = "from cortical.batch.items import key_of; print(key_of({'x', 'y', ('z', frozenset('abc'))}))"
    keys = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(keys) == 1


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    """While somebody runs a batch, a second driver of the same name is refused, and told who it is."""
    told: list[str] = []

    def second(item: int, task: Any, context: Any) -> None:
        with BatchProcessor(tmp_path, "b", second, store=tmp_path / "runs.db") as rival:
            try:
                rival.run([1])
            except LeaseHeld as held:
                told.append(held.holder)

    with BatchProcessor(tmp_path, "b", second, store=tmp_path / "runs.db") as batch:
        assert batch.run([1]).ok
    assert len(told) == 1
    assert told[0].startswith("process ")


def test_a_name_of_another_kind_is_refused(tmp_path: Path, any_store: Store) -> None:
    """A batch does not take the place of a loop."""
    from cortical.control import LoopController

    LoopController("taken", store=any_store)
    with pytest.raises(RunStateError, match="'taken' is the name of a loop"):
        BatchProcessor(tmp_path, "taken", handler, store=any_store).run([1])


def test_progress_is_known_to_everybody(tmp_path: Path, any_store: Store) -> None:
    """How many items there are is noted, so that whoever looks sees how far the batch is."""
    seen: list[tuple[int, int | None]] = []

    def look(item: int, task: Any, context: Any) -> None:
        report = ProgressReport.of(batch, "b")
        seen.append((report.done, report.total))

    batch = BatchProcessor(tmp_path, "b", look, store=any_store, max_concurrency=1)
    batch.run(range(4))
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_cancelled_from_outside_and_run_again(tmp_path: Path, any_store: Store) -> None:
    """Cancelled, a batch is abandoned; run again it does what is left."""

    def stop(item: int, task: Any, context: Any) -> int:
        ran.append(item)
        if item == 1 and len(ran) == 2:
            batch.cancel()
        return item

    batch = BatchProcessor(tmp_path, "b", stop, store=any_store, max_concurrency=1)
    assert isinstance(batch.run(range(4)).outcome, Abandoned)
    result = batch.run(range(4))
    assert ran == [0, 1, 1, 2, 3]
    assert result.results == [0, 1, 2, 3]
