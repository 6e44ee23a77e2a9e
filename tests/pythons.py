"""Runs the tests with every Python that is there, each in an environment of its own below ``.venv/pythons``.

::

    python -m tests.pythons [ARGUMENTS OF PYTEST]

It ends with a line for each Python: what came of the tests, or why they were not run with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.peers.environments import NotHere, failure_of, python_of

ROOT: Final = Path(__file__).parents[1]
_PREFIX: Final = "Programming Language :: Python :: "


def versions() -> list[str]:
    """The Pythons that the package says it runs on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [told.removeprefix(_PREFIX) for told in project["classifiers"] if told.startswith(_PREFIX)]


def find(version: str) -> str | None:
    """An interpreter of this version that starts; None where there is none."""
    says_so = f"import sys; sys.exit(sys.version_info[:2] != ({version.replace('.', ', ')}))"
    return next((found for found in _candidates(version) if failure_of([found, "-c", says_so], 60) is None), None)


def _candidates(version: str) -> Iterator[str]:
    """Where it may be: on the path, and in pyenv's folder, of which the path has only one version at a time."""
    if (found := shutil.which(f"python{version}")) is not None:
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True))


def outcome(version: str, arguments: Sequence[str]) -> tuple[bool, str]:
    """Whether the tests did not fail with this Python, and in a few words what came of them."""
    base = find(version)
    if base is None:
        return True, "not here, so nothing was run with it"
    python = python_of(ROOT / ".venv" / "pythons" / version, _requirements(), base=base)
    if isinstance(python, NotHere):
        return False, f"the environment could not be made: {python.reason}"
    print(f"With Python {version}, {base}", flush=True)
    ended = subprocess.run([str(python), "-m", "pytest", "-q", *arguments], cwd=ROOT, check=False)
    return ended.returncode == 0, "passed" if ended.returncode == 0 else f"failed, exit status {ended.returncode}"


def _requirements() -> list[str]:
    """This folder with the extra `test`. All its needs are named, so that other ones make the environment anew."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return ["pip", "--editable", f"{ROOT}[test]", *(need for need in named if not need.startswith("cortical["))]


def main(arguments: Sequence[str]) -> int:
    """Run them all; 1 when tests failed, or no Python was there."""
    told = {version: outcome(version, arguments) for version in versions()}
    for version, (_, words) in told.items():
        print(f"Python {version}: {words}")
    ran = any(words == "passed" for _, words in told.values())
    return 0 if ran and all(good for good, _ in told.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
