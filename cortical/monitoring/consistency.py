"""Whether what is in memory is what the log says: the log is folded anew, and the two are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cortical.core.codec import encode
from cortical.core.errors import EncodeError, RunNotFound
from cortical.core.journal import Journal
from cortical.core.run import Run
from cortical.core.tree import Tree
from cortical.monitoring.findings import Finding


def compare(journal: Journal, run_id: str) -> list[Finding]:
    """Where the tree of this run differs in memory from what its log folds into; empty where it does not.

    The whole log is read, while the tree is held: for a look now and then. What other processes have added, and this
    one has not read yet, is no difference.

    Raises:
        RunNotFound: no run has this id.
        LockTimeout: another thread held the tree for too long.
        StoreError: the store cannot be read.
    """
    tree = journal.run(run_id).tree
    with journal.holding(tree):
        if not tree.position:
            raise RunNotFound(run_id)  # its only record was lost meanwhile
        log = journal.store.read(tree.root.id)[: tree.position]
        if len(log) < tree.position:
            return [_ahead(tree, len(log))]
        return [_differs(run, fields) for run, fields in _differences(tree, Tree.of(log))]


def _differences(tree: Tree, folded: Tree) -> Iterator[tuple[Run, list[str]]]:
    there = {run.id: run for run in folded.walk()}
    for run in tree.walk():
        other = there.pop(run.id, None)
        fields = ["it is in memory alone"] if other is None else _fields(run, other)
        if fields:
            yield run, fields
    for run in there.values():
        yield run, ["it is in the log alone"]


def _fields(run: Run, other: Run) -> list[str]:
    """The names of what differs."""
    ours, theirs = _facts(run), _facts(other)
    return [name for name in ours if not _same(ours[name], theirs[name])]


def _facts(run: Run) -> dict[str, Any]:
    return {
        "status": run.status,
        "seq": run.seq,
        "parent": run.parent_id,
        "visits": [(visit.place, visit.turn, visit.entered_at, visit.left_at, visit.seq) for visit in run.visits],
        "notes": [(entry.seq, entry.topic, entry.value) for entry in run.entries or ()],
        "data": run.data or {},
        "checkpoints": [(made.seq, made.label, made.data) for made in (run.checkpoints or {}).values()],
        "outcome": run.outcome,
        "reason": run.reason,
        "open_children": run.open_children,
        "children": [child.id for child in run.children],
    }


def _same(one: object, other: object) -> bool:
    """Whether they would be written alike; what cannot be written is compared as it shows itself."""
    if one is other:
        return True
    try:
        return encode(_plain(one)) == encode(_plain(other))
    except EncodeError:
        return repr(one) == repr(other)


def _plain(value: object) -> object:
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _ahead(tree: Tree, recorded: int) -> Finding:
    return Finding(
        "critical",
        "state_inconsistent",
        f"{tree.position} events of this tree are in memory, but only {recorded} in its log",
        tree.root.id,
        {"in_memory": tree.position, "in_log": recorded},
        "a relaxed store may be about to write them (`journal.flush()`); else `journal.forget()`, and look again",
    )


def _differs(run: Run, fields: Sequence[str]) -> Finding:
    return Finding(
        "critical",
        "state_inconsistent",
        f"{run.kind} {run.name!r} is not in memory what its log says: {', '.join(fields)}",
        run.id,
        {"differs": list(fields)},
        "something has changed it without recording it; `journal.forget()` reads it anew from its log",
    )
