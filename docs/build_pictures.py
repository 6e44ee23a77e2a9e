"""Makes the pictures of the terminal, docs/pictures/*.svg, from what the commands print.

::

    python docs/build_pictures.py

The commands are those of `cortical`, carried out in this process on stores of their own, with the work of
docs/pictures/shop.py. The clock stands still unless somebody sleeps, and ids come from a sequence, so that the same
commands make the same pictures. A test fails when what they show is no longer what the commands print.
"""

from __future__ import annotations

import io
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, closing, contextmanager, redirect_stderr, redirect_stdout, suppress
from hashlib import sha256
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Final
from unittest.mock import patch

import typer
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from cortical import run
from cortical.cli import app
from cortical.reasoning import NestedLoopExecutor
from cortical.store import open_store
from cortical.testing import DyingStore, FakeClock, ProcessDied

OUT: Final = Path(__file__).parent / "pictures"
_COLUMNS: Final = 92
#: What Rich's own form has, without the fonts that it would load from elsewhere.
_FORM: Final = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: "Fira Code", "DejaVu Sans Mono", Menlo, Consolas, monospace, \
"Segoe UI Symbol", "Noto Sans Symbols 2"; \
font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />\
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
_THEME: Final = TerminalTheme(
    (30, 33, 39),
    (214, 218, 224),
    [(60, 64, 72), (240, 113, 120), (145, 208, 118), (234, 192, 98), (97, 175, 239), (198, 120, 221), (86, 190, 204),
     (214, 218, 224)],
    [(128, 135, 147), (255, 138, 144), (166, 226, 140), (255, 213, 120), (128, 194, 255), (219, 150, 240),
     (110, 214, 227), (255, 255, 255)],
)  # fmt: skip
_CURSOR: Final = re.compile(r"\r\n|\n|\r|\x1b\[(?:\?25[lh]|\d*[AK])")


class Terminal(io.StringIO):
    """Takes what a terminal would be sent, both streams in one."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return True

    def screen(self) -> str:
        """What stands on the screen in the end, its colours included."""
        lines, row, end, text = [""], 0, 0, self.getvalue()
        for sign in _CURSOR.finditer(text):
            lines[row] += text[end : sign.start()]
            end = sign.end()
            if sign[0] in ("\n", "\r\n"):
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif sign[0].endswith("A"):
                row -= int(sign[0][2:-1] or 1)
            elif sign[0].endswith("K"):
                lines[row] = ""
        lines[row] += text[end:]
        return "\n".join(lines).rstrip()


class Talk(logging.Handler):
    """Writes what is logged to the terminal, as Python does in a process where nobody has said otherwise."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        print(record.getMessage(), file=sys.stderr)


class Shell:
    """Carries out commands in a working folder and a time of their own, and keeps what was on the screen."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self._numbers = count(1)
        self._screens: list[str] = []

    def random(self, size: int) -> bytes:
        """What ids are made of."""
        return sha256(str(next(self._numbers)).encode()).digest()[:size]

    def show(self, command: str) -> None:
        """Carry out a command, and have it in the picture."""
        self._screens.append(f"\x1b[1;32m$\x1b[0m {command}\n{self.do(command)}")

    def do(self, command: str) -> str:
        """Carry out a command; what it has left on the screen."""
        terminal = Terminal()
        # A command that says no has printed why.
        with redirect_stdout(terminal), redirect_stderr(terminal), suppress(typer.Exit):
            app(shlex.split(command)[1:], prog_name="cortical", standalone_mode=False)
        return terminal.screen()

    def picture(self, name: str, title: str) -> str:
        """The picture of what was shown."""
        text = Text.from_ansi("\n\n".join(self._screens))
        console = Console(
            record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
        )
        console.print(text, soft_wrap=False)
        svg = console.export_svg(title=title, theme=_THEME, code_format=_FORM, unique_id=name)
        return "".join(f"{line.rstrip()}\n" for line in svg.splitlines() if line.strip())


def tree(shell: Shell) -> str:
    """A tree that is walked by hand, of which one branch is broken."""
    staff = _walked(shell)
    shell.show("cortical tree --store shop.db")
    shell.show(f'cortical break {staff} --reason "the owner does it alone" --store shop.db')
    shell.show("cortical tree --store shop.db")
    return "who waits for whom; a break ends a whole branch"


def why(shell: Shell) -> str:
    """What a loop waits for."""
    staff = _walked(shell)
    shell.show(f"cortical why {staff} --store shop.db")
    return "why a loop stands still"


def agents(shell: Shell) -> str:
    """A tree that drives itself; one child was sent back once."""
    shell.show('cortical run shop:opening "Is the shop ready?" --workers 1 --store shop.db')
    return "agents at work"


def killed(shell: Shell) -> str:
    """The driver dies; it is found, and taken up again."""
    import shop

    with closing(open_store("shop.db")) as store:
        try:
            run(shop.opening, "Is the shop ready?", store=DyingStore(store, write=17), workers=1)
        except ProcessDied:
            shell.clock.advance(60)
        root = store.roots()[0].id[:8]
    shell.show("cortical tree --store shop.db")
    shell.show("cortical health --store shop.db")
    shell.do(f"cortical resume {root} --workers 1 --store shop.db")
    shell.show(f"cortical tree {root} --store shop.db")
    return "killed, found, and carried on"


def plan(shell: Shell) -> str:
    """What a pipeline would do."""
    Path("stock.csv").write_text("article,left\n" * 850, encoding="utf-8")
    Path("yesterday.csv").write_text("article,left\n" * 830, encoding="utf-8")
    stages = ["stock:count", "stock:order", "stock:tidy", "stock:report"]
    Path("night.toml").write_text(f'name = "night"\nstages = {stages}\n', encoding="utf-8")
    shell.show("cortical pipeline plan night.toml --stages shop")
    return "a plan: nothing is run"


def batch(shell: Shell) -> str:
    """Many items, of which one fails, is mended, and runs again alone."""
    for number in range(1, 6):
        Path(f"till-{number}.txt").write_text("12.50\n8.00\n" if number != 4 else "12.50\n8.OO\n", encoding="utf-8")
    shell.show("cortical batch run shop:total --files 'till-*' --name tills --store shop.db")
    with closing(open_store("shop.db", create=False)) as store:
        batch_id = store.roots()[0].id[:8]
    shell.show(f"cortical batch failed {batch_id} --store shop.db")
    Path("till-4.txt").write_text("12.50\n8.00\n", encoding="utf-8")
    shell.show(f"cortical batch retry {batch_id} --store shop.db")
    return "a batch: only what failed runs again"


SCENES: Final[Sequence[Callable[[Shell], str]]] = (tree, why, agents, killed, plan, batch)


def build() -> dict[str, str]:
    """The text of each picture, by its file name."""
    return {f"{scene.__name__}.svg": _picture(scene) for scene in SCENES}


def main() -> None:
    """Write all pictures."""
    OUT.mkdir(exist_ok=True)
    for name, text in build().items():
        (OUT / name).write_text(text, encoding="utf-8")


def _walked(shell: Shell) -> str:
    """A tree with loops that wait; the id of one of them."""
    with NestedLoopExecutor(store="shop.db") as executor:
        root = executor.start_root("Open the shop in the new street")
        executor.advance(root)
        rent, staff, stock = executor.spawn_children(root, ["Rent the rooms", "Find two people", "Order the stock"])
        shell.clock.advance(3700)
        executor.complete(rent, "signed")
        executor.advance(staff)
        notice = executor.spawn_child(staff, "Put up a notice")
        shell.clock.advance(400)
        executor.complete(notice, "eleven people called")
        executor.block(executor.spawn_child(staff, "Ask the agency"), "no answer before Monday")
        for _ in range(3):
            executor.advance(stock)
        shell.clock.advance(95)
    return staff[:8]


def _picture(scene: Callable[[Shell], str]) -> str:
    shell = Shell()
    with _surroundings(shell):
        title = scene(shell)
    return shell.picture(scene.__name__, title)


@contextmanager
def _surroundings(shell: Shell) -> Iterator[None]:
    """A folder, an environment, a time and a randomness that are the same everywhere."""
    environment = {"COLUMNS": str(_COLUMNS), "LINES": "50", "TERM": "xterm-256color", "TZ": "UTC", "FORCE_COLOR": "1"}
    unwanted = ("NO_COLOR", "COLORTERM", "CORTICAL_STORE")
    paths, talk = list(sys.path), logging.getLogger("cortical")
    with (
        TemporaryDirectory() as folder,
        chdir(folder),
        patch.dict(os.environ, environment),
        patch("time.time", shell.clock.time),
        patch("time.sleep", shell.clock.advance),
        patch("cortical.core.ids.os", SimpleNamespace(urandom=shell.random)),
        patch("cortical.cli.session.which", lambda name: name),
        patch("cortical.engine.lease._holder", lambda: "process 4711 on tablet"),
    ):
        for name in unwanted:
            os.environ.pop(name, None)
        sys.path.insert(0, str(OUT))
        time.tzset()
        talk.addHandler(Talk())
        talk.propagate = False
        try:
            yield
        finally:
            talk.handlers.clear()
            talk.propagate = True
            sys.path[:] = paths
            sys.modules.pop("shop", None)
    time.tzset()


if __name__ == "__main__":
    main()
