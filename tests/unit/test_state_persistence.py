"""The state of loops in transactions, its history, its recovery from the log, and packing it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cortical.control import LoopController, State, StatePersistenceManager, max_iterations
from cortical.core.errors import Conflict, EncodeError, LockTimeout, RunNotFound, RunStateError, WrongType
from cortical.core.ports import Store
from cortical.recovery import CheckpointManager
from cortical.store import open_store
from cortical.testing import FakeClock


def test_a_transaction_is_kept_whole(any_store: Store) -> None:
    """What is set and deleted becomes true together, once, and is read back."""
    controller = LoopController("loop", store=any_store, state={"a": 1, "b": 2})
    manager = StatePersistenceManager(controller)
    before = len(any_store.read("loop"))
    with manager.transaction("loop") as tx:
        tx.set("a", 10)
        tx.set("c", None)
        assert tx.delete("b")
        assert not tx.delete("unknown")
        assert (tx.get("a"), tx.get("b", "gone"), tx.get("c", "gone")) == (10, "gone", None)
    assert manager.load_state("loop") == {"a": 10, "c": None}
    assert len(any_store.read("loop")) == before + 1


def test_a_transaction_that_raises_is_undone(any_store: Store) -> None:
    """An exception undoes all of it, values changed in place too, in memory and in the store."""
    controller = LoopController("loop", store=any_store, state={"rows": [1, {"n": [2]}]})
    manager = StatePersistenceManager(controller)

    def change() -> None:
        with manager.transaction("loop") as tx:
            tx.get("rows")[1]["n"].append(3)
            tx.set("x", 1)
            controller.update_state(y=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change()
    assert manager.load_state("loop") == controller.get_state() == {"rows": [1, {"n": [2]}]}
    assert manager.recover_state("loop") == {"rows": [1, {"n": [2]}]}


def test_values_changed_in_place_are_kept(any_store: Store) -> None:
    """A nested value that was got and changed is recorded with the transaction."""
    controller = LoopController("loop", store=any_store, state={"rows": [1, {"n": [2]}], "same": [0]})
    manager = StatePersistenceManager(controller)
    with manager.transaction("loop") as tx:
        tx.get("rows")[1]["n"].append(3)
    assert manager.load_state("loop") == {"rows": [1, {"n": [2, 3]}], "same": [0]}
    assert manager.get_transaction_history("loop")[-1].set == {"rows": [1, {"n": [2, 3]}]}


def test_nothing_changed_is_nothing_recorded(any_store: Store) -> None:
    """A transaction that sets what was there already writes nothing."""
    controller = LoopController("loop", store=any_store, state={"a": 1})
    before = len(any_store.read("loop"))
    with StatePersistenceManager(controller).transaction("loop") as tx:
        tx.set("a", 1)
    assert len(any_store.read("loop")) == before


def test_a_bool_is_not_the_number_it_equals(any_store: Store) -> None:
    """Setting True where 1 was is a change."""
    manager = StatePersistenceManager(LoopController("loop", store=any_store, state={"a": 1}))
    with manager.transaction("loop") as tx:
        tx.set("a", True)
    assert manager.load_state("loop")["a"] is True


def test_saving_replaces_the_state(any_store: Store) -> None:
    """Keys that the saved state lacks are removed; what is no mapping of texts is refused."""
    manager = StatePersistenceManager(LoopController("loop", store=any_store, state={"a": 1, "b": 2}))
    manager.save_state("loop", {"b": 3, "ключ": "значение"})
    assert manager.load_state("loop") == {"b": 3, "ключ": "значение"}
    with pytest.raises(WrongType):
        manager.save_state("loop", [1])  # type: ignore[arg-type]
    with pytest.raises(WrongType):
        manager.save_state("loop", {1: 2})  # type: ignore[dict-item]
    with pytest.raises(RunNotFound):
        manager.load_state("nobody")


def test_one_value_that_cannot_be_kept_spoils_nothing_else(durable: Store) -> None:
    """It raises and names the spot; its transaction is undone, and every later one works."""
    manager = StatePersistenceManager(LoopController("loop", store=durable, state={"a": 1}))

    def change() -> None:
        with manager.transaction("loop") as tx:
            tx.set("a", 2)
            tx.set("lock", threading.Lock())

    with pytest.raises(EncodeError, match=r"data\['lock'\]"):
        change()
    assert manager.load_state("loop") == {"a": 1}
    for n in range(3):
        with manager.transaction("loop") as tx:
            tx.set("a", n)
    assert manager.recover_state("loop") == {"a": 2}


def test_history_tells_every_change(any_store: Store) -> None:
    """Each change and restore is told, oldest first, with its time."""
    clock = FakeClock(100.0)
    controller = LoopController("loop", store=any_store, clock=clock)
    checkpoints = CheckpointManager(controller)
    controller.update_state(a=1)
    made = checkpoints.create_checkpoint("loop", "first")
    clock.advance(5)
    with StatePersistenceManager(controller).transaction("loop") as tx:
        tx.set("b", 2)
        tx.delete("a")
    checkpoints.restore(made.id)
    history = StatePersistenceManager(controller).get_transaction_history("loop")
    told = [(change.at, change.set, change.removed, change.restored) for change in history]
    assert told == [(100.0, {"a": 1}, (), None), (105.0, {"b": 2}, ("a",), None), (105.0, {}, (), made.number)]


def test_the_log_alone_gives_the_state_back(any_store: Store) -> None:
    """With memory forgotten and every checkpoint deleted, the state is that which the log says."""
    controller = LoopController("loop", store=any_store, stop_when=max_iterations(9))
    controller.set_checkpoint_interval(2)
    manager, checkpoints = StatePersistenceManager(controller), CheckpointManager(controller)

    def body(state: dict[str, int]) -> State:
        if state.get("n") == 5:
            for made in checkpoints.get_checkpoints("loop"):
                assert checkpoints.delete_checkpoint(made.id)
        return State(n=state.get("n", 0) + 1)

    controller.run(body)
    manager.clear_cache()
    assert manager.recover_state("loop") == manager.load_state("loop") == {"n": 9}
    assert controller.get_state() == {"n": 9}
    assert [iteration.number for iteration in controller.get_execution_history()] == list(range(1, 10))


def test_memory_is_not_forgotten_inside_a_transaction(any_store: Store) -> None:
    """What is in memory alone would be lost: it is refused."""
    manager = StatePersistenceManager(LoopController("loop", store=any_store))
    with manager.transaction("loop") as tx:
        tx.set("a", 1)
        with pytest.raises(RunStateError, match="transaction"):
            manager.clear_cache()
    assert manager.load_state("loop") == {"a": 1}


def test_packing_loses_nothing(tmp_path: Path) -> None:
    """What is packed can all be read: state, history, iterations, checkpoints; and the loop runs on."""
    clock = FakeClock()
    with LoopController("loop", store=tmp_path / "s.db", clock=clock, stop_when=max_iterations(3000)) as controller:
        controller.set_checkpoint_interval(500)

        def body(state: dict[str, int]) -> State:
            clock.advance(60)
            if state.get("n") == 2000:
                raise KeyboardInterrupt
            return State(f"result {state.get('n', 0)}", n=state.get("n", 0) + 1)

        with pytest.raises(KeyboardInterrupt):
            controller.run(body)
        manager, checkpoints = StatePersistenceManager(controller), CheckpointManager(controller)
        log = controller.store.read("loop")
        before = (
            manager.load_state("loop"),
            manager.get_transaction_history("loop"),
            controller.get_execution_history(),
            [(made.id, made.state) for made in checkpoints.get_checkpoints("loop")],
        )
        clock.advance(86400)
        with pytest.raises(WrongType, match="keep_days is a number, not '1'"):
            manager.compact("loop", keep_days="1")  # type: ignore[arg-type]
        assert manager.compact("loop", keep_days=1) > 10_000
        manager.clear_cache()
        assert controller.store.read("loop") == log
        assert before == (
            manager.load_state("loop"),
            manager.get_transaction_history("loop"),
            controller.get_execution_history(),
            [(made.id, made.state) for made in checkpoints.get_checkpoints("loop")],
        )
        assert checkpoints.restore(before[3][0][0]) == before[3][0][1]
        assert controller.run(lambda state: State(n=state["n"] + 1)).iterations == 3000
        assert controller.store.check() == []


def test_a_lock_not_had_in_time_names_its_holder(any_store: Store) -> None:
    """A second thread waits no longer than it was told, and is told who has the loop."""
    controller = LoopController("loop", store=any_store)
    manager = StatePersistenceManager(controller)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with manager.transaction("loop") as tx:
            tx.set("a", 1)
            entered.set()
            leave.wait(10)

    holder = threading.Thread(target=hold, name="the holder")
    holder.start()
    assert entered.wait(10)
    with pytest.raises(LockTimeout, match="the holder"), manager.transaction("loop", timeout=0.02):
        pytest.fail("the loop was held by another thread")
    leave.set()
    holder.join()
    assert manager.load_state("loop") == {"a": 1}


def test_two_processes_on_one_state(tmp_path: Path) -> None:
    """Of two openings that change one loop in the same moment the second gets Conflict, and nothing is lost."""
    path = tmp_path / "s.db"
    with LoopController("loop", store=path) as first:
        other_store = open_store(path)
        other = StatePersistenceManager(other_store)

        def both_change() -> None:
            with StatePersistenceManager(first).transaction("loop") as tx:
                tx.set("a", 1)
                with other.transaction("loop") as theirs:
                    theirs.set("b", 2)

        with pytest.raises(Conflict):
            both_change()
        assert other.load_state("loop") == {"b": 2}
        with StatePersistenceManager(first).transaction("loop") as tx:
            tx.set("a", tx.get("b") + 1)
        assert first.get_state() == other.load_state("loop") == {"a": 3, "b": 2}
        other_store.close()
