"""A folder of videos with captions to shards: clips of one size, length and rate, the good ones chosen by filters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from datamodules.dense.rows import VideoRow
from datamodules.prepare.captions import CaptionedVideo, read_captions
from datamodules.prepare.clip_format import ClipFormat, kept_area, parse_sizes
from datamodules.prepare.row_writer import Sample, output_prefix, write_samples
from datamodules.prepare.rows import SourceRow, key_part
from datamodules.prepare.selection import Trial, VideoSelection
from datamodules.prepare.video_filters import Candidate, VideoFilter
from datamodules.shards.index import Index
from datamodules.video.codec import clip_indices, encode_mp4, fit_frame, probe, stream_frames
from datamodules.video.facts import VideoFacts


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
    check: Literal["full", "quick"] = "full",
    sizes: str | None = None,
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
        check: full decodes every frame of a video once; quick no further than to the end of its last clip, so that
            damage behind it goes unnoticed.
        sizes: several sizes in place of `height` and `width`, as 480x832,832x480: each video goes to the one with the
            nearest aspect ratio, each size to shards of its own, ``OUTPUT-480x832``.

    Returns:
        The index; of several sizes all of them joined.

    Raises:
        ValueError: lists every fault of every video, and nothing is written; or no clip is left; or shards exist.
    """
    shapes = [(height, width)] if sizes is None else parse_sizes(sizes)
    formats = [ClipFormat(*shape, num_frames, fps, repeat_frames) for shape in shapes]
    buckets = [clips.size for clips in formats] if sizes is not None else []
    if clips_per_video < 1:
        raise ValueError(f"clips_per_video is {clips_per_video}; give 1 or more")
    captioned = read_captions(videos, captions, video_column, caption_column)
    selection = VideoSelection(filters)
    cutter = _Cutter(
        captioned, formats, clips_per_video, selection, source, lossless, skip_bad, check == "full", bool(buckets)
    )
    origin = Path(captions or videos[0])
    prefix = output_prefix(output, Path(videos[0]))
    report = prefix.with_name(f"{prefix.name}.report.jsonl")
    rows = [video.row for video in captioned]
    try:
        return write_samples(
            rows,
            origin,
            cutter.samples,
            prefix,
            skip_bad,
            samples_per_shard,
            "vidpref/videos",
            buckets,
            lambda: selection.write(report),
        )
    except ValueError:
        if selection.trials and cutter.finished:  # nothing is left, and the report says why
            selection.write(report)
        raise
    finally:
        # A run that broke off wrote nothing, so there is nothing to say about what it kept.
        if selection.trials and cutter.finished:
            _tell(selection, report)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a video's header decides.

    Attributes:
        clips: what its clips are made to be.
        whole: the video.
        trial: what the filters of facts found.
        starts: of its clips, in seconds; empty where they rejected it.
    """

    clips: ClipFormat
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
        formats: Sequence[ClipFormat],
        clips_per_video: int,
        selection: VideoSelection,
        source: str,
        lossless: bool,
        skip_bad: bool,
        every_frame: bool,
        several_sizes: bool,
    ) -> None:
        self.videos = {id(one.row): one for one in videos}
        self.formats = formats
        self.clips_per_video = clips_per_video
        self.selection = selection
        self.source = source
        self.lossless = lossless
        self.skip_bad = skip_bad
        self.every_frame = every_frame
        self.several_sizes = several_sizes
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
        clips = max(self.formats, key=lambda one: kept_area(facts, one.height, one.width))
        kept = kept_area(facts, clips.height, clips.width)
        whole = Candidate(video.caption, facts, None, clips.rate(facts), kept)
        trial = Trial(sample_key(video.video_id), video.video_id, None, {"kept_area": round(kept, 6)})
        if not self.selection.judge(trial, whole, "facts"):
            return _Plan(clips, whole, trial, ())
        try:
            return _Plan(clips, whole, trial, clips.starts(facts, self.clips_per_video))
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
                    samples.append(self._sample(trial, video, frames, plan))
        return trials, samples

    def _stays(self, trial: Trial, clip: Candidate) -> bool:
        return self.selection.judge(trial, clip, "frames") and self.selection.judge(trial, clip, "caption")

    def _sample(self, trial: Trial, video: CaptionedVideo, frames: Tensor, plan: _Plan) -> Sample:
        made = VideoFacts(len(frames), plan.whole.fps, plan.clips.width, plan.clips.height)
        row = VideoRow(trial.key, video.video_id, video.caption, made, self.source, trial.scores)
        members = {"mp4": encode_mp4(frames, plan.whole.fps, self.lossless)}
        return Sample(row, lambda: members, plan.clips.size if self.several_sizes else "")

    def _clips(self, video: CaptionedVideo, plan: _Plan) -> Iterator[Tensor]:
        """(T, 3, height, width) uint8 of each clip, from one pass over the video; one clip in memory at a time.

        A fault ends them and is noted in the video's row.
        """
        facts = plan.whole.source
        clips = [clip_indices(start, plan.clips.frames, plan.whole.fps, facts) for start in plan.starts]
        if not clips:
            return
        last = [facts.frames - 1] if self.every_frame else []
        stream = stream_frames(video.path, {*last, *(index for indices in clips for index in indices)})
        held: dict[int, Tensor] = {}
        try:
            for indices in clips:
                held = {index: frame for index, frame in held.items() if index >= indices[0]}
                while indices[-1] not in held:
                    index, frame = next(stream)
                    held[index] = fit_frame(frame, plan.clips.height, plan.clips.width)
                yield torch.stack([held[index] for index in indices])
            for _ in stream:  # up to the last frame, which no clip may need
                held.clear()
        except ValueError as error:
            video.row.refuse("video", str(error))


def sample_key(video_id: str) -> str:
    """A video's name in its shard: its path without the usual suffix."""
    return key_part(video_id.removesuffix(".mp4"))


def _tell(selection: VideoSelection, report: Path) -> None:
    """The report as a table, and where it is."""
    from rich.console import Console

    console = Console()
    console.print(selection.table())
    console.print(f"every clip's numbers and the reasons: {report}", highlight=False, soft_wrap=True)
