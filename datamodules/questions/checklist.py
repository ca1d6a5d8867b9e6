"""The same yes-or-no questions about every video of a folder, as VisionReward asks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.questions.base import Question
from datamodules.questions.files import listed, read_bytes
from datamodules.questions.folder_names import PromptSet, compare, made_from, named_videos, read_asked
from datamodules.questions.rated_videos import TEXT, VIDEOS, RatedVideos


class ChecklistQuestions(RatedVideos):
    """The same list of yes-or-no questions about every video of a folder, as VisionReward asks.

    Args:
        questions: text with one question a line, "[[prompt]]" in it being replaced by what the video was made from.
        videos: the folder of `{prompt}-{i}.mp4`, or with a `manifest.json` (`folder_names.py`); null = read no
            videos, to score answers that were recorded before.
        listing: the folder that says which videos there are, where `videos` is null.
        prompts: the prompts that videos must be there of: text with one a line, or VBench's JSON; null = any.
        prompt_set: which published list `prompts` must be, checked by its length.
        num_samples: videos of each prompt; null = at least one.
        frames_per_second: how densely a video is shown (VisionReward: 1); null = `num_frames` spread evenly.
        num_frames: the most frames of a video (VisionReward: 24).
        batch_size: questions per batch and rank; as many as there are questions decodes each video once.
        num_workers: processes that decode.
        suffix: what is added to every question; nothing for VisionReward's own model.
        allow_missing: leave out videos that are missing, undecodable or of no known prompt, and say so in the results.
        limit_videos: only the first videos, for a quick look.
    """

    def __init__(
        self,
        questions: str,
        videos: str | None,
        listing: str | None = None,
        prompts: str | None = None,
        prompt_set: PromptSet | None = None,
        num_samples: int | None = None,
        frames_per_second: float | None = 1.0,
        num_frames: int = 24,
        batch_size: int = 64,
        num_workers: int = 0,
        suffix: str = "",
        allow_missing: bool = False,
        limit_videos: int | None = None,
    ) -> None:
        super().__init__(videos, frames_per_second, num_frames, batch_size, num_workers, allow_missing, limit_videos)
        if (listing or videos) is None:
            raise ValueError("without data.videos give data.listing, the folder that the recorded answers are about")
        self.questions = Path(questions)
        self.folder = Path(str(listing or videos))
        self.prompts = None if prompts is None else Path(prompts)
        self.prompt_set: PromptSet | None = prompt_set
        self.num_samples = num_samples
        self.suffix = suffix
        #: The list's questions, after `setup`.
        self.checklist: Sequence[str] = ()
        #: Names of the videos asked about, after `setup`.
        self.names: Sequence[str] = ()
        self._sha256 = ""
        self._unfit: dict[str, str] = {}

    def setup(self, stage: str) -> None:
        """Read list and folder, and say what does not fit.

        Raises:
            ValueError: no list or folder, videos that lack a prompt, prompts that lack a video (all of them).
        """
        # First, as it calls `read`, which finds what does not fit.
        super().setup(stage)
        self.missing |= {f"{VIDEOS}/{name}": f"{name} {why}" for name, why in self._unfit.items()}

    def read(self) -> list[Question]:
        """Every question about every video."""
        content, self._sha256 = read_bytes(self.questions)
        self.checklist = [line.strip() for line in content.decode("utf-8-sig").split("\n") if line.strip()]
        videos, self._unfit = named_videos(self.folder)
        if self.prompts is not None:
            lost, extra = compare(videos, read_asked(self.prompts, self.prompt_set), self.num_samples)
            self._unfit |= lost | extra
            videos = [video for video in videos if video.path.name not in extra]
        if self._unfit and not self.allow_missing:
            lines = listed([f"{name} {why}" for name, why in self._unfit.items()])
            raise ValueError(f"{self.folder} does not fit; fix it, or set data.allow_missing: true:{lines}")
        self.names = [video.path.name for video in videos]
        # Video by video, so that a batch decodes each once.
        return [
            Question(question_key(video.path.name, index), VIDEOS, unit,
                     text.replace(TEXT, video.prompt) + self.suffix, video.path.name, "")
            for unit, video in enumerate(videos)
            for index, text in enumerate(self.checklist)
        ]  # fmt: skip

    def sources(self) -> dict[str, dict[str, Any]]:
        """The list, its hash, how many videos there are, and what they were made from where their manifest says so."""
        file = {"file": self.questions.name, "sha256": self._sha256}
        made = made_from(self.folder, self.names)
        counts = {"questions": len(self.checklist), "videos": len(self.names)}
        return {VIDEOS: {**file, **counts, **({"made_from": made} if made else {})}}

    def settings(self) -> dict[str, Any]:
        """With what is added to the questions."""
        return {**super().settings(), "suffix": self.suffix}


def question_key(video: str, index: int) -> str:
    """The name of a question of the list, by its index from 0, about a video."""
    return f"{VIDEOS}/{video}/{index:02d}"
