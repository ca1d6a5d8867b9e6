"""Pairs of videos that were made elsewhere, for `predict` to encode."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datamodules.dense.rows import VideoRow
from datamodules.dense.videos import Videos, blank_video
from datamodules.shards.index import Index
from datamodules.stream.indexed_data import Split
from datamodules.stream.plan import PlannedBatch
from datamodules.stream.recipe import Recipe, SampleRead
from datamodules.video.codec import decode_frames


@dataclass(slots=True)
class VideoPairBatch:
    """Pairs of videos to encode.

    Attributes:
        keys: the B pairs' keys.
        rows: their rows, the prompt as the caption.
        first: B tensors (T, 3, H, W) uint8, the pairs' first videos.
        second: likewise, their second videos, each of its first one's shape.
        contents: the mp4 of the first and of the second video of each.
        mask: (B,) bool; False marks padding and skipped samples.
    """

    keys: list[str]
    rows: list[VideoRow]
    first: list[Tensor]
    second: list[Tensor]
    contents: list[tuple[bytes, bytes]]
    mask: Tensor

    # Without it Lightning would walk through the fields to move them, and it refuses the frozen rows.
    def to(self, device: Any) -> VideoPairBatch:
        """The batch with its tensors on a device."""
        first, second = ([video.to(device) for video in videos] for videos in (self.first, self.second))
        return replace(self, first=first, second=second, mask=self.mask.to(device))


class VideoPairs(Videos):
    """Data module of pairs of videos, each once over all ranks, decoded as a whole.

    Its index is of the schema vidpref/video_pairs, which ``vidpref prepare pairs`` writes. The options are those of
    `Videos`.
    """

    schema = "vidpref/video_pairs"

    def recipe(self, split: Split) -> VideoPairRecipe:  # type: ignore[override]
        """Both videos of a pair, with its row."""
        return VideoPairRecipe(self.index(split))


class VideoPairSample(NamedTuple):
    """One pair on its way into a batch."""

    row: VideoRow
    first: Tensor
    second: Tensor
    contents: tuple[bytes, bytes]


@dataclass(frozen=True, eq=False)
class VideoPairRecipe(Recipe[VideoPairBatch]):
    """Recipe of batches of pairs of videos, decoded as a whole."""

    index: Index

    def make_sample(self, sample: SampleRead) -> VideoPairSample:
        """A pair's row, under the key that it has in the index, and its videos, (T, 3, H, W) uint8."""
        row = replace(VideoRow.from_json(json.loads(sample.members["json"])), key=sample.entry.key)
        contents = sample.members["first.mp4"], sample.members["second.mp4"]
        first, second = (decode_frames(content, range(row.video.frames)) for content in contents)
        return VideoPairSample(row, first, second, contents)

    def collate(self, samples: list[VideoPairSample | None], planned: PlannedBatch) -> VideoPairBatch:
        """The batch; a slot without a pair gets black frames."""
        pairs = [sample or self._blank(slot.position) for sample, slot in zip(samples, planned.slots, strict=True)]
        return VideoPairBatch(
            keys=[pair.row.key for pair in pairs],
            rows=[pair.row for pair in pairs],
            first=[pair.first for pair in pairs],
            second=[pair.second for pair in pairs],
            contents=[pair.contents for pair in pairs],
            mask=torch.tensor([slot.mask for slot in planned.slots]),
        )

    def _blank(self, position: int) -> VideoPairSample:
        row, frames = blank_video(self.index.entries[position])
        # Masked, so nobody writes the empty bytes.
        return VideoPairSample(row, frames, frames, (b"", b""))
