"""What kind of trouble an error is: one table, asked of a live exception and of one that was recorded alike.

A rule knows an error by its type (or that of what caused it), by a function, or by a pattern in its message. Rules of
the user's come first, in the order they were added. Then come those that are built in: types, numbers of the operating
system, messages, and last the errors of the store, whose message says more than their type.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Final, TypeAlias

from attrs import evolve, field, frozen

from cortical.core.checks import require_callable, shown
from cortical.core.errors import (
    BudgetExhausted,
    CheckpointNotFound,
    Conflict,
    InvalidInput,
    LeaseHeld,
    LeaseLost,
    RunNotFound,
    RunStateError,
    StoreError,
    WrongType,
)
from cortical.core.outcome import Failed, Failure, chain, message_of, type_name


class ErrorClass(Enum):
    """What kind of trouble an error is, and so what may help."""

    #: It may be gone at the next try: a connection, a time-out, another writer.
    TRANSIENT = "transient"
    #: Memory, room on the disk, open files or a budget have run out.
    RESOURCE = "resource"
    #: Something that the work stands on is missing or has failed.
    DEPENDENCY = "dependency"
    #: What is recorded is not as the work takes it to be.
    STATE = "state"
    #: The program is wrong: it will fail again.
    PROGRAMMING = "programming"
    UNKNOWN = "unknown"

    __hash__ = object.__hash__


Error: TypeAlias = BaseException | Failed | Failure
Kind: TypeAlias = type[BaseException] | str


@frozen
class ErrorRule:
    """Errors of this class are known by all that is given here.

    Args:
        to: the class.
        kind: an exception type, which its subclasses are too, or the name of one: ``"redis.exceptions.BusyError"``, or
            only ``"BusyError"``.
        when: is given the exception, and answers whether it is one. A recorded failure has none, and is none.
        message: a regular expression, looked for anywhere in the error's message, in capitals or not.
    """

    to: ErrorClass
    kind: Kind | None = None
    when: Callable[[Any], object] | None = None
    message: re.Pattern[str] | None = None

    def fits(self, link: _Link) -> bool:
        """Whether this one error, what caused it apart, is known by the rule."""
        if self.kind is not None and _name(self.kind) not in link.names:
            return False
        if self.message is not None and not self.message.search(link.message):
            return False
        return self.when is None or (link.error is not None and bool(self.when(link.error)))


@frozen
class _Link:
    """One error of a chain: the names of its type and of those above it, its message, and itself if it is alive."""

    names: frozenset[str]
    message: str
    error: BaseException | None


@frozen
class Classification:
    """The table from errors to classes; a value: `with_rule` gives another.

    ::

        table = Classification().with_rule(ErrorClass.TRANSIENT, kind="redis.exceptions.BusyLoadingError")
        table = table.with_rule(ErrorClass.STATE, message="stale")
    """

    own: tuple[ErrorRule, ...] = ()
    built_in: tuple[tuple[ErrorRule, ...], ...] = field(factory=lambda: BUILT_IN, repr=False)

    def with_rule(
        self,
        to: ErrorClass,
        *,
        kind: Kind | None = None,
        when: Callable[[Any], object] | None = None,
        message: str | None = None,
    ) -> Classification:
        """The same table with one rule more, asked after those added before and before all that are built in.

        Raises:
            WrongType, InvalidInput: it is no rule, or says nothing that an error could be known by.
        """
        if not isinstance(to, ErrorClass):
            raise WrongType(f"errors are put into a class of ErrorClass, not into {to!r}")
        if kind is None and when is None and message is None:
            raise InvalidInput("a rule knows errors by something: give it a kind, a function `when` or a message")
        if not (kind is None or isinstance(kind, str) or (isinstance(kind, type) and issubclass(kind, BaseException))):
            raise WrongType(f"a rule's kind is an exception type or the name of one, not {shown(kind)}")
        if when is not None:
            require_callable(when)
        return evolve(self, own=(*self.own, ErrorRule(to, kind, when, _pattern(message))))

    def classify(self, error: Error) -> ErrorClass:
        """The class of an error, a failed outcome, or a failure that was recorded; unknown when no rule knows it.

        Of an error and what caused it, the one that is nearest to the top decides, among rules that rank equal.
        """
        links = list(_links(error))
        for rules in (*((rule,) for rule in self.own), *self.built_in):
            for link in links:
                for rule in rules:
                    if rule.fits(link):
                        return rule.to
        return ErrorClass.UNKNOWN


def classify(error: Error) -> ErrorClass:
    """The class of an error by the built-in table."""
    return _USUAL.classify(error)


def _links(error: Error) -> Iterator[_Link]:
    match error:
        case Failed():
            yield from (_recorded(failure) for failure in (error.error, *error.causes))
        case Failure():
            yield _recorded(error)
        case BaseException():
            yield from _living(error)
        case _:
            raise WrongType(f"what is classified is an exception, a Failed outcome or a Failure, not {shown(error)}")


def _living(error: BaseException) -> Iterator[_Link]:
    for link in chain(error):
        yield _Link(_names_of(type(link)), message_of(link), link)


def _recorded(failure: Failure) -> _Link:
    """A failure as it was recorded: with all the names of its type if this process has loaded it, else its own two."""
    kind = _loaded(failure.type)
    names = _both_names(failure.type) if kind is None else _names_of(kind)
    return _Link(names, failure.message, None)


def _loaded(name: str) -> type[BaseException] | None:
    parts = name.split(".")
    for count in range(len(parts) - 1, -1, -1):  # how many of the parts are the module's
        found: Any = sys.modules.get(".".join(parts[:count]) or "builtins")
        for part in parts[count:]:
            found = getattr(found, part, None)
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
    return None


def _names_of(kind: type) -> frozenset[str]:
    return frozenset().union(*(_both_names(type_name(above)) for above in kind.__mro__))


def _both_names(name: str) -> frozenset[str]:
    return frozenset({name, name.rpartition(".")[2]})


def _name(kind: Kind) -> str:
    return kind if isinstance(kind, str) else type_name(kind)


def _pattern(message: str | None) -> re.Pattern[str] | None:
    if message is None:
        return None
    if not isinstance(message, str):
        raise WrongType(f"a rule's message is a regular expression in a text, not {shown(message)}")
    try:
        return re.compile(message, re.IGNORECASE)
    except re.error as error:
        raise InvalidInput(f"a rule's message is no regular expression: {error}: {message!r}") from None


def _types(to: ErrorClass, *kinds: Kind) -> tuple[ErrorRule, ...]:
    return tuple(ErrorRule(to, kind) for kind in kinds)


def _messages(to: ErrorClass, *patterns: str) -> tuple[ErrorRule, ...]:
    return tuple(ErrorRule(to, message=_pattern(pattern)) for pattern in patterns)


def _numbers(to: ErrorClass, *numbers: int) -> ErrorRule:
    """Errors of the operating system, whose message begins with their number."""
    return ErrorRule(to, OSError, message=_pattern(rf"\[Errno ({'|'.join(map(str, numbers))})\]"))


#: The built-in table. Rules of one line rank equal: the error itself is asked about first, then what caused it.
BUILT_IN: Final[tuple[tuple[ErrorRule, ...], ...]] = (
    (
        # Another writer was first, or drives the tree: it may have let go by the next try. Before RunStateError and
        # StoreError, which say that what is recorded is not as it should be. LockTimeout is a TimeoutError.
        *_types(ErrorClass.TRANSIENT, Conflict, LeaseHeld),
        *_types(ErrorClass.STATE, LeaseLost, RunStateError, RunNotFound, CheckpointNotFound),
        *_types(ErrorClass.RESOURCE, MemoryError, BudgetExhausted),
        *_types(ErrorClass.DEPENDENCY, ImportError, "ChildFailed"),
        *_types(ErrorClass.TRANSIENT, ConnectionError, TimeoutError, InterruptedError, BlockingIOError),
        *_types(ErrorClass.TRANSIENT, "socket.gaierror", "subprocess.TimeoutExpired", "http.client.IncompleteRead"),
        *_types(ErrorClass.PROGRAMMING, TypeError, NameError, AttributeError, SyntaxError, NotImplementedError),
        # An assertion is what the program holds for certain: where it fails the program is wrong, not the weather.
        *_types(ErrorClass.PROGRAMMING, AssertionError, RecursionError),
    ),
    (
        _numbers(ErrorClass.RESOURCE, errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EDQUOT, errno.ENOMEM),
        _numbers(ErrorClass.TRANSIENT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN),
    ),
    (
        *_messages(
            ErrorClass.RESOURCE,
            r"no space left|dis[ck] (is )?full",
            r"too many open files|quota exceeded|out of memory|cannot allocate memory",
        ),
        *_messages(
            ErrorClass.TRANSIENT,
            r"\b(HTTP|status)\b.{0,20}\b(429|502|503|504)\b",
            r"too many requests|rate limit|bad gateway|service unavailable|gateway time-?out",
            r"temporarily unavailable|temporary failure|connection (reset|refused|aborted)",
            r"timed out|database is locked",
        ),
        *_messages(ErrorClass.DEPENDENCY, r"\bdependenc(y|ies)\b"),
    ),
    _types(ErrorClass.STATE, StoreError),
)
_USUAL: Final = Classification()
