"""Pairs of generated videos that others compared, to shards of mp4 pairs and a CSV of their labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from datamodules.prepare.common_clip import CommonFormat
from datamodules.prepare.imported_videos import VideoFinder
from datamodules.prepare.kept_results import KeptResults
from datamodules.prepare.named_columns import NamedColumns
from datamodules.prepare.own_videos import videos_folder
from datamodules.prepare.pair_cutter import PairCutter
from datamodules.prepare.pair_layouts import LAYOUTS, PairLayout, chosen_axis, layout_of, nearest_layout
from datamodules.prepare.pair_maker import PairMaker
from datamodules.prepare.pair_tables import read_pair_table, score_pairs, videodpo_folders
from datamodules.prepare.preferences import LISTED
from datamodules.prepare.row_writer import ShardOutput, write_samples
from datamodules.prepare.rows import SourceRow
from datamodules.prepare.workers import Workers
from datamodules.shards.index import Index

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
    workers: int | None = None,
    part: str | None = None,
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
        workers: processes that decode and encode; null = the free cores, where it takes longer than they take to start.
            The shards are the same whatever their number.
        part: as 2/8, the second of eight parts of the pairs, to ``OUTPUT.part2of8``; `prepare join OUTPUT` joins them.

    Raises:
        ValueError: the faults of the rows, and nothing is written; no layout fits; or shards of that name exist.
    """
    options = dict(locals())
    path = Path(table)
    common = CommonFormat(height, width, num_frames, fps, size_multiple, temporal_ratio)
    rows = read_pair_table(path)
    # Beside the table; VideoDPO's paths begin beside the folder of its lists.
    folder = videos_folder(media, path.parent.parent if path.name == "pair.json" else path.parent)
    if not 0.5 <= share < 1 or margin < 0:
        raise ValueError(f"share {share:g} is at least 0.5 and below 1, and margin {margin:g} not negative")
    columns = NamedColumns(first_column, second_column, prompt_column, label_column, score_columns, labels)
    rows, name, layout, read_axis = _laid_out(path, rows, format, columns, axis, margin, pairs_per_prompt)
    # Folders of frames say no rate; 8 a second where the user names none.
    finder = VideoFinder(folder, media_prefix, fps or 8.0, lossless, check == "full", any_container=True)
    target = ShardOutput.named(options, path if path.is_file() else path / "pairs", rows)
    rows, cutter = target.share(rows), PairCutter(finder, common, lossless)
    with Workers(cutter, KeptResults.of(target.prefix), workers) as processes:
        maker = PairMaker(path, name, layout, read_axis, margin, share, cutter, source, rows, skip_bad, processes)
        index = write_samples(
            rows, path, maker.samples, target, "vidpref/video_pairs",
            before_commit=partial(maker.write_labels, target.prefix), max_listed=LISTED,
        )  # fmt: skip
    print(maker.remark(target.prefix))
    return index


def _laid_out(
    path: Path,
    rows: list[SourceRow],
    format_: str,
    columns: NamedColumns,
    axis: str | None,
    margin: float,
    pairs_per_prompt: int | None,
) -> tuple[list[SourceRow], str, PairLayout, str | None]:
    """The rows as pairs, the name of their layout, the layout itself, and the axis that is read.

    Raises:
        ValueError: no layout or axis fits, or no two single videos are apart.
    """
    name = _layout_name(path, rows, format_, columns.first)
    if name == "videofeedback2":
        # Pairs first: the columns of a layout are those of pairs.
        rows = score_pairs(path, rows, axis, margin, pairs_per_prompt)
        if not rows:
            raise ValueError(f"{path}: no two videos of one prompt differ in {axis} by {margin:g} or more")
    layout = LAYOUTS.get(name) or PairLayout("the named columns'", "first", "second", "prompt")
    layout = columns.in_place_of(layout, rows)
    try:
        return rows, name, layout, chosen_axis(layout, rows, axis)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


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
    # Before layouts are tried, as one may fit by chance.
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
