"""Rules of what is booked in the accounts of budgets: used at once, or held beforehand and settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cortical.core import budget
from cortical.core.events import Event, Noted
from cortical.core.rules import require_open
from cortical.core.run import Run


def spend(run: Run, at: float, amounts: Mapping[str, float]) -> Sequence[Event]:
    """Book what a run has used, in the accounts that pay for it; nothing where it is free.

    What is above a limit is not booked: the account is then exhausted, and the next use refused.
    """
    require_open(run, "spend")
    return _booked(run, at, budget.SPENT, amounts, {})


def reserve(run: Run, at: float, key: str, amounts: Mapping[str, float]) -> Sequence[Event]:
    """Hold what a run is going to use, until `settle`; refused where it would go above a limit."""
    require_open(run, "reserve")
    for resource, amount in amounts.items():
        budget.require(run.account, resource, amount, run.id)
    return _booked(run, at, budget.HELD, amounts, {"key": key})


def settle(run: Run, at: float, key: str, used: Mapping[str, float] | None) -> Sequence[Event]:
    """End a reservation: what was used (None: all of it) is spent, and the rest comes back."""
    events: list[Event] = []
    account = run.account
    while account is not None:
        if key in account.reserved:
            holder = run.tree.index.runs[account.run_id]
            held = account.reserved[key][1]
            spent = None if used is None else {name: min(used.get(name, 0), held[name]) for name in held}
            events.append(Noted(holder.id, holder.seq + 1, at, budget.SETTLED, {"key": key, "used": spent}))
        account = account.above
    return events


def _booked(run: Run, at: float, topic: str, amounts: Mapping[str, float], facts: Mapping[str, Any]) -> Sequence[Event]:
    """The notes, a note for each account that pays, of what these have room for."""
    booked: dict[str, dict[str, float]] = {}
    for resource, amount in amounts.items():
        paying = budget.payer(run.account, resource)
        if paying is not None:
            booked.setdefault(paying.run_id, {})[resource] = min(amount, paying.available(resource))
    events = []
    for run_id, amount_of in booked.items():
        seq = run.tree.index.runs[run_id].seq + 1
        events.append(Noted(run_id, seq, at, topic, {**facts, "by": run.id, "amounts": amount_of}))
    return events
