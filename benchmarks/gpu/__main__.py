"""`python -m benchmarks.gpu [--dry-run]`: the proof, in ten minutes at most."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks.gpu.report import JSON_FILE, PAGE_FILE, STEPS, unlike_estimate, write_results
from benchmarks.gpu.row import ROWS, SCRATCH_FOLDER, Result, Row
from benchmarks.gpu.runner import Runner
from benchmarks.toy.commands import from_root
from datamodules.shards.output_lock import LockedError, OutputLock

DESCRIPTION = """Shows on one GPU what tests on a CPU cannot: each row runs in a process of its own, which is ended when
its time is over; a row that fails or is late is a row of the table, and the next one runs. Results are written after
each row."""
#: A dry run's rows have this many times their limit: a CPU, and others at work on it.
PATIENCE = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows; the exit status is 1 where one of them has not passed.

    Args:
        arguments: without the program's name; None = the process's own.
    """
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "--output", type=Path, default=Path("runs/gpu"), help="20 GB of it are for weights, until the end"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="for all rows together (10)")
    parser.add_argument("--only", metavar="ROW,ROW", help="these rows, with what they need")
    parser.add_argument("--dry-run", action="store_true", help="every row at a small size on a CPU")
    options = parser.parse_args(arguments)
    rows = chosen(options.only, parser)
    if not options.dry_run and not has_gpu():
        parser.error("torch sees no CUDA device; --dry-run runs every row at a small size on a CPU")
    output: Path = from_root(options.output).absolute()
    console = Console()
    try:
        with OutputLock(output):
            return run(rows, output, options.dry_run, options.minutes, console)
    except LockedError as error:
        console.print(str(error), markup=False)
        return 1


def run(rows: Sequence[Row], output: Path, dry_run: bool, minutes: float, console: Console) -> int:
    """Run the rows and write their results."""
    ended: list[Result] = []

    def done(result: Result) -> None:
        ended.append(result)
        order = [row.name for row in rows]
        write_results(sorted(ended, key=lambda result: order.index(result.name)), output, dry_run)
        text = result.fault or result.summary
        console.print(f"{result.name}: {result.state} in {result.seconds:.0f} s: {text}", markup=False, highlight=False)

    patience = PATIENCE if dry_run else 1
    rows = [replace(row, limit=patience * row.limit) for row in rows]
    try:
        # On a CPU two at a time: most of a small row is its start.
        results = Runner(output, dry_run, 60 * minutes * patience, 2 if dry_run else 1, done).run(rows)
    finally:
        shutil.rmtree(output / SCRATCH_FOLDER, ignore_errors=True)
    for result in results:
        if result.name in STEPS and (fault := unlike_estimate(result.name, results)):
            result.state, result.fault = "failed", fault
            console.print(f"{result.name}: {fault}", markup=False, highlight=False)
    write_results(results, output, dry_run)
    console.print(f"{output / PAGE_FILE} and {output / JSON_FILE}", markup=False)
    return int(any(result.state != "passed" for result in results))


def chosen(names: str | None, parser: argparse.ArgumentParser) -> list[Row]:
    """The rows to run, in order."""
    if names is None:
        return list(ROWS)
    asked = set(names.split(","))
    if unknown := asked - {row.name for row in ROWS}:
        parser.error(f"--only: no row {', '.join(sorted(unknown))}; there are {', '.join(row.name for row in ROWS)}")
    asked |= {row.needs for row in ROWS if row.name in asked}
    return [row for row in ROWS if row.name in asked]


def has_gpu() -> bool:
    """Whether torch sees a CUDA device."""
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
