"""Reads the items of a batch, no faster than they are begun, and passes over those that are done."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sized
from typing import Any, Final

from attrs import define, field

from cortical.batch.errors import BatchChanged
from cortical.batch.items import Item, Key, given_key, key_of
from cortical.batch.ledger import Known, Ledger, Match, failed_attempts
from cortical.core.checks import require_count, require_text, shown
from cortical.core.errors import InvalidInput, WrongType

_END: Final = object()


@define
class Work:
    """Items to be carried out together; those of a run that was open go on in it."""

    items: list[Item]
    run_id: str | None = None
    failed_before: int = 0


@define
class Rules:
    """How the items of a batch are read."""

    name: str
    match: Match = "list"
    key: Key | None = None
    chunk_size: int | None = None
    retry_failed: bool = True
    #: How many items there were when the batch was begun, where that was known.
    total: int | None = None


@define
class Reading:
    """What is still to be done of some items.

    Args:
        items: any iterable; read one at a time.
        ledger: says what was done before. `start` reads as many items as it knows, and keeps those to be run again.
        kept: called with the index of an item that is done, and what is known of it.
    """

    items: Iterable[Any]
    ledger: Ledger
    rules: Rules
    #: How many items there are; None while nobody knows.
    total: int | None = None
    #: How many items were read.
    read: int = 0
    #: The first error of the items' own iterator; nothing is read after it.
    error: Exception | None = None
    done: dict[int, Known] = field(factory=dict)
    _waiting: deque[Work] = field(factory=deque)
    _pending: deque[Item] = field(factory=deque)
    _open: dict[str, Work] = field(factory=dict)
    _seen: Counter[str] = field(factory=Counter)
    _iterator: Iterator[Any] = field(init=False)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.items, str | bytes | bytearray):
            raise WrongType(f"items are read one after another; put the {type(self.items).__name__} into a list")
        try:
            self._iterator = iter(self.items)
        except TypeError:
            raise WrongType(f"items can be iterated over; {type(self.items).__name__} cannot") from None
        if isinstance(self.items, Sized):
            self.total = len(self.items)

    def start(self) -> None:
        """Read the items that were begun before, and see whether they are the same.

        Raises:
            BatchChanged: they are not, or there are more or fewer of them.
        """
        known, rules = self.ledger, self.rules
        if rules.match == "key":
            return
        if self.total is not None and rules.total is not None and self.total != rules.total:
            raise BatchChanged(rules.name, f"it had {rules.total} items, now there are {self.total}")
        while self.read < known.begun and self._read_one():
            pass
        if self.read < known.begun:
            raise BatchChanged(rules.name, f"it had {known.begun} items or more, now there are {self.read}")
        self._waiting.extend(self._open.values())
        self._open.clear()

    def next(self, most: float = float("inf")) -> Work | None:
        """The next items, `most` at most, to be carried out together; None when there are none, or cannot be read."""
        if self._waiting:
            return self._waiting.popleft()
        pending = self._pending
        wanted = int(min(most, self.rules.chunk_size or 1))
        try:
            while len(pending) < wanted and self.error is None and self._read_one():
                pass
        except Exception as error:  # noqa: BLE001  # of the user's iterator or key; raised when the rest has ended
            self.error = error
        if wanted == 1:
            return Work([pending.popleft()]) if pending else None
        together = [pending.popleft() for _ in range(min(wanted, len(pending)))]
        return Work(together) if together else None

    def peek(self) -> bool:
        """Whether there is anything to be carried out."""
        work = self.next()
        if work is None and self.error is not None:
            raise self.error
        if work is not None:
            self._waiting.appendleft(work)
        return work is not None

    @property
    def exhausted(self) -> bool:
        """Whether every item was read, and given or passed over."""
        return self.total is not None and self.read >= self.total and not self._waiting and not self._pending

    @property
    def items_open(self) -> int:
        """How many items stand in runs that were open, and are to go on in them."""
        return sum(len(work.items) for work in self._waiting if work.run_id is not None)

    def _read_one(self) -> bool:
        value = next(self._iterator, _END)
        if value is _END:
            self.total = self.read
            return False
        rules, index = self.rules, self.read
        if rules.total is not None and index >= rules.total and rules.match == "list":
            raise BatchChanged(rules.name, f"it had {rules.total} items, now there are more")
        self.read += 1
        key = key_of(value) if rules.key is None else given_key(rules.key, value)
        item = Item(value, index, key)
        if rules.match == "key":
            item.nth = self._seen[key]
            self._seen[key] += 1
        if self.ledger:
            self._sort(item)
        else:
            self._pending.append(item)
        return True

    def _sort(self, item: Item) -> None:
        """Put an item with those to be carried out, or with those that are done."""
        known = self.ledger.known(item.index, item.key, item.nth)
        if known is None:
            self._pending.append(item)
            return
        if known.key != item.key:
            raise BatchChanged(self.rules.name, f"item {item.index} is another than it was")
        if known.is_done(retry_failed=self.rules.retry_failed):
            self.done[item.index] = known
        elif known.is_open and self.rules.match == "list":
            run = known.run
            work = self._open.setdefault(run.id, Work([], run.id, failed_attempts(run)))
            work.items.append(item)
        else:
            self._pending.append(item)


def require_rules(name: str, key: object, match: object, chunk_size: object) -> None:
    """Refuse what makes no sense.

    Raises:
        WrongType, InvalidInput: it makes none.
    """
    require_text(name, "a batch's name")
    if key is not None and not callable(key):
        raise WrongType(f"key is called with an item and says what it is known by; {shown(key)} cannot be called")
    if match not in ("list", "key"):
        raise InvalidInput(f'match is "list" or "key", not {shown(match)}')
    if chunk_size is not None:
        require_count(chunk_size, "chunk_size")
