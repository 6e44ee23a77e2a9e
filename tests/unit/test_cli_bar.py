"""The bar of commands that do many things."""

from __future__ import annotations

import io
import sys

import pytest

from cortical.cli.driving import bar


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows the name, and how many of how many are done."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    with bar("tills") as move:
        assert move is not None
        move(2, 5, 1.5)
    assert "tills" in terminal.getvalue()
    assert "2/5" in terminal.getvalue()
    assert "1.5/s" in terminal.getvalue()


def test_a_pipe_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn where nobody looks."""
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with bar("tills") as move:
        assert move is None
    assert pipe.getvalue() == ""
