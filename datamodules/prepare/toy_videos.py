"""The toy world for generation as shards: rendered videos of moving shapes, each with the prompt that describes it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Literal

from datamodules.dense.rows import VideoRow
from datamodules.prepare.progress import with_progress
from datamodules.schemas import write_shards
from datamodules.shards.files import write_whole
from datamodules.shards.index import Index
from datamodules.shards.output_lock import locks_output
from datamodules.toy_world.motion_world import FPS, MotionScene, draw_motion_scene, render_motion
from datamodules.video.codec import encode_mp4

MotionSplit = Literal["pretrain", "train", "val", "test"]
_KEY = re.compile(r"toy-motion-(\w+)-(\d+)-(\d+)")


def scene_of(key: str, seconds: int = 4) -> MotionScene:
    """The ground truth of a video that `prepare_toy_videos` made.

    Args:
        key: the sample's.
        seconds: length of the video.

    Raises:
        ValueError: the key is none of its.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise ValueError(f"{key!r} is no key of `vidpref prepare toy-videos`; these read toy-motion-train-0-000012")
    split, seed, index = match.groups()
    # A seed for each video, so that more videos do not change the first ones.
    return draw_motion_scene(random.Random(f"{split}/{seed}/{int(index)}"), num_frames=round(seconds * FPS) + 1)


@locks_output("output")
def prepare_toy_videos(
    output: str,
    split: MotionSplit = "train",
    num_videos: int = 160,
    seconds: int = 4,
    seed: int = 0,
    samples_per_shard: int = 500,
) -> None:
    """Make videos of one coloured shape that moves, at speeds that prompts do not name; splits share no video.

    Beside the shards, OUTPUT.txt has the prompts, one a line and each once, for sampling.

    Args:
        output: folder and common name of the shards.
        split: `pretrain` is what the toy video model is made from, `train` and `val` what pairs are made of; of
            `test`, the prompts are what evaluations use.
        num_videos: how many.
        seconds: length of a video; equal seeds give the same first seconds.
        seed: other seeds give other videos; equal seeds give equal bytes.
        samples_per_shard: samples in one tar file.

    Raises:
        ValueError: no videos asked for, videos without length, or the output is there already.
    """
    if num_videos < 1 or seconds < 1:
        raise ValueError(f"num_videos is {num_videos} and seconds {seconds}; give 1 or more")
    prompts: dict[str, None] = {}  # a set that keeps its order; filled while the shards are written

    def write_prompts(_: Index) -> None:
        write_whole(f"{output}.txt", "".join(f"{prompt}\n" for prompt in prompts).encode())

    index = write_shards(
        _samples(split, num_videos, seconds, seed, prompts),
        output,
        "vidpref/videos",
        samples_per_shard=samples_per_shard,
        before_commit=write_prompts,
    )
    print(f"{len(index)} videos in {len(index.shards)} shards: {output}.index.json")
    print(f"{len(prompts)} prompts: {output}.txt")


def _samples(
    split: MotionSplit, num_videos: int, seconds: int, seed: int, prompts: dict[str, None]
) -> Iterator[tuple[str, dict[str, bytes]]]:
    for index in with_progress(range(num_videos), f"toy videos, {split}"):
        name = f"toy-motion-{split}-{seed}-{index:06d}"
        scene = scene_of(name, seconds)
        prompt = str(scene.motion)
        prompts[prompt] = None
        row = VideoRow(name, name, prompt, scene.facts, source="toy/motion")
        # Chroma subsampling would smear colours over a third of so small a shape.
        video = encode_mp4(render_motion(scene), scene.facts.fps, lossless=True)
        yield name, {"json": json.dumps(row.to_json()).encode(), "mp4": video}
