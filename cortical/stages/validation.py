"""All that can be wrong with a pipeline, found at once and told as values."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from attrs import frozen

from cortical.core.checks import nearest
from cortical.stages.dependency import Dependencies
from cortical.stages.errors import UnknownStage, nearest_id

if TYPE_CHECKING:
    from cortical.stages.assembly import Member
    from cortical.stages.pipeline import Pipeline


@frozen
class Problem:
    """One thing that is wrong: of what kind, with which stages, and what to do about it.

    Kinds are ``unknown stage``, ``version``, ``missing requirement``, ``ambiguous requirement``, ``cycle``,
    ``unordered writers``, ``unwritten key`` and ``unordered read``.
    """

    kind: str
    stages: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return self.message


def problems_of(pipeline: Pipeline, given: Collection[str]) -> Iterator[Problem]:
    """Everything that is wrong with a pipeline which begins with values under the keys `given`."""
    members = pipeline.members
    for member in members.values():
        yield from _reference(member, pipeline.known_stages)
    for one, other in pipeline.open_edges:
        missing = one if one not in members else other
        meant = nearest_id(missing, members) or "; add it, or take the edge out"
        message = f"an edge leads from {one!r} to {other!r}, but the pipeline has no {missing!r}{meant}"
        yield Problem("unknown stage", (one, other), message)
    for resolved in pipeline.resolved:
        if resolved.problem:
            yield Problem(resolved.kind, (resolved.stage_id,), resolved.problem)
    cycles = pipeline.dependencies.cycles()
    for cycle in cycles:
        yield Problem("cycle", tuple(cycle[:-1]), f"these stages wait for each other: {' → '.join(cycle)}")
    writers, readers = pipeline.writers, pipeline.readers
    yield from _unwritten_keys(writers, readers, given)
    if not cycles:
        yield from _unordered(pipeline.dependencies, writers, readers, given)


def _reference(member: Member, known: Collection[str]) -> Iterator[Problem]:
    if member.stage is None:
        yield Problem("unknown stage", (member.id,), str(UnknownStage(member.id, known)))
        return
    version = member.stage.declared.version
    if member.asked is not None and not member.asked.contains(version, prereleases=True):
        message = f"the pipeline asks for {member.id!r} {member.asked}, but there is version {version}"
        yield Problem("version", (member.id,), message)


def _unwritten_keys(
    writers: Mapping[str, Sequence[str]], readers: Mapping[str, Sequence[str]], given: Collection[str]
) -> Iterator[Problem]:
    for name, reading in readers.items():
        if name not in given:
            lacking = [one for one in reading if not any(writer != one for writer in writers.get(name, ()))]
            yield from _unwritten(name, lacking, [*writers, *given]) if lacking else ()


def _unordered(
    graph: Dependencies,
    writers: Mapping[str, Sequence[str]],
    readers: Mapping[str, Sequence[str]],
    given: Collection[str],
) -> Iterator[Problem]:
    place = {stage_id: number for number, stage_id in enumerate(graph.order())}
    in_order = {name: sorted(stages, key=place.__getitem__) for name, stages in writers.items()}
    yield from _unordered_writers(graph, in_order)
    yield from _unordered_reads(graph, in_order, readers, given)


def _unwritten(name: str, reading: Sequence[str], known: Sequence[str]) -> Iterator[Problem]:
    meant = nearest(name, [other for other in known if other != name])
    remedy = meant or "; name it in the pipeline's inputs if it is given at the start"
    for reader in reading:
        yield Problem("unwritten key", (reader,), f"{reader!r} reads {name!r}, which nobody writes{remedy}")


def _unordered_writers(graph: Dependencies, writers: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    beside = [(name, pair) for name, stages in writers.items() for pair in pairwise(stages)]
    reached = graph.reaching(pair for _, pair in beside)
    for name, (one, other) in beside:
        if (one, other) not in reached:
            message = f"{one!r} and {other!r} both write {name!r}, in no order; add an edge between them"
            yield Problem("unordered writers", (one, other), message)


def _unordered_reads(
    graph: Dependencies,
    writers: Mapping[str, Sequence[str]],
    readers: Mapping[str, Sequence[str]],
    given: Collection[str],
) -> Iterator[Problem]:
    pairs = [
        (name, writer, reader)
        for name, reading in readers.items()
        for writer in writers.get(name, ())
        for reader in reading
        if writer != reader
    ]
    first = graph.reaching((writer, reader) for _, writer, reader in pairs)
    rest = [pair for pair in pairs if pair[1:] not in first]
    later = graph.reaching((reader, writer) for _, writer, reader in rest)
    served = {(name, reader) for name, writer, reader in pairs if (writer, reader) in first}
    for name, writer, reader in rest:
        in_time = name in given or (name, reader) in served
        if (reader, writer) not in later:
            message = f"{reader!r} reads {name!r}, which {writer!r} writes, in no order; add an edge between them"
            yield Problem("unordered read", (reader, writer), message)
        elif not in_time:
            message = f"{reader!r} reads {name!r} before {writer!r}, which waits for it, has written it"
            yield Problem("unwritten key", (reader, writer), message)
