"""A folder of videos with captions to shards: clips of one size, length and rate, the good ones chosen by filters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from datamodules.prepare.captions import read_captions
from datamodules.prepare.clip_cutter import ClipCutter
from datamodules.prepare.clip_format import ClipFormat, parse_sizes
from datamodules.prepare.clip_samples import ClipSamples, sample_key
from datamodules.prepare.kept_results import KeptResults
from datamodules.prepare.row_writer import ShardOutput, write_samples
from datamodules.prepare.selection import VideoSelection
from datamodules.prepare.video_filters import VideoFilter
from datamodules.prepare.workers import Workers
from datamodules.shards.index import Index
from datamodules.video.codec import Preset

__all__ = ["prepare_videos", "sample_key"]


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
    preset: Preset = "medium",
    workers: int | None = None,
    part: str | None = None,
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
        preset: of the x264 encoder; veryfast takes less than half of medium's time, and makes other bytes of about the
            same size and quality.
        workers: processes that decode, judge and encode; null = the free cores, where it takes longer than they take to
            start. The shards are the same whatever their number.
        part: as 2/8, the second of eight parts of the videos, to ``OUTPUT.part2of8``; `prepare join OUTPUT` joins them.

    Returns:
        The index; of several sizes all of them joined.

    Raises:
        ValueError: lists every fault of every video, and nothing is written; or no clip is left; or shards exist.
    """
    options = dict(locals())
    # An error in the settings comes before a folder of many videos is searched.
    shapes = [(height, width)] if sizes is None else parse_sizes(sizes)
    formats = [ClipFormat(*shape, num_frames, fps, repeat_frames) for shape in shapes]
    buckets = [clips.size for clips in formats] if sizes is not None else []
    if clips_per_video < 1:
        raise ValueError(f"clips_per_video is {clips_per_video}; give 1 or more")
    captioned = read_captions(videos, captions, video_column, caption_column)
    target = ShardOutput.named(options, Path(videos[0]), [video.row for video in captioned])
    captioned, prefix = target.share(captioned), target.prefix
    selection, report = VideoSelection(filters), prefix.with_name(f"{prefix.name}.report.jsonl")
    looking = [criterion for criterion in filters if criterion.looks_at in ("colours", "frames")]
    cutter = ClipCutter(looking, clips_per_video > 1, lossless, preset, check == "full")
    with Workers(cutter, KeptResults.of(prefix), workers) as processes:
        clips = ClipSamples(
            videos={id(video.row): video for video in captioned},
            formats=formats,
            clips_per_video=clips_per_video,
            selection=selection,
            source=source,
            skip_bad=skip_bad,
            several_sizes=bool(buckets),
            workers=processes,
        )
        with _reported(selection, clips, report):
            return write_samples(
                [video.row for video in captioned], Path(captions or videos[0]), clips.samples, target,
                "vidpref/videos", buckets, before_commit=partial(selection.write, report),
            )  # fmt: skip


@contextmanager
def _reported(selection: VideoSelection, clips: ClipSamples, report: Path) -> Iterator[None]:
    """Show what the filters say when all videos were looked at, and write the report also where no clip is left."""
    try:
        yield
    except ValueError:
        if selection.trials and clips.finished:  # nothing is left, and the report says why
            selection.write(report)
        raise
    finally:
        # A run that broke off wrote nothing, so there is nothing to say about what it kept.
        if selection.trials and clips.finished:
            selection.show(report)
