"""Work that a function begins below its own run: found again when the function is called again, and driven by one.

A stage or a phase that starts a pipeline, a process or an agent is called again after a crash, or for another attempt.
What it had begun is known by its kind, by a key, and by the visit of the parent during which it was begun. Where the
parent itself takes the place of another run, it names that in `CARRIES_ON`, and what that had begun is found too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from cortical.core import rules
from cortical.core.errors import RunStateError
from cortical.core.journal import Journal
from cortical.core.outcome import Abandoned
from cortical.core.run import Run
from cortical.core.status import TerminationReason
from cortical.core.turns import attempts_here

#: In its metadata, a run names the one that it is another try of. It is no later life of that one (`recovery.lives`),
#: whose data and count of iterations would be its own: it begins anew, and only finds again what that had begun below.
CARRIES_ON: Final = "carries_on"
#: In its metadata, a run that was begun so has the key by which it is found, and the visit of its parent.
BEGUN_AS: Final = "begun_as"
DURING: Final = "during"
#: In its metadata, a controlled loop has the id by which it is taken up, which names it among its siblings.
CONTROLLED: Final = "controlled"

#: What this process drives below other runs: by journal and run, for which attempt at which visit of the parent.
_driven: Final[dict[tuple[int, str], tuple[int, int]]] = {}


def found_by(parent: Run, key: str) -> dict[str, Any]:
    """The metadata by which what is begun below `parent` now is found again."""
    return {BEGUN_AS: key, DURING: 0 if parent.visit is None else parent.visit.seq}


def begun_below(journal: Journal, parent_id: str, kind: str, key: str, *, keeps: str | None = None) -> Run | None:
    """The newest run of this kind that was begun under this key during the parent's present visit; None without one.

    Args:
        keeps: what it has in its metadata, where runs of one kind are driven in several ways.

    Raises:
        RunNotFound: there is no such parent.
    """
    parent: Run | None = journal.refresh(parent_id)
    while parent is not None:
        wanted = found_by(parent, key).items()
        for child in reversed(parent.children):
            kept = child.metadata
            if child.kind == kind and wanted <= kept.items() and (keeps is None or keeps in kept):
                return child
        before = parent.metadata.get(CARRIES_ON)
        parent = journal.refresh(before) if isinstance(before, str) else None
    return None


@contextmanager
def driven_below(journal: Journal, run: Run) -> Iterator[None]:
    """Let it be known that this process drives a run below another."""
    if run.parent is None:
        yield
        return
    this = id(journal), run.id
    _driven[this] = _attempt(run.parent)
    try:
        yield
    finally:
        _driven.pop(this, None)


def let_go(journal: Journal, run: Run) -> Run:
    """End a run that an attempt of its parent still drives whose time was up; the run as it is then.

    Raises:
        RunStateError: it is driven already, by the attempt that is under way.
    """
    this = id(journal), run.id
    if run.reason is not None or run.parent is None or this not in _driven:
        return run
    if _driven[this] == _attempt(run.parent):
        told = f"{run.kind} {run.name!r} is being driven below {run.parent_id!r} already; give each its own key"
        raise RunStateError(told, run.id)
    left_behind = Abandoned("the attempt that drove it was left behind; another has taken its place")
    journal.insist(run.id, rules.end_subtree, left_behind, TerminationReason.TIMEOUT)
    return journal.run(run.id)


def _attempt(run: Run) -> tuple[int, int]:
    """The visit at which a run stands, and how many attempts there have failed."""
    return 0 if run.visit is None else run.visit.seq, attempts_here(run)
