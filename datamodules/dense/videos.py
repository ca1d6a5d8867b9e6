"""Real videos with their captions, for `predict`: to encode them, or to make pairs of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from datamodules.dense.batches import VideoBatch
from datamodules.dense.rows import VideoRow
from datamodules.shards.index import Index, SampleEntry, key_fault
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.indexed_data import Paths, Split
from datamodules.stream.plan import PlannedBatch
from datamodules.stream.predict_data import PredictData
from datamodules.stream.recipe import Recipe, SampleRead
from datamodules.stream.sample_rows import sample_rows
from datamodules.video.codec import decode_frames
from datamodules.video.facts import VideoFacts


class Videos(PredictData[VideoBatch]):
    """Every video once over all ranks, decoded as a whole.

    Padding and skipped samples come as black frames of the size of a real one, with `mask` False, so that ranks that
    must make their forwards together can.

    Its index is of the schema vidpref/videos, which ``vidpref prepare videos`` writes.

    Args:
        predict: index file of the videos' shards (``NAME.index.json``, a path or an http(s) or s3 address), or several.
        key_prefix: put before every key. What is drawn by key becomes another, and what is made of the same videos
            twice, as a second set of pairs, can be trained on together: keys are unique.
        options: those of `PredictData`.

    Raises:
        ValueError: a prefix with which there is no key.
    """

    schema = "vidpref/videos"

    def __init__(self, predict: Paths, key_prefix: str = "", **options: Any) -> None:
        super().__init__(predict, **options)
        if fault := key_fault(f"{key_prefix}key"):
            raise ValueError(f"data.key_prefix is {key_prefix!r}: {fault}")
        self.key_prefix = key_prefix
        self._renamed: Index | None = None

    @property
    def fingerprint(self) -> str:
        """Of the index that the videos are read from, whatever the keys are."""
        return super().index("predict").fingerprint

    def index(self, split: Split) -> Index:
        """The index of a split, with the prefix before every key."""
        if self._renamed is None:
            index = super().index(split)
            entries = tuple(replace(entry, key=f"{self.key_prefix}{entry.key}") for entry in index.entries)
            # Positions and shards stay, so that bytes are read as before; only what is drawn by key changes.
            self._renamed = replace(index, entries=entries) if self.key_prefix else index
        return self._renamed

    def prompts(self) -> list[tuple[str, str]]:
        """Key and caption of every video that is still to be read."""
        index = self.index("predict")
        rows = sample_rows(SampleReader(index, self.reader), self.remaining().tolist())
        # An altered sample is the loader's to refuse or to skip.
        return [(index.entries[position].key, row["caption"]) for position, row in rows if isinstance(row, dict)]

    def recipe(self, split: Split) -> VideoRecipe:
        """Videos as a whole, with their rows."""
        return VideoRecipe(self.index(split))


@dataclass(frozen=True, eq=False)
class VideoRecipe(Recipe[VideoBatch]):
    """Recipe of batches of videos, decoded as a whole."""

    index: Index

    def make_sample(self, sample: SampleRead) -> tuple[VideoRow, Tensor]:
        """A sample's row, under the key that it has in the index, and its (T, 3, H, W) uint8 frames.

        Raises:
            ValueError: the video is undecodable, or shown at another size than its row says.
        """
        row = replace(VideoRow.from_json(json.loads(sample.members["json"])), key=sample.entry.key)
        frames = decode_frames(sample.members["mp4"], range(row.video.frames))
        height, width = frames.shape[2:]
        if fault := row.video.size_fault(width, height):
            raise ValueError(f".mp4: {fault}")
        return row, frames

    def collate(self, samples: list[tuple[VideoRow, Tensor] | None], planned: PlannedBatch) -> VideoBatch:
        """The batch; a slot without a video gets black frames."""
        videos = [
            sample or blank_video(self.index.entries[slot.position])
            for sample, slot in zip(samples, planned.slots, strict=True)
        ]
        rows, frames = [row for row, _ in videos], [video for _, video in videos]
        mask = torch.tensor([slot.mask for slot in planned.slots])
        return VideoBatch([row.key for row in rows], rows, frames, mask)


def blank_video(entry: SampleEntry) -> tuple[VideoRow, Tensor]:
    """Blank for a sample that is not read: black frames of its size, and its row with a dash for the caption."""
    facts = VideoFacts(*(entry.facts[name] for name in ("frames", "fps", "width", "height")))
    row = VideoRow(entry.key, entry.facts["video_id"], "-", facts, entry.facts.get("source", ""))
    return row, torch.zeros(facts.frames, 3, facts.height, facts.width, dtype=torch.uint8)
