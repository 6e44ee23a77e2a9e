"""The release check: every part of the library in one tree, killed at random moments, and answered by a person."""

from __future__ import annotations

import io
import random
import shlex
import signal
import subprocess
import sys
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree

import pytest

from cortical.core.events import Ended, Event, Started
from cortical.core.outcome import Ok
from cortical.store import Store, open_store
from examples.release_check import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "release_check.py"
FILES = {
    "cart.py": """
        '''A cart.'''

        import os


        def total(prices: list[int]) -> int:~~
            return sum(prices)
        """,
    "menu.py": """
        '''What there is.'''

        MENU = '''
        soup~~
        '''
        """,
    "prices.py": """
        '''Prices.'''

        from typing import Any, Final

        CENTS: Final = 100


        def price(cents):
            return cents / CENTS
        """,
    "shop.py": "'''The shop.'''\n\nimport cart~\n\nTILL = cart.total([1, 2])",
    "texts.py": """
        '''What is said.'''

        HELLO = '''
        hello~~
        '''
        """,
    "tests/test_cart.py": """
        import cart


        def test_total() -> None:
            assert cart.total([1, 2]) == 3
        """,
    "docs/guide.md": """
        # Guide

        See [the cart](old/cart.py), and

        ```python
        import cart
        print(cart.total([1, 2]))
        ```
        """,
    "README.md": "# Shop\n\nThe [guide](docs/guide.md) says all.\n",
}


def text_of(name: str) -> str:
    """A file of the project; ~ stands for a space that an editor would take away."""
    return dedent(FILES[name]).lstrip().replace("~", " ")


def make_project(folder: Path, **more: str) -> Path:
    """A small project with white space, imports and a link that can be mended, and two texts that must not be."""
    texts = {name: text_of(name) for name in FILES} | more
    for name, text in texts.items():
        (folder / "shop" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "shop" / name).write_text(text, encoding="utf-8")
    return folder / "shop"


def arguments_for(project: Path, *more: str) -> list[str]:
    """The arguments for a project, with a workspace beside it; by rules of its own, whatever is installed."""
    return [str(project), "--workspace", str(project.parent / "check"), "--linter", "rules", *more]


def played(project: Path, *more: str, status: int = 0) -> str:
    """What the example says, in this process."""
    said = io.StringIO()
    with redirect_stdout(said):
        assert main(arguments_for(project, *more)) == status, said.getvalue()
    return said.getvalue()


def opened(project: Path) -> Store:
    return open_store(project.parent / "check" / "release.db", create=False)


def log_of(project: Path) -> list[Event]:
    """The log of the one tree."""
    store = opened(project)
    try:
        (root,) = store.roots()
        assert store.check() == []
        return list(store.read(root.id))
    finally:
        store.close()


def report_of(project: Path) -> str:
    return (project.parent / "check" / "report.md").read_text(encoding="utf-8")


def kill_at(project: Path, count: int) -> None:
    """Run the example until its log holds so many runs that have ended, or begun; then kill -9."""
    line = [sys.executable, str(EXAMPLE), *arguments_for(project, "--approve", "yes")]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as process:
        place = project.parent / "check" / "release.db"
        while not place.exists():
            require_running(process)
        store = opened(project)
        while not store.roots() or turns(list(store.read(store.roots()[0].id))) < count:
            require_running(process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        store.close()


def require_running(process: subprocess.Popen[bytes]) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.005)


def turns(log: list[Event]) -> int:
    """How many runs of a log were begun and ended: what the watch says, and when, is left to chance."""
    return sum(isinstance(event, Started | Ended) for event in log)


def ended_well(log: list[Event]) -> dict[str, object]:
    return {event.run_id: event.outcome for event in log if isinstance(event, Ended) and isinstance(event.outcome, Ok)}


def require_sound(log: list[Event]) -> None:
    """Every run has ended, once, after all below it; and no work was done by two of them."""
    ended = {event.run_id: place for place, event in enumerate(log) if isinstance(event, Ended)}
    assert len(ended) == sum(isinstance(event, Ended) for event in log)
    started = [event for event in log if isinstance(event, Started)]
    for event in started:
        assert event.run_id in ended
        assert event.parent_id is None or ended[event.run_id] < ended[event.parent_id]
    assert max(Counter((event.parent_id, event.kind, event.name) for event in started).values()) == 1


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Event]]:
    """The report, without the folder's name, and the log of a check that nothing happened to."""
    project = make_project(tmp_path_factory.mktemp("undisturbed"))
    said = played(project, "--approve", "yes")
    assert "✓ ready: 4 findings left, 0 in the way" in said
    assert "a person says: yes" in said
    return report_of(project), log_of(project)


def test_every_part_in_one_tree(undisturbed: tuple[str, list[Event]]) -> None:
    """All kinds of runs stand below the one root; the report tells what was found, mended, taken back and left."""
    report, log = undisturbed
    require_sound(log)
    kinds = Counter(event.kind for event in log if isinstance(event, Started))
    assert kinds == {
        "loop": 7,
        "pipeline": 1,
        "process": 1,
        "stage": 6,
        "iteration": 3,
        "step": 9,
        "batch": 1,
        "item": 8,
    }
    assert "| lint | rules of its own, as ruff is not used | 2 | 0 |" in report
    assert "| tests | 1 of 1 files of tests | 0 | 0 |" in report
    assert "| docs | links and snippets of 2 pages | 1 | 0 |" in report
    assert "Mended: `cart.py`, `docs/guide.md`, `prices.py`, `shop.py`." in report
    assert "Not mended, as it would mean another thing: `menu.py`, `texts.py`." in report


def test_killed_at_random_moments(undisturbed: tuple[str, list[Event]], tmp_path: Path) -> None:
    """Killed by kill -9 four times and run again, it writes the same report, and nothing that had ended runs again."""
    report, whole = undisturbed
    project = make_project(tmp_path)
    seen: list[Event] = []
    for moment in sorted(random.Random(7).sample(range(1, turns(whole) - 1), 4)):
        kill_at(project, moment)
        log = log_of(project)
        assert log[: len(seen)] == seen
        seen = log
    assert "✓ ready" in played(project, "--approve", "yes")
    log = log_of(project)
    assert log[: len(seen)] == seen
    require_sound(log)
    assert report_of(project) == report
    assert turns(log) == turns(whole)
    assert ended_well(seen).items() <= ended_well(log).items()
    assert played(project, "--approve", "yes").count("▶") == 0
    assert log_of(project) == log


def test_a_person_approves(tmp_path: Path) -> None:
    """Without an answer it waits and says how to give one; after that, by the real command, the mended is written."""
    project = make_project(tmp_path)
    line = [sys.executable, str(EXAMPLE), *arguments_for(project, "--write", "--tests", "0")]
    said = subprocess.run(line, check=True, capture_output=True, encoding="utf-8").stdout
    (command,) = [shlex.split(line) for line in said.splitlines() if line.startswith("  cortical answer ")]
    assert "the same command again" in said
    assert "cortical answer" in played(project, "--write", "--tests", "0")  # still waiting
    assert (project / "cart.py").read_text() == text_of("cart.py")
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
    assert "✓ ready" in played(project, "--write", "--tests", "0")
    mended = text_of("cart.py").replace("import os\n", "").replace("int:  ", "int:")
    assert (project / "cart.py").read_text() == mended
    assert "[the cart](../cart.py)" in (project / "docs/guide.md").read_text()
    assert (project / "menu.py").read_text() == text_of("menu.py")
    drawn = ElementTree.parse(tmp_path / "check" / "release.svg").iter("{http://www.w3.org/2000/svg}text")
    assert {"check:files", "iteration 1"} <= {str(text.text).strip() for text in drawn}


def test_a_project_that_has_changed_meanwhile(tmp_path: Path) -> None:
    """When the project has changed before the answer came, it goes round with a new copy, and asks about that."""
    project = make_project(tmp_path)
    played(project, "--tests", "0")
    (project / "cart.py").write_text(text_of("cart.py").replace("sum", "max"))
    assert "ANSWER, turn 2" in played(project, "--tests", "0", "--approve", "yes")
    assert (tmp_path / "check" / "copy-2" / "cart.py").exists()


def test_what_stands_in_the_way(tmp_path: Path) -> None:
    """A test that fails, a file that does not parse and a link to nowhere are a no, of which no person is asked."""
    broken = {
        "tests/test_more.py": '"""More."""\n\n\ndef test_no() -> None:\n    assert 1 == 2\n',
        "half.py": "def half(\n",
        "README.md": "See [nothing](nowhere.md).\n",
    }
    project = make_project(tmp_path, **broken)
    said = played(project, status=1)
    assert "✗ not ready: 7 findings left, 3 in the way" in said
    assert "**blocks** `half.py:1` does not parse" in report_of(project)
    assert "**blocks** `README.md:1` the link to nowhere.md leads nowhere" in report_of(project)
    assert "`tests/test_more.py` tests/test_more.py::test_no fails" in report_of(project)


def test_a_check_that_was_not_made_has_found_nothing_out(tmp_path: Path) -> None:
    """It is said that and why it was not made, not that it found nothing; and the answer is said to be without it."""
    project = make_project(tmp_path)
    said = played(project, "--tests", "0", "--approve", "yes")
    (line,) = [line for line in said.splitlines() if "stage check:tests" in line and "✓" in line]
    assert line.endswith("not run, as none is to be")
    assert "Check tests once more" not in said
    assert said.rstrip().endswith("0 in the way, without tests (not run, as none is to be)")
    assert "| tests | not run, as none is to be | – | – |" in report_of(project)


def test_the_watch_ends_what_uses_too_much(tmp_path: Path) -> None:
    """When checking uses more memory than it may, the watch ends with that reason, and the answer is no."""
    project = make_project(tmp_path)
    said = played(project, "--tests", "0", "--mib", "1", status=1)
    assert "⊘ loop watch 1" in said
    assert "- **blocks** checking used too much: memory" in report_of(project)


def test_a_part_of_this_repository(tmp_path: Path) -> None:
    """Of real code without tests it says that there are none, and comes to an answer; a no is a no."""
    said = io.StringIO()
    with redirect_stdout(said):
        status = main([str(EXAMPLE.parents[1] / "cortical" / "core"), "--workspace", str(tmp_path), "--approve", "no"])
    assert status == 1, said.getvalue()
    assert "a person says: no" in said.getvalue()
    assert "| tests | the project has none | 0 | 0 |" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_what_makes_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is not there, and a workspace inside the project, are refused before anything is done."""
    project = make_project(tmp_path)
    refused = {
        "there is no folder": [str(tmp_path / "x")],
        "outside of it": [str(project), "--workspace", str(project / "c")],
    }
    for told, arguments in refused.items():
        with pytest.raises(SystemExit):
            main(arguments)
        assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [project]
