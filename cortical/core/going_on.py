"""How work goes on that nobody drives any more: by which command, or by which program.

The words by which metadata tell what a run is of are those that agents, batches, pipelines and controlled loops write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import frozen

from cortical.core.kinds import BATCH, LOOP, PIPELINE, PROCESS
from cortical.core.run import Run

#: What is said of a pipeline that the command cannot take up, since no module has its stages.
_MADE: Final = "if a program made it, that program by `cortical.stages.resume`"


@frozen
class WayOn:
    """How a run goes on.

    `command` is the one of `cortical` that takes it up, with `run_id` and `options`; empty where only its program can
    do it. `program` says what its program has to do; empty where none is needed.
    """

    run_id: str
    command: str = ""
    options: tuple[str, ...] = ()
    program: str = ""

    def __str__(self) -> str:
        """It in a sentence: the command between backticks, or that its program is to be run again."""
        typed = f"`{' '.join(('cortical', self.command, self.run_id, *self.options))}`" if self.command else ""
        return ", or ".join(filter(None, (typed, self.program)))


def way_on(run: Run) -> WayOn:
    """How what a run is part of goes on: the agent that was started below another run by itself, else its whole tree.

    A batch, or a pipeline or process, that a program made is that program's; so is a loop without an agent.
    """
    apart = (one for one in reversed(run.tree.path(run)) if "begun_as" in one.metadata and "agent" in one.metadata)
    root = run.tree.root
    top = next(apart, root)
    if "agent" in top.metadata:
        return WayOn(top.id, "resume")
    if root.kind == BATCH and "batch" in root.metadata:
        return WayOn(root.id, "batch retry")
    if root.kind == PIPELINE:
        configuration = root.metadata.get("configuration")
        if isinstance(configuration, Mapping) and "workflow" in configuration:
            return WayOn(root.id, "workflow resume")
        if root.metadata.get("pipeline"):
            # It does not say whether a file or a program made it, nor of which modules its stages are.
            return WayOn(root.id, "pipeline resume", ("--stages", "MODULE"), _MADE)
    return WayOn(root.id, program=_program(root))


def _program(root: Run) -> str:
    """What is said of a tree that only its program can drive."""
    if root.kind in (BATCH, PROCESS):
        return f"run its program again, which takes up {root.name!r} where it stands"
    if root.kind == LOOP and "controlled" in root.metadata:
        key = root.metadata["controlled"]
        return f"run its program again, which takes up {key!r} where it stands"
    return "run its program again, which alone can drive it"
