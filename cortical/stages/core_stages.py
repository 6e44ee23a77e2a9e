"""The three stages that bring plug-ins up: check all, initialise those that passed, and run their hooks.

::

    checks, initialisation, hooks = plugin_stages([Mail(), Archive()])

The check of each plug-in is run whatever the others say, and the stage itself does not fail: it leaves what failed in
the context. Initialisation leaves those out, and those that need them, and takes the rest in the order in which they
need each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from cortical.core.checks import require_text, shown
from cortical.core.errors import CorticalError, InvalidInput, WrongType
from cortical.core.outcome import told
from cortical.stages.context import Key, StageContext
from cortical.stages.dependency import Dependencies
from cortical.stages.effects import Effect
from cortical.stages.stage import Stage

#: By plug-in, why its check failed.
PREFLIGHT_FAILED: Final[Key[dict[str, str]]] = Key("core::preflight_failed", dict)
#: By plug-in, why it was not initialised.
EXCLUDED: Final[Key[dict[str, str]]] = Key("core::plugins_excluded", dict)
#: The plug-ins that were initialised, in order.
INITIALIZED: Final[Key[list[str]]] = Key("core::plugins_initialized", list)


class PluginFailed(CorticalError, RuntimeError):
    """A plug-in raised while it was initialised, or in its hook; its error is the cause."""

    def __init__(self, plugin_id: str, doing: str, error: Exception) -> None:
        super().__init__(f"plug-in {plugin_id!r} failed in {doing}: {told(error)}")
        self.plugin_id = plugin_id


class Plugin:
    """Something that is brought up with an application. Derive from it, and do what is to be done in its methods.

    `id` names it; `requires` are the ids of the plug-ins that have to be initialised before it.
    """

    id: str = ""
    requires: Sequence[str] = ()

    def preflight(self, context: StageContext) -> None:
        """Look whether it could work here.

        Raises:
            Exception: it could not; it will not be initialised.
        """

    def initialize(self, context: StageContext) -> None:
        """Make it ready."""

    def post_initialize(self, context: StageContext) -> None:
        """Do what needs all the others to be ready."""


class PluginStage(Stage):
    """What the three stages have in common: the plug-ins, by id."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self.plugins: Mapping[str, Plugin] = _by_id(plugins)

    def plan(self, context: StageContext) -> Iterable[Effect] | None:
        """Nothing is known of what plug-ins would do, unless there are none."""
        return None if self.plugins else ()


class PluginPreflightCheck(PluginStage):
    """Runs the check of every plug-in, and leaves the ids of those that failed in the context, each with its reason."""

    id = "core::plugin_preflight_check"
    name = "Plug-in preflight check"
    description = "Check every plug-in, and note those that could not work."
    provides = ("core/plugins-checked",)
    writes = (PREFLIGHT_FAILED,)

    def run(self, context: StageContext) -> dict[str, str]:
        """By plug-in, why its check failed."""
        failed: dict[str, str] = {}
        for plugin_id, plugin in self.plugins.items():
            try:
                plugin.preflight(context)
            except Exception as error:  # noqa: BLE001  # whatever a check may raise is its answer
                failed[plugin_id] = told(error)
        context[PREFLIGHT_FAILED] = failed
        return failed


class PluginInitialization(PluginStage):
    """Initialises the plug-ins that passed and that need none which did not, in the order in which they need others."""

    id = "core::plugin_initialization"
    name = "Plug-in initialisation"
    description = "Initialise the plug-ins that passed their check, in dependency order."
    requires = ("core/plugins-checked",)
    provides = ("core/plugins",)
    reads = (PREFLIGHT_FAILED,)
    writes = (EXCLUDED, INITIALIZED)

    def run(self, context: StageContext) -> list[str]:
        """The ids of those that were initialised.

        Raises:
            PluginFailed: one of them raised.
            DependencyCycle: some need each other.
        """
        excluded = dict(context[PREFLIGHT_FAILED])
        done: list[str] = []
        for plugin_id in _in_order(self.plugins):
            if plugin_id in excluded:
                continue
            lacking = next((one for one in self.plugins[plugin_id].requires if one not in done), None)
            if lacking is not None:
                why = "was excluded" if lacking in self.plugins else "does not exist"
                excluded[plugin_id] = f"it requires {lacking!r}, which {why}"
                continue
            _call(plugin_id, "its initialisation", self.plugins[plugin_id].initialize, context)
            done.append(plugin_id)
        context[EXCLUDED] = excluded
        context[INITIALIZED] = done
        return done


class PluginPostInitialization(PluginStage):
    """Runs the hooks of the plug-ins that were initialised, in the same order."""

    id = "core::plugin_post_initialization"
    name = "Plug-in post-initialisation"
    description = "Run the hooks of the plug-ins that were initialised."
    requires = ("core/plugins",)
    reads = (INITIALIZED,)

    def run(self, context: StageContext) -> None:
        """Run them.

        Raises:
            PluginFailed: one of them raised.
        """
        for plugin_id in context[INITIALIZED]:
            _call(plugin_id, "its hook", self.plugins[plugin_id].post_initialize, context)


def plugin_stages(plugins: Iterable[Plugin] = ()) -> tuple[Stage, Stage, Stage]:
    """The three stages for these plug-ins.

    Raises:
        WrongType, InvalidInput: one is none, has no id, or has that of another.
    """
    plugins = list(plugins)
    return PluginPreflightCheck(plugins), PluginInitialization(plugins), PluginPostInitialization(plugins)


def _by_id(plugins: Iterable[Plugin]) -> dict[str, Plugin]:
    found: dict[str, Plugin] = {}
    for plugin in plugins:
        if not isinstance(plugin, Plugin):
            raise WrongType(f"a plug-in is of a class derived from Plugin, not {shown(plugin)}")
        plugin_id = require_text(plugin.id, "a plug-in's id")
        if plugin_id in found:
            raise InvalidInput(f"two plug-ins have the id {plugin_id!r}; give each one of its own")
        found[plugin_id] = plugin
    return found


def _in_order(plugins: Mapping[str, Plugin]) -> list[str]:
    graph = Dependencies()
    for plugin_id in plugins:
        graph.add(plugin_id)
    for plugin_id, plugin in plugins.items():
        for needed in plugin.requires:
            if needed in plugins:
                graph.link(needed, plugin_id)
    return graph.order()


def _call(plugin_id: str, doing: str, hook: Any, context: StageContext) -> None:
    try:
        hook(context)
    except Exception as error:
        raise PluginFailed(plugin_id, doing, error) from error
