"""Batches that are defined as data: entered with their definition, run, and their failed items run again.

The definition is kept with the batch's run, so that whoever has the store can take the batch up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from cortical.batch.errors import BatchFailed
from cortical.batch.handlers.config import confined
from cortical.batch.ledger import Ledger, kept_names
from cortical.batch.processor import BatchProcessor
from cortical.batch.result import BatchProgress, BatchResult
from cortical.batch.source import Stop
from cortical.batch.tasks import RegisteredTask, find_task
from cortical.batch.workflow_definition import BatchDefinition, BatchEntry, plain_of
from cortical.batch.workflow_values import SCOPE, filled_in
from cortical.core import rules
from cortical.core.checks import require_keys, shown
from cortical.core.errors import InvalidInput, RunNotFound, RunStateError, WrongType
from cortical.core.journal import Journal
from cortical.core.kinds import BATCH
from cortical.core.outcome import Failed, Ok, why_of
from cortical.core.phases import WORK
from cortical.core.run import Run
from cortical.recovery.lives import begin_next_life, is_later_life, lives

#: What a run keeps of the definition of its batch, and the folder it works in.
DEFINITION: Final = "batch"
WORKSPACE: Final = "workspace"
#: Where items come from, if they are not given themselves.
LINES: Final = "lines"
FILES: Final = "files"

_BUILT_IN: Final = f"{__package__}.handlers."

OnProgress = Callable[[BatchProgress], object]
Scope = Mapping[str, Any]


def configuration(entry: BatchEntry, task: RegisteredTask, scope: Scope) -> dict[str, Any]:
    """What a task is told: templates filled in; references too, but for the built-in ones, which see to their own.

    Raises:
        InvalidInput: a reference leads nowhere.
    """
    built_in = task.handler.__module__.startswith(_BUILT_IN)
    told: dict[str, Any] = filled_in(entry.with_, scope, roots=() if built_in else SCOPE)
    return told


def items_of(given: Any, workspace: Path, scope: Scope) -> Iterable[Any]:
    """The items that a definition means: a list, or the lines of a file but the blank ones, or the files that match
    a pattern.

    Raises:
        WrongType, InvalidInput: it means none.
        OSError: the file cannot be read.
        OutsideWorkspace: it is not in the workspace.
    """
    found = filled_in(given, scope)
    if isinstance(found, Mapping):
        require_keys(found, (LINES, FILES), "items")
        if len(found) != 1:
            raise InvalidInput(f"items come from one place: {LINES!r} or {FILES!r}, not {', '.join(found) or 'none'}")
        return _lines(workspace, found[LINES]) if LINES in found else _files(workspace, found[FILES])
    if isinstance(found, str) or not isinstance(found, Iterable):
        raise WrongType(
            f'items are a list, a reference to one, {{"lines": file}} or {{"files": pattern}}, not {shown(found)}'
        )
    return list(found)


def lines_of(text: str) -> list[str]:
    """The items that the lines of a text are; blank ones are none."""
    return [line for line in text.splitlines() if line.strip()]


def run_entry(
    journal: Journal,
    entry: BatchEntry,
    name: str,
    workspace: Path,
    scope: Scope,
    *,
    parent: str | None = None,
    recovers: bool = False,
    on_progress: OnProgress | None = None,
) -> BatchResult:
    """Run a batch, or go on with it.

    Args:
        parent: the run below which it stands, by this name; else it is the root of this id.
        recovers: whether it goes on in the place of another, whose items may have stood elsewhere.

    Raises:
        What `BatchProcessor.run` raises.
    """
    task = find_task(entry.task)
    with BatchProcessor(
        workspace,
        name,
        entry.task,
        store=journal,
        max_concurrency=entry.max_concurrency,
        retry=entry.policy,
        timeout=entry.timeout,
        rate_limit=entry.rate_limit,
        tolerated_failures=entry.tolerated_failures or None,
        parent=parent,
    ) as processor:
        return processor.run(
            items_of(entry.items, workspace, scope),
            configuration(entry, task, scope),
            context=scope,
            match="key" if recovers else "list",
            on_progress=on_progress,
        )


def failure_of(result: BatchResult, entry: BatchEntry) -> BatchFailed | None:
    """Why a batch counts as failed: it did not end well, or more items failed than are tolerated; None if neither."""
    if isinstance(result.outcome, Failed):
        return BatchFailed(result.outcome.error.message)
    if not isinstance(result.outcome, Ok):
        return BatchFailed(f"batch {result.name!r} is {result.status.value}: {why_of(result.outcome)}")
    failed, total = result.stats["failed"], result.stats["total"]
    allowed = Stop.beyond(entry.tolerated_failures).allowed(total)
    if allowed is None or failed <= allowed:
        return None
    return BatchFailed(f"{failed} of {total} items failed, {allowed} tolerated")


def require_alone(batch: BatchDefinition, workspace: Path) -> list[Any]:
    """The items of a batch of its own, if it can be run.

    Raises:
        InvalidInput, WrongType: something of it makes no sense.
    """
    task = find_task(batch.task)
    if task.check is not None:
        task.check(configuration(batch, task, {}))
    if not workspace.is_dir():
        raise InvalidInput(f"the workspace {str(workspace)!r} is no folder; make it first")
    try:
        return list(items_of(batch.items, workspace, {}))
    except OSError as error:
        raise InvalidInput(f"the items of batch {batch.name!r} cannot be read: {error}") from error


def run_alone(
    journal: Journal, batch: BatchDefinition, workspace: Path, *, on_progress: OnProgress | None = None
) -> tuple[BatchResult, BatchFailed | None]:
    """Run a batch of its own, or go on with the one of this name; and say why it counts as failed, if it does.

    Args:
        batch: one that `require_alone` has passed.

    Raises:
        RunStateError: its name is that of something else.
        What `BatchProcessor.run` raises.
    """
    enter_alone(journal, batch, workspace)
    result = run_entry(journal, batch, batch.name, workspace, {}, on_progress=on_progress)
    return result, failure_of(result, batch)


# In the log


def enter_alone(journal: Journal, batch: BatchDefinition, workspace: Path) -> None:
    """Begin a batch of its own with its definition, unless one of this name was begun before."""
    try:
        journal.refresh(batch.name)
    except RunNotFound:
        metadata = _metadata(batch, workspace)
        journal.plant(batch.name, rules.start, BATCH, batch.name, place=WORK, metadata=metadata)


def enter_below(journal: Journal, stage_id: str, entry: BatchEntry, name: str, workspace: Path) -> Run:
    """The batch below a stage; begun with its definition where there is none.

    It goes on in the place of the one that an earlier life of the pipeline began for the same task.
    """
    stage = journal.refresh(stage_id)
    for child in stage.children:
        if child.kind == BATCH:
            return child
    metadata = _metadata(entry, workspace)
    former = _former(journal, stage, metadata[DEFINITION])
    if former is None:
        batch_id = journal.new_id()
        journal.insist(
            stage_id,
            rules.start_below,
            batch_id,
            BATCH,
            name,
            WORK,
            metadata=metadata,
            max_depth=journal.max_depth,
        )
    else:
        note, data = {"strategy": "run again"}, former.data or {}
        batch_id = begin_next_life(journal, former.id, note, data, parent=stage_id, metadata=metadata, place=WORK)
    return journal.run(batch_id)


def batch_at(journal: Journal, run_id: str) -> Run:
    """The newest life of the batch that this run is, or that alone stands below it.

    Raises:
        RunNotFound: no run has this id.
        RunStateError: there is no batch below it, or there are several.
    """
    run = journal.refresh(run_id)
    below = [run] if run.kind == BATCH else [one for one in run.tree.walk(run) if one.kind == BATCH]
    newest = {lives(journal, one.id)[-1].id for one in below}
    if len(newest) != 1:
        told = f"has {len(newest)} batches below it: {', '.join(sorted(newest))}" if newest else "has no batch below it"
        raise RunStateError(f"{run.kind} {run.id!r} {told}; give the id of one", run.id)
    return journal.run(newest.pop())


def results_of(journal: Journal, run_id: str) -> list[Any]:
    """What the items of a batch gave that ended well, in the order of the input."""
    known = Ledger(lives(journal, run_id), "list").in_order()
    return [one.outcome.value for one in known if isinstance(one.outcome, Ok)]


def failures_of(journal: Journal, run_id: str) -> list[dict[str, Any]]:
    """What is told of the items of a batch that failed, in the order of the input: index, item, error, attempts."""
    chain = lives(journal, run_id)
    names = {index: name for life in chain for index, name in kept_names(life).items()}
    return [
        {
            "index": one.index,
            "item": names.get(one.index),
            "type": one.outcome.error.type,
            "error": one.outcome.error.message,
            "attempts": one.outcome.attempts,
            "run_id": one.run.id,
        }
        for one in Ledger(chain, "list").in_order()
        if isinstance(one.outcome, Failed)
    ]


def definition_of(run: Run) -> tuple[BatchEntry, Path]:
    """The definition that a batch was begun with, and the folder it works in.

    Raises:
        RunStateError: it was begun by a program, which alone knows what it is made of.
    """
    metadata = run.metadata
    if DEFINITION not in metadata:
        raise RunStateError(
            f"batch {run.name!r} was run by a program, which alone has its handler and items; run it again there",
            run.id,
        )
    return msgspec.convert(metadata[DEFINITION], BatchEntry), Path(metadata[WORKSPACE])


def retry_batch(
    journal: Journal, run: Run, scope: Scope, *, on_progress: OnProgress | None = None
) -> tuple[BatchResult, BatchFailed | None]:
    """Run the items of a batch again that have no result, and say why it counts as failed, if it does.

    Args:
        run: the newest life of the batch.
        scope: what its references lead to.

    Raises:
        RunStateError: it was begun by a program.
        LeaseHeld: somebody else runs it.
        What `BatchProcessor.run` raises.
    """
    entry, workspace = definition_of(run)
    name, parent = _address(journal, run)
    result = run_entry(
        journal, entry, name, workspace, scope, parent=parent, recovers=is_later_life(run), on_progress=on_progress
    )
    return result, failure_of(result, entry)


def stats_at(journal: Journal, run: Run) -> dict[str, Any]:
    """The counts of a batch as it stands, as `BatchResult.stats` has them."""
    name, parent = _address(journal, run)
    stats: dict[str, Any] = BatchProcessor(".", name, store=journal, parent=parent).state["stats"]
    return stats


def _address(journal: Journal, run: Run) -> tuple[str, str | None]:
    """By what a processor finds a batch: its name and the run below which it stands, or the id of its first life."""
    chain = lives(journal, run.id)
    below = next((life for life in reversed(chain) if life.parent_id is not None), None)
    return (chain[0].id, None) if below is None else (below.name, below.parent_id)


def _metadata(entry: BatchEntry, workspace: Path) -> dict[str, Any]:
    kept = {name: value for name, value in plain_of(entry).items() if name in _KEPT}
    return {DEFINITION: kept, WORKSPACE: str(workspace.absolute())}


def _former(journal: Journal, stage: Run, definition: Mapping[str, Any]) -> Run | None:
    """The batch of the same task in the life of the pipeline before this one, if that has ended."""
    assert stage.parent_id is not None
    for life in reversed(lives(journal, stage.parent_id)):
        for sibling in life.children:
            batches = [one for one in sibling.children if one.kind == BATCH]
            if sibling.id != stage.id and sibling.name == stage.name and batches:
                former = lives(journal, batches[0].id)[-1]
                before = former.metadata.get(DEFINITION, {})
                same = all(before.get(name) == definition.get(name) for name in ("task", "with"))
                return former if same and former.reason is not None else None
    return None


_KEPT: Final = frozenset(one.encode_name for one in msgspec.structs.fields(BatchEntry))


def _lines(workspace: Path, path: object) -> list[str]:
    try:
        return lines_of(confined(workspace, path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path!r} has no lines of text: {error}; items from it have to be UTF-8") from error


def _files(workspace: Path, pattern: object) -> list[str]:
    if not isinstance(pattern, str) or not pattern:
        raise WrongType(f"a pattern is a text such as '*.txt', not {shown(pattern)}")
    confined(workspace, pattern)
    root = workspace.resolve()
    found = root.glob(pattern)
    return sorted(
        str(path.relative_to(root)) for path in found if path.is_file() and path.resolve().is_relative_to(root)
    )
