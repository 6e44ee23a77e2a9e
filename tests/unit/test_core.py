"""Small parts of the core."""

from __future__ import annotations

import pytest

from cortical.core import errors
from cortical.core.errors import CorticalError, InvalidInput
from cortical.core.outcome import Failed, Failure, Ok
from cortical.core.status import MOVES, Status
from cortical.core.views import ReadOnlyList
from cortical.reasoning import NestedLoopExecutor
from cortical.testing import FakeClock


def test_every_error_has_a_parent_from_the_standard_library() -> None:
    """Whoever guards against the standard error of a kind is told of ours; the tree in the docstring names them all."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CorticalError)]
    assert len(kinds) == 19
    for kind in kinds:
        assert kind.__name__ in (errors.__doc__ or "")
        if kind is not CorticalError:
            parents = {parent for parent in kind.__mro__ if parent.__module__ == "builtins"}
            assert parents - {Exception, BaseException, object}, kind


def test_ends_lead_nowhere() -> None:
    """The table of moves knows every status, and its ends."""
    assert set(MOVES) == set(Status)
    assert {status for status in Status if status.ended} == {
        Status.COMPLETED,
        Status.FAILED,
        Status.SKIPPED,
        Status.ABANDONED,
    }


def test_failures_keep_the_chain() -> None:
    """A failure keeps what was raised and what caused it, nearest first, also implicit causes and cycles."""

    def read() -> None:
        try:
            int("x")
        except ValueError:
            raise RuntimeError("while reading")  # noqa: B904  # an implicit cause is meant

    with pytest.raises(RuntimeError) as caught:
        read()
    failed = Failed.of(caught.value, attempts=3)
    assert (failed.error.type, failed.error.message, failed.attempts) == ("RuntimeError", "while reading", 3)
    assert "test_failures_keep_the_chain" in failed.error.traceback
    assert [cause.type for cause in failed.causes] == ["ValueError"]
    assert failed.root.message == "invalid literal for int() with base 10: 'x'"
    one, two = ValueError("1"), InvalidInput("2")
    one.__cause__, two.__cause__ = two, one
    assert [cause.type for cause in Failed.of(one).causes] == ["cortical.core.errors.InvalidInput"]
    lone = Failed.of(ValueError("alone"))
    assert lone.root is lone.error


def test_suppressed_contexts_are_no_causes() -> None:
    """`raise … from None` means that nothing caused it."""
    error = ValueError("a")
    error.__context__ = KeyError("b")
    error.__suppress_context__ = True
    assert Failed.of(error).causes == ()


def test_errors_whose_text_cannot_be_had() -> None:
    """An error that cannot even say what it is is still kept."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise TypeError

    assert Failure.of(Mute()).message == "<its text could not be had: TypeError>"


def test_outcomes_match() -> None:
    """Outcomes are taken apart by match."""
    match Ok({"success": False}):
        case Ok(value):
            assert value == {"success": False}


def test_read_only_lists() -> None:
    """A read-only list equals lists and tuples of the same items, can be read in all ways, and not hashed."""
    view = ReadOnlyList([1, 2, 3])
    assert view == [1, 2, 3] == ReadOnlyList((1, 2, 3))
    assert view == (1, 2, 3)
    assert view != [1]
    assert view != "123"
    assert (view[0], view[-1], view[1:], len(view), 2 in view, list(reversed(view))) == (
        1,
        3,
        [2, 3],
        3,
        True,
        [3, 2, 1],
    )
    assert repr(view) == "[1, 2, 3]"
    with pytest.raises(TypeError):
        hash(view)


def test_the_fake_clock() -> None:
    """It stands still, goes on when told, and jumps when told so."""
    clock = FakeClock(10.0)
    assert clock.time() == clock.time() == 10.0
    clock.advance(2.5)
    assert clock.time() == 12.5
    clock.now = 1.0
    assert clock.time() == 1.0
    with pytest.raises(InvalidInput, match="jump back"):
        clock.advance(-1)


def test_values_that_cannot_be_copied_are_shared(executor: NestedLoopExecutor) -> None:
    """Inside a transaction a context hands out copies; what cannot be copied, which only memory holds, is shared."""
    import threading

    lock = threading.Lock()
    root = executor.start_root("g", metadata={"lock": lock})
    with executor.transaction():
        executor.advance(root)
        assert executor.get_context(root).metadata["lock"] is lock
