"""The work that the pictures of the documentation show: a shop is made ready to open in the morning."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from cortical import Agent, Loop, Verdict
from cortical.stages import Effect, StageContext, stage
from cortical.stages.effects import copy, delete, read

opening = Agent("opening")
department = Agent("department", max_turns=3)

SECONDS = {"shelves": 41, "prices": 95, "tills": 12, "doors": 4}


@opening.answer
def divide(loop: Loop) -> None:
    """A child for each department."""
    for name in SECONDS:
        loop.spawn(f"Check the {name}", agent=department)


@opening.verify
def all_checked(loop: Loop) -> Verdict:
    """As many as there are have answered."""
    found = len(loop.child_results)
    return Verdict.passed("open at nine", evidence=f"{found} of {len(SECONDS)} departments are in order")


@department.produce
def look(loop: Loop) -> None:
    """Go and look."""
    name = loop.goal.split()[-1]
    loop.step("look", time.sleep, SECONDS[name])
    loop.produce("seen", f"{name}, turn {loop.turn}")


@department.verify
def in_order(loop: Loop) -> Verdict:
    """Two labels were forgotten the first time."""
    if "prices" in loop.goal and loop.turn == 1:
        return Verdict.revise("two labels are missing: tea, rice")
    return Verdict.passed("in order", evidence=loop.artifact("seen"))


def plan_order(context: StageContext) -> Iterator[Effect]:
    """What ordering would do."""
    yield copy("stock.csv", "archive/stock.csv")
    yield Effect("mail", "supplier", seconds=2, reversible=False, description="mail the order to the supplier")


@stage("stock:count", plan=lambda context: [read("stock.csv")])
def count(context: StageContext) -> int:
    """How many articles there are."""
    return len(Path("stock.csv").read_text(encoding="utf-8").splitlines())


@stage("stock:order", plan=plan_order, after=["stock:count"])
def order(context: StageContext) -> None:
    """Order what runs out."""


@stage("stock:tidy", plan=lambda context: [delete("yesterday.csv")], after=["stock:count"])
def tidy(context: StageContext) -> None:
    """Throw away what is old."""


@stage("stock:report", after=["stock:order", "stock:tidy"])
def report(context: StageContext) -> None:
    """Tell the manager; nobody has said what that would do."""


def total(item: str) -> float:
    """The sum of a till's roll: a number in each line."""
    return sum(float(line) for line in Path(item).read_text(encoding="utf-8").split())
