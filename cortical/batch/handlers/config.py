"""What a built-in handler's configuration may hold, checked when the batch is defined."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cortical.batch.errors import OutsideWorkspace
from cortical.batch.references import refers, resolved
from cortical.core.checks import shown
from cortical.core.errors import InvalidInput, WrongType


def filled(task: Mapping[str, Any], item: Any, context: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with its references resolved: to the item, to what the context says, to the values given."""
    scope = ChainMap({"item": item}, context)  # type: ignore[arg-type]  # it is only looked at
    return {name: resolved(value, scope) for name, value in task.items()}


def workspace_of(context: Mapping[str, Any]) -> Path:
    """The folder that a handler is confined to.

    Raises:
        InvalidInput: the context names none.
    """
    workspace = context.get("workspace")
    if workspace is None:
        raise InvalidInput('this handler works in a workspace; give it one: {"workspace": folder}')
    return workspace if isinstance(workspace, Path) else Path(workspace)


def fixed(task: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration is the same for every item, and can be checked before there is one."""
    return {name: value for name, value in task.items() if not refers(value)}


def require_inside(path: object) -> Path:
    """A path, if it names something below a folder, whatever links there are in it.

    Raises:
        WrongType: it is no path.
        OutsideWorkspace: it is absolute, or goes up by ``..``.
    """
    if not isinstance(path, str | Path):
        raise WrongType(f"a path is a text, not {shown(path)}")
    given = Path(path)
    if "\0" in str(path):
        raise OutsideWorkspace(path, "holds a null character")
    if given.is_absolute():
        raise OutsideWorkspace(path, "is absolute")
    if ".." in given.parts:
        raise OutsideWorkspace(path, "goes up by '..'")
    return given


def confined(workspace: Path, path: object) -> Path:
    """The place of a path below the workspace, links followed.

    Raises:
        WrongType: it is no path.
        OutsideWorkspace: it is absolute, goes up by ``..``, or a link on the way leads out.
    """
    given = require_inside(path)
    root = workspace.resolve()
    place = (root / given).resolve()
    if not place.is_relative_to(root):
        raise OutsideWorkspace(path, "leads out of the workspace by a link")
    return place
