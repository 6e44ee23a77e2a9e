"""How pipelines are carried out: how many stages at a time, and what failures mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from attrs import fields, frozen

from cortical.core.checks import require_callable, require_count, require_flag, require_keys, require_seconds, shown
from cortical.core.errors import InvalidInput, WrongType
from cortical.stages.results import StageResult

OnFailure = Literal["fail_fast", "keep_going"]


@frozen
class Execution:
    """How a pipeline is carried out.

    Args:
        max_concurrency: how many stages run at the same time; with 1 they run in exactly the pipeline's order.
        on_failure: `fail_fast`: what runs finishes, nothing new begins. `keep_going`: only those that wait for a failed
            stage are not begun.
        undo_on_failure: when a stage has failed, take back those that succeeded, in reverse order.
        lease_seconds: how long after this process has died another may take over.
        on_stage: called with the `StageResult` of each stage, once it is recorded; one that raises hurts nothing.
        sleep: waits between attempts; see `cortical.engine.crew.Crew`.

    Raises:
        WrongType, InvalidInput: one of them makes no sense.
    """

    max_concurrency: int = 1
    on_failure: OnFailure = "fail_fast"
    undo_on_failure: bool = False
    lease_seconds: float = 10.0
    on_stage: Callable[[StageResult], object] | None = None
    sleep: Callable[[float], object] | None = None

    def __attrs_post_init__(self) -> None:
        require_count(self.max_concurrency, "max_concurrency")
        if self.on_failure not in ("fail_fast", "keep_going"):
            raise InvalidInput(f"on_failure is 'fail_fast' or 'keep_going', not {shown(self.on_failure)}")
        require_flag(self.undo_on_failure, "undo_on_failure")
        require_seconds(self.lease_seconds, "lease_seconds", above_zero=True)
        for function in (self.on_stage, self.sleep):
            if function is not None:
                require_callable(function)


def chosen_execution(how: Execution | None, options: Mapping[str, Any]) -> Execution:
    """What is given as a whole, or by the names of its fields.

    Raises:
        WrongType, InvalidInput: both are given, a name means nothing, or a value makes no sense.
    """
    require_keys(options, [field.name for field in fields(Execution)], "the execution of a pipeline")
    if how is None:
        return Execution(**options)
    if options:
        raise InvalidInput(f"give how, or {', '.join(options)} by name, not both")
    if not isinstance(how, Execution):
        raise WrongType(f"how is an Execution, not {shown(how)}")
    return how
