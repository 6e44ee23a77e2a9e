"""A batch: one handler for many items, each of them once, durably.

::

    from cortical.batch import BatchProcessor

    def count_lines(path, task, context):
        return len(path.read_text().splitlines())

    with BatchProcessor("texts", "line counts", count_lines, store="runs.db") as batch:
        result = batch.run(sorted(Path("texts").glob("*.txt")))

Two functions are longer than others: `__init__`, which names each setting for its reader and again for the `Settings`,
and `run`, where what it takes and when it refuses is told one by one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cortical.batch import making
from cortical.batch.driving import Driving, entered, found
from cortical.batch.items import Key, key_of
from cortical.batch.ledger import HANDLER, ITEMS, TASK, Ledger, Match, failed_attempts, kept_names
from cortical.batch.reading import Reading, Rules, require_rules
from cortical.batch.reporting import Callbacks, log_failure
from cortical.batch.result import BatchProgress, BatchResult
from cortical.batch.retrying import is_retryable
from cortical.batch.settings import Settings, Workers, as_path, require_same
from cortical.batch.stats import state_of, stats_of
from cortical.batch.tasks import Handler
from cortical.core import rules
from cortical.core.budget import Budget
from cortical.core.checks import require_callable, require_reason
from cortical.core.conditions import Condition
from cortical.core.errors import RunStateError
from cortical.core.outcome import Abandoned, Failed, message_of
from cortical.core.policy import ONCE, Retry
from cortical.core.ports import Clock
from cortical.core.run import Run
from cortical.core.status import TerminationReason
from cortical.engine.callers import this_process
from cortical.engine.event_loop import refuse_event_loop
from cortical.engine.lease import holding_lease, require_lease
from cortical.recovery import newest_life
from cortical.recovery.lives import lives
from cortical.store.face import Face, Place


class BatchProcessor(Face):
    """Carries out items by one handler, `max_concurrency` at a time, and keeps the outcome of each.

    Args:
        workspace: the folder that file and shell handlers work in; it has to be there.
        name: names the batch in its store: the same name takes up the same batch. For a child, its name among the
            children of its parent.
        task_handler: called as ``handler(item, task, context)``: a function, a coroutine function, or the name of a
            registered one. Without it, the task names it.
        store: a path or URL, an open store, a journal, or another face to share; in memory by default.
        max_concurrency: how many items at a time; by default the number of cores and 4 more for functions, 64 for
            coroutines, the number of cores for processes.
        workers: "threads", or "process": functions that another process can import are called there, and values go
            back and forth as the store would keep them.
        retry: how often, and after what delays, an item is tried again; not at all by default. `retry_on` None stands
            for an OSError or TimeoutError, or whatever was raised from one.
        timeout: seconds that one attempt may take, whatever the handler. A coroutine is cancelled, a process killed;
            a function in a thread is left behind, and what it still does counts for nothing.
        rate_limit: how many calls of the handler a second at most, further attempts included.
        chunk_size: the handler is given lists of so many items (the last may be shorter), and returns as many results.
        key: says what an item is known by when the batch is run again; by default a digest of its encoded value.
        fail_fast: begin nothing more once an item has failed.
        tolerated_failures: how many items may fail, or (a float) which share of them; any number by default. With
            more, nothing more is begun, and the batch fails.
        stop_when: a condition that ends the batch; its iterations are the items that ended, in this life.
        previous_result: carry out one item, or chunk, after another, and give each the result of the last before it
            that ended well, as `context.previous_result`.
        parent: the id of an open run of the same store, whose child the batch is to be.
        budget: what the batch and all below it may use.
        lease_seconds: how long after this process has died another may take over.
        sleep: waits between attempts, and for the rate limit.
        random: numbers from 0 to 1 for the jitter of waits between attempts.

    Raises:
        WrongType, InvalidInput: something of it makes no sense.
    """

    _items: Sequence[Any] = ()
    _driving: Driving | None = None
    _over: threading.Event | None = None

    def __init__(
        self,
        workspace: str | os.PathLike[str],
        name: str,
        task_handler: Handler | str | None = None,
        *,
        store: Place | None = None,
        clock: Clock = time,
        max_concurrency: int | None = None,
        workers: Workers = "threads",
        retry: Retry = ONCE,
        timeout: float | None = None,
        rate_limit: float | None = None,
        chunk_size: int | None = None,
        key: Key | None = None,
        fail_fast: bool = False,
        tolerated_failures: float | None = None,
        stop_when: Condition | None = None,
        previous_result: bool = False,
        parent: str | None = None,
        budget: Budget | None = None,
        lease_seconds: float = 10.0,
        sleep: Callable[[float], object] | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.settings = Settings(
            name=name,
            workspace=as_path(workspace),
            max_concurrency=max_concurrency,
            workers=workers,
            retry=retry,
            timeout=timeout,
            rate_limit=rate_limit,
            chunk_size=chunk_size,
            key=key,
            fail_fast=fail_fast,
            tolerated_failures=tolerated_failures,
            stop_when=stop_when,
            previous_result=previous_result,
            parent=parent,
            budget=budget,
            lease_seconds=lease_seconds,
            sleep=sleep,
            random=random,
        )
        self.name = name
        self.workspace = self.settings.workspace
        self.task_handler = making.given_task(task_handler)
        self.logger = logging.getLogger("cortical")
        super().__init__(store, clock=clock)

    # Running

    def run(
        self,
        items: Iterable[Any],
        task: Mapping[str, Any] | str | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        match: Match = "list",
        retry_failed: bool = True,
        aggregator: Callable[[list[Any]], Any] | None = None,
        on_progress: Callable[[BatchProgress], object] | None = None,
        on_item_error: Callable[[Any, Failed], object] | None = None,
    ) -> BatchResult:
        """Carry out the items that have no result yet, and return how all of them ended.

        Items are read no faster than they are begun. A failing item raises nothing: look at the result's `ok`. The
        result, and what callbacks are told, has been recorded. A batch whose items all have a result is only told
        about; one that has ended otherwise goes on in another life.

        Args:
            items: any iterable; from one run to the next the same, in the same order.
            task: given to the handler with each item; where the processor has no handler, its ``task`` names one, or
                it is that name itself.
            context: values for the handler to look at in its context.
            match: "list" refuses a batch that was begun with another handler, task or list of items; "key" goes on
                with it, and keeps the results of items that are known by the same key.
            retry_failed: whether items that failed before are run again.
            aggregator: makes one value of the results of the items that ended well, when the batch is about to end
                well; if it raises, the batch fails.
            on_progress: called with the `BatchProgress` after each item or chunk.
            on_item_error: called with each item that failed, and its outcome.

        Raises:
            WrongType, InvalidInput: something makes no sense; nothing was run.
            BatchChanged: the batch was begun with another handler, task or list of items.
            LeaseHeld: somebody else runs it; the message says who.
            LeaseLost, StoreError: what was done could not be recorded.
            RuntimeError: called inside an event loop; there, ``await batch.arun(…)``.
            Whatever reading the items raised, or Ctrl-C: the batch stays open, and can be run again.
        """
        refuse_event_loop("run", "batch.arun")
        chosen, config = making.chosen_task(self.task_handler, task)
        for called in (aggregator, on_progress, on_item_error):
            if called is not None:
                require_callable(called)
        callbacks = Callbacks(on_progress, on_item_error)
        reading = Reading(items, Ledger((), match), self._rules(match, retry_failed=retry_failed))
        over = threading.Event()
        calling = making.calling(self.settings, self.journal.clock, chosen, config, context or {}, over.is_set)
        first = entered(self.journal, self.settings)
        seconds, below = self.settings.lease_seconds, first.parent is not None
        with holding_lease(self.journal, first.tree.root.id, seconds=seconds, join=below), self._alone(over):
            chain = lives(self.journal, first.id)
            facts = {HANDLER: chosen.name, TASK: key_of(dict(config))}
            self._taken_up(chain, reading, facts)
            source = making.source(self.settings, self.journal.clock, reading, calling)
            driving = Driving(
                self.journal, chain, self.settings, source, callbacks, facts, over, self.logger, aggregator
            )
            self._items = items if isinstance(items, Sequence) else ()
            if driving.take_up():
                self._driving = driving
                with holding_lease(self.journal, driving.run.tree.root.id, seconds=seconds):
                    require_lease(self.journal, first.tree.root.id)  # else another goes on with this very life
                    driving.drive()
            return driving.result(self._item_at(chain))

    async def arun(self, items: Iterable[Any], task: Mapping[str, Any] | str | None = None, **more: Any) -> BatchResult:
        """`run`, for use inside an event loop, which goes on meanwhile.

        When the task that awaits it is cancelled, what is under way finishes, and the batch stays open.
        """
        running = asyncio.create_task(asyncio.to_thread(self.run, items, task, **more))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if self._driving is not None:
                self._driving.interrupt()
            await asyncio.wait({running})
            raise

    def process_item(
        self, item: Any, task_config: Mapping[str, Any] | None = None, context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Call the handler for one item, apart from any batch; nothing is recorded, and nothing raised.

        Returns ``{"success": True, "result": …}``, or ``{"success": False, "error": …, "item": …, "retryable": …}``,
        which is logged.
        """
        try:
            chosen, config = making.chosen_task(self.task_handler, task_config)
            calling = making.calling(self.settings, self.journal.clock, chosen, config, context or {})
            try:
                return {"success": True, "result": calling.call(item, config, {} if context is None else context)}
            finally:
                calling.close()
        except Exception as error:  # noqa: BLE001  # told, as promised
            told = {
                "success": False,
                "error": message_of(error),
                "item": item,
                "retryable": is_retryable(error),
            }
            log_failure(self.logger, told)
            return told

    # From outside

    def cancel(self, reason: str = "") -> None:
        """End the batch, ``manual``: what is under way is abandoned, and its results count for nothing.

        Raises:
            RunStateError: it has ended, or was never run.
        """
        reason = require_reason(reason) or "cancelled by hand"
        cancelled = Abandoned(reason, this_process())
        self.journal.insist(self._newest(), rules.end_subtree, cancelled, TerminationReason.MANUAL)
        if self._over is not None:
            self._over.set()

    def pause(self, reason: str = "") -> None:
        """Begin no other item until `resume`; what is under way finishes.

        Raises:
            RunStateError: it is not active, or was never run.
        """
        self.journal.insist(self._newest(), rules.pause, require_reason(reason))

    def resume(self) -> None:
        """Let a paused batch go on.

        Raises:
            RunStateError: it is not paused.
        """
        self.journal.insist(self._newest(), rules.resume)

    # Looking

    @property
    def run_id(self) -> str | None:
        """The id of the run that the batch is now; None before it was run."""
        first = found(self.journal, self.settings)
        return None if first is None else newest_life(self.journal, first.id).id

    @property
    def state(self) -> dict[str, Any]:
        """How the items stand that have been begun, by the log.

        ``processed`` holds the items that ended well, in order; ``failed`` what is told of each that failed, by item
        (by text and index where that cannot be a key, or is there already); ``stats`` the counts.
        """
        first = found(self.journal, self.settings)
        chain = [] if first is None else lives(self.journal, first.id)
        known = [one for one in Ledger(chain, "list").in_order() if not one.is_open]
        outcomes = [one.outcome for one in known]
        retried = sum(map(failed_attempts, {one.run.id: one.run for one in known}.values()))
        times = (chain[0].started_at, chain[-1].ended_at) if chain else (None, None)
        stats = stats_of(outcomes, retried, *times)
        stats["total"] = max(stats["total"], *((life.data or {}).get("items", 0) for life in chain), 0)
        item_at = self._item_at(chain)
        return state_of(outcomes, lambda place: item_at(known[place].index), stats)

    # Below

    def _newest(self) -> str:
        run_id = self.run_id
        if run_id is None:
            raise RunStateError(f"batch {self.name!r} was never run; run it first", self.name)
        return run_id

    def _rules(self, match: Match, *, retry_failed: bool) -> Rules:
        require_rules(self.name, self.settings.key, match, self.settings.chunk_size)
        return Rules(self.name, match, self.settings.key, self.settings.chunk_size, retry_failed)

    def _taken_up(self, chain: Sequence[Run], reading: Reading, facts: Mapping[str, Any]) -> None:
        """See whether what is to be done is what was begun, and what of it is done.

        Raises:
            BatchChanged: it is something else.
        """
        kept = chain[-1].data or {}
        if reading.rules.match == "list":
            require_same(self.name, kept, facts)
            reading.rules.total = kept.get(ITEMS)
        reading.ledger = Ledger(chain, reading.rules.match)
        reading.start()

    @contextmanager
    def _alone(self, over: threading.Event) -> Iterator[None]:
        """Within it this processor runs its batch, and nobody else by it."""
        if self._over is not None:
            raise RunStateError(f"batch {self.name!r} is being run by another thread; wait for it", self.name)
        self._over = over
        try:
            yield
        finally:
            self._over = self._driving = None

    def _item_at(self, chain: Sequence[Run]) -> Callable[[int], Any]:
        """What finds an item by its index: in the list of them, or else by what the log has of it."""
        items, journal = self._items, self.journal
        names: dict[int, Any] = {}

        def item_at(index: int) -> Any:
            if index < len(items):
                return items[index]
            if not names:
                for life in lives(journal, chain[0].id):
                    names.update(kept_names(life))
            return names.get(index, index)

        return item_at
