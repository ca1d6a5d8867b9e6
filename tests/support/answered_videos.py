"""Toy videos with questions and right answers, as a folder that `AnsweredVideos` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.toy.vista.annotation import ANSWERED, write
from datamodules.annotation.answered_videos import AnsweredVideos


def answered_videos(folder: Path, count: int = 4, **options: Any) -> AnsweredVideos:
    """The data module of `count` toy rows, set up."""
    if not (folder / ANSWERED).exists():
        write(folder, count)
    data = AnsweredVideos(str(folder / ANSWERED), **{"num_frames": 16, **options})
    data.setup("predict")
    return data


def rewrite(folder: Path, changes: Mapping[int, Mapping[str, Any]]) -> None:
    """Change fields of rows, counted from 0."""
    rows = read(folder / ANSWERED)
    for index, fields in changes.items():
        rows[index] |= fields
    (folder / ANSWERED).write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def outcomes(path: Path) -> dict[str, dict[str, int]]:
    """The counts in a report."""
    counts: dict[str, dict[str, int]] = json.loads(path.read_text())["outcomes"]
    return counts
