"""How loops end among their relatives: what a child's end means for its siblings and its parent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from msgspec.structs import replace

from cortical.agents.agent import Agent, Retry
from cortical.core import rules
from cortical.core.errors import Conflict, CorticalError
from cortical.core.events import Ended, Event
from cortical.core.journal import Journal
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome
from cortical.core.phases import LOOP
from cortical.core.run import Run
from cortical.core.status import TerminationReason

AgentOf: TypeAlias = Callable[[Run], Agent]
Notes: TypeAlias = Sequence[tuple[str, Any]]

#: How often an end is decided again because another writer was quicker.
_MOST_TRIES: Final = 20


class ChildFailed(CorticalError, RuntimeError):
    """A loop failed because a child of it did, or because too few of them succeeded."""


def end_loop(
    journal: Journal,
    run: Run,
    visit_seq: int | None,
    outcome: Outcome,
    reason: TerminationReason,
    notes: Notes,
    of: AgentOf,
) -> None:
    """End a loop, with notes, and do for its relatives what their agents' policies say.

    Nothing happens if it has left the visit that `visit_seq` names (None for a loop that has not been begun).

    All of it is one record, so that no crash can come between a child's end and what follows from it.
    """
    end: tuple[Any, ...] = (rules.noting, notes, _end_with_children, outcome, reason)
    if visit_seq is not None:
        end = (rules.during, visit_seq, *end)
    parent = run.parent
    if parent is None or not parent.waits_for_children or (of(parent).join == "all" and isinstance(outcome, Ok)):
        journal.insist(run.id, *end)
        return
    for _ in range(_MOST_TRIES - 1):
        try:
            _end_among_relatives(journal, run.id, visit_seq, outcome, end, of)
        except Conflict:
            if journal.in_transaction:
                raise
            continue
        return
    _end_among_relatives(journal, run.id, visit_seq, outcome, end, of)


def as_spawned(children: Sequence[Run]) -> list[Run]:
    """Children in the order they were spawned: one that was tried again stands where its first try did."""
    places: dict[Any, int] = {}
    for child in children:
        places.setdefault(_key_of(child) or child.id, len(places))
    return sorted(children, key=lambda child: places[_key_of(child) or child.id])


def _end_among_relatives(
    journal: Journal, run_id: str, visit_seq: int | None, outcome: Outcome, end: Sequence[Any], of: AgentOf
) -> None:
    with journal.transaction():
        run = journal.run(run_id)
        if run.parent is not None and not isinstance(outcome, Ok):
            _replace(journal, run, visit_seq, run.parent, of(run.parent))
        if journal.change(run_id, *end):
            _settle(journal, journal.run(run_id), outcome, of)


def _end_with_children(run: Run, at: float, outcome: Outcome, reason: TerminationReason) -> Sequence[Event]:
    """End a loop, and before it the children that it had spawned and that were still to run."""
    if not run.open_children:
        return rules.end(run, at, outcome, reason)
    above = Abandoned(f"loop {run.id!r} above it has ended")
    ended = rules.end_subtree(run, at, above, TerminationReason.DEPENDENCY_FAILURE)
    return [
        replace(event, outcome=outcome, reason=reason) if isinstance(event, Ended) and event.run_id == run.id else event
        for event in ended
    ]


def _replace(journal: Journal, child: Run, visit_seq: int | None, parent: Run, agent: Agent) -> None:
    """Start another child in the place of one that is about to fail, if it may be tried again."""
    policy = agent.on_child_failure
    metadata = dict(child.metadata or {})
    if isinstance(policy, Retry) and metadata["attempt"] < policy.attempts:
        metadata["attempt"] += 1
        journal.change(parent.id, _spawn_for, child.id, visit_seq, journal.new_id(), metadata)


def _spawn_for(
    parent: Run, at: float, child_id: str, visit_seq: int | None, new_id: str, metadata: dict[str, Any]
) -> Sequence[Event]:
    """Start a child for another, if that one still stands at the visit in which it failed."""
    child = parent.tree.index.runs[child_id]
    if visit_seq is not None and (child.visit is None or child.visit.seq != visit_seq):
        return ()
    return rules.spawn(parent, at, LOOP, {new_id: child.name}, place=None, metadata=metadata)


def _settle(journal: Journal, child: Run, outcome: Outcome, of: AgentOf) -> None:
    parent = journal.run(child.id).parent
    if parent is None:
        return
    agent = of(parent)
    batch = [sibling for sibling in parent.children if _visit_of(sibling) == _visit_of(child)]
    succeeded = sum(isinstance(sibling.outcome, Ok) for sibling in batch)
    still_open = [sibling for sibling in batch if sibling.reason is None]
    needed = {"all": len(batch), "any": 1}[agent.join] if isinstance(agent.join, str) else agent.join.count
    if agent.join != "all" and succeeded >= needed:
        _end_all(journal, still_open, f"{succeeded} of {len(batch)} succeeded; no more are needed")
    elif agent.on_child_failure != "carry on":
        replaced = any(_key_of(sibling) == _key_of(child) for sibling in still_open)
        hopeless = not isinstance(outcome, Ok) if agent.join == "all" else succeeded + len(still_open) < needed
        if hopeless and not replaced:
            told = f"child {child.id!r} ({child.name}) {_told(outcome)}"
            few = f"{succeeded} children succeeded, and {needed} have to"
            _fail_parent(journal, parent, few if isinstance(outcome, Ok) else told, still_open, of)


def _fail_parent(journal: Journal, parent: Run, told: str, still_open: Sequence[Run], of: AgentOf) -> None:
    _end_all(journal, still_open, f"no longer needed: {told}")
    parent = journal.run(parent.id)
    assert parent.visit is not None
    why = ChildFailed(told)
    end_loop(journal, parent, parent.visit.seq, Failed.of(why), TerminationReason.DEPENDENCY_FAILURE, (), of)


def _end_all(journal: Journal, runs: Sequence[Run], why: str) -> None:
    for run in runs:
        journal.change(run.id, rules.end_subtree, Abandoned(why), TerminationReason.CONDITION_MET)


def _told(outcome: Outcome) -> str:
    match outcome:
        case Failed(error=error):
            return f"failed: {error.type}: {error.message}"
        case Abandoned(reason=reason):
            return f"was abandoned: {reason}"
    return "did not succeed"


def _visit_of(child: Run) -> Any:
    return (child.metadata or {}).get("visit")


def _key_of(child: Run) -> Any:
    return (child.metadata or {}).get("key")
