"""Works through 500 orders in batches: a stage that loops, until a decision ends it.

::

    python examples/for_loop_stage.py                                  # all of it, at one go
    python examples/for_loop_stage.py --store shop.db --die-in 3       # dies by kill -9 in the middle of batch 3 …
    python examples/for_loop_stage.py --store shop.db                  # … and goes on with it

The orders in `examples/data` are as orders are: some have no quantity, customers that nobody knows, or dates written
in another way. Each row gets a score between 0 and 1. What scores less than the threshold is set aside; the rest is
repaired and written to a file of its batch. Half-way through a batch is so dirty that it is decided to be stricter
from there on, and when the next batch would be of the next quarter, it is decided to end.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, TextIO

from attrs import define, field

from cortical.core.errors import RunNotFound
from cortical.stages.loop import LoopSummary, StageHandler, default_config

DATA: Final = Path(__file__).parent / "data"
STAGE: Final = "data_processing"
#: A batch in which a smaller share of the rows is without fault is too dirty to go on as before.
CLEAN_ENOUGH: Final = 0.85
STRICTER: Final = 0.9
QUARTER_ENDS: Final = date(2026, 6, 30)

Row = dict[str, str]

# Rows


@define
class Shop:
    """What is known beforehand: orders in the order they came, customers, and prices."""

    orders: list[Row]
    customers: dict[str, Row]
    prices: dict[str, float]

    @classmethod
    def read(cls, folder: Path = DATA) -> Shop:
        """Read the files of a folder; of two prices of a product the later holds."""
        prices = {}
        for row in read_csv(folder / "prices.csv"):
            try:
                prices[row["product"]] = float(row["unit_price"])
            except ValueError:
                continue  # a price that is none: orders of it will not find one
        customers = {row["customer"]: row for row in read_csv(folder / "customers.csv")}
        return cls(read_csv(folder / "orders.csv"), customers, prices)

    def score(self, row: Row) -> tuple[float, Row]:
        """How good a row is, from 0 to 1, and the same row with what can be repaired repaired."""
        customer, day, quantity = row["customer"].strip().upper(), to_date(row["date"]), to_quantity(row["quantity"])
        known = customer in self.customers
        checks = [
            1.0 if known and customer == row["customer"] else 0.7 if known else 0.0,
            1.0 if row["product"] in self.prices else 0.0,
            1.0 if quantity and str(quantity) == row["quantity"] else 0.7 if quantity else 0.0,
            1.0 if day and day.isoformat() == row["date"] else 0.7 if day else 0.0,
        ]
        amount = (quantity or 0) * self.prices.get(row["product"], 0.0)
        repaired = {**row, "customer": customer, "quantity": str(quantity or 0), "amount": f"{amount:.2f}"}
        return min(checks) or sum(checks) / len(checks) / 2, repaired


def read_csv(path: Path) -> list[Row]:
    """The rows of a file, by the names in its first line."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def to_date(text: str) -> date | None:
    """A date written in one of the usual ways; None where it is none."""
    for form in ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y"):
        try:
            return datetime.strptime(text.strip(), form).date()
        except ValueError:
            continue
    return None


def to_quantity(text: str) -> int | None:
    """A quantity from 1 on, with or without its unit; None where it is none."""
    number = text.removesuffix("pcs").strip()
    return int(number) if number.isdecimal() and int(number) > 0 else None


# The substages


@define
class Batch:
    """One batch on its way through the substages."""

    rows: list[Row]
    threshold: float
    kept: list[Row] = field(factory=list)
    faultless: int = 0
    aside: int = 0

    def process(self, shop: Shop, seen: set[str]) -> None:
        """Score and repair the rows, and set aside what is not good enough, or was there before."""
        for row in self.rows:
            score, repaired = shop.score(row)
            self.faultless += score == 1.0
            if score < self.threshold or row["order"] in seen:
                self.aside += 1
            else:
                self.kept.append(repaired)
            seen.add(row["order"])

    def store(self, path: Path) -> None:
        """Write what was kept; done again, it is the same file."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [*self.rows[0], "amount"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.kept)

    def results(self) -> dict[str, Any]:
        """What came of the batch."""
        revenue = round(sum(float(row["amount"]) for row in self.kept), 2)
        return {
            "processed_items": len(self.rows),
            "kept": len(self.kept),
            "set_aside": self.aside,
            "revenue": revenue,
            "success_rate": self.faultless / len(self.rows),
        }


# The stage


def work_through(
    stage_handler: StageHandler, shop: Shop, folder: Path, out: TextIO, die_in: int | None = None
) -> LoopSummary:
    """Go through the orders, batch by batch, from wherever the stage stands."""
    begin(stage_handler, shop, out)
    while stage_handler.has_next_iteration("data_processing"):
        iteration = stage_handler.start_iteration("data_processing")
        current_iteration = iteration["current"]

        stage_handler.start_substage("data_processing", "prepare_iteration")
        rows = [shop.orders[number] for number in iteration["data"]]
        batch = Batch(rows, iteration["parameters"]["threshold"])
        stage_handler.complete_substage("data_processing", "prepare_iteration", success=True)

        stage_handler.start_substage("data_processing", "process_batch")
        batch.process(shop, {row["order"] for row in shop.orders[: iteration["data"].start]})
        if current_iteration == die_in:
            print(f"☠ kill -9 in the middle of batch {die_in}", file=out, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        stage_handler.complete_substage("data_processing", "process_batch", success=True)

        stage_handler.start_substage("data_processing", "validate_results")
        if len(batch.kept) + batch.aside != len(rows):
            raise AssertionError(f"{len(rows)} rows went in, {len(batch.kept)} + {batch.aside} came out")
        stage_handler.complete_substage("data_processing", "validate_results", success=True)

        stage_handler.start_substage("data_processing", "store_iteration_results")
        batch.store(folder / f"batch-{current_iteration}.csv")
        stage_handler.complete_substage("data_processing", "store_iteration_results", success=True)

        results = batch.results()
        with stage_handler.journal.transaction():  # a batch and what is decided after it: both, or neither
            stage_handler.complete_iteration("data_processing", success=True, iteration_results=results)
            decided = decide(stage_handler, shop, iteration["data"].stop, results, batch.threshold)
        print(told(current_iteration, results, batch.threshold), *decided, sep="\n  ⚖ ", file=out, flush=True)

    loop_summary = stage_handler.complete_loop("data_processing")
    stage_handler.complete_stage("data_processing", success=True, result_data=loop_summary)
    return loop_summary


def begin(stage_handler: StageHandler, shop: Shop, out: TextIO) -> None:
    """Start the stage and its loop; or, where a process has died in it, roll back the batch it died in."""
    try:
        stage_handler.resume_process()
    except RunNotFound:
        stage_handler.start_stage("data_processing")
        loop_config = stage_handler.initialize_loop("data_processing", initial_data={"total_items": len(shop.orders)})
        print(f"{len(shop.orders)} orders in {loop_config['total']} batches", file=out)
        return
    newest = stage_handler.get_iterations(STAGE)[-1]
    if newest.status == "active":
        stage_handler.rollback_iteration(STAGE, "the process died in it")
        print(f"↻ batch {newest.number} was left half done: rolled back, and once more", file=out)


def decide(stage_handler: StageHandler, shop: Shop, done: int, results: dict[str, Any], threshold: float) -> list[str]:
    """Be stricter after a dirty batch; end before the next quarter. Returns what was decided, and why."""
    said = []
    if results["success_rate"] < CLEAN_ENOUGH and threshold < STRICTER:
        why = f"only {results['success_rate']:.0%} of the rows were without fault"
        stage_handler.make_decision(STAGE, "iteration_parameters", {"threshold": STRICTER}, reason=why)
        said.append(f"{why}: threshold {threshold} → {STRICTER} from here on")
    following = to_date(shop.orders[done]["date"]) if done < len(shop.orders) else None
    if following is not None and following > QUARTER_ENDS:
        why = f"the next orders are of {following:%B}, after the end of the quarter"
        stage_handler.make_decision(STAGE, "iteration_parameters", action="break", reason=why)
        said.append(f"{why}: that is all")
    return said


# On the screen


def told(number: int, results: dict[str, Any], threshold: float) -> str:
    """A batch on one line."""
    kept = round(20 * results["kept"] / results["processed_items"])
    return (
        f"batch {number}  {'█' * kept:░<20}  {results['kept']:3} kept, {results['set_aside']:2} set aside "
        f"below {threshold}, {results['revenue']:>9,.2f} €"
    )


def report(stage_handler: StageHandler, summary: LoopSummary, out: TextIO) -> None:
    """What came of it, and the process as it stands in the store."""
    print(f"\n{summary.completed} of {summary.iterations} batches: {summary.stop_details}", file=out)
    print(
        f"{summary.sums['kept']} orders kept, {summary.sums['set_aside']} set aside, "
        f"{summary.sums['revenue']:,.2f} € in all, {summary.means['revenue']:,.2f} € a batch\n",
        file=out,
    )
    for decision in stage_handler.decision_history(STAGE):
        print(f"decided: {decision.name} {decision.decided or decision.action} – {decision.reason}", file=out)
    print(f"\n{stage_handler.export()}", file=out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="where the process is kept; without it nothing is left behind")
    parser.add_argument("--out", type=Path, help="the folder for the files of the batches")
    parser.add_argument("--die-in", type=int, help="die by kill -9 in this batch")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        results = given.out or Path(folder)
        results.mkdir(parents=True, exist_ok=True)
        with StageHandler(default_config(), store=given.store) as handler:
            summary = work_through(handler, Shop.read(), results, sys.stdout, given.die_in)
            report(handler, summary, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
