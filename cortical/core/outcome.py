"""How a run ended: one of four types, never a dictionary of flags.

A user's own value is only carried: ``Ok({"success": False})`` is an ``Ok``.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from msgspec import Struct

from cortical.core.status import Status


class Failure(Struct, frozen=True, array_like=True):
    """One exception as it can be kept: no live object, nothing lost that a person needs."""

    type: str
    message: str
    traceback: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Keep `error`; its type is named with its module unless it is a built-in."""
        lines = traceback.format_exception(type(error), error, error.__traceback__, chain=False)
        return cls(type_name(type(error)), message_of(error), _writable("".join(lines)))

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


class Ok(Struct, frozen=True, array_like=True, tag="ok/1"):
    """It did what it was for; `value` is what it brought back."""

    value: Any = None


class Failed(Struct, frozen=True, array_like=True, tag="failed/1"):
    """It broke: the error, what caused it (nearest first, the root cause last), and how often it was tried."""

    error: Failure
    causes: tuple[Failure, ...] = ()
    attempts: int = 1

    @classmethod
    def of(cls, error: BaseException, *, attempts: int = 1) -> Failed:
        """The outcome of a run that ended with `error`, its whole cause chain kept."""
        first, *causes = (Failure.of(link) for link in chain(error))
        return cls(first, tuple(causes), attempts)

    @property
    def root(self) -> Failure:
        """What started it: the last of the causes, or the error itself."""
        return self.causes[-1] if self.causes else self.error


class Skipped(Struct, frozen=True, array_like=True, tag="skipped/1"):
    """It was not needed."""

    reason: str = ""


class Abandoned(Struct, frozen=True, array_like=True, tag="abandoned/1"):
    """It was stopped before its end; `by` says who stopped it, where it was somebody and not a rule."""

    reason: str = ""
    by: str = ""


Outcome: TypeAlias = Ok | Failed | Skipped | Abandoned

#: The status that each kind of outcome leads to.
STATUS_OF: Final[dict[type, Status]] = {
    Ok: Status.COMPLETED,
    Failed: Status.FAILED,
    Skipped: Status.SKIPPED,
    Abandoned: Status.ABANDONED,
}


def why_of(outcome: Outcome | None) -> str:
    """Why it ended so: the error, or the reason that was given. Empty where it ended well, is open, or nobody said."""
    match outcome:
        case Failed(error=error):
            return str(error)
        case Skipped(reason=reason) | Abandoned(reason=reason):
            return reason
    return ""


def told(error: BaseException) -> str:
    """An exception in a line, as a `Failure` of it is told; without reading where it came from."""
    return f"{type_name(type(error))}: {message_of(error)}"


def message_of(error: BaseException) -> str:
    """What an exception says."""
    try:
        return _writable(str(error))
    except Exception as broken:  # noqa: BLE001  # a user's __str__ may itself raise
        return f"<its text could not be had: {type(broken).__name__}>"


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it, nearest first; each once."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = _cause(link)


def type_name(kind: type) -> str:
    """What a type is called in the log: with its module, unless it is a built-in."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _cause(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None or error.__suppress_context__:
        return error.__cause__
    return error.__context__


def _writable(text: str) -> str:
    """`text` as UTF-8 can hold it: the names of files may not."""
    return text.encode("utf-8", "backslashreplace").decode()
