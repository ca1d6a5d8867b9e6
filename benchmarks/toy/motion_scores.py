"""Measures of sampled toy videos against their prompts: how far shapes move, and the quality of shape and colour.

    python -m benchmarks.toy.motion_scores runs/demo/samples/base runs/demo/samples/dense

A folder is one that `VideoSampler` and `VideoFolderWriter` wrote: videos and their manifest. Numbers are means over
videos, and over those of each speed that the prompts name, of the measures in `datamodules.toy_world.motion_measures`.
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
#: Width of the table in characters, with the spread of several seeds.
WIDTH = 150


@dataclass(frozen=True, slots=True)
class MotionScores:
    """Measures of a folder's videos: name -> measures, and name -> the speed in its prompt."""

    videos: Mapping[str, Measures]
    speeds: Mapping[str, Speed]

    def mean(self, speed: Speed | None = None) -> Measures:
        """The mean over all videos, or over those of one speed."""
        chosen = [measures for name, measures in self.videos.items() if speed in (None, self.speeds[name])]
        return mean_measures(chosen)

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
            raise ValueError(f"{video} is missing; the same `vidpref predict` again makes the missing ones")
        frames = decode_frames(video, range(probe(video).frames))
        videos[name], speeds[name] = measure(frames, motion), motion.speed
    return MotionScores(videos, speeds)


def one_of_each_speed(names: Iterable[str]) -> list[str]:
    """The first name with each speed, slow to fast.

    Raises:
        ValueError: there is none with one of them.
    """
    first: dict[Speed, str] = {}
    for name in names:
        first.setdefault(parse_motion(name).speed, name)
    if missing := [speed for speed in SPEEDS if speed not in first]:
        raise ValueError(f"no video is {' or '.join(missing)}; sample {len(SPEEDS)} prompts or more")
    return [first[speed] for speed in SPEEDS]


def motion_table(runs: Mapping[str, Sequence[MotionScores]]) -> Table:
    """A line for each run, the mean over its folders (seeds), with the spread where there are several.

    Next to motion are its means over the prompts of each speed.

    Args:
        runs: name -> the scores of its folders.
    """
    header = ("run", *(speed or name for name, speed in COLUMNS))
    columns = [_column([[seed.value(*column) for seed in seeds] for seeds in runs.values()]) for column in COLUMNS]
    rows = [Row(name, color_of(index), [column[index] for column in columns]) for index, name in enumerate(runs)]
    return Table(header, rows)


def wide_console() -> Console:
    """A console in which the table keeps its lines, also where the terminal is narrower."""
    return Console(width=max(Console().width, WIDTH))


def _column(values: Sequence[Sequence[float]]) -> list[Cell]:
    """A cell for each run, from its values of several seeds."""
    means = [sum(seeds) / len(seeds) for seeds in values]
    largest = max(means) if len(set(means)) > 1 else None  # nothing is best where all are equal
    cells = []
    for seeds, mean in zip(values, means, strict=True):
        spread = f" ({min(seeds):.2f} to {max(seeds):.2f})" if len(seeds) > 1 else ""
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
