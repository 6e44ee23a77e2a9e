"""What a loop uses of its budget by hand: tokens and money, booked at once or held beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cortical.core import booking, budget
from cortical.core.checks import require_number
from cortical.core.errors import BudgetExhausted, InvalidInput
from cortical.core.events import Noted
from cortical.core.journal import Journal
from cortical.core.run import Run


class Reservation:
    """What is held of a budget, until it is told what was used."""

    def __init__(self) -> None:
        self.amounts: dict[str, float] | None = None

    def used(self, **amounts: float) -> None:
        """Say what was used: no more than was reserved is booked, and the rest comes back."""
        self.amounts = {name: (self.amounts or {}).get(name, 0) + amount for name, amount in amounts.items()}


def spend(journal: Journal, run_id: str, amounts: Mapping[str, float]) -> None:
    """Book what a run has used.

    Raises:
        BudgetExhausted: it went above a limit, which is then exhausted.
        InvalidInput: it is nothing that is spent by hand, or no amount.
    """
    _require_resources(amounts)
    for booked in journal.insist(run_id, booking.spend, amounts):
        assert isinstance(booked, Noted)
        for name, amount in booked.value["amounts"].items():
            if amount < amounts[name]:
                raise _exhausted(journal.run(run_id), name)


@contextmanager
def reserving(journal: Journal, run_id: str, key: str, amounts: Mapping[str, float]) -> Iterator[Reservation]:
    """Hold what a run is going to use, and book at the end what the reservation was told, or else all of it.

    Raises:
        BudgetExhausted: there is not so much left; nothing is held.
        InvalidInput: it is nothing that is spent by hand, or no amount.
    """
    _require_resources(amounts)
    journal.insist(run_id, booking.settle, key, None)  # one of the same key that a dead process left
    journal.insist(run_id, booking.reserve, key, amounts)
    reservation = Reservation()
    try:
        yield reservation
    finally:
        journal.insist(run_id, booking.settle, key, reservation.amounts)


def _exhausted(run: Run, resource: str) -> BudgetExhausted:
    paying = budget.payer(run.account, resource)
    assert paying is not None
    return BudgetExhausted(run.id, resource, paying.limit[resource], paying.run_id)


def _require_resources(amounts: Mapping[str, float]) -> None:
    for name, amount in amounts.items():
        if name not in ("tokens", "usd"):
            raise InvalidInput(f"{name!r} cannot be spent by hand; tokens and usd can")
        require_number(amount, name)
