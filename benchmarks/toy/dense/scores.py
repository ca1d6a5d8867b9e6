"""Measures of sampled toy videos against their prompts: how far shapes move, and how clean the pictures are.

    python -m benchmarks.toy.dense.scores runs/demo/samples/base runs/demo/samples/dense
    python -m benchmarks.toy.dense.scores runs/demo/samples/base --measures runs/demo/base.json

A folder is one that `VideoSampler` and `VideoFolderWriter` wrote: videos and their manifest. The first folder is the
base model's: its speeds say what slow and fast are, and at which speeds the others' quality is compared.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.base.results import write_json
from benchmarks.report.charts import color_of
from benchmarks.report.tables import Cell, Row, Table
from benchmarks.toy.commands import wide_console
from datamodules.toy_world.motion_measures import Measures, measure
from datamodules.toy_world.motion_world import parse_motion
from datamodules.video.codec import decode_frames, probe

#: Name of a number in JSON -> its column in the table.
COLUMNS: Mapping[str, str] = {
    "motion": "motion",
    "quality": "quality",
    "quality_at_base_motion": "quality at the base's speeds",
    "quality_slow": "quality, slow half",
    "quality_fast": "quality, fast half",
}
#: Parts of equal size into which the base's videos are divided by their speed.
PARTS = 4

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MotionScores:
    """Measures of a folder's videos by their file names."""

    videos: Mapping[str, Measures]

    @property
    def speeds(self) -> Numbers:
        """(N,) pixels per frame."""
        return np.array([measures.speed for measures in self.videos.values()])

    @property
    def qualities(self) -> Numbers:
        """(N,) 1 minus the artifact."""
        return np.array([measures.quality for measures in self.videos.values()])

    def numbers(self, base: MotionScores) -> dict[str, float | None]:
        """The numbers of one line of the table, by the keys of `COLUMNS`.

        Args:
            base: the base model's videos of the same prompts and noise. Its median speed parts slow from fast; "at the
                base's speeds" is the mean over its quarters of speed, so that a model whose videos are slower, and so
                easier to draw, gains nothing by that. None where no video is of such a speed.
        """
        speeds, qualities = self.speeds, self.qualities
        edges = np.quantile(base.speeds, np.linspace(0, 1, PARTS + 1)[1:-1])
        parts = np.digitize(speeds, edges)
        by_part = [_mean(qualities[parts == part]) for part in range(PARTS)]
        slow = speeds <= np.median(base.speeds)
        values = (
            float(speeds.mean()),
            float(qualities.mean()),
            None if None in by_part else float(np.mean(np.array(by_part, dtype=np.float64))),
            _mean(qualities[slow]),
            _mean(qualities[~slow]),
        )
        return dict(zip(COLUMNS, values, strict=True))

    @classmethod
    def read(cls, path: Path) -> MotionScores:
        """The measures in a file that `write` wrote."""
        videos = json.loads(path.read_text(encoding="utf-8"))
        return cls({name: Measures(**values) for name, values in videos.items()})

    def write(self, path: Path) -> None:
        """Store them as JSON, to the last digit."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {name: asdict(measures) for name, measures in self.videos.items()})

    def of_each_speed(self) -> list[str]:
        """Names of a slow, a medium and a fast video: at one, three and five sixths of the order by speed."""
        names = sorted(self.videos, key=lambda name: (self.videos[name].speed, name))
        return list(dict.fromkeys(names[len(names) * sixth // 6] for sixth in (1, 3, 5)))


def score_folder(folder: Path) -> MotionScores:
    """Measure every video of a folder.

    Raises:
        ValueError: there is no manifest, or a video that it names is missing or damaged.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no manifest.json; give a folder that `vidpref predict` with VideoSampler wrote")
    videos = {}
    for name, request in json.loads(path.read_text(encoding="utf-8"))["videos"].items():
        video = folder / name
        if not video.is_file():
            raise ValueError(f"{video} is missing; the same `vidpref predict` again makes the missing ones")
        frames = decode_frames(video, range(probe(video).frames))
        videos[name] = measure(frames, parse_motion(request["prompt"]))
    return MotionScores(videos)


def motion_table(runs: Mapping[str, Sequence[Mapping[str, float | None]]]) -> Table:
    """A line for each run, the mean over its seeds, with the spread where there are several.

    Args:
        runs: name -> the numbers of each seed, by the keys of `COLUMNS`.
    """
    columns = [_column([[seed[key] for seed in seeds] for seeds in runs.values()]) for key in COLUMNS]
    rows = [Row(name, color_of(index), [column[index] for column in columns]) for index, name in enumerate(runs)]
    return Table(("run", *COLUMNS.values()), rows)


def _mean(values: Numbers) -> float | None:
    return float(values.mean()) if len(values) else None


def spread(values: Sequence[float | None], signs: bool = False) -> str:
    """The mean over seeds with the smallest and the largest; "-" where one is not known.

    Args:
        values: one a seed.
        signs: they are changes: each has its sign, and all are listed.
    """
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "-"
    mean = sum(known) / len(known)
    if signs:
        return f"{mean:+.3f} ({' '.join(f'{value:+.3f}' for value in known)})"
    return f"{mean:.3f}" + (f" ({min(known):.3f} to {max(known):.3f})" if len(known) > 1 else "")


def _column(values: Sequence[Sequence[float | None]]) -> list[Cell]:
    """A cell for each run, from its values of several seeds."""
    sums = [None if None in seeds else float(np.mean(np.array(seeds, dtype=np.float64))) for seeds in values]
    known = {mean for mean in sums if mean is not None}
    largest = max(known) if len(known) > 1 else None  # nothing is best where all are equal
    return [
        Cell(spread(seeds), None, mean is not None and mean == largest)
        for seeds, mean in zip(values, sums, strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of the given folders."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.toy.dense.scores", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("folders", nargs="+", type=Path, help="folders of sampled toy videos; the first is the base's")
    parser.add_argument("--markdown", type=Path, help="write the table in Markdown here")
    parser.add_argument("--measures", type=Path, help="write the measures of the first folder's videos here, as JSON")
    options = parser.parse_args(argv)
    try:
        scores = {folder.name: score_folder(folder) for folder in options.folders}
    except ValueError as error:
        parser.error(str(error))
    base = scores[options.folders[0].name]
    table = motion_table({name: [score.numbers(base)] for name, score in scores.items()})
    table.show(wide_console())
    if options.measures is not None:
        base.write(options.measures)
    if options.markdown is not None:
        options.markdown.write_text(table.markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
