"""Report of the measurements, as a table in the terminal and as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.speed.measure import StepMeasurement
from benchmarks.speed.options import Options, clock_line
from lightning_modules.run_facts import installed_version

#: "MiB" is the process's highest point, "+ MiB" what the step added to it.
COLUMNS = ("row", "seconds", "min to max", "times", "MiB", "+ MiB", "TFLOP", "GFLOP/s", "share")
#: Wide enough for the table, also where the output is no terminal.
WIDTH = 110
PACKAGES = ("torch", "transformers", "diffusers", "peft", "trl")


def report(
    title: str,
    rows: Sequence[StepMeasurement],
    product: StepMeasurement,
    baselines: Mapping[str, str],
    options: Options,
    notes: Sequence[str],
) -> dict[str, Any]:
    """Print the table; with `options.json`, write everything to that file.

    Args:
        title: what was compared.
        rows: the measurements.
        product: the large matrix product of the same rounds.
        baselines: row -> the baseline that its "times" column is relative to.
        options: of the command line.
        notes: lines below the table.

    Returns:
        The content of the file.
    """
    by_name = {row.name: row for row in rows}
    times = {row.name: by_name[baselines[row.name]].median / row.median for row in rows if row.name in baselines}
    machine = environment()
    console = Console(width=WIDTH)
    console.print(_table(title, rows, product, times))
    lines = [
        f"{product.name}, float32: {product.rate / 1e9:.0f} GFLOP/s (median {product.median:.3f} s, "
        f"{min(product.seconds):.3f} to {max(product.seconds):.3f}); share is of this rate",
        *notes,
        clock_line(options.clock),
        f"{machine['cpu']}, {machine['threads']} threads; "
        + ", ".join(f"{name} {installed}" for name, installed in machine["versions"].items())
        + f"; seed {options.seed}, {options.repeats} rounds",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False)
    result = {
        "title": title,
        "options": asdict(options),
        "environment": machine,
        "rows": [asdict(row) | {"median": row.median} for row in rows],
        "product": asdict(product) | {"median": product.median},
        "times": times,
        "notes": list(notes),
    }
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2, default=str) + "\n")
    return result


def environment() -> dict[str, Any]:
    """Processor, threads and versions."""
    return {
        "cpu": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),  # AVX2 or AVX-512: every time depends on it
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: installed_version(name) or "not installed" for name in PACKAGES},
    }


def _table(title: str, rows: Sequence[StepMeasurement], product: StepMeasurement, times: Mapping[str, float]) -> Table:
    """The table for the terminal; a row without a baseline has a dash under "times"."""
    table = Table(title=title)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == COLUMNS[0] else "right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, product, times.get(row.name)))
    return table


def _cells(row: StepMeasurement, product: StepMeasurement, times: float | None) -> list[str]:
    """A row of the table, in the order of `COLUMNS`."""
    memory = ["-", "-"]
    if row.peak is not None and row.before is not None:
        memory = [f"{row.peak / 2**20:.0f}", f"{(row.peak - row.before) / 2**20:.0f}"]
    return [
        row.name,
        f"{row.median:.3f}",
        f"{min(row.seconds):.3f} to {max(row.seconds):.3f}",
        "-" if times is None else f"{times:.2f}",
        *memory,
        f"{row.flops / 1e12:.3f}",
        f"{row.rate / 1e9:.0f}",
        f"{row.rate / product.rate:.0%}",
    ]


def _processor() -> str:
    """The processor's name: on Linux from a file, on other systems from Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
