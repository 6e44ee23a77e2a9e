"""Pipelines as data: read from TOML, YAML and JSON, refused with a lesson, and written out again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cortical.stages import DefinitionError, Pipeline, StageRegistry
from cortical.stages.definition import SCHEMA, schema
from tests.unit.staged import made

FILES = Path(__file__).parents[1] / "data" / "pipelines"


@pytest.fixture
def registry() -> StageRegistry:
    return StageRegistry(
        [
            made("csv:load", version="1.4", provides=["rows"]),
            made("csv:check"),
            made("csv:clean", requires=["rows"]),
            made("csv:report", reads=["folder"]),
        ]
    )


@pytest.mark.parametrize("suffix", ["toml", "yaml", "json"])
def test_files(suffix: str, registry: StageRegistry) -> None:
    """The same pipeline, whatever the file is written in."""
    pipeline = Pipeline.from_file(FILES / f"report.{suffix}", registry)
    assert pipeline.validate() == []
    assert pipeline.order() == ["csv:load", "csv:check", "csv:clean", "csv:report"]
    assert (pipeline.name, pipeline.inputs, pipeline.providers) == ("report", ("folder",), {"rows": "csv:load"})
    assert pipeline.description == "Sums up the sales of a folder."
    assert pipeline.digest == Pipeline.from_file(str(FILES / "report.json"), registry).digest


def test_there_and_back(registry: StageRegistry) -> None:
    """What `to_dict` gives, `from_dict` takes: the same pipeline, and the same definition again."""
    read = Pipeline.from_file(FILES / "report.toml", registry)
    again = Pipeline.from_dict(json.loads(json.dumps(read.to_dict())), registry)
    assert again.to_dict() == read.to_dict()
    assert (again.order(), again.digest) == (read.order(), read.digest)
    by_hand = Pipeline("p", registry.list(), [("csv:load", "csv:check")])
    assert by_hand.to_dict()["stages"][0] == {"id": "csv:load", "version": "==1.4"}
    assert Pipeline.from_dict(by_hand.to_dict(), registry.snapshot()).digest == by_hand.digest


def test_stages_that_are_not_there() -> None:
    """A definition may name what does not exist; validating tells of all of it."""
    pipeline = Pipeline.from_dict({"name": "p", "stages": ["csv:load", {"id": "csv:laod"}]}, {})
    assert [problem.kind for problem in pipeline.validate()] == ["unknown stage", "unknown stage"]


WRONG: list[tuple[Any, str]] = [
    ({"name": "p"}, "missing required field `stages`"),
    ({"stages": []}, "missing required field `name`"),
    ({"name": "", "stages": []}, "name: "),
    ({"name": "p", "stages": [], "edgse": []}, "did you mean 'edges'"),
    ({"name": "p", "stages": [], "colour": 1}, "there are name, stages"),
    ({"name": "p", "stages": [], 3: 1}, "the key 3"),
    ({"name": "p", "stages": "csv:load"}, "stages: expected `array`"),
    ({"name": "p", "stages": ["load"]}, "an id is 'scope:name'"),
    ({"name": "p", "stages": [{"id": "csv:load", "verison": "1"}]}, "stages[0] has the key 'verison'"),
    ({"name": "p", "stages": [{"id": "csv:load", "version": 1.0}]}, "write it in quotes"),
    ({"name": "p", "stages": [{"id": "csv:load", "version": "two"}]}, "a range of versions"),
    ({"name": "p", "stages": ["a:b", "a:b"]}, "has a stage 'a:b' already"),
    ({"name": "p", "stages": [], "edges": [["a:b"]]}, "edges[0]"),
    ({"name": "p", "stages": [], "inputs": [" "]}, "is empty"),
    ([], "a table with a name and stages, not list"),
    (None, "not NoneType"),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG)
def test_what_is_refused(wrong: Any, says: str) -> None:
    """What cannot be is refused with the spot, and the nearest right key."""
    with pytest.raises(DefinitionError) as refusal:
        Pipeline.from_dict(wrong, {})
    assert says in str(refusal.value)
    assert refusal.value.where == "the definition"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("p.toml", "name = ", "it is no TOML"),
        ("p.json", "{", "it is no JSON"),
        ("p.yaml", "a: [", "it is no YAML"),
        ("p.yaml", "!!python/object:os.system {}", "it is no YAML"),
        ("p.json", "[" * 100_000, "it is no JSON"),
        ("p.txt", "", "ends in .toml, .yaml, .yml, .json, not '.txt'"),
        ("p.yml", "", "not NoneType"),
        ("p.json", "3", "not int"),
    ],
)
def test_files_that_are_refused(name: str, text: str, says: str, tmp_path: Path) -> None:
    """A file that cannot be read says so, with its name."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DefinitionError) as refusal:
        Pipeline.from_file(path, {})
    assert says in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """A missing file and one that is no text are told with their names."""
    with pytest.raises(DefinitionError, match="cannot be read"):
        Pipeline.from_file(tmp_path / "none.toml", {})
    (tmp_path / "p.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DefinitionError, match="cannot be read"):
        Pipeline.from_file(tmp_path / "p.json", {})


def test_a_missing_extra() -> None:
    """Without PyYAML, a YAML file is refused with the name of the extra."""
    code = (
        "import sys; sys.modules['yaml'] = None\n"
        "from cortical.stages import Pipeline\n"
        f"Pipeline.from_file({str(FILES / 'report.yaml')!r}, {{}})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtra" in done.stderr
    assert "pip install 'cortical[yaml]'" in done.stderr


# The schema


def test_the_schema_is_that_of_the_reader() -> None:
    """The file shipped for editors is what the reader's own classes say."""
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == schema()


def agrees(value: Any, rule: Mapping[str, Any]) -> bool:
    """Whether a value is what this much of JSON Schema allows: what the schema of pipelines is made of."""
    if "$ref" in rule:
        return agrees(value, schema()["$defs"][rule["$ref"].rpartition("/")[2]])
    if "anyOf" in rule:
        return any(agrees(value, one) for one in rule["anyOf"])
    match rule["type"], value:
        case "string", str():
            fits = "pattern" not in rule or re.search(rule["pattern"], value) is not None
            return fits and len(value) >= rule.get("minLength", 0)
        case "array", list():
            rules = rule.get("prefixItems", [rule["items"]] * len(value))
            enough = rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value))
            return enough and all(map(agrees, value, rules))
        case "object", dict():
            known, others = rule.get("properties", {}), rule.get("additionalProperties", True)
            if not set(rule.get("required", ())) <= value.keys():
                return False
            if others is False and not value.keys() <= known.keys():
                return False
            return all(agrees(item, known.get(key, others)) for key, item in value.items())
    return False


#: What a schema cannot say: a range of versions, one id twice, a blank key.
BEYOND = ("a range of versions", "has a stage 'a:b' already", "is empty")


@pytest.mark.parametrize(("value", "says"), [(value, says) for value, says in WRONG if says not in BEYOND])
def test_the_schema_refuses_what_the_reader_refuses(value: Any, says: str) -> None:
    """An editor marks what reading would refuse."""
    assert not agrees(value, schema())


def test_the_schema_takes_what_the_reader_takes() -> None:
    """An editor finds nothing wrong with what can be read."""
    assert agrees(json.loads((FILES / "report.json").read_text()), schema())
    assert agrees({"name": "p", "stages": []}, schema())
