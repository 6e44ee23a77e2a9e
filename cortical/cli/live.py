"""A tree while it is driven: drawn again and again in a terminal, a line for each event elsewhere; and Ctrl-C.

What is shown is read from the store, as any other process could: the driver is not held up by it, and what another
process does to the tree is seen too.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from threading import Thread
from typing import Final, NoReturn, Protocol, TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from cortical.agents.driver import Driver
from cortical.cli.events import event_line
from cortical.cli.render import console, counted_runs, drawing, print_line, under_way_first
from cortical.cli.session import command_line, interrupted_status, on_stop, remember, say
from cortical.cli.text import amount, duration, id_length
from cortical.core.budget import CONSUMED, Account
from cortical.core.events import Event
from cortical.core.safe_text import counted
from cortical.core.tree import Tree
from cortical.store import Store

T = TypeVar("T")

_TICK_SECONDS: Final = 0.2
#: Lines of the terminal that are not the tree's: the summary, the budget, the hint, and where the cursor stands.
_KEPT_LINES: Final = 4
_FEWEST_LINES: Final = 5


def drive(driver: Driver, store_place: str | None, *, shown_from: int = 0) -> bool:
    """Drive a tree until it has ended or can go no further, and show it meanwhile on standard error.

    The first Ctrl-C (or SIGTERM, or SIGHUP) lets the open phases finish, and begins no others; a second one ends this
    process at once.

    Args:
        driver: drives it, in a thread of its own.
        store_place: where the store was said to be, for what a person is told to type.
        shown_from: the position in the log from which on events are shown as lines.

    Returns:
        Whether it was asked to stop.

    Raises:
        Whatever the driver raises.
    """
    done: Future[object] = Future()
    shown = Shown(driver.journal.store, driver.root_id)
    with _interrupts() as pressed:
        Thread(target=_settle, args=(done, driver.drive), name="cortical-driver").start()
        try:
            with _view(console(stderr=True), shown, shown_from) as view:
                while not wait([done], _TICK_SECONDS).done and len(pressed) < 2:
                    if pressed:
                        driver.drain()
                    view.update(draining=bool(pressed))
                view.update(draining=bool(pressed))
        except BaseException:
            driver.drain()  # the store is about to be closed: nothing may go on without it
            wait([done])
            raise
        if not done.done():
            _stop_at_once(driver, store_place)
    done.result()
    return bool(pressed)


class Shown:
    """A tree as the store has it, folded further each time that somebody looks."""

    def __init__(self, store: Store, root_id: str) -> None:
        self.tree = Tree()
        self._store = store
        self._root_id = root_id

    def added(self) -> Sequence[Event]:
        """The events that were recorded since the last call, which the tree now holds."""
        events = self._store.read(self._root_id, self.tree.position)
        for event in events:
            self.tree.fold((event,))
        return events


class View(Protocol):
    """What keeps a person informed."""

    def update(self, *, draining: bool) -> None:
        """Show how the tree stands now."""
        ...


class LiveTree:
    """The tree, drawn over itself."""

    def __init__(self, live: Live, shown: Shown) -> None:
        self._live = live
        self._shown = shown

    def update(self, *, draining: bool) -> None:
        """Draw how the tree stands now."""
        self._shown.added()
        out = self._live.console
        room = max(_FEWEST_LINES, out.height - _KEPT_LINES)
        self._live.update(frame(self._shown.tree, time.time(), room=room, draining=draining), refresh=True)


class EventLines:
    """A line for each event, and one when it is being stopped."""

    def __init__(self, out: Console, shown: Shown, start: int) -> None:
        self._out = out
        self._shown = shown
        self._start = start
        self._draining = False

    def update(self, *, draining: bool) -> None:
        """Print what has happened since."""
        position = self._shown.tree.position
        events = self._shown.added()[max(0, self._start - position) :]
        if events:
            length = id_length(run.id for run in self._shown.tree.walk())
            for event in events:
                print_line(self._out, event_line(self._out, event, id_length=length))
        if draining and not self._draining:
            self._draining = True
            print_line(self._out, _hint(draining=True))


def frame(tree: Tree, now: float, *, room: int, draining: bool = False) -> Group:
    """The tree in `room` lines at most, those that are open first; how many loops stand how; budget; and Ctrl-C."""
    runs = list(tree.walk())
    chosen = under_way_first(runs, room)
    ended_at = tree.root.ended_at
    took = duration(tree.root.seconds(now))
    hidden = f" ({len(runs) - len(chosen):,} not shown)" if len(chosen) < len(runs) else ""
    summary = _line(f"{counted(len(runs), 'loop')}{hidden}: {counted_runs(runs)}; {took}", "dim")
    budget_left = _left(tree.root.account) if tree.root.account else ""
    left = [_line(f"left: {budget_left}", "dim")] if budget_left else []
    hint = [_hint(draining=draining)] if ended_at is None else []
    return Group(drawing(chosen, now), summary, *left, *hint)


def _left(account: Account) -> str:
    """What is left of what is used up, where it is limited."""
    limited = [name for name in CONSUMED if name in account.limit]
    return ", ".join(f"{amount(account.available(name))} of {amount(account.limit[name])} {name}" for name in limited)


def _hint(*, draining: bool) -> Text:
    if draining:
        return _line("stopping after the open phases; Ctrl-C again stops at once", "yellow")
    return _line("Ctrl-C lets the open phases finish, and stops", "dim")


def _line(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


@contextmanager
def _view(out: Console, shown: Shown, start: int) -> Iterator[View]:
    if not out.is_terminal or out.is_dumb_terminal:
        yield EventLines(out, shown, start)
        return
    with Live(
        console=out, auto_refresh=False, redirect_stdout=sys.stdout.isatty(), vertical_overflow="visible"
    ) as live:
        yield LiveTree(live, shown)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect what asks this process to stop, instead of being interrupted by it."""
    pressed: list[int] = []

    def press(number: int, frame: object) -> None:
        remember(number)
        pressed.append(number)

    before = on_stop(press)
    try:
        yield pressed
    finally:
        for number, handler in before:
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _settle(done: Future[T], work: Callable[[], T]) -> None:
    try:
        done.set_result(work())
    except BaseException as failure:  # noqa: BLE001  # raised again by the thread that waits
        done.set_exception(failure)


def _stop_at_once(driver: Driver, store_place: str | None) -> NoReturn:
    """End this process without waiting for its threads, and let another take up the tree at once."""
    store, root_id = driver.journal.store, driver.root_id
    lease = store.lease_of(root_id)
    if lease is not None and lease.fence == driver.journal.fences.get(root_id):
        store.release_lease(lease)
    again = command_line("resume", root_id, store_place)
    say(f"stopped at once; the phases that were open are entered again by: {again}")
    sys.stdout.flush()
    os._exit(interrupted_status())
