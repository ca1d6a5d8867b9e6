"""Motion and quality of the two videos of pairs, measured against their prompts.

    python -m benchmarks.toy.dense.pair_measures runs/study-dense/structural.index.json runs/study-dense/structural.json

The pairs' mp4s must be lossless: an ordinary mp4 is as far from a clean picture as many a sampled video is. Where they
are not, the videos are decoded from the latents.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load
from torch import Tensor

from benchmarks.base.results import write_json
from datamodules.dense.rows import PairRow
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.toy_world.motion_measures import measure_segments
from datamodules.toy_world.motion_world import parse_motion
from datamodules.video.codec import decode_frames, probe
from lightning_modules.policies.wan import WanPolicy

SIDES = ("first", "second")
LATENTS = "latents.safetensors"

Numbers = npt.NDArray[np.float64]
#: The bytes of a pair's members -> the frames (T, 3, H, W) uint8 of first and second.
Show = Callable[[dict[str, bytes]], list[Tensor]]


@dataclass(frozen=True, slots=True)
class PairMeasures:
    """Measures of N pairs.

    Attributes:
        keys: N keys.
        speeds: (N, 2) pixels per frame of first and second video.
        qualities: (N, 2, S) quality of each second.
    """

    keys: Sequence[str]
    speeds: Numbers
    qualities: Numbers

    @property
    def whole(self) -> Numbers:
        """(N, 2) quality of each video: the mean of its seconds."""
        means: Numbers = self.qualities.mean(axis=2)
        return means

    def of(self, selected: npt.NDArray[np.bool_]) -> PairMeasures:
        """Some of the pairs.

        Args:
            selected: (N,) which.
        """
        keys = [key for key, taken in zip(self.keys, selected, strict=True) if taken]
        return PairMeasures(keys, self.speeds[selected], self.qualities[selected])

    @property
    def leads(self) -> Numbers:
        """(N, S) by how much the first video's quality leads in each second."""
        leads: Numbers = self.qualities[:, 0] - self.qualities[:, 1]
        return leads

    @classmethod
    def read(cls, path: Path) -> PairMeasures:
        """The measures in a file that `write` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(content["keys"], np.array(content["speeds"]), np.array(content["qualities"]))

    def write(self, path: Path) -> None:
        """Store them as JSON."""
        speeds, qualities = (np.round(values, 6).tolist() for values in (self.speeds, self.qualities))
        write_json(path, {"keys": list(self.keys), "speeds": speeds, "qualities": qualities})


def measured_pairs(path: str | Path, limit: int | None = None, checkpoint: str | Path | None = None) -> PairMeasures:
    """Measure the videos of pair shards against their prompts.

    Args:
        path: the index of pairs of the toy world.
        limit: only so many, the first ones.
        checkpoint: the pipeline folder whose autoencoder decodes the latents; None = the mp4s are read.
    """
    reader = SampleReader(Index.read(path, "vidpref/pairs"))
    show, members = (_mp4s, ["first.mp4", "second.mp4"]) if checkpoint is None else (_decoder(checkpoint), [LATENTS])
    keys, speeds, qualities = [], [], []
    for position in range(len(reader.index))[:limit]:
        content = reader.read(position, ["json", *members])
        row = PairRow.from_json(json.loads(content["json"]))
        sides = [measure_segments(frames, parse_motion(row.prompt)) for frames in show(content)]
        keys.append(row.key)
        speeds.append([np.mean([second.speed for second in seconds]) for seconds in sides])
        qualities.append([[second.quality for second in seconds] for seconds in sides])
    return PairMeasures(keys, np.array(speeds), np.array(qualities))


def _mp4s(content: dict[str, bytes]) -> list[Tensor]:
    videos = [content[f"{side}.mp4"] for side in SIDES]
    return [decode_frames(video, range(probe(video).frames)) for video in videos]


def _decoder(checkpoint: str | Path) -> Show:
    policy = WanPolicy(str(checkpoint))

    def show(content: dict[str, bytes]) -> list[Tensor]:
        latents = load(content[LATENTS])
        with torch.no_grad():
            return list(policy.decode_video(torch.stack([latents[side].float() for side in SIDES])))

    return show


def main(argv: Sequence[str] | None = None) -> None:
    """Write the measures of a pairs' file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.toy.dense.pair_measures", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("pairs", help="index of the pairs")
    parser.add_argument("output", type=Path, help="a JSON file")
    options = parser.parse_args(argv)
    measured_pairs(options.pairs).write(options.output)


if __name__ == "__main__":
    main()
