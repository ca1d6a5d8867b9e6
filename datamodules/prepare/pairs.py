"""Pairs of generated videos that others compared, to shards of mp4 pairs and a CSV of their labels."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from datamodules.dense.rows import VideoRow
from datamodules.prepare.common_clip import CommonFormat, clip_bytes
from datamodules.prepare.conversations import UnreadableRowError
from datamodules.prepare.imported_videos import ImportedVideo, VideoFinder
from datamodules.prepare.pair_layouts import LAYOUTS, PairLayout, chosen_axis, layout_of, nearest_layout
from datamodules.prepare.pair_tables import read_pair_table, score_pairs, videodpo_folders
from datamodules.prepare.pair_verdicts import WORDS, Verdict, given_words, number_words
from datamodules.prepare.preferences import LISTED
from datamodules.prepare.row_writer import Sample, output_prefix, write_samples
from datamodules.prepare.rows import SourceRow, key_part, sample_key
from datamodules.shards.files import write_whole
from datamodules.shards.index import Index
from datamodules.video.facts import VideoFacts

LayoutName = Literal[
    "auto",
    "columns",
    "videoalign",
    "videogen_rewardbench",
    "genai_bench",
    "videofeedback2",
    "visionreward",
    "mj_bench",
    "rapidata",
    "videodpo",
]
_LABELS: Mapping[Verdict, str] = {1: "first", -1: "second", 0: "tie"}


def prepare_pairs(
    table: str | Path,
    output: str | Path,
    format: LayoutName = "auto",
    media: str | Path | None = None,
    media_prefix: str = "",
    axis: str | None = None,
    margin: float = 0.0,
    share: float = 0.5,
    first_column: str | None = None,
    second_column: str | None = None,
    prompt_column: str | None = None,
    label_column: str | None = None,
    score_columns: tuple[str, str] | None = None,
    labels: dict[str, str] | None = None,
    pairs_per_prompt: int | None = None,
    height: int | None = None,
    width: int | None = None,
    num_frames: int | None = None,
    fps: float | None = None,
    size_multiple: int = 16,
    temporal_ratio: int = 4,
    source: str = "",
    lossless: bool = False,
    skip_bad: bool = False,
    samples_per_shard: int = 64,
    check: Literal["full", "quick"] = "full",
) -> Index:
    """Turn pairs of videos of one prompt and their labels into shards; docs/dense_data.md lists the layouts.

    Both videos are cut to what both have: the lower rate, the shorter length, the smaller size. Labels of whole videos
    go to ``OUTPUT.labels.csv``, for `prepare labels` once the pairs are encoded.

    Args:
        table: CSV, JSON, JSON lines or parquet; of VideoDPO its YAML, a folder or a ``pair.json``.
        output: folder and common name of the shards; for a folder alone they are named as `table`.
        format: whose layout it is; columns = the columns named here alone.
        media: the folder in which relative video paths begin; null = the folder of `table`.
        media_prefix: taken off the beginning of video paths before they are joined to `media`.
        axis: what is compared, where the layout has several, as VQ, Alignment or phy_score.
        margin: scores that are less apart are a tie (of single videos: no pair).
        share: more than this share of the votes decides, at least one half.
        first_column: the column of the first video; null = the layout's.
        second_column: of the second video.
        prompt_column: of the prompt.
        label_column: of the label; of the format columns null = there are no labels.
        score_columns: two columns with a score of each video, in place of a label.
        labels: what the label column's values mean, as 1: first, 0: second, 0.5: tie, other: drop.
        pairs_per_prompt: of rated single videos, the pairs of one prompt with the largest gaps; null = all.
        height: of both videos, pixels; null = the smaller one's.
        width: of both videos, pixels; null = the smaller one's.
        num_frames: at most so many frames, 4k + 1; null = all that both have, cut to 4k + 1.
        fps: frames a second of both; null = the lower rate of the two.
        size_multiple: heights and widths are cut to multiples of it (Wan: 16).
        temporal_ratio: of the autoencoder (LTX: 8); the number of frames is a multiple of it plus 1.
        source: a name for tables; "" = the layout's and the axis.
        lossless: keep every value of frames that are encoded again, in larger files.
        skip_bad: write the good pairs, and list the bad ones with their faults in ``OUTPUT.skipped.jsonl``.
        samples_per_shard: samples in one tar file.
        check: full decodes every frame of every video once; quick the first alone.

    Raises:
        ValueError: the faults of the rows, and nothing is written; no layout fits; or shards of that name exist.
    """
    path = Path(table)
    common = CommonFormat(height, width, num_frames, fps, size_multiple, temporal_ratio)
    rows = read_pair_table(path)
    folder = Path(media) if media is not None else _default_folder(path)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give the one in which the videos' paths begin")
    if not 0.5 <= share < 1 or margin < 0:
        raise ValueError(f"share {share:g} is at least 0.5 and below 1, and margin {margin:g} not negative")
    name = _layout_name(path, rows, format, first_column)
    if name == "videofeedback2":
        rows = score_pairs(rows, axis, margin, pairs_per_prompt)
        if not rows:
            raise ValueError(f"{path}: no two videos of one prompt differ in {axis} by {margin:g} or more")
    layout = _with_columns(
        LAYOUTS.get(name) or PairLayout("the named columns'", "first", "second", "prompt"),
        rows, first_column, second_column, prompt_column, label_column, score_columns, labels,
    )  # fmt: skip
    try:
        read_axis = chosen_axis(layout, rows, axis)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    finder = VideoFinder(folder, media_prefix, fps or 8.0, lossless, check == "full", any_container=True)
    prefix = output_prefix(output, path if path.is_file() else path / "pairs")
    maker = _PairMaker(path, name, layout, read_axis, margin, share, finder, common, source, lossless)
    index = write_samples(
        rows, path, maker.samples, prefix, skip_bad, samples_per_shard, "vidpref/video_pairs",
        before_commit=partial(maker.write_labels, prefix), listed=LISTED,
    )  # fmt: skip
    print(maker.remark(prefix))
    return index


def _default_folder(path: Path) -> Path:
    """Where paths begin: beside the table; VideoDPO's begin beside the folder of its lists."""
    return path.parent.parent if path.name == "pair.json" else path.parent


def _layout_name(path: Path, rows: Sequence[SourceRow], format_: str, first_column: str | None) -> str:
    """The layout of a table.

    Raises:
        ValueError: none fits, or column names were forgotten.
    """
    if format_ != "auto":
        if format_ == "columns" and first_column is None:
            raise ValueError(f"{path}: name the columns: --first_column, --second_column and --label_column")
        return format_
    if videodpo_folders(path) is not None:
        return "videodpo"
    row = next((row for row in rows if row.data), rows[0])
    if not row.data:
        raise ValueError(f"{path}: {row}, {row.faults[0]}")
    if first_column is not None:
        return "columns"
    name = layout_of(row.data)
    if name is None:
        nearest = nearest_layout(row.data)
        raise ValueError(
            f"{path}: {row}: fits no layout; the nearest is {nearest}, for which it lacks "
            f"{', '.join(LAYOUTS[nearest].missing(row.data))} (its columns: {', '.join(list(row.data)[:9])}). Name "
            f"the columns by --first_column, --second_column ...; the layouts are {', '.join(LAYOUTS)}"
        )
    return name


def _with_columns(
    layout: PairLayout,
    rows: Sequence[SourceRow],
    first: str | None,
    second: str | None,
    prompt: str | None,
    label: str | None,
    scores: tuple[str, str] | None,
    labels: Mapping[str, str] | None,
) -> PairLayout:
    """The layout with the columns that the user named, whose labels may be spelt in any known way."""
    given = {"first": first, "second": second, "prompt": prompt}
    layout = replace(layout, **{name: column for name, column in given.items() if column})  # type: ignore[arg-type]
    if labels:
        layout = replace(layout, words={**layout.words, **given_words(labels)})
    if scores:
        return replace(layout, scores=scores, votes=None, axes={}, axis_pattern="", needs=scores)
    if not label:
        return layout
    if labels:
        words = {**WORDS, **given_words(labels)}
    else:
        try:
            words = {**WORDS, **number_words(row.data.get(label) for row in rows)}
        except ValueError as error:
            raise ValueError(f"--label_column {label}: {error}") from error
    return replace(layout, axes={label: label}, words=words, votes=None, axis_pattern="", needs=(label,))


@dataclass(eq=False)
class _PairMaker:
    """Makes a sample of a row: both videos, cut alike, and what was said of them."""

    path: Path
    name: str
    layout: PairLayout
    axis: str | None
    margin: float
    share: float
    videos: VideoFinder
    common: CommonFormat
    source: str
    lossless: bool
    _labels: list[tuple[str, Verdict]] = field(default_factory=list)
    _first: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _changed: Counter[str] = field(default_factory=Counter)
    _dropped: Counter[str] = field(default_factory=Counter)
    _undecided: int = 0

    def samples(self, row: SourceRow) -> Iterator[Sample]:
        """The pair of a row; none where it is faulty or says nothing."""
        if row.faults:
            return
        if lacking := self.layout.missing(row.data):
            nearest = nearest_layout(row.data)
            hint = "" if nearest == self.name or self.name == "columns" else f"; the nearest layout is {nearest}"
            row.refuse("row", f"does not fit {self.name}, it has no {', no '.join(lacking)}{hint}")
            return
        try:
            verdict, scores = self.layout.verdict(row.data, self.axis, self.margin, self.share)
        except UnreadableRowError as error:
            row.refuse(error.field, error.why)
            return
        if verdict is None and self.labelled:
            self._undecided += 1
            return
        first, second = self._video(row, self.layout.first), self._video(row, self.layout.second)
        prompt = " ".join(str(self.layout.value(row.data, self.layout.prompt)[1]).split())
        if first is None or second is None:
            return
        pair = (first.video_id, second.video_id, prompt)
        if first.video_id == second.video_id:
            row.refuse(self.layout.second, "is the same video as the first")
        elif (before := self._first.setdefault(pair, str(row))) != str(row):
            row.refuse("row", f"repeats {before}: the same videos and prompt")
        try:
            clip = self.common.of(first.facts, second.facts)
        except ValueError as error:
            row.refuse("videos", str(error))
        if row.faults:
            return
        yield self._sample(row, prompt, (first, second), clip, verdict, scores)

    def _sample(
        self,
        row: SourceRow,
        prompt: str,
        videos: tuple[ImportedVideo, ImportedVideo],
        clip: VideoFacts,
        verdict: Verdict,
        scores: dict[str, float],
    ) -> Sample:
        first, second = videos
        source = self.source or (f"{self.name}/{self.axis}" if self.axis else self.name)
        key = sample_key(self.path, row)
        if "-" in row.line and self.name == "videofeedback2":
            key = f"{key_part(self.path.stem)}-{row.line}"
        elif row.name:
            key = f"{key_part(row.name.partition(',')[0])}-{row.number:06d}"
        record = VideoRow(key, f"{first.video_id}|{second.video_id}", prompt, clip, source, scores)
        if self.labelled:
            self._labels.append((key, verdict))
        self._count(row.data, first.facts, second.facts, clip)
        return Sample(
            record,
            lambda: {
                "first.mp4": clip_bytes(first, clip, self.lossless),
                "second.mp4": clip_bytes(second, clip, self.lossless),
            },
        )

    @property
    def labelled(self) -> bool:
        """Whether the table says which videos are better."""
        return self.axis is not None or self.layout.scores is not None

    def _video(self, row: SourceRow, column: str) -> ImportedVideo | None:
        name, value = self.layout.value(row.data, column)
        try:
            return self.videos(value)
        except ValueError as error:
            row.refuse(name, str(error))
            return None

    def _count(self, data: Mapping[str, Any], first: VideoFacts, second: VideoFacts, clip: VideoFacts) -> None:
        """Count what of a pair changes, and the columns of the table that are not taken along."""
        self._changed["rate"] += {first.fps, second.fps} != {clip.fps}
        self._changed["length"] += any(abs(v.duration - clip.duration) > 1e-6 for v in (first, second))
        self._changed["size"] += {(v.height, v.width) for v in (first, second)} != {(clip.height, clip.width)}
        layout = self.layout
        read = {name for need in (layout.first, layout.second, layout.prompt) for name in need.split("|")}
        read |= {*(layout.scores or ()), *layout.kept, layout.axes.get(self.axis or "", "")}
        read |= {name.format(axis=self.axis) for name in layout.votes or ()}
        self._dropped.update(name for name, value in data.items() if name not in read and value not in (None, "", []))

    def write_labels(self, prefix: Path) -> None:
        """The CSV of whole-video labels that `prepare labels` reads."""
        if not self.labelled:
            return
        file = io.StringIO()
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("key", "segment", "label"))
        table.writerows((key, "whole", _LABELS[verdict]) for key, verdict in self._labels)
        write_whole(_labels_path(prefix), file.getvalue().encode())

    def remark(self, prefix: Path) -> str:
        """What was read, changed and left out."""
        what = f", compared on {self.axis}" if self.axis else ""
        lines = [f"{self.path}: read as {self.name} ({self.layout.title} layout){what}"]
        if self.labelled:
            counts = Counter(_LABELS[verdict] for _, verdict in self._labels)
            said = ", ".join(f"{name} {counts[name]}" for name in _LABELS.values())
            lines.append(f"  labels of whole videos in {_labels_path(prefix)}: {said}")
        if self._undecided:
            lines.append(f"  left out, because no label is valid: {self._undecided}")
        changed = ", ".join(f"{name} {count}" for name, count in self._changed.items() if count)
        if changed:
            lines.append(f"  pairs cut to what both videos have, by what changed: {changed}")
        if self._dropped:
            lines.append(f"  dropped: {', '.join(f'{name} {count}' for name, count in sorted(self._dropped.items()))}")
        return "\n".join(lines)


def _labels_path(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.labels.csv")
