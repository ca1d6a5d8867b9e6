"""Generated videos that a judge rates, shown at so many frames a second."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.questions.base import Question, QuestionBatches, QuestionLoader, VideoQuestions, seconds_from_first
from datamodules.video.codec import decode_frames, probe

#: Where a question names the text that a video was made from.
TEXT = "[[prompt]]"
#: The only part of these benchmarks.
VIDEOS = "videos"


class RatedVideos(VideoQuestions):
    """Base of questions about videos that are shown at a fixed rate rather than with a fixed number of frames.

    Args:
        videos: the folder of videos; None = read no videos, to score answers that were recorded before.
        frames_per_second: how densely a video is shown, from its first frame on; None = `num_frames` spread evenly
            over all of it.
        num_frames: the most frames of a video.
        batch_size: questions per batch and rank; those about one video in a batch share its frames.
        num_workers: processes that decode.
        allow_missing: leave out videos that are missing or undecodable, and say so in the results.
        limit: only the first videos or pairs.
    """

    def __init__(
        self,
        videos: str | None,
        frames_per_second: float | None,
        num_frames: int,
        batch_size: int,
        num_workers: int,
        allow_missing: bool,
        limit: int | None,
    ) -> None:
        super().__init__(videos, num_frames, batch_size, num_workers, allow_missing, limit)
        if frames_per_second is not None and frames_per_second <= 0:
            raise ValueError(f"data.frames_per_second {frames_per_second} must be positive")
        self.frames_per_second = frames_per_second

    @abstractmethod
    def read(self) -> list[Question]:
        """See `VideoQuestions.read`."""

    def find(self, question: Question, folder: Path) -> Path | None:
        """By its path within the folder."""
        path = folder / question.video
        return path if path.is_file() else None

    def test_dataloader(self) -> QuestionLoader:
        """At the rate that was asked for."""
        loader = super().test_dataloader()
        batches = RatedBatches(loader.batches.batches, self.num_frames, self.allow_missing)
        batches.frames_per_second = self.frames_per_second
        return QuestionLoader(batches, loader.num_workers)

    def settings(self) -> dict[str, Any]:
        """With the rate."""
        return {**super().settings(), "frames_per_second": self.frames_per_second}


class RatedBatches(QuestionBatches):
    """Batches of questions whose videos are decoded at a fixed rate."""

    frames_per_second: float | None = None

    def _decoded(self, path: Path, span: tuple[float, float] | None) -> tuple[Tensor, Tensor]:
        if self.frames_per_second is None:
            return super()._decoded(path, span)
        # The span is not looked at: these questions are about whole videos.
        facts = probe(path)
        indices = rate_indices(facts.frames, facts.fps, self.frames_per_second, self.num_frames)
        return decode_frames(path, indices), seconds_from_first(indices, facts.fps)


def rate_indices(frames: int, fps: float, rate: float, most: int) -> list[int]:
    """The frames nearest to 0, 1 / rate, 2 / rate ... seconds, as far as the video goes and `most` allow.

    VisionReward shows a video so at 1 a second, up to 24. A video shorter than two steps is shown by its first frame
    and whatever is nearest to the next step.
    """
    last = (frames - 1) / fps
    count = min(round(last * rate) + 1, most)
    return [min(round(step / rate * fps), frames - 1) for step in range(count)]
