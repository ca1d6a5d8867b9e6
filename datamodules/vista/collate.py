"""What the workers of `VistaPairs` do: samples to views, views to batches. All of it travels to spawned processes."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.shards.index import Index, SampleEntry
from datamodules.stream.loader import SampleRead
from datamodules.stream.plan import PlannedBatch
from datamodules.vista.facts import SampleFacts
from datamodules.vista.samples import Needs, PreferenceRow, View, VistaBatch, blank_view
from datamodules.vista.views import Partner, ViewMaker


@dataclass(slots=True, eq=False)
class Partners:
    """Draws samples of other videos from an index.

    Attributes:
        index: the samples.
        by_video: (N,) positions, those of one video next to each other.
        first: (N,) for each position, where its video begins in `by_video`.
        last: (N,) and where it ends, exclusive.
    """

    index: Index
    by_video: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @classmethod
    def of(cls, index: Index) -> Partners:
        """The partners that an index offers."""
        video = video_numbers(index)
        by_video = np.argsort(video, kind="stable")
        grouped = video[by_video]
        first, last = (np.searchsorted(grouped, video, side) for side in ("left", "right"))
        return cls(index, by_video, first, last)

    def draw(self, position: int, random: np.random.Generator) -> int:
        """A position whose video is another one; every sample of the other videos is equally likely.

        Raises:
            ValueError: all samples are of one video.
        """
        first, last = int(self.first[position]), int(self.last[position])
        others = len(self.by_video) - (last - first)
        if not others:
            raise ValueError("there is no other video: all samples are of one")
        place = int(random.integers(others))
        return int(self.by_video[place if place < first else place + last - first])

    def facts(self, position: int) -> SampleFacts:
        """The facts of a sample."""
        entry = self.index.entries[position]
        return SampleFacts.from_index(entry.key, entry.facts)


def video_numbers(index: Index) -> NDArray[np.int64]:
    """(N,) which video each sample is of: those with one video_id, and those with one and the same file.

    A video_id is a path in the folder that the samples were prepared from, so one file may have several.
    """
    _, name = np.unique([entry.facts["video_id"] for entry in index.entries], return_inverse=True)
    _, file = np.unique([entry.members["mp4"].checksum for entry in index.entries], return_inverse=True)
    video, before = name, np.empty(0, np.int64)
    while not np.array_equal(video, before):  # a file may have several names, each of which has several files
        before = video
        for group in (file, name):
            least = np.full(len(video), len(video))
            np.minimum.at(least, group, video)
            video = least[group]
    return video


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """Which members of a sample are read."""

    maker: ViewMaker

    def __call__(self, entry: SampleEntry) -> list[str]:
        """Suffixes, for the stream to read."""
        return sorted({"json", *self.maker.members(SampleFacts.from_index(entry.key, entry.facts))})


@dataclass(frozen=True, slots=True, eq=False)
class MakeViews:
    """A sample's bytes -> its views."""

    maker: ViewMaker
    partners: Partners

    def __call__(self, sample: SampleRead) -> list[View]:
        """The views of one sample.

        Raises:
            ValueError: the row cannot be read, a member is missing or undecodable.
        """

        def find_partner(random: np.random.Generator) -> Partner:
            position = self.partners.draw(sample.position, random)
            return Partner(self.partners.facts(position), lambda member: sample.read_other(position, [member])[member])

        try:
            row = PreferenceRow.from_json(json.loads(sample.members["json"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f".json is not a preference row: {error}") from error
        facts = SampleFacts.from_index(sample.entry.key, sample.entry.facts)
        return self.maker(row, facts, sample.members, sample.epoch, find_partner)


@dataclass(frozen=True, slots=True, eq=False)
class CollateViews:
    """The views of a batch's samples -> the batch. Every batch has a view per slot at least, so every rank runs."""

    index: Index
    needs: Needs
    num_frames: int

    def __call__(self, samples: list[list[View] | None], planned: PlannedBatch) -> VistaBatch:
        """The batch; a slot without a sample, or without a view that is needed, gets a blank one."""
        views: list[View] = []
        for place, found in enumerate(samples):
            for view in found or [blank_view(place, self.num_frames, self.needs)]:
                view.sample = place
                views.append(view)
        return VistaBatch(
            keys=[self.index.entries[slot.position].key for slot in planned.slots],
            views=views,
            mask=torch.tensor([slot.mask for slot in planned.slots]),
            denominators=dict(planned.denominators),
            epoch=planned.slots[0].epoch,
        )
