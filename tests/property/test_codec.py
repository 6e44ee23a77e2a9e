"""Any value is kept as it is or refused with its spot, by each store alike; any bytes are read or called damaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cortical.core import codec
from cortical.core.codec import Unregistered, decode, decode_events, encode, encode_events
from cortical.core.errors import CorticalError, EncodeError, StoreDamaged
from cortical.core.events import Noted, Started
from cortical.reasoning import NestedLoopExecutor
from cortical.store import MemoryStore, Store, open_store
from cortical.testing.store_contract import every_event
from tests.property.effort import effort
from tests.property.values import ATOMS, KEYS, UNKEEPABLE, VALUES, Cart, Sack, Unspeakable, alike, holding

#: hypothesis tells now and then in one line of what strategies are made; these are long.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Store]]:
    """A strict store in memory and one in a file, for all examples."""
    both = [MemoryStore(strict=True), open_store(tmp_path_factory.mktemp("codec") / "runs.db")]
    yield both
    for store in both:
        store.close()


def told_by(call: Callable[..., Any], *args: Any) -> Any:
    """What the call gives, or its refusal, which names a spot."""
    try:
        return call(*args)
    except EncodeError as error:
        refused = error
    assert str(refused).startswith(f"{refused.spot}: ")
    return refused


def read_by(call: Callable[[bytes], Any], text: bytes) -> Any:
    """What the call reads in the text, or that it is damaged."""
    try:
        return call(text)
    except StoreDamaged as error:
        damage = error
    assert str(damage)
    return damage


def kept_by(store: Store, root: str, topic: str, value: Any) -> Any:
    """The value as a new reader finds it, after it was noted in a tree."""
    position = len(store.read(root))
    store.append(store.prepare(root, position, [Noted(root, position + 1, 1.0, topic, value)]))
    event = store.read(root, position)[0]
    assert isinstance(event, Noted)
    return event.value


@given(value=VALUES)
@effort(150)
def test_any_value_comes_back(value: Any) -> None:
    """Whatever a program has comes back alike, type by type; and what comes back is written the same."""
    text = encode(value)
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    back = decode(text)
    assert alike(back, value)
    if b'set"' not in text:  # the order of a set may be another
        assert encode(back) == text


@given(key=KEYS)
@effort(50)
def test_what_comes_back_can_be_a_key(key: Any) -> None:
    """A value that can be looked up can be looked up after it came back."""
    back = decode(encode({key: 1, "other": key}))
    assert {back["other"]: 1, **back}[back["other"]] == 1
    assert alike(next(iter(back)), key)


@given(value=st.recursive(ATOMS | UNKEEPABLE.map(lambda make: make()), holding, max_leaves=12))
@effort(60)
def test_stores_agree(stores: list[Store], value: Any) -> None:
    """A strict store in memory, a file and the codec keep the same values, and refuse the same at the same spot."""
    root = f"r{len(stores[0].roots())}"
    alone = told_by(lambda: decode(encode(value, "answer")))
    for store in stores:
        store.append(store.prepare(root, 0, [Started(root, 1, 1.0, "loop", "g")]))
        kept = told_by(kept_by, store, root, "answer", value)
        assert type(kept) is type(alone)
        assert len(store.read(root)) == (1 if isinstance(kept, EncodeError) else 2)
        if isinstance(kept, EncodeError):
            assert kept.spot == alone.spot
        else:
            assert alike(kept, value)


STEPS = st.lists(
    st.sampled_from(
        [
            (lambda value: [0, value], "[1]"),
            (lambda value: {"k": value}, "['k']"),
            (lambda value: {("a", 7): value}, "[('a', 7)]"),
            (lambda value: {7**6000: value}, "[<a int that cannot be shown: ValueError>]"),
            (lambda value: {Unspeakable(): value}, "[<a Unspeakable that cannot be shown: ZeroDivisionError>]"),
            (lambda value: Sack("rye", value), ".weight"),
            (lambda value: Cart(value), ".load"),
        ]
    ),
    max_size=6,
)


@given(steps=STEPS)
@effort(60)
def test_the_spot_is_named(steps: list[tuple[Callable[[Any], Any], str]]) -> None:
    """Wherever something that cannot be kept stands, the refusal says where, and what it is."""
    value: Any = bytearray()
    for wrap, _ in steps:
        value = wrap(value)
    spot = "result" + "".join(where for _, where in reversed(steps))
    with pytest.raises(EncodeError, match="bytearray cannot be kept") as refused:
        encode(value, "result")
    assert refused.value.spot == (spot if len(spot) <= 200 else f"{spot[:100]} … {spot[-90:]}")


@given(
    answer=VALUES,
    data=st.dictionaries(KEYS, VALUES, max_size=3) | st.dictionaries(st.text(), VALUES, max_size=3),
    result=VALUES,
)
@effort(40)
def test_what_a_loop_is_given_is_the_same_everywhere(
    stores: list[Store], answer: Any, data: dict[Any, Any], result: Any
) -> None:
    """A loop's answer, data and result are taken or refused by each store alike, and are alike for the next reader."""
    seen: list[list[Any]] = []
    for store in stores:
        executor = NestedLoopExecutor(store=store)
        root = executor.start_root("g")
        calls: list[tuple[Callable[[str, Any], object], Any]] = [
            (executor.record_answer, answer),
            (executor.update_metadata, data),
            (executor.complete, result),
        ]
        refusals = [_refusal(call, root, value) for call, value in calls]
        here = [executor.get_loop(root).run, NestedLoopExecutor(store=store).get_loop(root).run]
        for run in here:
            values = [note.value for note in run.entries or ()], run.data, getattr(run.outcome, "value", None)
            seen.append([refusals, *values])
    assert all(alike(one, seen[0]) for one in seen)


def _refusal(call: Callable[[str, Any], object], run_id: str, value: Any) -> str:
    try:
        call(run_id, value)
    except CorticalError as refused:
        return type(refused).__name__
    return ""


TAGS = st.sampled_from([*codec._READERS, "$", "$unknown", "__class__", "$eval"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("builtins.eval"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        | st.tuples(TAGS, inner).map(lambda pair: dict([pair]))
    ),
    max_leaves=12,
)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """A text with a few bytes changed, put in, taken out or cut off."""
    text = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 4))):
        spot = draw(st.integers(0, len(text)))
        match draw(st.sampled_from(["flip", "put in", "take out", "cut", "repeat"])):
            case "flip" if spot < len(text):
                text[spot] ^= 1 << draw(st.integers(0, 7))
            case "put in":
                text[spot:spot] = draw(
                    st.binary(max_size=4) | st.sampled_from([b'"', b"[", b'{"$', b"null", b"9" * 30])
                )
            case "take out":
                del text[spot : spot + draw(st.integers(1, 9))]
            case "cut":
                del text[spot:]
            case _:
                text[spot:spot] = text[max(0, spot - 9) : spot]
    return bytes(text)


def written(plain: Any) -> bytes:
    return json.dumps(plain).encode()


BOMBS = st.builds(
    lambda piece, times, ending: piece * times + ending * times,
    st.sampled_from(
        [b"[", b'{"a":', b'{"$tuple":[', b'{"$dict":[[1,', b'{"$set":[', b"9", b'[["noted/1","r",1,1.0,"n",']
    ),
    st.sampled_from([30, 150, 400, 3000, 60_000]),
    st.sampled_from([b"", b"]", b"}", b"]}", b"]]}"]),
)
TEXTS = st.binary(max_size=60) | JSON.map(written) | damaged(VALUES.map(encode)) | BOMBS


@given(text=TEXTS)
@effort(200)
def test_any_text_is_read_or_damaged(text: bytes) -> None:
    """Whatever bytes are read as a value give one that can be written again, or are called damaged."""
    value = read_by(decode, text)
    if not isinstance(value, StoreDamaged):
        told_by(encode, value)


@given(value=TEXTS, body=damaged(st.just(encode_events(every_event())[1])), inside=st.booleans())
@effort(200)
def test_any_record_is_read_or_damaged(value: bytes, body: bytes, inside: bool) -> None:
    """Whatever bytes are read as a record give events, or are called damaged; nothing else is raised."""
    text = b'[["noted/1","r",1,1.0,"note",%s]]' % value if inside else body
    events = read_by(decode_events, text)
    assert isinstance(events, StoreDamaged) or all(
        type(event.run_id) is str and type(event.seq) is int for event in events
    )


@given(name=st.sampled_from(["builtins.eval", "os.system", "subprocess.Popen", "builtins.int"]), plain=JSON)
@effort(40)
def test_names_in_a_text_call_nothing(name: str, plain: Any) -> None:
    """A text that names a class or function gets neither: only what was registered is made."""
    for tag in ("$enum", "$attrs"):
        value = read_by(decode, written({tag: [name, plain]}))
        assert isinstance(value, StoreDamaged) or (type(value), value.name) == (Unregistered, name)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "/etc/passwd", "\0", ""])
def test_zones_that_this_machine_does_not_know(zone: str) -> None:
    """A moment in a zone that is not known here can be looked at, and is kept again as it was."""
    text = written({"$zoned": [zone, {"$datetime": ["2026-05-01T00:00:00", 1]}]})
    value = decode(text)
    assert isinstance(value, Unregistered)
    assert value.name == zone
    assert json.loads(encode(value)) == json.loads(text)
