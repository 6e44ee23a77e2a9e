"""Commands and what they said, for the tests of commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import frozen
from typer.testing import CliRunner

from cortical.cli import app


@frozen
class Said:
    """What a command printed and how it ended."""

    out: str
    err: str
    code: int

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cortical = Callable[..., Said]


def command_on(store: Path, *, columns: int | None = 120) -> Cortical:
    """Runs commands on a store, in a terminal of so many columns (None: in a pipe); a call may say something else."""

    def run(
        *arguments: str, columns: int | None = columns, store: Path | str | None = store, input: str | None = None
    ) -> Said:
        environment = {"COLUMNS": str(columns) if columns else None, "CORTICAL_STORE": str(store) if store else None}
        result = CliRunner().invoke(app, arguments, env=environment, prog_name="cortical", input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.stdout, result.stderr, result.exit_code)

    return run
