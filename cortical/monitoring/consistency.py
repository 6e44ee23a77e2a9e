"""Whether what is in memory is what the log says: the log is folded anew, and the two are compared."""

from __future__ import annotations

from cortical.core.comparing import Difference, differences
from cortical.core.errors import RunNotFound
from cortical.core.journal import Journal
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
        return [_differs(found) for found in differences(tree, log)]


def _ahead(tree: Tree, recorded: int) -> Finding:
    return Finding(
        "critical",
        "state_inconsistent",
        f"{tree.position} events of this tree are in memory, but only {recorded} in its log",
        tree.root.id,
        {"in_memory": tree.position, "in_log": recorded},
        "a relaxed store may be about to write them (`journal.flush()`); else `journal.forget()`, and look again",
    )


def _differs(found: Difference) -> Finding:
    run = found.run
    fields = [f"it is in {'memory' if found.alone == 'memory' else 'the log'} alone"] if found.alone else found.fields
    return Finding(
        "critical",
        "state_inconsistent",
        f"{run.kind} {run.name!r} is not in memory what its log says: {', '.join(fields)}",
        run.id,
        {"differs": list(fields)},
        "something has changed it without recording it; `journal.forget()` reads it anew from its log",
    )
