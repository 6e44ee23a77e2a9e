"""When to try again, for every face: a small value that is asked about one failure at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from cortical.core.checks import checked, require_count, require_number, require_seconds, shown
from cortical.core.errors import WrongType
from cortical.core.outcome import Failed, Failure, type_name

RetryOn: TypeAlias = type[Exception] | tuple[type[Exception], ...] | None


def _exceptions(retry: Retry, attribute: Any, value: object) -> None:
    kinds = value if isinstance(value, tuple) else (value,)
    if value is not None and not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        raise WrongType(f"retry_on is an exception type, several in a tuple, or None, not {shown(value)}")


@frozen
class Retry:
    """Try again: `max_attempts` in all, the second after `delay` seconds, each later one `backoff` times as late.

    `max_delay` is the longest wait. `jitter` is a share of each wait by which it is made longer or shorter at random,
    so that many who failed together do not come back together. `retry_on` says for which exceptions; None leaves it
    to the face, which says in its own documentation what it tries again.

    Raises:
        WrongType, InvalidInput: a number is none, or makes no sense.
    """

    max_attempts: int = field(default=3, validator=checked(require_count, of="a Retry"))
    delay: float = field(default=1.0, validator=checked(require_seconds, of="a Retry"))
    backoff: float = field(default=2.0, validator=checked(require_number, of="a Retry", least=1, most=1e6))
    max_delay: float = field(default=60.0, validator=checked(require_seconds, of="a Retry"))
    jitter: float = field(default=0.0, validator=checked(require_number, of="a Retry", most=1))
    retry_on: RetryOn = field(default=None, validator=_exceptions)

    def seconds_before(self, attempt: int, random: Callable[[], float] | None = None) -> float:
        """How long to wait before this attempt (2, 3, …).

        Args:
            random: gives numbers from 0 to 1, for the jitter; without it there is none.
        """
        try:
            later = self.delay * float(self.backoff) ** (attempt - 2)
        except OverflowError:  # long after `max_delay` was reached, if there is any delay
            later = self.max_delay if self.delay else 0.0
        seconds = min(self.max_delay, later)
        return seconds if random is None else min(self.max_delay, seconds * (1 + self.jitter * (2 * random() - 1)))

    def covers(self, error: BaseException, otherwise: type[Exception] | tuple[type[Exception], ...]) -> bool:
        """Whether this exception is one to try again after; `otherwise` stands for a `retry_on` that was not given."""
        return isinstance(error, self.retry_on or otherwise)

    def covers_outcome(self, failed: Failed) -> bool:
        """Whether a recorded failure is one to try again after; every one where `retry_on` was not given.

        Known by the names of the exception types, and of those of their subclasses that this process has loaded.
        """
        if self.retry_on is None:
            return True
        kinds = self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)
        names = {type_name(kind) for wanted in kinds for kind in _with_subclasses(wanted)}
        told: tuple[Failure, ...] = (failed.error, *failed.causes)
        return any(failure.type in names for failure in told)


#: Once, and not again.
ONCE: Final = Retry(max_attempts=1)


def _with_subclasses(kind: type) -> Iterator[type]:
    yield kind
    below: type
    for below in kind.__subclasses__():
        yield from _with_subclasses(below)
