"""What is out of the ordinary in runs, told as it happens, once for each cause."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any, Final

from attrs import Factory, define

from cortical.core import budget, topics
from cortical.core.checks import require_callable, shown
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.events import Ended, Event, Moved, Noted, Started
from cortical.core.figures import as_number, numbers
from cortical.core.journal import Journal
from cortical.core.outcome import Failed, Ok
from cortical.core.phases import PHASE_OF, TURN_PLACES
from cortical.monitoring import trend
from cortical.monitoring.consistency import compare
from cortical.monitoring.findings import Finding
from cortical.monitoring.trend import Trend
from cortical.monitoring.turns import TurnWatch

#: So many times the iterations that were expected look like a loop without an end; so small a part, like one cut short.
TIMES_EXPECTED: Final = 10
#: Share of a limit.
OVERUSE: Final = 0.8

#: How many findings are kept, and how many different failures below a run are remembered.
_MOST_FINDINGS: Final = 1000
_MOST_FAILURES: Final = 100


@define
class _Watched:
    """What is remembered of a run that is open."""

    kind: str = ""
    name: str = ""
    parent_id: str | None = None
    seq: int = 0
    place: str | None = None
    turns: TurnWatch = Factory(TurnWatch)
    trend: Trend = Factory(Trend)
    started_at: float | None = None
    limits: dict[str, float] = Factory(dict)
    total: float | None = None
    ended_well: int = 0
    failures_below: set[tuple[str, str]] = Factory(set)
    children: Counter[str] = Factory(Counter)
    child_trends: dict[str, Trend] = Factory(dict)
    told: set[str] = Factory(set)


class Anomalies:
    """Watches events for what is out of the ordinary::

        bus = EventBus("runs.db")
        anomalies = Anomalies(bus.journal, on_finding=print)
        bus.on(anomalies.take, on_missed=anomalies.missed)

    * ``execution_failure``: a run ended `Failed`; a parent that failed with the same error is not told again.
    * ``possible_infinite_loop``: ten times the iterations that were expected have begun.
    * ``premature_termination``: a run ended well at a tenth of them, with less than the ``total`` it had noted, or as a
      reasoning loop from anywhere but VERIFY.
    * ``state_inconsistent``: events of a run do not follow one another, or memory and log differ at the end of a tree.
    * ``resource_overuse``: more than 0.8 of a limit is used.
    * ``duration_outside_trend``: an iteration, or a child, took much longer or shorter than those before it.

    How many iterations are expected is said by the run's metadata (``expected_iterations``), by the argument, or by
    the median of the runs of its kind that ended well, once there are ten. What is remembered of a run ends with it.

    Args:
        journal: for budgets, for comparing memory with the log (without one neither is looked at), and for what a run
            is called that was started before anything was heard.
        on_finding: called with each finding, in the thread that called `take`.
        expected_iterations: how many iterations a run takes, as a rule.
    """

    def __init__(
        self,
        journal: Journal | None = None,
        *,
        on_finding: Callable[[Finding], object] | None = None,
        expected_iterations: float | None = None,
    ) -> None:
        if on_finding is not None:
            require_callable(on_finding)
        if expected_iterations is not None:
            number = as_number(expected_iterations)
            if number is None:
                raise WrongType(f"expected_iterations is a number, not {shown(expected_iterations)}")
            if not number >= 1:
                raise InvalidInput(f"expected_iterations is 1 or more, not {shown(expected_iterations)}")
        self._journal, self._on_finding, self._expected = journal, on_finding, expected_iterations
        self._lock = Lock()
        self._open: dict[str, _Watched] = {}
        self._iterations_of: dict[str, Trend] = {}
        self._found: deque[Finding] = deque(maxlen=_MOST_FINDINGS)

    @property
    def findings(self) -> list[Finding]:
        """The latest findings, oldest first; a thousand at most."""
        return list(self._found)

    def take(self, event: Event) -> None:
        """Look at one event; one that was looked at already, of a run that is open, is passed over."""
        with self._lock:
            found = list(self._looked_at(event))
        if type(event) is Ended and self._journal is not None:
            found += self._inconsistencies(self._journal, event.run_id)
        for finding in found:
            self._found.append(finding)
            if self._on_finding is not None:
                self._on_finding(finding)

    def missed(self, _: object = None) -> None:
        """Some events were missed (for `on_missed` of a subscription): gaps up to now are no findings."""
        with self._lock:
            for run in self._open.values():
                run.seq = 0

    # What is looked at

    def _looked_at(self, event: Event) -> Iterator[Finding]:
        run = self._open.get(event.run_id)
        if run is None:
            if isinstance(event, Noted) and event.topic == topics.RECOVERY:
                return  # the run may have ended long ago
            run = self._open[event.run_id] = self._unheard(event)
        if run.seq >= event.seq:
            return
        if run.seq and event.seq != run.seq + 1:
            yield _gap(run, event)
        run.seq = event.seq
        seconds = run.turns.take(event)
        if seconds is not None:
            yield from self._once(run, _duration(run.trend, seconds, event, "an iteration"))
        match event:
            case Started():
                self._start(run, event)
            case Moved():
                run.place = event.place
            case Noted():
                yield from self._noted(run, event)
            case Ended():
                yield from self._end(run, event)
        if isinstance(event, Moved | Started):
            if event.place in TURN_PLACES:
                yield from self._budgets(event.run_id)
            yield from self._endless(run, event)

    def _unheard(self, event: Event) -> _Watched:
        if self._journal is None or isinstance(event, Started):
            return _Watched()
        known = self._journal.run(event.run_id)
        return _Watched(known.kind, known.name, known.parent_id)

    def _start(self, run: _Watched, event: Started) -> None:
        run.kind, run.name, run.parent_id = event.kind, event.name, event.parent_id
        run.place, run.started_at = event.place, event.at
        expected = as_number((event.metadata or {}).get("expected_iterations"))
        if expected is not None and expected >= 1:
            run.limits["expected_iterations"] = expected

    def _expected_of(self, run: _Watched) -> float | None:
        own = run.limits.get("expected_iterations", self._expected)
        if own is not None or run.kind not in self._iterations_of:
            return own
        return self._iterations_of[run.kind].median

    def _endless(self, run: _Watched, event: Event) -> Iterator[Finding]:
        expected = self._expected_of(run)
        if expected and run.turns.begun >= TIMES_EXPECTED * expected and "endless" not in run.told:
            run.told.add("endless")
            message = f"{_named(run)} is at iteration {run.turns.begun}; {expected:g} were expected"
            evidence = {"iterations": run.turns.begun, "expected": expected}
            suggestion = f"give it a limit, or break it: `cortical break {event.run_id}`"
            yield Finding("high", "possible_infinite_loop", message, event.run_id, evidence, suggestion)

    def _noted(self, run: _Watched, event: Noted) -> Iterator[Finding]:
        if event.topic == topics.LIMITS:
            run.limits.update(numbers(event.value))
        elif event.topic == topics.TOTAL:
            run.total = as_number(event.value)
        elif event.topic == topics.RESOURCES:
            for name, used in numbers(event.value).items():
                yield from self._use(run, event.run_id, name, used, run.limits.get(name))
        elif event.topic in budget.BOOKED:
            yield from self._budgets(event.run_id)

    def _budgets(self, run_id: str) -> Iterator[Finding]:
        """What is used of the budgets that pay for this run."""
        account = None if self._journal is None else self._journal.run(run_id).account
        while account is not None:
            run = self._open.get(account.run_id)
            for name in budget.CONSUMED if run is not None else ():
                if run is not None and name in account.limit:
                    limit = account.limit[name]
                    yield from self._use(run, account.run_id, name, limit - account.available(name), limit)
            account = account.above

    @staticmethod
    def _use(run: _Watched, run_id: str, name: str, used: float, limit: float | None) -> Iterator[Finding]:
        cause = f"use of {name}"
        if limit is None or used <= OVERUSE * limit or cause in run.told:
            return
        run.told.add(cause)
        share = f"{used / limit:.0%} of" if limit else "more than"
        message = f"{_named(run)} uses {share} its limit of {limit:g} {name}"
        evidence = {"resource": name, "used": used, "limit": limit}
        yield Finding(
            "medium", "resource_overuse", message, run_id, evidence, "see what it is used for, or raise the limit"
        )

    def _end(self, run: _Watched, event: Ended) -> Iterator[Finding]:
        del self._open[event.run_id]
        parent = self._open.get(run.parent_id or "")
        if isinstance(event.outcome, Failed):
            yield from _failure(run, event, parent)
        elif isinstance(event.outcome, Ok):
            yield from self._cut_short(run, event)
            if run.turns.done:
                self._iterations_of.setdefault(run.kind, Trend()).score(run.turns.done)
            if parent is not None:
                parent.ended_well += 1
        if parent is not None and run.started_at is not None and not run.turns.begun:
            known = parent.child_trends.setdefault(run.kind, Trend())
            yield from self._once(parent, _duration(known, event.at - run.started_at, event, f"a {run.kind}"))

    def _cut_short(self, run: _Watched, event: Ended) -> Iterator[Finding]:
        why = None
        expected = self._expected_of(run)
        if run.total is not None and run.ended_well < run.total:
            why = f"{run.ended_well} of {run.total:g} are done"
        elif run.place in PHASE_OF and run.place != "verify":
            why = f"it was at {run.place}; verify comes before"
        elif run.turns.begun and expected and run.turns.done * TIMES_EXPECTED <= expected:
            why = f"after {run.turns.done} iterations; {expected:g} were expected"
        if why is not None:
            evidence = {"iterations": run.turns.done, "expected": expected, "total": run.total, "place": run.place}
            message = f"{_named(run)} ended well too early: {why}"
            yield Finding("medium", "premature_termination", message, event.run_id, evidence, "see what ended it")

    @staticmethod
    def _once(run: _Watched, finding: Finding | None) -> Iterator[Finding]:
        """A duration outside its trend, but not each of several in a row: they have one cause."""
        if finding is None:
            run.told.discard("duration")
        elif "duration" not in run.told:
            run.told.add("duration")
            yield finding

    @staticmethod
    def _inconsistencies(journal: Journal, run_id: str) -> list[Finding]:
        root = journal.run(run_id)
        return compare(journal, run_id) if root.parent_id is None else []


def _failure(run: _Watched, event: Ended, parent: _Watched | None) -> Iterator[Finding]:
    assert isinstance(event.outcome, Failed)
    root = event.outcome.root
    cause = (root.type, root.message)
    if parent is not None and len(parent.failures_below) < _MOST_FAILURES:
        parent.failures_below.add(cause)
    if cause in run.failures_below:
        return
    message = f"{_named(run)} failed: {root}"
    evidence: dict[str, Any] = {"type": root.type, "message": root.message, "attempts": event.outcome.attempts}
    evidence["reason"] = event.reason.value
    suggestion = f"`cortical log {event.run_id}` shows what led to it"
    yield Finding("high", "execution_failure", message, event.run_id, evidence, suggestion)


def _duration(known: Trend, seconds: float, event: Event, what: str) -> Finding | None:
    usual = known.median
    score = known.score(seconds)
    if score is None or abs(score) <= trend.OUTSIDE:
        return None
    than = "longer" if score > 0 else "shorter"
    message = f"{what} took {seconds:.3g} s, much {than} than those before it ({usual:.3g} s)"
    evidence = {"seconds": seconds, "usual": usual, "score": score}
    suggestion = "see what was different about it"
    return Finding("low", "duration_outside_trend", message, event.run_id, evidence, suggestion)


def _gap(run: _Watched, event: Event) -> Finding:
    return Finding(
        "critical",
        "state_inconsistent",
        f"{_named(run)}: event {event.seq} came after event {run.seq}",
        event.run_id,
        {"seq": event.seq, "after": run.seq},
        "if events were missed by a slow subscriber, hand `missed` to its on_missed; else see `cortical check`",
    )


def _named(run: _Watched) -> str:
    return f"{run.kind} {run.name!r}" if run.kind else "a run that began unheard"
