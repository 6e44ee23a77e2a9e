"""Where a tree in memory differs from what its log folds into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

from attrs import frozen
from msgspec import Struct

from cortical.core.codec import encode
from cortical.core.errors import EncodeError
from cortical.core.events import Event
from cortical.core.run import Run
from cortical.core.tree import Tree

#: What of a run says where it stands, and is not its own.
_REFERENCES: Final = frozenset({"tree", "parent"})


@frozen
class Difference:
    """A run that is not the same: the names of its fields that differ, or where it is alone."""

    run: Run
    fields: tuple[str, ...] = ()
    alone: Literal["memory", "log"] | None = None


def differences(tree: Tree, log: Sequence[Event]) -> Iterator[Difference]:
    """The runs of `tree` that are not what `log` makes of them, which is as much of its log as it has seen."""
    there = {run.id: run for run in Tree.of(log).walk()}
    for run in tree.walk():
        other = there.pop(run.id, None)
        if other is None:
            yield Difference(run, alone="memory")
        elif fields := tuple(name for name in Run.__struct_fields__ if not _same_field(run, other, name)):
            yield Difference(run, fields)
    for run in there.values():
        yield Difference(run, alone="log")


def _same_field(ours: Run, theirs: Run, name: str) -> bool:
    return name in _REFERENCES or same(getattr(ours, name), getattr(theirs, name))


def same(ours: Any, theirs: Any) -> bool:
    """Equality that reaches into records; values that are not equal are alike when they would be written alike."""
    if ours is theirs:
        return True
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, Run):
        return bool(ours.id == theirs.id)
    if isinstance(ours, Struct):
        return all(same(getattr(ours, name), getattr(theirs, name)) for name in ours.__struct_fields__)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(value, theirs[key]) for key, value in ours.items())
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    try:
        return bool(ours == theirs) or _written_alike(ours, theirs)
    except Exception:  # noqa: BLE001  # whatever a user's own value may raise
        return _written_alike(ours, theirs)


def _written_alike(ours: object, theirs: object) -> bool:
    try:
        return encode(ours) == encode(theirs)
    except EncodeError:  # kept in memory alone
        return repr(ours) == repr(theirs)
