"""The pairs that the page shows: their prompts, segments and videos, read from the shards when they are asked for."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Literal, NamedTuple

from datamodules.dense.facts import pair_row
from datamodules.dense.rows import PairRow
from datamodules.dense.segments import Granularity, segment_frames
from datamodules.prepare.judgements import WHOLE, Place
from datamodules.shards.checks import load_index
from datamodules.shards.sample_reader import SampleReader

#: One of a pair's two videos.
Which = Literal["first", "second"]
VIDEOS: tuple[Which, Which] = ("first", "second")
#: Bytes of videos that are kept in memory: a browser asks for a video in several ranges, and for each segment again.
_KEPT_BYTES = 2**28
#: So many faults are listed.
_LISTED = 20


class VideoFile(NamedTuple):
    """An mp4 file in a shard: its bytes and its checksum, which serves as its entity tag."""

    content: bytes
    checksum: str


class Segment(NamedTuple):
    """What one question is about: a segment of a pair (None = the whole video) and its frames."""

    segment: int | None
    frames: range


class ShownPairs:
    """The pairs of an index as the page shows them.

    Args:
        path: index file of the pairs' shards.
        granularity: whether segments are asked for, or whole videos.
        segment_seconds: length of a segment.

    Raises:
        ValueError: the index cannot be read or holds no pairs, or pairs have no videos or no such segments.
    """

    def __init__(self, path: str | Path, granularity: Granularity = "segments", segment_seconds: float = 1.0) -> None:
        if not 0 < segment_seconds < math.inf:
            raise ValueError(f"segment_seconds is {segment_seconds:g}; give a number above 0")
        self.path = str(path)
        self.granularity = granularity
        self.segment_seconds = segment_seconds
        self.index = load_index(path, "vidpref/pairs")
        if not len(self.index):
            raise ValueError(f"{path}: holds no pairs; make some with `vidpref predict`, see docs/dense_data.md")
        self.rows: list[PairRow] = [pair_row(entry.key, entry.facts) for entry in self.index.entries]
        self.frames_per_segment = [round(segment_seconds * row.video.fps) for row in self.rows]
        self._samples = SampleReader(self.index)
        self._segments = self._all_segments()
        self._videos: OrderedDict[tuple[int, Which], VideoFile] = OrderedDict()
        self._lock = threading.Lock()
        # Names by which the browser asks for videos: they must not say which one is the pair's first.
        secret = secrets.token_bytes(16)
        self._media_names = {
            (position, which): hashlib.blake2b(f"{position}/{which}".encode(), digest_size=12, key=secret).hexdigest()
            for position in range(len(self.rows))
            for which in VIDEOS
        }
        self.media = {name: video for video, name in self._media_names.items()}

    def _all_segments(self) -> list[list[Segment]]:
        segments: list[list[Segment]] = []
        faults: list[str] = []
        for entry, row, length in zip(self.index.entries, self.rows, self.frames_per_segment, strict=True):
            faults += [
                f"key {row.key!r}: .{which}.mp4 is missing, so there is nothing to show"
                for which in VIDEOS
                if f"{which}.mp4" not in entry.members
            ]
            try:
                frames = segment_frames(row.video.frames, length, row.latent_space.temporal_ratio)
            except ValueError as error:
                faults.append(f"key {row.key!r}: {error}")
                continue
            whole = [Segment(WHOLE, range(row.video.frames))]
            separate = [Segment(segment, span) for segment, span in enumerate(frames)]
            segments.append(whole if self.granularity == "whole" else separate)
        if faults:
            more = [f"... and {len(faults) - _LISTED} more"] if len(faults) > _LISTED else []
            raise ValueError("\n".join([f"{self.path}: cannot be labelled:", *faults[:_LISTED], *more]))
        return segments

    def __len__(self) -> int:
        return len(self.rows)

    def segments(self, position: int) -> list[Segment]:
        """What is asked about a pair, in the order of time."""
        return self._segments[position]

    def has(self, place: Place) -> bool:
        """Whether a label's place exists: the pair, and the segment or its whole video."""
        position = self.index.positions.get(place.key)
        if position is None:
            return False
        if place.segment is WHOLE or self.granularity == "whole":
            return True
        return place.segment < len(self._segments[position])

    def prompt(self, position: int) -> str:
        """What both videos of a pair were made for.

        Raises:
            BadSampleError: bytes were altered.
            ReadFailedError: the shard cannot be read.
        """
        content = self._samples.read(position, ("json",))["json"]
        return str(json.loads(content)["prompt"])

    def media_name(self, position: int, which: Which) -> str:
        """The name by which the browser asks for a video."""
        return self._media_names[position, which]

    def video(self, position: int, which: Which) -> VideoFile:
        """One video of a pair, its checksum compared.

        Raises:
            BadSampleError: bytes were altered.
            ReadFailedError: the shard cannot be read.
        """
        with self._lock:
            if (video := self._videos.get((position, which))) is not None:
                self._videos.move_to_end((position, which))
                return video
        suffix = f"{which}.mp4"
        # Outside the lock: a slow disk must not hold up those whose videos are in memory.
        content = self._samples.read(position, (suffix,))[suffix]
        video = VideoFile(content, self.index.entries[position].members[suffix].checksum)
        with self._lock:
            self._videos[position, which] = video
            # The newest stays, however large it is: somebody is about to see it.
            while len(self._videos) > 1 and sum(len(cached.content) for cached in self._videos.values()) > _KEPT_BYTES:
                self._videos.popitem(last=False)
        return video
