"""Values that are taken from somewhere else: ``{"from": "item.path"}`` stands for what is found there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cortical.core.checks import nearest
from cortical.core.errors import InvalidInput


def resolved(value: Any, scope: Mapping[str, Any]) -> Any:
    """`value` with every reference in it, however deep, replaced by what it leads to in `scope`.

    A reference is a mapping of the one key ``from``. What it leads to is taken as it is, never as text.

    Raises:
        InvalidInput: a reference leads nowhere.
    """
    if isinstance(value, Mapping):
        if value.keys() == {"from"}:
            return looked_up(value["from"], scope)
        return {name: resolved(part, scope) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([resolved(part, scope) for part in value])
    return value


def refers(value: Any) -> bool:
    """Whether there is a reference in `value`, however deep."""
    if isinstance(value, Mapping):
        return value.keys() == {"from"} or any(refers(part) for part in value.values())
    return isinstance(value, list | tuple) and any(refers(part) for part in value)


def looked_up(path: object, scope: Mapping[str, Any]) -> Any:
    """What a path (names and positions, joined by dots) leads to in `scope`.

    Raises:
        InvalidInput: it leads nowhere; the message says where it ends, and what there is.
    """
    if not isinstance(path, str) or not path:
        raise InvalidInput(f'a reference is written {{"from": "item.name"}}, not {{"from": {path!r}}}')
    found: Any = scope
    so_far = ""
    for part in path.split("."):
        found = _step(found, part, path, so_far)
        so_far = f"{so_far}.{part}" if so_far else part
    return found


def _step(found: Any, part: str, path: str, so_far: str) -> Any:
    if isinstance(found, Mapping):
        if part in found:
            return found[part]
        names = [str(name) for name in found]
        meant = nearest(part, names) or f"; there is {', '.join(names[:10]) or 'nothing'}"
        raise InvalidInput(f"{path!r} leads nowhere: no {part!r} in {so_far or 'what can be referred to'}{meant}")
    if isinstance(found, Sequence) and not isinstance(found, str | bytes) and part.isdecimal():
        if int(part) < len(found):
            return found[int(part)]
        raise InvalidInput(f"{path!r} leads nowhere: {so_far!r} has {len(found)} parts, numbered from 0")
    raise InvalidInput(f"{path!r} leads nowhere: {so_far!r} is a {type(found).__name__}, which has no {part!r}")
