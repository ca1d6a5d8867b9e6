"""`prepare videos` as its tests run it, and a look at what it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from datamodules.dense.rows import VideoRow
from datamodules.prepare.videos import prepare_videos
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.video.codec import decode_frames

#: Small clips: nine frames at eight a second are 1.125 s.
SMALL = {"height": 32, "width": 48, "num_frames": 9, "fps": 8.0}


def prepare(folder: Path, name: str = "out", **options: Any) -> Index:
    return prepare_videos([str(folder)], str(folder.parent / name), **{**SMALL, "lossless": True, **options})


def sample(index: Index, position: int = 0) -> tuple[VideoRow, torch.Tensor]:
    members = SampleReader(index).read(position)
    row = VideoRow.from_json(json.loads(members["json"]))
    return row, decode_frames(members["mp4"], range(row.video.frames))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
