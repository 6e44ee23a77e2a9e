"""Agents set to work: started on a goal, taken up again, answered.

`run` is longer than other functions: what it takes, and when it refuses, is told there one by one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from attrs import frozen

from cortical.agents import people
from cortical.agents.agent import Agent, AgentNotFound, Agents
from cortical.agents.driver import Driver, chosen_policy, require_driven
from cortical.agents.family import as_spawned, is_apart, recorded_agent
from cortical.agents.loop import is_ok
from cortical.agents.spawn_policy import SpawnPolicy
from cortical.core import rules
from cortical.core.budget import Budget
from cortical.core.checks import require_text
from cortical.core.errors import InvalidInput, LoopFailed
from cortical.core.going_on import way_on
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.outcome import why_of
from cortical.core.phases import FIRST_PLACE
from cortical.core.ports import Clock
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.core.topics import ARTIFACT, LIMIT, VERDICT
from cortical.engine.below import begun_below, found_by, let_go
from cortical.engine.event_loop import refuse_event_loop
from cortical.store.face import Face, Place, has_journal

#: How many levels a tree of agents may have, where nothing else was said.
MAX_DEPTH: Final = 10


@frozen
class Result:
    """How a driven tree stands: its root's end, or what it waits for."""

    run_id: str
    status: Status
    reason: TerminationReason | None
    #: What it brought back, if it succeeded.
    value: Any
    #: Name → content, the newest of each.
    artifacts: dict[str, Any]
    #: Of the last verdict.
    verdict: str | None
    evidence: Any
    #: Child id → value, of those that succeeded, as spawned.
    children: dict[str, Any]
    #: What was used of the resources that its budget limits; empty without one.
    spent: dict[str, float]
    #: Which limit ended it; None when none did.
    limit: str | None
    #: Why it stands so, in a sentence; empty when it succeeded.
    why: str
    #: How long it took from its start to its end, or to what was recorded last.
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it has succeeded."""
        return self.status is Status.COMPLETED

    def raise_for_failure(self) -> Result:
        """This result, if the loop succeeded.

        Raises:
            LoopFailed: it did not, or not yet.
        """
        if not self.ok:
            raise LoopFailed(self)
        return self


def run(
    agent: Agent,
    goal: str,
    *,
    store: Place | None = None,
    budget: Budget | None = None,
    inputs: Mapping[str, Any] | None = None,
    workers: int = 4,
    max_depth: int = MAX_DEPTH,
    lease_seconds: float = 10.0,
    auto_spawn: bool = False,
    spawn_policy: SpawnPolicy | None = None,
    parent: str | None = None,
    key: str | None = None,
    agents: Iterable[Agent] = (),
    clock: Clock = time,
) -> Result:
    """Start a loop on `goal` and drive it, and all it spawns, until it has ended or waits for a person.

    Below a parent it is found again: where the parent, or what the parent is another try of, has begun it already
    during its present visit, it is driven on; one that has succeeded is only looked at, for one that has not there is
    another.

    Args:
        agent: does the work.
        store: a path or URL, or an open store; in memory by default.
        budget: what the whole tree may use; at a limit the loop that needed more ends, and the result names the limit.
        inputs: what the loop finds in its `inputs`.
        workers: how many phase functions run at the same time.
        max_depth: how many levels there may be, from this loop down.
        lease_seconds: how long after this process has died another may take over.
        auto_spawn: each time that a loop leaves ANSWER and has spawned nothing in it, ask `spawn_policy` for children;
            they have the loop's own agent and inputs, and their goals are questions that the loop left open.
        spawn_policy: a `DefaultSpawnPolicy` by default.
        parent: an open run of the same store below which the loop is to stand, such as a stage.
        key: by what it is found below the parent; the goal by default.
        agents: for one that is found again: those it has spawned that cannot be imported from where the log says.

    Raises:
        WrongType, InvalidInput: an argument makes no sense: the agent has no verify function, the goal is empty, a
            policy is given without `auto_spawn`, or a key without a parent. Nothing was begun.
        LeaseHeld: somebody else drives the tree that it is to be part of.
        RuntimeError: called inside an event loop; there, ``await arun(…)``.
    """
    refuse_event_loop("run", "arun")
    require_driven(workers, lease_seconds, max_depth)
    with Face(store, clock=clock, **_levels(store, max_depth)) as face:
        journal = face.journal
        chosen_policy(spawn_policy, auto_spawn=auto_spawn)  # refused before anything is begun
        known = Agents([agent, *agents])
        before = None if parent is None else _begun(journal, parent, require_text(key or goal, "a goal"))
        if before is not None and before.status is Status.COMPLETED:
            return result_of(before)
        if before is not None and before.reason is None:
            root_id = before.id
        else:
            given: dict[str, Any] = {"budget": budget, "inputs": inputs, "auto_spawn": auto_spawn}
            root_id = start(journal, agent, goal, max_depth=max_depth, parent=parent, key=key, **given)
        driving = Driver(
            journal, root_id, known, workers=workers, lease_seconds=lease_seconds, spawn_policy=spawn_policy
        )
        return result_of(driving.drive())


def start(
    journal: Journal,
    agent: Agent,
    goal: str,
    *,
    budget: Budget | None = None,
    inputs: Mapping[str, Any] | None = None,
    auto_spawn: bool = False,
    max_depth: int | None = None,
    parent: str | None = None,
    key: str | None = None,
) -> str:
    """Start the loop that an agent is to drive, as a root or below a run; returns its id. What `run` does first.

    `auto_spawn` and how deep the tree may be are recorded with it, for whoever drives it.

    Args:
        max_depth: how many levels there may be, from this loop down; by default the journal's own, from the root.
        key: by what it is found below the parent; the goal by default.
    """
    if key is not None and parent is None:
        raise InvalidInput("a key finds a loop below its parent; give the parent too")
    Agents([agent])
    above = None if parent is None else journal.refresh(parent)
    level = 0 if above is None else above.depth + 1
    metadata: dict[str, Any] = {
        "agent": agent.as_recorded(),
        "inputs": dict(inputs) if inputs else None,
        "max_depth": journal.max_depth if max_depth is None else level + max_depth,
    }
    if auto_spawn:
        metadata["auto_spawn"] = True
    if budget is not None:
        metadata["budget"] = budget.limits()
    root_id = journal.new_id()
    goal = require_text(goal, "a goal")
    if above is None:
        journal.plant(root_id, rules.start, LOOP, goal, place=FIRST_PLACE, metadata=metadata)
        return root_id
    metadata |= found_by(above, key or goal)
    journal.change(above.id, rules.start_below, root_id, LOOP, goal, FIRST_PLACE, metadata=metadata)
    return root_id


def _levels(store: Place | None, max_depth: int) -> dict[str, Any]:
    """What the journal of `store` is told, if it is made here: one that is shared serves other trees too."""
    return {} if has_journal(store) else {"max_depth": max_depth}


def _begun(journal: Journal, parent_id: str, key: str) -> Run | None:
    """What was begun below a run under this key, and nobody drives who counts."""
    found = begun_below(journal, parent_id, LOOP, key)
    return None if found is None else let_go(journal, found)


def resume(
    store: Place,
    run_id: str,
    *,
    agents: Iterable[Agent] = (),
    allow_changed: bool = False,
    workers: int = 4,
    max_depth: int | None = None,
    lease_seconds: float = 10.0,
    auto_spawn: bool | None = None,
    spawn_policy: SpawnPolicy | None = None,
    clock: Clock = time,
) -> Result:
    """Take up a tree where it stands, and drive it on. One that has ended is only looked at.

    Where an agent was started below another run, what it drives is taken up, and not the tree that this is part of.

    Args:
        run_id: the id of any loop of the tree, or a prefix that no other id begins with.
        agents: those that cannot be imported from where the log says, such as agents of a script.
        allow_changed: go on though an agent is not as it was when the loop was started.
        max_depth, auto_spawn: as `run` was told when the tree was started, unless they are given.
        spawn_policy: a `DefaultSpawnPolicy` by default; it is not recorded.

    Raises:
        WrongType, InvalidInput: an argument makes no sense.
        RunNotFound: there is no such loop.
        LeaseHeld: somebody else drives the tree.
        AgentNotFound, AgentChanged: no agent was started on it, or one is not to be had as it was.
        RuntimeError: called inside an event loop; there, ``await asyncio.to_thread(resume, …)``.
    """
    refuse_event_loop("resume", "asyncio.to_thread")
    require_driven(workers, lease_seconds, max_depth)
    with Face(store, clock=clock, create=False, **_levels(store, MAX_DEPTH)) as face:
        taken = taken_up(
            face.journal,
            run_id,
            Agents(agents, allow_changed=allow_changed),
            workers=workers,
            lease_seconds=lease_seconds,
            max_depth=max_depth,
            auto_spawn=auto_spawn,
            spawn_policy=spawn_policy,
        )
        return result_of(taken if isinstance(taken, Run) else taken.drive())


def taken_up(journal: Journal, run_id: str, agents: Agents, **options: Any) -> Driver | Run:
    """The driver that carries on what a run is part of, not yet driving; where that has ended, its run.

    Args:
        run_id: the id of any loop of the tree, or a prefix that no other id begins with.
        options: those of the driver.

    Raises:
        RunNotFound: there is no such loop.
        AgentNotFound, AgentChanged: no agent was started on it, or one is not to be had as it was.
    """
    top = driven_with(journal.find(run_id))
    if top.reason is not None:
        return top
    if recorded_agent(top) is None:
        raise AgentNotFound(f"{top.kind} {top.id!r} was not started with an agent; carry it on: {way_on(top)}")
    return Driver(journal, top.id, agents, **options)


def driven_with(run: Run) -> Run:
    """The run on which the agent was started that drives this one; the root of its tree where none was below."""
    return next((one for one in reversed(run.tree.path(run)) if is_apart(one)), run.tree.root)


async def arun(agent: Agent, goal: str, **options: Any) -> Result:
    """`run`, for use inside an event loop, which goes on meanwhile. Takes the same options."""
    return await asyncio.to_thread(partial(run, agent, goal, **options))


def provide(store: Place, loop_id: str, key: str, value: object) -> None:
    """Answer the question that blocks a loop; a driver that waits goes on, and `resume` does.

    Args:
        loop_id: its id, or a prefix that no other id begins with.
        key: the question's key; the question itself where it was given none.

    Raises:
        RunNotFound: there is no such loop.
        RunStateError: it is not blocked.
    """
    with Face(store, create=False) as face:
        people.provide(face.journal, face.journal.resolve(loop_id), key, value)


def result_of(root: Run) -> Result:
    """How a driven loop stands."""
    verdicts = root.noted(VERDICT)
    return Result(
        run_id=root.id,
        status=root.status,
        reason=root.reason,
        value=root.value,
        artifacts={made["name"]: made["content"] for made in root.noted(ARTIFACT)},
        verdict=verdicts[-1]["verdict"] if verdicts else None,
        evidence=verdicts[-1]["evidence"] if verdicts else None,
        children={child.id: child.value for child in as_spawned(root.children) if is_ok(child)},
        spent=dict(root.account.spent) if root.account is not None else {},
        limit=(root.noted(LIMIT) or [None])[-1],
        why=_why(root),
        seconds=(root.tree.at if root.ended_at is None else root.ended_at) - root.started_at,
    )


def _why(root: Run) -> str:
    if root.outcome is not None:
        return why_of(root.outcome)
    blocked = [run for run in root.tree.walk(root) if run.status is Status.BLOCKED]
    return "; ".join(f"{run.id}: {run.why}" for run in blocked) or root.why
