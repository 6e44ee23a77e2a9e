"""What the package weighs: the wheel, what it installs, and the modules that importing it brings in."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final
from zipfile import ZipFile

from benchmarks.measure import Figure

#: What is imported where it is used, and not before.
_HEAVY: Final = ("asyncio", "networkx", "psutil", "rich", "sqlite3", "typer")


def figures() -> list[Figure]:
    """Sizes of the wheel that is built from this folder, and modules counted in processes of their own."""
    with tempfile.TemporaryDirectory() as out:
        build = [sys.executable, "-m", "build", "--wheel", "--outdir", out, str(Path(__file__).parents[1])]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (wheel,) = Path(out).glob("*.whl")
        with ZipFile(wheel) as archive:
            installed = archive.infolist()
        return [
            Figure("size of the wheel", wheel.stat().st_size / 1024, "KiB", 2048),
            Figure("files that it installs", len(installed), ""),
            Figure("size of these", sum(file.file_size for file in installed) / 1024, "KiB"),
            *(_modules(module) for module in ("networkx", "cortical", "cortical.reasoning", "cortical.agents")),
        ]


def _modules(module: str) -> Figure:
    """How many modules are there after importing it, beside those of the bare interpreter."""
    code = f"import sys; bare = set(sys.modules); import {module}; print(*(set(sys.modules) - bare))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    absent = [name for name in _HEAVY if name not in loaded]
    return Figure(f"modules of import {module}", len(loaded), "", remark=f"no {', '.join(absent)}")
