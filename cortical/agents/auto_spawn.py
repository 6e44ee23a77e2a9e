"""Children that a policy spawns for a loop which leaves ANSWER with questions open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from cortical.agents.spawn_policy import SpawnContext, SpawnPolicy, decided, suggested
from cortical.core import rules
from cortical.core.checks import require_text
from cortical.core.errors import BudgetExhausted, DepthLimitReached, RunStateError
from cortical.core.events import Event, Started
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.run import Run
from cortical.core.safe_text import counted
from cortical.core.status import Status
from cortical.core.topics import DECISION


def spawn_by_policy(journal: Journal, run: Run, visit_seq: int, policy: SpawnPolicy, max_depth: int | None) -> None:
    """Start the children that the policy suggests, with the loop's own agent, and note the decision with its reason.

    Both are one record. Nothing happens where the loop has spawned in this visit itself (or was given these children
    before a crash), where the policy says no, and where a budget or `max_depth` has no room for all of them.

    Raises:
        WrongType, InvalidInput: the policy answers with something else than a `Decision` and goals.
        Whatever the policy raises.
    """
    if run.open_children or any(child.metadata.get("visit") == visit_seq for child in run.children):
        return
    with journal.holding(run.tree):
        context = SpawnContext.of(run, now=journal.clock.time(), max_depth=max_depth)
    decision = decided(policy, context)
    goals = suggested(policy, context) if decision.spawn else []
    if not goals:
        return
    children = {journal.new_id(): require_text(goal, "a goal of a spawn policy") for goal in goals}
    told = {
        "decision": f"spawn {counted(len(children), 'child', 'children', single='a')}",
        "rationale": decision.why,
        "by": "rule",
    }
    with suppress(BudgetExhausted, DepthLimitReached):
        journal.insist(run.id, rules.during, visit_seq, _spawn, children, told, max_depth)


def _spawn(
    run: Run, at: float, children: Mapping[str, str], told: Mapping[str, Any], max_depth: int | None
) -> Sequence[Event]:
    if run.status is not Status.ACTIVE or run.visit is None:
        raise RunStateError(f"loop {run.id!r} is {run.status.value}; no children were spawned for it", run.id)
    metadata = {
        "agent": run.metadata["agent"],
        "visit": run.visit.seq,
        "attempt": 1,
        "inputs": run.metadata.get("inputs"),
        "by": "rule",
    }
    started = rules.spawn(run, at, LOOP, children, place=None, metadata=metadata, max_depth=max_depth)
    keyed = [_keyed(event, f"{run.visit.seq}:{count}:by policy") for count, event in enumerate(started)]
    return [*rules.note(run, at, DECISION, dict(told)), *keyed]


def _keyed(event: Event, key: str) -> Event:
    assert isinstance(event, Started)
    return replace(event, metadata={**(event.metadata or {}), "key": key})
