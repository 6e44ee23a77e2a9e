"""The commands that set agents to work: `run`, `resume`, `answer` and `drain`.

`run` and `resume` show the tree on standard error while it is driven, and print the result on standard output.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cortical.cli.options import AsJson, Id, StorePlace
from cortical.cli.session import (
    command_line,
    driver_of,
    from_json,
    interrupted_status,
    let_import,
    opened_store,
    pairs,
    prints_as_talk,
    refusals,
    say,
    way_line,
)

if TYPE_CHECKING:
    from cortical.agents import Agent
    from cortical.agents.driver import Driver
    from cortical.core.budget import Budget
    from cortical.core.journal import Journal
    from cortical.store import Store

#: What the note says by which a driver is asked to stop.
_DRAINED: Final = "the open phases are to finish, and no others to begin"

AgentPath = Annotated[
    str, typer.Argument(metavar="MODULE:AGENT", help="The agent, as it is imported from the working folder.")
]
Goal = Annotated[str, typer.Argument(metavar="GOAL", help="What the loop is to reach.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="KEY=VALUE", help="A text the loop finds in its inputs; can be given again."),
]
Limits = Annotated[
    list[str] | None,
    typer.Option("--budget", metavar="LIMIT=N", help="What the tree may use: tokens=9000; can be given again."),
]
Workers = Annotated[
    int, typer.Option("--workers", metavar="N", min=1, help="How many phase functions run at the same time.")
]
MaxDepth = Annotated[int, typer.Option("--max-depth", metavar="N", min=1, help="How many levels the tree may have.")]


def run(
    agent: AgentPath,
    goal: Goal,
    input: Inputs = None,
    budget: Limits = None,
    workers: Workers = 4,
    max_depth: MaxDepth = 10,
    auto_spawn: bool = typer.Option(False, "--auto-spawn", help="Give open questions to children where that pays."),
    store: StorePlace = None,
    as_json: AsJson = False,
) -> None:
    """Start a loop on a goal, and let an agent drive it.

    It and all it spawns are shown while they run. It ends when the loop has, or waits for a person. Ctrl-C lets the
    open phases finish; again, it stops at once. Exits 1 when the loop has not succeeded.
    """
    from cortical.agents.agent import Agents
    from cortical.agents.driver import Driver
    from cortical.agents.running import start
    from cortical.core.checks import require_text

    inputs = pairs(input or (), "--input")
    limits = _limits(budget or ())
    with refusals():  # before the store is opened: a refusal is not to leave an empty one
        found = _imported(agent).require_whole()
        require_text(goal, "a goal")
    with opened_store(store, create=True) as opened:
        journal = _journal(opened, max_depth)
        root_id = start(journal, found, goal, budget=limits, inputs=inputs, auto_spawn=auto_spawn)
        _drive(Driver(journal, root_id, Agents([found]), workers=workers), store, as_json=as_json)


def resume(
    id: Id,
    allow_changed: bool = typer.Option(False, "--allow-changed", help="Go on though an agent is not as it was."),
    workers: Workers = 4,
    max_depth: Annotated[
        int | None,
        typer.Option(
            "--max-depth", metavar="N", min=1, show_default=False, help="How many levels; by default as it was started."
        ),
    ] = None,
    store: StorePlace = None,
    as_json: AsJson = False,
) -> None:
    """Take up a tree of agents where it stands, and drive it on.

    One that has ended is only looked at. Where an agent was started below another run, what it drives is taken up, and
    not the tree that this is part of. Exits 1 when the loop has not succeeded.
    """
    from cortical.agents import AgentChanged
    from cortical.agents.agent import Agents
    from cortical.agents.running import MAX_DEPTH, result_of, taken_up
    from cortical.cli.result import tell
    from cortical.core.run import Run

    let_import()
    with opened_store(store) as opened:
        journal = _journal(opened, MAX_DEPTH)
        agents = Agents(allow_changed=allow_changed)
        taken = taken_up(journal, id, agents, workers=workers, max_depth=max_depth)
        if isinstance(taken, Run):
            tell(result_of(taken), taken, store, as_json=as_json)
            return
        try:
            _drive(taken, store, as_json=as_json, shown_from=journal.run(taken.root_id).tree.position)
        except AgentChanged as changed:
            say(str(changed))
            say(f"here: {command_line('resume', taken.root_id, store, '--allow-changed')}")
            raise typer.Exit(1) from changed


def answer(
    id: Id,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The answer.")],
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", show_default=False, help="Of the question; the one that blocks the loop."),
    ] = None,
    json_value: bool = typer.Option(False, "--json-value", help="Read the answer as JSON, not as a text."),
    store: StorePlace = None,
) -> None:
    """Answer the question that blocks a loop.

    Whoever drives the tree carries on with it; when nobody does, `cortical resume` will.
    """
    from cortical.agents import provide
    from cortical.cli.result import question_of
    from cortical.core.going_on import way_on

    value = from_json(text, "--json-value") if json_value else text
    with opened_store(store) as opened:
        journal = _journal(opened)
        asking = journal.find(id)
        question = question_of(asking)
        provide(opened, asking.id, question if key is None else key, value)
        holder = driver_of(opened, asking.tree.root.id)
        carry_on = way_line(way_on(asking), store)
    say(f"answered: {asking.id}")
    say(f"{holder} carries on" if holder else f"carry on: {carry_on}")


def drain(id: Id, store: StorePlace = None) -> None:
    """Let the open phases of a driven tree finish, and begin no others.

    It holds for all that an agent drives, in whichever process, and does not wait for it.
    """
    from cortical.agents.running import driven_with
    from cortical.core import rules
    from cortical.core.going_on import way_on
    from cortical.core.topics import DRAIN

    with opened_store(store) as opened:
        journal = _journal(opened)
        root = driven_with(journal.find(id))
        rules.require_open(root, "be drained")
        holder = driver_of(opened, root.tree.root.id)
        if holder is not None:
            journal.insist(root.id, rules.note, DRAIN, _DRAINED)
    if holder is None:
        say(f"nobody holds {root.id}: no phase of it is under way")
    else:
        say(f"asked: {holder} lets the open phases finish, begins no others, and stops")
    say(f"carry on later: {way_line(way_on(root), store)}")


# Before it is driven


def _journal(store: Store, max_depth: int | None = None) -> Journal:
    from cortical.core.journal import Journal

    return Journal(store, clock=time, max_depth=max_depth)


def _limits(given: Iterable[str]) -> Budget | None:
    from attrs import fields

    from cortical.core.budget import Budget
    from cortical.core.errors import InvalidInput

    known = [field.name for field in fields(Budget)]
    limits: dict[str, float] = {}
    for name, text in pairs(given, "--budget").items():
        if name not in known:
            raise typer.BadParameter(
                f"there is no limit {name!r}; limits are {', '.join(known)}", param_hint="--budget"
            )
        try:
            limits[name] = int(text) if text.isdecimal() else float(text)
        except ValueError as error:
            raise typer.BadParameter(f"{name} is a number, not {text!r}", param_hint="--budget") from error
    try:
        return Budget(**limits) if limits else None
    except InvalidInput as error:
        raise typer.BadParameter(str(error), param_hint="--budget") from error


def _imported(path: str) -> Agent:
    """The agent at ``module:agent``. What its module raises when it is imported is not caught.

    Raises:
        AgentNotFound: there is no such module, or no such agent in it.
    """
    import importlib

    from cortical.agents import Agent, AgentNotFound

    module_name, _, name = path.partition(":")
    is_file = module_name.endswith(".py")
    if is_file or not all(part.isidentifier() for part in (name, *module_name.split("."))):
        raise typer.BadParameter(f"{path!r}: write module:agent, such as my_agents:auditor", param_hint="MODULE:AGENT")
    let_import()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if f"{module_name}.".startswith(f"{error.name}."):
            raise AgentNotFound(f"there is no module {error.name!r}, here or among the installed ones") from error
        raise
    found = getattr(module, name, None)
    if not isinstance(found, Agent):
        known = [other for other, value in vars(module).items() if isinstance(value, Agent)]
        raise AgentNotFound(f"{module_name} has no agent {name!r}; it has {', '.join(known) or 'none at all'}")
    return found


def _drive(driver: Driver, store: str | None, *, as_json: bool, shown_from: int = 0) -> None:
    """Drive, show and tell; leave with exit code 1, or that of an interruption, unless the loop has succeeded."""
    from cortical.agents.running import result_of
    from cortical.cli.live import drive
    from cortical.cli.result import say_next, tell

    with prints_as_talk():
        interrupted = drive(driver, store, shown_from=shown_from)
    root = driver.journal.run(driver.root_id)
    if interrupted and root.reason is None:
        say("stopped: the phases that were open have finished, no others were begun")
        say_next(root, store)
        raise typer.Exit(interrupted_status())
    tell(result_of(root), root, store, as_json=as_json)
