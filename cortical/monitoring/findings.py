"""What monitoring has to say: one thing that is wrong, or may be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, TypeAlias

from attrs import field, frozen

Severity: TypeAlias = Literal["critical", "high", "medium", "low"]

#: The gravest first.
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "high", "medium", "low")


@frozen
class Finding:
    """One thing that is wrong, or may be. `run_id` is None where it is the store; `evidence` holds plain values."""

    severity: Severity
    code: str
    message: str
    run_id: str | None
    evidence: dict[str, Any] = field(factory=dict)
    suggestion: str = ""


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """The gravest first; of one gravity by code and run."""
    return sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), one.code, one.run_id or ""))
