"""Reads, writes, copies, moves, deletes and lists files of the workspace, and nothing outside it."""

from __future__ import annotations

import codecs
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from cortical.batch.errors import OutsideWorkspace
from cortical.batch.handlers.config import confined, filled, fixed, require_inside, workspace_of
from cortical.batch.tasks import register_task
from cortical.core.checks import require_flag, require_keys, shown
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.ids import new_id

#: What each action needs, and what it takes beside that and the path.
_ACTION_KEYS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "read": ((), ("encoding",)),
    "write": (("content",), ("encoding",)),
    "append": (("content",), ("encoding",)),
    "copy": (("to",), ("overwrite",)),
    "move": (("to",), ("overwrite",)),
    "delete": ((), ("missing_ok",)),
    "list": ((), ("pattern",)),
}
_KEYS: Final = {"action", "path", *(key for needed, taken in _ACTION_KEYS.values() for key in (*needed, *taken))}


def check(task: Mapping[str, Any]) -> None:
    """Refuse a configuration that makes no sense, before anything is run."""
    require_keys(task, sorted(_KEYS), "a file task")
    action = task.get("action")
    if not isinstance(action, str) or action not in _ACTION_KEYS:
        raise InvalidInput(f"a file task's action is one of {', '.join(_ACTION_KEYS)}, not {shown(action)}")
    needed, taken = _ACTION_KEYS[action]
    missing = [key for key in needed if key not in task]
    if missing:
        raise InvalidInput(f"to {action} a file, {missing[0]!r} is needed")
    of_no_use = sorted(task.keys() - {"action", "path", *needed, *taken})
    if of_no_use:
        raise InvalidInput(f"to {action} a file, {of_no_use[0]!r} is of no use")
    _require_sensible(fixed(task))


def _require_sensible(settings: Mapping[str, Any]) -> None:
    for key in ("path", "to"):
        if key in settings:
            require_inside(settings[key])
    for key in ("overwrite", "missing_ok"):
        require_flag(settings.get(key, False), key)
    if "pattern" in settings:
        _require_pattern(settings["pattern"])
    encoding = settings.get("encoding")
    if encoding is not None:
        try:
            codecs.lookup(encoding)
        except (LookupError, TypeError):
            raise InvalidInput(f"encoding is the name of one, such as 'utf-8', not {shown(encoding)}") from None


@register_task("file", check=check)
def file_task(item: Any, task: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
    """Do one ``action`` with the file at ``path``, below the workspace; the item is the path by default.

    ``read`` gives its text, or bytes with ``encoding`` None. ``write`` puts ``content`` in its place, whole or not at
    all; ``append`` adds it; both make the folders that are missing, and give how many bytes they wrote. ``copy`` and
    ``move`` bring it ``to`` another path, which is refused where that is there, unless ``overwrite``. ``delete`` gives
    whether it was there, which with ``missing_ok`` it need not be. ``list`` gives the paths below ``path`` (the
    workspace) that match ``pattern`` (``*``), sorted, relative to the workspace.

    Raises:
        OutsideWorkspace: a path is absolute, goes up by ``..``, or leads out of the workspace by a link.
        OSError: it cannot be done.
    """
    settings = filled(task, item, context)
    workspace = workspace_of(context)
    default = "." if settings["action"] == "list" else item
    settings["path"] = settings.get("path", default)
    return _ACTIONS[settings["action"]](workspace, settings)


def _read(workspace: Path, settings: Mapping[str, Any]) -> str | bytes:
    content = confined(workspace, settings["path"]).read_bytes()
    encoding = settings.get("encoding", "utf-8")
    return content if encoding is None else content.decode(encoding)


def _write(workspace: Path, settings: Mapping[str, Any]) -> int:
    place, content = _place(workspace, settings["path"]), _bytes(settings)
    mode = place.stat().st_mode & 0o7777 if place.exists() else None
    name = place.parent / f".{new_id()}.part"
    try:
        with name.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            name.chmod(mode)
        name.replace(place)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
    return len(content)


def _append(workspace: Path, settings: Mapping[str, Any]) -> int:
    content = _bytes(settings)
    with _place(workspace, settings["path"]).open("ab") as file:
        file.write(content)
    return len(content)


def _copy(workspace: Path, settings: Mapping[str, Any]) -> str:
    source, target = _two(workspace, settings)
    shutil.copy2(source, target)
    return str(target.relative_to(workspace.resolve()))


def _move(workspace: Path, settings: Mapping[str, Any]) -> str:
    source, target = _two(workspace, settings)
    os.replace(source, target)
    return str(target.relative_to(workspace.resolve()))


def _delete(workspace: Path, settings: Mapping[str, Any]) -> bool:
    place = confined(workspace, settings["path"])
    try:
        place.unlink()
    except FileNotFoundError:
        if not settings.get("missing_ok"):
            raise
        return False
    return True


def _list(workspace: Path, settings: Mapping[str, Any]) -> list[str]:
    pattern = _require_pattern(settings.get("pattern", "*"))
    root = workspace.resolve()
    found = confined(workspace, settings["path"]).glob(pattern)
    return sorted(str(path.relative_to(root)) for path in found if path.resolve().is_relative_to(root))


def _require_pattern(pattern: object) -> str:
    if not isinstance(pattern, str) or not pattern:
        raise WrongType(f"a pattern is a text such as '*.txt' or '**/*.txt', not {shown(pattern)}")
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise OutsideWorkspace(pattern, "leads out of the workspace")
    return pattern


_ACTIONS: Final[dict[str, Callable[[Path, Mapping[str, Any]], Any]]] = {
    "read": _read,
    "write": _write,
    "append": _append,
    "copy": _copy,
    "move": _move,
    "delete": _delete,
    "list": _list,
}


def _place(workspace: Path, path: object) -> Path:
    """Where a file is to be written; its folder is made."""
    place = confined(workspace, path)
    if place == workspace.resolve():
        raise InvalidInput("the path is the workspace itself; give one of a file in it")
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _two(workspace: Path, settings: Mapping[str, Any]) -> tuple[Path, Path]:
    source, target = confined(workspace, settings["path"]), _place(workspace, settings["to"])
    if not settings.get("overwrite") and target.exists():
        raise FileExistsError(f"{settings['to']!r} is there already; give overwrite to replace it")
    return source, target


def _bytes(settings: Mapping[str, Any]) -> bytes:
    content = settings["content"]
    if isinstance(content, bytes):
        return content
    if not isinstance(content, str):
        raise WrongType(f"content is a text or bytes, not {type(content).__name__}")
    return content.encode(settings.get("encoding") or "utf-8")
