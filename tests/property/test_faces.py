"""All faces on one journal: trees that mix loops, processes of stages, pipelines, batches, controlled loops and agents.

Whatever is called on whichever run, by whichever face, the rules hold that hold for each alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from cortical import Agent, Budget, Loop, Verdict
from cortical.batch import BatchProcessor
from cortical.control import LoopController, State, max_iterations
from cortical.core import rules
from cortical.core.errors import CorticalError, InvalidInput
from cortical.core.journal import Journal
from cortical.core.outcome import Failed, Ok, Skipped
from cortical.core.run import Run
from cortical.core.status import TerminationReason
from cortical.looking.soundness import unsound
from cortical.monitoring import check as check_practice
from cortical.reasoning import NestedLoopExecutor
from cortical.recovery import CheckpointManager, LoopRecoveryManager
from cortical.stages import Pipeline, StageContext, execute, resume, stage
from cortical.stages.execution import start
from cortical.stages.loop import StageHandler
from cortical.store import MemoryStore, Store
from cortical.store.listing import root_of_log
from cortical.testing import FakeClock
from tests.property.effort import effort
from tests.property.on_file import OnFile

MAX_DEPTH = 6
SUBSTAGES = {"read": {"sequence": 1}, "write": {"sequence": 2, "optional": True}}
STAGES = {
    "plain": {"sequence": 1, "substages": SUBSTAGES},
    "looped": {
        "sequence": 2,
        "loop_config": {"type": "fixed", "count": 2, "on_error": "continue"},
        "substages": SUBSTAGES,
    },
}


@stage("mix:load")
def load(context: StageContext) -> int:
    return 1


@stage("mix:maybe", after=["mix:load"])
def maybe(context: StageContext) -> int:
    if context.get("broken"):
        raise OSError("broken")
    return 2


@stage("mix:last", after=["mix:maybe"])
def last(context: StageContext) -> int:
    return 3


PIPELINE = Pipeline("mixed", [load, maybe, last], inputs=["broken"])

agent = Agent("mixer")


@agent.verify
def judged(loop: Loop) -> Verdict:
    return Verdict.passed(loop.goal)


#: Which run: a number among those that could be meant, and which these are.
Which = tuple[int, int]
WHICH = st.tuples(st.integers(0, 40), st.integers(0, 6))
MAYBE = WHICH | st.none()
STEPS: dict[str, tuple[Any, ...]] = {
    "advance": (),
    "complete": ({"a": (1, 2)},),
    "break_loop": ("enough",),
    "pause": ("lunch",),
    "block": ("no key",),
    "resume": (),
    "fail": (ValueError("no"),),
    "record_answer": ([1],),
}
RULES: list[tuple[Any, ...]] = [
    (rules.note, "note", "x"),
    (rules.change, {"a": 1, "b": [2]}),
    (rules.change, {}, ("a",)),
    (rules.begin, "work"),
    (rules.move, "work", "chosen"),
    (rules.leave,),
    (rules.wait,),
    (rules.end_subtree, Skipped("not today"), TerminationReason.MANUAL),
    (rules.end_with_children, Ok(1), TerminationReason.SUCCESS),
    (rules.annotate, "undone", "x"),
]
#: Calls on a stage of a process, in any order.
CALLS = st.permutations(
    [
        *(("start_stage",), ("initialize_loop",), ("start_iteration",), ("complete_iteration", True)),
        *(("complete_iteration", False), ("skip_iteration",), ("retry_iteration",), ("rollback_iteration",)),
        *(("pause_loop",), ("resume_loop",), ("break_loop",), ("complete_loop",), ("skip_stage",)),
        *(("complete_stage", True), ("complete_stage", False), ("start_substage", "read"), ("start_substage", "write")),
        *(("complete_substage", "read", True), ("skip_substage", "write"), ("start_substage", "raed")),
    ]
).map(lambda calls: calls[:7])


class Faces(RuleBasedStateMachine):
    """Calls by every face on the trees of one journal, another journal looking on."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.numbers = count(1)
        self.ended: dict[str, tuple[Any, Any]] = {}
        self.processes: list[str] = []
        self.refused = False

    def open(self) -> Store:
        return MemoryStore(strict=True)

    def reopened(self) -> Store:
        return self.store

    @initialize()
    def begin(self) -> None:
        self.store = self.open()
        self.take_up()
        self.onlooker = Journal(self.store, clock=self.clock)

    def take_up(self) -> None:
        self.journal = Journal(
            self.store, clock=self.clock, new_id=lambda: f"r{next(self.numbers):04}", max_depth=MAX_DEPTH
        )
        self.executor = NestedLoopExecutor(store=self.journal)
        self.checkpoints = CheckpointManager(self.journal)
        self.recovery = LoopRecoveryManager(self.checkpoints)

    # Asking

    def logs(self) -> dict[str, Any]:
        return {root.id: self.store.read(root.id) for root in self.store.roots()}

    def known(self) -> list[str]:
        return [run.id for root in self.store.roots() for run in self.journal.run(root.id).tree.walk()]

    def run_of(self, which: tuple[int, int]) -> str:
        """A run, mostly one that is open; an id that nobody has while there is none."""
        number, kind = which
        runs = [self.journal.run(run_id) for run_id in self.known()]
        wanted = [run for run in runs if kind == 0 or run.reason is None]
        if kind > 2:  # those that the others wait for
            wanted = [run for run in wanted if not run.open_children]
        return wanted[number % len(wanted)].id if wanted else "nobody"

    def attempt(self, call: Callable[[], Any]) -> Any:
        """Make a call that is one step; if it is refused, nothing may have changed, in the store or in memory."""
        before, pictures = self.logs(), self.pictures(self.journal)
        self.refused = False
        try:
            return call()
        except CorticalError as error:
            refused = error
        self.refused = True
        assert str(refused).strip()
        assert self.logs() == before
        assert self.pictures(self.journal) == pictures
        return None

    def pictures(self, journal: Journal) -> dict[str, list[Any]]:
        return {root.id: [picture(run) for run in journal.run(root.id).tree.walk()] for root in self.store.roots()}

    def drive(self, call: Callable[[], Any]) -> None:
        """Make a call that drives something: it may be refused half way, and has then recorded what it did."""
        with suppress(CorticalError):
            call()

    # Loops

    @rule(goal=st.sampled_from(["a", " ", "é"]), budget=st.sampled_from([None, None, 3]))
    def start_root(self, goal: str, budget: int | None) -> None:
        limit = None if budget is None else Budget(descendants=budget, iterations=budget)
        self.attempt(lambda: self.executor.start_root(goal, budget=limit))

    @rule(which=WHICH, number=st.integers(1, 2))
    def spawn(self, which: Which, number: int) -> None:
        run = self.run_of(which)
        self.attempt(lambda: self.executor.spawn_children(run, ["g"] * number))

    @rule(which=WHICH, name=st.sampled_from(sorted(STEPS)))
    def step(self, which: Which, name: str) -> None:
        run = self.run_of(which)
        self.attempt(lambda: getattr(self.executor, name)(run, *STEPS[name]))

    @rule(which=WHICH, what=st.sampled_from(RULES))
    def follow_a_rule(self, which: Which, what: tuple[Any, ...]) -> None:
        run = self.run_of(which)
        self.attempt(lambda: self.journal.change(run, *what))

    # Checkpoints and recovery

    @rule(which=WHICH)
    def keep(self, which: Which) -> None:
        run = self.run_of(which)
        self.attempt(lambda: self.checkpoints.create_checkpoint(run))

    @rule(pick=st.integers(0, 40), mode=st.sampled_from(["replace", "merge"]), wrong=st.integers(0, 5))
    def restore(self, pick: int, mode: Any, wrong: int) -> None:
        runs = [self.journal.run(run_id) for run_id in self.known()]
        kept = [f"{run.id}@{number}" for run in runs for number in run.checkpoints or ()]
        chosen = kept[pick % len(kept)] if kept and wrong else f"nobody@{pick}"
        self.attempt(lambda: self.checkpoints.restore(chosen, mode))

    @rule(which=WHICH, most=st.integers(0, 2))
    def clean(self, which: Which, most: int) -> None:
        run = self.run_of(which)
        self.attempt(lambda: self.checkpoints.cleanup_old_checkpoints(run, most))

    @rule(pick=st.integers(0, 40), seconds=st.sampled_from([0.0, 5000.0]))
    def recover(self, pick: int, seconds: float) -> None:
        self.clock.advance(seconds)
        failed = [run_id for run_id in self.known() if isinstance(self.journal.run(run_id).outcome, Failed)]
        run = failed[pick % len(failed)] if failed else "nobody"
        self.drive(lambda: self.recovery.recover_from_failure(run))

    # Stages

    @rule(which=MAYBE)
    def initialize_process(self, which: Which | None) -> None:
        run = None if which is None else self.run_of(which)
        handler = StageHandler({"stages": STAGES}, store=self.journal)
        self.attempt(lambda: handler.initialize_process("staged", parent=run))
        if not self.refused:
            self.processes.append(handler.process_id)

    @rule(pick=st.integers(0, 9), where=st.sampled_from(["plain", "looped", "looped", "loopd"]), calls=CALLS)
    def staged(self, pick: int, where: str, calls: list[tuple[str, Any]]) -> None:
        """The first of these calls that is lawful, the others refused."""
        if self.processes:
            handler = self.handler(pick)
            for name, *more in calls:
                self.attempt(partial(getattr(handler, name), where, *more))
                if not self.refused:
                    break

    @rule(pick=st.integers(0, 9), success=st.booleans())
    def complete_process(self, pick: int, success: bool) -> None:
        if self.processes:
            handler = self.handler(pick)
            self.attempt(lambda: handler.complete_process(success))

    def handler(self, pick: int) -> StageHandler:
        """A handler of one of the processes, on the journal of now; the newer ones more often."""
        handler = StageHandler({"stages": STAGES}, store=self.journal)
        handler.resume_process(self.processes[-1 - min(pick // 3, len(self.processes) - 1)])
        return handler

    # Work that is driven, below whatever is open

    @rule(which=MAYBE, broken=st.booleans())
    def run_pipeline(self, which: Which | None, broken: bool) -> None:
        run = None if which is None else self.run_of(which)
        self.drive(lambda: execute(PIPELINE, {"broken": broken}, store=self.journal, parent=run))

    @rule(which=WHICH)
    def enter_pipeline(self, which: Which) -> None:
        run, context = self.run_of(which), StageContext({"broken": False})
        self.attempt(lambda: start(self.journal, PIPELINE, context, parent=run))

    @rule(pick=st.integers(0, 40))
    def resume_pipeline(self, pick: int) -> None:
        there = [run_id for run_id in self.known() if self.journal.run(run_id).kind == "pipeline"]
        run = there[pick % len(there)] if there else "nobody"
        self.drive(lambda: resume(self.journal, run, PIPELINE))

    @rule(which=MAYBE, items=st.lists(st.integers(0, 3), max_size=3), name=st.sampled_from("bc"))
    def run_batch(self, which: Which | None, items: list[int], name: str) -> None:
        run = None if which is None else self.run_of(which)
        batch = BatchProcessor(".", name, lambda item, *_: 1 / item, store=self.journal, parent=run, max_concurrency=1)
        self.drive(lambda: batch.run(items))

    @rule(which=MAYBE, turns=st.integers(0, 3), fails=st.booleans())
    def run_controlled(self, which: Which | None, turns: int, fails: bool) -> None:
        run, name = None if which is None else self.run_of(which), f"l{next(self.numbers)}"

        def body(state: dict[str, Any]) -> State:
            if fails and state.get("n", 0) == 1:
                raise OSError("no")
            return State(n=state.get("n", 0) + 1)

        def go() -> None:
            with LoopController(name, store=self.journal, parent=run, stop_when=max_iterations(turns)) as controller:
                controller.set_checkpoint_interval(1)
                controller.run(body)

        self.drive(go)

    @rule(lazy=st.integers(0, 3))
    def run_agent(self, lazy: int) -> None:
        if not lazy:
            self.drive(lambda: self.executor.execute_with_nesting("g", agent, workers=1))

    # Around all of them

    @rule(which=WHICH, other=WHICH, undo=st.booleans())
    def transaction(self, which: Which, other: Which, undo: bool) -> None:
        before, pictures = self.logs(), self.pictures(self.journal)
        one, two = self.run_of(which), self.run_of(other)
        try:
            with self.journal.transaction():
                self.executor.update_metadata(one, {"a": 2})
                self.executor.spawn_child(two, "t")
                self.checkpoints.create_checkpoint(two)
                self.executor.break_loop(one, "together")
                if undo:
                    raise InvalidInput("undo")
        except CorticalError:
            assert self.logs() == before
            assert self.pictures(self.journal) == pictures

    @rule(seconds=st.sampled_from([0.0, 1.0, -50.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now = self.clock.time() + seconds

    @rule(before=st.sampled_from([0.0, float("inf")]))
    def compact(self, before: float) -> None:
        for root in self.store.roots():
            self.store.compact(root.id, before)

    @rule()
    def reopen(self) -> None:
        before = self.pictures(self.journal)
        self.store = self.reopened()
        self.take_up()
        self.onlooker = Journal(self.store, clock=self.clock)
        assert self.pictures(self.journal) == before

    # What always holds

    @invariant()
    def trees_are_their_logs(self) -> None:
        for root in self.store.roots():
            log = self.store.read(root.id)
            tree = self.journal.run(root.id).tree
            assert unsound(log, tree) == []
            assert root == root_of_log(log)
            for run in tree.walk():
                self.check_run(run)

    def check_run(self, run: Run) -> None:
        open_below = [child for child in run.children if child.reason is None]
        assert run.open_children == len(open_below)
        assert run.reason is None or not open_below
        assert (run.outcome is None) == (run.reason is None) == (run.ended_at is None) == (not run.status.ended)
        assert run.reason is None or isinstance(run.reason, TerminationReason)
        if isinstance(run.outcome, Failed):
            assert run.outcome.error.type
        if run.reason is not None:
            assert self.ended.setdefault(run.id, (run.outcome, run.reason)) == (run.outcome, run.reason)
        else:
            assert run.id not in self.ended
        if run.account is not None:
            for resource, limit in run.account.limit.items():
                assert run.account.spent.get(resource, 0) + run.account.held.get(resource, 0) <= limit

    @invariant()
    def the_index_counts_what_there_is(self) -> None:
        runs = [self.journal.run(run_id) for run_id in self.known()]
        for kind, shelf in self.journal.index.shelves.items():
            own = [run for run in runs if run.kind == kind]
            assert +shelf.counts == Counter(run.status for run in own)
            assert +shelf.reasons == Counter(run.reason for run in own if run.reason is not None)
            assert shelf.deepest == max((run.depth for run in own), default=0)
            for status, those in shelf.open.items():
                assert set(those) == {run.id for run in own if run.status is status}
            visits = Counter(visit.place for run in own for visit in run.visits)
            assert +Counter({place: stay.visits for place, stay in shelf.stays.items()}) == visits
        assert set(self.journal.index.runs) == {run.id for run in runs}

    @invariant()
    def another_journal_sees_the_same(self) -> None:
        for root in self.store.roots():
            self.onlooker.refresh(root.id)
        assert self.pictures(self.onlooker) == self.pictures(self.journal)

    @invariant()
    def everything_can_be_looked_at(self) -> None:
        for root in self.store.roots():
            self.executor.export(root.id)
            check_practice(self.journal, root.id)


def picture(run: Run) -> list[Any]:
    """A run, as it can be compared."""
    visits = [(visit.place, visit.turn, visit.entered_at, visit.left_at, visit.reason) for visit in run.visits]
    kept = [(one.seq, one.label, one.data) for one in (run.checkpoints or {}).values()]
    account = None if run.account is None else (run.account.run_id, dict(run.account.spent), dict(run.account.held))
    return [
        *(run.id, run.kind, run.name, run.seq, run.status, run.reason, run.outcome, run.ended_at, run.depth, run.why),
        *(run.data, run.metadata, visits, kept, account, run.waits_for_children, [child.id for child in run.children]),
        [(entry.topic, entry.value) for entry in run.entries or ()],
    ]


class OnDisk(OnFile, Faces):
    """The same on a file, opened anew now and then."""


def test_any_calls_by_any_face_in_memory() -> None:
    """Whatever face calls whatever on whichever run, every rule is kept, and a second journal sees the same."""
    run_state_machine_as_test(Faces, settings=effort(60, steps=30))


def test_any_calls_by_any_face_on_disk() -> None:
    """The same on a file that is opened anew and packed in between."""
    run_state_machine_as_test(OnDisk, settings=effort(20, steps=25))
