"""What kind of trouble an error is."""

from __future__ import annotations

import errno
import subprocess
import urllib.error
from email.message import Message

import pytest

from cortical.core.errors import (
    BudgetExhausted,
    Conflict,
    EncodeError,
    InvalidInput,
    LeaseHeld,
    LeaseLost,
    LockTimeout,
    RunStateError,
    StoreDamaged,
    StoreError,
    WrongType,
)
from cortical.core.outcome import Failed, Failure
from cortical.recovery import Classification, ErrorClass, classify

TRANSIENT, RESOURCE, DEPENDENCY = ErrorClass.TRANSIENT, ErrorClass.RESOURCE, ErrorClass.DEPENDENCY
STATE, PROGRAMMING, UNKNOWN = ErrorClass.STATE, ErrorClass.PROGRAMMING, ErrorClass.UNKNOWN


class Busy(Exception):
    pass


class VeryBusy(Busy):
    pass


class Rude(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def http(code: int, text: str) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("http://x", code, text, Message(), None)


KNOWN: list[tuple[BaseException, ErrorClass]] = [
    (ConnectionError("gone"), TRANSIENT),
    (ConnectionResetError("gone"), TRANSIENT),
    (BrokenPipeError("gone"), TRANSIENT),
    (TimeoutError(), TRANSIENT),
    (InterruptedError(), TRANSIENT),
    (subprocess.TimeoutExpired("x", 1), TRANSIENT),
    (LockTimeout("r", "thread 'a'", 1), TRANSIENT),
    (Conflict("r", 3), TRANSIENT),
    (LeaseHeld("r", "process 1", 2), TRANSIENT),
    (RuntimeError("HTTP Error 429: Too Many Requests"), TRANSIENT),
    (RuntimeError("the server answered with status code 503"), TRANSIENT),
    (RuntimeError("502 Bad Gateway"), TRANSIENT),
    (OSError(errno.EHOSTUNREACH, "No route to host"), TRANSIENT),
    (MemoryError(), RESOURCE),
    (OSError(errno.ENOSPC, "No space left on device"), RESOURCE),
    (OSError(errno.EMFILE, "Too many open files"), RESOURCE),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), RESOURCE),
    (OSError(errno.ENOSPC, "Auf dem Gerät ist kein Speicherplatz mehr verfügbar"), RESOURCE),
    (RuntimeError("Disk full"), RESOURCE),
    (StoreError("runs.db: database or disk is full"), RESOURCE),
    (BudgetExhausted("r", "tokens", 10, "r"), RESOURCE),
    (ImportError("no x"), DEPENDENCY),
    (ModuleNotFoundError("no x"), DEPENDENCY),
    (RuntimeError("a dependency is missing"), DEPENDENCY),
    (RunStateError("may not", "r"), STATE),
    (LeaseLost("r"), STATE),
    (StoreDamaged("torn"), STATE),
    (TypeError("no"), PROGRAMMING),
    (NameError("no"), PROGRAMMING),
    (UnboundLocalError("no"), PROGRAMMING),
    (AttributeError("no"), PROGRAMMING),
    (SyntaxError("no"), PROGRAMMING),
    (AssertionError("no"), PROGRAMMING),
    (NotImplementedError("no"), PROGRAMMING),
    (RecursionError("no"), PROGRAMMING),
    (EncodeError("x", "a lock"), PROGRAMMING),
    (ValueError("no"), UNKNOWN),
    (KeyError("no"), UNKNOWN),
    (RuntimeError("no"), UNKNOWN),
    (RuntimeError("independent"), UNKNOWN),
    (OSError(errno.ENOENT, "No such file"), UNKNOWN),
    (RuntimeError("HTTP Error 404: Not Found"), UNKNOWN),
    (Rude(), UNKNOWN),
    (KeyboardInterrupt(), UNKNOWN),
]


@pytest.mark.parametrize(("error", "kind"), KNOWN, ids=lambda value: repr(value) if type(value) is not Rude else "Rude")
def test_the_table(error: BaseException, kind: ErrorClass) -> None:
    """A live exception and what was recorded of it are of the same class."""
    assert classify(error) is kind
    assert classify(Failed.of(error)) is kind
    assert classify(Failure.of(error)) is kind


def test_an_http_error_with_its_cause() -> None:
    """An error of urllib is known by its message."""
    with http(503, "Service Unavailable") as unavailable, http(404, "Not Found") as not_found:
        assert classify(unavailable) is TRANSIENT
        assert classify(not_found) is UNKNOWN


def raised(outer: Exception, inner: Exception, *, explicit: bool) -> Exception:
    try:
        try:
            raise inner
        except type(inner) as cause:
            if explicit:
                raise outer from cause
            raise outer  # noqa: B904  # the implicit context is what is looked at
    except type(outer) as error:
        return error


@pytest.mark.parametrize("explicit", [True, False])
def test_the_cause_decides_where_the_error_is_unknown(explicit: bool) -> None:
    """Causes and contexts are walked, in a live chain and in a recorded one."""
    error = raised(RuntimeError("step 3"), ConnectionResetError("gone"), explicit=explicit)
    assert classify(error) is TRANSIENT
    assert classify(Failed.of(error)) is TRANSIENT


def test_the_nearest_error_decides() -> None:
    """Where error and cause are both known by their type, the error's own class counts."""
    error = raised(TypeError("wrong"), ConnectionResetError("gone"), explicit=True)
    assert classify(error) is classify(Failed.of(error)) is PROGRAMMING


def test_a_type_in_the_chain_goes_before_a_message() -> None:
    """A text that only looks like a class does not outweigh the type of the cause."""
    error = raised(RuntimeError("dependency injection failed"), TypeError("wrong"), explicit=True)
    assert classify(error) is classify(Failed.of(error)) is PROGRAMMING


def test_a_chain_that_bites_its_tail() -> None:
    """A cause that is its own cause ends the walk."""
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert classify(first) is UNKNOWN


def test_types_that_this_process_has_not_loaded() -> None:
    """A recorded type of an unknown module is known by its own name."""
    assert classify(Failure("redis.exceptions.ConnectionError", "x")) is TRANSIENT
    assert classify(Failure("cortical.agents.family.ChildFailed", "x")) is DEPENDENCY
    assert classify(Failure("nowhere.at.all.Strange", "x")) is UNKNOWN
    assert classify(Failure("", "")) is UNKNOWN
    assert classify(Failure("...", "")) is UNKNOWN
    assert classify(Failure("mod.func.<locals>.TimeoutError", "x")) is TRANSIENT


def test_rules_of_the_user_come_first() -> None:
    """A rule by type, with subclasses, outweighs all that are built in; the first added goes first."""
    table = (
        Classification()
        .with_rule(TRANSIENT, kind=Busy)
        .with_rule(STATE, message="stale")
        .with_rule(RESOURCE, kind=Busy)
    )
    assert table.classify(VeryBusy("stale")) is TRANSIENT
    assert table.classify(Failed.of(VeryBusy("x"))) is TRANSIENT
    assert table.classify(TypeError("STALE handle")) is STATE
    assert table.classify(TypeError("x")) is PROGRAMMING
    assert classify(VeryBusy("x")) is UNKNOWN


def test_rules_by_name_and_by_function() -> None:
    """A rule knows a type by its name, short or whole; a function is asked of live exceptions alone."""
    table = Classification().with_rule(STATE, kind="Busy").with_rule(DEPENDENCY, when=lambda error: error.args == (7,))
    assert table.classify(VeryBusy()) is STATE
    assert table.classify(Failure("elsewhere.Busy", "")) is STATE
    assert table.classify(ValueError(7)) is DEPENDENCY
    assert table.classify(Failed.of(ValueError(7))) is UNKNOWN


def test_all_that_a_rule_says_must_hold() -> None:
    """Type, message and function are joined."""
    table = Classification().with_rule(
        TRANSIENT, kind=ValueError, message="^try", when=lambda error: len(error.args) == 1
    )
    assert table.classify(ValueError("try again")) is TRANSIENT
    assert table.classify(KeyError("try again")) is UNKNOWN
    assert table.classify(ValueError("do not try")) is UNKNOWN
    assert table.classify(ValueError("try", 2)) is UNKNOWN


def test_what_is_no_rule() -> None:
    """A rule that could know no error, or is put together wrongly, is refused at once."""
    table = Classification()
    with pytest.raises(InvalidInput, match="knows errors by something"):
        table.with_rule(TRANSIENT)
    with pytest.raises(InvalidInput, match="no regular expression"):
        table.with_rule(TRANSIENT, message="(")
    with pytest.raises(WrongType, match="exception type"):
        table.with_rule(TRANSIENT, kind=int)  # type: ignore[arg-type]
    with pytest.raises(WrongType, match="cannot be called"):
        table.with_rule(TRANSIENT, when=3)  # type: ignore[arg-type]
    with pytest.raises(WrongType, match="ErrorClass"):
        table.with_rule("transient", kind=ValueError)  # type: ignore[arg-type]
    with pytest.raises(WrongType, match="what is classified"):
        table.classify("boom")  # type: ignore[arg-type]
