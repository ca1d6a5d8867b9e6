"""The proof's results: one JSON file and one page of tables."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu.row import Result, row_of
from datamodules.shards.files import write_whole

JSON_FILE, PAGE_FILE = "gpu.json", "gpu.md"
_GIB = 2**30
#: An estimate of memory is within this share of what was measured.
MOST_OFF = 0.15
#: Rows of the table of steps.
STEPS = ("vista", "dense", "vista-fsdp", "dense-fsdp")
#: Facts of the machine in the page's first line, in this order.
_FACTS = ("card", "memory_GiB", "compute_capability", "driver", "cuda", "cudnn", "nccl", "cpu", "python")


def write_results(results: Sequence[Result], output: Path, dry_run: bool) -> None:
    """Write both files; called after each row, so that what was measured stays whatever comes."""
    content = {"dry_run": dry_run, "rows": {result.name: asdict(result) for result in results}}
    content["steps"] = {name: step for name in STEPS if (step := step_values(name, results))}
    write_whole(output / JSON_FILE, (json.dumps(content, indent=2) + "\n").encode())
    write_whole(output / PAGE_FILE, page(results, dry_run).encode())


def unlike_estimate(name: str, results: Sequence[Result]) -> str:
    """What to say of a step whose peak is far from the estimate's; "" = it is not, or is not known.

    Args:
        name: of the step's row.
        results: of all rows.
    """
    off = step_values(name, results).get("off")
    if off is None or abs(off) <= MOST_OFF:
        return ""
    return f"the estimate of its memory is off by {off:+.0%}, more than {MOST_OFF:.0%}"


def page(results: Sequence[Result], dry_run: bool) -> str:
    """The page, in Markdown."""
    by_name = {result.name: result for result in results}
    lines = ["# GPU proof", ""]
    if dry_run:
        lines += ["A dry run on a CPU at small sizes: it shows that every row runs; no number means anything.", ""]
    if "rate" in by_name and by_name["rate"].values:
        lines += [machine(by_name["rate"].values["card"]), ""]
    lines += ["| row | what | ended | seconds | limit | outcome |", "|---|---|---|---:|---:|---|"]
    lines += [
        f"| {result.name} | {row_of(result.name).title} | {result.state} | {result.seconds:.0f} | {result.limit:.0f} | "
        f"{_cell(result.fault or result.summary)} |"
        for result in results
    ]
    lines += ["", *_step_table(results), *_kernel_table(by_name.get("kernels")), *_sync_table(results)]
    return "\n".join(lines).rstrip() + "\n"


def machine(facts: Mapping[str, Any]) -> str:
    """Card, driver and versions in a line."""
    shown = [f"{name} {facts[name]:.4g}" if isinstance(facts[name], float) else f"{name} {facts[name]}"
             for name in _FACTS if facts.get(name)]  # fmt: skip
    shown += [f"{name} {version}" for name, version in facts["versions"].items() if version != "not installed"]
    return ", ".join([*shown, f"commit {facts.get('commit')}"])


def step_values(name: str, results: Sequence[Result]) -> dict[str, Any]:
    """What is said of a step, from its own row, the estimate and the matrix rate; {} = it was not measured.

    Args:
        name: of the row.
        results: of all rows that have ended.
    """
    values = {result.name: result.values for result in results if result.values}
    step = values.get(name)
    if not step or not step["seconds"]:
        return {}
    median, peak = statistics.median(step["seconds"]), step["peak_bytes"]
    found: dict[str, Any] = {
        "sample": step["sample"],
        "seconds": median,
        "least": min(step["seconds"]),
        "most": max(step["seconds"]),
        "timed": len(step["seconds"]),
        "peak_GiB": None if peak is None else peak / _GIB,
        "syncs": sum(step["syncs"].values()),
    }
    estimate = values.get("estimates", {}).get(name)
    if estimate is not None:
        found |= {"estimate_GiB": estimate["peak_bytes"] / _GIB, "flops": estimate["flops"]}
        found["rate"] = estimate["flops"] / median
        found["float32_share"] = estimate["float32_flops"] / estimate["flops"]
        # Measured above or below the estimate, as a share of the measured.
        found["off"] = None if peak is None else estimate["peak_bytes"] / peak - 1
        if "rate" in values:
            found["share"] = found["rate"] / values["rate"]["flops"]
    return found


def _step_table(results: Sequence[Result]) -> list[str]:
    rows = []
    for name in STEPS:
        step = step_values(name, results)
        if step:
            cells = [
                name,
                f"{step['seconds']:.3g}",
                f"{step['least']:.3g} to {step['most']:.3g}",
                str(step["timed"]),
                _number(step["peak_GiB"], "{:.1f}"),
                _number(step.get("estimate_GiB"), "{:.1f}"),
                _number(step.get("off"), "{:+.0%}"),
                _number(step.get("flops"), "{:.0f}", 1e12),
                _number(step.get("rate"), "{:.0f}", 1e12),
                _number(step.get("share"), "{:.0%}"),
                str(step["syncs"]),
            ]
            rows.append(f"| {' | '.join(cells)} |")
    if not rows:
        return []
    head = (
        "| step | seconds (median) | smallest to largest | timed | peak GiB | estimate GiB | estimate is off by "
        "| TFLOP | TFLOP/s | share of the matrix rate | synchronisations |"
    )
    samples = [f"- {name}: {step['sample']}" for name in STEPS[:2] if (step := step_values(name, results))]
    return [head, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|", *rows, "", *samples, ""]


def _kernel_table(result: Result | None) -> list[str]:
    if result is None or not result.values:
        return []
    rows = [
        f"| {name} | {', '.join(part['operations'])} | {'<br>'.join(map(_cell, part['kernels'])) or '-'} |"
        for name, part in result.values.items()
    ]
    return ["| attention of | operations of torch | kernels that took the longest |", "|---|---|---|", *rows, ""]


def _sync_table(results: Sequence[Result]) -> list[str]:
    rows = [
        f"| {result.name} | {place} | {count} |"
        for result in results
        if result.name in STEPS
        for place, count in result.values.get("syncs", {}).items()
    ]
    return ["| step | where the processor waits for the device | times |", "|---|---|---:|", *rows, ""] if rows else []


def _number(value: float | None, form: str, unit: float = 1.0) -> str:
    return "-" if value is None else form.format(value / unit)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
