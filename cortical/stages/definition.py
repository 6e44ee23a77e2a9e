"""Pipelines as data: what a definition may say, read from a dictionary or from TOML, YAML or JSON.

The classes here are what is read and what the JSON schema for editors (`pipeline.schema.json`) is made of; so the
two cannot differ. They are msgspec structs because msgspec does both.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from cortical.core.checks import require_finite, require_keys, shown
from cortical.core.errors import InvalidInput
from cortical.core.extras import require_extra
from cortical.stages.declared import ID
from cortical.stages.errors import DefinitionError

S = TypeVar("S", bound=Struct)

#: Where the JSON schema stands, for editors.
SCHEMA: Final = Path(__file__).with_name("pipeline.schema.json")

_Id = Annotated[str, Meta(pattern=ID, description="The id of a stage, scope:name.")]


class StageEntry(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A stage, by its id."""

    id: _Id
    version: Annotated[str, Meta(description="The versions of it that will do, such as >=1,<2; all by default.")] = ""
    after: Annotated[list[_Id], Meta(description="The stages it waits for.")] = []
    before: Annotated[list[_Id], Meta(description="The stages that wait for it.")] = []


class Definition(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A pipeline: its stages, and which waits for which."""

    name: Annotated[str, Meta(min_length=1, description="What it is called in the log.")]
    stages: Annotated[list[StageEntry | _Id], Meta(description="Its stages; a text stands for an id alone.")]
    description: Annotated[str, Meta(description="What it is for.")] = ""
    inputs: Annotated[list[str], Meta(description="Keys of the context that are given at the start.")] = []
    providers: Annotated[dict[str, _Id], Meta(description="By capability, the stage that is to provide it.")] = {}
    edges: Annotated[
        list[tuple[_Id, _Id]], Meta(description="Pairs of stages: the one waited for, and the one that waits.")
    ] = []


def schema() -> dict[str, Any]:
    """The JSON schema of a definition, as it stands in `pipeline.schema.json`."""
    made = msgspec.json.schema(Definition)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A pipeline of cortical", **made}


def to_definition(value: object, where: str) -> Definition:
    """What plain values define.

    Args:
        where: what they were read from, for messages.

    Raises:
        DefinitionError: a key is unknown (the message names the nearest), missing, or its value of no use.
    """
    if not isinstance(value, Mapping):
        raise DefinitionError(where, f"a pipeline is a table with a name and stages, not {type(value).__name__}")
    try:
        require_finite(value, "the pipeline")
        require_keys(value, Definition.__struct_fields__, "the pipeline")
        entries = value.get("stages")
        for number, entry in enumerate(entries if isinstance(entries, list | tuple) else ()):
            if isinstance(entry, Mapping):
                require_keys(entry, StageEntry.__struct_fields__, f"stages[{number}]")
        return converted(value, Definition)
    except InvalidInput as error:
        raise DefinitionError(where, str(error)) from None
    except msgspec.ValidationError as error:
        raise DefinitionError(where, _taught(str(error))) from None


def converted(value: Mapping[str, Any], kind: type[S]) -> S:
    """The record that plain values describe.

    Raises:
        msgspec.ValidationError: they describe none.
        InvalidInput: a text among them has no form in UTF-8; JSON's escapes can write such.
    """
    try:
        return msgspec.convert(dict(value), kind)
    except UnicodeEncodeError as error:
        raise InvalidInput(f"the text {shown(error.object)} cannot be written as UTF-8: {error.reason}") from None


def read_definition(path: str | Path) -> Definition:
    """What a file defines; its name ends in .toml, .yaml, .yml or .json.

    Raises:
        DefinitionError: it cannot be read, or defines no pipeline.
        MissingExtra: it is YAML, and PyYAML is not installed.
    """
    return to_definition(read_values(path, "a definition"), str(path))


def read_values(path: str | Path, what: str) -> Any:
    """The plain values that stand in a TOML, YAML or JSON file.

    Raises:
        DefinitionError: it cannot be read.
        MissingExtra: it is YAML, and PyYAML is not installed.
    """
    path = Path(path)
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise DefinitionError(str(path), f"the name of {what} ends in {', '.join(_PARSERS)}, not {shown(path.suffix)}")
    try:
        return parse(path.read_text(encoding="utf-8-sig"))  # editors on Windows begin a file with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(str(path), f"it cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise DefinitionError(str(path), f"it is no {path.suffix[1:].upper()}: {error}") from error


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_table)


def _table(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_twice([("", key) for key, _ in pairs])
    return dict(pairs)


def _refuse_twice(keys: Sequence[tuple[str, str]]) -> None:
    """Refuse a key, with what YAML takes it for, that stands twice in one table, as TOML does by itself."""
    if len(set(keys)) < len(keys):
        twice = next(key for number, key in enumerate(keys) if key in keys[:number])
        raise ValueError(f"the key {twice[1]!r} stands twice in one table; take one out")


def _yaml(text: str) -> Any:
    yaml = require_extra("yaml", "yaml", "reading a definition from YAML")
    try:
        return yaml.load(text, _loader(yaml))  # derived from the safe one
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:  # PyYAML stumbles over some tags
        raise ValueError(str(error) if isinstance(error, yaml.YAMLError) else "a tag does not fit its value") from error


def _loader(yaml: Any) -> Any:
    """The safe loader, which also refuses a key that stands twice in one mapping."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            scalars = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            _refuse_twice([(key.tag, key.value) for key in scalars if key.tag != "tag:yaml.org,2002:merge"])
            return node

    return Loader


_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    ".toml": tomllib.loads,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".json": _json,
}


def _taught(message: str) -> str:
    problem, at, spot = message.partition(" - at `$")
    where = spot.rstrip("`").lstrip(".") if at else ""
    hint = "; write it in quotes" if "Expected `str`, got `" in problem else ""
    hint = "; an id is 'scope:name'" if "matching regex" in problem else hint
    return f"{where or 'the pipeline'}: {problem[:1].lower()}{problem[1:]}{hint}"
