"""Files of preference data as other suites write them, and the videos that the examples name."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from pyarrow import parquet

from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.vista.samples import PreferenceRow
from tests.support.annotated_videos import numbered_frames, numbered_video
from tests.support.paths import DATA

FORMATS = DATA / "formats" / "vlm"
QUESTION = "What does the cook do after slicing the onion?"
CHOSEN = "She slides the slices into the hot pan and stirs them."
REJECTED = "She puts the slices back into the fridge."
NAMES = (
    "clips/kitchen_01", "kitchen_01", "videos/kitchen_01", "clips/dog", "clips/cup", "clips/cup_reversed",
    "clips/two_turns", "long/abc", "academic_source/Charades/ABC12",
)  # fmt: skip

SWIFT = {"messages": [{"role": "user", "content": "<video>What?"}, {"role": "assistant", "content": "A dog."}],
         "videos": ["clips/dog.mp4"], "rejected_response": "A cat."}  # fmt: skip


def write_media(folder: Path) -> Path:
    """Every video that the examples name, each with numbers of its own; two of them as folders of frames."""
    import cv2

    for place, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.mp4").write_bytes(numbered_video(6 * place, count=6))
    for name, start in (("v_0001-Scene-001", 54), ("frames/cup", 59)):
        (folder / name).mkdir(parents=True)
        for number, frame in enumerate(numbered_frames(start, count=5), 1):
            cv2.imwrite(str(folder / name / f"{number:04d}.jpg"), frame.permute(1, 2, 0).numpy()[:, :, ::-1])
    return folder


def nearest(frames: torch.Tensor) -> list[int]:
    """`numbers` of frames that were encoded with loss."""
    return [round(int(value) / 4) for value in frames[:, 0, -1, -1]]


def content_of(index: Index, position: int, suffix: str) -> bytes:
    return SampleReader(index).read(position)[suffix]


def rows_of(index: Index) -> list[PreferenceRow]:
    return [PreferenceRow.from_json(json.loads(content_of(index, place, "json"))) for place in range(len(index))]


def written(folder: Path, name: str, *rows: dict[str, Any]) -> Path:
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows, indent=1))
    elif name.endswith(".parquet"):
        parquet.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows({name: cell if isinstance(cell, str) else json.dumps(cell) for name, cell in row.items()}
                            for row in rows)  # fmt: skip
    return path


def trl_row(**changes: Any) -> dict[str, Any]:
    message = [{"role": "assistant", "content": [{"type": "text", "text": "A dog."}]}]
    parts = [{"type": "video", "video": "clips/dog.mp4"}, {"type": "text", "text": "What jumps?"}]
    rejected = [{"role": "assistant", "content": "A cat."}]
    return {"prompt": [{"role": "user", "content": parts}], "chosen": message, "rejected": rejected} | changes
