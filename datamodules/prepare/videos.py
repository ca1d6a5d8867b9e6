"""A folder of videos with captions to shards: clips of one size, length and rate, the good ones chosen by filters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    # An error in the settings comes before a folder of many videos is searched.
    formats = [ClipFormat(*shape, num_frames, fps, repeat_frames) for shape in shapes]
    buckets = [clips.size for clips in formats] if sizes is not None else []
    if clips_per_video < 1:
        raise ValueError(f"clips_per_video is {clips_per_video}; give 1 or more")
    captioned = read_captions(videos, captions, video_column, caption_column)
    cutter = _Cutter(
        videos={id(video.row): video for video in captioned},
        formats=formats,
        clips_per_video=clips_per_video,
        selection=VideoSelection(filters),
        source=source,
        lossless=lossless,
        skip_bad=skip_bad,
        every_frame=check == "full",
        several_sizes=bool(buckets),
    )
    origin, prefix = Path(captions or videos[0]), output_prefix(output, Path(videos[0]))
    return _write([video.row for video in captioned], origin, cutter, prefix, samples_per_shard, buckets)


def _write(
    rows: Sequence[SourceRow], origin: Path, cutter: _Cutter, prefix: Path, samples_per_shard: int, buckets: list[str]
) -> Index:
    """Write the clips and the report of the selection, and show the report on the terminal."""
    selection, report = cutter.selection, prefix.with_name(f"{prefix.name}.report.jsonl")
    try:
        return write_samples(
            rows,
            origin,
            cutter.samples,
            prefix,
            cutter.skip_bad,
            samples_per_shard,
            "vidpref/videos",
            buckets,
            before_commit=lambda: selection.write(report),
        )
    except ValueError:
        if selection.trials and cutter.finished:  # nothing is left, and the report says why
            selection.write(report)
        raise
    finally:
        # A run that broke off wrote nothing, so there is nothing to say about what it kept.
        if selection.trials and cutter.finished:
            from rich.console import Console

            console = Console()
            console.print(selection.table())
            console.print(f"every clip's numbers and the reasons: {report}", highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Plan of a video's clips, made from its header alone.

    Attributes:
        clips: the format of its clips.
        whole: the video.
        trial: the findings of the filters of facts.
        starts: of its clips, in seconds; empty where they rejected it.
    """

    clips: ClipFormat
    whole: Candidate
    trial: Trial
    starts: Sequence[float]


@dataclass(slots=True, eq=False, kw_only=True)
class _Cutter:
    """Cutter of clips, one video after the other; the good clips become samples.

    Only what reading a video raises is a fault of that video; what a filter raises ends the run.

    Attributes:
        videos: by the identities of their rows.
        formats: of clips; a video goes to the one that keeps most of its picture.
        clips_per_video: clips at most of one video.
        selection: applies the filters.
        source: a name for tables.
        lossless: keep every value of the frames.
        skip_bad: go on after a fault.
        every_frame: decode each video to its end.
        several_sizes: put each size into shards of its own.
    """

    videos: Mapping[int, CaptionedVideo]
    formats: Sequence[ClipFormat]
    clips_per_video: int
    selection: VideoSelection
    source: str
    lossless: bool
    skip_bad: bool
    every_frame: bool
    several_sizes: bool
    _plans: dict[int, _Plan] | None = None
    _done: int = 0

    @property
    def stopped(self) -> bool:
        """A fault stops the run: the other videos are decoded for their faults alone, and no filter judges them."""
        return not self.skip_bad and any(video.row.faults for video in self.videos.values())

    @property
    def finished(self) -> bool:
        """Every video was cut, and its samples were taken."""
        return self._done == len(self.videos) and not self.stopped

    def samples(self, row: SourceRow) -> Iterator[Sample]:
        """The samples of one video; none where it has a fault, which is noted in its row."""
        if self._plans is None:  # at the first video, so that all of them are planned before one is decoded
            self._plans = self._planned()
        plan = self._plans.get(id(row))
        if plan is not None:
            trials, samples = self._cut(self.videos[id(row)], plan)
            if not row.faults and not self.stopped:
                self.selection.trials += trials
                yield from samples
        self._done += 1

    def _planned(self) -> dict[int, _Plan]:
        """The plans of all videos that can be opened, by the identities of their rows.

        They need no decoding, so that the expensive filters see only what the cheap ones leave.
        """
        for criterion in self.selection.filters:
            criterion.prepare()
        plans = {row: plan for row, video in self.videos.items() if (plan := self._plan(video)) is not None}
        if not self.stopped:
            accepted = [self.videos[row] for row, plan in plans.items() if plan.starts]
            for criterion in self.selection.filters:
                criterion.expect([video.caption for video in accepted if not video.row.faults])
        return plans

    def _plan(self, video: CaptionedVideo) -> _Plan | None:
        """None after noting why the video gives no clip, or where there is no file."""
        if video.row.faults and not video.path.exists():
            return None
        try:
            facts = probe(video.path, constant_rate=True)
        except ValueError as error:
            video.row.refuse("video", str(error))
            return None
        clips = max(self.formats, key=lambda clips: kept_area(facts, clips.height, clips.width))
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
        judged = not video.row.faults and not self.stopped
        trials: list[Trial] = [] if plan.starts else [plan.trial]
        samples: list[Sample] = []
        for index, frames in enumerate(self._clips(video, plan)):
            if not judged:
                continue
            name = plan.trial.key if self.clips_per_video == 1 else f"{plan.trial.key}-{index:02d}"
            trial = Trial(name, video.video_id, round(plan.starts[index], 3), dict(plan.trial.scores))
            trials.append(trial)
            if self._stays(trial, replace(plan.whole, frames=frames)):
                samples.append(self._sample(trial, video, frames, plan))
        return trials, samples

    # A method, as a clip that had a name here would still be in memory when the next one is decoded.
    def _stays(self, trial: Trial, clip: Candidate) -> bool:
        # Captions last: those filters may ask a language model.
        return self.selection.judge(trial, clip, "frames") and self.selection.judge(trial, clip, "caption")

    def _sample(self, trial: Trial, video: CaptionedVideo, frames: Tensor, plan: _Plan) -> Sample:
        facts = VideoFacts(len(frames), plan.whole.fps, plan.clips.width, plan.clips.height)
        row = VideoRow(trial.key, video.video_id, video.caption, facts, self.source, trial.scores)
        # Encoded now, as frames of many clips would fill the memory until they are written.
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
                # Clips may overlap, and a clip may show a frame several times.
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
