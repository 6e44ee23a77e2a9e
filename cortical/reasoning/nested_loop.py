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

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from cortical.core import rules
from cortical.core.budget import Budget
from cortical.core.checks import require_reason, require_text, require_values, shown
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.events import Event
from cortical.core.kinds import LOOP
from cortical.core.outcome import Abandoned, Failed, Ok
from cortical.core.phases import FIRST_PLACE, NEXT_PLACE, PHASE_OF, LoopPhase
from cortical.core.ports import Clock
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.core.topics import ANSWER
from cortical.core.transaction import Transaction
from cortical.engine.callers import this_process
from cortical.engine.event_loop import refuse_event_loop
from cortical.reasoning.cognitive_loop import loop_metadata
from cortical.reasoning.loop_context import LoopContext
from cortical.reasoning.loop_trees import LoopTrees
from cortical.reasoning.phases import TIME_BOX_MINUTES, require_phases
from cortical.store.face import Place, has_journal

if TYPE_CHECKING:
    from cortical.agents import Agent, Decision, Result, SpawnPolicy
    from cortical.agents.spawn_policy import SpawnContext

#: How many levels a tree may have, where nothing else was said.
MAX_DEPTH: Final = 5


class NestedLoopExecutor(LoopTrees):
    """Starts, walks and ends trees of loops.

    Args:
        max_depth: how many levels a tree may have: with 5, which it is by default, depths 0 to 4.
        store: a path or URL for `open_store`, an open store, or a journal or another face to share; in memory by
            default. Of a journal that is shared, its own `max_depth` and the like hold, and no others may be given.
        clock: tells the time (anything with `time()`).
        new_id: makes the ids of loops.
        lock_timeout: how many seconds a call waits for a tree that another thread is changing; 5 by default.
        time_box_minutes: how long a visit of a phase may take before it is overdue.
        spawn_policy: what `should_spawn_child` and `suggest_child_goals` ask; a `DefaultSpawnPolicy` by default.

    Every call that changes something raises `RunNotFound` (a KeyError) for an id it does not know, `RunStateError`
    (a ValueError) when the loop's status does not allow it, and `StoreError` when it could not be kept; each leaves
    everything as it was. It may be used by several threads. Close it, or use it as a context, when it has opened
    a store of its own.
    """

    def __init__(
        self,
        max_depth: int | None = None,
        *,
        store: Place | None = None,
        clock: Clock = time,
        new_id: Callable[[], str] | None = None,
        lock_timeout: float | None = None,
        time_box_minutes: float = TIME_BOX_MINUTES,
        spawn_policy: SpawnPolicy | None = None,
    ) -> None:
        self._spawn_policy: SpawnPolicy | None = None
        if max_depth is None and not has_journal(store):
            max_depth = MAX_DEPTH
        given = {"max_depth": max_depth, "new_id": new_id, "lock_timeout": lock_timeout}
        super().__init__(store, clock=clock, **{name: one for name, one in given.items() if one is not None})
        self.spawn_policy = spawn_policy
        self._metadata = loop_metadata(time_box_minutes)

    @property
    def max_depth(self) -> int:
        """How many levels a tree may have: as many as its journal says; `sys.maxsize` where that sets no limit."""
        return sys.maxsize if self.journal.max_depth is None else self.journal.max_depth

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
            place=FIRST_PLACE,
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

    # Whether to spawn

    @property
    def spawn_policy(self) -> SpawnPolicy:
        """What `should_spawn_child` and `suggest_child_goals` ask. It can be replaced; None brings the default back."""
        if self._spawn_policy is None:
            # Imported here and below: walking loops by hand needs no agents.
            from cortical.agents.spawn_policy import DefaultSpawnPolicy

            self._spawn_policy = DefaultSpawnPolicy()
        return self._spawn_policy

    @spawn_policy.setter
    def spawn_policy(self, policy: SpawnPolicy | None) -> None:
        if policy is not None:
            from cortical.agents.spawn_policy import require_policy

            require_policy(policy)
        self._spawn_policy = policy

    def should_spawn_child(self, context: LoopContext | str) -> Decision:
        """Whether the loop should hand questions to children, as the `spawn_policy` sees it; `why` tells the reason.

        ::

            def hand_on(executor: NestedLoopExecutor, loop_id: str) -> None:
                if executor.should_spawn_child(loop_id):
                    executor.spawn_children(loop_id, executor.suggest_child_goals(loop_id))

        A loop that is not active should not: it may not. Nothing is spawned or recorded.

        Args:
            context: from `get_context`, or the loop's id. It is the loop's present state that counts.

        Raises:
            InvalidInput: the context was made by hand, and belongs to no loop.
            WrongType: the policy gives no `Decision`.
        """
        from cortical.agents.spawn_policy import Decision, decided

        run = self._run(_loop_of(context))
        if run.status is not Status.ACTIVE:
            return Decision(False, f"it is {run.status.value}, and only an active loop may spawn")
        return decided(self.spawn_policy, self._seen(run))

    def suggest_child_goals(self, context: LoopContext | str) -> list[str]:
        """Goals that children of the loop could be given, as the `spawn_policy` sees it; empty when it sees none.

        Raises:
            InvalidInput: the context was made by hand, and belongs to no loop.
            WrongType: the policy gives no list of goals.
        """
        from cortical.agents.spawn_policy import suggested

        return suggested(self.spawn_policy, self._seen(self._run(_loop_of(context))))

    def _seen(self, run: Run) -> SpawnContext:
        """The loop as a policy sees it: all of it as it stands at one moment."""
        from cortical.agents.spawn_policy import SpawnContext

        with self.journal.holding(run.tree):
            return SpawnContext.of(run, now=self.journal.clock.time(), max_depth=self.journal.max_depth)

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
        self.journal.change(loop_id, rules.note, ANSWER, answer)

    def update_metadata(self, loop_id: str, metadata: Mapping[str, Any]) -> None:
        """Set these keys in the loop's metadata."""
        self.journal.change(loop_id, rules.change, _require_metadata(metadata) or {})

    def pause(self, loop_id: str, reason: str = "") -> None:
        """Pause an active loop until `resume`."""
        self.journal.insist(loop_id, rules.pause, require_reason(reason))

    def block(self, loop_id: str, blocker: str) -> None:
        """Block an active loop: it waits for something outside it, until `resume`."""
        self.journal.insist(loop_id, rules.block, require_reason(blocker))

    def resume(self, loop_id: str) -> None:
        """Make a loop active again that was paused by hand, or blocked."""
        self.journal.insist(loop_id, rules.resume)

    def execute_with_nesting(
        self,
        goal: str,
        agent: Agent,
        *,
        budget: Budget | None = None,
        inputs: Mapping[str, Any] | None = None,
        workers: int = 4,
        lease_seconds: float = 10.0,
        auto_spawn: bool = False,
    ) -> Result:
        """Start a tree on `goal` and have `agent` drive it, and all it spawns, to its end, as `cortical.run` does.

        The tree is this executor's: its loops can be looked at, broken and paused meanwhile, from other threads too.
        With `auto_spawn`, a loop that leaves ANSWER and has spawned nothing in it is given the children that this
        executor's `spawn_policy` suggests.

        Raises:
            InvalidInput: the agent has no verify function, or the goal is empty.
            RuntimeError: called inside an event loop.
        """
        # Imported here: walking loops by hand needs no threads and no event loop.
        from cortical.agents.agent import Agents
        from cortical.agents.driver import Driver
        from cortical.agents.running import result_of, start

        refuse_event_loop("execute_with_nesting", "asyncio.to_thread")
        root_id = start(self.journal, agent, goal, budget=budget, inputs=inputs, auto_spawn=auto_spawn)
        driver = Driver(
            self.journal,
            root_id,
            Agents([agent]),
            workers=workers,
            lease_seconds=lease_seconds,
            spawn_policy=self.spawn_policy if auto_spawn else None,
        )
        return result_of(driver.drive())

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
            raise WrongType(f"a loop fails with an exception, not {shown(error)}")
        self.journal.change(loop_id, rules.end, Failed.of(error), TerminationReason.ERROR)
        return self._run(loop_id).parent_id

    def break_loop(self, loop_id: str, reason: str, *, by: str | None = None) -> str | None:
        """End the loop as abandoned, with all open loops below it, deepest first; return the parent's id.

        The parent becomes active again when no other child of it is open. The reason, and who did it, stand on each
        that was ended.

        Args:
            by: who; this process by default.
        """
        outcome = Abandoned(require_reason(reason), this_process() if by is None else require_text(by, "by whom"))
        self.journal.insist(loop_id, rules.end_subtree, outcome, TerminationReason.MANUAL)
        return self._run(loop_id).parent_id

    # The store

    def transaction(self, *, timeout: float | None = None) -> Transaction:
        """A context in which all calls become true together when it ends, or none of them if it raises."""
        return self.journal.transaction(timeout=timeout)

    def flush(self) -> None:
        """Wait until everything recorded is kept; at once true unless the store is relaxed."""
        self.journal.flush()

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
            place=FIRST_PLACE,
            metadata=self._metadata_with(budget),
            data=_require_metadata(metadata),
            max_depth=self.journal.max_depth,
        )


def _loop_of(context: LoopContext | str) -> str:
    if isinstance(context, str):
        return context
    if not isinstance(context, LoopContext):
        raise WrongType(f"a loop is named by its context or its id, not by {shown(context)}")
    if context.loop_id is None:
        raise InvalidInput(
            "the context was made by hand and belongs to no loop; take one from get_context, "
            "or ask the policy itself with a SpawnContext"
        )
    return context.loop_id


def _next_phase(run: Run, at: float) -> Sequence[Event]:
    require_phases(run, "be advanced")
    return rules.move(run, at, NEXT_PLACE[run.visit.place] if run.visit else FIRST_PLACE)


def _require_metadata(metadata: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return None if metadata is None else require_values(metadata, "metadata")
