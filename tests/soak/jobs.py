"""The jobs of a process: begin something of each kind, take over what another has left, step and break by hand."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from cortical import Budget, resume, run
from cortical.control import LoopController, max_iterations
from cortical.core.errors import CorticalError
from cortical.core.events import Ended, Event
from cortical.core.journal import Journal
from cortical.core.outcome import Ok
from cortical.core.ports import Root
from cortical.core.status import Status
from cortical.looking.soundness import unsound
from cortical.reasoning import NestedLoopExecutor
from cortical.stages import execute, resume as resume_pipeline
from tests.soak import work

MAX_DEPTH: Final = 6
#: What the root of a tree of agents may use.
BUDGET: Final = Budget(iterations=60, tokens=400, descendants=60, width=14)


class Jobs:
    """What one thread of a process does, by its own dice and through its own journal."""

    def __init__(self, journal: Journal, seed: int) -> None:
        self.journal = journal
        self.executor = NestedLoopExecutor(MAX_DEPTH, store=journal)
        self._dice = random.Random(seed)
        self._mine: set[str] = set()
        journal.subscribe(self._told)

    def do_one(self) -> None:
        """Do something, whatever it may be; what it raises is for the caller."""
        jobs: list[tuple[Callable[[], None], int]] = [
            (self._take_over, 8),
            (self._agents, 3),
            (self._pipeline, 2),
            (self._batch, 2),
            (self._controlled, 2),
            (self._by_hand, 8),
            (self._break_something, 1),
            (self._look_at_itself, 1),
        ]
        job = self._dice.choices([job for job, _ in jobs], [weight for _, weight in jobs])[0]
        job()

    def finish(self) -> bool:
        """Carry on everything that is driven and open, and end what is walked by hand; whether nothing is open now."""
        for root in self.journal.store.roots(open_only=True):
            with suppress(CorticalError):
                self._carry_on(root)
        return not self.journal.store.roots(open_only=True)

    # What is told to the side log

    def _told(self, event: Event) -> None:
        run = self.journal.run(event.run_id)
        work.facts().add("event", run.tree.root.id, event.run_id, event.seq, type(event).__name__)
        if not isinstance(event, Ended) or not isinstance(event.outcome, Ok) or run.parent is None:
            return
        if run.kind == "item":
            work.facts().add("done", "item", run.parent.name, run.name)
        elif run.kind == "stage":
            work.facts().add("done", "stage", (run.parent.data or {})["job"], run.name)

    # Driven

    def _agents(self) -> None:
        agent = self._dice.choice([work.leaf, work.team, work.team, work.whole])
        run(agent, f"agent {agent.name}", store=self.journal, budget=BUDGET, lease_seconds=work.LEASE_SECONDS)

    def _pipeline(self) -> None:
        job = uuid.uuid4().hex
        result = execute(
            work.pipeline(), {"job": job}, store=self.journal, max_concurrency=2, lease_seconds=work.LEASE_SECONDS
        )
        if result.ok:
            assert result["soak:tell"].output == 9
            assert result.values == {"job": job, "numbers": [1, 2, 3], "sum": 6, "most": 3}

    def _batch(self) -> None:
        self._run_batch(f"batch {uuid.uuid4().hex}")

    def _run_batch(self, name: str) -> None:
        batch = work.batch_on(self.journal, name)
        result = work.run_batch(batch)
        if result.ok:
            assert result.results == [value * value for value in range(work.ITEMS)]

    def _controlled(self) -> None:
        self._control(f"control {uuid.uuid4().hex}")

    def _control(self, loop_id: str) -> None:
        controller = LoopController(
            loop_id,
            store=self.journal,
            stop_when=max_iterations(work.ITERATIONS),
            retry=work.STUBBORN,
            lease_seconds=work.LEASE_SECONDS,
        )
        controller.set_checkpoint_interval(2)
        result = controller.run(work.body_of(loop_id))
        if result.status is Status.COMPLETED:
            assert controller.get_state()["number"] == result.iterations == work.ITERATIONS

    # Taken over

    def _take_over(self) -> None:
        waiting = [root for root in self.journal.store.roots(open_only=True) if not _is_by_hand(root)]
        if waiting:
            self._carry_on(self._dice.choice(waiting))

    def _carry_on(self, root: Root) -> None:
        self.journal.refresh(root.id)
        before = self.journal.store.lease_of(root.id)
        if root.kind == "pipeline":
            resume_pipeline(self.journal, root.id, work.pipeline(), max_concurrency=2, lease_seconds=work.LEASE_SECONDS)
        elif root.kind == "batch":
            self._run_batch(root.goal)
        elif root.goal.startswith("control "):
            self._control(root.goal)
        elif root.goal.startswith("agent "):
            resume(self.journal, root.id, lease_seconds=work.LEASE_SECONDS)
        else:
            self._end_by_hand(root.id)
            return
        work.facts().add("took", root.id, before.fence if before else 0)

    # By hand

    def _by_hand(self) -> None:
        """A few calls, lawful or not, on a tree that all processes step through at the same time."""
        shared = [root for root in self.journal.store.roots(open_only=True) if _is_by_hand(root)]
        if len(shared) < 3:
            limits = Budget(descendants=25, width=4, iterations=50, tokens=60)
            work.facts().add("started", self.executor.start_root("by hand", budget=limits))
            return
        root = self._dice.choice(shared).id
        self.executor.refresh(root)
        for _ in range(self._dice.randrange(3, 20)):
            loops = [loop.id for loop in self.executor.get_subtree(root) if not loop.status.ended]
            if not loops:
                return
            with suppress(CorticalError):
                self._call(self._dice.choice(loops), root)

    def _call(self, loop: str, root: str) -> None:
        executor, add = self.executor, work.facts().add
        match self._dice.randrange(12):
            case 0 | 1:
                add("child", loop, executor.spawn_child(loop, "sub"))
            case 2:
                for child in executor.spawn_children(loop, ["left", "right"]):
                    add("child", loop, child)
            case 3 | 4 | 5:
                token = uuid.uuid4().hex
                executor.record_answer(loop, token)
                add("answer", root, loop, token)
            case 6:
                executor.advance(loop)
            case 7 | 8:
                executor.complete(loop, "done")
                add("ended", root, loop, "completed")
            case 9:
                executor.pause(loop, "a moment")
                executor.resume(loop)
            case 10:
                self._in_a_transaction(loop, root)
            case 11:
                if self._dice.random() < 0.3:
                    executor.break_loop(loop, "enough")
                    add("ended", root, loop, "abandoned")

    def _in_a_transaction(self, loop: str, root: str) -> None:
        tokens = [uuid.uuid4().hex for _ in range(3)]
        with self.executor.transaction():
            for token in tokens:
                self.executor.record_answer(loop, token)
            child = self.executor.spawn_child(loop, "together")
            if self._dice.random() < 0.3:
                raise CorticalError("undone")
        work.facts().add("child", loop, child)
        for token in tokens:
            work.facts().add("answer", root, loop, token)

    def _end_by_hand(self, root: str) -> None:
        self.executor.break_loop(root, "over")
        work.facts().add("ended", root, root, "abandoned")

    def _break_something(self) -> None:
        """Break what somebody may be driving, or a branch of it."""
        roots = self.journal.store.roots(open_only=True)
        agents = [root.id for root in roots if root.kind == "loop" and not root.goal.startswith("control ")]
        if agents:
            root = self._dice.choice(agents)
            self.executor.refresh(root)
            loop = self._dice.choice([loop.id for loop in self.executor.get_subtree(root)])
            self.executor.break_loop(loop, "broken")
            work.facts().add("ended", root, loop, "abandoned")

    def _look_at_itself(self) -> None:
        """Whether the trees in memory are as their logs say; then all of them are let go."""
        for root in self.journal.store.roots(limit=8):
            tree = self.journal.refresh(root.id).tree
            with self.journal.holding(tree):
                found = unsound(self.journal.store.read(root.id), tree)
            for problem in found:
                work.facts().add("unsound", root.id, problem)
        self.journal.forget()


def _is_by_hand(root: Root) -> bool:
    return root.goal == "by hand"
