"""Real videos with their captions, for `predict`: to encode them, or to make pairs of them."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.flow_samples import VideoBatch, VideoRow
from datamodules.plan import PlannedBatch
from datamodules.planned_data import Split, Workings
from datamodules.predict_data import PredictData
from datamodules.samples import VideoFacts
from datamodules.shard_index import Index, SampleEntry
from datamodules.stream import SampleRead
from datamodules.video_io import decode_frames


class Videos(PredictData[VideoBatch]):
    """Every video once over all ranks, decoded as a whole.

    Padding and skipped samples come as black frames of the size of a real one, with `mask` False, so that ranks that
    must make their forwards together can.

    The options are those of `PredictData`; its index is of the schema vidpref/videos, which ``vidpref prepare videos``
    writes.
    """

    schema = "vidpref/videos"

    def workings(self, split: Split) -> Workings:
        """Decode, and put together."""
        return Workings(decode_video, CollateVideos(self.index(split)))


def decode_video(sample: SampleRead) -> tuple[VideoRow, Tensor]:
    """A sample's row and its (T, 3, H, W) uint8 frames."""
    row = VideoRow.from_json(json.loads(sample.members["json"]))
    return row, decode_frames(sample.members["mp4"], range(row.video.frames))


@dataclass(frozen=True, slots=True, eq=False)
class CollateVideos:
    """Decoded videos -> `VideoBatch`."""

    index: Index

    def __call__(self, samples: list[tuple[VideoRow, Tensor] | None], planned: PlannedBatch) -> VideoBatch:
        """The batch; a sample is None where its slot's mask is False."""
        pairs = [
            sample or blank_video(self.index.entries[slot.position])
            for sample, slot in zip(samples, planned.slots, strict=True)
        ]
        rows, frames = [row for row, _ in pairs], [video for _, video in pairs]
        mask = torch.tensor([slot.mask for slot in planned.slots])
        return VideoBatch([row.key for row in rows], rows, frames, mask)


def blank_video(entry: SampleEntry) -> tuple[VideoRow, Tensor]:
    """What stands for a sample that is not read: black frames of its size, and its row with a dash for the caption."""
    facts = VideoFacts(*(entry.facts[name] for name in ("frames", "fps", "width", "height")))
    row = VideoRow(entry.key, entry.facts["video_id"], "-", facts, entry.facts.get("source", ""))
    return row, torch.zeros(facts.frames, 3, facts.height, facts.width, dtype=torch.uint8)
