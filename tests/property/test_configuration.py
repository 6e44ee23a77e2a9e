"""Configurations of every kind, right ones changed at random: taken, and then they work, or refused with a lesson."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from cortical.agents import Agent
from cortical.batch import BatchProcessor, register_task
from cortical.batch.workflow import Workflow
from cortical.batch.workflow_checks import InvalidWorkflow
from cortical.batch.workflow_definition import batch_of
from cortical.control import LoopController
from cortical.core import conditions
from cortical.core.budget import Budget
from cortical.core.errors import CorticalError, InvalidInput, WrongType
from cortical.core.policy import Retry
from cortical.stages import DefinitionError, Pipeline, StageContext, execute, stage
from cortical.stages.definition import read_values
from cortical.stages.loop import ConfigInvalid, StageHandler
from cortical.stages.loop.config import parse
from cortical.store import MemoryStore
from cortical.testing import FakeClock
from tests.property.configurations import BATCH, JUNK, PIPELINE, PROCESS, WORKFLOW, at, changed
from tests.property.effort import effort


@register_task("fuzz.keep")
def keep(item: Any, task: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
    """Gives the task's `value`, or the item."""
    return task.get("value", item)


@stage("t:load", version="1.4", provides=["rows"])
def load(context: StageContext) -> int:
    return 1


@stage("t:sum", requires=["rows"])
def add_up(context: StageContext) -> int:
    return 2


@stage("t:tell", reads=["folder"])
def tell(context: StageContext) -> int:
    return 3


STAGES = {one.id: one for one in (load, add_up, tell)}


def refusal_of(call: Callable[[], Any], *kinds: type[CorticalError]) -> CorticalError | None:
    """The refusal, which is of one of these kinds and can be printed; None when the call was not refused."""
    try:
        call()
    except kinds as refused:
        found = refused
    else:
        return None
    assert str(found).strip()
    assert len(str(found)) < 20_000
    return found


@given(value=changed(PIPELINE))
@effort(150)
def test_pipelines(value: Any) -> None:
    """A definition of a pipeline is refused, or gives a pipeline that says what is wrong with it, or runs."""
    made: list[Pipeline] = []
    if refusal_of(lambda: made.append(Pipeline.from_dict(value, STAGES)), DefinitionError):
        return
    pipeline = made[0]
    again = Pipeline.from_dict(json.loads(json.dumps(pipeline.to_dict())), STAGES)
    assert again.digest == pipeline.digest
    problems = pipeline.validate()
    assert all(str(problem).strip() for problem in problems)
    if not problems:
        assert execute(pipeline, {"folder": "."}, store=MemoryStore(strict=True)).ok


@given(value=changed(WORKFLOW))
@effort(150)
def test_workflows(value: Any) -> None:
    """A definition of a workflow says all that is wrong with it, or runs to an end with typed failures at most."""
    workflow = Workflow(value)
    problems = workflow.validate()
    assert all(isinstance(problem, str) and problem.strip() for problem in problems)
    store = MemoryStore(strict=True)
    if problems:
        assert refusal_of(lambda: workflow.run(store=store, sleep=lambda seconds: None), InvalidWorkflow)
        assert store.roots() == []
        return
    if refusal_of(lambda: workflow.run(store=store, sleep=lambda seconds: None), CorticalError):
        return
    assert store.roots()[0].ended_at is not None
    assert Workflow(json.loads(json.dumps(value, default=str))).validate() == [] or not _is_json(value)


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


@given(value=changed(BATCH))
@effort(100)
def test_batches(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A definition of a batch is refused, or every item of it comes to an end."""
    found: list[Any] = []
    if refusal_of(lambda: found.append(batch_of(value, "it")), DefinitionError):
        return
    definition = found[0]
    batch: list[Any] = []
    made = refusal_of(
        lambda: batch.append(
            BatchProcessor(
                ".",
                definition.name,
                "fuzz.keep",
                store=MemoryStore(strict=True),
                retry=definition.policy,
                timeout=definition.timeout,
                max_concurrency=definition.max_concurrency,
                tolerated_failures=definition.tolerated_failures,
                rate_limit=definition.rate_limit,
                sleep=lambda seconds: None,
            )
        ),
        InvalidInput,
        WrongType,
    )
    if made is None and isinstance(definition.items, list) and len(definition.items) < 50:
        results: list[Any] = []
        if not refusal_of(lambda: results.append(batch[0].run(definition.items, definition.with_)), CorticalError):
            assert len(results[0].outcomes) == len(definition.items)


@given(value=changed(PROCESS))
@effort(200)
def test_loop_stages(value: Any) -> None:
    """A configuration of stages that loop is refused, or can be worked with; a refusal changes nothing."""
    store = MemoryStore(strict=True)
    made: list[StageHandler] = []
    if refusal_of(lambda: made.append(StageHandler(value, store=store, clock=FakeClock())), ConfigInvalid):
        assert store.roots() == []
        return
    handler = made[0]
    if refusal_of(lambda: handler.initialize_process("any"), CorticalError):
        assert store.roots() == []
        return
    calls: list[Callable[..., Any]] = [
        handler.start_stage,
        lambda name: handler.initialize_loop(name, {"more": True}),
        handler.has_next_iteration,
        handler.start_iteration,
        lambda name: handler.complete_iteration(name, True),
        handler.get_loop_summary,
        lambda name: handler.complete_stage(name, False),
        lambda name: handler.export(format="json"),
        lambda name: handler.get_progress(),
    ]
    for name in list(parse(handler.config).stages)[:3]:
        for call in calls:
            before = store.read(handler.process_id)
            if refusal_of(partial(call, name), CorticalError):
                assert store.read(handler.process_id) == before
    again = StageHandler(handler.config, store=store, clock=FakeClock())
    again.resume_process(handler.process_id)
    assert again.get_progress() == handler.get_progress()


def _typos(key: str) -> set[str]:
    """What a slip of the finger makes of a key."""
    slips = {key[:n] + key[n + 1 :] for n in range(1, len(key))} | {key[:n] + key[n] + key[n:] for n in range(len(key))}
    return {slip for slip in slips if slip != key}


TABLES: list[tuple[str, dict[str, Any], tuple[Any, ...], Callable[[Any], list[str]]]] = [
    *(
        ("pipeline", PIPELINE, path, lambda one: _told(lambda: Pipeline.from_dict(one, STAGES)))
        for path in ((), ("stages", 0))
    ),
    *(
        ("workflow", WORKFLOW, path, lambda one: Workflow(one).validate())
        for path in ((), ("steps", 0), ("steps", 1), ("steps", 1, "retry"), ("steps", 2), ("parameters", "folder"))
    ),
    *(("batch", BATCH, path, lambda one: _told(lambda: batch_of(one, "it"))) for path in ((), ("retry",))),
    *(
        ("process", PROCESS, ("stages", "load", *path), lambda one: _told(lambda: parse(one)))
        for path in ((), ("loop_config",), ("loop_config", "retry"), ("substages", "read"))
    ),
]


def _told(call: Callable[[], Any]) -> list[str]:
    return [str(refusal_of(call, CorticalError))]


@pytest.mark.parametrize(("reader", "right", "path", "problems"), TABLES, ids=lambda one: str(one)[:30])
def test_slips_of_the_finger(
    reader: str, right: dict[str, Any], path: tuple[Any, ...], problems: Callable[[Any], list[str]]
) -> None:
    """Any key of any table, mistyped, is refused by name, and the key that was meant is told."""
    import copy

    known = set(at(right, path))
    for key in sorted(known):
        for slip in sorted(_typos(key) - known)[:: max(1, len(key) // 3)]:
            value = copy.deepcopy(right)
            table = at(value, path)
            table[slip] = table.pop(key)
            told = problems(value)
            assert any(repr(slip) in one and f"did you mean {key!r}" in one for one in told), (path, key, slip, told)


def test_every_table_that_is_right_is_taken() -> None:
    """What the other tests change is right before they do."""
    assert Pipeline.from_dict(PIPELINE, STAGES).validate() == []
    assert Workflow(WORKFLOW).validate() == []
    assert batch_of(BATCH, "it").items == ["a", "b"]
    assert list(parse(PROCESS).stages) == ["ask", "load", "count"]


def _toml(value: Any) -> str:
    """Plain values as TOML: each key with its value on a line, which may be an inline table."""
    return "".join(f"{json.dumps(key)} = {_inline(one)}\n" for key, one in value.items())


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(one)}" for key, one in value.items()) + "}"
    return f"[{', '.join(map(_inline, value))}]" if isinstance(value, list) else json.dumps(value)


WRITERS: dict[str, Callable[[Any], str]] = {
    ".toml": _toml,
    ".json": lambda value: json.dumps(value, indent=1),
    ".yaml": lambda value: __import__("yaml").safe_dump(value, sort_keys=False),
    ".yml": lambda value: json.dumps(value),
}
RIGHT = st.sampled_from([PIPELINE, WORKFLOW, BATCH])
PIECES = st.sampled_from(
    [
        *(
            b"\xff",
            b"\0",
            b"\xef\xbb\xbf",
            b"\r",
            b"\t",
            b"\xc3",
            b"\x85",
            b"\\ud800",
            b"9" * 5000,
            b"0x" + b"f" * 5000,
        ),
        *(b"&a [*a]", b"*x", b"!!timestamp x", b"!!int ''", b"!!float x", b"!!bool x", b"!!python/name:os.system"),
        *(
            b"!!binary x",
            b"!!set",
            b"!!omap [1]",
            b"!!pairs {a: 1}",
            b"<<: 3\n",
            b"? [a]\n: b\n",
            b"---\n",
            b"%YAML 9\n",
        ),
        *(b"2026-13-45", b"NaN", b"[" * 400, b"{", b"}", b"'", b'"', b"1e999", b"=", b": ", b"- ", b"#", b"_"),
        *(b"name = 1\n", b'"name": 1,'),
    ]
)


@st.composite
def torn(draw: st.DrawFn, suffix: str) -> bytes:
    """The bytes of a file with a few pieces put in, taken out or cut off."""
    text = bytearray(WRITERS[suffix](draw(RIGHT)).encode())
    for _ in range(draw(st.integers(1, 3))):
        spot = draw(st.integers(0, len(text)))
        match draw(st.sampled_from(["put in", "take out", "cut", "replace"])):
            case "put in":
                text[spot:spot] = draw(PIECES | st.binary(max_size=3))
            case "take out":
                del text[spot : spot + draw(st.integers(1, 20))]
            case "replace":
                end = text.find(b"\n", spot)
                text[spot : end if end > 0 else len(text)] = draw(PIECES)
            case _:
                del text[spot:]
    return bytes(text)


READERS: list[Callable[[Path], Any]] = [
    lambda path: Pipeline.from_file(path, STAGES).validate(),
    lambda path: Workflow.from_file(path).validate(),
    lambda path: batch_of(read_values(path, "a batch's file"), str(path)),
]


@pytest.mark.parametrize("suffix", sorted(WRITERS))
@given(data=st.data())
@effort(70)
def test_torn_files(suffix: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever bytes a file holds, it is read, or refused with its name: never with what a parser stumbled over."""
    path = tmp_path_factory.getbasetemp() / f"torn{suffix}"
    path.write_bytes(data.draw(torn(suffix)))
    for read in READERS:
        refused = refusal_of(partial(read, path), DefinitionError)
        assert refused is None or str(refused).startswith(str(path))


@pytest.mark.parametrize("suffix", sorted(WRITERS))
@pytest.mark.parametrize(
    "encoded",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.rstrip("\n").encode(),
    ],
    ids=["BOM", "CRLF", "no last newline"],
)
def test_files_of_other_editors(suffix: str, encoded: Callable[[str], bytes], tmp_path: Path) -> None:
    """A file is the same with a mark at its beginning, other ends of lines, or none at its end."""
    path = tmp_path / f"p{suffix}"
    path.write_bytes(encoded(WRITERS[suffix](PIPELINE)))
    assert Pipeline.from_file(path, STAGES).digest == Pipeline.from_dict(PIPELINE, STAGES).digest


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("p.json", '{"name": "a", "stages": [], "name": "b"}', "the key 'name' stands twice"),
        ("p.yaml", "name: a\nstages: []\nname: b\n", "the key 'name' stands twice"),
        ("p.toml", "name = 'a'\nname = 'b'\n", "it is no TOML"),
        ("p.yaml", "name: &a [*a]\nstages: []\n", "contains itself"),
        ("p.yaml", "!!timestamp x", "it is no YAML"),
        ("p.json", '{"name": "\\ud800", "stages": ["\\ud800:b"]}', "cannot be written as UTF-8"),
        ("p.toml", "name = 0x" + "f" * 6000, "name: expected `str`"),
    ],
)  # fmt: skip
def test_files_that_are_refused(name: str, text: str, says: str, tmp_path: Path) -> None:
    """Keys that stand twice, values in themselves, tags that do not fit, texts that are none."""
    path = tmp_path / name
    path.write_text(text)
    refused = refusal_of(lambda: Pipeline.from_file(path, STAGES), DefinitionError)
    assert says in str(refused)


def test_anchors_are_read(tmp_path: Path) -> None:
    """YAML's anchors, aliases and merged keys are read, also where a key is merged and given anew."""
    path = tmp_path / "w.yaml"
    path.write_text(
        "name: w\nsteps:\n  - &a {id: a, task: fuzz.keep, timeout: 3}\n"
        "  - &b {<<: *a, id: b}\n  - {<<: *b, id: c, timeout: 4}\n"
    )
    workflow = Workflow.from_file(path)
    assert [(step.id, step.timeout) for step in workflow.definition.steps] == [("a", 3), ("b", 3), ("c", 4)]


def test_laughs_are_refused(tmp_path: Path) -> None:
    """A file of a few lines whose aliases stand for billions of values is refused at once."""
    path = tmp_path / "w.yaml"
    lines = ["a: &a0 [ha, ha]", *(f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 15))]
    path.write_text("\n".join(["name: w", *lines, "steps: [{id: a, task: fuzz.keep, with: {x: *a14}}]"]))
    assert any("values when written out" in one for one in Workflow.from_file(path).validate())


@pytest.mark.parametrize("suffix", [*sorted(WRITERS), "", ".txt", ".JSON"])
def test_files_that_are_none(suffix: str, tmp_path: Path) -> None:
    """A folder, a missing file, an empty one, one of another code, a dangling link, a name that cannot be."""
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"empty{suffix}").touch()
    (tmp_path / f"wide{suffix}").write_text("name: é", encoding="utf-16")
    (tmp_path / f"binary{suffix}").write_bytes(bytes(range(256)) * 50)
    (tmp_path / f"dangling{suffix}").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "empty", "wide", "binary", "dangling", "missing", "a\0b", "x" * 300, "\udc80"):
        for read in READERS:
            if not refusal_of(partial(read, tmp_path / f"{name}{suffix}"), DefinitionError):
                assert name == "empty"  # of which a workflow says itself that there is nothing
                assert read is READERS[1]


NUMBERS = JUNK | st.sampled_from([0, 1, 5, 0.5, 1e9, -0.0])


@given(
    values=st.dictionaries(st.sampled_from([field.name for field in attrs.fields(Retry)]), NUMBERS, max_size=4),
    attempt=st.integers(2, 5000),
)
@effort(200)
def test_retries(values: dict[str, Any], attempt: int) -> None:
    """A retry is refused when it is made, or gives a time that can be waited for before any attempt."""
    made: list[Retry] = []
    if not refusal_of(lambda: made.append(Retry(**values)), InvalidInput, WrongType):
        for random in (None, lambda: 0.0, lambda: 1.0):
            seconds = made[0].seconds_before(attempt, random)
            assert 0 <= seconds <= made[0].max_delay <= 366 * 86400


@given(
    values=st.dictionaries(st.sampled_from([field.name for field in attrs.fields(Budget)]), NUMBERS, max_size=4),
    used=st.floats(0, 1e9),
)
@effort(100)
def test_budgets(values: dict[str, Any], used: float) -> None:
    """A budget is refused when it is made, or can be spent from and is the same to its next reader."""
    from cortical.core import booking
    from cortical.reasoning import NestedLoopExecutor

    made: list[Budget] = []
    if refusal_of(lambda: made.append(Budget(**values)), InvalidInput, WrongType):
        return
    store = MemoryStore(strict=True)
    executor = NestedLoopExecutor(store=store)
    started: list[str] = []
    if refusal_of(lambda: started.append(executor.start_root("g", budget=made[0])), CorticalError):
        return
    root = started[0]
    spent = {"tokens": used, "usd": used}
    for call in (
        lambda: executor.journal.change(root, booking.spend, spent),
        lambda: executor.journal.change(root, booking.reserve, "k", spent),
        lambda: executor.spawn_children(root, ["a", "b"]),
        lambda: executor.export(root),
    ):
        refusal_of(call, CorticalError)
    account, other = (NestedLoopExecutor(store=store).get_loop(root).run.account, executor.get_loop(root).run.account)
    assert (account is None) == (other is None)
    if account is not None and other is not None:
        assert (account.limit, account.spent, account.held) == (other.limit, other.spent, other.held)


MAKERS: list[Callable[..., conditions.Condition]] = [
    conditions.max_iterations,
    conditions.timeout,
    conditions.errors,
    lambda value: conditions.memory(mib=value),
    lambda value: conditions.cpu(seconds=value),
    conditions.open_files,
    lambda value: conditions.resource("tokens", value),
    lambda value: conditions.resource(value, 3),
    lambda value: conditions.when(value),
    lambda value: conditions.max_iterations(2) | value,
]


@given(make=st.sampled_from(MAKERS), value=NUMBERS)
@effort(150)
def test_conditions(make: Callable[..., conditions.Condition], value: Any) -> None:
    """A condition is refused when it is made, or stops a loop with a reason or leaves it be."""
    made: list[conditions.Condition] = []
    if refusal_of(lambda: made.append(make(value)), InvalidInput, WrongType):
        return
    both = made[0] | conditions.max_iterations(2)
    with LoopController("l", store=MemoryStore(strict=True), stop_when=both, clock=FakeClock()) as controller:
        result = controller.run(lambda state: None)
    assert result.reason is not None
    assert result.iterations <= 2


SETTINGS = ["max_concurrency", "workers", "retry", "timeout", "rate_limit", "chunk_size", "fail_fast"]
SETTINGS += ["tolerated_failures", "stop_when", "previous_result", "budget", "lease_seconds", "name", "workspace"]


@given(values=st.dictionaries(st.sampled_from(SETTINGS), NUMBERS, max_size=3))
@effort(150)
def test_batch_settings(values: dict[str, Any]) -> None:
    """What a batch is given is refused before anything is recorded, or it carries out each item."""
    store = MemoryStore(strict=True)
    name, workspace = values.pop("name", "b"), values.pop("workspace", ".")
    results: list[Any] = []

    def go() -> None:
        batch = BatchProcessor(workspace, name, lambda item, *_: [item], store=store, sleep=lambda _: None, **values)
        results.append(batch.run([1, 2]))

    if refusal_of(go, CorticalError):
        assert store.roots() == []
    else:
        assert len(results[0].outcomes) == 2


@given(values=st.dictionaries(st.sampled_from(["concurrency", "join", "max_turns", "retry", "stop_when"]), NUMBERS))
@effort(60)
def test_agents(values: dict[str, Any]) -> None:
    """What an agent is given is refused when it is made, with the setting's name."""
    refused = refusal_of(lambda: Agent("a", **values), InvalidInput, WrongType)
    assert refused is None or any(name in str(refused) for name in [*values, "agent"])
