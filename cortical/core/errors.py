"""Every error the library raises, each with a parent from the standard library.

::

    CorticalError
    ├── RunNotFound        (KeyError)           no run has this id
    ├── AmbiguousId        (ValueError)         several runs begin with this prefix
    ├── RunStateError      (ValueError)         the run's status does not allow the call
    ├── CheckpointNotFound (KeyError)           the run has no such checkpoint
    ├── DepthLimitReached  (RecursionError)     a child would be deeper than allowed
    ├── BudgetExhausted    (RuntimeError)       it would go above a limit of the budget
    ├── LoopFailed         (RuntimeError)       a driven loop did not end well
    ├── InvalidInput       (ValueError)         an argument's value is of no use
    ├── WrongType          (TypeError)          an argument is of another type
    ├── EncodeError        (TypeError)          a durable store cannot keep this value
    ├── LockTimeout        (TimeoutError)       another thread held the tree too long
    └── StoreError         (OSError)            the store could not read or write
        ├── StoreNotFound  (FileNotFoundError)  there is no store at this place
        ├── StoreDamaged                        the file is not a store, torn, or newer than this version
        ├── RecordsLost                         a relaxed store could not commit what it had accepted
        ├── Conflict                            another writer was there first
        ├── LeaseHeld      (BlockingIOError)    somebody else drives this tree
        └── LeaseLost                           somebody else has taken over this tree
"""

from __future__ import annotations

from typing import Any


class CorticalError(Exception):
    """The base of all errors of this library."""

    # KeyError shows its argument's repr; an error that teaches is a sentence.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class RunNotFound(CorticalError, KeyError):
    """No run has this id."""

    def __init__(self, run_id: object) -> None:
        super().__init__(f"no run has the id {run_id!r}; look it up with `cortical list`")
        self.run_id = run_id


class AmbiguousId(CorticalError, ValueError):
    """Several runs begin with this prefix."""

    def __init__(self, prefix: str, matches: list[str]) -> None:
        shown = ", ".join(matches[:5])
        more = ", …" if len(matches) > 5 else ""
        super().__init__(f"{prefix!r} begins several ids ({shown}{more}); give more characters")
        self.prefix = prefix
        self.matches = matches


class RunStateError(CorticalError, ValueError):
    """The status of the run, or of a relative, does not allow the call."""

    def __init__(self, message: str, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class CheckpointNotFound(CorticalError, KeyError):
    """A run has no checkpoint of this number; `there` are those it has."""

    def __init__(self, run_id: str, number: object, there: list[int]) -> None:
        has = f"it has {', '.join(map(str, there[-5:]))}" if there else "it has none"
        super().__init__(f"run {run_id!r} has no checkpoint {number!r}: {has}")
        self.run_id = run_id
        self.number = number
        self.there = there


class DepthLimitReached(CorticalError, RecursionError):
    """A child would stand deeper than the limit allows."""

    def __init__(self, run_id: str, limit: int) -> None:
        super().__init__(
            f"{run_id!r} may not spawn: depth limit {limit} reached; raise max_depth or finish the work here"
        )
        self.run_id = run_id
        self.limit = limit


class BudgetExhausted(CorticalError, RuntimeError):
    """A use would go above a limit; `limit` names it, `account_id` is the run whose budget it is."""

    def __init__(self, run_id: str, limit: str, amount: float, account_id: str) -> None:
        whose = "its" if account_id == run_id else f"the budget of {account_id!r}: its"
        super().__init__(
            f"{run_id!r} may not go on: {whose} limit of {amount:g} {limit} is exhausted; "
            "give a larger budget, or finish with what there is"
        )
        self.run_id = run_id
        self.limit = limit
        self.amount = amount
        self.account_id = account_id


class LoopFailed(CorticalError, RuntimeError):
    """A driven loop did not end well, or not yet; `result` says how it stands."""

    def __init__(self, result: Any) -> None:
        super().__init__(f"loop {result.run_id!r} is {result.status.value}: {result.why}")
        self.result = result


class InvalidInput(CorticalError, ValueError):
    """An argument has a value that is of no use."""


class WrongType(CorticalError, TypeError):
    """An argument is of another type than the call takes."""


class EncodeError(CorticalError, TypeError):
    """A durable store cannot keep this value; `spot` says where in it the trouble is."""

    def __init__(self, spot: str, problem: str) -> None:
        super().__init__(
            f"{spot}: {problem}; record plain values, or register the type with cortical.core.codec.register"
        )
        self.spot = spot


class LockTimeout(CorticalError, TimeoutError):
    """A tree's lock was not had in time; `holder` names the thread that has it."""

    def __init__(self, root_id: str, holder: str, seconds: float) -> None:
        super().__init__(
            f"tree {root_id!r} is held by {holder} and was not free within {seconds:g} s; "
            "try again, or keep transactions shorter"
        )
        self.root_id = root_id
        self.holder = holder


class StoreError(CorticalError, OSError):
    """The store could not read or write; what it holds is as it was before the call."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class StoreNotFound(StoreError, FileNotFoundError):
    """There is no store at this place."""


class StoreDamaged(StoreError):
    """The file is no store of this library, is torn, or was written by a newer version."""


class RecordsLost(StoreError):
    """A relaxed store could not commit records that it had accepted; memory is read anew from the disk."""


class Conflict(StoreError):
    """Another writer changed the run first; this process has read the change, so decide and call again."""

    def __init__(self, root_id: str, position: int, run_id: str | None = None) -> None:
        what = f"run {run_id!r}" if run_id else f"tree {root_id!r}"
        super().__init__(
            f"{what} was changed by another writer (tree {root_id!r} is past position {position}); "
            "look at it again, then repeat the call if it still holds"
        )
        self.root_id = root_id
        self.position = position
        self.run_id = run_id


class LeaseHeld(StoreError, BlockingIOError):
    """Somebody else drives this tree; `holder` says who, `seconds` how long its lease still runs if not renewed."""

    def __init__(self, root_id: str, holder: str, seconds: float) -> None:
        super().__init__(
            f"tree {root_id!r} is driven by {holder}, whose lease runs for {seconds:.1f} s more unless it is renewed; "
            "wait for it, or stop that process"
        )
        self.root_id = root_id
        self.holder = holder
        self.seconds = seconds


class LeaseLost(StoreError):
    """Somebody else has taken over this tree; what this driver still tries to write is refused."""

    def __init__(self, root_id: str) -> None:
        super().__init__(
            f"the lease on tree {root_id!r} was lost: it ran out, and another driver took over; nothing was recorded"
        )
        self.root_id = root_id
