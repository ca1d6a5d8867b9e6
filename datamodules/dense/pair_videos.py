"""Pairs of videos in full, for `predict`: what a judge is shown."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datamodules.dense.batches import PairVideoBatch
from datamodules.dense.facts import pair_row
from datamodules.dense.rows import PairRow
from datamodules.shards.index import Index
from datamodules.stream.indexed_data import Split
from datamodules.stream.plan import PlannedBatch
from datamodules.stream.predict_data import PredictData
from datamodules.stream.recipe import Recipe, SampleRead
from datamodules.video.codec import decode_frames


class PairVideos(PredictData[PairVideoBatch]):
    """The videos of pairs in full, each pair once, for `SegmentJudge`. Latents and prompt embeddings are not read.

    What a judge is asked at once comes from one batch; a run that is stopped repeats the batch that it was at. The
    options are those of `PredictData`; its index is of the schema vidpref/pairs.
    """

    schema = "vidpref/pairs"

    def rows(self, skipped: bool = True) -> list[PairRow]:
        """The rows of the pairs up to the limit, without their prompts.

        Args:
            skipped: with those that are labelled already.
        """
        # From the index, as a judge plans its questions before a shard is read.
        entries = self.index("predict").entries
        positions = range(len(self.keys)) if skipped else self.remaining().tolist()
        return [pair_row(entries[position].key, entries[position].facts) for position in positions]

    def transfer_batch_to_device(self, batch: PairVideoBatch, device: torch.device, dataloader_idx: int) -> Any:
        """Videos stay where they are: judges take them as pictures."""
        return batch

    def recipe(self, split: Split) -> PairVideoRecipe:
        """Both videos of a pair, decoded in full."""
        return PairVideoRecipe(self.index(split))


class PairVideoSample(NamedTuple):
    """Pair on its way into a batch."""

    row: PairRow
    first: Tensor
    second: Tensor


@dataclass(frozen=True, eq=False)
class PairVideoRecipe(Recipe[PairVideoBatch]):
    """Recipe of batches of both videos of pairs, decoded as a whole."""

    index: Index

    def members(self, position: int) -> tuple[str, ...]:
        """Row and videos; latents and prompt embeddings are not read."""
        return "json", "first.mp4", "second.mp4"

    def make_sample(self, sample: SampleRead) -> PairVideoSample:
        """A pair's row and its videos, (T, 3, H, W) uint8."""
        row = PairRow.from_json(json.loads(sample.members["json"]))
        frames = range(row.video.frames)
        first, second = (decode_frames(sample.members[name], frames) for name in ("first.mp4", "second.mp4"))
        return PairVideoSample(row, first, second)

    def collate(self, samples: list[PairVideoSample | None], planned: PlannedBatch) -> PairVideoBatch:
        """The batch; a slot without a pair gets the row of a real one and videos without a frame."""
        pairs = []
        for sample, slot in zip(samples, planned.slots, strict=True):
            if sample is None:
                entry = self.index.entries[slot.position]
                row = pair_row(entry.key, entry.facts)
                # Nobody looks at padding, so nothing is decoded for it; only the size is the pair's.
                no_frames = torch.zeros(0, 3, row.video.height, row.video.width, dtype=torch.uint8)
                sample = PairVideoSample(row, no_frames, no_frames)
            pairs.append(sample)
        return PairVideoBatch(
            keys=[pair.row.key for pair in pairs],
            rows=[pair.row for pair in pairs],
            first=[pair.first for pair in pairs],
            second=[pair.second for pair in pairs],
            mask=torch.tensor([slot.mask for slot in planned.slots]),
        )
