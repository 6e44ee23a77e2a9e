"""How a driven tree stands, and what a person can type next."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import typer
from attrs import asdict
from rich.text import Text

from cortical.agents import Result
from cortical.cli.page import print_rows, standing
from cortical.cli.render import STYLES, console
from cortical.cli.session import command_line, print_json, say
from cortical.cli.text import amount, shortened, value_text
from cortical.core.errors import RunStateError
from cortical.core.questions import question_of as asked_of
from cortical.core.run import Run
from cortical.core.status import Status
from cortical.looking.plain import value_as_plain

#: Where a person's own words go.
_ANSWER: Final = '"…"'


def tell(result: Result, root: Run, store: str | None, *, as_json: bool) -> None:
    """Print a result, and say what can be typed next; leave with exit code 1 unless it is a success."""
    if as_json:
        print_json(_as_plain(result))
    else:
        _print(result, root)
    say_next(root, store)
    if root.status is not Status.COMPLETED:
        raise typer.Exit(1)


def _print(result: Result, root: Run) -> None:
    rows: list[tuple[str, Text | str]] = [
        ("loop", result.run_id),
        ("status", Text(standing(root), STYLES[result.status])),
        ("reason", result.reason.value if result.reason else ""),
        ("value", "" if result.value is None else value_text(result.value)),
        ("artifacts", ", ".join(result.artifacts)),
        ("spent", ", ".join(f"{amount(used)} {name}" for name, used in result.spent.items())),
        ("limit", result.limit or ""),
        ("why", shortened(result.why)),
    ]
    print_rows(console(), rows, indent=0)


def _as_plain(result: Result) -> dict[str, Any]:
    fields = asdict(result, recurse=False).items()
    return {name: value.value if isinstance(value, Enum) else value_as_plain(value) for name, value in fields}


def say_next(root: Run, store: str | None) -> None:
    """Say which command shows the tree, which answer the questions it waits for, and which carries it on."""
    say(f"the tree: {command_line('tree', root.id, store)}")
    for asking in _asking(root):
        say(f"it asks: {asking.why}")
        say(f"answer it: {command_line('answer', asking.id, store, _ANSWER)}")
    if root.reason is None:
        say(f"carry on: {command_line('resume', root.id, store)}")


def _asking(root: Run) -> list[Run]:
    return [below for below in root.tree.walk(root) if below.status is Status.BLOCKED]


def question_of(run: Run) -> str:
    """The key of the question that blocks a loop.

    Raises:
        RunStateError: it is not blocked; the message names those below it that are.
    """
    if run.status is not Status.BLOCKED:
        asking = ", ".join(f"{below.id} ({below.why})" for below in _asking(run))
        raise RunStateError(
            f"loop {run.id!r} waits for no answer: it is {run.status.value}"
            + (f"; blocked below it: {asking}" if asking else ""),
            run.id,
        )
    asked = asked_of(run)
    return run.why if asked is None else str(asked.get("key"))
