"""Decisions, and what is remembered because of them: the part of the handler that is about choices."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from cortical.core.checks import require_count, require_reason, require_text, require_values
from cortical.core.copies import detached
from cortical.core.errors import InvalidInput
from cortical.core.run import Run
from cortical.stages.loop import decisions, loop_rules
from cortical.stages.loop.decisions import Decision
from cortical.stages.loop.processes import ProcessFace
from cortical.stages.loop.views import StageView, number_of


class DecidingFace(ProcessFace):
    """Makes decisions, and tells what holds; see `StageHandler`."""

    def make_decision(
        self,
        stage: str,
        name: str,
        values: Mapping[str, Any] | None = None,
        *,
        action: str | None = None,
        reason: str = "",
        inherit: bool = True,
    ) -> dict[str, Any]:
        """Decide something: in an iteration for it and those after it, else for the loop. Returns what now holds.

        Args:
            values: what is decided; what is not named stays as it is.
            action: ``"break"``, ``"pause"``, ``"skip"`` and ``"retry"`` do what the calls of these names do,
                ``"continue"`` takes back an `update_loop_condition`; ``"modify"`` changes the values and nothing else.
            inherit: False lets it hold for the iteration under way alone.

        Raises:
            RunStateError: the stage is not open, or the action not possible; nothing was decided then.
            InvalidInput: the stage has no such decision.
        """
        given = detached(values_of(values, "a decision's values"))
        decisions.require_action(action)
        decided = loop_rules.Decided(name, given, action, require_reason(reason), bool(inherit))
        held: list[dict[str, Any]] = []
        self._change(loop_rules.decide, stage, decided, held)
        return detached(held[0])

    def get_decisions(self, stage: str, *, iteration: int | None = None) -> dict[str, dict[str, Any]]:
        """What holds by name: now (in the iteration under way, or for the next), or what held in an iteration.

        Raises:
            InvalidInput: there was no such iteration.
        """
        with self._reading() as process:
            view = self._books.started(process, stage, "tell its decisions")
            names = view.config.decisions
            if iteration is None:
                return detached({name: decisions.effective(view, name) for name in names})
            run = _iteration(view, iteration)
            return detached({name: decisions.effective_in(view, name, run) for name in names})

    def decision_history(self, stage: str, name: str | None = None) -> list[Decision]:
        """Every decision of a stage in the order in which it was made, or those of one name."""
        with self._reading() as process:
            view = self._books.started(process, stage, "tell its decisions")
            if name is not None:
                decisions.require_name(view, name)
            return [one for one in decisions.history(view) if name in (None, one.name)]

    # The cache

    def cache_put(self, stage: str, key: str, value: Any) -> None:
        """Remember something in this handler for the iteration under way, or the stage between two."""
        with self._reading() as process:
            self._cache.put(self._books.open(process, stage, "remember something"), require_text(key, "a key"), value)

    def cache_get(self, stage: str, key: str, default: Any = None, *, iteration: int | None = None) -> Any:
        """What was remembered for the iteration under way, or an earlier one; `default` where nothing is.

        What was remembered in an iteration before a decision in it, or before it was tried again, is forgotten.
        """
        with self._reading() as process:
            view = self._books.started(process, stage, "remember something")
            run = None if iteration is None else _iteration(view, iteration)
            return self._cache.get(view, require_text(key, "a key"), default, run)


def _iteration(view: StageView, number: int) -> Run:
    runs = view.runs if view.loop else []
    at = bisect_right(runs, require_count(number, "iteration", 1), key=number_of) - 1
    if at < 0 or number_of(runs[at]) != number:
        there = f"there are 1 to {number_of(runs[-1])}" if runs else "none has been started"
        raise InvalidInput(f"stage {view.name!r} has no iteration {number}; {there}")
    return runs[at]


def values_of(given: object, what: str) -> dict[str, Any]:
    """`given`, if it is values by name; none for None.

    Raises:
        WrongType: it is not.
    """
    return {} if given is None else dict(require_values(given, what))
