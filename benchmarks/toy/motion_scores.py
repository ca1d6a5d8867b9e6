"""Sampled toy videos measured against their prompts: how far shapes move, and how well they are made.

    python -m benchmarks.toy.motion_scores runs/demo/samples/base runs/demo/samples/dense

A folder is what `VideoSampler` and `VideoFolderWriter` leave: videos and their manifest. Numbers are means over videos,
and for each speed that the prompts name; the measures are those of `datamodules.toy_world.motion_measures`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.report.charts import color_of
from benchmarks.report.tables import Cell, Row, Table
from datamodules.toy_world.motion_measures import Measures, mean_measures, measure
from datamodules.toy_world.motion_world import SPEEDS, Speed, parse_motion
from datamodules.video.codec import decode_frames, probe

#: The columns of the table: a measure, and the speed it is of; None = all videos.
COLUMNS: tuple[tuple[str, Speed | None], ...] = (
    *(("motion", speed) for speed in (None, *SPEEDS)),
    ("quality", None),
    ("shape", None),
    ("color", None),
    ("smoothness", None),
)
#: Columns of text that the table takes, with the spread of several seeds.
WIDTH = 150


@dataclass(frozen=True, slots=True)
class MotionScores:
    """The measures of a folder's videos: name -> measures, and name -> what the prompt says of its speed."""

    videos: Mapping[str, Measures]
    speeds: Mapping[str, Speed]

    def mean(self, speed: Speed | None = None) -> Measures:
        """The mean over all videos, or over those of one speed."""
        return mean_measures([one for name, one in self.videos.items() if speed in (None, self.speeds[name])])

    def value(self, measure_name: str, speed: Speed | None) -> float:
        """One number of the table."""
        return float(getattr(self.mean(speed), measure_name))


def score_folder(folder: Path) -> MotionScores:
    """Measure every video of a folder.

    Raises:
        ValueError: there is no manifest, or a video that it names is missing or damaged.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no manifest.json; give a folder that `vidpref predict` with VideoSampler wrote")
    videos, speeds = {}, {}
    for name, asked in json.loads(path.read_text(encoding="utf-8"))["videos"].items():
        motion, video = parse_motion(asked["prompt"]), folder / name
        if not video.is_file():
            raise ValueError(f"{video} is missing; the same `vidpref predict` again makes what is left")
        frames = decode_frames(video, range(probe(video).frames))
        videos[name], speeds[name] = measure(frames, motion), motion.speed
    return MotionScores(videos, speeds)


def one_of_each_speed(names: Iterable[str]) -> list[str]:
    """The first name that tells of each speed, slow to fast.

    Raises:
        ValueError: none tells of one of them.
    """
    found: dict[Speed, str] = {}
    for name in names:
        found.setdefault(parse_motion(name).speed, name)
    if lacking := [speed for speed in SPEEDS if speed not in found]:
        raise ValueError(f"no video is {' or '.join(lacking)}; sample {len(SPEEDS)} prompts or more")
    return [found[speed] for speed in SPEEDS]


def motion_table(runs: Mapping[str, Sequence[MotionScores]]) -> Table:
    """A line for each run, the mean over its folders (seeds), with the spread where there are several.

    Behind motion stand its means over the prompts of each speed.
    """
    header = ("run", *(speed or name for name, speed in COLUMNS))
    columns = [_column([[one.value(*column) for one in scores] for scores in runs.values()]) for column in COLUMNS]
    rows = [Row(name, color_of(number), [column[number] for column in columns]) for number, name in enumerate(runs)]
    return Table(header, rows)


def wide_console() -> Console:
    """A console in which the table keeps its lines, also where the terminal is narrower."""
    return Console(width=max(Console().width, WIDTH))


def _column(values: Sequence[Sequence[float]]) -> list[Cell]:
    means = [sum(each) / len(each) for each in values]
    largest = max(means) if len(set(means)) > 1 else None
    cells = []
    for each, mean in zip(values, means, strict=True):
        spread = f" ({min(each):.2f} to {max(each):.2f})" if len(each) > 1 else ""
        cells.append(Cell(f"{mean:.3f}{spread}", None, mean == largest))
    return cells


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of the given folders."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.toy.motion_scores", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("folders", nargs="+", type=Path, help="folders of sampled toy videos")
    parser.add_argument("--markdown", type=Path, help="write the table in Markdown here")
    options = parser.parse_args(argv)
    try:
        table = motion_table({folder.name: [score_folder(folder)] for folder in options.folders})
    except ValueError as error:
        parser.error(str(error))
    table.show(wide_console())
    if options.markdown is not None:
        options.markdown.write_text(table.markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
