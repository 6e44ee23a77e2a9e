"""The commands `batch run`, `show`, `failed` and `retry`: many items by one task, and what came of each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cortical.cli.driving import bar, driving, tell_end
from cortical.cli.options import AsJson, Id, StorePlace
from cortical.cli.session import (
    NOBODY,
    command_line,
    driver_of,
    let_import,
    opened_journal,
    opened_store,
    print_json,
    refusals,
    say,
    way_line,
)

if TYPE_CHECKING:
    from cortical.batch import BatchFailed, BatchProgress, BatchResult
    from cortical.batch.workflow_definition import BatchDefinition
    from cortical.core.run import Run

_FILES: Final = (".toml", ".yaml", ".yml", ".json")
_STATS: Final = ("total", "processed", "failed", "retried", "skipped")

What = Annotated[
    str, typer.Argument(metavar="FILE|MODULE:FUNCTION", help="A definition, or a function called with each item.")
]
Item = Annotated[list[str] | None, typer.Option("--item", metavar="TEXT", help="An item; can be given again.")]
Items = Annotated[
    str | None,
    typer.Option(
        "--items",
        metavar="FILE",
        show_default=False,
        help="A file with an item in each line that is not blank; - for standard input.",
    ),
]
Pattern = Annotated[
    str | None,
    typer.Option("--files", metavar="PATTERN", show_default=False, help="The files of the workspace that match it."),
]
Name = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", show_default=False, help="The same name takes up the same batch."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", metavar="N", min=1, show_default=False, help="How many items at a time.")
]
Attempts = Annotated[
    int | None, typer.Option("--attempts", metavar="N", min=1, show_default=False, help="How often an item is tried.")
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", min=0.001, show_default=False, help="For one attempt of an item."),
]
Tolerate = Annotated[
    int | None,
    typer.Option(
        "--tolerate", metavar="N", min=0, show_default=False, help="How many items may fail; none by default."
    ),
]
Workspace = Annotated[
    str | None,
    typer.Option(
        "--workspace",
        metavar="FOLDER",
        show_default=False,
        help="Where it works: by default that of FILE, or this one.",
    ),
]


def run(
    what: What,
    item: Item = None,
    items: Items = None,
    files: Pattern = None,
    name: Name = None,
    workers: Workers = None,
    attempts: Attempts = None,
    timeout: Timeout = None,
    tolerate: Tolerate = None,
    workspace: Workspace = None,
    store: StorePlace = None,
    as_json: AsJson = False,
) -> None:
    """Carry out a task for many items, and print what is counted of them.

    One that was begun before under the same name goes on: items that have a result are not run again. Exits 1 when
    more items failed than are tolerated, 2 when --items or --files gives none.
    """
    is_file = what.endswith(_FILES)
    if not is_file and (":" not in what or what.partition(":")[0].endswith(".py")):
        ends = ", ".join(_FILES)
        raise typer.BadParameter(
            f"{what!r}: write module:function, or a file whose name ends in {ends}", param_hint="FILE|MODULE:FUNCTION"
        )
    folder = Path(workspace) if workspace is not None else Path(what).parent if is_file else Path()
    options: dict[str, Any] = {
        "name": name,
        "max_concurrency": workers,
        "timeout": timeout,
        "tolerated_failures": tolerate,
    }
    options["items"] = _given_items(item, items, files, folder)
    options["retry"] = None if attempts is None else {"max_attempts": attempts}
    let_import()
    with refusals():  # before the store is opened: a refusal is not to leave an empty one
        from cortical.batch.workflow_batches import require_alone, run_alone

        batch = _definition(what, {key: value for key, value in options.items() if value is not None}, is_file=is_file)
        if not require_alone(batch, folder):
            _refuse_nothing(items, files, folder)
    with (
        opened_store(store, create=True) as opened,
        driving(opened, "batch retry", store, batch.name) as journal,
        _item_bar(batch.name) as moved,
    ):
        result, failure = run_alone(journal, batch, folder, on_progress=moved)
    _tell(result, failure, store, as_json=as_json)


def show(id: Id, store: StorePlace = None, as_json: AsJson = False) -> None:
    """Show how a batch stands, and while it is open, who drives it.

    ID may also be that of a step or workflow with one batch.
    """
    from cortical.batch.workflow_batches import batch_at, stats_at
    from cortical.core.going_on import way_on

    with opened_journal(store) as journal:
        batch = batch_at(journal, journal.resolve(id))
        stats = stats_at(journal, batch)
        held_by = driver_of(journal.store, batch.tree.root.id)
    if as_json:
        print_json({**_as_plain(batch, stats), "held_by": held_by})
        return
    from cortical.cli.page import print_rows, print_title
    from cortical.cli.render import console

    out = console()
    print_title(out, batch)
    is_open = batch.reason is None
    rows = [("status", batch.status.value), ("held by", (held_by or NOBODY) if is_open else "")]
    print_rows(out, [*rows, *_rows(batch, stats)])
    if is_open and held_by is None:
        say(f"nobody drives it; carry on: {way_line(way_on(batch), store)}")


def failed(id: Id, store: StorePlace = None, as_json: AsJson = False) -> None:
    """List the items of a batch that failed, each with its error."""
    from cortical.batch.workflow_batches import batch_at, failures_of

    with opened_journal(store) as journal:
        batch = batch_at(journal, journal.resolve(id))
        failures = failures_of(journal, batch.id)
    if as_json:
        print_json(_plain(failures))
    elif failures:
        _print_failures(failures)
    else:
        say("no item failed")
        return
    if failures:
        say(f"run them again: {command_line('batch retry', batch.id, store)}")


def retry(id: Id, store: StorePlace = None, as_json: AsJson = False) -> None:
    """Run the items of a batch again that failed, or were never run; those that have a result keep it.

    It is run as it was defined then. Exits 1 when more items fail than are tolerated.
    """
    from cortical.batch.workflow import recorded_scope
    from cortical.batch.workflow_batches import batch_at, retry_batch

    let_import()
    with opened_store(store) as opened, driving(opened, "batch retry", store, id) as journal:
        batch = batch_at(journal, journal.resolve(id))
        with _item_bar(batch.name) as moved:
            result, failure = retry_batch(journal, batch, recorded_scope(journal, batch), on_progress=moved)
        workflow = _unfinished(batch)
    if workflow is not None and failure is None:
        say(f"its workflow has not succeeded; carry on: {command_line('workflow resume', workflow, store)}")
    _tell(result, failure, store, as_json=as_json)


def _given_items(
    item: Sequence[str] | None, items: str | None, files: str | None, folder: Path
) -> list[str] | dict[str, str] | None:
    """The items of the command line, as a definition says them; None where there are none."""
    if sum(given is not None and given != [] for given in (item, items, files)) > 1:
        raise typer.BadParameter("give items in one way only", param_hint="--item, --items, --files")
    if files is not None:
        return {"files": files}
    if items is None:
        return list(item) if item else None
    from cortical.batch.workflow_batches import lines_of

    if items == "-":
        return lines_of(sys.stdin.read())
    path = Path(items)
    try:
        lines = lines_of(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{items!r} cannot be read: {error}", param_hint="--items") from error
    if path.resolve().is_relative_to(folder.resolve()):
        return {"lines": str(path.resolve().relative_to(folder.resolve()))}
    return lines


def _refuse_nothing(items: str | None, files: str | None, folder: Path) -> None:
    """Refuse items that were asked for here, and are none: nothing done is no success."""
    if files is not None:
        raise typer.BadParameter(f"no file in {str(folder.resolve())!r} matches {files!r}", param_hint="--files")
    if items is not None:
        where = "standard input" if items == "-" else repr(items)
        raise typer.BadParameter(f"{where} has no item: no line, or blank ones alone", param_hint="--items")


def _definition(what: str, options: Mapping[str, Any], *, is_file: bool) -> BatchDefinition:
    from cortical.batch.workflow_definition import batch_of
    from cortical.core.ids import new_id
    from cortical.stages.definition import read_values

    if is_file:
        values = read_values(what, "a batch's file")
        return batch_of({**values, **options} if isinstance(values, Mapping) else values, what)
    given = {"name": f"{what}-{new_id()[:8]}", "task": "python", "with": {"function": what}, **options}
    return batch_of(given, what)


@contextmanager
def _item_bar(name: str) -> Iterator[Callable[[BatchProgress], object] | None]:
    with bar(name) as move:
        if move is None:
            yield None
        else:
            yield lambda progress: move(progress.done, progress.total, progress.rate)


def _tell(result: BatchResult, failure: BatchFailed | None, store: str | None, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "run_id": result.run_id,
                "name": result.name,
                "status": result.status.value,
                "reason": result.reason.value if result.reason else None,
                "ok": failure is None,
                "why": "" if failure is None else str(failure),
                "stats": _stats_as_plain(result.stats),
            }
        )
    else:
        for name in _STATS:
            typer.echo(f"{name:<9}  {result.stats[name]:,}")
    if result.stats["failed"]:
        say(f"what failed, and why: {command_line('batch failed', result.run_id, store)}")
    again = None if failure is None else command_line("batch retry", result.run_id, store)
    if failure is None:
        tell_end(result.name, result.run_id, result.status.value, "", None)
    else:
        tell_end(result.name, result.run_id, "has not succeeded", str(failure), again)


def _unfinished(batch: Run) -> str | None:
    """The workflow that a batch belongs to, if that has not succeeded."""
    from cortical.core.status import Status

    stage = batch.parent
    above = None if stage is None else stage.parent
    return above.id if above is not None and above.status is not Status.COMPLETED else None


def _rows(batch: Run, stats: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from cortical.cli.text import duration, moment

    definition = batch.metadata.get("batch", {})
    yield "task", str(definition.get("task", (batch.data or {}).get("handler", "")))
    yield "started", moment(batch.started_at)
    yield "took", "" if stats["seconds"] is None else duration(stats["seconds"])
    for name in _STATS:
        yield name, f"{stats[name]:,}"
    if stats["processed"] or stats["failed"]:
        yield "success", f"{stats['success_rate']:.1f} %"


def _as_plain(batch: Run, stats: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run_id": batch.id,
        "name": batch.name,
        "status": batch.status.value,
        "reason": batch.reason.value if batch.reason else None,
        "definition": _plain(batch.metadata.get("batch")),
        "workspace": batch.metadata.get("workspace"),
        "stats": _stats_as_plain(stats),
    }


def _stats_as_plain(stats: Mapping[str, Any]) -> dict[str, Any]:
    from cortical.looking.plain import iso

    return {**stats, "start": iso(stats["start"]), "end": iso(stats["end"])}


def _plain(value: Any) -> Any:
    from cortical.looking.plain import value_as_plain

    return value_as_plain(value)


def _print_failures(failures: Sequence[Mapping[str, Any]]) -> None:
    from rich.text import Text

    from cortical.cli.render import console, print_columns
    from cortical.cli.text import shortened, value_text
    from cortical.core.safe_text import one_line

    rows = [
        [
            Text(str(one["index"])),
            Text(one_line(shortened(value_text(one["item"]))), "bold"),
            Text(str(one["attempts"])),
            Text(one_line(shortened(f"{one['type']}: {one['error']}"))),
        ]
        for one in failures
    ]
    print_columns(console(), rows, headings=("index", "item", "attempts", "error"))
