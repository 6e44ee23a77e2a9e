"""What a handler remembers for an iteration: gone when what it was made from changes."""

from __future__ import annotations

from typing import Any

from cortical.core import rules
from cortical.core.run import Run
from cortical.core.topics import DECISION
from cortical.stages.loop.views import StageView
from cortical.stages.loop.words import DECISIONS


class IterationCache:
    """Values by iteration and key, in memory. Each attempt at an iteration has its own."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, tuple[Any, Any]]] = {}

    def put(self, view: StageView, key: str, value: Any) -> None:
        """Remember a value for the iteration under way; between two for the stage."""
        run = view.open_iteration or view.run
        self._kept.setdefault(run.id, {})[key] = (_basis(view, run), value)

    def get(self, view: StageView, key: str, default: Any, run: Run | None) -> Any:
        """What is remembered, unless something was decided for that iteration since."""
        found = run or view.open_iteration or view.run
        basis, value = self._kept.get(found.id, {}).get(key, (None, default))
        if basis is None:
            return default
        inherited, own = _basis(view, found)
        return value if basis[0] is inherited and basis[1] == own else default


def _basis(view: StageView, run: Run) -> tuple[Any, int]:
    """What was decided for a run: what it inherited (the same object while it is the same), and how often since."""
    own = sum(entry.topic == DECISION for entry in run.entries or ())
    if run is view.run:
        return view.data.get(DECISIONS), own
    return rules.require_checkpoint(view.run, run.metadata["checkpoint"]).data.get(DECISIONS), own
