"""What is recorded when a phase function has returned, raised or run out of budget, and so what comes next.

Where a note says who chose, it is in `by`: a "rule" (a policy of the agent, or of the driver) or a "person". A verdict
that says nothing of it is the verify function's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from attrs import evolve

from cortical.agents.agent import Agent
from cortical.agents.family import Family, Notes
from cortical.agents.people import By, asking
from cortical.agents.recovering import recovered
from cortical.agents.stuck import Stuck, Turn, judge
from cortical.agents.verdict import Verdict
from cortical.core import rules
from cortical.core.checks import shown
from cortical.core.conditions import Condition, ConditionRaised, Met, Progress
from cortical.core.copies import detached
from cortical.core.errors import BudgetExhausted, WrongType
from cortical.core.events import Event
from cortical.core.journal import Journal
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome, told
from cortical.core.phases import FIRST_PLACE, NEXT_PLACE, PHASE_OF, LoopPhase
from cortical.core.run import Run
from cortical.core.status import Status, TerminationReason
from cortical.core.topics import ANSWER, ATTEMPT, LIMIT, STUCK, VERDICT, VISIT_ENDED
from cortical.core.turns import failures_in_row

#: How often an inconclusive VERIFY is entered before a person is asked.
MOST_INCONCLUSIVE: Final = 3


class Consequences:
    """Records what follows. Nothing does where a loop has left the visit that is spoken of."""

    def __init__(self, journal: Journal, family: Family) -> None:
        self._journal = journal
        self._family = family
        self._counted: dict[str, tuple[int, int]] = {}
        self._turns: dict[str, dict[int, Turn]] = {}

    def leave(self, run: Run, seq: int) -> None:
        """Enter the next phase, or wait for the children that are open; or end, out of budget."""
        try:
            self._change(run.id, seq, _go_on)
        except BudgetExhausted as exhausted:
            self.exhausted(run, seq, exhausted)

    def judged(self, run: Run, seq: int, agent: Agent, verdict: object) -> None:
        """Do what a verdict says."""
        if not isinstance(verdict, Verdict):
            verdict = evolve(
                Verdict.inconclusive(str(WrongType(f"verify returns a Verdict, not {shown(verdict)}"))), by="rule"
            )
        notes: Notes = [(VERDICT, _recorded(verdict))]
        match verdict.kind:
            case "passed":
                self._end(run, seq, Ok(verdict.result), TerminationReason.SUCCESS, notes)
            case "revise" if (
                agent.max_turns is not None and run.visit is not None and run.visit.turn >= agent.max_turns
            ):
                over = Abandoned(f"max_turns {agent.max_turns} reached: {verdict.text}")
                limited = [*notes, (LIMIT, "max_turns")]
                self._end(run, seq, over, TerminationReason.BUDGET_EXHAUSTED, limited)
            case "revise" if agent.stuck and (found := self._judged_stuck(run, agent.stuck, verdict.text)):
                self._stuck(run, seq, notes, verdict.text, *found)
            case "revise" if agent.stop_when is not None and (met := self._met(run, agent.stop_when)):
                self._stop(run, seq, notes, *met)
            case "revise":
                self._next_turn(run, seq, notes, verdict.text)
            case "impossible":
                self._end(run, seq, Abandoned(verdict.text), TerminationReason.QUESTION_INVALID, notes)
            case "inconclusive" if _times_inconclusive(run) + 1 < MOST_INCONCLUSIVE:
                self._change(run.id, seq, rules.note, *notes[0])
            case "inconclusive":
                self._escalate(run, seq, notes, verdict.text, "rule")
            case "escalate":
                self._escalate(run, seq, notes, verdict.text, verdict.by)

    def failed(self, run_id: str, seq: int, agent: Agent, error: Exception) -> float:
        """Have a phase function tried again, or let its loop fail; one of VERIFY has been inconclusive.

        Returns the seconds to wait before it is tried again. Nothing follows where the loop was ended, paused or moved
        on meanwhile.
        """
        run = self._journal.run(run_id)
        visit = run.still_at(seq)
        if run.status is not Status.ACTIVE or visit is None:
            return 0.0
        said = told(error)
        if PHASE_OF[visit.place] is LoopPhase.VERIFY:
            self.judged(run, seq, agent, evolve(Verdict.inconclusive(f"verify raised {said}"), by="rule"))
            return 0.0
        attempt = 1 + failures_in_row(run)
        if attempt < agent.retry.max_attempts and agent.retry.covers(error, Exception):
            self._change(run_id, seq, rules.note, ATTEMPT, {"attempt": attempt, "error": said, "by": "rule"})
            return agent.retry.seconds_before(attempt + 1, self._family.random)
        if agent.recovery is not None:
            self._change(run_id, seq, rules.note, ATTEMPT, {"attempt": attempt, "error": said, "by": "rule"})
            after = recovered(self._journal, run, agent.recovery, error)
            if after is not None:
                return after
        self._end(run, seq, Failed.of(error, attempts=attempt), TerminationReason.ERROR, ())
        return 0.0

    def exhausted(self, run: Run, seq: int | None, exhausted: BudgetExhausted) -> None:
        """End a loop whose budget, or one above it, has nothing left; what it has made stays with it.

        `seq` is that of the visit it stands at; None for one that has not been begun.
        """
        over = Abandoned(str(exhausted))
        self._end(run, seq, over, TerminationReason.BUDGET_EXHAUSTED, [(LIMIT, exhausted.limit)])

    def _judged_stuck(self, run: Run, policy: Stuck, feedback: str) -> tuple[str, str] | None:
        return judge(run, policy, feedback=feedback, seen=self._turns.setdefault(run.id, {}))

    def _met(self, run: Run, stop_when: Condition) -> tuple[Met, Exception | None] | None:
        try:
            met = stop_when.met(self._progress(run))
        except ConditionRaised as raised:
            return Met(raised.name, TerminationReason.ERROR, str(raised)), raised
        return None if met is None else (met, None)

    def _progress(self, run: Run) -> Progress:
        assert run.visit is not None
        return Progress(
            iterations=run.visit.turn,
            elapsed=self._journal.time_in(run.tree) - run.started_at - run.waited,
            failures=self._attempts(run),
            failures_in_row=failures_in_row(run),
            resources=dict(run.account.spent) if run.account is not None else {},
            last_result=next(run.newest(ANSWER), None),
            read_state=lambda: detached(run.data or {}),
        )

    def _attempts(self, run: Run) -> int:
        """How often phases of a loop have failed; counted on from where it was counted before."""
        entries = run.entries or []
        seen, count = self._counted.get(run.id, (0, 0))
        count += sum(entry.topic == ATTEMPT for entry in entries[seen:])
        self._counted[run.id] = (len(entries), count)
        return count

    def _stop(self, run: Run, seq: int, notes: Notes, met: Met, raised: Exception | None) -> None:
        outcome = Abandoned(met.details) if raised is None else Failed.of(raised)
        self._end(run, seq, outcome, met.reason, [*notes, (LIMIT, met.name)])

    def _stuck(self, run: Run, seq: int, notes: Notes, feedback: str, action: str, why: str) -> None:
        """Do what the policy says of a loop whose turns repeat themselves."""
        notes = [*notes, (STUCK, {"then": action, "why": why, "by": "rule"})]
        match action:
            case "escalate":
                self._escalate(run, seq, notes, why, "rule")
            case "break":
                self._end(run, seq, Abandoned(why), TerminationReason.ESCALATED, notes)
            case _:
                self._next_turn(run, seq, notes, feedback)

    def _escalate(self, run: Run, seq: int, notes: Notes, question: str, by: By) -> None:
        """Ask a person, as a phase function could."""
        asked = [*notes, asking(question, by=by)]
        self._change(run.id, seq, rules.noting, asked, rules.block, f"escalated: {question}")

    def _next_turn(self, run: Run, seq: int, notes: Notes, feedback: str) -> None:
        try:
            self._change(run.id, seq, rules.noting, notes, rules.move, FIRST_PLACE, f"revise: {feedback}")
        except BudgetExhausted as exhausted:
            self._change(run.id, seq, rules.noting, notes, rules.leave)
            self.exhausted(self._journal.run(run.id), seq, exhausted)

    def _end(self, run: Run, seq: int | None, outcome: Outcome, reason: TerminationReason, notes: Notes) -> None:
        self._turns.pop(run.id, None)
        self._family.end(run, seq, outcome, reason, notes)

    def _change(self, run_id: str, seq: int, *rule_and_facts: Any) -> Sequence[Event]:
        return self._journal.insist(run_id, rules.during, seq, *rule_and_facts)


def _recorded(verdict: Verdict) -> dict[str, Any]:
    recorded = {"verdict": verdict.kind, "text": verdict.text, "evidence": verdict.evidence}
    return recorded if verdict.by == "function" else {**recorded, "by": verdict.by}


def _times_inconclusive(run: Run) -> int:
    here = run.entries_here
    return sum(entry.topic == VERDICT and entry.value["verdict"] == "inconclusive" for entry in here)


def _go_on(run: Run, at: float) -> Sequence[Event]:
    """Leave the visit: for the next place, or until the open children have ended.

    Decided here, under the tree's lock, as others may have started children: then the run waits for them already.
    """
    assert run.visit is not None
    if not run.open_children:
        return rules.move(run, at, NEXT_PLACE[run.visit.place])
    if run.waits_for_children:
        return rules.leave(run, at)
    return rules.noting(run, at, [(VISIT_ENDED, None)] if run.visit.left_at is None else [], rules.wait)
