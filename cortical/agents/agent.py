"""What does the work of a loop: one function per phase, and what follows when a child or a phase fails."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from attrs import field, frozen

from cortical.agents.stuck import Stuck
from cortical.core.checks import checked, require_callable, require_count, require_instance, require_text, shown
from cortical.core.conditions import Condition
from cortical.core.digest import code_of, digest
from cortical.core.errors import CorticalError, InvalidInput, WrongType
from cortical.core.phases import LoopPhase
from cortical.core.policy import ONCE, Retry
from cortical.core.run import Run
from cortical.recovery import RecoveryPolicy

if TYPE_CHECKING:
    from cortical.agents.loop import Loop

PhaseFunction = Callable[["Loop"], Any]
F = TypeVar("F", bound=PhaseFunction)

_STUCK: Final = Stuck()


class AgentNotFound(CorticalError, LookupError):
    """The agent of a loop is neither given nor importable."""


class AgentChanged(CorticalError, RuntimeError):
    """The agent of a loop is not the one it was started with."""


@frozen
class Quorum:
    """So many children have to succeed; the others are then no longer needed."""

    count: int = field(validator=checked(require_count, of="a Quorum"))


Join = Literal["all", "any"] | Quorum
OnChildFailure = Literal["fail", "carry on"] | Retry


class Agent:
    """The functions of a loop's phases, and the policies around them::

        auditor = Agent("package-auditor", concurrency=4)

        @auditor.answer
        def plan(loop: Loop) -> None:
            for module in loop.step("list modules", list_modules, loop.goal):
                loop.spawn(module, agent=module_auditor)

        @auditor.verify
        def check(loop: Loop) -> Verdict:
            return Verdict.passed(loop.child_results)

    A phase without a function is passed through; a verify function there must be. Functions may be coroutines.

    Args:
        name: what the log calls it. Unique among the agents of a tree.
        concurrency: how many of a loop's children run at the same time.
        join: which children have to succeed before the loop goes on: all, any, or a `Quorum`. Those that are then
            still open are ended.
        on_child_failure: what a failed or abandoned child means: the loop fails too, it carries on with what there
            is, or the child is tried again by a `Retry` (and then the loop fails). One that gives `retry_on` is for
            children that failed with these exceptions, or because of them; one that does not, for all.
        retry: how often, and when, a phase function that raises is called again; not at all by default. It is for
            every `Exception` unless it gives `retry_on`.
        max_turns: after so many turns without a passed verdict the loop ends, its budget exhausted.
        stop_when: conditions, joined (`cortical.core.conditions`), that are looked at before each further turn; where
            they are met, the loop ends without a passed verdict, for the condition's own reason. Its `Progress` counts
            turns as iterations, has what was spent of the budgets as resources, and the last answer as last result.
        recovery: what follows, by its table, when a phase has failed for good (`cortical.recovery`); the loop fails
            by default.
        stuck: what happens when turns repeat themselves; a person is asked after three by default. None: nothing.
    """

    def __init__(
        self,
        name: str,
        *,
        concurrency: int = 1,
        join: Join = "all",
        on_child_failure: OnChildFailure = "fail",
        retry: Retry | None = None,
        max_turns: int | None = None,
        stop_when: Condition | None = None,
        recovery: RecoveryPolicy | None = None,
        stuck: Stuck | None = _STUCK,
    ) -> None:
        self.name = require_text(name, "an agent's name")
        if join not in ("all", "any") and not isinstance(join, Quorum):
            raise InvalidInput(f"join is 'all', 'any' or a Quorum, not {shown(join)}")
        if on_child_failure not in ("fail", "carry on") and not isinstance(on_child_failure, Retry):
            raise InvalidInput(f"on_child_failure is 'fail', 'carry on' or a Retry, not {shown(on_child_failure)}")
        self.concurrency = require_count(concurrency, "concurrency")
        self.join: Join = join
        self.on_child_failure: OnChildFailure = on_child_failure
        self.retry = require_instance(retry, Retry, "retry", or_none=True) or ONCE
        self.max_turns = None if max_turns is None else require_count(max_turns, "max_turns")
        self.stop_when = require_instance(stop_when, Condition, "stop_when", or_none=True)
        self.recovery = require_instance(recovery, RecoveryPolicy, "recovery", or_none=True)
        self.stuck = require_instance(stuck, Stuck, "stuck", or_none=True)
        self.functions: dict[LoopPhase, PhaseFunction] = {}
        self._module = str(sys._getframe(1).f_globals.get("__name__", ""))

    def question(self, function: F) -> F:
        """Have this function called in QUESTION."""
        return self._take(LoopPhase.QUESTION, function)

    def answer(self, function: F) -> F:
        """Have this function called in ANSWER."""
        return self._take(LoopPhase.ANSWER, function)

    def produce(self, function: F) -> F:
        """Have this function called in PRODUCE."""
        return self._take(LoopPhase.PRODUCE, function)

    def verify(self, function: F) -> F:
        """Have this function called in VERIFY; it returns a `Verdict`."""
        return self._take(LoopPhase.VERIFY, function)

    def require_whole(self) -> Agent:
        """This agent, if it can be run.

        Raises:
            InvalidInput: it has no verify function, without which nothing could ever pass.
        """
        if LoopPhase.VERIFY not in self.functions:
            raise InvalidInput(f"agent {self.name!r} has no verify function; without one nothing could pass: add one")
        return self

    @property
    def path(self) -> str:
        """Where it can be imported from, as ``module:attribute``; empty when it is in no module's attribute."""
        module = sys.modules.get(self._module)
        names = [name for name, value in vars(module).items() if value is self] if module else []
        return f"{self._module}:{names[0]}" if names and self._module != "__main__" else ""

    @property
    def digest(self) -> str:
        """A short text that changes when the functions' code or the policies do."""
        policies = (
            self.concurrency,
            self.join,
            self.on_child_failure,
            self.max_turns,
            self.retry,
            self.stuck,
            self.stop_when,
        )
        told = [repr(policies).encode()]
        for phase in LoopPhase:
            function = self.functions.get(phase)
            if function is not None:
                # A verifier made by a function of ours says by `definition` what it was made of.
                made_of = str(getattr(function, "definition", ""))
                told += [phase.value.encode(), code_of(function), made_of.encode()]
        return digest(told)

    def as_recorded(self) -> dict[str, Any]:
        """What the log keeps of it, to find it again, and for which phases it has a function."""
        phases = [phase.value for phase in LoopPhase if phase in self.functions]
        return {"name": self.name, "path": self.path, "digest": self.digest, "phases": phases}

    def __repr__(self) -> str:
        return f"Agent({self.name!r})"

    def _take(self, phase: LoopPhase, function: F) -> F:
        require_callable(function)
        if phase in self.functions:
            raise InvalidInput(f"agent {self.name!r} has a function for {phase.value} already; each phase has one")
        self.functions[phase] = function
        return function


class Agents:
    """Finds the agents of recorded loops: among those given, or where the log says they can be imported from."""

    def __init__(self, given: Iterable[Agent] = (), *, allow_changed: bool = False) -> None:
        self._by_name: dict[str, Agent] = {}
        self._allow_changed = allow_changed
        self._checked: set[tuple[str, str]] = set()
        for agent in given:
            self.add(agent)

    def add(self, agent: Agent) -> Agent:
        """Make an agent known by its name.

        Raises:
            InvalidInput: another has that name, or it has no verify function.
        """
        if not isinstance(agent, Agent):
            raise WrongType(f"an Agent does the work of a loop, not {shown(agent)}")
        agent.require_whole()
        if self._by_name.setdefault(agent.name, agent) is not agent:
            raise InvalidInput(f"two agents are called {agent.name!r}; give each a name of its own")
        return agent

    def of(self, run: Run) -> Agent:
        """The agent that drives a run, which has one recorded.

        Raises:
            AgentNotFound, AgentChanged: as `find`.
        """
        return self.find(run.metadata["agent"])

    def find(self, recorded: Mapping[str, Any]) -> Agent:
        """The agent that was recorded as this.

        Raises:
            AgentNotFound: it is neither given nor importable.
            AgentChanged: its code or policies are others than those recorded.
        """
        name, path, digest = recorded["name"], recorded["path"], recorded["digest"]
        agent = self._by_name.get(name) or self.add(_imported(name, path))
        if (name, digest) not in self._checked:
            if agent.digest != digest and not self._allow_changed:
                raise AgentChanged(
                    f"agent {name!r} has changed since the loop was started; pass allow_changed=True to go on with it"
                )
            self._checked.add((name, digest))
        return agent


def _imported(name: str, path: str) -> Agent:
    module, _, attribute = path.partition(":")
    if not module:
        raise AgentNotFound(
            f"agent {name!r} was defined where it cannot be imported from (a script that was run, or a function); "
            "give it: resume(store, run_id, agents=[…])"
        )
    try:
        agent = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise AgentNotFound(f"agent {name!r} is no longer at {path} ({error}); give it: agents=[…]") from error
    if not isinstance(agent, Agent) or agent.name != name:
        raise AgentNotFound(f"{path} is no agent called {name!r} any more; give it: agents=[…]")
    return agent
