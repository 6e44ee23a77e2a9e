"""Those who want to hear of events: told in order, each event once, never under a lock."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Final, TypeAlias

from cortical.core.checks import require_callable
from cortical.core.events import Event

Handler: TypeAlias = Callable[[Event], object]

_log: Final = logging.getLogger("cortical")


class Subscribers:
    """Handlers, and the events that they have not been told yet.

    `put` is called while the tree is held, so that events of a tree stand in the order of its log; `tell` after it
    was let go. When several threads record at the same moment, one of them tells for all.
    """

    __slots__ = ("_handlers", "_telling", "untold")

    def __init__(self) -> None:
        self._handlers: tuple[list[Handler], ...] = ()
        self._telling = Lock()
        self.untold: deque[Sequence[Event]] = deque()

    def add(self, handler: Handler) -> Callable[[], None]:
        """Take on a handler; returns what takes it off again.

        Raises:
            WrongType: it cannot be called.
        """
        require_callable(handler)
        entry = [handler]  # the same handler given twice is two entries
        self._handlers = (*self._handlers, entry)

        def take_off() -> None:
            self._handlers = tuple(kept for kept in self._handlers if kept is not entry)

        return take_off

    def put(self, records: Iterable[Sequence[Event]]) -> None:
        """Queue the events of these records, if anybody wants to hear of them."""
        if self._handlers:
            self.untold.extend(records)

    def tell(self) -> None:
        """Tell what is queued, unless another thread (or this one, further out) is at it and will come to it."""
        while self.untold:
            if not self._telling.acquire(blocking=False):
                return
            try:
                while self.untold:
                    for event in self.untold.popleft():
                        self._tell_one(event)
            finally:
                self._telling.release()

    def _tell_one(self, event: Event) -> None:
        interrupted: BaseException | None = None
        for (handler,) in self._handlers:
            try:
                handler(event)
            except (KeyboardInterrupt, SystemExit) as interruption:
                interrupted = interruption  # for the caller, once all have been told
            except Exception:  # noqa: BLE001  # a subscriber must not hurt the run
                _log.exception("a subscriber raised at %s of run %s", type(event).__name__, event.run_id)
        if interrupted is not None:
            raise interrupted
