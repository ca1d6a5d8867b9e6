"""Measures of one toy policy on videos of the toy world, into a file.

python -m benchmarks.toy.vista.scores VIDEOS.index.json SCORES.json --adapter runs/toy/vista/exports/last
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.base.results import write_json
from benchmarks.toy.vista.conditions import CHECKPOINT, NUM_FRAMES, load_base
from benchmarks.toy.vista.measures import measure_all, stated_facts, verdicts
from benchmarks.toy.vista.videos import read_videos


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; prints the numbers."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.toy.vista.scores", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("videos", type=Path, help="the index of balanced preference rows, from `vidpref prepare toy`")
    parser.add_argument("scores", type=Path, help="the JSON file that is written")
    parser.add_argument("--adapter", type=Path, help="what a fit exported; by default the checkpoint as it is")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="by default the shipped one")
    parser.add_argument("--num-frames", type=int, default=NUM_FRAMES, help="frames per view")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--criterion", action="store_true", help="only the accuracy of stated facts")
    what.add_argument("--verdicts", action="store_true", help="also yes-or-no questions that sentences answer")
    options = parser.parse_args(argv)
    # Batches are small: more threads wait for each other longer than they compute.
    torch.set_num_threads(1)
    policy = load_base(options.checkpoint, options.num_frames, options.adapter)
    videos = read_videos(options.videos, options.num_frames)
    scores = stated_facts(policy, videos) if options.criterion else measure_all(policy, videos)
    if options.verdicts:
        scores |= verdicts(policy, videos)
    write_json(options.scores, scores)
    for name, value in scores.items():
        print(f"{name} {value:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
