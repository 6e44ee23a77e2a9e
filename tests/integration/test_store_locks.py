"""What two openings of one file in one process mean to others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cortical.control import LoopController
from cortical.reasoning import NestedLoopExecutor
from cortical.store import open_store

_LOOKS = """
import sys
from cortical.store import open_store
store = open_store(sys.argv[1])
print(len(store.roots()))
store.close()
"""


def test_a_second_opening_does_not_cost_the_first_its_locks(tmp_path: Path) -> None:
    """With the file open twice here, another process that comes and goes leaves what is written afterwards in place."""
    path = tmp_path / "s.db"
    with LoopController("loop", store=path) as first:
        open_store(path).close()
        second = open_store(path)
        assert _looked_at(path) == "1\n"
        first.update_state(kept=True)
        second.close()
        assert _looked_at(path) == "1\n"
        with NestedLoopExecutor(store=path) as other:
            assert other.journal.run("loop").data == {"kept": True}
    again = open_store(path)
    assert again.read("loop")[-1].seq == 2
    again.close()


def _looked_at(path: Path) -> str:
    return subprocess.run([sys.executable, "-c", _LOOKS, str(path)], check=True, capture_output=True, text=True).stdout
