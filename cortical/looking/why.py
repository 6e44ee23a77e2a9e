"""Why a run stands where it stands: told from its tree and the tree's log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from attrs import frozen

from cortical.core.events import Ended, Event
from cortical.core.outcome import Abandoned, Failed, Ok, Skipped, why_of
from cortical.core.questions import question_of
from cortical.core.run import Run
from cortical.core.safe_text import counted, one_line
from cortical.core.status import Status, TerminationReason
from cortical.core.topics import LIMIT
from cortical.looking.choices import Choice, choices
from cortical.store.face import Face, Place
from cortical.store.listing import status_after

_MOST_DECISIONS: Final = 8
_MOST_RUNS: Final = 5
_LONGEST: Final = 500
_LONGEST_NAME: Final = 60


@frozen
class Standing:
    """Where a run stands, and how it came there. As a text it is a few lines, to be printed.

    `since` is when it came to its status, in seconds since the epoch. `because` says why it stands so, and `next_step`
    what would take it on (empty when nothing will: it has ended). `reason` is why it ended, and `limit` the one that
    fired; None while it is open, or where none did. `path` leads from the root down to it. `waits_for` are the runs
    below it that have to end first and wait for no children themselves; `waited_for_by` are those above that are paused
    for it, the nearest first. `ended_with` is the run above it whose end took this one along, if one did. `decisions`
    are those on its way, oldest first. `last_events` are its own, oldest first, each with its position in the tree's
    log.
    """

    run: Run
    since: float
    because: str
    next_step: str
    reason: TerminationReason | None
    limit: str | None
    path: tuple[Run, ...]
    waits_for: tuple[Run, ...]
    waited_for_by: tuple[Run, ...]
    ended_with: Run | None
    decisions: tuple[Choice, ...]
    last_events: tuple[tuple[int, Event], ...]

    def facts(self) -> list[tuple[str, str]]:
        """What a person reads of it, a label and a text each; the text is empty where there is nothing to say."""
        reason = "" if self.reason is None else self.reason.value
        return [
            ("because", self.because),
            ("reason", f"{reason} (limit: {self.limit})" if self.limit else reason),
            ("next", self.next_step),
        ]

    def __str__(self) -> str:
        run = self.run
        place = f" at {run.place}" if run.visit else ""
        turn = f" #{run.visit.turn}" if run.visit and run.visit.turn > 1 else ""
        rows = [
            ("status", f"{run.status.value}{place}{turn} since {_moment(self.since)}"),
            *self.facts(),
            ("above it", " › ".join(_named(above) for above in self.path[:-1])),
            ("waits for", _listed(self.waits_for)),
            *(("" if count else "decided", _told(choice)) for count, choice in enumerate(self.newest_decisions())),
        ]
        width = max(len(label) for label, text in rows if text)
        lines = [f"  {label:<{width}}  {_cut(text)}" for label, text in rows if text]
        return "\n".join([f"{run.id}  {_cut(run.name)}", *lines])

    def newest_decisions(self) -> Sequence[Choice]:
        """The last decisions, no more than a person wants to read at once, oldest first."""
        return self.decisions[-_MOST_DECISIONS:]


def why(store: Place, run_id: str) -> Standing:
    """Why a run stands where it stands: what it waits for or how it ended, and the decisions that led there.

    ::

        print(why("runs.db", "3f2a"))

    Args:
        store: a path or URL, an open store, a journal, or a face that has one. Nothing is written to it.
        run_id: the id of any run, or a prefix that no other id begins with.

    Raises:
        RunNotFound, AmbiguousId: no run has this id, or several begin so.
        StoreNotFound: there is no store at the path.
        WrongType: `store` is none of these.
    """
    with Face(store, create=False) as face:
        journal = face.journal
        run = journal.refresh(journal.resolve(run_id))
        with journal.holding(run.tree):
            run = journal.run(run.id)
            return explain(run, journal.store.read(run.tree.root.id)[: run.tree.position])


def explain(run: Run, log: Sequence[Event], *, last: int = 5) -> Standing:
    """Why `run` stands where it stands; `log` holds all events of its tree, `last` says how many to quote."""
    own = [(position, event) for position, event in enumerate(log) if event.run_id == run.id]
    above = _ended_with(run, log)
    return Standing(
        run=run,
        since=_since([event for _, event in own]),
        because=_because(run, above),
        next_step=_next_step(run),
        reason=run.reason,
        limit=_limit(run, above),
        path=tuple(run.tree.path(run)),
        waits_for=tuple(_waits_for(run)),
        waited_for_by=tuple(_waited_for_by(run)),
        ended_with=above,
        decisions=tuple(choices(run.id, log)),
        last_events=tuple(own[-last:]) if last > 0 else (),
    )


def why_it_stands(run: Run) -> str:
    """What there is to say about a run's status: why it is paused or blocked, or how it ended. Empty when nothing."""
    match run.outcome:
        case None:
            return run.why
        case Ok():
            return run.reason.value if run.reason and run.reason.value != "success" else ""
    return why_of(run.outcome)


def _since(own: Sequence[Event]) -> float:
    at, status = own[0].at, status_after(own[0])
    for event in own:
        after = status_after(event)
        if after is not None and after is not status:
            at, status = event.at, after
    return at


def _because(run: Run, above: Run | None) -> str:
    if run.outcome is not None:
        return _how_it_ended(run, above)
    match run.status:
        case Status.NOT_STARTED:
            return "it has not been started"
        case Status.BLOCKED:
            return f"it is blocked: {run.why}" if run.why else "it is blocked, nobody said by what"
        case Status.PAUSED if run.waits_for_children:
            return f"it waits for {counted(run.open_children, 'open child', 'open children')}"
        case Status.PAUSED:
            return f"it was paused by hand: {run.why}" if run.why else "it was paused by hand, nobody said why"
    children = counted(run.open_children, "open child", "open children")
    return "nothing holds it" + (f", but it cannot end before its {children}" if run.open_children else "")


def _how_it_ended(run: Run, above: Run | None) -> str:
    ended = f"it ended ({run.reason.value})" if run.reason else "it ended"
    match run.outcome:
        case Failed() as failed:
            root = f", caused by {failed.root}" if failed.causes else ""
            tries = f" after {failed.attempts} attempts" if failed.attempts > 1 else ""
            return f"it failed{tries}: {failed.error}{root}"
        case Skipped(reason=reason):
            return f"it was skipped: {reason}" if reason else "it was skipped"
        case Abandoned(reason=reason, by=by):
            with_it = f" together with {above.id!r} above it" if above else ""
            by_whom = f" by {by}" if by else ""
            return f"it was abandoned{by_whom}{with_it}" + (f": {reason}" if reason else "")
    return f"{ended} without a result" if run.value is None else f"{ended} with a result"


def _next_step(run: Run) -> str:
    if run.reason is not None:
        return ""
    if run.waits_for_children:
        return "complete or break the runs it waits for: the last one resumes it"
    asked = question_of(run)
    if asked is not None:
        return f"answer it: `cortical answer`, or provide(store, {run.id!r}, {asked.get('key')!r}, …)"
    return {
        Status.NOT_STARTED: "start it",
        Status.PAUSED: "resume it",
        Status.BLOCKED: "resume it when what blocks it is gone",
    }.get(run.status, "whoever drives it goes on")


def _waits_for(run: Run) -> list[Run]:
    if not run.waits_for_children:
        return []
    return [below for below in run.tree.walk_open(run) if not below.waits_for_children]


def _waited_for_by(run: Run) -> list[Run]:
    waiting: list[Run] = []
    above = run.parent
    while run.reason is None and above is not None and above.waits_for_children:
        waiting.append(above)
        above = above.parent
    return waiting


def _ended_with(run: Run, log: Sequence[Event]) -> Run | None:
    """The highest run above whose end stands in one row with this one's: they were ended together, deepest first."""
    if not isinstance(run.outcome, Abandoned):
        return None
    above = {ancestor.id: ancestor for ancestor in run.tree.path(run)[:-1]}
    start = next(index for index, event in enumerate(log) if event.run_id == run.id and isinstance(event, Ended))
    found: Run | None = None
    for event in log[start + 1 :]:
        if not isinstance(event, Ended) or event.at != run.ended_at:
            break
        if event.outcome != run.outcome and repr(event.run_id) not in run.outcome.reason:
            break
        found = above.get(event.run_id, found)
    return found


def _limit(run: Run, above: Run | None) -> str | None:
    """The limit that ended the run, or the run above it whose end took it along."""
    if run.reason is None:
        return None
    fired = [*(above.noted(LIMIT) if above else ()), *run.noted(LIMIT)]
    return str(fired[-1]) if fired else None


# As a text


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _told(choice: Choice) -> str:
    return f"{_moment(choice.at)} {choice.what} ({choice.by})" + (f": {choice.why}" if choice.why else "")


def _named(run: Run) -> str:
    return f"{run.id} {_cut(run.name, _LONGEST_NAME)}"


def _listed(runs: Sequence[Run]) -> str:
    more = f" and {len(runs) - _MOST_RUNS} more" if len(runs) > _MOST_RUNS else ""
    return ", ".join(f"{_named(run)} ({run.status.value})" for run in runs[:_MOST_RUNS]) + more


def _cut(text: str, longest: int = _LONGEST) -> str:
    line = one_line(text[: 4 * longest])
    return line if len(line) <= longest and len(text) <= 4 * longest else f"{line[:longest]}…"
