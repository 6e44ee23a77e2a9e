"""A loop that reads a service which fails in every way there is, and what follows each of them.

::

    python examples/flaky_service.py                     # a few seconds
    python examples/flaky_service.py --seed 7 --store flaky.db
    cortical why flaky-service --store flaky.db          # afterwards: why it stands where it stands

The service is a small HTTP server of this program's own. It has a price on each of its pages; the loop reads one page
an iteration and adds them up. Some pages fail: for a moment, for long, for ever, or because the loop's own program is
wrong. Each failure has a class, and for each class the recovery policy has a line of strategies: try again, restore
the latest checkpoint, leave the page out, block until somebody has seen to it, give up. Twice a person has to
help; this program plays that person too. In the end the sum is compared with what the service knows.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, TextIO

from cortical.control import Done, LoopController, LoopResult, State, StatePersistenceManager
from cortical.core.events import Event, Noted
from cortical.core.policy import ONCE, Retry
from cortical.core.status import Status
from cortical.recovery import (
    Case,
    Classification,
    ErrorClass,
    LoopRecoveryManager,
    RecoveryPolicy,
    skip,
)

LOOP: Final = "flaky-service"
PAGES: Final = 24
CLEAN: Final = 4  # the first pages are well, so that there is a checkpoint when something is to be restored
CHECKPOINT_EVERY: Final = 3
PATIENCE: Final = 0.5  # seconds for an answer

RESET, SLOW, GARBAGE, NO_PRICE = "reset", "slow", "garbage", "no price"
#: What a page does before it answers as it should; where it ends in "for ever" it never does of its own accord.
TROUBLES: Final[tuple[tuple[int | str, ...], ...]] = (
    (503,),
    (503, 503),
    (RESET,),
    (SLOW,),
    (429,),
    (503, 503, 503),
    (507,),
    (424, "for ever"),
    (GARBAGE, "for ever"),
    (NO_PRICE, "for ever"),
)

# The service


class Service(ThreadingHTTPServer):
    """Answers ``GET /page/N``, or fails as its script for that page says."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.prices = {page: chance.randrange(100, 1000) for page in range(1, PAGES + 1)}
        troubled = sorted(chance.sample(range(CLEAN + 1, PAGES + 1), len(TROUBLES)))
        troubles = chance.sample(TROUBLES, len(TROUBLES))
        self.script = {page: list(trouble) for page, trouble in zip(troubled, troubles, strict=True)}
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), Page)

    def next_trouble(self, page: int) -> int | str | None:
        """What the page does this time; None when it is well."""
        script = self.script.get(page, [])
        if script[1:] == ["for ever"]:
            return script[0]
        return script.pop(0) if script else None

    def mend(self, trouble: int | str) -> None:
        """See to it that nothing fails in this way any more."""
        self.script = {page: script for page, script in self.script.items() if trouble not in script}


class Page(BaseHTTPRequestHandler):
    """One request."""

    server: Service

    def do_GET(self) -> None:
        """Answer, or fail."""
        page = int(self.path.rpartition("/")[2])
        match self.server.next_trouble(page):
            case None:
                self._send(200, json.dumps({"page": page, "price": self.server.prices[page]}))
            case int(status):
                self._send(status, "")
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.rfile.close()
                self.connection.close()
            case "slow":
                self.server.closing.wait(3 * PATIENCE)
            case "garbage":
                self._send(200, '{"page": 1')
            case "no price":
                self._send(200, json.dumps({"page": page, "price": None, "prices": [self.server.prices[page]]}))

    def _send(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the table says it."""


@contextmanager
def serving(seed: int) -> Iterator[Service]:
    """The service, for as long as the context lasts."""
    with Service(seed) as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield service
        finally:
            service.closing.set()
            service.shutdown()
            thread.join()


# The client


class Refused(Exception):
    """The service answered with another status than 200."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"HTTP {status} {reason}")
        self.status = status


def fetch(port: int, page: int) -> dict[str, Any]:
    """A page of the service, as it is."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", f"/page/{page}")
        answer = connection.getresponse()
        if answer.status != 200:
            raise Refused(answer.status, answer.reason)
        found: dict[str, Any] = json.loads(answer.read())
        return found
    finally:
        connection.close()


def price_of(found: dict[str, Any]) -> int:
    """The price on a page, by somebody who did not know that a page may have several."""
    return int(found["price"])


def mended_price_of(found: dict[str, Any]) -> int:
    """The price on a page, or the sum of its prices."""
    return sum(found.get("prices") or [found["price"]])


def adding_up(port: int, price: Callable[[dict[str, Any]], int]) -> Callable[[dict[str, Any]], State]:
    """The body of the loop: one page an iteration."""

    def add(state: dict[str, Any]) -> State:
        page = state.get("page", 1)
        if page > PAGES:
            return Done("no more pages")
        found = price(fetch(port, page))
        return State(found, page=page + 1, total=state.get("total", 0) + found)

    return add


# What follows what


def leave_page_out(case: Case) -> tuple[str, ...]:
    """A strategy of this program's own: note the page, go to the next, and skip the iteration."""
    run = case.target.run
    with StatePersistenceManager(case.target.journal).transaction(run.id) as state:
        page = state.get("page", 1)
        state.set("left_out", [*state.get("left_out", []), page])
        state.set("page", page + 1)
    skip(case)
    return (f"leave page {page} out",)


def policy() -> RecoveryPolicy:
    """The usual table, with what this program knows about its service."""
    known = (
        Classification()
        .with_rule(ErrorClass.RESOURCE, kind=Refused, when=lambda error: error.status == 507)
        .with_rule(ErrorClass.DEPENDENCY, kind=Refused, when=lambda error: error.status == 424)
        .with_rule(ErrorClass.STATE, kind=json.JSONDecodeError)
    )
    waits = Retry(max_attempts=3, delay=0.1, jitter=0.2)
    return RecoveryPolicy(retry=waits, max_recoveries=50, classification=known).with_line(
        ErrorClass.STATE, leave_page_out
    )


# The story


class Table:
    """Prints a line for each page that was read, and for each failure with what followed it."""

    def __init__(self, loop: LoopController, out: TextIO) -> None:
        self._loop, self._out = loop, out

    def head(self) -> None:
        """Print the head."""
        self._line("page", "what happened", "class", "what followed")
        self._line("────", "─" * 38, "─" * 11, "─" * 44)

    def hear(self, event: Event) -> None:
        """An event of the loop."""
        match event:
            case Noted(topic="result", value=int(cents)):
                self._line(self._loop.get_state()["page"] - 1, f"{cents / 100:.2f}")
            case Noted(topic="attempt", value={"error": error, "class": kind}):
                self._error = str(error).removeprefix(f"{__name__}.")
                self._page = self._loop.get_state().get("page", 1)
            case Noted(topic="recovery", value={"by_hand": False, "actions": actions, "class": kind}):
                self._line(self._page, self._error, kind, "; ".join(actions) or "give up: the loop ends")

    def by_hand(self, what: str) -> None:
        """What a person did."""
        self._line("", "", "", f"✋ {what}")

    def _line(self, page: int | str, happened: str, kind: str = "", followed: str = "") -> None:
        print(f"{page:>4}  {happened[:38]:38}  {kind:11}  {followed}".rstrip(), file=self._out, flush=True)


def tell(seed: int, store: Path | None, out: TextIO) -> bool:
    """Read all pages, whatever they do; whether the sum is right in the end."""
    with (
        serving(seed) as service,
        LoopRecoveryManager(store, policy=policy(), random=random.Random(seed).random) as manager,
    ):
        manager.set_auto_recovery(True, max_recoveries=50)
        loop = LoopController(LOOP, store=manager, recovery=manager, retry=ONCE)
        loop.set_checkpoint_interval(CHECKPOINT_EVERY)
        table = Table(loop, out)
        manager.journal.subscribe(table.hear)
        table.head()
        result = drive(loop, manager, service, table)
        return report(result, loop, manager, service, out)


def drive(loop: LoopController, manager: LoopRecoveryManager, service: Service, table: Table) -> LoopResult:
    """Run the loop to its end, and be the person whom it needs twice."""
    body = adding_up(service.server_port, price_of)
    while not (result := loop.run(body)).ok:
        if result.status is Status.BLOCKED:
            table.by_hand(f"blocked ({result.details}): mend that, and resume")
            service.mend(424)
            loop.resume()
        else:
            table.by_hand(f"{result.status.value}: mend the program, and recover from the latest checkpoint")
            body = adding_up(service.server_port, mended_price_of)
            if not manager.recover_from_checkpoint(LOOP).success:
                break
    return result


def report(
    result: LoopResult, loop: LoopController, manager: LoopRecoveryManager, service: Service, out: TextIO
) -> bool:
    """Compare the sum with what the service knows."""
    state, tries = loop.get_state(), manager.get_recovery_history(LOOP)
    left_out = state.get("left_out", [])
    right = sum(price for page, price in service.prices.items() if page not in left_out)
    failed = sum(len(iteration.errors) for iteration in loop.get_execution_history())
    print(
        f"\n{result.status.value} after {result.iterations} iterations: {failed} failures, {len(tries)} tries to "
        f"recover, {sum(one.continued_as is not None for one in tries) + 1} lives",
        file=out,
    )
    print(f"pages left out: {left_out}; total {state['total'] / 100:.2f}, by the service {right / 100:.2f}", file=out)
    return bool(state["total"] == right)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=4, help="which pages fail, and how")
    parser.add_argument("--store", type=Path, help="keep the loop in this file, which is made")
    given = parser.parse_args(arguments)
    if given.store is not None and given.store.exists():
        parser.error(f"{given.store} is there already; name another, so that the story begins at the first page")
    try:
        return 0 if tell(given.seed, given.store, sys.stdout) else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
