"""Runs a program for each item. What the item holds reaches it as arguments, environment or input, never as code."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Final

from attrs import frozen

from cortical.batch.errors import ShellFailed
from cortical.batch.handlers.config import confined, filled, workspace_of
from cortical.batch.references import refers
from cortical.batch.tasks import register_task
from cortical.core.checks import require_count, require_keys, require_seconds
from cortical.core.codec import encode
from cortical.core.errors import InvalidInput, WrongType
from cortical.engine.limited import TimeIsUp
from cortical.engine.programs import located, run_program

_KEYS: Final = frozenset({"command", "script", "args", "env", "cwd", "stdin", "timeout", "max_output", "ok"})
_MOST_OUTPUT: Final = 2**20
_SHELL: Final = "/bin/sh"


def check(task: Mapping[str, Any]) -> None:
    """Refuse a configuration that makes no sense, before anything is run."""
    require_keys(task, sorted(_KEYS), "a shell task")
    if ("command" in task) == ("script" in task):
        raise InvalidInput("a shell task has either a command (a list of arguments) or a script (a text for the shell)")
    if "script" in task and not isinstance(task["script"], str):
        raise WrongType('a script is one text, as it is; the item is in it as "$ITEM", and args as "$1", "$2", …')
    if "command" in task and (not isinstance(task["command"], list | tuple) or not task["command"]):
        raise WrongType('a command is a list: ["wc", "-l", {"from": "item"}]; give a text for the shell as script')
    if task.get("timeout") is not None:
        require_seconds(task["timeout"], "timeout", above_zero=True)
    require_count(task.get("max_output", _MOST_OUTPUT), "max_output")


@frozen
class Programs:
    """Runs a program for each item of a batch; what is the same for all of them was done before the first."""

    task: Mapping[str, Any]
    #: The configuration, where it is the same for every item; else None.
    settings: Mapping[str, Any] | None
    #: The variables of this process as they were when the batch began.
    variables: Mapping[bytes, bytes]
    #: Where the program is found, if it is the same for every item.
    executable: str | None

    def __call__(self, item: Any, task: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
        """See `shell_task`."""
        settings = filled(self.task, item, context) if self.settings is None else self.settings
        argv = _argv(settings)
        timeouts = [one for one in (settings.get("timeout"), context.get("timeout")) if one is not None]
        seconds = min(timeouts, default=None)
        done = run_program(
            argv,
            executable=self.executable,
            cwd=_folder(workspace_of(context), settings.get("cwd")),
            env={**self.variables, **_own_variables(settings, item, context)},
            stdin=_input(settings.get("stdin")),
            seconds=seconds,
            most_output=settings.get("max_output", _MOST_OUTPUT),
            stopped=lambda: bool(getattr(context, "stopped", False)),
        )
        if done.status is None:
            raise TimeIsUp(seconds or 0.0, "killed, with all processes of its group")
        if done.status not in settings.get("ok", (0,)):
            shown = shlex.join(argv).encode("utf-8", "replace").decode()
            raise ShellFailed(shown if len(shown) < 200 else f"{shown[:200]}…", done.status, done.stderr.text())
        return {
            "exit_code": done.status,
            "stdout": done.stdout.text(),
            "stderr": done.stderr.text(),
            "left_out": done.stdout.left_out + done.stderr.left_out,
        }


def prepare(task: Mapping[str, Any]) -> Programs:
    """A handler for the items of one batch."""
    settings = None if refers(task) else task
    variables = dict(os.environb)
    executable = None
    if settings is not None and "PATH" not in (settings.get("env") or {}):
        executable = located(_argv(settings)[0], variables)
    return Programs(task, settings, variables, executable)


@register_task("shell", check=check, prepare=prepare)
def shell_task(item: Any, task: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """What a program wrote, and its exit status: ``{"exit_code", "stdout", "stderr", "left_out"}``.

    ``command`` is a list of arguments, in which references stand for values. A ``script`` is given to ``/bin/sh`` as
    it stands; in it, and for a command too, ``$ITEM`` is the item's text and ``$INDEX`` its index, and ``"$1"`` the
    first of ``args``. ``env`` adds variables to those that this process had when the batch began, ``stdin`` is what
    the program can read, ``cwd`` a folder of the workspace, ``ok`` the exit statuses that are well (0). Of each output
    no more than ``max_output`` bytes are kept (1 MiB), half from either end; ``left_out`` is how many are missing.

    Raises:
        ShellFailed: it ended with another status.
        TimeIsUp: it was not done in ``timeout`` seconds, and was killed with all processes of its group.
        OSError: it cannot be started.
    """
    return prepare(task)(item, task, context)


def _argv(settings: Mapping[str, Any]) -> list[str]:
    args = [_text(arg, "an argument") for arg in settings.get("args") or ()]
    if "script" in settings:
        return [_SHELL, "-c", settings["script"], _SHELL, *args]
    return [*(_text(word, "an argument") for word in settings["command"]), *args]


def _own_variables(settings: Mapping[str, Any], item: Any, context: Mapping[str, Any]) -> dict[bytes, bytes]:
    """What a program has beside the variables of this process; as bytes, which need not be made texts and back."""
    own = {"ITEM": _text(item, "the item"), "INDEX": str(context.get("index", ""))}
    for name, value in (settings.get("env") or {}).items():
        own[name] = _text(value, f"the variable {name}")
    return {os.fsencode(name): os.fsencode(value) for name, value in own.items()}


def _folder(workspace: Path, cwd: object) -> Path:
    return workspace if cwd is None else confined(workspace, cwd)


def _input(given: Any) -> bytes | None:
    if given is None or isinstance(given, bytes):
        return given
    return _text(given, "stdin").encode("utf-8", "surrogateescape")


def _text(value: Any, what: str) -> str:
    """A value as a program can be given it: texts, paths and numbers as they are, others as JSON."""
    if isinstance(value, str | PurePath):
        text = str(value)
    elif isinstance(value, bytes):
        text = os.fsdecode(value)
    else:
        text = encode(value, what).decode()
    if "\0" in text:
        raise InvalidInput(f"{what} holds a null character, which no program can be given")
    return text
