"""Cutter of clips: one video decoded, its clips judged by their frames, the good ones encoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.prepare.clip_format import ClipFormat
from datamodules.prepare.kept_results import Result
from datamodules.prepare.selection import Reason, Trial, VideoSelection
from datamodules.prepare.video_filters import Candidate, VideoFilter
from datamodules.video.codec import Preset, encode_mp4, stream_frames
from datamodules.video.fit_frame import fit_frame
from datamodules.video.frame_indices import clip_indices


@dataclass(frozen=True, slots=True)
class CutTask:
    """Video to be cut.

    Attributes:
        path: the file.
        clips: the format of its clips.
        whole: the video, without frames.
        trial: the findings of the filters of facts.
        starts: of its clips, in seconds.
        judged: whether clips are judged and encoded; False: the video is decoded for its faults alone.
        identity: see `Task`.
    """

    path: Path
    clips: ClipFormat
    whole: Candidate
    trial: Trial
    starts: Sequence[float]
    judged: bool
    identity: str | None = None


@dataclass(eq=False, slots=True)
class ClipCutter:
    """Cutter of one video's clips, in any process.

    Only what reading a video raises is a fault of that video; what a filter raises ends the run.

    Attributes:
        filters: those that look at colours or frames.
        numbered: a clip's key has its number, as a video may have several.
        lossless: keep every value of the frames.
        preset: of the encoder.
        every_frame: decode each video to its end.
    """

    filters: Sequence[VideoFilter]
    numbered: bool
    lossless: bool
    preset: Preset
    every_frame: bool
    _prepared: bool = field(default=False, repr=False)

    def prepare(self) -> None:
        """Prepare the filters, once in each process."""
        if not self._prepared:
            for criterion in self.filters:
                criterion.prepare()
        self._prepared = True

    def __call__(self, task: CutTask) -> Result:
        """The video's faults and its clips on trial; the mp4 of each clip that stays, by its number."""
        selection = VideoSelection(self.filters)
        trials: list[Trial] = []
        members: dict[str, bytes] = {}
        faults: list[str] = []
        if task.judged:
            self.prepare()
        for number, frames in enumerate(self._clips(task, faults)):
            if not task.judged:
                continue
            key = f"{task.trial.key}-{number:02d}" if self.numbered else task.trial.key
            trials.append(Trial(key, task.trial.video, round(task.starts[number], 3), dict(task.trial.scores)))
            if self._stays(selection, trials[-1], replace(task.whole, frames=frames)):
                # Encoded now, as frames of many clips would fill the memory until they are written.
                members[f"{number}.mp4"] = encode_mp4(frames, task.whole.fps, self.lossless, self.preset)
        return Result({"faults": faults, "trials": [asdict(trial) for trial in trials]}, members)

    # A method, as a clip that had a name here would still be in memory when the next one is decoded.
    def _stays(self, selection: VideoSelection, trial: Trial, clip: Candidate) -> bool:
        return selection.judge(trial, clip, "colours") and selection.judge(trial, clip, "frames")

    def _clips(self, task: CutTask, faults: list[str]) -> Iterator[Tensor]:
        """(T, 3, height, width) uint8 of each clip, from one pass over the video; one clip in memory at a time.

        A fault ends them and is noted.
        """
        facts = task.whole.source
        clips = [clip_indices(start, task.clips.frames, task.whole.fps, facts) for start in task.starts]
        last = [facts.frames - 1] if self.every_frame else []
        stream = stream_frames(task.path, {*last, *(index for indices in clips for index in indices)})
        held: dict[int, Tensor] = {}
        try:
            for indices in clips:
                # Clips may overlap, and a clip may show a frame several times.
                held = {index: frame for index, frame in held.items() if index >= indices[0]}
                while indices[-1] not in held:
                    index, frame = next(stream)
                    held[index] = fit_frame(frame, task.clips.height, task.clips.width)
                yield torch.stack([held[index] for index in indices])
            for _ in stream:  # up to the last frame, which no clip may need
                held.clear()
        except ValueError as error:
            faults.append(str(error))


def trial_of(facts: Mapping[str, Any]) -> Trial:
    """The clip on trial that a result holds."""
    return Trial(**{**facts, "reasons": [Reason(**reason) for reason in facts["reasons"]]})
