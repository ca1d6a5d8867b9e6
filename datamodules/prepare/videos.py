"""A folder of videos with captions to shards: clips of one size, length and rate, the good ones chosen by filters."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from datamodules.flow_samples import VideoRow
from datamodules.prepare.captions import CaptionedVideo, read_captions
from datamodules.prepare.rows import Sample, SourceRow, output_prefix, write_samples
from datamodules.prepare.selection import Selection, Trial
from datamodules.prepare.video_filters import Candidate, VideoFilter
from datamodules.samples import VideoFacts
from datamodules.shards import Index
from datamodules.video_io import clip_indices, encode_mp4, fit_frame, probe, stream_frames

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
        if self.fps is not None and self.fps <= 0:
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
    """Turn videos with captions into shards of clips; docs/data.md describes both.

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
    selection = Selection(filters)
    for one in selection.filters:
        one.expect([video.caption for video in found if not video.row.faults])
    cutter = _Cutter(found, clips, clips_per_video, selection, source, lossless, skip_bad)
    origin = Path(captions or videos[0])
    prefix = output_prefix(output, Path(videos[0]))
    rows = [video.row for video in found]
    try:
        return write_samples(rows, origin, cutter.samples, prefix, skip_bad, samples_per_shard, "vidpref/videos")
    finally:
        if selection.filters and selection.trials and not cutter.stopped:
            _tell(selection, prefix)


class _Cutter:
    """Cuts the clips of one video after the other, of which the good ones become samples."""

    def __init__(
        self,
        videos: Sequence[CaptionedVideo],
        clips: ClipFormat,
        clips_per_video: int,
        selection: Selection,
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
        #: A fault was found that stops the run: the other videos are decoded for theirs, but nobody judges them.
        self.stopped = not skip_bad and any(one.row.faults for one in videos)

    def samples(self, row: SourceRow) -> Iterator[Sample]:
        """The samples of one video; a fault found on the way is noted in its row, and ends it."""
        video = self.videos[id(row)]
        try:
            if row.faults and not video.path.is_file():
                return
            yield from self._samples(video)
        except ValueError as error:
            row.refuse("video", str(error))
        finally:
            self.stopped = self.stopped or (not self.skip_bad and bool(row.faults))

    def _samples(self, video: CaptionedVideo) -> Iterator[Sample]:
        facts = probe(video.path)
        key = sample_key(video.video_id)
        whole = Candidate(video.caption, facts, None, self.clips.rate(facts))
        trial = Trial(key, video.video_id, None)
        # What is faulty, or comes after a fault that stops the run, is decoded for its faults alone.
        wanted = not video.row.faults and not self.stopped
        if not self.selection.judge(trial, whole, "facts"):
            self.selection.trials += [trial] if wanted else []
            return
        starts = self.clips.starts(facts, self.clips_per_video)
        for number, (start, frames) in enumerate(zip(starts, self._clips(video.path, facts, starts), strict=True)):
            name = key if self.clips_per_video == 1 else f"{key}-{number:02d}"
            one = Trial(name, video.video_id, round(start, 3), dict(trial.scores))
            if wanted and self._stays(one, replace(whole, frames=frames)):
                made = VideoFacts(len(frames), whole.fps, self.clips.width, self.clips.height)
                row = VideoRow(name, video.video_id, video.caption, made, self.source, one.scores)
                yield Sample(row, partial(_members, frames, whole.fps, self.lossless))

    def _stays(self, trial: Trial, clip: Candidate) -> bool:
        self.selection.trials.append(trial)
        return self.selection.judge(trial, clip, "frames") and self.selection.judge(trial, clip, "caption")

    def _clips(self, path: Path, facts: VideoFacts, starts: Sequence[float]) -> Iterator[Tensor]:
        """(T, 3, height, width) uint8 of each clip, from one pass over the video; one clip in memory at a time."""
        wanted = [clip_indices(start, self.clips.frames, self.clips.rate(facts), facts) for start in starts]
        stream = stream_frames(path, {index for indices in wanted for index in indices})
        held: dict[int, Tensor] = {}
        for indices in wanted:
            held = {index: frame for index, frame in held.items() if index >= indices[0]}
            while indices[-1] not in held:
                index, frame = next(stream)
                held[index] = fit_frame(frame, self.clips.height, self.clips.width)
            yield torch.stack([held[index] for index in indices])


def _members(frames: Tensor, fps: float, lossless: bool) -> dict[str, bytes]:
    return {"mp4": encode_mp4(frames, fps, lossless)}


def sample_key(video_id: str) -> str:
    """A video's name in its shard; what a key cannot hold is replaced, and a hash of the name keeps it unique."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", video_id.removesuffix(".mp4"))[:60]
    return plain if f"{plain}.mp4" == video_id else f"{plain}-{hashlib.sha256(video_id.encode()).hexdigest()[:8]}"


def _tell(selection: Selection, prefix: Path) -> None:
    """The report as a file and as a table."""
    from rich.console import Console

    report = prefix.with_name(f"{prefix.name}.report.jsonl")
    selection.write(report)
    console = Console()
    console.print(selection.table())
    console.print(f"every clip's numbers and the reasons: {report}", highlight=False, soft_wrap=True)
