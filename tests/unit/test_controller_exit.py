"""What ends a process is no end of a controlled loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cortical.control import LoopController, State, max_iterations
from cortical.store import open_store


@pytest.mark.parametrize("exits", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_exit_is_never_completed(exits: type[BaseException], tmp_path: Path) -> None:
    """It comes out of `run`, the loop stays open without its iteration, and is taken up where it was."""
    calls: list[int] = []

    def body(state: dict[str, Any]) -> State:
        calls.append(state.get("n", 0))
        if len(calls) == 2:
            raise exits
        return State(n=state.get("n", 0) + 1)

    with LoopController("loop", store=tmp_path / "runs.db", stop_when=max_iterations(3)) as loop:
        with pytest.raises(exits):
            loop.run(body)
        store = open_store(tmp_path / "runs.db", create=False)
        [root] = store.roots()
        store.close()
        assert (root.reason, root.ended_at) == (None, None)
        assert loop.get_state() == {"n": 1}
        assert loop.run(body).iterations == 3
    assert calls == [0, 1, 1, 2]
