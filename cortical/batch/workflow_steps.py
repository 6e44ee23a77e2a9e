"""Steps of a workflow as stages of a pipeline.

A step leaves what it gave under ``steps.<id>`` in the context, and where it failed and the workflow goes on
nevertheless, why under ``errors.<id>``. A step with items is a batch below its stage's run.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from cortical.batch.calling import Calling
from cortical.batch.handlers.config import confined
from cortical.batch.tasks import find_task
from cortical.batch.workflow_batches import (
    configuration,
    enter_below,
    failure_of,
    failures_of,
    items_of,
    results_of,
    run_entry,
)
from cortical.batch.workflow_definition import StepEntry
from cortical.batch.workflow_order import Surroundings
from cortical.batch.workflow_values import ERRORS, PARAMETERS, SCOPE, STEPS, filled_in, holds, references, templates
from cortical.core.errors import BudgetExhausted, InvalidInput, StoreError
from cortical.core.journal import Journal
from cortical.core.outcome import Failure
from cortical.core.policy import ONCE
from cortical.core.safe_text import counted
from cortical.core.topics import ATTEMPT
from cortical.recovery.lives import is_later_life
from cortical.stages.context import StageContext
from cortical.stages.effects import READ, STEP_SECONDS, Effect, copy, create, delete, move, read
from cortical.stages.stage import Stage

#: What the context's arguments hold, besides the parameters.
WORKSPACE: Final = "workspace"


def stage_id(step_id: str) -> str:
    """The id of the stage that a step is."""
    return f"step:{step_id}"


def step_id(stage: str) -> str:
    """The id of the step that a stage is."""
    return stage.partition(":")[2]


def value_key(step: str) -> str:
    """Where in the context stands what a step gave."""
    return f"{STEPS}.{step}"


def error_key(step: str) -> str:
    """Where in the context stands why a step failed after which the workflow goes on."""
    return f"{ERRORS}.{step}"


def scope_of(
    get: Callable[[str], Any],
    parameters: Mapping[str, Any],
    steps: Iterable[str],
    batches: Container[str],
    journal: Journal | None,
) -> dict[str, Any]:
    """What references lead to; a step that was skipped, or failed, gave None.

    Args:
        get: what stands under a key of the context.
        steps: those that are looked at; of the `batches` among them `journal` has what their items gave.
    """
    given, errors = {}, {}
    for one in steps:
        value, errors[one] = get(value_key(one)), get(error_key(one))
        if one in batches and journal is not None and value is not None:
            run_id = value["run_id"]
            value = {**value, "results": results_of(journal, run_id), "failed": failures_of(journal, run_id)}
        given[one] = value
    return {PARAMETERS: dict(parameters), STEPS: given, ERRORS: errors}


def needed(entry: StepEntry, around: Surroundings) -> Sequence[str]:
    """The steps that a step refers to; all above it where a template could name any."""
    values = [entry.with_, entry.items, entry.condition]
    if next(templates(values), None) is not None:
        return around.above
    named = {path.split(".")[1] for path in references(values) if path.startswith((f"{STEPS}.", f"{ERRORS}."))}
    return [one for one in around.above if one in named]


class StepStage(Stage):
    """A step of a workflow."""

    def __init__(self, entry: StepEntry, around: Surroundings) -> None:
        self.entry = entry
        self.around = around
        self.id = stage_id(entry.id)
        self.name = entry.id
        self.description = entry.description
        self.after = tuple(stage_id(one) for one in around.waits_for)
        self.writes = (value_key(entry.id), error_key(entry.id))
        self.retry = ONCE if entry.items is not None else entry.policy
        self.definition = msgspec.json.encode(entry).decode()

    def when(self, context: StageContext) -> object:
        """Whether it is to run: its condition, and whether those that it waits for have failed."""
        around = self.around
        if any(context.get(error_key(one)) is not None for one in around.blocked_by):
            return False
        if around.handles and all(context.get(error_key(one)) is None for one in around.handles):
            return False
        if self.entry.condition is True:
            return True
        self._require_known(self.entry.condition, context)
        return holds(self.entry.condition, self._scope(context))

    def run(self, context: StageContext) -> Any:
        """Do what the task is, once or for each item."""
        key = value_key(self.entry.id)
        try:
            value = self._batch(context) if self.entry.items is not None else self._task(context)
        except Exception as error:
            if not self._goes_on_after(error, context):
                raise
            failure = Failure.of(error)
            told = {"type": failure.type, "message": failure.message}
            context.set(error_key(self.entry.id), told)
            context.set(key, None)
            return {"tolerated": told}
        context.set(key, value)
        return value["stats"] if self.entry.items is not None else None

    def plan(self, context: StageContext) -> Iterable[Effect]:
        """What it would do, as far as that is known before the steps above it have been done.

        Raises:
            InvalidInput: it depends on what they give.
        """
        entry, workspace, scope = self.entry, self._workspace(context), self._scope(context)
        self._require_known([entry.items, entry.with_], context)
        if entry.items is not None:
            count = len(list(items_of(entry.items, workspace, scope)))
            what = f"carry out {counted(count, 'item')} by {entry.task!r}"
            return [Effect(entry.task, entry.id, None, reversible=False, description=what)]
        told = filled_in(entry.with_, scope, roots=SCOPE)
        if entry.task != "file":
            return [_effect(entry, told)]
        if told["action"] == "list" and not self.around.above:  # no step could have changed what is there
            context.set(value_key(entry.id), self._task(context))
        return _file_effects(workspace, told)

    def _scope(self, context: StageContext) -> dict[str, Any]:
        steps = needed(self.entry, self.around)
        return scope_of(context.get, context.arguments[PARAMETERS], steps, self.around.batches, context.journal)

    def _workspace(self, context: StageContext) -> Path:
        return Path(context.arguments[WORKSPACE])

    def _require_known(self, value: Any, context: StageContext) -> None:
        """Refuse, in a dry run, what depends on steps of which nobody knows what they would give."""
        for path in references(value) if context.dry else ():
            root, _, rest = path.partition(".")
            above = rest.partition(".")[0]
            if root == STEPS and not context.has(value_key(above)):
                raise InvalidInput(f"it depends on what step {above!r} gives, which nobody knows before")

    def _task(self, context: StageContext) -> Any:
        entry, workspace, scope = self.entry, self._workspace(context), self._scope(context)
        task = find_task(entry.task)
        told = configuration(entry, task, scope)
        if entry.task == "python":
            told.setdefault("args", [])  # there is no item to be called with
        if task.check is not None:
            task.check(told)
        calling = Calling(task, told, entry.id, workspace, scope, entry.timeout)
        surroundings = {**scope, "workspace": workspace, "name": entry.id, "timeout": entry.timeout}
        try:
            return calling.call(None, told, surroundings)
        finally:
            calling.close()

    def _batch(self, context: StageContext) -> dict[str, Any]:
        journal, run_id = context.journal, context.run_id
        assert journal is not None
        assert run_id is not None
        entry, workspace, scope = self.entry, self._workspace(context), self._scope(context)
        batch = enter_below(journal, run_id, entry, entry.id, workspace)
        result = run_entry(journal, entry, entry.id, workspace, scope, parent=run_id, recovers=is_later_life(batch))
        failure = failure_of(result, entry)
        if failure is not None:
            raise failure
        return {"run_id": result.run_id, "stats": dict(result.stats)}

    def _goes_on_after(self, error: Exception, context: StageContext) -> bool:
        """Whether a failure is tolerated: it is not to be tried again, and of the work, not of the store."""
        if not self.entry.is_tolerant or isinstance(error, StoreError | BudgetExhausted):
            return False
        journal, run_id = context.journal, context.run_id
        assert journal is not None
        assert run_id is not None
        tried = len(journal.run(run_id).noted(ATTEMPT)) + 1
        return tried >= self.retry.max_attempts or not self.retry.covers(error, Exception)


def _effect(entry: StepEntry, told: Mapping[str, Any]) -> Effect:
    if entry.task == "shell":
        command = told.get("script") or " ".join(map(str, told.get("command", ())))
        return Effect("run", command, None, reversible=False)
    what = str(told.get("function", entry.task)) if entry.task == "python" else entry.task
    return Effect("call", what, None, reversible=False)


def _file_effects(workspace: Path, told: Mapping[str, Any]) -> list[Effect]:
    action = told["action"]
    place = confined(workspace, told.get("path", "."))
    if action == "list":  # reads names, and no contents
        what = f"list {told.get('pattern', '*')} in {place}"
        return [Effect(READ, str(place), seconds=STEP_SECONDS, description=what)]
    if action == "read":
        return [read(place)]
    if action == "delete":
        return [delete(place)]
    if action in ("copy", "move"):
        return [(copy if action == "copy" else move)(place, confined(workspace, told["to"]))]
    content = told["content"]
    size = len(content if isinstance(content, bytes) else str(content).encode())
    return [create(place, size) if action == "write" else Effect("append", place, size)]
