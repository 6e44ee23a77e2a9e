"""What a batch refuses, and what it raises when it is asked to."""

from __future__ import annotations

from cortical.core.errors import CorticalError
from cortical.core.outcome import Failed


class BatchChanged(CorticalError, ValueError):
    """A batch of this name is there already, and was begun with another handler, task or list of items.

    `name` is the batch's; nothing was run.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(
            f'batch {name!r} was begun otherwise: {problem}; give what it was begun with, match="key" to keep the '
            "results of items that have the same key, or another name"
        )
        self.name = name


class BatchFailed(CorticalError, RuntimeError):
    """Too many items of a batch failed, or all of them."""


class ItemFailed(CorticalError, RuntimeError):
    """One item of a batch failed; `failed` is its outcome, with the error, its causes and the number of attempts."""

    def __init__(self, item: object, name: str, index: int, failed: Failed) -> None:
        super().__init__(f"item {index} ({name}): {failed.error}")
        self.item = item
        self.index = index
        self.failed = failed


class ShellFailed(CorticalError, RuntimeError):
    """A command ended with an exit status that was not expected; `stderr` holds what it said last."""

    def __init__(self, command: str, exit_code: int, stderr: str) -> None:
        how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with status {exit_code}"
        said = f": {stderr.strip()[-300:]}" if stderr.strip() else ""
        super().__init__(f"{command} {how}{said}")
        self.exit_code = exit_code
        self.stderr = stderr


class OutsideWorkspace(CorticalError, ValueError):
    """A path leads out of the workspace that a handler is confined to."""

    def __init__(self, path: object, why: str) -> None:
        super().__init__(f"{str(path)!r} {why}; give a path below the workspace, relative to it")
        self.path = path


class ProcessDied(CorticalError, RuntimeError):
    """The process that worked on an item ended before it had a result; the other items are not touched."""

    def __init__(self, exit_code: int | None) -> None:
        how = (
            f"killed by signal {-exit_code}" if exit_code is not None and exit_code < 0 else f"exit status {exit_code}"
        )
        super().__init__(f"the process that worked on this item died ({how}); its result is lost")
        self.exit_code = exit_code
