"""Runs a program for each item. What the item holds reaches it as arguments, environment or input, never as code."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any, ClassVar, Final

from attrs import frozen

from cortical.batch.errors import ShellFailed
from cortical.batch.handlers.config import confined, filled, fixed, require_inside, workspace_of
from cortical.batch.references import refers
from cortical.batch.tasks import register_task
from cortical.core.checks import require_count, require_keys, require_seconds, require_values, shown
from cortical.core.codec import encode
from cortical.core.errors import InvalidInput, WrongType
from cortical.engine.limited import TimeIsUp
from cortical.engine.programs import located, run_program

_KEYS: Final = frozenset({"command", "script", "args", "env", "cwd", "stdin", "timeout", "max_output", "ok"})
_MOST_OUTPUT: Final = 2**20
_SHELL: Final = "/bin/sh"
#: What Linux lets one variable hold (MAX_ARG_STRLEN), without its name and its end.
_MOST_IN_A_VARIABLE: Final = 128 * 1024 - len("ITEM=") - 1


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
    settings = fixed(task)
    if settings.get("cwd") is not None:
        require_inside(settings["cwd"])
    Program.of(settings if "command" in settings else {"script": "", **settings})


@frozen
class Program:
    """What is run for an item, all references in it resolved."""

    argv: list[str]
    is_script: bool
    own: dict[bytes, bytes]
    stdin: bytes | None
    cwd: object
    seconds: float | None
    most_output: int
    well: Collection[int]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Program:
        """What a configuration says.

        Raises:
            WrongType, InvalidInput: a part of it makes no sense.
        """
        well = settings.get("ok", (0,))
        if not isinstance(well, list | tuple | set | frozenset) or not all(type(status) is int for status in well):
            raise WrongType(f"ok is a list of the exit statuses that are well, not {shown(well)}")
        return cls(
            _argv(settings),
            "script" in settings,
            _variables(settings.get("env")),
            _input(settings.get("stdin")),
            settings.get("cwd"),
            settings.get("timeout"),
            settings.get("max_output", _MOST_OUTPUT),
            well,
        )


@frozen
class Programs:
    """Runs a program for each item of a batch; what is the same for all of them was done before the first."""

    #: It sees to the time that its context gives an attempt.
    keeps_time: ClassVar = True

    task: Mapping[str, Any]
    #: The program, where it is the same for every item; else None.
    program: Program | None
    #: The variables of this process as they were when the batch began.
    variables: Mapping[bytes, bytes]
    #: Where the program is found, if that is the same for every item.
    executable: str | None

    def __call__(self, item: Any, task: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
        """See `shell_task`."""
        program = self.program or Program.of(filled(self.task, item, context))
        seconds = min((one for one in (program.seconds, context.get("timeout")) if one is not None), default=None)
        workspace = workspace_of(context)
        about = {b"INDEX": str(context.get("index", "")).encode(), **_item_variable(item, needed=program.is_script)}
        done = run_program(
            program.argv,
            executable=self.executable,
            cwd=workspace if program.cwd is None else confined(workspace, program.cwd),
            env={**self.variables, **about, **program.own},
            stdin=program.stdin,
            seconds=seconds,
            most_output=program.most_output,
            stopped=lambda: bool(getattr(context, "stopped", False)),
        )
        if done.status is None:
            raise TimeIsUp(seconds or 0.0, "killed, with all processes of its group")
        if done.status not in program.well:
            line = shlex.join(program.argv).encode("utf-8", "replace").decode()
            raise ShellFailed(line if len(line) < 200 else f"{line[:200]}…", done.status, done.stderr.text())
        return {
            "exit_code": done.status,
            "stdout": done.stdout.text(),
            "stderr": done.stderr.text(),
            "left_out": done.stdout.left_out + done.stderr.left_out,
        }


def prepare(task: Mapping[str, Any]) -> Programs:
    """A handler for the items of one batch."""
    program = None if refers(task) else Program.of(task)
    variables = dict(os.environb)
    executable = None
    if program is not None and b"PATH" not in program.own:
        executable = located(program.argv[0], variables)
    return Programs(task, program, variables, executable)


@register_task("shell", check=check, prepare=prepare)
def shell_task(item: Any, task: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """What a program wrote, and its exit status: ``{"exit_code", "stdout", "stderr", "left_out"}``.

    ``command`` is a list of arguments, in which references stand for values. A ``script`` is given to ``/bin/sh`` as
    it stands; in it, and for a command too, ``$ITEM`` is the item's text and ``$INDEX`` its index, and ``"$1"`` the
    first of ``args``. A command is not given an ``$ITEM`` of over 128 KiB, or with a null character in it. ``env`` adds
    variables to those that this process had when the batch began, ``stdin`` is what the program can read, ``cwd`` a
    folder of the workspace, ``ok`` the exit statuses that are well (0). Of each output no more than ``max_output``
    bytes are kept (1 MiB), half from either end; ``left_out`` is how many are missing.

    Raises:
        ShellFailed: it ended with another status.
        TimeIsUp: it was not done in ``timeout`` seconds, and was killed with all processes of its group.
        OSError: it cannot be started.
    """
    return prepare(task)(item, task, context)


def _argv(settings: Mapping[str, Any]) -> list[str]:
    given = settings.get("args") or ()
    if not isinstance(given, list | tuple):
        raise WrongType(f"args is a list of arguments, not {shown(given)}")
    args = [_text(arg, "an argument") for arg in given]
    if "script" in settings:
        return [_SHELL, "-c", settings["script"], _SHELL, *args]
    return [*(_text(word, "an argument") for word in settings["command"]), *args]


def _variables(given: Any) -> dict[bytes, bytes]:
    own: dict[bytes, bytes] = {}
    for name, value in require_values(given or {}, "env").items():
        if not name or "=" in name or "\0" in name:
            raise InvalidInput(f"env: {shown(name)} cannot be the name of a variable")
        own[os.fsencode(name)] = os.fsencode(_text(value, f"the variable {name}"))
    return own


def _item_variable(item: Any, *, needed: bool) -> dict[bytes, bytes]:
    """The item as a variable; nothing where it fits into none, unless that is how it reaches the program."""
    text = os.fsencode(_as_text(item, "the item"))
    if b"\0" not in text and len(text) <= _MOST_IN_A_VARIABLE:
        return {b"ITEM": text}
    if not needed:
        return {}
    why = "holds a null character" if b"\0" in text else f"has {len(text):,} bytes, of {_MOST_IN_A_VARIABLE:,} at most"
    raise InvalidInput(f"the item does not fit into $ITEM: it {why}; run a command, and give it the item as stdin")


def _input(given: Any) -> bytes | None:
    if given is None or isinstance(given, bytes):
        return given
    return _as_text(given, "stdin").encode("utf-8", "surrogateescape")


def _text(value: Any, what: str) -> str:
    """A value as a program can be given it: as an argument or a variable."""
    text = _as_text(value, what)
    if "\0" in text:
        raise InvalidInput(f"{what} holds a null character, which no program can be given")
    return text


def _as_text(value: Any, what: str) -> str:
    """Texts, paths and numbers as they are, others as JSON."""
    if isinstance(value, str | PurePath):
        return str(value)
    return os.fsdecode(value) if isinstance(value, bytes) else encode(value, what).decode()
