"""Tells of items that have ended, once that is recorded: to the log, and to the functions that want to hear of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from attrs import define

from cortical.batch.items import short_text
from cortical.batch.result import BatchProgress
from cortical.batch.source import BatchSource
from cortical.batch.stats import failure_of
from cortical.core.events import Ended, Event
from cortical.core.outcome import Failed, Ok
from cortical.core.ports import Clock, seconds_on
from cortical.core.safe_text import one_line

#: Characters of an error that a line of the log has; the record's attributes have all of it.
_MOST_SHOWN: Final = 500


@define
class Callbacks:
    """Who is told. One that raises is reported to the logger, and hurts nothing.

    `on_progress` is called with the `BatchProgress` after each item or chunk, `on_item_error` with an item that
    failed and its outcome.
    """

    on_progress: Callable[[BatchProgress], object] | None = None
    on_item_error: Callable[[Any, Failed], object] | None = None


@define
class Reporter:
    """A subscriber of the journal: what it hears of has been recorded."""

    source: BatchSource
    callbacks: Callbacks
    logger: logging.Logger
    clock: Clock
    before: int
    processed: int
    failed: int
    since: float
    done: int = 0

    def __call__(self, event: Event) -> None:
        """Hear of an event of any run."""
        if type(event) is not Ended:
            return
        work = self.source.untold.pop(event.run_id, None)
        if work is None:
            return
        count = len(work.items)
        self.done += count
        if isinstance(event.outcome, Ok):
            self.processed += count
        elif isinstance(event.outcome, Failed):
            self.failed += count
            for item in work.items:
                self._tell_failure(item.value, event.outcome)
        if self.callbacks.on_progress is not None:
            self._call(self.callbacks.on_progress, self._progress())

    def _tell_failure(self, item: Any, failed: Failed) -> None:
        log_failure(self.logger, failure_of(item, failed))
        if self.callbacks.on_item_error is not None:
            self._call(self.callbacks.on_item_error, item, failed)

    def _progress(self) -> BatchProgress:
        seconds = seconds_on(self.clock)() - self.since
        total = self.source.reading.total
        return BatchProgress(self.before + self.done, total, self.processed, self.failed, self.before, seconds)

    def _call(self, callback: Callable[..., object], *args: Any) -> None:
        try:
            callback(*args)
        except Exception:
            self.logger.exception("a callback of the batch raised; the batch goes on")


def log_failure(logger: logging.Logger, failure: dict[str, Any]) -> None:
    """Log an item that failed, in a line fit for a terminal, with what is told of it as the record's own attributes."""
    error = failure["error"]
    shown = error if len(error) <= _MOST_SHOWN else f"{error[:_MOST_SHOWN]}…"
    logger.error("failed to process item %s: %s", one_line(short_text(failure["item"])), one_line(shown), extra=failure)
