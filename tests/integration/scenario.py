"""A tree of loops that is walked from whatever the store says, so that it can be taken up anywhere.

Run as a program (``python -m tests.integration.scenario STORE WRITE MOMENT``) it walks the tree to its end, or until it
kills itself, with a real kill -9, before or after its so-manieth durable write.
"""

from __future__ import annotations

import os
import signal
import sys

from cortical.reasoning import CognitiveLoop, LoopPhase, NestedLoopExecutor
from cortical.store import Store, open_store
from cortical.testing import DyingStore, ProcessDied

#: What each goal is divided into.
PARTS = {
    "shop": ["backend", "frontend", "docs"],
    "backend": ["auth", "orders"],
    "auth": ["tokens"],
    "frontend": ["design"],
}


def walk_tree(store: Store | str) -> str:
    """Start the tree, or take it up where it stands, and walk it to its end. Returns the root's id."""
    executor = NestedLoopExecutor(store=store)
    roots = executor.store.roots()
    root = roots[0].id if roots else executor.start_root("shop", metadata={"customer": "anna"})
    while not executor.get_loop(root).status.ended:
        # The deepest loop that is active: the others wait for it.
        _step(executor, max(executor.get_active_loops(), key=lambda loop: loop.depth))
    executor.close()
    return root


def _step(executor: NestedLoopExecutor, loop: CognitiveLoop) -> None:
    parts = PARTS.get(loop.goal, [])
    missing = parts[len(loop.child_ids) :]
    answers = loop.current_context().answers
    if loop.goal == "docs":
        executor.break_loop(loop.id, "out of scope")
    elif loop.goal == "design":
        executor.fail(loop.id, ConnectionError("the designer is away"))
    elif loop.current_phase is LoopPhase.ANSWER and missing and loop.goal == "backend":
        executor.spawn_children(loop.id, missing)
    elif loop.current_phase is LoopPhase.ANSWER and missing:
        executor.spawn_child(loop.id, missing[0])
    elif not answers:
        executor.record_answer(loop.id, {"phase": str(loop.current_phase), "turn": loop.current_context().iteration})
    elif loop.current_phase is LoopPhase.PRODUCE and loop.goal == "orders" and loop.current_context().notes == []:
        with executor.transaction():
            loop.add_note("two calls, one record")
            executor.update_metadata(loop.id, {"orders": 3})
    elif loop.current_phase is LoopPhase.VERIFY and loop.get_iteration_count(LoopPhase.VERIFY) >= _turns(loop):
        executor.complete(loop.id, sorted(str(value) for value in executor.get_context(loop.id).child_results.values()))
    else:
        executor.advance(loop.id)


def _turns(loop: CognitiveLoop) -> int:
    return 2 if loop.goal in {"orders", "shop"} else 1


def main(path: str, write: str, moment: str) -> None:
    """Walk the tree in the store at `path`, and die at a write."""
    store = DyingStore(open_store(path), int(write), "before" if moment == "before" else "after")
    try:
        walk_tree(store)
    except ProcessDied:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
