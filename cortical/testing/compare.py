"""Trees as they can be compared: what happened in them, without the ids and times that differ from run to run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import isnan
from typing import Any, Final

import attrs
import msgspec
from msgspec.structs import replace

from cortical.core.outcome import Abandoned, type_name
from cortical.core.ports import Store
from cortical.core.run import Run
from cortical.core.topics import DRIVEN
from cortical.core.tree import Tree

#: A word that may be an id. A number may stand for what it counts, and is one only in quotes, as in errors.
_WORD: Final = re.compile(r"(?<=')[\w-]+(?=')|(?![0-9]+(?![\w-]))[\w-]+")


def outline(store: Store) -> list[Any]:
    """The trees of a store without ids and times: for each run its kind, name, status, reason, outcome, places, data
    and notes, with its children below it in the order they were started. How often a loop was taken
    up, and who stopped a run, are left out.

    The trees stand in the order of their kinds and names, the older first where these are the same. Where the id of a
    run occurs in a value, or as a word of a text (if it is a mere number: in quotes), it is replaced by the run's
    number in this order, such as ``#1``.
    """
    roots = [Tree.of(store.read(root.id)).root for root in reversed(store.roots())]
    roots.sort(key=lambda root: (root.kind, root.name))
    numbers = _Numbers(run.id for root in roots for run in root.tree.walk())
    return [numbers.in_place_of_ids(_outline(root)) for root in roots]


def _outline(run: Run) -> dict[str, Any]:
    return {
        "kind": run.kind,
        "name": run.name,
        "status": run.status.value,
        "reason": run.reason.value if run.reason else None,
        "outcome": replace(run.outcome, by="") if isinstance(run.outcome, Abandoned) else run.outcome,
        "places": [(visit.place, visit.turn, visit.reason) for visit in run.visits],
        "notes": [(entry.topic, entry.value) for entry in run.entries or () if entry.topic != DRIVEN],
        "data": run.data,
        "children": [_outline(child) for child in run.children],
    }


class _Numbers:
    """The numbers of runs, by id, to be put in the place of the ids."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._of_id = {run_id: f"#{number}" for number, run_id in enumerate(ids, start=1)}

    def in_place_of_ids(self, value: Any) -> Any:
        """The value, with what it is made of looked through."""
        renamed = self.in_place_of_ids
        match value:
            case str():
                return self._of_id.get(value) or _WORD.sub(self._of_word, value)
            case dict():
                return {renamed(key): renamed(item) for key, item in value.items()}
            case list():
                return [renamed(item) for item in value]
            case tuple():
                return tuple(renamed(item) for item in value)
            case set() | frozenset():
                return {renamed(item) for item in value}
            case float() if isnan(value):
                return "nan"  # which is equal to nothing, not to itself either
            case msgspec.Struct():
                return (type_name(type(value)), *(renamed(getattr(value, name)) for name in value.__struct_fields__))
            case _ if attrs.has(type(value)):
                fields = attrs.fields(type(value))
                return (type_name(type(value)), *(renamed(getattr(value, field.name)) for field in fields))
        return value

    def _of_word(self, word: re.Match[str]) -> str:
        return self._of_id.get(word[0], word[0])
