"""The command `stages list`: the stages that pipelines can be made of."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cortical.cli.options import AsJson
from cortical.cli.session import let_import, print_json, refusals, say

if TYPE_CHECKING:
    from cortical.stages import Stage, StageRegistry

Modules = Annotated[
    list[str] | None,
    typer.Argument(metavar="MODULE", show_default=False, help="Modules whose stages are listed too."),
]
StageModules = Annotated[
    list[str] | None,
    typer.Option("--stages", metavar="MODULE", help="A module that has stages; can be given again."),
]


def list_stages(modules: Modules = None, as_json: AsJson = False) -> None:
    """List the stages that installed packages offer, and those of the modules that are named.

    Modules are imported as `python -m` would, from the working folder too.
    """
    with refusals():
        found = registry_of(modules or ()).list()
    if as_json:
        print_json([_as_plain(stage) for stage in found])
    elif found:
        _print(found)
    else:
        say("there is no stage; name a module that has some: cortical stages list my_stages")


def registry_of(modules: Sequence[str]) -> StageRegistry:
    """The stages of installed packages and of these modules; a package's that cannot be loaded is told of.

    Raises:
        InvalidInput: there is no such module, or it has no stage.
        DuplicateStage: two stages have one id.
    """
    from cortical.core.errors import InvalidInput
    from cortical.stages import StageRegistry

    registry = StageRegistry()
    for plugin in registry.load_plugins():
        if plugin.error is not None:
            say(f"the stages of {plugin.name} cannot be loaded: {plugin.error}")
    let_import()
    for name in modules:
        if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
            raise typer.BadParameter(f"{name!r}: write the name of a module, such as my_stages", param_hint="MODULE")
        try:
            there = importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:
            there = False
        if not there:
            raise InvalidInput(f"there is no module {name!r}, here or among the installed ones")
        registry.load_module(name)
    return registry


def _print(found: Sequence[Stage]) -> None:
    from rich.text import Text

    from cortical.cli.render import console, print_columns
    from cortical.core.safe_text import one_line

    rows = [
        [
            Text(one_line(stage.id), "bold"),
            Text(str(stage.declared.version)),
            Text(one_line(", ".join(map(str, stage.declared.requires)))),
            Text(one_line(", ".join(capability.name for capability in stage.declared.provides))),
            Text(one_line(stage.declared.description.partition("\n")[0])),
        ]
        for stage in found
    ]
    print_columns(console(), rows, headings=("stage", "version", "requires", "provides", "description"))


def _as_plain(stage: Stage) -> dict[str, Any]:
    declared = stage.declared
    return {
        "id": stage.id,
        "name": declared.name,
        "description": declared.description,
        "version": str(declared.version),
        "requires": [{"capability": str(need), "optional": need.optional, "by": need.by} for need in declared.requires],
        "provides": [str(capability) for capability in declared.provides],
        "after": list(declared.after),
        "before": list(declared.before),
        "reads": list(declared.reads),
        "writes": list(declared.writes),
        "timeout": declared.timeout,
        "can_plan": stage.can_plan,
        "can_undo": stage.can_undo,
    }
