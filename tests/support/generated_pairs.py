"""Tables of pairs of generated videos, the videos that they name, and what the shards made of them hold."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from datamodules.dense.rows import VideoRow
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from tests.support.paths import DATA

FORMATS = DATA / "formats" / "gen"
NAMES = (
    "videos/a0", "videos/b0", "videos/a1", "videos/b1", "videos/m1/0001", "videos/m2/0001", "videos/0_left",
    "videos/0_right", "videos/0", "videos/1", "v/0_a", "v/0_b", "v/1_a", "v/1_b", "1", "2", "part0/videos/0000",
    "part0/videos/0001", "videos_27k_1/m1_0001", "videos_27k_1/m2_0001",
)  # fmt: skip


def member_bytes(index: Index, position: int, suffix: str) -> bytes:
    return SampleReader(index).read(position)[suffix]


def labels_of(prefix: Path) -> dict[str, str]:
    with Path(f"{prefix}.labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["segment"] for row in rows} <= {"whole"}
    return {row["key"]: row["label"] for row in rows}


def rows_of(index: Index) -> list[VideoRow]:
    return [VideoRow.from_json(json.loads(member_bytes(index, place, "json"))) for place in range(len(index))]


def names_of(index: Index) -> list[tuple[str, str]]:
    first, second = zip(*(row.video_id.split("|") for row in rows_of(index)), strict=True)
    return list(zip(first, second, strict=True))


TABLE = [
    {"left": "videos/a0.mp4", "right": "videos/b0.mp4", "text": "one", "best": "2", "sa": 3.0, "sb": 5.0},
    {"left": "videos/a1.mp4", "right": "videos/b1.mp4", "text": "two", "best": "1", "sa": 3.0, "sb": 2.0},
]
COLUMNS = {"first_column": "left", "second_column": "right", "prompt_column": "text"}


def written(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / name
    if name.endswith(".parquet"):
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".csv"):
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    else:
        path.write_text(json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows))
    return path
