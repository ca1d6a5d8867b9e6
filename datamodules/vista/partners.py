"""Samples of other videos, for the negatives that show one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.shards.index import Index


@dataclass(frozen=True, slots=True, eq=False)
class Partners:
    """Partners: draws of samples of other videos from an index.

    Attributes:
        by_video: (N,) positions, those of one video next to each other.
        first: (N,) for each position, where its video begins in `by_video`.
        last: (N,) and where it ends, exclusive.
    """

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
        return cls(by_video, first, last)

    @property
    def none(self) -> bool:
        """Whether there is no other video: all samples are of one."""
        return bool(self.last[0] - self.first[0] == len(self.by_video))

    def draw(self, position: int, random: np.random.Generator) -> int:
        """A position whose video is another one; every sample of the other videos is equally likely.

        Raises:
            ValueError: all samples are of one video.
        """
        if self.none:
            raise ValueError("there is no other video: all samples are of one")
        first, last = int(self.first[position]), int(self.last[position])
        # A place among the others, counted as if the sample's own video were not there.
        place = int(random.integers(len(self.by_video) - (last - first)))
        return int(self.by_video[place if place < first else place + last - first])


def video_numbers(index: Index) -> NDArray[np.int64]:
    """(N,) which video each sample is of: those with one video_id, and those with one and the same file.

    A video_id is a path in the folder that the samples were prepared from, so one file may have several.
    """
    _, name = np.unique(index.facts("video_id"), return_inverse=True)
    _, file = np.unique(np.array(index.checksums("mp4"), str), return_inverse=True)
    video, before = name, np.empty(0, np.int64)
    while not np.array_equal(video, before):  # a file may have several names, each of which has several files
        before = video
        for group in (file, name):
            least = np.full(len(video), len(video))
            np.minimum.at(least, group, video)
            video = least[group]
    return video
