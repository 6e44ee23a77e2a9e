"""How loops end among their relatives: what a child's end means for its siblings and its parent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from msgspec.structs import replace

from cortical.agents.agent import Agent
from cortical.core import rules
from cortical.core.errors import BudgetExhausted, CorticalError
from cortical.core.events import Event
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome
from cortical.core.policy import Retry
from cortical.core.run import Run
from cortical.core.status import TerminationReason
from cortical.core.transaction import together
from cortical.engine.below import BEGUN_AS, CONTROLLED

Notes: TypeAlias = Sequence[tuple[str, Any]]


class ChildFailed(CorticalError, RuntimeError):
    """A loop failed because a child of it did, or because too few of them succeeded."""


def recorded_agent(run: Run) -> Mapping[str, Any] | None:
    """What the log keeps of the agent that drives a run; None for one that somebody else drives."""
    return run.metadata.get("agent")


def is_apart(run: Run) -> bool:
    """Whether an agent was started on it below another run, so that it has a driver of its own."""
    return BEGUN_AS in run.metadata and "agent" in run.metadata


def is_own_work(run: Run) -> bool:
    """Whether a phase ran it and had its result itself: a pipeline, a batch, a controlled loop, another agent."""
    return run.kind != LOOP or is_apart(run) or CONTROLLED in run.metadata


def key_of(child: Run) -> Any:
    """By what a loop finds a child that it spawned; None for one that was started by hand."""
    return child.metadata.get("key")


def as_spawned(children: Iterable[Run]) -> list[Run]:
    """Child loops in the order they were spawned: one that was tried again stands where its first try did.

    What phase functions ran themselves is left out.
    """
    tries: dict[Any, list[Run]] = {}
    for child in children:
        if is_own_work(child):
            continue
        tries.setdefault(key_of(child) or child.id, []).append(child)
    return [child for of_one in tries.values() for child in of_one]


def latest_tries(children: Iterable[Run]) -> list[Run]:
    """Child loops in the order they were spawned, of those that were tried again only the last try."""
    return list({key_of(child) or child.id: child for child in children if not is_own_work(child)}.values())


class Family:
    """Ends loops, and does for their relatives what the policies of these say.

    Args:
        journal: keeps the tree.
        agent_of: finds the agent of a run that has one.
        random: gives numbers from 0 to 1, for the jitter of retries.
    """

    def __init__(self, journal: Journal, agent_of: Callable[[Run], Agent], random: Callable[[], float]) -> None:
        self._journal = journal
        self._agent_of = agent_of
        self.random = random

    def end(self, run: Run, visit_seq: int | None, outcome: Outcome, reason: TerminationReason, notes: Notes) -> None:
        """End a loop, with notes, and do for its relatives what their agents' policies say.

        Nothing happens if it has left the visit that `visit_seq` names (None for a loop that has not been begun).

        All of it is one record, so that no crash can come between a child's end and what follows from it.
        """
        end: tuple[Any, ...] = (rules.noting, notes, rules.end_with_children, outcome, reason)
        if visit_seq is not None:
            end = (rules.during, visit_seq, *end)
        if not self._concerns_others(run, outcome):
            self._journal.insist(run.id, *end)
            return
        together(self._journal, lambda _: self._end_among_relatives(run.id, visit_seq, outcome, end))

    def _concerns_others(self, run: Run, outcome: Outcome) -> bool:
        parent = run.parent
        if parent is None or not parent.waits_for_children or recorded_agent(parent) is None:
            return False
        return not isinstance(outcome, Ok) or self._agent_of(parent).join != "all"

    def _end_among_relatives(self, run_id: str, visit_seq: int | None, outcome: Outcome, end: Sequence[Any]) -> None:
        run = self._journal.run(run_id)
        if run.parent is not None and not isinstance(outcome, Ok):
            self._replace(run, visit_seq, run.parent, outcome)
        if self._journal.change(run_id, *end):
            self._settle(self._journal.run(run_id), outcome)

    def _replace(self, child: Run, visit_seq: int | None, parent: Run, outcome: Outcome) -> None:
        """Start another child in the place of one that is about to fail, if it may be tried again."""
        policy = self._agent_of(parent).on_child_failure
        metadata = dict(child.metadata)
        attempt = metadata.get("attempt", 1)
        if not isinstance(policy, Retry) or attempt >= policy.max_attempts or not _covers(policy, outcome):
            return
        # For whoever looks at it: another try has nothing of the one before, as a later life or CARRIES_ON would.
        metadata |= {"attempt": attempt + 1, "replaces": child.id, "by": "rule"}
        metadata.pop("not_before", None)
        delay = policy.seconds_before(attempt + 1, self.random)
        with suppress(BudgetExhausted):  # there is no room for another try: the failure stands
            self._journal.change(parent.id, _spawn_for, child.id, visit_seq, self._journal.new_id(), metadata, delay)

    def _settle(self, child: Run, outcome: Outcome) -> None:
        parent = self._journal.run(child.id).parent
        if parent is None:
            return
        agent = self._agent_of(parent)
        if agent.join == "all" and agent.on_child_failure == "carry on":
            return
        batch = [sibling for sibling in parent.children if _visit_of(sibling) == _visit_of(child)]
        succeeded = sum(isinstance(sibling.outcome, Ok) for sibling in batch)
        still_open = [sibling for sibling in batch if sibling.reason is None]
        needed = {"all": len(batch), "any": 1}[agent.join] if isinstance(agent.join, str) else agent.join.count
        if agent.join != "all" and succeeded >= needed:
            self._end_all(still_open, f"{succeeded} of {len(batch)} succeeded; no more are needed")
        elif agent.on_child_failure != "carry on":
            replaced = any(key_of(sibling) == key_of(child) for sibling in still_open)
            hopeless = not isinstance(outcome, Ok) if agent.join == "all" else succeeded + len(still_open) < needed
            if hopeless and not replaced:
                told = f"child {child.id!r} ({child.name}) {_told(outcome)}"
                few = f"{succeeded} children succeeded, and {needed} have to"
                self._fail_parent(parent, few if isinstance(outcome, Ok) else told, outcome, still_open)

    def _fail_parent(self, parent: Run, told: str, outcome: Outcome, still_open: Sequence[Run]) -> None:
        self._end_all(still_open, f"no longer needed: {told}")
        parent = self._journal.run(parent.id)
        assert parent.visit is not None
        failed = Failed.of(ChildFailed(told))
        if isinstance(outcome, Failed):
            failed = replace(failed, causes=(outcome.root,))
        self.end(parent, parent.visit.seq, failed, TerminationReason.DEPENDENCY_FAILURE, ())

    def _end_all(self, runs: Sequence[Run], why: str) -> None:
        for run in runs:
            self._journal.change(run.id, rules.end_subtree, Abandoned(why), TerminationReason.CONDITION_MET)


def _spawn_for(
    parent: Run,
    at: float,
    child_id: str,
    visit_seq: int | None,
    new_id: str,
    metadata: Mapping[str, Any],
    delay: float,
) -> Sequence[Event]:
    """Start a child for another, if that one still stands at the visit in which it failed."""
    child = parent.tree.index.runs[child_id]
    if visit_seq is not None and child.still_at(visit_seq) is None:
        return ()
    timed = {**metadata, "not_before": at + delay} if delay else dict(metadata)
    return rules.spawn(parent, at, LOOP, {new_id: child.name}, place=None, metadata=timed)


def _covers(policy: Retry, outcome: Outcome) -> bool:
    return policy.covers_outcome(outcome) if isinstance(outcome, Failed) else policy.retry_on is None


def _told(outcome: Outcome) -> str:
    match outcome:
        case Failed(error=error):
            return f"failed: {error}"
        case Abandoned(reason=reason):
            return f"was abandoned: {reason}"
    return "did not succeed"


def _visit_of(child: Run) -> Any:
    return child.metadata.get("visit")
