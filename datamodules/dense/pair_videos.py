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
from datamodules.shards.index import Index, SampleEntry
from datamodules.stream.loader import SampleRead
from datamodules.stream.plan import PlannedBatch
from datamodules.stream.planned_data import Split, Workings
from datamodules.stream.predict_data import PredictData
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
        entries = self.index("predict").entries
        wanted = range(len(self.keys)) if skipped else self.remaining().tolist()
        return [pair_row(entries[at].key, entries[at].facts) for at in wanted]

    def transfer_batch_to_device(self, batch: PairVideoBatch, device: torch.device, dataloader_idx: int) -> Any:
        """Videos stay where they are: judges take them as pictures."""
        return batch

    def workings(self, split: Split) -> Workings:
        """Both videos of a pair, decoded in full."""
        return Workings(_decoded, _Collate(self.index(split)), _members)


class _Pair(NamedTuple):
    row: PairRow
    first: Tensor
    second: Tensor


def _members(entry: SampleEntry) -> list[str]:
    return ["json", "first.mp4", "second.mp4"]


def _decoded(read: SampleRead) -> _Pair:
    row = PairRow.from_json(json.loads(read.members["json"]))
    first, second = (decode_frames(read.members[f"{side}.mp4"], range(row.video.frames)) for side in _SIDES)
    return _Pair(row, first, second)


_SIDES = ("first", "second")


@dataclass(frozen=True, slots=True, eq=False)
class _Collate:
    """Pairs of one batch; padding has the row of a real pair and videos without a frame."""

    index: Index

    def __call__(self, pairs: list[_Pair | None], planned: PlannedBatch) -> PairVideoBatch:
        found = [
            pair or self._blank(self.index.entries[slot.position])
            for pair, slot in zip(pairs, planned.slots, strict=True)
        ]
        return PairVideoBatch(
            keys=[pair.row.key for pair in found],
            rows=[pair.row for pair in found],
            first=[pair.first for pair in found],
            second=[pair.second for pair in found],
            mask=torch.tensor([slot.mask for slot in planned.slots]),
        )

    def _blank(self, entry: SampleEntry) -> _Pair:
        row = pair_row(entry.key, entry.facts)
        nothing = torch.zeros(0, 3, row.video.height, row.video.width, dtype=torch.uint8)
        return _Pair(row, nothing, nothing)
