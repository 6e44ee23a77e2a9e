"""What running a pipeline would do: its stages in order, each with its effects, and where they would collide.

Nothing is executed: a stage's `when` and `plan` are asked, its `run` is not. A stage that cannot say what it would do
is unknown, and so is the whole in that far; it is never taken for a success.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from attrs import asdict, frozen

from cortical.core.checks import shown
from cortical.core.drawing import seconds_text
from cortical.core.errors import CorticalError, WrongType
from cortical.core.outcome import message_of, told
from cortical.core.safe_text import one_line
from cortical.stages.context import Mode, StageContext
from cortical.stages.effects import LEAST_SECONDS, Effect, size_text

if TYPE_CHECKING:
    from cortical.stages.dependency import Dependencies
    from cortical.stages.pipeline import Pipeline
    from cortical.stages.stage import Stage

State = Literal["planned", "skipped", "unknown"]
#: The kinds of problems of a pipeline that a plan tells as conflicts.
_KEY_PROBLEMS = frozenset({"unwritten key", "unordered read", "unordered writers"})


@frozen
class StagePlan:
    """What one stage would do: `effects` where it is planned, and why not where it is skipped or unknown."""

    id: str
    name: str
    state: State
    effects: tuple[Effect, ...] = ()
    why: str = ""

    @property
    def seconds(self) -> float:
        """How long its effects would take."""
        return sum(effect.seconds for effect in self.effects)


@frozen
class Conflict:
    """Stages that would get in each other's way over a target or key."""

    kind: str
    stages: tuple[str, ...]
    target: str
    message: str

    def __str__(self) -> str:
        return self.message


@frozen
class Plan:
    """What running a pipeline would do.

    `stages` stand in the order in which one worker would run them. `problems` are those for which the pipeline could
    not be run at all. `critical_path` is the chain of stages that takes longest, in `critical_seconds`; `width` is how
    many could run at the same time. Times count only what is known.
    """

    pipeline: str
    stages: tuple[StagePlan, ...]
    conflicts: tuple[Conflict, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    critical_path: tuple[str, ...] = ()
    critical_seconds: float = 0.0
    width: int = 0

    @property
    def unknown(self) -> list[str]:
        """The ids of the stages that cannot say what they would do."""
        return [stage.id for stage in self.stages if stage.state == "unknown"]

    @property
    def clean(self) -> bool:
        """Whether everything is known, nothing collides, and the pipeline can be run."""
        return not (self.unknown or self.conflicts or self.problems)

    @property
    def effects(self) -> list[Effect]:
        """All effects in order."""
        return [effect for stage in self.stages for effect in stage.effects]

    @property
    def seconds(self) -> float:
        """How long it takes with one worker."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def bytes(self) -> dict[str, int]:
        """By kind of effect, how many bytes; where a size is not known, it is at least so many."""
        found: Counter[str] = Counter()
        for effect in self.effects:
            found[effect.kind] += effect.bytes or 0
        return dict(found)

    def as_plain(self) -> dict[str, Any]:
        """The plan as plain values, for JSON."""
        stages = [
            {**asdict(stage), "seconds": stage.seconds, "would": [str(effect) for effect in stage.effects]}
            for stage in self.stages
        ]
        totals = {
            "effects": len(self.effects),
            "irreversible": sum(not effect.reversible for effect in self.effects),
            "bytes": self.bytes,
            "sizes_unknown": sum(effect.bytes is None for effect in self.effects),
            "seconds": self.seconds,
            "critical_seconds": self.critical_seconds,
        }
        return {
            "pipeline": self.pipeline,
            "clean": self.clean,
            "stages": stages,
            "unknown": self.unknown,
            "totals": totals,
            "critical_path": list(self.critical_path),
            "width": self.width,
            "conflicts": [asdict(conflict) for conflict in self.conflicts],
            "problems": list(self.problems),
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """The plan as JSON text."""
        return msgspec.json.format(msgspec.json.encode(self.as_plain()), indent=2).decode()

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def dry_run(pipeline: Pipeline, context: StageContext) -> Plan:
    """What running `pipeline` would do, beginning with what `context` holds; neither is changed."""
    problems = pipeline.validate(context)
    conflicts = [
        Conflict(problem.kind, problem.stages, "", problem.message)
        for problem in problems
        if problem.kind in _KEY_PROBLEMS
    ]
    told = tuple(str(problem) for problem in problems if problem.kind not in _KEY_PROBLEMS)
    notes = tuple(resolved.note for resolved in pipeline.resolved if resolved.note)
    if any(problem.kind == "cycle" for problem in problems):
        return Plan(pipeline.name, (), tuple(conflicts), told, notes)
    stages = tuple(_plans(pipeline, context))
    seconds = {stage.id: stage.seconds for stage in stages}
    path, total = pipeline.critical_path(seconds)
    return Plan(
        pipeline.name,
        stages,
        (*conflicts, *_target_conflicts(stages, pipeline.dependencies)),
        told,
        notes,
        tuple(path),
        total,
        pipeline.width,
    )


def _plans(pipeline: Pipeline, context: StageContext) -> Iterator[StagePlan]:
    values = context.values()
    trial = StageContext(
        values,
        mode=Mode.DRY,
        configuration=context.configuration,
        arguments=context.arguments,
        writers={name: writer for name in values if (writer := context.writer(name)) is not None},
        declared_writers=pipeline.writers,
    )
    for stage_id in pipeline.order():
        stage = pipeline.members[stage_id].stage
        if stage is None:
            yield StagePlan(stage_id, stage_id, "unknown", why="there is no such stage")
            continue
        view = trial.for_stage(stage_id, writes=stage.declared.writes)
        planned = _plan(stage, view)
        (trial.accept if planned.state == "planned" else trial.drop)(view)
        yield planned


def _plan(stage: Stage, view: StageContext) -> StagePlan:
    declared = stage.declared
    try:
        if not stage.when(view):
            return StagePlan(stage.id, declared.name, "skipped", why="its condition does not hold")
        effects = stage.plan(view)
        if effects is None:
            why = "it cannot say what it would do" if stage.can_plan else "it has no plan"
            return StagePlan(stage.id, declared.name, "unknown", why=why)
        return StagePlan(stage.id, declared.name, "planned", _require_effects(effects))
    except Exception as error:  # noqa: BLE001  # whatever a plan may raise, for instance for want of a value
        why = message_of(error) if isinstance(error, CorticalError) else told(error)
        return StagePlan(stage.id, declared.name, "unknown", why=one_line(why))


def _require_effects(effects: object) -> tuple[Effect, ...]:
    if inspect.iscoroutine(effects):
        effects.close()
    if isinstance(effects, Effect) or not isinstance(effects, Iterable):
        raise WrongType(f"a plan gives several effects, or None; not {shown(effects)}")
    found = tuple(effects)
    for effect in found:
        if not isinstance(effect, Effect):
            raise WrongType(f"a plan gives effects, not {shown(effect)}")
    return found


def _target_conflicts(stages: Sequence[StagePlan], graph: Dependencies) -> Iterator[Conflict]:
    writers: dict[str, list[str]] = {}
    gone: dict[str, str] = {}
    lost: list[Conflict] = []
    for stage in stages:
        for effect in stage.effects:
            lost += [_lost(stage.id, place, gone[place]) for place in effect.needs if place in gone]
            for changed in filter(None, (effect.changes, effect.removes)):
                gone.pop(changed, None)
                if stage.id not in writers.setdefault(changed, []):
                    writers[changed].append(stage.id)
            if effect.removes:
                gone[effect.removes] = stage.id
    yield from _unordered(writers, graph)
    yield from dict.fromkeys(lost)


def _lost(stage_id: str, place: str, remover: str) -> Conflict:
    who = "it has" if remover == stage_id else f"{remover!r} has"
    return Conflict(
        "read after removal", (remover, stage_id), place, f"{stage_id!r} needs {place}, which {who} removed"
    )


def _unordered(writers: Mapping[str, Sequence[str]], graph: Dependencies) -> Iterator[Conflict]:
    pairs = [(target, pair) for target, stages in writers.items() for pair in pairwise(stages)]
    reached = graph.reaching(pair for _, pair in pairs)
    for target, pair in pairs:
        if pair not in reached:
            message = f"{pair[0]!r} and {pair[1]!r} both change {target}, in no order; add an edge between them"
            yield Conflict("unordered writers of a target", pair, target, message)


def _lines(plan: Plan) -> Iterator[str]:
    yield one_line(f"plan of {plan.pipeline}: {_counted(plan.stages, 'stage')}")
    for number, stage in enumerate(plan.stages, 1):
        yield one_line(f"{number}. {stage.id}") + _state(stage)
        for effect in stage.effects:
            yield f"     {effect}"
    known = "" if not plan.unknown else f", and what {_counted(plan.unknown, 'unknown stage')} would do"
    sizes = ", ".join(f"{kind} {size_text(count)}" for kind, count in plan.bytes.items() if count)
    yield f"in all: {_counted(plan.effects, 'effect')}{known}{f'; {sizes}' if sizes else ''}"
    yield f"time: {_time(plan)}"
    for title, those in (("conflict", plan.conflicts), ("problem", plan.problems), ("note", plan.notes)):
        for one in those:
            yield one_line(f"{title}: {one}")


def _time(plan: Plan) -> str:
    """How long it takes; that nobody knows, where what has a time is too little to be told, and others have none."""
    untimed = plan.unknown or any(effect.bytes is None for effect in plan.effects)
    if untimed and plan.seconds < LEAST_SECONDS:
        return "not known"
    best = seconds_text(plan.critical_seconds)
    return f"{seconds_text(plan.seconds)} one after another, {best} at best with {plan.width} at a time"


def _counted(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _state(stage: StagePlan) -> str:
    if stage.state == "planned":
        return "" if stage.effects else ": nothing"
    return one_line(f": {stage.state} – {stage.why}")
