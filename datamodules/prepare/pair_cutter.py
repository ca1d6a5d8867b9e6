"""Cutter of pairs: both videos of a row found, checked and cut alike, in any process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from datamodules.prepare.common_clip import CommonFormat, clip_bytes
from datamodules.prepare.imported_videos import ImportedVideo, VideoFinder
from datamodules.prepare.kept_results import Result, identity_of
from datamodules.prepare.parts import described
from datamodules.video.facts import VideoFacts


@dataclass(frozen=True, slots=True)
class PairTask:
    """Pair to be cut.

    Attributes:
        videos: what the row names as its first and its second video.
        encoded: False after a fault that stops the run: the videos are checked alone.
        identity: see `Task`.
    """

    videos: Sequence[Any]
    encoded: bool
    identity: str | None


@dataclass(frozen=True, slots=True)
class PairCutter:
    """Cutter of pairs.

    Attributes:
        finder: finds what the rows name.
        common: what both videos are made to be.
        lossless: how frames are encoded again.
    """

    finder: VideoFinder
    common: CommonFormat
    lossless: bool

    def __call__(self, task: PairTask) -> Result:
        """Name and facts of each video, or why it cannot be used; both mp4 files where nothing is wrong with them."""
        found = [self._found(value) for value in task.videos]
        members: dict[str, bytes] = {}
        videos = [video for video in found if isinstance(video, ImportedVideo)]
        if task.encoded and len(videos) == 2:
            try:
                clip = self.common.of(videos[0].facts, videos[1].facts)
            except ValueError:  # said where the row is
                pass
            else:
                for name, video in zip(("first.mp4", "second.mp4"), videos, strict=True):
                    members[name] = clip_bytes(video, clip, self.lossless)
        facts = [video if isinstance(video, str) else [video.video_id, asdict(video.facts)] for video in found]
        return Result(facts, members)

    def identity(self, values: Sequence[Any]) -> str | None:
        """See `Task`; None where a video is no single file: it is cut again after a stop."""
        names = []
        for value in values:
            try:
                path = self.finder.place(value) if isinstance(value, str) and not value.startswith("data:") else None
            except ValueError:
                path = None
            if path is None or not path.is_file() or (name := identity_of(path)) is None:
                return None
            names.append(name)
        settings = described({"common": self.common, "lossless": self.lossless, "check": self.finder.every_frame})
        return repr([names, settings, str(self.finder.folder)])

    def _found(self, value: Any) -> ImportedVideo | str:
        try:
            return self.finder(value)
        except ValueError as error:
            return str(error)


def found_video(facts: Any) -> tuple[str, VideoFacts]:
    """Name and facts of a video in a result.

    Raises:
        ValueError: why it cannot be used.
    """
    if isinstance(facts, str):
        raise ValueError(facts)
    return facts[0], VideoFacts(**facts[1])
