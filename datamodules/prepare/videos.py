"""A folder of videos with captions to shards: clips of one size, length and rate, the good ones chosen by filters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from datamodules.dense.rows import VideoRow
from datamodules.prepare.captions import CaptionedVideo, read_captions
from datamodules.prepare.rows import Sample, SourceRow, key_part, output_prefix, write_samples
from datamodules.prepare.selection import Trial, VideoSelection
from datamodules.prepare.video_filters import Candidate, VideoFilter
from datamodules.shards.index import Index
from datamodules.video.codec import clip_indices, encode_mp4, fit_frame, probe, stream_frames
from datamodules.video.facts import VideoFacts

#: Video autoencoders turn 4k + 1 frames into k + 1 latents, and drop what is over without a word.
TEMPORAL_RATIO = 4
#: How much slower than asked for a video may be: 23.976 frames a second count as 24.
_RATE_SLACK = 1.01


@dataclass(frozen=True, slots=True)
class ClipFormat:
    """What every clip is made to be.

    Attributes:
        height: pixels.
        width: pixels; the video is resized until it covers both, and its middle is cut out.
        frames: number of frames, 4k + 1.
        fps: frames a second; None = each video's own.
        repeat: allow videos of a lower rate, whose frames are then shown several times.
    """

    height: int
    width: int
    frames: int
    fps: float | None
    repeat: bool

    def __post_init__(self) -> None:
        if self.frames < 1 or (self.frames - 1) % TEMPORAL_RATIO:
            below = max(0, (self.frames - 1) // TEMPORAL_RATIO) * TEMPORAL_RATIO + 1
            near = f"{below} or {below + TEMPORAL_RATIO}"
            raise ValueError(f"num_frames is {self.frames}; autoencoders want 4k + 1, as {near}")
        if self.height < 2 or self.width < 2 or self.height % 2 or self.width % 2:
            raise ValueError(f"{self.height} x {self.width} is no size of a video; height and width are even numbers")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ValueError(f"fps is {self.fps:g}; give a positive rate, or null for each video's own")

    def rate(self, video: VideoFacts) -> float:
        """The clip's frames a second."""
        return self.fps or video.fps

    def starts(self, video: VideoFacts, most: int) -> list[float]:
        """When the clips of a video begin, in seconds: as many as fit, spread evenly; a single one is in the middle.

        Raises:
            ValueError: the video is too short for one, or of a lower rate.
        """
        rate = self.rate(video)
        if not self.repeat and video.fps * _RATE_SLACK < rate:
            raise ValueError(
                f"has {video.fps:g} frames a second, {rate:g} are asked for; lower fps, or set repeat_frames"
            )
        length = self.frames / rate
        # Until when the first clip may begin: its last frame, not its end, must still be on screen.
        free = video.duration - (self.frames - 1) / rate - 0.02 / video.fps
        if free < 0:
            raise ValueError(
                f"is too short: {video.frames} frames at {video.fps:g} a second are {video.duration:.2f} s, "
                f"{self.frames} at {rate:g} need {length:.2f} s"
            )
        number = min(most, 1 + int(free / length))
        gap = (free - (number - 1) * length) / (number + 1)
        # At the beginning of a frame, far from where rounding could choose between two.
        return [int((gap + one * (length + gap)) * video.fps) / video.fps for one in range(number)]


def prepare_videos(
    videos: list[str],
    output: str,
    captions: str | None = None,
    height: int = 480,
    width: int = 832,
    num_frames: int = 81,
    fps: float | None = 16.0,
    clips_per_video: int = 1,
    repeat_frames: bool = False,
    filters: Sequence[VideoFilter] = (),
    video_column: str | None = None,
    caption_column: str | None = None,
    source: str = "",
    lossless: bool = False,
    skip_bad: bool = False,
    samples_per_shard: int = 64,
) -> Index:
    """Turn videos with captions into shards of clips; docs/dense_data.md describes both.

    Args:
        videos: folders, searched with all that is in them, and single files.
        output: folder and common name of the shards; for a folder alone they are named as the first of `videos`.
        captions: a .csv or .jsonl of captions; null = captions or metadata .csv or .jsonl in a folder of `videos`, or
            else a .txt beside each video.
        height: of the clips, pixels.
        width: of the clips, pixels.
        num_frames: of the clips, 4k + 1.
        fps: frames a second of the clips; null = each video's own.
        clips_per_video: how many clips at most are cut from one video.
        repeat_frames: take videos of a lower rate than `fps` too, and show frames several times.
        filters: which clips are good enough; the reasons against the others go to ``OUTPUT.report.jsonl``.
        video_column: the table's column of paths; null = video, file_name, path or file.
        caption_column: the table's column of captions; null = caption, text or prompt.
        source: a name for tables.
        lossless: keep every value of the frames, in larger files.
        skip_bad: write the good videos, and list the bad ones with their faults in ``OUTPUT.skipped.jsonl``.
        samples_per_shard: samples in one tar file.

    Raises:
        ValueError: lists every fault of every video, and nothing is written; or no clip is left; or shards exist.
    """
    clips = ClipFormat(height, width, num_frames, fps, repeat_frames)
    if clips_per_video < 1:
        raise ValueError(f"clips_per_video is {clips_per_video}; give 1 or more")
    found = read_captions(videos, captions, video_column, caption_column)
    selection = VideoSelection(filters)
    cutter = _Cutter(found, clips, clips_per_video, selection, source, lossless, skip_bad)
    origin = Path(captions or videos[0])
    prefix = output_prefix(output, Path(videos[0]))
    rows = [video.row for video in found]
    try:
        return write_samples(rows, origin, cutter.samples, prefix, skip_bad, samples_per_shard, "vidpref/videos")
    finally:
        # A run that broke off wrote nothing, so there is nothing to say about what it kept.
        if selection.filters and selection.trials and cutter.finished:
            _tell(selection, prefix)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a video's header decides.

    Attributes:
        whole: the video.
        trial: what the filters of facts found.
        starts: of its clips, in seconds; empty where they rejected it.
    """

    whole: Candidate
    trial: Trial
    starts: Sequence[float]


class _Cutter:
    """Cuts the clips of one video after the other, of which the good ones become samples.

    Only what reading a video raises is a fault of that video; what a filter raises ends the run.
    """

    def __init__(
        self,
        videos: Sequence[CaptionedVideo],
        clips: ClipFormat,
        clips_per_video: int,
        selection: VideoSelection,
        source: str,
        lossless: bool,
        skip_bad: bool,
    ) -> None:
        self.videos = {id(one.row): one for one in videos}
        self.clips = clips
        self.clips_per_video = clips_per_video
        self.selection = selection
        self.source = source
        self.lossless = lossless
        self.skip_bad = skip_bad
        self._plans: dict[int, _Plan] | None = None
        self._done = 0

    @property
    def stopped(self) -> bool:
        """A fault was found that stops the run: the others are decoded for theirs, but nobody judges them."""
        return not self.skip_bad and any(one.row.faults for one in self.videos.values())

    @property
    def finished(self) -> bool:
        """Every video was cut, and its samples were taken."""
        return self._done == len(self.videos) and not self.stopped

    def samples(self, row: SourceRow) -> Iterator[Sample]:
        """The samples of one video; none where a fault is found on the way, which is noted in its row."""
        if self._plans is None:
            self._plans = self._planned()
        plan = self._plans.get(id(row))
        if plan is not None:
            trials, samples = self._cut(self.videos[id(row)], plan)
            if not row.faults and not self.stopped:
                self.selection.trials += trials
                yield from samples
        self._done += 1

    def _planned(self) -> dict[int, _Plan]:
        """What can be said before anything is decoded, so that the dear filters hear only of what the cheap ones leave.

        By the rows' identities, of all videos that can be opened.
        """
        for one in self.selection.filters:
            one.prepare()
        found = {row: plan for row, video in self.videos.items() if (plan := self._plan(video)) is not None}
        if not self.stopped:
            left = [self.videos[row] for row, plan in found.items() if plan.starts]
            for one in self.selection.filters:
                one.expect([video.caption for video in left if not video.row.faults])
        return found

    def _plan(self, video: CaptionedVideo) -> _Plan | None:
        """None after noting why the video gives no clip, or where there is no file."""
        if video.row.faults and not video.path.exists():
            return None
        try:
            facts = probe(video.path, constant_rate=True)
        except ValueError as error:
            video.row.refuse("video", str(error))
            return None
        whole = Candidate(video.caption, facts, None, self.clips.rate(facts))
        trial = Trial(sample_key(video.video_id), video.video_id, None)
        if not self.selection.judge(trial, whole, "facts"):
            return _Plan(whole, trial, ())
        try:
            return _Plan(whole, trial, self.clips.starts(facts, self.clips_per_video))
        except ValueError as error:
            video.row.refuse("video", str(error))
            return None

    def _cut(self, video: CaptionedVideo, plan: _Plan) -> tuple[list[Trial], list[Sample]]:
        """The clips on trial and the samples of those that stay, encoded; of all, as the last may show a fault."""
        # What is faulty, or comes after a fault that stops the run, is decoded for its faults alone.
        wanted = not video.row.faults and not self.stopped
        trials: list[Trial] = [] if plan.starts else [plan.trial]
        samples: list[Sample] = []
        for number, frames in enumerate(self._clips(video, plan)):
            if wanted:
                name = plan.trial.key if self.clips_per_video == 1 else f"{plan.trial.key}-{number:02d}"
                trial = Trial(name, video.video_id, round(plan.starts[number], 3), dict(plan.trial.scores))
                trials.append(trial)
                if self._stays(trial, replace(plan.whole, frames=frames)):
                    samples.append(self._sample(trial, video, frames, plan.whole.fps))
        return trials, samples

    def _stays(self, trial: Trial, clip: Candidate) -> bool:
        return self.selection.judge(trial, clip, "frames") and self.selection.judge(trial, clip, "caption")

    def _sample(self, trial: Trial, video: CaptionedVideo, frames: Tensor, fps: float) -> Sample:
        made = VideoFacts(len(frames), fps, self.clips.width, self.clips.height)
        row = VideoRow(trial.key, video.video_id, video.caption, made, self.source, trial.scores)
        members = {"mp4": encode_mp4(frames, fps, self.lossless)}
        return Sample(row, lambda: members)

    def _clips(self, video: CaptionedVideo, plan: _Plan) -> Iterator[Tensor]:
        """(T, 3, height, width) uint8 of each clip, from one pass over the video; one clip in memory at a time.

        A fault ends them and is noted in the video's row.
        """
        facts = plan.whole.source
        wanted = [clip_indices(start, self.clips.frames, plan.whole.fps, facts) for start in plan.starts]
        stream = stream_frames(video.path, {index for indices in wanted for index in indices})
        held: dict[int, Tensor] = {}
        for indices in wanted:
            held = {index: frame for index, frame in held.items() if index >= indices[0]}
            try:
                while indices[-1] not in held:
                    index, frame = next(stream)
                    held[index] = fit_frame(frame, self.clips.height, self.clips.width)
            except ValueError as error:
                video.row.refuse("video", str(error))
                return
            yield torch.stack([held[index] for index in indices])


def sample_key(video_id: str) -> str:
    """A video's name in its shard: its path without the usual suffix."""
    return key_part(video_id.removesuffix(".mp4"))


def _tell(selection: VideoSelection, prefix: Path) -> None:
    """The report as a file and as a table."""
    from rich.console import Console

    report = prefix.with_name(f"{prefix.name}.report.jsonl")
    selection.write(report)
    console = Console()
    console.print(selection.table())
    console.print(f"every clip's numbers and the reasons: {report}", highlight=False, soft_wrap=True)
