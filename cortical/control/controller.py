"""A controlled loop: a body that is repeated until a condition says stop, durably, and can be taken up again anywhere.

::

    from cortical.control import LoopController, State, max_iterations, timeout

    def count(state):
        return State(lines=state.get("lines", 0) + 1)

    with LoopController("count", store="runs.db", stop_when=max_iterations(100) | timeout(60)) as controller:
        result = controller.run(count)

A loop is a run like any other: it stands in the tree, takes budgets, is driven under a lease, and can be looked at,
paused and stopped from another process.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from cortical.control import iterations
from cortical.control.controlled import Controlled, Settings, with_condition
from cortical.control.driving import Driving, body_of, result_of
from cortical.control.handle import LoopHandle
from cortical.control.recovering import ControlledTarget
from cortical.control.results import Body, Iteration, LoopResult, history
from cortical.core import rules
from cortical.core.budget import Budget
from cortical.core.checks import (
    require_callable,
    require_count,
    require_instance,
    require_reason,
    require_seconds,
    require_text,
    require_values,
)
from cortical.core.conditions import Condition, max_iterations, resource, timeout, when
from cortical.core.copies import detached
from cortical.core.errors import InvalidInput, RunNotFound, RunStateError
from cortical.core.kinds import LOOP
from cortical.core.outcome import Abandoned
from cortical.core.policy import Retry
from cortical.core.ports import Clock
from cortical.core.status import TerminationReason
from cortical.core.topics import RESOURCES
from cortical.engine.below import CONTROLLED
from cortical.engine.callers import this_process
from cortical.engine.event_loop import refuse_event_loop
from cortical.engine.lease import holding_lease
from cortical.engine.meter import Meter, ProcessMeter
from cortical.recovery.lives import lives
from cortical.store.face import Face, Place

if TYPE_CHECKING:
    from cortical.recovery import LoopRecoveryManager, Recoverable

#: What is tried again where nothing else was said: the same iteration, at once, until three attempts in a row failed.
THREE_IN_A_ROW: Final = Retry(max_attempts=3, delay=0.0)


class LoopController(Face):
    """Repeats a body until a condition says stop.

    Args:
        loop_id: names the loop in its store: the same id takes up the same loop. For a child, its name among the
            children of its parent.
        store: a path or URL, an open store, a journal, or another face to share; in memory by default.
        stop_when: when to stop; looked at before those that are added by the setters.
        retry: how often, and after what delays, an iteration whose body raises is tried again; three attempts in a
            row at once by default. `retry_on` None stands for every `Exception`.
        state: what the loop's state is to begin with; of no meaning for a loop that is there already.
        parent: the id of an open run of the same store, whose child the loop is to be.
        max_depth: how many levels the tree may have with it; as many as the journal says by default.
        budget: what the loop and all below it may use.
        recovery: takes the loop up again when it is about to fail, if its auto-recovery is on.
        meter: measures what is used; this process by default. It is asked only if a condition could look at it.
        lease_seconds: how long after this process has died another may take over.
        sleep: waits between attempts; by default a wait that ends when the loop is stopped.
        random: numbers from 0 to 1 for the jitter of those waits.

    The loop is entered in the store at once, and waits to be run. Calls raise `StoreError` when something could not be
    kept, and leave everything as it was. It may be used by several threads; one at a time drives it.
    """

    def __init__(
        self,
        loop_id: str,
        *,
        store: Place | None = None,
        clock: Clock = time,
        stop_when: Condition | None = None,
        retry: Retry = THREE_IN_A_ROW,
        state: Mapping[str, Any] | None = None,
        parent: str | None = None,
        max_depth: int | None = None,
        budget: Budget | None = None,
        recovery: LoopRecoveryManager | None = None,
        meter: Meter | None = None,
        lease_seconds: float = 10.0,
        sleep: Callable[[float], object] | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.loop_id = require_text(loop_id, "a loop's id")
        if not self.loop_id.isprintable():
            raise InvalidInput(
                f"a loop's id is typed and printed, so it has no signs that steer a terminal: {loop_id!r}"
            )
        require_instance(retry, Retry, "retry")
        require_seconds(lease_seconds, "lease_seconds", above_zero=True)
        self._driving: Driving | None = None
        self._beginning = threading.Lock()
        conditions = {} if stop_when is None else with_condition({}, stop_when)
        self._parent_id = parent
        self._max_depth = None if max_depth is None else require_count(max_depth, "max_depth")
        super().__init__(store, clock=clock)
        measured_by = meter or ProcessMeter(self.journal.clock)
        settings = Settings(retry, measured_by, recovery, lease_seconds, sleep, random, conditions)
        run_id = self._entered(detached(_require_state(state or {})), budget)
        self._loop = Controlled(self.journal, run_id, settings)

    # Driving

    def run(self, body: Body) -> LoopResult:
        """Drive the loop by `body(state)` until it has ended, or is blocked. A paused loop is waited for.

        The body, a function or a coroutine function, is given a copy of the state. What it returns is the iteration's
        result; a `State` sets keys of the state with it, a `Done` ends the loop as ``completed``. A loop that has
        ended already is only told about.

        Raises:
            LeaseHeld: somebody else drives it, or the tree that it is part of.
            LeaseLost: this process stood still for too long, and somebody else took over.
            RuntimeError: called inside an event loop; there, ``await controller.arun(body)``.
            KeyboardInterrupt: as it came; the loop stays open, and can be taken up again.
        """
        require_callable(body)
        refuse_event_loop("run", "controller.arun")
        root = self.journal.refresh(self.run_id).tree.root
        loop = self._loop
        if loop.run.reason is not None:
            return result_of(loop.run, 0.0)
        driving = self._begun(Driving(loop, body))
        try:
            lease_seconds, join = loop.settings.lease_seconds, loop.run.parent is not None
            with holding_lease(self.journal, root.id, seconds=lease_seconds, join=join):
                self.journal.refresh(root.id)
                return driving.drive()
        finally:
            self._driving = None

    def _begun(self, driving: Driving) -> Driving:
        with self._beginning:
            if self._driving is not None:
                raise RunStateError(f"loop {self.loop_id!r} is being driven already, by this controller", self.run_id)
            self._driving = driving
        return driving

    def start(self, body: Body) -> LoopHandle:
        """Drive the loop by `body` in a thread of its own; returns a handle to wait with."""
        require_callable(body)
        return LoopHandle(copy_context(), self.run, body)

    async def arun(self, body: Body) -> LoopResult:
        """`run`, for use inside an event loop, which goes on meanwhile."""
        return await asyncio.to_thread(self.run, body)

    def is_running(self) -> bool:
        """Whether this controller drives the loop at this moment."""
        return self._driving is not None

    def stop(self, reason: str = "") -> None:
        """End the loop and all below it, ``manual``; from its own body, after the iteration under way.

        Raises:
            RunStateError: it has ended already.
        """
        reason = require_reason(reason) or "stopped by hand"
        if self._stay() is not None:
            self._loop.stop_reason = reason
            return
        stopped = Abandoned(reason, this_process())
        self.journal.insist(self.run_id, rules.end_subtree, stopped, TerminationReason.MANUAL)
        self._loop.changed.set()

    def pause(self, reason: str = "") -> None:
        """Pause the loop; whoever drives it waits, after the iteration under way, until `resume`.

        Raises:
            RunStateError: it is not active.
        """
        self.journal.insist(self.run_id, rules.pause, require_reason(reason))

    def resume(self) -> None:
        """Let a paused or blocked loop go on. A blocked one is no longer driven: `run` it again.

        Raises:
            RunStateError: it is neither.
        """
        self.journal.insist(self.run_id, rules.resume)
        self._loop.changed.set()

    # When to stop

    def set_max_iterations(self, count: int) -> None:
        """End after so many iterations, exactly."""
        self.add_termination_condition(max_iterations(count))

    def set_timeout(self, seconds: float) -> None:
        """End after so many seconds of being driven, an iteration under way included.

        An async body is cancelled. A sync one is called in a thread of its own, and left behind: what it does to the
        loop afterwards is refused.
        """
        self.add_termination_condition(timeout(seconds))

    def set_iteration_timeout(self, seconds: float | None) -> None:
        """End when one call of the body takes longer than this, as for `set_timeout`; None: as long as it likes."""
        limit = None if seconds is None else require_seconds(seconds, "iteration_timeout", above_zero=True)
        self._loop.settings = evolve(self._loop.settings, iteration_timeout=limit)

    def set_resource_limit(self, name: str, limit: float) -> None:
        """End when more than `limit` is used of a resource: one that is measured, or told by `update_resource_usage`.

        Measured are `memory` (resident MiB of this process), `cpu` (CPU seconds of this process and its children since
        the loop was taken up), `open_files` (of this process), `wall` (seconds since the loop was taken up).
        """
        self.add_termination_condition(resource(name, limit))

    def add_custom_condition(self, name: str, function: Callable[..., object]) -> None:
        """End when `function(progress)` answers True, or a text that says why."""
        self.add_termination_condition(when(function, name=name))

    def add_termination_condition(self, condition: Condition) -> None:
        """End when this holds; another condition of the same name is replaced, and keeps its place in the order."""
        self._loop.add(condition)
        if self._driving is not None:
            self._driving.adopt(self.condition)

    @property
    def condition(self) -> Condition:
        """All conditions in the order they were added, and after them as many errors in a row as are tried."""
        return self._loop.settings.condition

    def set_checkpoint_interval(self, iterations: int | None = None, *, seconds: float | None = None) -> None:
        """Take a checkpoint before the body of every n-th iteration (2: before the 2nd, 4th, …), or after so long.

        Once for each iteration, however often it is tried. Neither: no checkpoints of their own accord.
        """
        every = (
            None if iterations is None else require_count(iterations, "a checkpoint interval"),
            None if seconds is None else require_seconds(seconds, "a checkpoint interval"),
        )
        self._loop.settings = evolve(self._loop.settings, checkpoint_every=every)

    # State

    @property
    def run_id(self) -> str:
        """The id of the run that the loop is now: another one after it was recovered from its end."""
        return self._loop.run.id

    def get_state(self) -> dict[str, Any]:
        """The loop's own keys: a copy. Empty when it has none."""
        return detached(self._loop.run.data or {})

    def update_state(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Set these keys of the loop's state; None is a value like any other. Kept at once.

        Raises:
            RunStateError: the loop has ended; or this is a body whose time was up, and which no longer counts.
            EncodeError: a durable store cannot keep a value.
        """
        changed = detached({**_require_state(values or {}), **more})
        self.journal.insist(self.run_id, iterations.change_state, self._stay(), changed, ())

    def delete_state(self, *keys: str) -> None:
        """Remove keys from the loop's state; those that are not there are passed over."""
        self.journal.insist(self.run_id, iterations.change_state, self._stay(), {}, keys)

    def update_resource_usage(self, name: str, used: float) -> None:
        """Tell what is used of a resource, for `set_resource_limit`; it replaces what was told or measured before.

        Raises:
            WrongType, InvalidInput: `used` is no number from 0 on.
        """
        resource(name, used)
        self._loop.told_usage[name] = used
        self.journal.insist(self.run_id, rules.annotate, RESOURCES, {name: used})

    def get_execution_history(self) -> list[Iteration]:
        """The loop's iterations in order, those before a recovery included; the last may still be open."""
        return [iteration for life in lives(self.journal, self.run_id) for iteration in history(life)]

    # Recovery

    def recoverable(self) -> Recoverable:
        """What recovery may do to this loop."""
        return ControlledTarget(self._loop, self._driving)

    # Below

    def _stay(self) -> iterations.Stay | None:
        """The attempt that the calling code is the body of, if it is one of this loop."""
        called_for = body_of.get()
        return called_for[1] if called_for is not None and called_for[0] is self._loop else None

    def _entered(self, state: dict[str, Any], budget: Budget | None) -> str:
        metadata: dict[str, Any] = {CONTROLLED: self.loop_id}
        if budget is not None:
            metadata["budget"] = budget.limits()
        if self._parent_id is not None:
            return self._child(self._parent_id, metadata, state)
        try:
            there = self.journal.run(self.loop_id)
        except RunNotFound:
            there = self.journal.plant(self.loop_id, rules.start, LOOP, self.loop_id, metadata=metadata, data=state)
        if CONTROLLED not in there.metadata:
            raise RunStateError(
                f"{there.kind} {there.id!r} is no controlled loop, and others work on it; give this one another id",
                there.id,
            )
        return there.id

    def _child(self, parent_id: str, metadata: dict[str, Any], state: dict[str, Any]) -> str:
        parent = self.journal.refresh(parent_id)
        for child in parent.children:
            if child.metadata.get(CONTROLLED) == self.loop_id:
                return child.id
        child_id = self.journal.new_id()
        self.journal.change(
            parent_id,
            rules.spawn,
            LOOP,
            {child_id: self.loop_id},
            place=None,
            metadata=metadata,
            data=state,
            max_depth=self.journal.max_depth if self._max_depth is None else self._max_depth,
        )
        return child_id


def _require_state(values: object) -> dict[str, Any]:
    return dict(require_values(values, "a loop's state"))
