"""Three CSV files become a report: a pipeline of twelve stages, some at the same time, killed and taken up again.

::

    python examples/csv_pipeline.py --plan                     # what it would do, with real sizes; nothing is done
    python examples/csv_pipeline.py                            # do it
    python examples/csv_pipeline.py --kills 3 --pace 0.4       # killed by kill -9 three times, and carried on
    python examples/csv_pipeline.py --data .                   # stages fail: what becomes of all the others
    python examples/csv_pipeline.py --store shop.db            # kept; called again, it carries on what is there

The files in `examples/data` are as such files are: dates written in two ways, quantities like "many", customers that
nobody knows. What cannot be mended is set aside and counted. Each stage is recorded as it ends, with what it wrote; so
whoever carries the pipeline on starts none of those again that had ended, and the report comes out the same.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TextIO

from cortical.core.errors import LeaseHeld
from cortical.stages import (
    Effect,
    Execution,
    Key,
    Pipeline,
    PipelineResult,
    Stage,
    StageContext,
    StageResult,
    execute,
    resume,
    stage,
)
from cortical.stages.effects import create, mkdir, read
from cortical.store import open_store

DATA: Final = Path(__file__).parent / "data"
FILES: Final = ("orders", "customers", "prices")
NAME: Final = "shop"
CONCURRENCY: Final = 4
LEASE_SECONDS: Final = 1.0  # how long after a kill the pipeline is still taken to be driven

Row = dict[str, Any]
Rows = list[Row]
JOINED: Final = Key("joined", list[Row])
REPORT: Final = Key("report", str)


# Load, check and clean: the same three steps for each file


def raw(name: str) -> Key[list[Row]]:
    """The rows of a file as they were read."""
    return Key(f"raw {name}", list[Row])


def clean(name: str) -> Key[list[Row]]:
    """The rows of a file that are of use, mended."""
    return Key(f"clean {name}", list[Row])


def bad(name: str) -> Key[int]:
    """How many rows of a file are of no use."""
    return Key(f"bad {name}", int)


def loading(name: str) -> Stage:
    """Reads one of the files."""

    def load(context: StageContext) -> int:
        take_time(context)
        with source(context, name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        context[raw(name)] = rows
        return len(rows)

    def plan(context: StageContext) -> Iterable[Effect]:
        yield read(source(context, name))

    return stage(f"csv:load-{name}", writes=[raw(name)], plan=plan, weight=2)(load)


def cleaning(name: str, mend: Callable[[Row], Row | None]) -> Stage:
    """Mends the rows that can be mended, and leaves the others out."""

    def work(context: StageContext) -> int:
        take_time(context)
        mended = [mend(row) for row in context[raw(name)]]
        kept = [row for row in mended if row is not None]
        context[clean(name)] = kept
        context[bad(name)] = len(mended) - len(kept)
        return len(kept)

    return stage(
        f"csv:clean-{name}",
        after=[f"csv:load-{name}", "csv:check"],
        reads=[raw(name)],
        writes=[clean(name), bad(name)],
        plan=lambda context: (),
    )(work)


@stage(
    "csv:check",
    after=[f"csv:load-{name}" for name in FILES],
    reads=[raw(name) for name in FILES],
    plan=lambda context: (),
)
def check(context: StageContext) -> str:
    """Every file has the columns that are needed, and rows."""
    take_time(context)
    needed = {
        "orders": {"order", "date", "customer", "product", "quantity"},
        "customers": {"customer", "region"},
        "prices": {"product", "name", "unit_price", "valid_from"},
    }
    for name, columns in needed.items():
        rows = context[raw(name)]
        if not rows:
            raise ValueError(f"{name}.csv has no rows")
        missing = columns - rows[0].keys()
        if missing:
            raise ValueError(f"{name}.csv has no column {', '.join(sorted(missing))}")
    return "all columns are there"


def mended_order(row: Row) -> Row | None:
    """An order with a date and a quantity of at least one; a date may be written 03.04.2026, a quantity 3 pcs."""
    quantity = row["quantity"].removesuffix(" pcs").strip()
    if not quantity.isdigit() or int(quantity) < 1:
        return None
    form = "%d.%m.%Y" if "." in row["date"] else "%Y-%m-%d"
    return {**row, "date": datetime.strptime(row["date"], form).date(), "quantity": int(quantity)}


def mended_customer(row: Row) -> Row | None:
    """A customer with a region."""
    return {**row, "region": row["region"].strip().title()} if row["region"].strip() else None


def mended_price(row: Row) -> Row | None:
    """A price that is a number, and from when on it holds."""
    if not row["unit_price"].replace(".", "", 1).isdigit():
        return None
    return {
        **row,
        "unit_price": Decimal(row["unit_price"]),
        "valid_from": date.fromisoformat(row["valid_from"]),
    }


# Join, summarise, report


@stage(
    "csv:join",
    after=[f"csv:clean-{name}" for name in FILES],
    reads=[clean(name) for name in FILES],
    writes=[JOINED],
    plan=lambda context: (),
)
def join(context: StageContext) -> int:
    """Each order with its customer's region, and the price that held on its day."""
    take_time(context)
    regions = {row["customer"]: row["region"] for row in context[clean("customers")]}
    prices: dict[str, Rows] = defaultdict(list)
    for row in sorted(context[clean("prices")], key=lambda row: row["valid_from"]):
        prices[row["product"]].append(row)
    joined = []
    for order in context[clean("orders")]:
        held = [row for row in prices[order["product"]] if row["valid_from"] <= order["date"]]
        if held and order["customer"] in regions:
            amount = held[-1]["unit_price"] * order["quantity"]
            month = f"{order['date']:%Y-%m}"
            joined.append(
                {"region": regions[order["customer"]], "month": month, "product": held[-1]["name"], "amount": amount}
            )
    context[JOINED] = joined
    return len(joined)


def summing(column: str) -> Stage:
    """Adds up what was sold by one column."""

    def work(context: StageContext) -> int:
        take_time(context)
        sums: dict[str, Decimal] = defaultdict(Decimal)
        for row in context[JOINED]:
            sums[row[column]] += row["amount"]
        context[by(column)] = dict(sums)
        return len(sums)

    return stage(f"csv:by-{column}", reads=[JOINED], writes=[by(column)], after=["csv:join"], plan=lambda context: ())(
        work
    )


def by(column: str) -> Key[dict[str, Decimal]]:
    """What was sold, by one column."""
    return Key(f"by {column}", dict[str, Decimal])


COLUMNS: Final = ("region", "month", "product")


def planned_report(context: StageContext) -> Iterable[Effect]:
    """The folder, where it is not there yet, and the report; how long that will be nobody knows."""
    target = Path(context.arguments["report"])
    if not target.parent.exists():
        yield mkdir(target.parent)
    yield create(target)


def remove_report(context: StageContext) -> None:
    """Take the report away again."""
    Path(context.arguments["report"]).unlink(missing_ok=True)


@stage(
    "csv:report",
    reads=[JOINED, *(by(column) for column in COLUMNS), *(bad(name) for name in FILES)],
    writes=[REPORT],
    after=[f"csv:by-{column}" for column in COLUMNS],
    plan=planned_report,
    undo=remove_report,
)
def report(context: StageContext) -> str:
    """Write it all down: at first beside the old report, then in its place, so that there is never half a one."""
    take_time(context)
    lines = ["# What was sold", ""]
    for column in COLUMNS:
        lines += [f"## By {column}", ""]
        best = sorted(context[by(column)].items(), key=lambda entry: (-entry[1], entry[0]))
        lines += [f"- {name}: {amount:,.2f}" for name, amount in best[:5]]
        lines.append("")
    total = sum((row["amount"] for row in context[JOINED]), Decimal(0))
    left_out = ", ".join(f"{context[bad(name)]} of {name}" for name in FILES)
    lines += [f"Total: {total:,.2f} from {len(context[JOINED])} orders; rows of no use: {left_out}.", ""]
    context[REPORT] = "\n".join(lines)
    target = Path(context.arguments["report"])
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(".new")
    beside.write_text(context[REPORT], encoding="utf-8")
    beside.replace(target)
    return str(target)


def shop_pipeline() -> Pipeline:
    """The whole of it."""
    return Pipeline(
        NAME,
        [
            *map(loading, FILES),
            check,
            cleaning("orders", mended_order),
            cleaning("customers", mended_customer),
            cleaning("prices", mended_price),
            join,
            *map(summing, COLUMNS),
            report,
        ],
    )


def source(context: StageContext, name: str) -> Path:
    """Where one of the files stands."""
    return Path(context.arguments["data"]) / f"{name}.csv"


def take_time(context: StageContext) -> None:
    """Be as slow as the command line asks for, so that people can watch."""
    time.sleep(context.arguments.get("pace", 0.0) * random.uniform(0.5, 1.5))


# Running it


def main(arguments: Sequence[str] | None = None, out: TextIO = sys.stdout) -> int:
    """Run the example; 0 when the pipeline has succeeded."""
    asked = parsed(arguments)
    context = StageContext(
        arguments={"data": str(asked.data), "report": str(asked.report), "pace": asked.pace},
    )
    if asked.plan:
        print(shop_pipeline().dry_run(context), file=out)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        store = asked.store or str(Path(folder) / "shop.db")
        if asked.kills:
            kill_again_and_again(asked, store, out)
        result = run_or_go_on(store, context, out)
    tell(result, out)
    return 0 if result.ok else 1


def run_or_go_on(store: str, context: StageContext, out: TextIO) -> PipelineResult:
    """Run the pipeline, or carry on the one that the store has."""

    def told(ended: StageResult) -> None:
        sign = {"ok": "✔", "failed": "✘"}.get(ended.status, "·")
        what = ended.why or ended.output
        print(f"  {sign} {ended.id:<20} {ended.seconds:6.2f} s  {what}", file=out, flush=True)

    how = Execution(max_concurrency=CONCURRENCY, lease_seconds=LEASE_SECONDS, on_stage=told)
    opened = open_store(store)
    try:
        roots = opened.roots()
        if not roots:
            print("▶ from the beginning", file=out, flush=True)
            return execute(shop_pipeline(), context, store=opened, how=how)
        print("▶ carried on", file=out, flush=True)
        while True:
            try:
                return resume(opened, roots[-1].id, shop_pipeline(), how=how)
            except LeaseHeld:
                time.sleep(LEASE_SECONDS / 5)
    finally:
        opened.close()


def kill_again_and_again(asked: argparse.Namespace, store: str, out: TextIO) -> None:
    """Let other processes begin, and kill each of them by kill -9 after a time."""
    line = [sys.executable, str(Path(__file__)), "--store", store, "--data", str(asked.data)]
    line += ["--report", str(asked.report), "--pace", str(asked.pace)]
    for number in range(asked.kills):
        waits = 0.5 + (LEASE_SECONDS if number else 0.0)
        process = subprocess.Popen(line, stdout=out if out is sys.stdout else subprocess.DEVNULL)
        try:
            process.wait(waits + asked.pace * random.uniform(0.5, 2.5))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            print("☠ kill -9", file=out, flush=True)


def tell(result: PipelineResult, out: TextIO) -> None:
    """Say what came of it."""
    print(f"{NAME} is {result.status.value}{': ' + result.why if result.why else ''}", file=out)
    for ended in result.stages.values():
        if not ended.ok:
            print(f"  {ended.id:<20} {ended.status}: {ended.why}", file=out)
    if result.ok:
        print(f"{result.serial_seconds:.2f} s of work in {result.seconds:.2f} s; the longest chain took", file=out)
        print(f"{result.critical_seconds:.2f} s: {' → '.join(result.critical_path)}", file=out)
        print(f"\n{result.values['report']}", file=out)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the three files")
    parser.add_argument("--report", type=Path, default=Path("report.md"), help="what is to be written")
    parser.add_argument("--store", help="where the run is kept; carried on if it is there (default: nowhere)")
    parser.add_argument("--pace", type=float, default=0.0, help="about how many seconds each stage is to take")
    parser.add_argument("--kills", type=int, default=0, help="kill it so many times in the middle")
    parser.add_argument("--plan", action="store_true", help="say what would be done, and do nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
