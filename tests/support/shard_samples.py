"""Small shards for the tests: real rows, and bytes in place of videos where nothing decodes them.

Spawned workers import this module, so it stays light.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from datamodules.stream.plan import PlannedBatch
from datamodules.stream.recipe import Recipe, SampleRead
from datamodules.video.facts import VideoFacts
from datamodules.vista.samples import PreferenceRow


def row(key: str, **fields: Any) -> PreferenceRow:
    number = int("".join(filter(str.isdigit, key)) or 0)
    video = VideoFacts(frames=8, fps=4.0, width=32, height=24)
    return PreferenceRow(key, f"video{number // 2}", "What moves?", "A disc.", "A box.", video, **fields)


def sample(key: str, video: bytes | None = None, **fields: Any) -> tuple[str, dict[str, bytes]]:
    content = key.encode() * 40 if video is None else video
    return key, {"mp4": content, "json": json.dumps(row(key, **fields).to_json()).encode()}


def samples(count: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    return (sample(f"s{number:03d}") for number in range(count))


def small_shards(folder: Path, count: int = 23, per_shard: int = 5) -> Index:
    return write_shards(samples(count), folder / "train", samples_per_shard=per_shard)


def flip_byte(index: Index, position: int, suffix: str = "mp4") -> None:
    """Alter one byte of a member where it lies."""
    path = Path(index.address(position))
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(index.entries[position].members[suffix].offset + 3)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))


@dataclass
class Batch:
    keys: list[str | None]
    mask: list[bool]
    epochs: list[int]
    denominators: dict[str, float]
    process: int


class KeyRecipe(Recipe[Batch]):
    """Batches of keys, of samples whose bytes are right."""

    def make_sample(self, sample: SampleRead) -> str:
        assert sample.members["mp4"] == sample.entry.key.encode() * 40
        assert sample.read_other(0, ["mp4"]) == {"mp4": b"s000" * 40}
        return sample.entry.key

    def collate(self, samples: list[str | None], planned: PlannedBatch) -> Batch:
        masks = [slot.mask for slot in planned.slots]
        assert masks == [sample is not None for sample in samples]
        return Batch(samples, masks, [slot.epoch for slot in planned.slots], planned.denominators, os.getpid())


def tar_of(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if name.endswith("/") else kind
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return path


def members_of(key: str) -> dict[str, bytes]:
    return {f"{key}.{suffix}": content for suffix, content in sample(key)[1].items()}
