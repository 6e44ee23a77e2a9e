"""A page about one loop, and the rows of labelled text that other pages are made of too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from rich.console import Console
from rich.text import Text

from cortical.cli.render import STYLES, cut, print_columns, print_line, print_runs, signed, took
from cortical.cli.text import duration, entry_text, id_length, moment, phase_text, shortened, value_text
from cortical.core.outcome import Failed, Ok
from cortical.core.run import Checkpoint, Run, Visit
from cortical.core.safe_text import one_line, printable
from cortical.looking.why import why_it_stands

_LONGEST_LABEL: Final = 20
#: How many visits are shown: a loop may have gone round very often.
_MOST_VISITS: Final = 40

Row = tuple[str, Text | str]


def print_page(out: Console, run: Run, now: float, held_by: str = "") -> None:
    """Print everything about `run`, and who holds its tree, where that is known."""
    length = id_length(other.id for other in run.tree.walk())
    print_title(out, run)
    print_rows(out, [*_facts(run, now, length), ("held by", held_by)])
    if run.visits:
        visits = run.visits
        first = max(0, len(visits) - _MOST_VISITS)
        print_heading(out, f"visits, the last {_MOST_VISITS} of {len(visits):,}; --json has all" if first else "visits")
        for index, visit in enumerate(visits[first:], first):
            print_line(out, _visit_line(visit, now))
            print_rows(
                out,
                [(entry.topic, shortened(entry_text(entry.topic, entry.value))) for entry in run.entries_of(index)],
                4,
            )
    if run.checkpoints:
        print_heading(out, "checkpoints")
        print_rows(out, [(str(one.seq), _checkpoint_text(one)) for one in run.checkpoints.values()])
    if run.children:
        print_heading(out, "children")
        print_runs(out, run.children, length)
    if run.completed_children:
        print_heading(out, "results of children")
        print_rows(out, [(child.id[:length], shortened(value_text(child.value))) for child in run.completed_children])


def print_title(out: Console, run: Run) -> None:
    """Print a run's sign, whole id and whole goal."""
    print_columns(out, [[signed(run.status, run.id), Text(printable(run.name), "bold")]], fold=True)


def print_heading(out: Console, text: str) -> None:
    """Print the heading of a section."""
    out.print()
    out.print(Text(text, "dim"))


def print_rows(out: Console, rows: Iterable[Row], indent: int = 2) -> None:
    """Print labelled texts, each folded into its own column; those without text are left out."""
    cells = [
        [Text(cut(label, _LONGEST_LABEL), "dim"), text if isinstance(text, Text) else Text(printable(text))]
        for label, text in rows
        if text
    ]
    print_columns(out, cells, indent=indent, fold=True)


def standing(run: Run) -> str:
    """Status, and the phase where it stands or stood."""
    phase = phase_text(run.place, run.visit.turn if run.visit else None)
    return f"{run.status.value} at {phase}" if phase else run.status.value


def _facts(run: Run, now: float, length: int) -> list[Row]:
    rows: list[Row] = [("status", Text(standing(run), STYLES[run.status])), ("why", why_it_stands(run))]
    if run.reason is not None:
        rows.append(("reason", run.reason.value))
    rows += [
        ("path", " › ".join(above.id[:length] for above in run.tree.path(run)) if run.parent else ""),
        ("started", moment(run.started_at)),
        ("took" if run.reason else "age", duration(run.seconds(now))),
        ("children", f"{len(run.children)}, {run.open_children} open" if run.children else ""),
        ("events", str(run.seq)),
    ]
    if isinstance(run.outcome, Ok) and run.value is not None:
        rows.append(("result", shortened(value_text(run.value))))
    if isinstance(run.outcome, Failed):
        rows += _failure(run.outcome)
    rows += [(key, shortened(value_text(value))) for key, value in run.metadata.items()]
    rows += [(key, shortened(value_text(value))) for key, value in (run.data or {}).items()]
    return rows


def _failure(failed: Failed) -> Iterator[Row]:
    yield "attempts", str(failed.attempts)
    for cause in failed.causes:
        yield "caused by", shortened(str(cause))
    yield "traceback", shortened(failed.error.traceback.rstrip())


def _checkpoint_text(checkpoint: Checkpoint) -> str:
    label = f"  {one_line(checkpoint.label)}" if checkpoint.label else ""
    return f"{one_line(checkpoint.run_id)}@{checkpoint.seq}  {moment(checkpoint.at)}{label}"


def _visit_line(visit: Visit, now: float) -> Text:
    stay = f"{duration(took(visit.entered_at, visit.left_at, now))}{' so far' if visit.left_at is None else ''}"
    line = Text.assemble(
        f"  {phase_text(visit.place, visit.turn):<10}  ", (f"{moment(visit.entered_at)}  {stay}", "dim")
    )
    return line.append(f"  {one_line(visit.reason)}" if visit.reason else "")
