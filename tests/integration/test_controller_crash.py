"""Controlled loops whose process dies, or that two processes want."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

from cortical.control import LoopController, LoopResult, State, max_iterations
from cortical.core.errors import LeaseHeld
from cortical.core.status import Status, TerminationReason
from cortical.store import MemoryStore, Store, open_store
from cortical.testing import crash_everywhere
from tests.integration.looping import ITERATIONS, drive
from tests.processes import unmeasured

_DRIVES = """
import sys
from cortical.control import LoopController, State, max_iterations
from cortical.core.errors import LeaseHeld

def body(state):
    with open(sys.argv[2], "a") as file:
        file.write(f"{state.get('number', 0) + 1}\\n")
    return State(number=state.get("number", 0) + 1)

print("ready", flush=True)
sys.stdin.readline()
with LoopController("loop", store=sys.argv[1], stop_when=max_iterations(300)) as controller:
    try:
        print(controller.run(body).iterations)
    except LeaseHeld as held:
        print("refused", held.holder)
"""


def test_every_write() -> None:
    """A crash before or after any durable write of a loop, taken up again, gives the same loop."""

    def scenario(store: Store) -> LoopResult:
        controller = LoopController("loop", store=store, stop_when=max_iterations(4))
        controller.set_checkpoint_interval(2)
        return controller.run(lambda state: State(len(state), **{f"k{len(state)}": None}))

    assert crash_everywhere(scenario).crashes >= 10


def test_kill_at_fifty_moments(tmp_path: Path) -> None:
    """Killed with kill -9 fifty times, every finished iteration is there, none twice, and it runs on to its end."""
    path = tmp_path / "loops.db"
    dice = random.Random(11)
    kills = 0
    while kills < 50:
        store = open_store(path)
        seen = LoopController("loop", store=store).get_state().get("seen", [])
        assert seen == list(range(1, len(seen) + 1))
        store.close()
        moment = dice.choice(["before", "after", "body"])
        at = len(seen) + 1 if moment == "body" else dice.randrange(1, 5)
        arguments = [sys.executable, "-m", "tests.integration.looping", str(path), str(at), moment]
        done = subprocess.run(arguments, env=unmeasured(), check=False)
        assert done.returncode == -signal.SIGKILL
        kills += 1
    store = open_store(path)
    result = drive(store)
    assert (result.iterations, result.reason) == (ITERATIONS, TerminationReason.MAX_ITERATIONS)
    controller = LoopController("loop", store=store)
    assert controller.get_state()["seen"] == list(range(1, ITERATIONS + 1))
    assert [one.result for one in controller.get_execution_history()] == list(range(1, ITERATIONS + 1))
    assert store.check() == []
    store.close()


def test_two_processes_drive_one_loop(tmp_path: Path) -> None:
    """Of two processes that run one loop at once, one drives; the other is refused by name; nothing is lost."""
    path, side = tmp_path / "loops.db", tmp_path / "side"
    LoopController("loop", store=path).close()
    arguments = [sys.executable, "-c", _DRIVES, str(path), str(side)]
    processes = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    said = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        said.append(process.communicate()[0].strip())
        assert process.returncode == 0
    drove = [text for text in said if text == "300"]
    refused = [text for text in said if text.startswith("refused process ")]
    assert (len(drove), len(drove) + len(refused)) in ((1, 2), (2, 2))  # the second may come when all is done
    assert side.read_text().split() == [str(number) for number in range(1, 301)]


def test_another_process_stops_a_loop(tmp_path: Path) -> None:
    """A stop written by another opening of the store ends the loop that is driven; its iteration is not recorded."""
    path = tmp_path / "loops.db"
    with LoopController("loop", store=path) as controller, LoopController("loop", store=path) as other:

        def body(state: dict[str, object]) -> State:
            if state.get("number") == 3:
                other.stop("from outside")
            return State(number=int(str(state.get("number", 0))) + 1)

        result = controller.run(body)
        assert (result.status, result.reason) == (Status.ABANDONED, TerminationReason.MANUAL)
        assert (result.details, result.iterations) == ("from outside", 3)
        assert other.get_state() == {"number": 3}


def test_a_loop_is_driven_once(tmp_path: Path) -> None:
    """While a loop is driven, another opening of the store is refused with the holder's name."""
    store = MemoryStore()
    controller, other = LoopController("loop", store=store), LoopController("loop", store=store)
    told: list[str] = []

    def body(state: dict[str, object]) -> None:
        try:
            other.run(lambda state: None)
        except LeaseHeld as held:
            told.append(held.holder)
        controller.stop()

    controller.run(body)
    assert len(told) == 1
    assert told[0].startswith("process ")
