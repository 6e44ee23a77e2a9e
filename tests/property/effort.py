"""How hard the tests of this folder try: `CORTICAL_FUZZ=20` in the environment gives each twenty times its examples."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_TIMES = int(os.environ.get("CORTICAL_FUZZ", "1"))


def effort(examples: int, steps: int = 50) -> settings:
    """Settings for so many examples (of so many steps), or as many times that as the environment says."""
    return settings(
        max_examples=examples * _TIMES,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


def seeds(count: int) -> range:
    """So many seeds, or as many times that as the environment says."""
    return range(count * _TIMES)
