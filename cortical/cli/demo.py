"""The command `demo`: six scenarios, then the audit of a real package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

import cortical
from cortical.cli.session import say, this_command

EXAMPLES = Path(cortical.__file__).parent.parent / "examples"


def demo(
    store: Annotated[str, typer.Option("--store", metavar="FILE", help="Keeps the audit.")] = "cortical-demo.db",
    report: Annotated[Path, typer.Option("--report", metavar="FILE", help="The report.")] = Path("cortical-demo.md"),
    package: Annotated[str, typer.Option("--package", metavar="NAME", help="The package to audit.")] = "networkx",
) -> None:
    """Run six scenarios, then audit an installed package.

    It needs the source checkout. Run again, it carries on an audit that was not finished; a finished one is
    followed by a new one.
    """
    scenarios, audit = EXAMPLES / "nested_loop_demo.py", EXAMPLES / "audit_package.py"
    if not (scenarios.exists() and audit.exists()):
        say(f"the demo needs the source checkout: there is no {scenarios.name} and {audit.name} in {EXAMPLES}")
        raise typer.Exit(1)
    _run(scenarios)
    _run(audit, package, "--store", store, "--report", str(report))
    typer.echo(f"\nThe report: {report}\nThe tree:   {this_command()} tree --levels 2 --store {quote(store)}")


def _run(script: Path, *arguments: str) -> None:
    done = subprocess.run([sys.executable, script, *arguments], check=False)  # noqa: S603  # our own scripts
    if done.returncode:
        say(f"{script.name} ended with exit code {done.returncode}")
        raise typer.Exit(max(1, done.returncode))  # a negative one is the signal that ended it
