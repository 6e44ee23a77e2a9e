"""Drives a tree to its end by its agents' functions, calling only the rules that anybody may call.

It holds the lease on the tree while it drives. A loop that waits for its children is a row in the log, not a
thread: workers are given only loops that can go on. What a worker still does for a loop that was broken or
paused meanwhile is refused by the journal, and the worker lets go of it.

Longer than other modules: what the one driving thread and the workers do to each other is read together.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import queue
import socket
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

from cortical.agents.agent import Agent, Agents, PhaseFunction
from cortical.agents.family import Notes, end_loop
from cortical.agents.loop import ASKED, LIMIT, PROVIDED, VERDICT, Loop, Suspended
from cortical.agents.stuck import judge
from cortical.agents.verdict import Verdict
from cortical.core import rules
from cortical.core.errors import BudgetExhausted, Conflict, LeaseLost, RunStateError, WrongType
from cortical.core.events import Event
from cortical.core.journal import Journal
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome
from cortical.core.phases import FIRST_PLACE, NEXT_PLACE, PHASE_OF, LoopPhase
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.core.tree import VISIT_ENDED
from cortical.engine import LocalEngine

#: How often an inconclusive VERIFY is entered before a person is asked.
MOST_INCONCLUSIVE: Final = 3
#: The note by which a driver in any process is asked to let the open phases finish, and stop.
DRAIN: Final = "drain"

_POLL_SECONDS: Final = 0.1


class Driver:
    """Drives one tree, once.

    Args:
        journal: keeps the tree.
        root_id: the tree's root, started and with an agent recorded.
        agents: finds the agents.
        workers: how many phase functions run at the same time.
        lease_seconds: how long the lease runs without being renewed, which is done three times in that time.
    """

    def __init__(
        self, journal: Journal, root_id: str, agents: Agents, *, workers: int = 4, lease_seconds: float = 10.0
    ) -> None:
        self.journal = journal
        self.root_id = root_id
        self._agents = agents
        self._workers = workers
        self._lease_seconds = lease_seconds
        self._engine: LocalEngine
        self._done: queue.SimpleQueue[tuple[str, _Gathering | None]] = queue.SimpleQueue()
        self._running: set[str] = set()
        self._pending: dict[str, tuple[int, deque[str], set[str]]] = {}
        self._gathering: dict[str, _Gathering] = {}
        self._drains = 0
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._seen = 0

    def drive(self) -> Run:
        """Drive until the tree has ended, or all that is open in it waits for people; return the root.

        Raises:
            LeaseHeld: somebody else drives the tree.
            LeaseLost: somebody else took over, because this process stood still for too long.
            AgentNotFound, AgentChanged: a loop's agent is not to be had as it was.
        """
        store, clock = self.journal.store, self.journal.clock
        lease = store.take_lease(self.root_id, _holder(), now=clock.time(), seconds=self._lease_seconds)
        self.journal.fences[self.root_id] = lease.fence
        renewing = threading.Thread(target=self._renew, args=(lease,), name="cortical-lease", daemon=True)
        self._engine = LocalEngine(self._workers)
        renewing.start()
        try:
            self.journal.refresh(self.root_id)
            self._drains = len(self._root.noted(DRAIN))
            self._look_around()
            self._until_quiet()
        except BaseException as failure:
            self._failure = self._failure or failure
            raise
        finally:
            self._stopping.set()
            self._engine.close()
            renewing.join()
            del self.journal.fences[self.root_id]
            store.release_lease(lease)
        if self._failure is not None:
            raise self._failure
        return self._root

    def drain(self) -> None:
        """Let the phases that are open finish, and begin no others."""
        self._stopping.set()

    def recorded(self, agent: Agent) -> dict[str, Any]:
        """What the log keeps of an agent, which is known from now on."""
        return self._agents.add(agent).as_recorded()

    async def gathered(self, loop_id: str, visit_seq: int) -> None:
        """Pause a loop for its children in the middle of an async phase, and wait until they have ended."""
        if self.journal.insist(loop_id, rules.during, visit_seq, rules.wait):
            here = asyncio.get_running_loop()
            done: asyncio.Future[None] = here.create_future()
            self._done.put((loop_id, (here, done)))
            await done

    # Scheduling, by the one thread that drives

    def _until_quiet(self) -> None:
        while self._root.reason is None and self._failure is None:
            working = self._running - self._gathering.keys()
            if not working and (self._stopping.is_set() or not self._wait_for_time()):
                return
            try:
                loop_id, gathering = self._done.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                self._look_outside()
                continue
            if gathering is None:
                self._running.discard(loop_id)
            else:
                self._gathering[loop_id] = gathering
            self._settle(self.journal.run(loop_id))

    def _settle(self, run: Run | None) -> None:
        """See what can go on now that this loop stands as it does: itself, its children, or those above it."""
        while run is not None:
            if run.status is Status.ACTIVE:
                self._submit(run)
                return
            if run.waits_for_children:
                self._start_children(run)
                return
            if run.reason is None:
                return
            self._let_go(run.id)
            run = run.parent

    def _submit(self, run: Run) -> None:
        gathering = self._gathering.pop(run.id, None)
        if gathering is not None:
            loop, done = gathering
            loop.call_soon_threadsafe(done.set_result, None)
        elif run.id not in self._running and not self._stopping.is_set():
            self._running.add(run.id)
            self._engine.call(self._guarded, self._work, run.id)

    def _let_go(self, loop_id: str) -> None:
        """Cancel the phase of a loop that has ended while it gathered."""
        gathering = self._gathering.pop(loop_id, None)
        if gathering is not None:
            loop, done = gathering
            loop.call_soon_threadsafe(done.cancel)

    def _start_children(self, parent: Run) -> None:
        waiting, under_way = self._children_to_start(parent)
        concurrency = self._agent_of(parent).concurrency
        while waiting and len(under_way) < concurrency and not self._stopping.is_set():
            child = self.journal.run(waiting.popleft())
            if child.status is Status.NOT_STARTED and self._begin(child):
                self._submit(child)
                under_way.add(child.id)
        self._go_on_above(parent.id)

    def _children_to_start(self, parent: Run) -> tuple[deque[str], set[str]]:
        """Those that have not been begun, in order, and those that are under way; one broken meanwhile is neither."""
        counted, waiting, under_way = self._pending.get(parent.id, (0, deque(), set()))
        if counted != len(parent.tree.graph.succ[parent.id]):
            still_open = [child for child in parent.children if child.reason is None]
            waiting = deque(child.id for child in still_open if child.status is Status.NOT_STARTED)
            under_way = {child.id for child in still_open} - set(waiting)
            self._pending[parent.id] = (len(parent.children), waiting, under_way)
        elif waiting:
            under_way -= {child for child in under_way if self.journal.run(child).reason is not None}
        return waiting, under_way

    def _begin(self, child: Run) -> bool:
        """Let a child enter its first phase; False if it was ended instead: out of budget, or broken."""
        try:
            self.journal.insist(child.id, rules.begin, "question")
        except BudgetExhausted as exhausted:
            self._exhausted(child, None, exhausted)
            return False
        except RunStateError:  # somebody else has broken it, or begun it, at this moment
            return False
        return True

    def _go_on_above(self, parent_id: str) -> None:
        """After starting children: the parent may already be able to go on, if all of them ended at once."""
        parent = self.journal.run(parent_id)
        if not parent.waits_for_children:
            self._settle(parent)

    def _look_around(self) -> None:
        """See what can go on in the whole tree."""
        self._seen = self._root.tree.position
        self._pending.clear()
        for loop_id in list(self._gathering):
            if self.journal.run(loop_id).reason is not None:
                self._let_go(loop_id)
        for run in list(self._root.tree.walk()):
            if run.status is Status.ACTIVE or run.waits_for_children:
                self._settle(run)

    def _look_outside(self) -> None:
        """See whether other processes have changed the tree."""
        self.journal.refresh(self.root_id)
        if len(self._root.noted(DRAIN)) > self._drains:
            self._stopping.set()
        if self._root.tree.position != self._seen:
            self._look_around()

    def _wait_for_time(self) -> bool:
        """Whether a question to a person has a time limit that is still to come; those that are over are answered."""
        coming = False
        for run in [run for run in self._root.tree.walk() if run.status is Status.BLOCKED]:
            asked = run.noted(ASKED)
            until = asked[-1]["until"] if asked else None
            if until is None or any(said["key"] == asked[-1]["key"] for said in run.noted(PROVIDED)):
                continue  # no limit; or it was answered, and something else blocks the loop
            if until > self.journal.clock.time():
                coming = True
            else:
                with suppress(RunStateError):  # somebody else has answered, or broken it, at this moment
                    provide(self.journal, run.id, asked[-1]["key"], asked[-1]["default"])
                self._settle(self.journal.run(run.id))
                coming = True
        return coming

    def _renew(self, lease: Any) -> None:
        while not self._stopping.wait(self._lease_seconds / 3):
            try:
                now = self.journal.clock.time()
                lease = self.journal.store.renew_lease(lease, now=now, seconds=self._lease_seconds)
            except OSError as error:  # lost, or not to be written: then the lease runs out
                self._failure = error
                return

    # Work, by the workers

    def _guarded(self, work: Any, *args: Any) -> None:
        """Do the work for a loop (the first of `args`), and report it done. What no policy covers ends the driving."""
        loop_id = args[0]
        try:
            if work(*args) is not _IN_TASK:
                self._done.put((loop_id, None))
        except BaseException as failure:  # noqa: BLE001  # raised again by the thread that drives
            run = self.journal.index.runs.get(loop_id)
            if not isinstance(failure, RunStateError | Conflict) or run is None or run.status is Status.ACTIVE:
                self._failure = self._failure or failure
            self._done.put((loop_id, None))

    def _work(self, loop_id: str) -> object:
        """Take a loop on, phase by phase, for as long as it can go on."""
        while not self._stopping.is_set():
            run = self.journal.run(loop_id)
            if run.status is not Status.ACTIVE or run.visit is None:
                return None
            if run.visit.left_at is not None:  # its children have been run
                self._move_on(run)
                continue
            agent = self._agent_of(run)
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
        except BudgetExhausted as exhausted:
            self._exhausted(run, seq, exhausted)
            return
        except (LeaseLost, Conflict):
            raise
        except Exception as error:  # noqa: BLE001  # for the policies of the agent
            self._failed(run.id, seq, agent, error)
            return
        self._left(run.id, seq, agent, value)

    def _after_task(self, loop_id: str, seq: int, done: Future[Any]) -> object:
        agent = self._agent_of(self.journal.run(loop_id))
        error = None if done.cancelled() else done.exception()
        if isinstance(error, Suspended) or (done.cancelled() and self._stopping.is_set()):
            return None
        if done.cancelled():
            error = RuntimeError("the phase ended by the cancellation of a task that it waited for")
        if isinstance(error, BudgetExhausted):
            self._exhausted(self.journal.run(loop_id), seq, error)
            return None
        if isinstance(error, LeaseLost | Conflict) or not isinstance(error, Exception | None):
            raise error
        if error is not None:
            self._failed(loop_id, seq, agent, error)
        else:
            self._left(loop_id, seq, agent, done.result())
        return self._work(loop_id)

    def _left(self, loop_id: str, seq: int, agent: Agent, value: object) -> None:
        """Record what follows from a phase function that has returned."""
        run = self.journal.run(loop_id)
        if run.visit is not None and PHASE_OF[run.visit.place] is LoopPhase.VERIFY:
            self._judge(run, seq, agent, value)
        elif run.open_children:
            self._change(loop_id, seq, rules.noting, [(VISIT_ENDED, None)], rules.wait)
        else:
            self._move_on(run)

    def _move_on(self, run: Run) -> None:
        assert run.visit is not None
        seq = run.visit.seq
        try:
            self._change(run.id, seq, rules.move, NEXT_PLACE[run.visit.place])
        except BudgetExhausted as exhausted:
            self._exhausted(run, seq, exhausted)

    def _judge(self, run: Run, seq: int, agent: Agent, verdict: object) -> None:
        if not isinstance(verdict, Verdict):
            verdict = Verdict.inconclusive(str(WrongType(f"verify returns a Verdict, not {verdict!r}")))
        recorded = {"verdict": verdict.kind, "text": verdict.text, "evidence": verdict.evidence}
        notes: Notes = [(VERDICT, recorded)]
        match verdict.kind:
            case "passed":
                self._end(run, seq, Ok(verdict.result), TerminationReason.SUCCESS, notes)
            case "revise" if (
                agent.max_turns is not None and run.visit is not None and run.visit.turn >= agent.max_turns
            ):
                over = Abandoned(f"max_turns {agent.max_turns} reached: {verdict.text}")
                limited = [*notes, (LIMIT, "max_turns")]
                self._end(run, seq, over, TerminationReason.BUDGET_EXHAUSTED, limited)
            case "revise" if agent.stuck and (found := judge(run, agent.stuck, feedback=verdict.text)):
                self._stuck(run, seq, notes, verdict.text, *found)
            case "revise":
                self._next_turn(run, seq, notes, verdict.text)
            case "impossible":
                self._end(run, seq, Abandoned(verdict.text), TerminationReason.QUESTION_INVALID, notes)
            case "inconclusive" if _times_inconclusive(run) + 1 < MOST_INCONCLUSIVE:
                self._change(run.id, seq, rules.note, VERDICT, recorded)
            case _:
                self._change(run.id, seq, rules.noting, notes, rules.block, f"escalated: {verdict.text}")

    def _stuck(self, run: Run, seq: int, notes: Notes, feedback: str, action: str, why: str) -> None:
        """Do what the policy says of a loop whose turns repeat themselves."""
        match action:
            case "escalate":
                self._change(run.id, seq, rules.noting, notes, rules.block, f"escalated: {why}")
            case "break":
                self._end(run, seq, Abandoned(why), TerminationReason.ESCALATED, notes)
            case _:
                self._next_turn(run, seq, [*notes, ("stuck", why)], feedback)

    def _next_turn(self, run: Run, seq: int, notes: Notes, feedback: str) -> None:
        try:
            self._change(run.id, seq, rules.noting, notes, rules.move, FIRST_PLACE, f"revise: {feedback}")
        except BudgetExhausted as exhausted:
            self._change(run.id, seq, rules.noting, notes, rules.leave)
            self._exhausted(self.journal.run(run.id), seq, exhausted)

    def _failed(self, loop_id: str, seq: int, agent: Agent, error: Exception) -> None:
        """Try a phase function again, or let its loop fail; one of VERIFY has been inconclusive.

        Nothing follows where the loop was ended, paused or moved on meanwhile.
        """
        run = self.journal.run(loop_id)
        if run.status is not Status.ACTIVE or run.visit is None or run.visit.seq != seq:
            return
        if PHASE_OF[run.visit.place] is LoopPhase.VERIFY:
            self._judge(run, seq, agent, Verdict.inconclusive(f"verify raised {type(error).__name__}: {error}"))
            return
        here = run.entries_of(len(run.past or ()))
        attempt = 1 + sum(entry.topic == "attempt" for entry in here)
        if isinstance(error, agent.retry.on) and attempt < agent.retry.attempts:
            told = {"attempt": attempt, "error": f"{type(error).__name__}: {error}"}
            self._change(loop_id, seq, rules.note, "attempt", told)
            self._stopping.wait(agent.retry.seconds_before(attempt + 1))
        else:
            self._end(run, seq, Failed.of(error, attempts=attempt), TerminationReason.ERROR, ())

    def _exhausted(self, run: Run, seq: int | None, exhausted: BudgetExhausted) -> None:
        """End a loop whose budget, or one above it, has nothing left; what it has made stays with it."""
        over = Abandoned(str(exhausted))
        self._end(run, seq, over, TerminationReason.BUDGET_EXHAUSTED, [(LIMIT, exhausted.limit)])

    def _end(self, run: Run, seq: int | None, outcome: Outcome, reason: TerminationReason, notes: Notes) -> None:
        end_loop(self.journal, run, seq, outcome, reason, notes, self._agent_of)

    def _change(self, loop_id: str, seq: int, *rule_and_facts: Any) -> Sequence[Event]:
        return self.journal.insist(loop_id, rules.during, seq, *rule_and_facts)

    def _agent_of(self, run: Run) -> Agent:
        return self._agents.find((run.metadata or {})["agent"])

    @property
    def _root(self) -> Run:
        return self.journal.run(self.root_id)


_IN_TASK: Final = object()
_Gathering: TypeAlias = tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]


def provide(journal: Journal, loop_id: str, key: str, value: object) -> None:
    """Answer the question of a loop that is blocked by it; it can go on, driven by whoever drives the tree.

    Raises:
        RunNotFound: there is no such loop.
        RunStateError: it is not blocked.
    """
    journal.insist(loop_id, _answer, {"key": key, "value": value})


def _answer(run: Run, at: float, provided: dict[str, Any]) -> Sequence[Event]:
    if run.status is not Status.BLOCKED:
        raise RunStateError(f"loop {run.id!r} asks nothing: it is {run.status.value}; nothing was recorded", run.id)
    return rules.noting(run, at, [(PROVIDED, provided)], rules.resume, "answered")


async def _awaited(function: PhaseFunction, loop: Loop) -> Any:
    return await function(loop)


def _times_inconclusive(run: Run) -> int:
    here = run.entries_of(len(run.past or ()))
    return sum(entry.topic == VERDICT and entry.value["verdict"] == "inconclusive" for entry in here)


def _holder() -> str:
    thread = threading.current_thread()
    return f"process {os.getpid()} on {socket.gethostname()}, {thread.name} ({thread.ident})"
