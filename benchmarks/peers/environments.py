"""An environment of its own for each peer, made once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

_INSTALL_SECONDS = 600


@frozen
class NotHere:
    """A peer that cannot be measured on this machine, and why."""

    reason: str


def python_of(folder: Path, requirements: Sequence[str], *, base: str = sys.executable) -> Path | NotHere:
    """The interpreter of an environment in `folder` with these requirements and pip's own settings; made if need be.

    Where it cannot be made, no folder is left over and the reason comes back.
    """
    python, stamp = folder / "bin" / "python", folder / "installed"
    wanted = "\n".join(requirements)
    if stamp.exists() and stamp.read_text() == wanted and python.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    # pip of this environment installs into the other: a quarter of the time that one with a pip of its own takes.
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--quiet", "--no-input"]
    for command in ([base, "-m", "venv", "--without-pip", str(folder)], [*pip, "install", *requirements]):
        reason = failure_of(command, _INSTALL_SECONDS)
        if reason is not None:
            shutil.rmtree(folder, ignore_errors=True)
            return NotHere(reason)
    stamp.write_text(wanted)
    return python


def failure_of(command: Sequence[str], seconds: float) -> str | None:
    """Run a command; None, or in a line why it did not succeed."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return f"not done after {seconds:g} s"
    except OSError as error:
        return str(error)
    return None if ended.returncode == 0 else last_word(ended.stderr) or f"exit {ended.returncode}"


def last_word(stderr: str) -> str:
    """What a program that failed said last, by preference in a line that it calls an error; "" if it said nothing."""
    lines = [text.strip() for text in stderr.splitlines() if text.strip()]
    return next((text for text in reversed(lines) if text.startswith("ERROR: ")), lines[-1] if lines else "")
