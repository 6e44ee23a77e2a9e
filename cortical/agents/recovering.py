"""What recovery may do to an agent's loop in which a phase function has failed for good."""

from __future__ import annotations

from typing import Any

from cortical.agents.people import asking
from cortical.core import rules
from cortical.core.journal import Journal
from cortical.core.phases import FIRST_PLACE, NEXT_PLACE
from cortical.core.run import Run
from cortical.core.status import TerminationReason
from cortical.core.transaction import Transaction
from cortical.recovery import RecoveryPolicy, RunTarget, Situation, recover


class PhaseTarget(RunTarget):
    """An agent's loop, while it is driven: tried again is the phase, restarted the turn, skipped the phase.

    Where it is blocked a person is asked; the answer lets the phase be entered again.
    """

    def _change(self, transaction: Transaction, note: Any, first: dict[str, Any] | None) -> None:
        super()._change(transaction, note, first)
        run = transaction.hold(self._run_id)
        assert run.place is not None
        if self._skipped:
            self._journal.change(run.id, rules.move, NEXT_PLACE[run.place], "recovered: skip the phase")
        elif first is not None:
            self._journal.change(run.id, rules.move, FIRST_PLACE, "recovered: restart")

    def _block(self, run: Run, blocker: str) -> None:
        self._journal.change(run.id, rules.noting, [asking(blocker, by="rule")], rules.block, blocker)


def recovered(journal: Journal, run: Run, policy: RecoveryPolicy, error: Exception) -> float | None:
    """Recover a loop that would end with this error; the seconds to wait before it goes on, None when it is to end."""
    target = PhaseTarget(journal, run.id)
    return target.after if recover(target, Situation(TerminationReason.ERROR, error), policy).success else None
