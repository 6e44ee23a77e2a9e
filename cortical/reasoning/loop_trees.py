"""The trees of loops in a store, to be looked at: nothing here changes anything."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cortical.core import rules
from cortical.core.copies import copied
from cortical.core.kinds import LOOP
from cortical.core.ports import Clock
from cortical.core.run import Run
from cortical.core.topics import ANSWER
from cortical.reasoning.cognitive_loop import CognitiveLoop, LoopStatus
from cortical.reasoning.loop_context import LoopContext
from cortical.reasoning.manager import CognitiveLoopManager
from cortical.store.face import Face, Place

if TYPE_CHECKING:
    from cortical.looking.export import Format


class LoopTrees(Face):
    """Looks at loops, alone and in their trees.

    Every call that takes an id raises `RunNotFound` (a KeyError) for one it does not know.
    """

    def __init__(self, store: Place | None = None, *, clock: Clock = time, **options: Any) -> None:
        super().__init__(store, clock=clock, **options)
        self.manager = CognitiveLoopManager(journal=self.journal)

    def get_context(self, loop_id: str) -> LoopContext:
        """Where the loop stands in its tree and what it has gathered, now.

        The lists and dictionaries are copies; the values in them are the recorded ones, to be read only. Inside a
        transaction they are copies too, so that undoing it undoes what was done to them.
        """
        run = self._run(loop_id)
        results = {child.id: child.value for child in run.completed_children or ()}
        gathered = (run.noted(ANSWER), results, dict(run.data or {}))
        answers, child_results, metadata = copied(gathered) if self.journal.in_transaction else gathered
        return LoopContext(
            run.depth,
            run.parent_id,
            run.name,
            answers,
            child_results,
            metadata,
            loop_id=loop_id,
            record_answer=lambda answer: self.journal.change(loop_id, rules.note, ANSWER, answer),
        )

    def get_loop(self, loop_id: str) -> CognitiveLoop:
        """The loop itself."""
        self._run(loop_id)
        return CognitiveLoop.of(self.journal, loop_id)

    def get_all_loops(self) -> list[CognitiveLoop]:
        """Every loop of the store; all its trees are loaded for it."""
        return self.manager.get_all_loops()

    def get_active_loops(self, within: str | None = None) -> list[CognitiveLoop]:
        """The loops that are active now: in the whole store, or `within` this loop and below it."""
        if within is None:
            return self.manager.get_active_loops()
        return [loop for loop in self.get_subtree(within) if loop.status is LoopStatus.ACTIVE]

    def get_loop_hierarchy(self, loop_id: str) -> list[str]:
        """The ids from the root down to this loop, both included."""
        run = self._run(loop_id)
        return [above.id for above in run.tree.path(run)]

    def get_children(self, loop_id: str) -> list[CognitiveLoop]:
        """The loop's children, in the order they were started."""
        return [CognitiveLoop.of(self.journal, child.id) for child in self._run(loop_id).children]

    def get_subtree(self, loop_id: str) -> list[CognitiveLoop]:
        """The loop and all below it, parents before children, as they stand together at one moment."""
        run = self._run(loop_id)
        with self.journal.holding(run.tree):
            ids = [below.id for below in run.tree.walk(run)]
        return [CognitiveLoop.of(self.journal, below) for below in ids]

    def walk(self, loop_id: str) -> Iterator[CognitiveLoop]:
        """The loops of `get_subtree`, one after another; children started meanwhile are met too."""
        waiting = [loop_id]
        while waiting:
            loop = self.get_loop(waiting.pop())
            yield loop
            waiting.extend(reversed(loop.child_ids))

    def get_summary(self) -> dict[str, Any]:
        """Counts of all loops of the store.

        `total_loops`, `active_loops`, `max_depth_limit`, `max_depth_reached` (0 with roots only, or nothing) and
        `status_counts` (status → count; one that no loop has counts 0).
        """
        of_manager = self.manager.get_summary()
        with self.journal.index.lock:
            deepest = self.journal.index.shelf(LOOP).deepest
        return {
            "total_loops": of_manager["total_loops"],
            "active_loops": of_manager["active_count"],
            "max_depth_limit": self.journal.max_depth,
            "max_depth_reached": deepest,
            "status_counts": Counter(of_manager["by_status"]),
        }

    def export(self, loop_id: str, *, format: Format = "tree") -> str:
        """The loop and all below it as a drawing: ``"tree"`` (text), ``"mermaid"``, ``"dot"`` or ``"json"``."""
        from cortical.looking.export import export

        run = self._run(loop_id)
        with self.journal.holding(run.tree):
            return export(run, format)

    def refresh(self, loop_id: str) -> CognitiveLoop:
        """The loop, after reading what other processes have added to its tree."""
        return CognitiveLoop.of(self.journal, self.journal.refresh(loop_id).id)

    def refresh_all(self) -> None:
        """Read what other processes have added: to the open trees, and as new ones."""
        self.manager.refresh_all()

    def _run(self, loop_id: str) -> Run:
        return self.journal.run(loop_id)
