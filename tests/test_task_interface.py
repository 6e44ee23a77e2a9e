"""One interface for all handlers of batches, and the wrapper that gives a batch task its items and context."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cortical.batch import BatchProcessor, create_batch_task_handler, register_task, task_names
from cortical.batch.tasks import Handler, find_task
from cortical.core.errors import InvalidInput
from cortical.store import MemoryStore


@create_batch_task_handler
def gather(items: Any, step: Mapping[str, Any], batch_context: dict[str, Any]) -> tuple[Any, ...]:
    """Gather what it was given."""
    return items, step, batch_context


def test_items_and_context_reach_the_function(tmp_path: Path) -> None:
    """The function is given the step's items, the step, and the context of its batch."""
    step = {"name": "thumbs", "items": [1, 2], "retry": {"max_attempts": 3}}
    items, given, context = gather(step, {"engine": "the engine"}, tmp_path)
    assert items == [1, 2]
    assert given is step
    assert context == {
        "workspace": tmp_path,
        "engine": "the engine",
        "batch_name": "thumbs",
        "retry_config": {"max_attempts": 3},
    }


def test_what_a_step_leaves_out_has_a_default(tmp_path: Path) -> None:
    """Without a name, engine and retry there are defaults, and `iterate_over` stands for items."""
    items, _, context = gather({"iterate_over": ("a",)}, {}, tmp_path)
    assert items == ("a",)
    assert context == {"workspace": tmp_path, "engine": None, "batch_name": "unnamed_batch", "retry_config": {}}


@pytest.mark.parametrize("step", [{}, {"items": []}, {"items": None, "iterate_over": ()}])
def test_no_items_are_refused(step: dict[str, Any], tmp_path: Path) -> None:
    """None, or an empty list of them, raises ValueError with the document's words."""
    with pytest.raises(ValueError, match=r"^No items provided for batch processing$"):
        gather(step, {}, tmp_path)


def test_the_first_that_has_items_is_taken(tmp_path: Path) -> None:
    """An empty `items` gives way to `iterate_over`."""
    assert gather({"items": [], "iterate_over": [3]}, {}, tmp_path)[0] == [3]


def test_a_generator_of_items_is_handed_on_unread(tmp_path: Path) -> None:
    """What has no length is not looked into."""
    items = iter(range(3))
    assert gather({"items": items}, {}, tmp_path)[0] is items
    assert list(items) == [0, 1, 2]


def test_name_and_docstring_are_kept() -> None:
    """The wrapped function is still called what it was."""
    assert gather.__name__ == "gather"
    assert gather.__doc__ == "Gather what it was given."


def test_a_registered_handler_is_found_by_name(tmp_path: Path) -> None:
    """A handler can be given by the name it was registered under, to the processor or in the task."""

    @register_task("double it")
    def double(item: int, task: Mapping[str, Any], context: Mapping[str, Any]) -> int:
        return item * 2

    assert "double it" in task_names()
    assert BatchProcessor(tmp_path, "a", "double it").run([1, 2]).results == [2, 4]
    assert BatchProcessor(tmp_path, "b").run([1, 2], "double it").results == [2, 4]
    assert BatchProcessor(tmp_path, "c").run([3], {"task": "double it"}).results == [6]


def scaled(item: int, task: Mapping[str, Any], context: Mapping[str, Any]) -> int:
    factor: int = task["factor"]
    return item * factor


class TestPrepared:
    """A handler that does once for a batch what is the same for all its items."""

    def test_it_is_prepared_once_for_each_batch(self, tmp_path: Path) -> None:
        """`prepare` is called with the task when a batch begins; what it returns is called for the items."""
        prepared: list[int] = []

        def prepare(task: Mapping[str, Any]) -> Handler:
            prepared.append(task["factor"])
            factor = task["factor"]
            return lambda item, task, context: item * factor

        register_task("prepared scaling", prepare=prepare)(scaled)
        assert BatchProcessor(tmp_path, "a", "prepared scaling").run([1, 2, 3], {"factor": 2}).results == [2, 4, 6]
        limited = BatchProcessor(tmp_path, "b", "prepared scaling", timeout=60, rate_limit=1000)
        assert limited.run([1, 2, 3], {"factor": 5}).results == [5, 10, 15]
        assert prepared == [2, 5]

    def test_a_handler_in_other_processes_is_not(self, tmp_path: Path) -> None:
        """Where the handler is called in processes of its own, it is called as it was registered."""

        def prepare(task: Mapping[str, Any]) -> Handler:
            raise AssertionError("nobody asks for it")

        register_task("unprepared scaling", prepare=prepare)(scaled)
        batch = BatchProcessor(tmp_path, "a", "unprepared scaling", workers="process")
        assert batch.run([1, 2], {"factor": 3}).results == [3, 6]

    def test_what_cannot_be_prepared_is_refused_at_the_door(self, tmp_path: Path) -> None:
        """What `prepare` raises comes to the caller, and no batch is begun."""

        def prepare(task: Mapping[str, Any]) -> Handler:
            raise InvalidInput("no factor is known")

        register_task("refused scaling", prepare=prepare)(scaled)
        store = MemoryStore()
        batch = BatchProcessor(tmp_path, "a", "refused scaling", store=store)
        with pytest.raises(InvalidInput, match="no factor is known"):
            batch.run([1], {"factor": 3})
        assert store.roots() == []


def test_an_unknown_name_teaches(tmp_path: Path) -> None:
    """A name that nobody registered is refused when the batch is defined, with the nearest that there is."""
    with pytest.raises(InvalidInput, match="no task is called 'shel'; did you mean 'shell'"):
        BatchProcessor(tmp_path, "b", "shel")


def test_a_name_is_one_handlers() -> None:
    """A name that is taken is not given to another handler, nor are those of the handlers that come with it."""

    def one(item: Any, task: Any, context: Any) -> None: ...

    def other(item: Any, task: Any, context: Any) -> None: ...

    register_task("only once")(one)
    assert register_task("only once")(one) is one
    with pytest.raises(InvalidInput, match="is taken"):
        register_task("only once")(other)
    with pytest.raises(InvalidInput, match="'shell' is taken"):
        register_task("shell")(other)


def test_built_in_handlers_are_there() -> None:
    """Python, shell and file handlers need no registering."""
    assert {"python", "shell", "file"} <= set(task_names())
    assert find_task("file").check is not None
