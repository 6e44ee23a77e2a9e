"""What is needed only by those who ask for it: modules of the extras, imported where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from cortical.core.errors import CorticalError


class MissingExtra(CorticalError, ImportError):
    """A module is not installed; `extra` is the extra of this package that brings it."""

    def __init__(self, what: str, module: str, extra: str) -> None:
        super().__init__(f"{what} needs {module}, which is not installed: pip install 'cortical[{extra}]'")
        self.extra = extra


def require_extra(module: str, extra: str, what: str) -> ModuleType:
    """The module of this name, imported now.

    Args:
        what: what is about to be done with it, for the message.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(what, module.partition(".")[0], extra) from error
