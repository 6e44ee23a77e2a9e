"""The package as strangers get it: built, installed into environments that have nothing else, and used there.

The environments are made once for all tests here: the bare one from the wheel, and for each extra a copy of that to
which it is added.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

import cortical
from tests.docs.markdown import ROOT

EXTRAS = {"charts": "matplotlib", "templates": "jinja2", "yaml": "yaml"}
MIB = 1 << 20
STRANGER = Path(__file__).with_name("packaged.py")

pytestmark = pytest.mark.xdist_group("package")


def succeed(*command: str | Path, cwd: Path, **more: str) -> str:
    """What a command prints, run without anything that this process has set for Python."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CORTICAL", "COVERAGE"))
    }
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**kept, "NO_COLOR": "1", **more},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what `python -m build` makes: the source archive, and from that the wheel."""
    out = tmp_path_factory.mktemp("built")
    succeed(sys.executable, "-m", "build", "--outdir", out, ROOT, cwd=out)
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the package and its base dependencies."""
    made = tmp_path_factory.mktemp("bare") / "env"
    venv.create(made, with_pip=False, symlinks=True)
    install(made, str(wheel))
    return made


@pytest.fixture(scope="module")
def with_extra(bare: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """An environment that has one extra too."""
    made: dict[str, Path] = {}

    def make(extra: str) -> Path:
        if extra not in made:
            made[extra] = tmp_path_factory.mktemp(extra) / "env"
            shutil.copytree(bare, made[extra], symlinks=True)
            install(made[extra], f"{wheel}[{extra}]")
        return made[extra]

    return make


def install(environment: Path, *what: str) -> None:
    """Install with the pip of this process, so that the environment needs none."""
    pip = (sys.executable, "-m", "pip", "--python", environment, "--quiet", "--disable-pip-version-check")
    succeed(*pip, "install", "--no-compile", *what, cwd=environment)


def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


# What is in it


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every file of the package is in it, the schemas and the mark of its types too; no test, nothing that was made."""
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cortical").rglob("*") if path.is_file()}
    ours = {name for name in files if "__pycache__" not in name}
    about = f"cortical-{cortical.__version__}.dist-info/"
    assert {name for name in names(wheel) if not name.startswith(about)} == ours
    assert {Path(name).suffix for name in ours} == {".py", ".typed", ".sql", ".json"}
    assert {f"{about}{name}" for name in ("METADATA", "RECORD", "entry_points.txt", "licenses/LICENSE")} <= names(wheel)


def test_it_is_small(built: Path) -> None:
    """The wheel and the source archive are below 2 MiB each."""
    sizes = {path.suffix: path.stat().st_size for path in built.iterdir()}
    assert sorted(sizes) == [".gz", ".whl"]
    assert max(sizes.values()) < 2 * MIB, sizes


def test_the_source_archive_holds_what_is_kept(built: Path) -> None:
    """It has the tests, examples and pages, and nothing that a build, a test or a run leaves behind."""
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        inside = {name.partition("/")[2] for name in opened.getnames()}
    assert {"LICENSE", "Makefile", "README.md", "tests/conftest.py", "examples/census.py", "docs/index.md"} <= inside
    left = (".db", ".pyc", ".whl", ".gz", ".egg-info", "-shm", "-wal")
    assert not {name for name in inside if name.endswith(left) or name.startswith((".venv", "dist/", ".coverage"))}


def test_it_says_what_it_is(wheel: Path) -> None:
    """Its name, version, licence, the Pythons it runs on and its extras stand where installers look."""
    with ZipFile(wheel) as archive:
        told = Parser().parsestr(archive.read(f"cortical-{cortical.__version__}.dist-info/METADATA").decode())
    assert (told["Name"], told["Version"], told["Requires-Python"]) == ("cortical", cortical.__version__, ">=3.11")
    assert told["License-Expression"] == "Apache-2.0"
    assert set(EXTRAS) <= set(told.get_all("Provides-Extra", []))


# The bare installation


def test_the_bare_one_has_nothing_more(bare: Path) -> None:
    """The package is the wheel's, its base dependencies are there and agree, and what only extras bring is not."""
    code = (
        "import cortical, importlib.util, sys; print(cortical.__file__.startswith(sys.prefix), "
        f"[name for name in {[*EXTRAS.values(), 'pytest', 'hypothesis', 'numpy']} if importlib.util.find_spec(name)])"
    )
    assert succeed(bare / "bin/python", "-W", "error", "-c", code, cwd=bare) == "True []\n"
    pip = (sys.executable, "-m", "pip", "--python", bare, "--disable-pip-version-check")
    assert succeed(*pip, "check", cwd=bare) == "No broken requirements found.\n"


@pytest.mark.parametrize("command", [["bin/cortical"], ["bin/python", "-m", "cortical"]], ids=["script", "module"])
def test_the_command_works(command: list[str], bare: Path, tmp_path: Path) -> None:
    """It tells its version and its help, and shows a tree, as `cortical` and as `python -m cortical`."""
    start: list[str | Path] = [bare / command[0], *command[1:]]
    assert succeed(*start, "--version", cwd=tmp_path) == f"{cortical.__version__}\n"
    assert "cortical tree --store runs.db" in succeed(*start, "--help", cwd=tmp_path)
    stranger(bare, "loops", tmp_path)
    assert "Design schema" in succeed(*start, "tree", "--store", "loops.db", cwd=tmp_path)


def stranger(environment: Path, part: str, folder: Path, warnings: str = "error") -> str:
    """What comes of a part of `packaged.py` there."""
    return succeed(environment / "bin/python", "-P", "-W", warnings, STRANGER, part, cwd=folder).strip()


CAME_OF = {
    "loops": "[{'tables': 2}]",
    "agent": "3",
    "batch": "['RED', 'WHEEL']",
    "toml": "(True, 3)",
    "yaml": "3",
    "templates": "RED",
    "charts": "1",
}


@pytest.mark.parametrize("part", ["loops", "agent", "batch", "toml"])
def test_the_base_needs_no_extra(part: str, bare: Path, tmp_path: Path) -> None:
    """Loops in a file, agents, batches and pipelines from TOML work without any extra."""
    assert stranger(bare, part, tmp_path) == CAME_OF[part]


def test_the_plugin_is_found_by_pytest(bare: Path, tmp_path: Path) -> None:
    """Where pytest is installed beside it, the fixtures are there without a word in any file."""
    apart = tmp_path / "apart"
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    succeed(*pip, "install", "--no-compile", "--target", apart, "pytest", cwd=tmp_path)
    (tmp_path / "test_users.py").write_text("def test_it(executor, store):\n    assert executor.start_root('g')\n")
    pytest_there = (bare / "bin/python", "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")
    told = succeed(*pytest_there, "--cortical-store=all", "test_users.py", cwd=tmp_path, PYTHONPATH=str(apart))
    assert told.splitlines()[-1].startswith("2 passed")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the oldest versions run on the oldest Python")
def test_the_oldest_dependencies_are_enough(wheel: Path, tmp_path: Path) -> None:
    """With each base dependency at the lowest version that is allowed, the same works, and the command too."""
    with ZipFile(wheel) as archive:
        told = Parser().parsestr(archive.read(f"cortical-{cortical.__version__}.dist-info/METADATA").decode())
    lowest = [one.replace(">=", "==") for one in told.get_all("Requires-Dist", []) if ";" not in one]
    assert len(lowest) == 7
    old = tmp_path / "env"
    venv.create(old, with_pip=False, symlinks=True)
    install(old, str(wheel), *lowest)
    for part in ("loops", "agent", "batch", "toml"):
        assert stranger(old, part, tmp_path, "ignore") == CAME_OF[part]  # networkx 3.2 warns of its own docstrings
    assert "Design schema" in succeed(old / "bin/cortical", "tree", "--store", "loops.db", cwd=tmp_path)


# The extras


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_extra_is_named(extra: str, bare: Path, tmp_path: Path) -> None:
    """What needs an extra that is not there is refused with the words that install it."""
    assert f"pip install 'cortical[{extra}]'" in stranger(bare, extra, tmp_path)


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_extra_works_alone(extra: str, with_extra: Callable[[str], Path], tmp_path: Path) -> None:
    """With one extra installed, what it is for works, and the others are still named as missing."""
    environment = with_extra(extra)
    assert stranger(environment, extra, tmp_path) == CAME_OF[extra]
    for other in EXTRAS.keys() - {extra}:
        assert f"pip install 'cortical[{other}]'" in stranger(environment, other, tmp_path)
