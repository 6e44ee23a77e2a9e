"""All that can be wrong with a workflow beyond its form, found at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from cortical.batch.context import OWN
from cortical.batch.tasks import find_task
from cortical.batch.workflow_batches import FILES, LINES
from cortical.batch.workflow_definition import StepEntry, WorkflowDefinition
from cortical.batch.workflow_order import Surroundings
from cortical.batch.workflow_steps import step_id
from cortical.batch.workflow_values import (
    ERRORS,
    FROM,
    PARAMETERS,
    SCOPE,
    STEPS,
    references,
    require_condition,
    require_template,
    templates,
)
from cortical.core.checks import meant, nearest, require_keys, shown
from cortical.core.errors import CorticalError, InvalidInput, WrongType
from cortical.stages.errors import cannot_be_run
from cortical.stages.pipeline import Pipeline


class InvalidWorkflow(CorticalError, ValueError):
    """A workflow cannot be run as it is; `problems` holds everything that is wrong with it."""

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        super().__init__(cannot_be_run(f"workflow {name!r}", problems))
        self.name = name
        self.problems = tuple(problems)


def problems_of(definition: WorkflowDefinition, around: Mapping[str, Surroundings]) -> Iterator[str]:
    """Everything that is wrong with the steps of a workflow."""
    yield from _unplain(definition.name, "the workflow's name")
    for name, about in definition.parameters.items():
        yield from _unplain([name, about], f"parameter {name!r}")
    ids = [step.id for step in definition.steps]
    for one, count in Counter(ids).items():
        if count > 1:
            yield f"{count} steps have the id {one!r}; give each its own"
    for step in definition.steps:
        where = f"step {step.id!r}"
        yield from _unplain(step, where)
        yield from _neighbours(step, ids)
        yield from (f"{where}: {told}" for told in _task(step))
        yield from (f"{where}: {told}" for told in _values(step, definition, around[step.id]))


def cycles_of(pipeline: Pipeline) -> Iterator[str]:
    """The steps that wait for each other."""
    for cycle in pipeline.dependencies.cycles():
        yield f"these steps wait for each other: {' → '.join(map(step_id, cycle))}"


def require_parameters(definition: WorkflowDefinition, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a workflow: those given, and the defaults of the others.

    Raises:
        InvalidWorkflow: some are not known, or missing; all of them are told.
    """
    known = definition.parameters
    problems = [f"it has no parameter {name!r}{meant(name, known)}" for name in given if name not in known]
    missing = [name for name, about in known.items() if about.default is msgspec.UNSET and name not in given]
    problems += [f"the parameter {name!r} is not given, and has no default" for name in missing]
    if problems:
        raise InvalidWorkflow(definition.name, problems)
    defaults = {name: about.default for name, about in known.items() if name not in given}
    return {**defaults, **given}


def told(names: Mapping[str, Any] | Sequence[str]) -> str:
    """Names in a sentence."""
    return ", ".join(names) or "none"


def _unplain(value: object, where: str) -> Iterator[str]:
    """A definition is kept with the run, and has to be readable by another process."""
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        yield f"{where} is to be made of texts, numbers, lists and tables: {str(error)[:1].lower()}{str(error)[1:]}"


def _items(given: Any) -> None:
    if given is None or isinstance(given, list | tuple):
        return
    if not isinstance(given, Mapping):
        raise WrongType(
            f"items are a list, a reference to one, {{{LINES!r}: file}} or {{{FILES!r}: pattern}}, not {shown(given)}"
        )
    require_keys(given, (FROM, LINES, FILES), "items")
    if len(given) != 1:
        raise InvalidInput(f"items come from one place: {FROM!r}, {LINES!r} or {FILES!r}")


def _neighbours(step: StepEntry, ids: Sequence[str]) -> Iterator[str]:
    for one in step.depends_on:
        if one not in ids:
            yield f"step {step.id!r} waits for {one!r}, which is no step{nearest(one, ids)}"
    if step.handler is not None and step.handler not in ids:
        yield f"step {step.id!r}: on_error leads to {step.handler!r}, which is no step{nearest(step.handler, ids)}"
    if step.handler == step.id:
        yield f"step {step.id!r}: on_error leads to the step itself; name another, or give a retry"


def _task(step: StepEntry) -> Iterator[str]:
    try:
        task = find_task(step.task)
        if task.check is not None:
            task.check(step.with_)
    except CorticalError as error:
        yield str(error)
    if step.items is None and isinstance(step.max_concurrency, int):
        yield "max_concurrency says how many items at a time, but it has no items"
    if step.items is None and (step.tolerated_failures or step.rate_limit is not None):
        yield "tolerated_failures and rate_limit are for the items of a step, but it has no items"


def _values(step: StepEntry, definition: WorkflowDefinition, around: Surroundings) -> Iterator[str]:
    checks: list[Callable[[], object]] = [partial(require_condition, step.condition), partial(_items, step.items)]
    checks += [partial(require_template, text) for text in templates([step.with_, step.items, step.condition])]
    for check in checks:
        try:
            check()
        except CorticalError as error:
            yield str(error)
    for value, of_item in ((step.items, False), (step.condition, False), (step.with_, True)):
        try:
            paths = list(references(value))
        except CorticalError as error:
            yield str(error)
            continue
        for path in paths:
            problem = _reference(path, step, definition, around, of_item=of_item)
            if problem:
                yield f"{path!r} leads nowhere: {problem}"


def _reference(
    path: str, step: StepEntry, definition: WorkflowDefinition, around: Surroundings, *, of_item: bool
) -> str:
    """What is wrong with a reference; empty where nothing is that can be known beforehand."""
    root, _, rest = path.partition(".")
    name = rest.partition(".")[0]
    if root == PARAMETERS:
        known = definition.parameters
        return "" if name in known else f"there is no parameter {name!r}{nearest(name, known)}"
    if root in (STEPS, ERRORS):
        ids = [one.id for one in definition.steps]
        if name not in ids:
            return f"there is no step {name!r}{nearest(name, ids)}"
        if root == ERRORS and name in around.above and not _named(definition, name).is_tolerant:
            return f"the workflow does not go on after an error of {name!r}; say on_error: continue there"
        return "" if name in around.above else f"{step.id!r} does not wait for {name!r}; add it to depends_on"
    if of_item and step.items is not None and root in OWN:
        return ""
    if root in OWN:
        where = "what the task is told" if step.items is not None else "a step with items"
        return f"there is {root!r} only in {where}"
    return f"values are in {', '.join(SCOPE)}{nearest(root, [*SCOPE, 'item'])}"


def _named(definition: WorkflowDefinition, step: str) -> StepEntry:
    return next(one for one in definition.steps if one.id == step)
