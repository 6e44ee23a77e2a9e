"""What a phase function is given: the loop as it stands, and all it may do in it.

What is recorded is kept before the call returns. A phase that was open when the process died is entered again, and
`step`, `effect`, `spawn` and `ask_human` then answer from the log instead of doing it a second time.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cortical.agents import spending
from cortical.agents.agent import Agent
from cortical.agents.effects import Reconciled, reconciled
from cortical.agents.family import as_spawned, key_of, latest_tries, recorded_agent
from cortical.agents.people import Suspended, asking
from cortical.agents.spending import Reservation
from cortical.core import budget, rules
from cortical.core.budget import Budget
from cortical.core.checks import require_text
from cortical.core.errors import RunStateError
from cortical.core.events import Event, Noted
from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.core.outcome import why_of
from cortical.core.phases import PHASE_OF, LoopPhase
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.core.topics import (
    ANSWER,
    ARTIFACT,
    DECISION,
    EFFECT,
    INTENT,
    LOG,
    NOTE,
    PROVIDED,
    QUESTION,
    STEP,
    VERDICT,
)

if TYPE_CHECKING:
    from cortical.agents.worker import Worker
    from cortical.control import LoopController

T = TypeVar("T")


class Loop:
    """One loop, during one visit of a phase."""

    def __init__(self, worker: Worker, run: Run) -> None:
        assert run.visit is not None
        self._worker = worker
        #: Keeps the tree: for a pipeline or a loop that is to stand below this loop, given its `id` as the parent.
        self.journal: Journal = worker.journal
        self._visit_seq = run.visit.seq
        self._unnamed = self._reservations = 0
        self.id = run.id
        self.goal = run.name
        self.depth = run.depth
        self.phase: LoopPhase = PHASE_OF[run.visit.place]
        #: Which visit of this phase it is: 1, 2, …
        self.turn = run.visit.turn
        here = run.entries_here
        self._said = {(entry.topic, entry.value["key"]): entry.value for entry in here if entry.topic in _KEYED}
        self._said_before = deque((entry.topic, entry.value) for entry in here if entry.topic in _SAID)
        self._children: dict[str, str] | None = None

    # How it stands

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What it was started with."""
        return dict(self._run.metadata.get("inputs") or {})

    @property
    def feedback(self) -> str:
        """What the last verdict said; empty when there was none, or it said nothing."""
        verdict = next(self._run.newest(VERDICT), None)
        return str(verdict["text"]) if verdict else ""

    @property
    def answers(self) -> Sequence[Any]:
        """What was answered so far, in order."""
        return self._run.noted(ANSWER)

    @property
    def child_results(self) -> dict[str, Any]:
        """What the child loops brought back that succeeded: child id → value, in the order they were spawned.

        A pipeline, a batch or a controlled loop that a phase has run below this loop is none of them.
        """
        run = self._run
        return {child.id: child.value for child in as_spawned(run.children) if is_ok(child)}

    @property
    def child_failures(self) -> dict[str, str]:
        """Why the children that ended without success did: child id → the error of one that failed ("KeyError: 'x'"),
        or the reason for which it was abandoned or skipped, in the order they were spawned.

        Of one that was tried again only the last try counts.
        """
        latest = latest_tries(self._run.children)
        return {child.id: why_of(child.outcome) for child in latest if child.reason is not None and not is_ok(child)}

    def artifact(self, name: str) -> Any:
        """What was last produced under this name.

        Raises:
            KeyError: nothing was.
        """
        for made in self._run.newest(ARTIFACT):
            if made["name"] == name:
                return made["content"]
        raise KeyError(f"loop {self.id!r} has produced nothing called {name!r}")

    # What it says

    def ask(self, question: str) -> None:
        """Record a question."""
        self._say(QUESTION, question)

    def answer(self, answer: object) -> None:
        """Record an answer."""
        self._say(ANSWER, answer)

    def log(self, text: str) -> None:
        """Say how it goes, to the people who watch or read the log later; it is no part of the work."""
        self._say(LOG, text)

    def note(self, note: str) -> None:
        """Record a remark that belongs to the work, such as something found out; it is handed on with the loop."""
        self._say(NOTE, note)

    def decide(self, decision: str, rationale: str = "") -> None:
        """Record a decision, and why."""
        self._say(DECISION, {"decision": decision, "rationale": rationale})

    def produce(self, name: str, content: object) -> None:
        """Record what was made, under a name; making it again replaces it."""
        self._say(ARTIFACT, {"name": require_text(name, "an artifact's name"), "content": content})

    # What it does once

    def step(self, key: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call `function` and keep its value; when this visit is entered again, the kept value comes back instead.

        With a coroutine function, await what this returns. What raises is not kept, and is called again.

        Raises:
            EncodeError: a durable store cannot keep the value.
        """
        said = self._said.get((STEP, require_text(key, "a step's key")))
        if inspect.iscoroutinefunction(function):
            return self._async_step(key, said, function, args, kwargs)  # type: ignore[return-value]
        if said is not None:
            return said["value"]  # type: ignore[no-any-return]
        return self._keep(STEP, key, function(*args, **kwargs))

    async def _async_step(
        self, key: str, said: Any, function: Callable[..., Awaitable[T]], args: Any, kwargs: Any
    ) -> T:
        if said is not None:
            return said["value"]  # type: ignore[no-any-return]
        return self._keep(STEP, key, await function(*args, **kwargs))

    def effect(
        self,
        key: str,
        function: Callable[[str], T],
        *,
        reconcile: Callable[[str], Reconciled] | None = None,
    ) -> T | None:
        """Do what must not happen twice: `function(idempotency_key)`, its value kept like a step's.

        The intention is kept first. If the process dies before the outcome is kept, the next entry of this visit asks
        `reconcile(idempotency_key)` what became of it: done with a value, to be done again, skipped (None comes back),
        or unknown, for a person to say.

        Raises:
            EffectUncertain: it was begun, and there is no `reconcile`.
        """
        done = self._said.get((EFFECT, require_text(key, "an effect's key")))
        if done is not None:
            return done["value"]  # type: ignore[no-any-return]
        token = f"{self.id}:{self._visit_seq}:{key}"
        if (INTENT, key) in self._said:
            found = reconciled(self, key, token, reconcile)
            if found.answer != "again":
                return self._keep(EFFECT, key, found.value)  # type: ignore[no-any-return]
        else:
            self._keep(INTENT, key, token)
        return self._keep(EFFECT, key, function(token))

    # Budget

    def spend(self, **amounts: float) -> None:
        """Book what was used: `tokens`, `usd`. Nothing where the tree has no limit on it.

        Raises:
            BudgetExhausted: it went above the limit, which is then exhausted.
        """
        spending.spend(self.journal, self.id, amounts)

    def reserve(self, **amounts: float) -> AbstractContextManager[Reservation]:
        """Hold what is going to be used, and book it at the end: what `used` was told, or else all of it.

        ::

            with loop.reserve(tokens=4000) as reservation:
                reply = ask_model(...)
                reservation.used(tokens=reply.tokens)

        What a process that died had reserved counts as used.

        Raises:
            BudgetExhausted: there is not so much left; nothing is held.
        """
        self._reservations += 1
        return spending.reserving(self.journal, self.id, f"{self.id}:{self._visit_seq}:{self._reservations}", amounts)

    def left(self, resource: str) -> float:
        """What is left of `tokens`, `usd`, `iterations` or `descendants`; infinite where there is no limit."""
        paying = budget.payer(self._run.account, resource)
        return float("inf") if paying is None else paying.available(resource)

    # Children

    def spawn(
        self,
        goal: str,
        *,
        agent: Agent | None = None,
        key: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        budget: Budget | None = None,
    ) -> str:
        """Start a child loop, which runs when this phase function returns. Returns its id.

        Entered again, the same call finds the child it had spawned: by `key`, or else by its order and goal.

        Args:
            agent: does the child's work; this loop's own agent by default.
            inputs: what the child finds in its `inputs`.
            budget: what the child and all below it may use; it is held in the budgets above until the child has ended.

        Raises:
            BudgetExhausted: a budget above has no room for it.
            RunStateError: in VERIFY, where nothing would wait for it; or this loop has ended.
            DepthLimitReached: the tree may not be deeper.
        """
        if self.phase is LoopPhase.VERIFY:
            raise RunStateError(f"loop {self.id!r} may not spawn in verify; spawn before it", self.id)
        if key is None:
            self._unnamed += 1
            key = f"{self._visit_seq}:{self._unnamed}:{goal}"
        known = self._known_children()
        if key not in known:
            known[key] = self._start_child(require_text(goal, "a goal"), agent, key, inputs, budget)
        return known[key]

    async def gather(self) -> dict[str, Any]:
        """In an async phase: run the children spawned so far, wait for them, and return `child_results`."""
        await self._worker.gathered(self.id, self._visit_seq)
        return self.child_results

    def _known_children(self) -> dict[str, str]:
        if self._children is None:
            keyed = ((key_of(child), child.id) for child in self._run.children)
            self._children = {key: child_id for key, child_id in keyed if key is not None}
        return self._children

    def _start_child(
        self, goal: str, agent: Agent | None, key: str, inputs: Mapping[str, Any] | None, limits: Budget | None
    ) -> str:
        child_id = self.journal.new_id()
        metadata = {
            "agent": self._worker.recorded(agent) if agent else recorded_agent(self._run),
            "key": key,
            "visit": self._visit_seq,
            "attempt": 1,
            "inputs": dict(inputs) if inputs else None,
        }
        if limits is not None:
            metadata["budget"] = limits.limits()
        limit = self._worker.max_depth
        self.journal.insist(
            self.id, rules.spawn, LOOP, {child_id: goal}, place=None, metadata=metadata, max_depth=limit
        )
        return child_id

    def control(self, name: str, **options: Any) -> LoopController:
        """A controlled loop below this one, to be run in this phase: ``loop.control("poll", stop_when=…).run(body)``.

        It pays from the budgets above it and is broken with them. Entered again, the same name finds the same loop,
        which goes on where it stood.

        Args:
            name: tells the controlled loops of this loop apart.
            options: those of `cortical.control.LoopController`.

        Raises:
            BudgetExhausted: a budget above has no room for it.
            DepthLimitReached: the tree may not be deeper.
        """
        from cortical.control import LoopController

        return LoopController(name, store=self.journal, parent=self.id, max_depth=self._worker.max_depth, **options)

    # People

    def ask_human(
        self, question: str, *, key: str | None = None, timeout: float | None = None, default: Any = None
    ) -> Any:
        """Ask a person, and return the answer. Until it is given the loop is blocked, and the process may end.

        Args:
            key: tells several questions apart; the question itself by default.
            timeout: after so many seconds `default` is taken for the answer.
        """
        key = key or require_text(question, "a question")
        provided = [said["value"] for said in self._run.noted(PROVIDED) if said["key"] == key]
        if provided:
            return provided[-1]
        until = None if timeout is None else self.journal.time_in(self._run.tree) + timeout
        asked = asking(question, key=key, until=until, default=default)
        self.journal.insist(self.id, rules.noting, [asked], rules.block, question)
        raise Suspended

    # Below

    @property
    def _run(self) -> Run:
        return self.journal.run(self.id)

    def _say(self, topic: str, value: object) -> None:
        """Record a note, unless this visit was entered before and the log has it at this place already."""
        if self._said_before and self._said_before[0] == (topic, value):
            self._said_before.popleft()
            return
        self._said_before.clear()
        self._note(topic, value)

    def _note(self, topic: str, value: object) -> Noted:
        (event,) = self.journal.insist(self.id, _note_during, self._visit_seq, topic, value)
        assert isinstance(event, Noted)
        return event

    def _keep(self, topic: str, key: str, value: T) -> T:
        kept = self._note(topic, {"key": key, "value": value}).value
        self._said[topic, key] = kept
        return kept["value"]  # type: ignore[no-any-return]


#: What a phase function says, as against what the driver keeps.
_SAID: Final = frozenset({QUESTION, ANSWER, LOG, NOTE, DECISION, ARTIFACT})
_KEYED: Final = frozenset({STEP, INTENT, EFFECT})


def is_ok(run: Run) -> bool:
    """Whether a run succeeded."""
    return run.status is Status.COMPLETED


def _note_during(run: Run, at: float, visit_seq: int, topic: str, value: object) -> Sequence[Event]:
    """A note, refused once the loop has left the visit: what a late phase function says belongs nowhere."""
    visit = run.still_at(visit_seq)
    if run.reason is None and (visit is None or visit.left_at is not None):
        raise RunStateError(
            f"loop {run.id!r} has left the visit that {topic!r} belongs to; nothing was recorded", run.id
        )
    return rules.note(run, at, topic, value)
