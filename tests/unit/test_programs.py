"""How programs are found and started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cortical.engine.programs import run_program


def put(folder: Path, says: str, *, mode: int = 0o755) -> None:
    """A program named tool in a folder of its own."""
    folder.mkdir()
    (folder / "tool").write_text(f"#!/bin/sh\necho {says} $0\n")
    (folder / "tool").chmod(mode)


def output(path: str, cwd: Path) -> str:
    return run_program(["tool"], cwd=cwd, env={"PATH": path}).stdout.text().strip()


def test_the_first_that_can_be_run_is_taken(tmp_path: Path) -> None:
    """A program is looked for in the folders of its own PATH, past files and folders that cannot be run."""
    put(tmp_path / "text", "text", mode=0o644)
    (tmp_path / "folder" / "tool").mkdir(parents=True)
    put(tmp_path / "first", "first")
    put(tmp_path / "second", "second")
    path = os.pathsep.join(str(tmp_path / name) for name in ("none", "text", "folder", "first", "second"))
    assert output(path, tmp_path) == f"first {tmp_path}/first/tool"


def test_a_relative_folder_is_one_of_where_the_program_runs(tmp_path: Path) -> None:
    """A relative folder in PATH is meant from the program's own working directory."""
    (tmp_path / "here").mkdir()
    put(tmp_path / "here" / "bin", "relative")
    put(tmp_path / "bin", "absolute")
    assert output(f"bin{os.pathsep}{tmp_path / 'bin'}", tmp_path / "here").startswith("relative")


def test_one_that_is_nowhere_is_named(tmp_path: Path) -> None:
    """A program that no folder has cannot be started, and the error names it."""
    with pytest.raises(FileNotFoundError, match="tool"):
        output(str(tmp_path), tmp_path)
