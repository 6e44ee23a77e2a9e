"""What the log says of a batch's items: which are done, which failed, which were open when its driver died."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias

from attrs import define

from cortical.batch.items import kept_items
from cortical.core.kinds import ITEM
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome, Skipped
from cortical.core.run import Run
from cortical.core.topics import ATTEMPT

Match: TypeAlias = Literal["list", "key"]
#: How an item is found again: by where it stands, or by its key and its number among those that have the same.
Identity: TypeAlias = int | tuple[str, int]

#: What a run keeps of its batch: the handler's name, a digest of the task, and how many items there are.
HANDLER: Final = "handler"
TASK: Final = "task"
ITEMS: Final = "items"

_UNDER_WAY: Final = Abandoned("it has not ended")


@define
class Known:
    """What is known of one item: the run that carried it out, its key, and where it stood."""

    run: Run
    key: str
    index: int

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        return outcome_of(self.run, self.index)

    @property
    def is_open(self) -> bool:
        """Whether that run has not ended."""
        return self.run.reason is None

    def is_done(self, *, retry_failed: bool) -> bool:
        """Whether the item is not to be run again."""
        outcome = self.run.outcome
        return isinstance(outcome, Ok | Skipped) or (isinstance(outcome, Failed) and not retry_failed)


class Ledger:
    """What the lives of a batch say of its items, the newest word of each."""

    def __init__(self, lives: Sequence[Run], match: Match) -> None:
        self._match = match
        self._known: dict[Identity, Known] = {}
        #: One more than the highest index of an item that was begun.
        self.begun = 0
        #: The runs that are open.
        self.open: list[Run] = []
        for life in lives:
            self._read(life)
        if match == "key" and self._known:
            self._known = dict(self._by_key())

    def __bool__(self) -> bool:
        return bool(self._known)

    def known(self, index: int, key: str, nth: int | None) -> Known | None:
        """What is known of an item; None when it was never begun."""
        return self._known.get(index if nth is None else (key, nth))

    def at(self, index: int) -> Known | None:
        """What is known of the item that stood here, where items are found by where they stand; else None."""
        return self._known.get(index)

    def in_order(self) -> list[Known]:
        """All that is known, in the order of the input."""
        return sorted(self._known.values(), key=lambda known: known.index)

    def _read(self, life: Run) -> None:
        for run in life.children:
            kept = kept_items(run.metadata) if run.kind == ITEM else []
            if kept and run.reason is None:
                self.open.append(run)
            for index, key, nth in kept:
                by_key = self._match == "key" and nth is not None
                identity: Identity = (key, nth or 0) if by_key else index
                self._known[identity] = Known(run, key, index)
                self.begun = max(self.begun, index + 1)

    def _by_key(self) -> Iterator[tuple[Identity, Known]]:
        """Items that were matched by where they stood, by key; then those that were matched by key before."""
        seen: Counter[str] = Counter()
        listed = [(at, known) for at, known in self._known.items() if isinstance(at, int)]
        for _, known in sorted(listed, key=lambda pair: pair[0]):
            yield (known.key, seen[known.key]), known
            seen[known.key] += 1
        for identity, known in self._known.items():
            if not isinstance(identity, int):
                yield identity, known


def failed_attempts(run: Run) -> int:
    """How many attempts of an item failed without being its last."""
    return sum(entry.topic == ATTEMPT for entry in run.entries or ())


def outcome_of(run: Run, index: int) -> Outcome:
    """How the item of this index ended that a run carried out; abandoned where that run is still open."""
    outcome = run.outcome
    if outcome is None:
        return _UNDER_WAY
    indexes = run.metadata.get("indexes")
    if isinstance(outcome, Ok) and indexes is not None:
        return Ok(outcome.value[indexes.index(index)])
    return outcome


def kept_names(life: Run) -> dict[int, Any]:
    """The items of a life by their index: small values as they were, others by what they are called."""
    names: dict[int, Any] = {}
    for run in life.children:
        for index, _, _ in kept_items(run.metadata) if run.kind == ITEM else ():
            names[index] = run.metadata.get("item", run.name)
    return names
