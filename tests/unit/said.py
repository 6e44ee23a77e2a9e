"""What a command said, for the tests of commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from attrs import frozen


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
