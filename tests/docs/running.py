"""Runs the blocks of a page as its reader would: in order, in one namespace and one folder."""

from __future__ import annotations

import gc
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Final

from attrs import frozen

from cortical.reasoning import NestedLoopExecutor
from tests.docs.markdown import ROOT, Block, Page
from tests.docs.shown import Ids

PYTHON: Final = frozenset({"python", "py", "python3"})
CONSOLE: Final = frozenset({"console", "shell", "bash", "sh"})
#: What a block may be that shows what the Python block right before it printed.
_OUTPUT: Final = frozenset({"text", "json", "mermaid", "dot", "markdown"})
#: Commands of a reader that are not run here.
_NOT_RUN: Final = frozenset({"pip", "make", "git", "cd", "source"})
#: Set from outside, they would change what commands print.
_UNWANTED: Final = frozenset({"CORTICAL_STORE", "COLUMNS", "FORCE_COLOR", "PYTHONWARNINGS"})
_ASK_FOR_STATUS: Final = "echo $?"
_MOST_SECONDS: Final = 60


@frozen
class Command:
    """What stands behind a prompt, the line of the page it is on, and what the page shows below it."""

    text: str
    line: int
    shown: str


class Reader:
    """Follows one page in `folder`, which is the working folder, and fails naming page and line."""

    def __init__(self, page: Page, folder: Path) -> None:
        self._page, self._folder = page, folder
        self._module = ModuleType(f"page_{re.sub(r'[^a-z]', '_', page.path.stem.lower())}")
        self._ids = Ids()
        self._printed: str | None = None
        self._status = 0
        inherited = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
        # Unbuffered, so that data and talk come in the order in which a terminal shows them.
        self._environment = {**inherited, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "NO_COLOR": "1"}
        #: The files of this page that nothing has used yet, each with the line where it stands.
        self._unused: dict[str, int] = {}

    def follow(self) -> None:
        """Run everything."""
        sys.modules[self._module.__name__] = self._module  # where attrs and dataclasses look up a class's module
        try:
            for block in self._page.blocks:
                self._follow_block(block)
        finally:
            _close_all(self._module)
            for name, module in list(sys.modules.items()):
                if module is self._module or str(getattr(module, "__file__", None)).startswith(
                    f"{self._folder}{os.sep}"
                ):
                    del sys.modules[name]
            vars(self._module).clear()
            gc.collect()  # what a page did not close is let go of now, not in another test
        for name, line in self._unused.items():
            raise self._failure(line, f"{name} is saved, but no command or block of the page uses it")

    def _follow_block(self, block: Block) -> None:
        printed, self._printed = self._printed, None
        if block.language in PYTHON:
            self._mark_used(re.findall(r"^(?:from|import) (\w+)", block.text, re.MULTILINE), ".py")
            name = file_name(block)
            if name is None:
                self._printed = self._run_python(block)
            else:
                (self._folder / name).write_text(block.text, encoding="utf-8")
                self._unused[name] = block.line
        elif block.language in CONSOLE:
            self._run_commands(commands(block))
        elif block.language in _OUTPUT and block.follows_directly and printed is not None:
            self._compare(block.text, printed, block.line, "the block before this one prints something else")

    def _run_python(self, block: Block) -> str:
        printed = io.StringIO()
        try:
            # The empty lines let a traceback name the line of the page.
            code = compile("\n" * (block.line - 1) + block.text, str(self._page.path), "exec", dont_inherit=True)
            with redirect_stdout(printed):
                exec(code, self._module.__dict__)
        except Exception as error:
            raise AssertionError(f"{self._page.name}:{block.line}: this block raises {error!r}") from error
        return printed.getvalue()

    def _run_commands(self, all_commands: Sequence[Command]) -> None:
        for number, command in enumerate(all_commands):
            printed = self._run_command(command)
            if printed is None:
                continue
            if command.shown.strip():
                self._compare(command.shown, printed, command.line, f"`{command.text}` prints something else")
            shows_status = [after.text for after in all_commands[number + 1 : number + 2]] == [_ASK_FOR_STATUS]
            if self._status and not shows_status:
                status = f"exit status {self._status}, which `$ {_ASK_FOR_STATUS}` does not show"
                raise self._failure(command.line, f"`{command.text}` ends with {status}; it printed:\n{printed}")

    def _run_command(self, command: Command) -> str | None:
        """What a command prints; None when it is one that is not run."""
        if command.text == _ASK_FOR_STATUS:
            printed, self._status = f"{self._status}\n", 0
            return printed
        words = shlex.split(self._ids.in_command(command.text), comments=True)
        if words[0] in _NOT_RUN:
            return None
        if words[0] == "export":
            self._environment |= dict(word.split("=", 1) for word in words[1:])
            return ""
        self._mark_used(words)
        if words[0] == "cortical":
            return self._run_program(["-m", *words])
        if words[0] in PYTHON:
            return self._run_program([str(ROOT / word) if word.startswith("examples/") else word for word in words[1:]])
        raise self._failure(command.line, f"`{words[0]}` is no command that the test of the documentation can run")

    def _run_program(self, arguments: Sequence[str]) -> str:
        arguments, into = (arguments[:-2], arguments[-1]) if arguments[-2:-1] == [">"] else (arguments, None)
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=_MOST_SECONDS,
            check=False,
        )
        # A shell tells of the signal that ended a program in this way.
        self._status = done.returncode if done.returncode >= 0 else 128 - done.returncode
        printed = f"{done.stdout}Killed\n" if done.returncode == -9 else done.stdout
        if into is None:
            return printed
        (self._folder / into).write_text(printed, encoding="utf-8")
        return ""

    def _compare(self, shown: str, printed: str, line: int, otherwise: str) -> None:
        difference = self._ids.compare(shown, printed)
        if difference:
            raise self._failure(line, f"{otherwise} (- as the page has it, + as it is):\n{difference}")

    def _mark_used(self, words: Sequence[str], ending: str = "") -> None:
        for word in words:
            self._unused.pop(f"{word}{ending}", None)

    def _failure(self, line: int, problem: str) -> AssertionError:
        return AssertionError(f"{self._page.name}:{line}: {problem}")


def file_name(block: Block) -> str | None:
    """The file as which a Python block is saved, if its first line is a comment that is the name of one."""
    match = re.match(r"# (\w+\.py)\n", block.text)
    return match[1] if match else None


def commands(block: Block) -> list[Command]:
    """The commands of a console block; a line that ends in a backslash goes on in the next."""
    found: list[Command] = []
    for number, line in enumerate(block.text.splitlines(), start=block.line):
        last = found[-1] if found else None
        if line.startswith("$ "):
            found.append(Command(line.removeprefix("$ "), number, ""))
        elif last is not None and last.text.endswith("\\") and not last.shown:
            found[-1] = Command(last.text[:-1] + line.strip().removeprefix("> "), last.line, "")
        elif last is not None:
            found[-1] = Command(last.text, last.line, f"{last.shown}{line}\n")
    return found


def _close_all(module: ModuleType) -> None:
    """Close the executors and stores that a page has left open, as the end of its reader's process would."""
    for value in vars(module).values():
        store = value.store if isinstance(value, NestedLoopExecutor) else value
        if not isinstance(store, type) and hasattr(store, "append") and hasattr(store, "close"):
            store.close()
