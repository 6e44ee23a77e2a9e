"""What can go wrong with stages and pipelines, each with a parent from the standard library.

::

    CorticalError
    ├── UnknownStage     (KeyError)      no stage has this id
    ├── UnknownPipeline  (KeyError)      no pipeline has this name
    ├── DuplicateStage   (ValueError)    two stages have one id
    ├── StageInUse       (ValueError)    a pipeline is made of the stage
    ├── DependencyCycle  (ValueError)    stages wait for each other
    ├── InvalidPipeline  (ValueError)    a pipeline that cannot be run; `problems` says all that is wrong
    ├── DefinitionError  (ValueError)    a file that defines no pipeline
    ├── DefinitionChanged (RuntimeError) stages that have succeeded are others now
    ├── MissingKey       (KeyError)      nothing stands under the key in the context
    ├── WrongValue       (TypeError)     what stands there is of another type
    └── UndeclaredKey    (ValueError)    a stage writes what it did not declare
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cortical.core.checks import nearest
from cortical.core.errors import CorticalError
from cortical.core.safe_text import counted

if TYPE_CHECKING:
    from cortical.stages.validation import Problem


def nearest_id(stage_id: object, known: Iterable[str]) -> str:
    """As `nearest`, for ids: many begin with the same scope, so they have to be more alike than other names."""
    return nearest(stage_id, known, likeness=0.8)


def cannot_be_run(what: str, problems: Sequence[object]) -> str:
    """The message about something in which all this is wrong."""
    count = counted(len(problems), "thing is", "things are", single="one")
    told = "".join(f"\n- {problem}" for problem in problems)
    return f"{what} cannot be run, {count} wrong with it:{told}"


class UnknownStage(CorticalError, KeyError):
    """No stage has this id."""

    def __init__(
        self,
        stage_id: object,
        known: Iterable[str] = (),
        remedy: str = "register it, or in a command name its module: --stages MODULE",
    ) -> None:
        super().__init__(f"no stage has the id {stage_id!r}{nearest_id(stage_id, known) or f'; {remedy}'}")
        self.stage_id = stage_id


class UnknownPipeline(CorticalError, KeyError):
    """No pipeline has this name."""

    def __init__(self, name: object, known: Iterable[str] = ()) -> None:
        super().__init__(f"no pipeline is called {name!r}{nearest(name, known) or '; create it first'}")
        self.name = name


class DuplicateStage(CorticalError, ValueError):
    """Two stages have one id."""

    def __init__(self, stage_id: str, where: str, remedy: str) -> None:
        super().__init__(f"{where} has a stage {stage_id!r} already; {remedy}")
        self.stage_id = stage_id


class StageInUse(CorticalError, ValueError):
    """A pipeline is made of this stage, so it stays."""

    def __init__(self, stage_id: str, pipelines: Sequence[str]) -> None:
        super().__init__(
            f"stage {stage_id!r} is used by {', '.join(map(repr, pipelines))}; "
            "remove these first, or pass cascade=True to remove them with it"
        )
        self.stage_id = stage_id
        self.pipelines = pipelines


class DependencyCycle(CorticalError, ValueError):
    """Stages wait for each other; `path` names them in order, its last being its first."""

    def __init__(self, path: Sequence[str]) -> None:
        super().__init__(f"these stages wait for each other: {' → '.join(path)}; take one of these edges out")
        self.path = tuple(path)


class InvalidPipeline(CorticalError, ValueError):
    """A pipeline cannot be run as it is; `problems` holds everything that is wrong with it."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        super().__init__(cannot_be_run(f"pipeline {name!r}", problems))
        self.name = name
        self.problems = tuple(problems)


class DefinitionError(CorticalError, ValueError):
    """What was read defines no pipeline; `where` is the file, or the spot in it."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where


class DefinitionChanged(CorticalError, RuntimeError):
    """Stages that have succeeded are not what they were; `stage_ids` names them."""

    def __init__(self, run_id: str, stage_ids: Sequence[str]) -> None:
        shown = ", ".join(map(repr, stage_ids[:5])) + (", …" if len(stage_ids) > 5 else "")
        super().__init__(
            f"of pipeline {run_id!r} stages that have succeeded are others now: {shown}; keep what they gave "
            "(changed='keep'), or have them run again (changed='run again')"
        )
        self.run_id = run_id
        self.stage_ids = tuple(stage_ids)


class MissingKey(CorticalError, KeyError):
    """Nothing stands under this key in the context."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"the context has no {key!r}: {why}")
        self.key = key


class WrongValue(CorticalError, TypeError):
    """What stands, or is to stand, under a key of the context is of another type; `writer` is the stage it is of."""

    def __init__(self, key: str, message: str, writer: str | None) -> None:
        super().__init__(message)
        self.key = key
        self.writer = writer


class UndeclaredKey(CorticalError, ValueError):
    """A stage that says what it writes writes something else."""

    def __init__(self, stage_id: str, key: str, declared: Iterable[str]) -> None:
        declared = list(declared)
        meant = nearest(key, declared) or f"; it declares {', '.join(map(repr, declared))}"
        super().__init__(f"stage {stage_id!r} may not write {key!r}, which its `writes` does not name{meant}")
        self.stage_id = stage_id
        self.key = key
