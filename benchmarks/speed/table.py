"""Tables of measurements that are not of single steps: printed, and written as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.speed.options import Measuring
from benchmarks.speed.report import WIDTH, environment


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> None:
    """Print a table; all columns but the first are numbers.

    Args:
        title: above it.
        columns: their names.
        rows: cells.
        notes: lines below it.
    """
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(width=WIDTH)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False, markup=False)


def report_rows(
    title: str,
    columns: Mapping[str, Callable[[Any], str]],
    rows: Sequence[Any],
    options: Measuring,
    as_json: Callable[[Any], dict[str, Any]] = dict,
) -> dict[str, Any]:
    """Print a table of measurements and write its report.

    Args:
        title: above it.
        columns: name -> the cell of a row.
        rows: the measurements.
        options: of the command.
        as_json: what the report holds of a row.

    Returns:
        The content of the report.
    """
    print_table(
        title, tuple(columns), [[cell(row) for cell in columns.values()] for row in rows], [machine_line(options)]
    )
    return write_report(title, options, [as_json(row) for row in rows])


def mebibytes(size: int) -> str:
    """Bytes as a cell."""
    return f"{size / 2**20:.0f}"


def machine_line(options: Measuring) -> str:
    """Processor, threads, versions and seed, in a line."""
    machine = environment()
    versions = ", ".join(f"{name} {installed}" for name, installed in machine["versions"].items())
    return f"{machine['cpu']}, {machine['threads']} threads; {versions}; seed {options.seed}"


def write_report(title: str, options: Measuring, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The content of a report; with `options.json` it is written to that file."""
    result = {"title": title, "options": asdict(options), "environment": environment(), "rows": list(rows)}
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2, default=str) + "\n")
    return result
