"""The work on loops: their phase functions called in threads and tasks, phase by phase, for as long as they can go on.

What a worker still does for a loop that was broken or paused meanwhile is refused by the journal, and it lets go of it.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, TypeAlias

from cortical.agents.agent import Agent, Agents, PhaseFunction
from cortical.agents.auto_spawn import spawn_by_policy
from cortical.agents.consequences import Consequences
from cortical.agents.loop import Loop
from cortical.agents.people import Suspended
from cortical.agents.spawn_policy import SpawnPolicy
from cortical.core import rules
from cortical.core.errors import BudgetExhausted, Conflict, LeaseLost, RunStateError
from cortical.core.journal import Journal
from cortical.core.phases import PHASE_OF, LoopPhase
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.engine.local import LocalEngine

#: An event loop, and what a phase awaits there until its children have ended.
Gathering: TypeAlias = tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]

_IN_TASK: Final = object()
#: How often a wait looks whether it is still wanted.
_POLL_SECONDS: Final = 0.1


class Worker:
    """Works on the loops that it is given.

    Args:
        journal: keeps the tree.
        agents: finds the agents.
        engine: carries the work out.
        consequences: records what follows from it.
        stopping: once it is set, open phases are finished and no others are begun.
        report: told the id of a loop that is let go of, or that gathers its children in the middle of a phase.
        fail: told of what no policy covers, which ends the driving.
        max_depth: how many levels the tree may have; None for as many as there come.
        spawn_policy: what is asked for children when ANSWER is left; None for nothing.
    """

    def __init__(
        self,
        journal: Journal,
        agents: Agents,
        engine: LocalEngine,
        consequences: Consequences,
        stopping: threading.Event,
        *,
        report: Callable[[str, Gathering | None], object],
        fail: Callable[[BaseException], object],
        max_depth: int | None,
        spawn_policy: SpawnPolicy | None,
    ) -> None:
        self.journal = journal
        self.max_depth = max_depth
        self._agents = agents
        self._engine = engine
        self._follow = consequences
        self._stopping = stopping
        self._report = report
        self._fail = fail
        self._spawn_policy = spawn_policy

    def take_on(self, loop_id: str) -> None:
        """Have a thread work on a loop until it can go no further, and report it then."""
        self._engine.call(self._guarded, self._work, loop_id)

    # What a `Loop` asks for

    def recorded(self, agent: Agent) -> dict[str, Any]:
        """What the log keeps of an agent, which is known from now on."""
        return self._agents.add(agent).as_recorded()

    async def gathered(self, loop_id: str, visit_seq: int) -> None:
        """Pause a loop for its children in the middle of an async phase, and wait until they have ended."""
        if self.journal.insist(loop_id, rules.during, visit_seq, rules.wait):
            here = asyncio.get_running_loop()
            done: asyncio.Future[None] = here.create_future()
            self._report(loop_id, (here, done))
            await done

    # In the threads

    def _guarded(self, work: Any, *args: Any) -> None:
        """Do the work for a loop (the first of `args`), and report it done. What no policy covers ends the driving."""
        loop_id = args[0]
        try:
            if work(*args) is not _IN_TASK:
                self._report(loop_id, None)
        except BaseException as failure:  # noqa: BLE001  # raised again by the thread that drives
            run = self.journal.index.runs.get(loop_id)
            if not isinstance(failure, RunStateError | Conflict) or run is None or run.status is Status.ACTIVE:
                self._fail(failure)
            self._report(loop_id, None)

    def _work(self, loop_id: str) -> object:
        """Take a loop on, phase by phase, for as long as it can go on."""
        while not self._stopping.is_set():
            run = self.journal.run(loop_id)
            if run.status is not Status.ACTIVE or run.visit is None:
                return None
            if run.visit.left_at is not None:  # its children have been run
                self._follow.leave(run, run.visit.seq)
                continue
            agent = self._agents.of(run)
            function = agent.functions.get(PHASE_OF[run.visit.place])
            if function is not None and inspect.iscoroutinefunction(function):
                after = partial(self._engine.call, self._guarded, self._after_task, loop_id, run.visit.seq)
                self._engine.run(_awaited(function, Loop(self, run))).add_done_callback(after)
                return _IN_TASK
            self._enter(run, agent, function)
        return None

    def _enter(self, run: Run, agent: Agent, function: PhaseFunction | None) -> None:
        assert run.visit is not None
        seq = run.visit.seq
        try:
            value = None if function is None else function(Loop(self, run))
        except Suspended:
            return
        except Exception as error:  # noqa: BLE001  # for the policies of the agent
            self._raised(run.id, seq, agent, error)
            return
        self._left(run.id, seq, agent, value)

    def _after_task(self, loop_id: str, seq: int, done: Future[Any]) -> object:
        error = None if done.cancelled() else done.exception()
        if isinstance(error, Suspended) or (done.cancelled() and self._stopping.is_set()):
            return None
        if done.cancelled():
            error = RuntimeError("the phase ended by the cancellation of a task that it waited for")
        agent = self._agents.of(self.journal.run(loop_id))
        if error is None:
            self._left(loop_id, seq, agent, done.result())
        else:
            self._raised(loop_id, seq, agent, error)
        return self._work(loop_id)

    def _left(self, loop_id: str, seq: int, agent: Agent, value: object) -> None:
        """Record what follows from a phase function that has returned."""
        run = self.journal.run(loop_id)
        visit = run.still_at(seq)
        if visit is None:
            return
        phase = PHASE_OF[visit.place]
        if phase is LoopPhase.VERIFY:
            self._follow.judged(run, seq, agent, value)
            return
        if phase is LoopPhase.ANSWER and self._spawn_policy is not None:
            try:
                spawn_by_policy(self.journal, run, seq, self._spawn_policy, self.max_depth)
            except Exception as error:  # noqa: BLE001  # as if the function had raised it
                self._raised(loop_id, seq, agent, error)
                return
        self._follow.leave(run, seq)

    def _raised(self, loop_id: str, seq: int, agent: Agent, error: BaseException) -> None:
        if isinstance(error, BudgetExhausted):
            self._follow.exhausted(self.journal.run(loop_id), seq, error)
            return
        if isinstance(error, LeaseLost | Conflict) or not isinstance(error, Exception):
            raise error
        self._wait(loop_id, seq, self._follow.failed(loop_id, seq, agent, error))

    def _wait(self, loop_id: str, seq: int, seconds: float) -> None:
        """Wait before a phase is tried again, for as long as its loop stands there and nobody stops the driving."""
        over = time.monotonic() + seconds
        while (left := over - time.monotonic()) > 0:
            run = self.journal.run(loop_id)
            if run.status is not Status.ACTIVE or run.still_at(seq) is None:
                return
            if self._stopping.wait(min(left, _POLL_SECONDS)):
                return


async def _awaited(function: PhaseFunction, loop: Loop) -> Any:
    return await function(loop)
