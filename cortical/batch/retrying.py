"""After which failures an item is tried again, where nobody said."""

from __future__ import annotations

from typing import Final

from attrs import asdict, frozen

from cortical.core.outcome import Failed, chain
from cortical.core.policy import Retry

#: What may well be otherwise the next time.
RETRYABLE: Final[tuple[type[Exception], ...]] = (OSError, TimeoutError)

_AS_RECORDED: Final = Retry(retry_on=RETRYABLE)


def is_retryable(error: BaseException) -> bool:
    """Whether an error, or one that it came from, is of those that may well be otherwise the next time."""
    return any(isinstance(link, RETRYABLE) for link in chain(error))


def was_retryable(failed: Failed) -> bool:
    """`is_retryable` of a recorded failure."""
    return _AS_RECORDED.covers_outcome(failed)


@frozen
class _Hinted(Retry):
    def covers(self, error: BaseException, otherwise: type[Exception] | tuple[type[Exception], ...]) -> bool:
        return is_retryable(error)


def for_items(retry: Retry) -> Retry:
    """The policy by which items are tried again: with no `retry_on`, after those errors that are retryable."""
    return retry if retry.retry_on is not None else _Hinted(**asdict(retry))
