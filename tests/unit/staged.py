"""Stages for tests."""

from __future__ import annotations

from typing import Any

from cortical.stages import FunctionStage, StageContext, stage


def made(name: str, **options: Any) -> FunctionStage:
    """A stage that does nothing; of the category `s` where the name says none."""

    def nothing(context: StageContext) -> None: ...

    return stage(name if ":" in name else f"s:{name}", **options)(nothing)
