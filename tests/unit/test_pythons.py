"""Running the tests with every Python that is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import pythons


def test_the_package_says_which_they_are() -> None:
    """They are read off what the package says of itself, the one of this process among them."""
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in pythons.versions()


def test_one_that_is_there_is_found() -> None:
    """What is found is an interpreter of just that version, and starts."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = pythons.find(version)
    assert found is not None
    said = subprocess.run([found, "-VV"], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"Python {version}.")


def test_one_that_is_not_there_is_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named; and where none at all is there, that nothing was run is no success."""
    monkeypatch.setattr(pythons, "versions", lambda: ["9.9"])
    assert pythons.main(["tests/unit"]) == 1
    assert capsys.readouterr().out == "Python 9.9: not here, so nothing was run with it\n"
