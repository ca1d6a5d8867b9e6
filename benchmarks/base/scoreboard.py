"""Scoreboard in the terminal: a benchmark's numbers with their intervals, and the paper's beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from benchmarks.base.judge_replies import unparsed_cell, unparsed_warning
from benchmarks.base.results import headlines, marks, number_at, shown


def scoreboard(title: str, results: Mapping[str, Any], about: Mapping[str, Any]) -> Group:
    """The tables and lines that are printed at the end of a test.

    Args:
        title: the benchmark's name.
        results: the published result format.
        about: what the numbers belong to, see `Benchmark`.
    """
    intervals: Mapping[str, list[float]] = about["intervals"]["of"]
    percent = about.get("percent", True)
    unparsed: Mapping[str, list[int]] = about.get("unparsed", {})
    marked = marks(about)
    table = Table("score", title=title)
    for name in ("ours", f"{about['intervals']['level']:.0%} interval", *(["unparsed"] if unparsed else [])):
        table.add_column(name, justify="right", no_wrap=True)  # a number is never broken
    if marked:
        table.add_column("mark")
    for address in headlines(results, about):
        ours = number_at(results, address)
        value = "-" if ours is None else shown(address, ours, percent)
        ends = [shown(address, end, percent) for end in intervals.get(address, ())]
        replies = [unparsed_cell(unparsed.get(address))] if unparsed else []
        table.add_row(
            address, value, " to ".join(ends) or "-", *replies, *([marked.get(address, "")] if marked else [])
        )
    parts: list[Table | Text] = [table]
    if warning := unparsed_warning(unparsed):
        parts.append(Text(f"{warning}.", style="bold red"))
    for remark in about.get("remarks", ()):
        # A remark about a score begins with that score's name, which keeps its small letter.
        starts_with_name = remark.split(" ")[0].endswith(":")
        parts.append(Text(f"{remark if starts_with_name else remark[:1].upper() + remark[1:]}."))
    # What makes the number one of fewer questions than its name says.
    if about["left_out"]:
        parts.append(Text(f"{about['left_out']} questions were left out; details.json names them and says why."))
    if about["limit"] is not None:
        parts.append(Text(f"Only the first {about['limit']} of each part were asked."))
    if "paper" in about:
        parts += _beside(about["paper"], marked)
    return Group(*parts)


def _beside(paper: Mapping[str, Any], marked: Mapping[str, str]) -> list[Table | Text]:
    """The paper's row beside ours, and why the two may not be comparable; our numbers are shown with their marks."""
    table = Table(paper["columns"], title=f"{paper['source']}: {paper['row']}")
    for name in ("ours", "paper", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for number in paper["numbers"]:
        ours, published, difference = number["ours"], number["paper"], number["difference"]
        digits = number["digits"]
        mark = f" ({marked[number['score']]})" if number["score"] in marked else ""
        table.add_row(
            number["column"],
            "-" if ours is None else f"{ours:.{digits}f}{mark}",
            "-" if published is None else f"{published:.{digits}f}",
            "-" if difference is None else f"{difference:+.{digits}f}",
        )
    reasons = paper["not_comparable"]
    line = "Not comparable with the paper: " + "; ".join(reasons) + "." if reasons else "Asked as in the paper."
    return [table, Text(line)]
