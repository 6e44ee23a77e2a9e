"""Loops inside loops: an executor that walks trees of them, step by step.

::

    executor = NestedLoopExecutor(max_depth=5, store="runs.db")
    root = executor.start_root("Build authentication system")
    executor.advance(root)                                       # question → answer
    child = executor.spawn_child(root, "Design database schema")  # the root pauses
    executor.complete(child, {"tables": ["users", "tokens"]})     # and becomes active again

Each call is one record in the store: what it changes becomes true together or not at all.
"""

from __future__ import annotations

import copy
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cortical.core import rules
from cortical.core.budget import Budget
from cortical.core.checks import require_reason, require_text
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.events import Event
from cortical.core.ids import new_id
from cortical.core.journal import Journal
from cortical.core.outcome import Abandoned, Failed, Ok
from cortical.core.phases import LOOP, NEXT_PLACE, PHASE_OF, LoopPhase
from cortical.core.ports import Clock, Store
from cortical.core.run import Run
from cortical.core.status import TerminationReason
from cortical.core.transaction import Transaction
from cortical.reasoning.cognitive_loop import (
    CognitiveLoop,
    LoopStatus,
    loop_metadata,
)
from cortical.reasoning.export import Format, export
from cortical.reasoning.loop_context import LoopContext as LoopContext
from cortical.reasoning.manager import CognitiveLoopManager
from cortical.reasoning.phases import TIME_BOX_MINUTES
from cortical.store import MemoryStore, open_store

if TYPE_CHECKING:
    from cortical.agents import Agent, Result


class NestedLoopExecutor:
    """Starts, walks and ends trees of loops.

    Args:
        max_depth: how many levels a tree may have: with 5, depths 0 to 4.
        store: a path or URL for `open_store`, or an open store; in memory by default.
        clock: tells the time (anything with `time()`).
        new_id: makes the ids of loops.
        lock_timeout: how many seconds a call waits for a tree that another thread is changing.
        time_box_minutes: how long a visit of a phase may take before it is overdue.

    Every call that changes something raises `RunNotFound` (a KeyError) for an id it does not know, `RunStateError`
    (a ValueError) when the loop's status does not allow it, and `StoreError` when it could not be kept; each leaves
    everything as it was. It may be used by several threads. Close it, or use it as a context, when it has opened
    a store of its own.
    """

    def __init__(
        self,
        max_depth: int = 5,
        *,
        store: str | os.PathLike[str] | Store | None = None,
        clock: Clock = time,
        new_id: Callable[[], str] = new_id,
        lock_timeout: float = 5.0,
        time_box_minutes: float = TIME_BOX_MINUTES,
    ) -> None:
        if isinstance(max_depth, bool) or not isinstance(max_depth, int):
            raise WrongType(f"max_depth is a whole number, not {max_depth!r}")
        if max_depth < 1:
            raise InvalidInput(f"max_depth {max_depth} leaves no room for a root; give 1 or more")
        self.max_depth = max_depth
        self._owns_store = isinstance(store, str | os.PathLike)
        self.store: Store = open_store(store) if isinstance(store, str | os.PathLike) else store or MemoryStore()
        self.journal = Journal(self.store, clock=clock, new_id=new_id, lock_timeout=lock_timeout, max_depth=max_depth)
        self.manager = CognitiveLoopManager(journal=self.journal)
        self._metadata = loop_metadata(time_box_minutes)

    # Starting

    def start_root(self, goal: str, *, metadata: Mapping[str, Any] | None = None, budget: Budget | None = None) -> str:
        """Start a tree: an active loop at QUESTION, at depth 0. Returns its id.

        With a `budget`, what would go above it, anywhere in the tree, raises `BudgetExhausted` (a RuntimeError).
        """
        loop_id = self.journal.new_id()
        self.journal.plant(
            loop_id,
            rules.start,
            LOOP,
            require_text(goal, "a goal"),
            place="question",
            metadata=self._metadata_with(budget),
            data=_require_metadata(metadata),
        )
        return loop_id

    def spawn_child(
        self,
        parent_id: str,
        subgoal: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        budget: Budget | None = None,
    ) -> str:
        """Start a child at QUESTION below an active loop, which is paused until the child has ended.

        Returns the child's id. What its `budget` gives it is held in those above it until it has ended.

        Raises:
            BudgetExhausted: a budget above it has no room for it, or for its own.
            DepthLimitReached: the child's depth would reach `max_depth` (a RecursionError).
            RunStateError: the parent is not active.
        """
        child_id = self.journal.new_id()
        self._spawn(parent_id, {child_id: require_text(subgoal, "a goal")}, metadata, budget)
        return child_id

    def spawn_children(
        self, parent_id: str, subgoals: Sequence[str], *, metadata: Mapping[str, Any] | None = None
    ) -> list[str]:
        """Start several children at once; the parent is paused until the last of them has ended.

        Each has the same `metadata`. Returns their ids, in the order of the goals. Refused like `spawn_child`, and
        when there is no goal.
        """
        if isinstance(subgoals, str):
            raise WrongType("subgoals are a list of goals, not one; use spawn_child for one")
        children = {self.journal.new_id(): require_text(goal, "a goal") for goal in subgoals}
        if len(children) < len(subgoals):
            raise InvalidInput("new_id gave one id twice; each loop needs one of its own")
        if not children:
            raise InvalidInput(f"no goals for children of {parent_id!r} were given; give at least one")
        self._spawn(parent_id, children, metadata, None)
        return list(children)

    # Walking

    def advance(self, loop_id: str) -> LoopPhase:
        """Go to the next phase of the cycle; after VERIFY comes QUESTION, and the next turn. Returns the phase.

        Raises:
            RunStateError: the loop is not active.
        """
        moved: Any = self.journal.change(loop_id, _next_phase)[0]
        return PHASE_OF[moved.place]

    def record_answer(self, loop_id: str, answer: object) -> None:
        """Keep an answer, in the loop's context and in its current visit.

        Raises:
            EncodeError: a durable store cannot keep it.
        """
        self.journal.change(loop_id, rules.note, "answer", answer)

    def update_metadata(self, loop_id: str, metadata: Mapping[str, Any]) -> None:
        """Set these keys in the loop's metadata."""
        self.journal.change(loop_id, rules.change, _require_metadata(metadata) or {})

    def pause(self, loop_id: str, reason: str = "") -> None:
        """Pause an active loop until `resume`."""
        self.journal.change(loop_id, rules.pause, require_reason(reason))

    def block(self, loop_id: str, blocker: str) -> None:
        """Block an active loop: it waits for something outside it, until `resume`."""
        self.journal.change(loop_id, rules.block, require_reason(blocker))

    def resume(self, loop_id: str) -> None:
        """Make a loop active again that was paused by hand, or blocked."""
        self.journal.change(loop_id, rules.resume)

    def execute_with_nesting(
        self,
        goal: str,
        agent: Agent,
        *,
        budget: Budget | None = None,
        inputs: Mapping[str, Any] | None = None,
        workers: int = 4,
    ) -> Result:
        """Start a tree on `goal` and have `agent` drive it, and all it spawns, to its end, as `cortical.run` does.

        The tree is this executor's: its loops can be looked at, broken and paused meanwhile, from other threads too.

        Raises:
            InvalidInput: the agent has no verify function, or the goal is empty.
            RuntimeError: called inside an event loop.
        """
        # Imported here: walking loops by hand needs no threads and no event loop.
        from cortical.agents.agent import Agents
        from cortical.agents.driver import Driver
        from cortical.agents.running import refuse_event_loop, result_of, start

        refuse_event_loop("execute_with_nesting", "asyncio.to_thread")
        root_id = start(self.journal, agent, goal, budget=budget, inputs=inputs)
        return result_of(Driver(self.journal, root_id, Agents([agent]), workers=workers).drive())

    # Ending

    def complete(self, loop_id: str, result: object = None) -> str | None:
        """End the loop with success, hand its result to its parent, and return the parent's id.

        The parent becomes active again when no child of it is open. A root has no parent: None is returned.

        Raises:
            RunStateError: the loop has ended already, or a child of it is still open.
            EncodeError: a durable store cannot keep the result.
        """
        self.journal.change(loop_id, rules.end, Ok(result), TerminationReason.SUCCESS)
        return self._run(loop_id).parent_id

    def fail(self, loop_id: str, error: BaseException) -> str | None:
        """End the loop as failed, keeping the error and what caused it. Otherwise as `complete`."""
        if not isinstance(error, BaseException):
            raise WrongType(f"a loop fails with an exception, not {error!r}")
        self.journal.change(loop_id, rules.end, Failed.of(error), TerminationReason.ERROR)
        return self._run(loop_id).parent_id

    def break_loop(self, loop_id: str, reason: str) -> str | None:
        """End the loop as abandoned, with all open loops below it, deepest first; return the parent's id.

        The parent becomes active again when no other child of it is open. The reason stands on each that was ended.
        """
        outcome = Abandoned(require_reason(reason))
        self.journal.insist(loop_id, rules.end_subtree, outcome, TerminationReason.MANUAL)
        return self._run(loop_id).parent_id

    # Looking

    def get_context(self, loop_id: str) -> LoopContext:
        """Where the loop stands in its tree and what it has gathered, now.

        The lists and dictionaries are copies; the values in them are the recorded ones, to be read only. Inside a
        transaction they are copies too, so that undoing it undoes what was done to them.
        """
        run = self._run(loop_id)
        results = {child.id: child.value for child in run.completed_children or ()}
        gathered = (run.noted("answer"), results, dict(run.data or {}))
        answers, child_results, metadata = _detached(gathered) if self.journal.in_transaction else gathered
        return LoopContext(
            run.depth,
            run.parent_id,
            run.name,
            answers,
            child_results,
            metadata,
            record_answer=lambda answer: self.record_answer(loop_id, answer),
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
            "max_depth_limit": self.max_depth,
            "max_depth_reached": deepest,
            "status_counts": Counter(of_manager["by_status"]),
        }

    def export(self, loop_id: str, *, format: Format = "tree") -> str:
        """The loop and all below it as a drawing: ``"tree"`` (text), ``"mermaid"``, ``"dot"`` or ``"json"``."""
        run = self._run(loop_id)
        with self.journal.holding(run.tree):
            return export(run, format)

    # The store

    def transaction(self, *, timeout: float | None = None) -> Transaction:
        """A context in which all calls become true together when it ends, or none of them if it raises."""
        return self.journal.transaction(timeout=timeout)

    def refresh(self, loop_id: str) -> CognitiveLoop:
        """The loop, after reading what other processes have added to its tree."""
        return CognitiveLoop.of(self.journal, self.journal.refresh(loop_id).id)

    def refresh_all(self) -> None:
        """Read what other processes have added: to the open trees, and as new ones."""
        self.manager.refresh_all()

    def flush(self) -> None:
        """Wait until everything recorded is kept; at once true unless the store is relaxed."""
        self.journal.flush()

    def close(self) -> None:
        """Close the store, if this executor has opened it."""
        if self._owns_store:
            self.store.close()

    def __enter__(self) -> NestedLoopExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, loop_id: str) -> Run:
        return self.journal.run(loop_id)

    def _metadata_with(self, budget: Budget | None) -> dict[str, Any] | None:
        return self._metadata if budget is None else {**(self._metadata or {}), "budget": budget.limits()}

    def _spawn(
        self,
        parent_id: str,
        children: Mapping[str, str],
        metadata: Mapping[str, Any] | None,
        budget: Budget | None,
    ) -> None:
        self.journal.change(
            parent_id,
            rules.spawn,
            LOOP,
            children,
            place="question",
            metadata=self._metadata_with(budget),
            data=_require_metadata(metadata),
            max_depth=self.max_depth,
        )


def _next_phase(run: Run, at: float) -> Sequence[Event]:
    return rules.move(run, at, NEXT_PLACE[run.visit.place] if run.visit else "question")


def _require_metadata(metadata: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping) or not all(isinstance(key, str) for key in metadata):
        raise WrongType(f"metadata are values by name, not {metadata!r}")
    return metadata


def _detached(
    values: tuple[list[Any], dict[str, Any], dict[str, Any]],
) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    try:
        return copy.deepcopy(values)
    except Exception:  # noqa: BLE001  # a value that cannot be copied, which only a store in memory can hold: shared as it is
        return values
