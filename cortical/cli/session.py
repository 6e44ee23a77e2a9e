"""What every command does around its one call: open the store, print data, talk, and refuse in a sentence."""

from __future__ import annotations

import io
import json
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from shlex import quote
from shutil import which
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from types import FrameType

    from cortical.core.going_on import WayOn
    from cortical.core.journal import Journal
    from cortical.reasoning import NestedLoopExecutor
    from cortical.store import Store

#: Where the store is when neither --store nor CORTICAL_STORE says it.
DEFAULT_STORE: Final = "cortical.db"
#: Who drives what nobody drives.
NOBODY: Final = "nobody"


#: Those by which a process is asked to stop: by Ctrl-C, by who manages services, by a terminal that is closed.
_STOPPING: Final = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_interrupted: Final[list[int]] = []


def interrupt(number: int, frame: object) -> None:
    """A stop: raised as Ctrl-C is, and remembered, since Python loses one that comes while it collects garbage."""
    remember(number)
    raise KeyboardInterrupt


def remember(number: int) -> None:
    """Keep in mind by which signal this process was asked to stop."""
    _interrupted.append(number)


def interrupted_status() -> int:
    """The exit status of a process that was asked to stop, as a shell tells of it: 130 after Ctrl-C."""
    return 128 + (_interrupted[-1] if _interrupted else signal.SIGINT)


def on_stop(handler: Callable[[int, FrameType | None], object]) -> list[tuple[int, Any]]:
    """Have a handler called when this process is asked to stop; returns what to give `signal.signal` to undo it.

    What this process was started to ignore, as by `nohup`, stays ignored.
    """
    heard = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    return [(number, signal.signal(number, handler)) for number in heard]


def pause(seconds: float) -> None:
    """Wait, unless this process is asked to stop."""
    if not _interrupted:
        time.sleep(seconds)
    if _interrupted:
        raise KeyboardInterrupt


def say(text: str) -> None:
    """Talk: to standard error, so that standard output holds nothing but data."""
    from cortical.core.safe_text import one_line

    typer.echo(one_line(text), err=True)


def print_json(value: Any) -> None:
    """Print a plain value as indented JSON, in UTF-8 whatever the terminal's encoding."""
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


class _Talk(io.TextIOBase):
    """What is written to it goes to standard error, whatever that is at the moment."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


@contextmanager
def prints_as_talk() -> Iterator[None]:
    """What the work of a user prints goes to standard error: standard output is for what the command prints."""
    with redirect_stdout(_Talk()):
        yield


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what the library refuses into a sentence on standard error, and exit 1."""
    from cortical.core.errors import CorticalError, StoreNotFound

    try:
        yield
    except CorticalError as error:
        for line in str(error).splitlines():  # a list of problems comes in lines
            say(line)
        if isinstance(error, StoreNotFound):
            say("name the store with --store FILE, or in CORTICAL_STORE")
        raise typer.Exit(1) from error


@contextmanager
def opened_store(where: str | None, *, create: bool = False) -> Iterator[Store]:
    """The store at `where`, which must exist unless `create`, closed at the end; what the library refuses is told."""
    with refusals():
        from cortical.store import open_store

        store = open_store(where or DEFAULT_STORE, create=create)
        try:
            yield store
        finally:
            store.close()


@contextmanager
def opened_journal(where: str | None) -> Iterator[Journal]:
    """A journal on the store at `where`, as `opened_store`."""
    with opened_store(where) as store:
        from cortical.core.journal import Journal

        yield Journal(store, clock=time)


@contextmanager
def opened(where: str | None) -> Iterator[NestedLoopExecutor]:
    """An executor on the store at `where`, as `opened_store`."""
    from cortical.reasoning import NestedLoopExecutor

    with opened_store(where) as store:
        yield NestedLoopExecutor(store=store)


def driver_of(store: Store, root_id: str) -> str | None:
    """Who drives a tree now; None when nobody does."""
    from cortical.engine.lease import holder_of

    return holder_of(store, root_id, time.time())


def this_command() -> str:
    """What a person types to run this command: its name, or where it is not on the path, this Python with it."""
    if which("cortical"):
        return "cortical"
    python = Path(sys.executable)
    here = Path.cwd()
    return f"{quote(str(python.relative_to(here) if python.is_relative_to(here) else python))} -m cortical"


def command_line(command: str, run_id: str, where: str | None, *more: str) -> str:
    """What a person types for `command` on a run of the store at `where`."""
    store = ("--store", quote(where)) if where else ()
    return " ".join((this_command(), command, quote(run_id), *more, *store))


def way_line(way: WayOn, where: str | None) -> str:
    """What a person types for a run of the store at `where` to go on, or that its program is to be run again."""
    typed = command_line(way.command, way.run_id, where, *way.options) if way.command else ""
    return ", or ".join(filter(None, (typed, way.program)))


def pairs(given: Iterable[str], option: str) -> dict[str, str]:
    """What `key=value` arguments say; `option` is named where one says nothing, or a key comes twice."""
    found: dict[str, str] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{pair!r}: write key=value", param_hint=option)
        if key in found:
            raise typer.BadParameter(f"{key!r} is given twice", param_hint=option)
        found[key] = value
    return found


def from_json(text: str, option: str) -> Any:
    """The value that an argument writes as JSON; `option` is named where it is none."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not JSON: {error}", param_hint=option) from error


def let_import() -> None:
    """Let modules of the working folder be imported, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
