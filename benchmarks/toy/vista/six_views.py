"""Picture of one VistaDPO sample: its six views with the answers that are scored under each.

python -m benchmarks.toy.vista.six_views SHARDS.index.json --key KEY --output six_views.png
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.report.pictures import GREY, png_of, strip_of
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.recipe import SampleRead
from datamodules.vista.annotations import Annotations
from datamodules.vista.frame_samplers import ViewFrames
from datamodules.vista.recipe import VistaRecipe
from datamodules.vista.samples import ALL_NEEDS, View, ViewName
from datamodules.vista.views import LEVEL_VIEWS, Negatives, ViewMaker

TITLES: dict[ViewName, str] = {
    "original": "video",
    "video_negative": "video, negative",
    "clip": "clip",
    "clip_negative": "clip, negative",
    "object": "object",
    "object_negative": "object, negative",
}


def sample_views(
    index_path: Path, key: str | None = None, negatives: Negatives | None = None, num_frames: int = 8, seed: int = 0
) -> list[View]:
    """The views of one sample, as training with this seed and these negatives sees them.

    Args:
        index_path: the `.index.json` of VistaDPO shards.
        key: the sample; None = the first one that has all six views.
        negatives: the negative of each level; None = the defaults.
        num_frames: frames per view.
        seed: the run's seed.

    Raises:
        ValueError: there is no such sample.
    """
    index = Index.read(index_path)
    if len(index) == 0 or (key is not None and key not in index.positions):
        known = ", ".join(entry.key for entry in index.entries[:3])
        raise ValueError(f"{index_path} has no sample {key!r}; it has {known} ...")
    positions = range(len(index)) if key is None else [index.positions[key]]
    negatives = negatives or Negatives()
    annotations = Annotations.of(index, negatives)
    complete = (position for position in positions if len(annotations.levels[position]) == len(LEVEL_VIEWS))
    position = next(complete, positions[0])

    return next(
        read_views(index, annotations, ViewMaker(ALL_NEEDS, negatives, ViewFrames(num_frames), seed), [position])
    )


def read_views(
    index: Index, annotations: Annotations, maker: ViewMaker, positions: Iterable[int]
) -> Iterator[list[View]]:
    """The views of samples, one sample after the other, as the first epoch sees them.

    Args:
        index: of VistaDPO shards.
        annotations: of the same index.
        maker: makes the views.
        positions: of the samples in the index.
    """
    reader, recipe = SampleReader(index), VistaRecipe(annotations, maker)
    for position in positions:
        yield recipe.make_sample(SampleRead(index.entries[position], reader.read(position), 0, position, reader.read))


def picture(views: Sequence[View]) -> bytes:
    """A PNG with one row per view: its name, its frames from first to last, and the answers scored under it."""
    from matplotlib.figure import Figure

    height, width = views[0].frames.shape[2:]
    rows = len(views)
    # A row is as high as its frames when all of them fit side by side into their column.
    row_inches = max(0.8, 5.6 / len(views[0].frames) * height / width)
    figure = Figure(figsize=(11, row_inches * rows + 0.5), dpi=150)
    figure.suptitle(f"Question: {views[0].prompt}", x=0.01, y=1 - 0.12 / figure.get_figheight(), ha="left", va="top",
                    color=GREY, fontsize=11, fontweight="bold")  # fmt: skip
    top = 1 - 0.45 / figure.get_figheight()
    grid = figure.add_gridspec(rows, 3, width_ratios=(1.5, 5.6, 3.9), left=0.01, right=0.995, top=top, bottom=0.01,
                               wspace=0.03, hspace=0.12)  # fmt: skip
    for row, view in enumerate(views):
        name, strip, answers = (figure.add_subplot(grid[row, column]) for column in range(3))
        for axes in (name, strip, answers):
            axes.set_axis_off()
        name.text(0, 0.5, TITLES[view.name], color=GREY, fontsize=11, va="center", transform=name.transAxes)
        strip.imshow(strip_of(view.frames), interpolation="nearest", aspect="equal")
        strip.set_anchor("W")
        lines = [textwrap.fill(f"{role}: {text}", 50) for role, text in view.answers.items()]
        answers.text(0, 0.5, "\n".join(lines), color=GREY, fontsize=10, va="center", transform=answers.transAxes)
    return png_of(figure)


def main() -> None:
    """Write the picture of one sample."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.toy.vista.six_views", description=__doc__.splitlines()[0]
    )
    parser.add_argument("index", type=Path, help="the .index.json of VistaDPO shards")
    parser.add_argument("--key", help="the sample; by default the first one with all six views")
    parser.add_argument("--num-frames", type=int, default=8, help="frames per view")
    parser.add_argument("--seed", type=int, default=0, help="the run's seed, from which negatives are drawn")
    parser.add_argument("--output", type=Path, default=Path("six_views.png"), help="the PNG file to write")
    options = parser.parse_args()
    views = sample_views(options.index, options.key, num_frames=options.num_frames, seed=options.seed)
    options.output.write_bytes(picture(views))


if __name__ == "__main__":
    main()
