"""What `prepare jsonl` says of a file that is not its own JSON lines but another suite's preference data."""

from __future__ import annotations

import json
from pathlib import Path

from datamodules.prepare.preference_formats import FORMATS, format_of
from datamodules.prepare.tables import read_table
from datamodules.user_files import user_file


def refuse_other_formats(path: Path, output: str | Path) -> None:
    """Refuse a file whose first row is of another format, or that holds rows in another container than JSON lines.

    Raises:
        ValueError: names the format and the command that reads it.
    """
    try:
        with user_file(path).open("rb") as file:
            first = json.loads(next(line for line in file if line.strip()).decode("utf-8-sig"))
    except (OSError, StopIteration, ValueError, RecursionError):
        first = None
    lines = isinstance(first, dict)
    if not lines:
        try:
            first = read_table(path)[0].data
        except ValueError:
            return  # nothing that anybody reads: each line is refused by itself
    if not first:
        return
    name = format_of(first)
    # LongVPO's rows are our own but for the kind of task.
    if name is not None and (name != "longvpo" or "task_type" in first):
        title = FORMATS[name].title
        raise ValueError(
            f"{path}: this looks like {title} format (its fields are {', '.join(list(first)[:8])}); "
            f"use `vidpref prepare preferences {path} {output}`"
        )
    if not lines:
        raise ValueError(f"{path}: its rows are not JSON lines; write one JSON object a line")
