"""Drives a tree to its end by its agents' functions, calling only the rules that anybody may call.

It holds the lease on the tree while it drives. A loop that waits for its children is a row in the log, not a
thread: workers are given only loops that can go on. Runs that no agent was set to are left to whoever started them,
and so is what an agent was started on below another run: a driver of its own drives that.
"""

from __future__ import annotations

import queue
import random as chance
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from cortical.agents.agent import Agents
from cortical.agents.consequences import Consequences
from cortical.agents.family import Family, is_apart, recorded_agent
from cortical.agents.people import provide
from cortical.agents.spawn_policy import DefaultSpawnPolicy, SpawnPolicy, require_policy
from cortical.agents.worker import Gathering, Worker
from cortical.core import rules
from cortical.core.checks import require_count, require_seconds
from cortical.core.errors import BudgetExhausted, InvalidInput, RunStateError
from cortical.core.journal import Journal
from cortical.core.phases import FIRST_PLACE
from cortical.core.ports import seconds_on
from cortical.core.questions import question_of
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.core.topics import DRAIN
from cortical.engine.below import driven_below
from cortical.engine.lease import holding_lease
from cortical.engine.local import LocalEngine

#: How often the driver looks at what others do, and at the clock.
_POLL_SECONDS: Final = 0.1
#: In a tree so large that a look takes long, no more than this share of the time goes into looking.
_SHARE_OF_LOOKING: Final = 0.1


class Driver:
    """Drives one tree, or what is below one run of it, once.

    Args:
        journal: keeps the tree.
        root_id: the tree's root, or the run on which an agent was started below another; begun, its agent recorded.
        agents: finds the agents.
        workers: how many phase functions run at the same time.
        lease_seconds: how long the lease runs without being renewed, which is done three times in that time.
        max_depth: how many levels the tree may have; as recorded when it was started by default.
        auto_spawn: whether `spawn_policy` is asked for children each time that ANSWER is left; as recorded when it was
            started by default.
        spawn_policy: a `DefaultSpawnPolicy` by default.
        random: gives numbers from 0 to 1, for the jitter of retries.

    Raises:
        RunNotFound: there is no such root.
        InvalidInput: a number makes no sense, or there is a `spawn_policy` that would never be asked.
        WrongType: a number or the policy is none.
    """

    def __init__(
        self,
        journal: Journal,
        root_id: str,
        agents: Agents,
        *,
        workers: int = 4,
        lease_seconds: float = 10.0,
        max_depth: int | None = None,
        auto_spawn: bool | None = None,
        spawn_policy: SpawnPolicy | None = None,
        random: Callable[[], float] = chance.random,
    ) -> None:
        require_driven(workers, lease_seconds, max_depth)
        self.journal = journal
        self.root_id = root_id
        self._agents = agents
        self._lease_seconds = lease_seconds
        self._engine = LocalEngine(workers)
        self._done: queue.SimpleQueue[tuple[str, Gathering | None]] = queue.SimpleQueue()
        self._running: set[str] = set()
        self._pending: dict[str, tuple[int, deque[str], set[str]]] = {}
        self._seconds = seconds_on(journal.clock)
        self._dues: dict[str, float] = {}
        self._delayed: dict[str, float] = {}
        self._next_due = float("inf")
        self._gathering: dict[str, Gathering] = {}
        self._read = 0
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._seen = 0
        self._look_at = 0.0
        recorded = self._root.metadata
        self._follow = Consequences(journal, Family(journal, agents.of, random))
        self._worker = Worker(
            journal,
            agents,
            self._engine,
            self._follow,
            self._stopping,
            report=lambda loop_id, gathering: self._done.put((loop_id, gathering)),
            fail=self._fail,
            max_depth=recorded.get("max_depth", journal.max_depth) if max_depth is None else max_depth,
            spawn_policy=chosen_policy(
                spawn_policy, auto_spawn=recorded.get("auto_spawn", False) if auto_spawn is None else auto_spawn
            ),
        )

    def drive(self) -> Run:
        """Drive until it has ended, or all that is open in it waits for people; return the run of `root_id`.

        Below another run it goes on under the lease that this journal holds, where it holds one.

        While a run that somebody else has started in the tree, and drives, is active, there is something to wait for.

        Raises:
            LeaseHeld: somebody else drives the tree.
            LeaseLost: somebody else took over, because this process stood still for too long.
            AgentNotFound, AgentChanged: a loop's agent is not to be had as it was.
        """
        tree_id = self._root.tree.root.id
        join = tree_id != self.root_id
        with (
            holding_lease(self.journal, tree_id, seconds=self._lease_seconds, on_lost=self._fail, join=join),
            driven_below(self.journal, self._root),
        ):
            try:
                self.journal.refresh(self.root_id)
                self._read = len(self._root.entries or ())
                self._look_around()
                self._until_quiet()
            except BaseException as failure:
                self._fail(failure)
                raise
            finally:
                self._stopping.set()
                self._engine.close()
        if self._failure is not None:
            raise self._failure
        return self._root

    def drain(self) -> None:
        """Let the phases that are open finish, and begin no others."""
        self._stopping.set()

    def _until_quiet(self) -> None:
        while self._root.reason is None and self._failure is None:
            working = self._running - self._gathering.keys()
            if not working and (self._stopping.is_set() or not self._is_something_coming()):
                return
            if time.monotonic() >= self._look_at:
                self._look_outside()
            self._begin_delayed()
            try:
                loop_id, gathering = self._done.get(timeout=self._patience())
            except queue.Empty:
                continue
            if gathering is None:
                self._running.discard(loop_id)
            else:
                self._gathering[loop_id] = gathering
            self._settle(self.journal.run(loop_id))

    # What can go on

    def _settle(self, run: Run | None) -> None:
        """See what can go on now that this run stands as it does: itself, its children, or those above it."""
        while run is not None:
            if run.reason is None:
                if recorded_agent(run) is None:
                    return
                if run.status is Status.ACTIVE:
                    self._submit(run)
                elif run.waits_for_children:
                    self._start_children(run)
                return
            self._let_go(run.id)
            run = None if run.id == self.root_id else run.parent

    def _submit(self, run: Run) -> None:
        gathering = self._gathering.pop(run.id, None)
        if gathering is not None:
            loop, done = gathering
            loop.call_soon_threadsafe(done.set_result, None)
        elif run.id not in self._running and not self._stopping.is_set():
            self._running.add(run.id)
            self._worker.take_on(run.id)

    def _let_go(self, loop_id: str) -> None:
        """Cancel the phase of a loop that has ended while it gathered."""
        gathering = self._gathering.pop(loop_id, None)
        if gathering is not None:
            loop, done = gathering
            loop.call_soon_threadsafe(done.cancel)

    # Children

    def _start_children(self, parent: Run) -> None:
        waiting, under_way = self._children_to_start(parent)
        concurrency = self._agents.of(parent).concurrency
        while waiting and len(under_way) < concurrency and not self._stopping.is_set():
            child = self.journal.run(waiting.popleft())
            if child.status is Status.NOT_STARTED and not self._is_delayed(child) and self._begin(child):
                self._submit(child)
                under_way.add(child.id)
        self._go_on_above(parent.id)

    def _children_to_start(self, parent: Run) -> tuple[deque[str], set[str]]:
        """Those that have not been begun, in order, and those that are under way; one broken meanwhile is neither."""
        counted, waiting, under_way = self._pending.get(parent.id, (0, deque(), set()))
        if counted != len(parent.born or ()):
            children = parent.children
            still_open = [
                child
                for child in children
                if child.reason is None and recorded_agent(child) is not None and not is_apart(child)
            ]
            waiting = deque(child.id for child in still_open if child.status is Status.NOT_STARTED)
            under_way = {child.id for child in still_open} - set(waiting)
            self._pending[parent.id] = (len(children), waiting, under_way)
        elif waiting:
            under_way -= {child for child in under_way if self.journal.run(child).reason is not None}
        return waiting, under_way

    def _is_delayed(self, child: Run) -> bool:
        """Whether it may not begin yet; the driver then comes back to it."""
        not_before = child.metadata.get("not_before", 0.0)
        if not not_before or (due := self._due(child, child.id, not_before)) <= self._seconds():
            return False
        self._delayed[child.id] = due
        self._next_due = min(self._next_due, due)
        return True

    def _due(self, run: Run, which: str, moment: float) -> float:
        """When a moment that is recorded comes, in seconds that only go on; fixed at the first look.

        So it comes though the clock is set back meanwhile, or was before, and not too early though it is set ahead.
        """
        if which not in self._dues:
            self._dues[which] = self._seconds() + max(0.0, moment - self.journal.time_in(run.tree))
        return self._dues[which]

    def _begin_delayed(self) -> None:
        """See to the children whose time has come."""
        if not self._delayed or (now := self._seconds()) < self._next_due:
            return
        for child_id in [child_id for child_id, due in self._delayed.items() if due <= now]:
            del self._delayed[child_id]
            parent = self.journal.run(child_id).parent
            assert parent is not None
            self._pending.pop(parent.id, None)
            self._settle(parent)
        self._next_due = min(self._delayed.values(), default=float("inf"))

    def _begin(self, child: Run) -> bool:
        """Let a child enter its first phase; False if it was ended instead: out of budget, or broken."""
        try:
            self.journal.insist(child.id, rules.begin, FIRST_PLACE)
        except BudgetExhausted as exhausted:
            self._follow.exhausted(child, None, exhausted)
            return False
        except RunStateError:  # somebody else has broken it, or begun it, at this moment
            return False
        return True

    def _go_on_above(self, parent_id: str) -> None:
        """After starting children: the parent may already be able to go on, if all of them ended at once."""
        parent = self.journal.run(parent_id)
        if not parent.waits_for_children:
            self._settle(parent)

    # What others do, and what time it is

    def _look_around(self) -> None:
        """See what can go on in the whole tree."""
        self._seen = self._root.tree.position
        self._pending.clear()
        for loop_id in list(self._gathering):
            if self.journal.run(loop_id).reason is not None:
                self._let_go(loop_id)
        for run in list(self._open_runs()):
            if run.status is Status.ACTIVE or run.waits_for_children:
                self._settle(run)

    def _look_outside(self) -> None:
        """See whether others have changed the tree, or asked for a drain, and whether a question's time is over."""
        began = time.monotonic()
        self.journal.refresh(self.root_id)
        entries = self._root.entries or []
        if any(entry.topic == DRAIN for entry in entries[self._read :]):
            self._stopping.set()
        self._read = len(entries)
        if self._root.tree.position != self._seen:
            self._look_around()
        self._is_something_coming()
        ended = time.monotonic()
        self._look_at = ended + max(_POLL_SECONDS, (ended - began) / _SHARE_OF_LOOKING)

    def _is_something_coming(self) -> bool:
        """Whether something will happen though nobody works here: a delay or the time for an answer runs out, or
        somebody else works in the tree. Questions whose time is over are answered.
        """
        coming = any(self.journal.run(child_id).reason is None for child_id in self._delayed)
        for run in list(self._open_runs()):
            if run.status is Status.BLOCKED:
                asked = question_of(run)
                until = None if asked is None else asked.get("until")
                if asked is not None and until is not None:
                    coming = True
                    if self._due(run, f"{run.id}:{until}", until) <= self._seconds():
                        self._take_default(run, asked["key"], asked["default"])
            elif run.status is Status.ACTIVE and recorded_agent(run) is None:
                coming = True
        return coming

    def _take_default(self, run: Run, key: str, default: object) -> None:
        with suppress(RunStateError):  # somebody else has answered, or broken it, at this moment
            provide(self.journal, run.id, key, default, by="rule")
        self._settle(self.journal.run(run.id))

    def _patience(self) -> float:
        """How long to wait for the workers before looking at anything else."""
        if not self._delayed:
            return _POLL_SECONDS
        return min(_POLL_SECONDS, max(0.0, self._next_due - self._seconds()))

    def _fail(self, failure: BaseException) -> None:
        self._failure = self._failure or failure
        self._stopping.set()

    def _open_runs(self) -> Iterator[Run]:
        """All that is open here, parents before children, without what other drivers drive."""
        waiting = [self._root]
        while waiting:
            run = waiting.pop()
            yield run
            if run.open_children:
                waiting.extend(
                    child for child in reversed(run.children) if child.reason is None and not is_apart(child)
                )

    @property
    def _root(self) -> Run:
        return self.journal.run(self.root_id)


def require_driven(workers: object, lease_seconds: object, max_depth: object) -> None:
    """Refuse to drive so, before anything is begun.

    Raises:
        WrongType, InvalidInput: one of these makes no sense.
    """
    require_count(workers, "workers")
    require_seconds(lease_seconds, "lease_seconds", above_zero=True)
    if max_depth is not None:
        require_count(max_depth, "max_depth")


def chosen_policy(given: SpawnPolicy | None, *, auto_spawn: bool) -> SpawnPolicy | None:
    """The policy that is asked for children; None for none.

    Raises:
        InvalidInput: the one that is given would never be asked.
        WrongType: it is none.
    """
    if given is None:
        return DefaultSpawnPolicy() if auto_spawn else None
    if not auto_spawn:
        raise InvalidInput("a spawn_policy does nothing without auto_spawn=True; give both, or neither")
    return require_policy(given)
