"""What recovery may do to a controlled loop: while it is driven, or after it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cortical.control import iterations
from cortical.core.transaction import Transaction
from cortical.recovery import RunTarget

if TYPE_CHECKING:
    from cortical.control.controlled import Controlled
    from cortical.control.driving import Driving


class ControlledTarget(RunTarget):
    """A controlled loop, as recovery sees it. What is recovered while it is driven goes on in the same driving."""

    def __init__(self, loop: Controlled, driving: Driving | None) -> None:
        self._loop, self._driving = loop, driving
        super().__init__(loop.journal, loop.run.id)

    def plan_anew(self) -> None:
        """Forget what was asked; what is asked from now on is for the loop as it stands."""
        super().plan_anew()
        self._why_skipped = ""

    def skip(self, reason: str) -> None:
        """Leave the present iteration, and go on with the next."""
        super().skip(reason)
        self._why_skipped = reason

    def carry_out(self, note: Mapping[str, Any]) -> str:
        """Do what was asked, together with the note; a loop that is driven counts its time and usage anew."""
        run_id = super().carry_out(note)
        self._loop.told_usage.clear()
        if self._driving is not None:
            self._driving.start_anew()
            self._driving.wait(self.after)
        return run_id

    def _change(self, transaction: Transaction, note: Mapping[str, Any], first: dict[str, Any] | None) -> None:
        super()._change(transaction, note, first)
        run = transaction.hold(self._run_id)
        if self._skipped and run.reason is None and run.visit is not None:
            self._journal.change(run.id, iterations.skip, self._why_skipped)
