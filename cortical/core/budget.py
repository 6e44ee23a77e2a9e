"""Limits of a tree or of a part of it, held so that no number of parallel children can overshoot them.

A run with a budget has an account; what it and all below it use is booked there. A run below it that is given a budget
of its own gets an account too, and what it was given is held in the account above until it has ended: then what it
used is spent there, and the rest comes back. So for each account, spent + held never goes above the limit.

Accounts are part of the tree: changed by its fold alone, checked by the rules under its lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import asdict, field, frozen
from msgspec import Struct

from cortical.core.checks import require_number
from cortical.core.errors import BudgetExhausted, InvalidInput

#: What is used up.
CONSUMED: Final = ("iterations", "tokens", "usd", "descendants")

#: Up to here whole numbers can be reckoned with together with others.
_MOST: Final = 2**53

#: In its metadata: a run that is entered only to say that it is not run, and so uses nothing.
UNCOUNTED: Final = "uncounted"

#: The notes that change an account.
SPENT: Final = "spent"
HELD: Final = "held"
SETTLED: Final = "settled"
BOOKED: Final = frozenset({SPENT, HELD, SETTLED})


def _amount(budget: Budget, attribute: Any, value: object) -> None:
    if value is None:
        return
    number = require_number(value, f"{attribute.name} of a budget")
    if isinstance(number, int) and number > _MOST:
        raise InvalidInput(f"{attribute.name} of a budget is 2**53 at most, or None for as much as it likes")
    if attribute.name == "iterations" and number < 1:
        raise InvalidInput(f"iterations of a budget is 1 or more: to begin is a turn already; not {number:g}")


@frozen(kw_only=True)
class Budget:
    """What a run and all below it may use; None for as much as they like."""

    #: Turns, counted each time a loop comes to QUESTION.
    iterations: float | None = field(default=None, validator=_amount)
    #: Seconds since the run was started, looked at before each phase.
    seconds: float | None = field(default=None, validator=_amount)
    tokens: float | None = field(default=None, validator=_amount)
    usd: float | None = field(default=None, validator=_amount)
    #: Runs below it.
    descendants: float | None = field(default=None, validator=_amount)
    #: Children of each run.
    width: float | None = field(default=None, validator=_amount)
    #: Levels below it.
    depth: float | None = field(default=None, validator=_amount)

    def limits(self) -> dict[str, float]:
        """The limits that were given, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class Account(Struct, eq=False):
    """What a run with a budget, and all below it, has used; `above` is the next account towards the root."""

    run_id: str
    limit: dict[str, float]
    started_at: float
    depth: int
    above: Account | None
    spent: dict[str, float] = {}  # msgspec gives each account dictionaries of its own
    held: dict[str, float] = {}
    #: Reservations that are not settled: key → (whose, amounts).
    reserved: dict[str, tuple[str, dict[str, float]]] = {}

    def available(self, resource: str) -> float:
        """What is neither spent nor held of a resource that is limited here."""
        return self.limit[resource] - self.spent.get(resource, 0) - self.held.get(resource, 0)

    def spend(self, resource: str, amount: float) -> None:
        """Book a use."""
        self.spent[resource] = self.spent.get(resource, 0) + amount

    def hold(self, resource: str, amount: float) -> None:
        """Book what is held, or with a negative amount let go of it."""
        self.held[resource] = self.held.get(resource, 0) + amount

    def settle(self, key: str, used: Mapping[str, float] | None) -> None:
        """End a reservation: what was used (None: all of it) is spent, the rest comes back."""
        _, amounts = self.reserved.pop(key)
        for resource, amount in amounts.items():
            self.hold(resource, -amount)
            self.spend(resource, amount if used is None else used.get(resource, 0))


def payer(account: Account | None, resource: str) -> Account | None:
    """The nearest account from this one up in which the resource is limited; None where it is free."""
    while account is not None and resource not in account.limit:
        account = account.above
    return account


def require(account: Account | None, resource: str, amount: float, run_id: str) -> None:
    """Refuse a use that no account can pay.

    Raises:
        BudgetExhausted: it would go above the limit; the message names it.
    """
    paying = payer(account, resource)
    if paying is not None and amount > paying.available(resource):
        raise BudgetExhausted(run_id, resource, paying.limit[resource], paying.run_id)


def require_time(account: Account | None, at: float, run_id: str) -> None:
    """Refuse what comes after the time of an account.

    Raises:
        BudgetExhausted: its seconds are over.
    """
    while (account := payer(account, "seconds")) is not None:
        if at - account.started_at >= account.limit["seconds"]:
            raise BudgetExhausted(run_id, "seconds", account.limit["seconds"], account.run_id)
        account = account.above


def require_room(account: Account | None, run_id: str, children: int, depth: int, new: int) -> None:
    """Refuse `new` children of a run at this depth, with so many children, when an account has no room for them.

    Raises:
        BudgetExhausted: descendants, width or depth would go above the limit.
    """
    require(account, "descendants", new, run_id)
    while account is not None:
        if children + new > account.limit.get("width", float("inf")):
            raise BudgetExhausted(run_id, "width", account.limit["width"], account.run_id)
        if depth + 1 - account.depth > account.limit.get("depth", float("inf")):
            raise BudgetExhausted(run_id, "depth", account.limit["depth"], account.run_id)
        account = account.above


def opened(run_id: str, limit: Mapping[str, float], at: float, depth: int, above: Account | None) -> Account:
    """A new account; what it is given is held in those that pay for it."""
    for resource in CONSUMED:
        paying = payer(above, resource)
        if resource in limit and paying is not None:
            paying.hold(resource, limit[resource])
    return Account(run_id, dict(limit), at, depth, above)


def closed(account: Account, run_id: str) -> None:
    """A run has ended: its reservations count as spent, and if the account is its own, the rest goes back."""
    for resource in CONSUMED:
        paying = payer(account, resource)
        if paying is not None:
            for key in [key for key, (whose, _) in paying.reserved.items() if whose == run_id]:
                paying.settle(key, None)
    if account.run_id != run_id:
        return
    for resource in CONSUMED:
        paying = payer(account.above, resource)
        if resource in account.limit and paying is not None:
            paying.hold(resource, -account.limit[resource])
            paying.spend(resource, account.spent.get(resource, 0))


def booked(account: Account, topic: str, value: Mapping[str, Any]) -> None:
    """Book a note: a use, a reservation, or the end of one."""
    if topic == SETTLED:
        account.settle(value["key"], value["used"])
        return
    for resource, amount in value["amounts"].items():
        if topic == SPENT:
            account.spend(resource, amount)
        else:
            account.hold(resource, amount)
    if topic == HELD:
        account.reserved[value["key"]] = (value["by"], dict(value["amounts"]))
