"""The core stages: every check is run, what failed is left out, the rest comes up in order."""

from __future__ import annotations

import pytest

from cortical.core.errors import InvalidInput, WrongType
from cortical.stages import DependencyCycle, Pipeline, Plugin, PluginFailed, StageContext, plugin_stages
from cortical.stages.core_stages import EXCLUDED, INITIALIZED, PREFLIGHT_FAILED


class Known(Plugin):
    """A plug-in that writes down what is asked of it, and fails where it is told to."""

    def __init__(self, name: str, log: list[str], *requires: str, fails: str = "") -> None:
        self.id, self.requires, self._log, self._fails = name, requires, log, fails

    def _do(self, what: str) -> None:
        self._log.append(f"{what} {self.id}")
        if self._fails == what:
            raise OSError(f"{self.id} cannot {what}")

    def preflight(self, context: StageContext) -> None:
        self._do("check")

    def initialize(self, context: StageContext) -> None:
        self._do("start")

    def post_initialize(self, context: StageContext) -> None:
        self._do("hook")


def bring_up(*plugins: Plugin) -> StageContext:
    """The context after the three stages, run one after another as a pipeline orders them."""
    pipeline = Pipeline("up", reversed(plugin_stages(plugins)))
    assert pipeline.validate() == []
    context = StageContext()
    for stage_id in pipeline.order():
        view = context.for_stage(stage_id, writes=pipeline.stages[stage_id].declared.writes)
        pipeline.stages[stage_id].run(view)
        context.accept(view)
    return context


def test_the_pattern() -> None:
    """All are checked; those that failed, and those that need them, are left out; the rest goes by what it needs."""
    log: list[str] = []
    context = bring_up(
        Known("web", log, "mail", "disk"),
        Known("broken", log, fails="check"),
        Known("mail", log),
        Known("needs", log, "broken"),
        Known("disk", log),
        Known("far", log, "needs"),
        Known("lost", log, "nowhere"),
    )
    assert log == [
        *(f"check {name}" for name in ("web", "broken", "mail", "needs", "disk", "far", "lost")),
        *(f"start {name}" for name in ("mail", "disk", "web")),
        *(f"hook {name}" for name in ("mail", "disk", "web")),
    ]
    assert context[PREFLIGHT_FAILED] == {"broken": "OSError: broken cannot check"}
    assert context[INITIALIZED] == ["mail", "disk", "web"]
    assert context[EXCLUDED] == {
        "broken": "OSError: broken cannot check",
        "needs": "it requires 'broken', which was excluded",
        "far": "it requires 'needs', which was excluded",
        "lost": "it requires 'nowhere', which does not exist",
    }


def test_the_ids() -> None:
    """They are what documents call them, and one waits for the other."""
    assert Pipeline("up", plugin_stages()).order() == [
        "core::plugin_preflight_check",
        "core::plugin_initialization",
        "core::plugin_post_initialization",
    ]


@pytest.mark.parametrize(("fails", "doing"), [("start", "its initialisation"), ("hook", "its hook")])
def test_a_plugin_that_raises(fails: str, doing: str) -> None:
    """A failure in bringing up names the plug-in, its own error being the cause."""
    with pytest.raises(PluginFailed, match=f"'mail' failed in {doing}: OSError: mail cannot {fails}") as refusal:
        bring_up(Known("mail", [], fails=fails))
    assert isinstance(refusal.value.__cause__, OSError)


def test_plugins_that_need_each_other() -> None:
    """A circle among plug-ins is named."""
    with pytest.raises(DependencyCycle, match="a → b → a"):
        bring_up(Known("a", [], "b"), Known("b", [], "a"))


def test_without_plugins() -> None:
    """With none there is nothing to do, and a dry run knows that; with some it cannot tell."""
    context = bring_up()
    assert context[INITIALIZED] == []
    assert Pipeline("up", plugin_stages()).dry_run().clean
    assert len(Pipeline("up", plugin_stages([Known("a", [])])).dry_run().unknown) == 3


def test_what_is_no_plugin() -> None:
    """Ids are unique and there; what is no plug-in is refused. One that only has an id does nothing."""

    class Quiet(Plugin):
        id = "quiet"

    assert bring_up(Quiet())[INITIALIZED] == ["quiet"]
    with pytest.raises(InvalidInput, match="two plug-ins have the id 'quiet'"):
        plugin_stages([Quiet(), Quiet()])
    with pytest.raises(InvalidInput, match="a plug-in's id is empty"):
        plugin_stages([Plugin()])
    with pytest.raises(WrongType, match="derived from Plugin"):
        plugin_stages([3])  # type: ignore[list-item]
