"""The command `why`: why a loop stands where it stands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cortical.cli.options import AsJson, Id, StorePlace
from cortical.cli.session import opened_journal, print_json

if TYPE_CHECKING:
    from rich.text import Text

    from cortical.core.run import Run
    from cortical.looking.choices import Choice
    from cortical.looking.why import Standing


def why(id: Id, store: StorePlace = None, as_json: AsJson = False) -> None:
    """Tell why a loop stands where it stands.

    The reason, who waits for whom, what was decided by whom, and what happened last.
    """
    from cortical.looking.why import explain

    with opened_journal(store) as journal:
        run = journal.refresh(journal.resolve(id))
        standing = explain(run, journal.store.read(run.tree.root.id))
    if as_json:
        print_json(_as_plain(standing))
    else:
        _print(standing)


def _print(standing: Standing) -> None:
    from cortical.cli.events import event_line
    from cortical.cli.page import print_heading, print_rows, print_title, standing as standing_text
    from cortical.cli.render import console, print_columns, print_line, print_runs
    from cortical.cli.text import duration, id_length, moment

    out = console()
    run = standing.run
    length = id_length(other.id for other in run.tree.walk())
    ago = duration(time.time() - standing.since)
    print_title(out, run)
    print_rows(
        out,
        [
            ("status", standing_text(run)),
            ("since", f"{moment(standing.since)}, {ago} ago"),
            *standing.facts(),
            ("waited for by", ", ".join(other.id[:length] for other in standing.waited_for_by)),
        ],
    )
    for heading, runs in (("above it, the root first", standing.path[:-1]), ("it waits for", standing.waits_for)):
        if runs:
            print_heading(out, heading)
            print_runs(out, runs, length)
    if standing.decisions:
        shown, count = standing.newest_decisions(), len(standing.decisions)
        print_heading(out, "decisions" if len(shown) == count else f"decisions, the last {len(shown)} of {count}")
        print_columns(out, [_cells(choice) for choice in shown], indent=2)
    print_heading(out, "last events")
    for _, event in standing.last_events:
        print_line(out, event_line(out, event, id_length=length))


def _cells(choice: Choice) -> list[Text]:
    from rich.text import Text

    from cortical.cli.text import moment
    from cortical.core.safe_text import one_line

    told = (choice.what, choice.by, choice.why)
    return [Text(moment(choice.at), "dim"), *(Text(one_line(text)) for text in told)]


def _as_plain(standing: Standing) -> dict[str, Any]:
    from attrs import asdict

    from cortical.looking.plain import event_as_plain, iso

    run = standing.run
    return {
        "id": run.id,
        "goal": run.name,
        "status": run.status.value,
        "phase": run.place,
        "since": iso(standing.since),
        "because": standing.because,
        "next_step": standing.next_step,
        "reason": standing.reason.value if standing.reason else None,
        "limit": standing.limit,
        "path": [_in_brief(other) for other in standing.path],
        "waits_for": [_in_brief(other) for other in standing.waits_for],
        "waited_for_by": [_in_brief(other) for other in standing.waited_for_by],
        "ended_with": standing.ended_with.id if standing.ended_with else None,
        "decisions": [{**asdict(choice), "at": iso(choice.at)} for choice in standing.decisions],
        "last_events": [event_as_plain(position, event) for position, event in standing.last_events],
    }


def _in_brief(run: Run) -> dict[str, Any]:
    from cortical.looking.why import why_it_stands

    return {"id": run.id, "goal": run.name, "status": run.status.value, "phase": run.place, "why": why_it_stands(run)}
