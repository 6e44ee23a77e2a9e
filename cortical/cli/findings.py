"""What `check` finds in a loop and below it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from attrs import frozen

from cortical.core.journal import Journal
from cortical.core.kinds import LOOP
from cortical.looking.soundness import unsound
from cortical.reasoning import CognitiveLoop
from cortical.reasoning.validator import LoopValidator, Severity
from cortical.reasoning.verifier import AnomalySeverity, QAPVVerifier
from cortical.store import Store

#: How grave a finding can be, the worst first. The first three are a "no", the others are advice.
SEVERITIES: Final = (
    AnomalySeverity.CRITICAL,
    AnomalySeverity.HIGH,
    Severity.ERROR,
    AnomalySeverity.MEDIUM,
    Severity.WARNING,
)
GRAVE: Final = SEVERITIES[:3]


@frozen
class Finding:
    """What in a loop is not as the practice asks: by which rule, how grave, a sentence, and what can be done."""

    id: str
    rule: str
    severity: Severity | AnomalySeverity
    message: str
    suggestions: tuple[str, ...] = ()


@frozen
class Checked:
    """What a check came to: how much was looked at, what makes the tree unsound, and what was found in its loops."""

    id: str
    events: int
    loops: int
    problems: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def well(self) -> bool:
        """Whether nothing grave was found."""
        return not self.problems and not any(finding.severity in GRAVE for finding in self.findings)


def check_below(store: Store, prefix: str) -> Checked:
    """Check the tree of the run that `prefix` begins, and the practice of that run and all loops below it.

    The log is checked before it is folded; when it is unsound, no loop is looked at.

    Raises:
        RunNotFound, AmbiguousId: the prefix does not name one run.
    """
    journal = Journal(store, clock=time)
    run_id = journal.resolve(prefix)
    root_id = store.root_of(run_id)
    assert root_id is not None  # it has just been found
    log = store.read(root_id)
    problems = unsound(log)
    if problems:
        return Checked(run_id, len(log), 0, tuple(problems), ())
    run = journal.run(run_id)
    with journal.holding(run.tree):
        log = store.read(root_id)
        problems = unsound(log, run.tree)
        loops = [below.id for below in run.tree.walk(run) if below.kind == LOOP]
    found = [finding for loop_id in loops for finding in _findings(CognitiveLoop.of(journal, loop_id))]
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Checked(run_id, len(log), len(loops), tuple(problems), tuple(found))


def _findings(loop: CognitiveLoop) -> Iterator[Finding]:
    for result in LoopValidator().validate(loop):
        if not result.passed:
            yield Finding(loop.id, result.rule_name, result.severity, result.message)
    for report in QAPVVerifier.of(loop).check_health():
        yield Finding(loop.id, report.anomaly_type, report.severity, report.description, report.suggestions)
