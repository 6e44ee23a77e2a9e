"""Drives a batch: finds the run that it is, reads what is to be done, has it carried out, and ends it.

A batch is one run for each life: one that has ended stays ended. Run again, it goes on in another life, in which only
those items are carried out that have no result yet.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import define, field

from cortical.batch.errors import BatchFailed
from cortical.batch.ledger import ITEMS, failed_attempts, outcome_of
from cortical.batch.reading import Reading
from cortical.batch.reporting import Callbacks, Reporter
from cortical.batch.result import BatchResult
from cortical.batch.settings import Settings
from cortical.batch.source import BatchSource
from cortical.batch.stats import stats_of
from cortical.core import rules
from cortical.core.conditions import Met
from cortical.core.errors import BudgetExhausted, Conflict, EncodeError, RunNotFound, RunStateError
from cortical.core.events import Event
from cortical.core.journal import Journal
from cortical.core.kinds import BATCH, ITEM
from cortical.core.outcome import Abandoned, Failed, Ok, Outcome, Skipped
from cortical.core.ports import seconds_on
from cortical.core.run import Run
from cortical.core.status import TerminationReason
from cortical.core.topics import LIMIT, STOPPED, TOTAL
from cortical.engine.crew import WORK, Crew
from cortical.recovery.lives import begin_next_life

_NOT_BEGUN: Final = Skipped("it was not begun")


@define
class Driving:
    """One driving of a batch.

    Args:
        chain: the lives of the batch; another is begun where the newest has ended and there is something to do.
        facts: what is kept of the batch: handler, task.
        over: set when what is still under way counts for nothing any more.
    """

    journal: Journal
    chain: Sequence[Run]
    settings: Settings
    source: BatchSource
    callbacks: Callbacks
    facts: Mapping[str, Any]
    over: threading.Event
    logger: logging.Logger
    aggregator: Callable[[list[Any]], Any] | None = None
    run: Run = field(init=False)
    reading: Reading = field(init=False)
    _crew: Crew | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.run = self.chain[-1]
        self.reading = self.source.reading

    def take_up(self) -> bool:
        """Begin, or go on; False where the batch has ended and nothing is left to be done."""
        by_key = self.reading.rules.match == "key"
        if self.run.reason is not None:
            if not self.reading.peek():
                return False
            note, data = {"strategy": "run again"}, self.run.data or {}
            self.run = self.journal.run(begin_next_life(self.journal, self.run.id, note, data, place=WORK))
        elif by_key:
            self._abandon_open()
        self.source.found(self.reading.done)
        if self.settings.previous_result:
            self._hand_on()
        self.journal.insist(self.run.id, _take_up, self._facts(), self._total(by_key=by_key))
        self.source.iterations = self._iterations()
        return True

    def drive(self) -> None:
        """Have the items carried out, and end the batch.

        Raises:
            Whatever reading the items raised: the batch stays open then.
            LeaseLost, StoreError: what was done could not be recorded.
        """
        settings, source = self.settings, self.source
        crew = self._crew = Crew(
            self.journal,
            self.run.id,
            ITEM,
            concurrency=settings.concurrency(source.calling.handler),
            sleep=settings.sleep,
            random=settings.random,
        )
        before = len(self.reading.done)
        now = seconds_on(self.journal.clock)()
        reporter = Reporter(
            source, self.callbacks, self.logger, self.journal.clock, before, source.processed, source.failed, now
        )
        unsubscribe = self.journal.subscribe(reporter)
        try:
            crew.drive(source)
        finally:
            unsubscribe()
            self.over.set()
            source.calling.close()
        if self.reading.error is not None:
            raise self.reading.error
        if self.journal.run(self.run.id).reason is None and not source.interrupted:
            self._end(crew.exhausted)

    def interrupt(self) -> None:
        """Let what is under way finish, and leave the batch open."""
        self.source.interrupt()
        if self._crew is not None:
            self._crew.stop_starting()

    def result(self, item_at: Callable[[int], Any]) -> BatchResult:
        """How the batch stands."""
        run = self.journal.run(self.run.id)
        outcomes = self._outcomes()
        stats = stats_of(outcomes, self._retried(), self.chain[0].started_at, run.ended_at)
        value = run.outcome.value if isinstance(run.outcome, Ok) else None
        aggregated = value.get("aggregated") if isinstance(value, dict) else None
        return BatchResult(
            run.id, self.settings.name, run.status, run.reason, run.outcome, outcomes, stats, aggregated, item_at
        )

    # Beginning

    def _abandon_open(self) -> None:
        for run in self.reading.ledger.open:
            gone = Abandoned("its driver died; the item is run again")
            self.journal.insist(run.id, rules.end_subtree, gone, TerminationReason.DEPENDENCY_FAILURE)

    def _facts(self) -> dict[str, Any]:
        facts = self.facts if self.reading.total is None else {**self.facts, ITEMS: self.reading.total}
        kept = self.run.data or {}
        return {key: value for key, value in facts.items() if key not in kept or kept[key] != value}

    def _total(self, *, by_key: bool) -> int | None:
        """How many children there will be; None while nobody knows."""
        total = self.reading.total
        if total is None or (by_key and self.reading.ledger):
            return None
        size = self.settings.chunk_size or 1
        left = total - len(self.reading.done) - self.reading.items_open
        children = self.journal.run(self.run.id).children
        return len(children) + -(-left // size)

    def _iterations(self) -> int:
        """How many items have ended in this life."""
        ended = [child for child in self.journal.run(self.run.id).children if child.reason is not None]
        return sum(len(child.metadata.get("indexes", "1")) for child in ended)

    def _hand_on(self) -> None:
        well = [known for known in self.reading.done.values() if isinstance(known.run.outcome, Ok)]
        last = max(well, key=lambda known: known.index, default=None)
        if last is not None:
            self.source.calling.previous_result = last.run.value

    # Ending

    def _end(self, exhausted: BudgetExhausted | None) -> None:
        met = self.source.met
        if exhausted is not None:
            met = Met(exhausted.limit, TerminationReason.BUDGET_EXHAUSTED, str(exhausted))
        if met is None:
            self.journal.insist(self.run.id, _take_up, self._facts(), None)
        outcome, reason = self._ending(met)
        notes = [] if met is None else [(LIMIT, met.name), (STOPPED, met.details)]
        try:
            self._record_end(notes, outcome, reason)
        except EncodeError as error:  # of what the aggregator made
            self._record_end(notes, Failed.of(error), TerminationReason.ERROR)

    def _record_end(self, notes: list[tuple[str, Any]], outcome: Outcome, reason: TerminationReason) -> None:
        try:
            self.journal.insist(self.run.id, rules.noting, notes, rules.end_with_children, outcome, reason)
        except RunStateError:
            if self.journal.refresh(self.run.id).reason is None:
                raise  # else it was cancelled at this moment

    def _ending(self, met: Met | None) -> tuple[Outcome, TerminationReason]:
        outcomes = self._outcomes()
        stats = stats_of(outcomes, self._retried(), None, None)
        failure = self._failure(met, stats)
        if failure is not None:
            return Failed.of(failure), TerminationReason.ERROR
        if met is not None and not met.ends_well:
            return Abandoned(met.details), met.reason
        reason = TerminationReason.SUCCESS if met is None else met.reason
        value = {"stats": {name: count for name, count in stats.items() if count is not None}}
        if self.aggregator is None:
            return Ok(value), reason
        try:
            made = self.aggregator([outcome.value for outcome in outcomes if isinstance(outcome, Ok)])
        except Exception as error:  # noqa: BLE001  # of the user's; the items keep their results
            return Failed.of(error), TerminationReason.ERROR
        return Ok({**value, "aggregated": made}), reason

    def _failure(self, met: Met | None, stats: Mapping[str, Any]) -> Exception | None:
        """Why the batch failed; None where it did not."""
        if self.source.error is not None:
            return self.source.error
        failed, total = stats["failed"], stats["total"]
        allowed = self.settings.stop.allowed(total)
        if failed and not stats["processed"]:
            return BatchFailed(f"{failed} of {total} items failed, and none ended well")
        if allowed is not None and failed > allowed:
            return BatchFailed(f"{failed} of {total} items failed, {allowed} tolerated")
        if met is not None and met.reason is TerminationReason.ERROR:
            return BatchFailed(met.details)
        return None

    # Looking back

    def _outcomes(self) -> Sequence[Outcome]:
        reading, ended = self.reading, self.source.ended
        count = max(reading.read, reading.total or 0)
        begun = {index: unit.run_id for index, unit in self.source.under_way.items()}
        return [self._outcome(index, ended.get(index) or begun.get(index)) for index in range(count)]

    def _outcome(self, index: int, run_id: str | None) -> Outcome:
        if run_id is not None:
            return outcome_of(self.journal.run(run_id), index)
        known = self.reading.done.get(index) or self.reading.ledger.at(index)
        return _NOT_BEGUN if known is None else known.outcome

    def _retried(self) -> int:
        runs = {known.run.id: known.run for known in self.reading.done.values()}
        runs |= {run_id: self.journal.run(run_id) for run_id in self.source.ended.values()}
        return sum(failed_attempts(run) for run in runs.values() if run.entries)


def entered(journal: Journal, settings: Settings) -> Run:
    """The first life of the batch of this name, begun where there is none."""
    if settings.parent is not None:
        return _child(journal, settings, settings.parent)
    try:
        run = journal.refresh(settings.name)
    except RunNotFound:
        try:
            return journal.plant(
                settings.name, rules.start, BATCH, settings.name, place=WORK, metadata=_metadata(settings)
            )
        except Conflict:  # another process was quicker
            run = journal.refresh(settings.name)
    if run.kind != BATCH or run.parent is not None:
        raise RunStateError(f"{settings.name!r} is the name of a {run.kind}; choose another for the batch", run.id)
    return run


def found(journal: Journal, settings: Settings) -> Run | None:
    """The first life of the batch of this name; None where it was never run."""
    try:
        if settings.parent is None:
            return journal.refresh(settings.name)
        return _below(journal.refresh(settings.parent), settings.name)
    except RunNotFound:
        return None


def _child(journal: Journal, settings: Settings, parent_id: str) -> Run:
    known = _below(journal.refresh(parent_id), settings.name)
    if known is not None:
        return known
    child_id = journal.new_id()
    journal.insist(
        parent_id,
        rules.start_below,
        child_id,
        BATCH,
        settings.name,
        WORK,
        metadata=_metadata(settings),
        max_depth=journal.max_depth,
    )
    return journal.run(child_id)


def _below(parent: Run, name: str) -> Run | None:
    same = (child for child in parent.children if child.kind == BATCH and child.name == name)
    return next(same, None)


def _metadata(settings: Settings) -> dict[str, Any] | None:
    return None if settings.budget is None else {"budget": settings.budget.limits()}


def _take_up(run: Run, at: float, facts: Mapping[str, Any], total: int | None) -> Sequence[Event]:
    """What is new to be kept of a batch, and how many children it will have, where that is not noted yet."""
    steps: list[tuple[Any, ...]] = []
    if facts:
        steps.append((rules.change, facts))
    if total is not None and next(run.newest(TOTAL), None) != total:
        steps.append((rules.annotate, TOTAL, total))
    return rules.in_turn(run, at, steps)
