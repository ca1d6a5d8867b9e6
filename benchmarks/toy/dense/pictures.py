"""Pictures of toy videos: samples before and after training, and one pair with its labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.report.charts import color_of
from benchmarks.report.pictures import GREY, png_of, strip_of
from datamodules.dense.rows import LabelRow, PairRow
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.video.codec import decode_frames, probe

#: The colour of a segment that is better, worse, or a tie.
LABEL_COLORS = {1: "#2e9e5b", -1: "#c94f4f", 0: "#9a9a9a"}


def samples_picture(folders: Mapping[str, Path], names: Sequence[str], every: int = 4) -> bytes:
    """A PNG: for each prompt a row of frames from each folder, one above the other.

    Args:
        folders: title -> folder of sampled videos.
        names: file names that all folders have.
        every: the step between the frames that are shown.
    """
    from matplotlib.figure import Figure

    rows = [(name, title) for name in names for title in folders]
    figure = Figure(figsize=(11, 1.05 * len(rows) + 0.2), dpi=130)
    for row, (name, title) in enumerate(rows):
        video = folders[title] / name
        frames = decode_frames(video, range(0, probe(video).frames, every))
        axes = figure.add_axes((0.3, 1 - (row + 1) / len(rows), 0.69, 0.94 / len(rows)))
        axes.imshow(strip_of(frames), interpolation="nearest")
        axes.set_axis_off()
        prompt = name.rpartition("-")[0]
        figure.text(0.01, 1 - (row + 0.5) / len(rows), f"{prompt}\n{title}", color=GREY, fontsize=9, va="center")
    return png_of(figure)


def motion_plot(points: Mapping[str, Sequence[tuple[float, float]]]) -> bytes:
    """A PNG of motion against quality: a point for each seed, a cross at each run's mean.

    Args:
        points: run -> (motion, quality) of each seed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for index, (title, seeds) in enumerate(points.items()):
        motions, qualities = zip(*seeds, strict=True)
        color = color_of(index)
        axes.scatter(motions, qualities, color=color, s=22, alpha=0.7, label=title)
        axes.scatter(np.mean(motions), np.mean(qualities), color=color, s=90, marker="x")
    axes.set_xlabel("motion, pixels per frame")
    axes.set_ylabel("quality")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return png_of(figure)


def pair_picture(pairs: Path, labels: Path, key: str | None = None) -> bytes:
    """A PNG of one pair: both videos, and under each second which of them is better.

    Args:
        pairs: the index of the pairs.
        labels: the index of their labels.
        key: the pair; None = the first that has segments for either video.

    Raises:
        ValueError: no such pair is labelled.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    label = _label(labels, key)
    index = Index.read(pairs, "vidpref/pairs")
    members = SampleReader(index).read(index.positions[label.key])
    prompt = PairRow.from_json(json.loads(members["json"])).prompt
    figure = Figure(figsize=(11, 3.2), dpi=130)
    figure.text(0.01, 0.95, f"{prompt}; green: better in this second, red: worse", color=GREY, fontsize=10, va="top")
    for row, side in enumerate(("first", "second")):
        video = members[f"{side}.mp4"]
        frames = decode_frames(video, range(0, probe(video).frames, 2))
        axes = figure.add_axes((0.1, 0.45 - 0.44 * row, 0.89, 0.4))
        strip = strip_of(frames)
        axes.imshow(strip, interpolation="nearest")
        height, width = strip.shape[:2]
        edges = np.linspace(0, width, len(label.labels) + 1)
        for segment, segment_label in enumerate(label.labels):
            # +1 = the first video is better, so that the second one's bar has the other colour.
            color = LABEL_COLORS[segment_label if row == 0 else -segment_label]
            bar_width = edges[segment + 1] - edges[segment] - 1
            axes.add_patch(Rectangle((edges[segment], height), bar_width, 0.12 * height, color=color, clip_on=False))
        axes.set_axis_off()
        figure.text(0.01, 0.65 - 0.44 * row, side, color=GREY, fontsize=10, va="center")
    return png_of(figure)


def _label(labels: Path, key: str | None) -> LabelRow:
    """The pair's label; without a key that of the first pair with segments for either video."""
    index = Index.read(labels, "vidpref/labels")
    reader = SampleReader(index)
    for position, entry in enumerate(index.entries):
        segments = entry.facts["labels"]
        if entry.key == key or (key is None and 1 in segments and -1 in segments):
            return LabelRow.from_json(json.loads(reader.read(position, ["json"])["json"]))
    raise ValueError(f"{labels}: no labelled pair {key or 'with segments for either video'}")
