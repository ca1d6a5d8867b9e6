"""The toy world as shards and as a benchmark folder, made on the spot from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from datamodules.prepare.progress import with_progress
from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from datamodules.shards.output_lock import locks_output
from datamodules.toy_world.annotation_errors import AnnotationErrors
from datamodules.toy_world.checkpoint import write_untrained
from datamodules.toy_world.questions import SUBSETS
from datamodules.toy_world.render import EVENT_FRAMES, Scene, draw_scene, render
from datamodules.toy_world.rows import CAPTIONS, Mixture, benchmark_pair, preference_row, pretraining_row
from datamodules.video.codec import encode_mp4
from datamodules.vista.samples import PreferenceRow

Split = Literal["captions", "pretrain", "train", "val", "test"]
#: How often a fact is as usual: nothing is while the model learns to see; natural data follow the usual, tests do not.
PRIORS: dict[Split, float] = {"captions": 0.5, "pretrain": 0.9, "train": 0.9, "val": 0.9, "test": 0.5}


@dataclass(frozen=True, slots=True)
class World:
    """World whose scenes are drawn; fields as `draw_scene` has them."""

    prior: float
    slow: float
    event_frames: int

    def __post_init__(self) -> None:
        self.draw(random.Random(0))  # which refuses what is out of range, before anything is written

    def draw(self, rng: random.Random, num_events: int = 2) -> Scene:
        """A scene."""
        return draw_scene(rng, num_events, self.prior, self.slow, self.event_frames)


@locks_output("output")
def prepare_toy(
    output: str,
    split: Split = "train",
    num_videos: int = 512,
    seed: int = 0,
    prior: float | None = None,
    mixture: Mixture | None = None,
    errors: AnnotationErrors | None = None,
    slow: float = 0.0,
    event_frames: int = EVENT_FRAMES,
    facts_first: bool = False,
    samples_per_shard: int = 64,
) -> None:
    """Make videos of coloured moving shapes with everything that is known of them; splits share no video.

    Args:
        output: folder and common name of the shards; for `test` the folder of questions, one JSON a subset in
            VideoHallucer's format, and of their videos.
        split: `train` and `val` give preferences, one a video; `test` gives pairs of a basic and a hallucinated
            question, one pair a video. `captions` and `pretrain` are what the toy checkpoint is made from:
            descriptions, with the untrained model in OUTPUT-untrained, and questions and answers, several a video.
        num_videos: how many videos; the four subsets share them evenly.
        seed: other seeds give other videos; equal seeds give equal bytes.
        prior: how often direction, place and order are as usual of the colours, 0.5 = no more often than not; null =
            0.9 for `pretrain`, `train` and `val`, 0.5 for `captions` and `test`.
        mixture: kinds of questions and answers, `pretrain` only.
        errors: errors of the annotations, `train` and `val` only; null = none.
        slow: share of videos in which things go a quarter of their way.
        event_frames: frames of each of a video's events.
        facts_first: sentences that answer yes or no end with it and begin with what they state; not of `test`.
        samples_per_shard: samples in one tar file.

    Raises:
        ValueError: no videos asked for, no such prior, or the output is there already.
    """
    if num_videos < 1:
        raise ValueError(f"num_videos is {num_videos}; give 1 or more")
    prior = PRIORS[split] if prior is None else prior
    world = World(prior, slow, event_frames)
    if split == "test":
        _write_benchmark(Path(output), num_videos, seed, world)
        return
    if split in ("train", "val"):
        samples = _preference_samples(split, num_videos, seed, world, errors or AnnotationErrors(), facts_first)
    else:
        mixture = CAPTIONS if split == "captions" else mixture or Mixture()
        samples = _pretraining_samples(split, num_videos, seed, world, mixture, facts_first)

    # Before the index, whose presence says that all of it is there.
    def write_model(_: Index) -> None:
        if split == "captions":
            write_untrained(Path(f"{output}-untrained"), seed)

    index = write_shards(samples, output, samples_per_shard=samples_per_shard, before_commit=write_model)
    print(f"{len(index)} samples in {len(index.shards)} shards: {output}.index.json")


def _preference_samples(
    split: Split, num_videos: int, seed: int, world: World, errors: AnnotationErrors, facts_first: bool
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """One preference row a video."""
    for index in with_progress(range(num_videos), f"toy world, {split}"):
        name, rng = _video(split, seed, index)
        scene = world.draw(rng)
        row = preference_row(scene, name, SUBSETS[index % len(SUBSETS)], rng, world.prior, facts_first)
        # Numbers of their own: with other errors, the videos and texts are the same.
        row = errors.applied(row, random.Random(f"errors/{name}"))
        yield _sample(row, _video_bytes(scene))


def _pretraining_samples(
    split: Split, num_videos: int, seed: int, world: World, mixture: Mixture, facts_first: bool
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Several rows a video, the video's bytes in each, or another's: that of the scene before."""
    former: dict[int, bytes] = {}  # by number of events, so that a text fits either video's length
    for index in with_progress(range(num_videos), f"toy world, {split}"):
        name, rng = _video(split, seed, index)
        num_events = 1 if rng.random() < mixture.single else 2
        scene = world.draw(rng, num_events)
        video = _video_bytes(scene)
        other = former.get(num_events) or _video_bytes(world.draw(rng, num_events))
        former[num_events] = video
        # Several questions about one video, as rendering and encoding it cost the most.
        for question in range(mixture.questions):
            row = pretraining_row(scene, name, mixture, rng, facts_first)
            shown = other if rng.random() < mixture.other_video else video
            yield _sample(replace(row, key=f"{name}-{question}"), shown)


def _sample(row: PreferenceRow, video: bytes) -> tuple[str, dict[str, bytes]]:
    return row.key, {"json": json.dumps(row.to_json()).encode(), "mp4": video}


def _write_benchmark(folder: Path, num_videos: int, seed: int, world: World) -> None:
    """One JSON a subset, and the videos beside them."""
    existing = [path.name for path in (folder / f"{subset}.json" for subset in SUBSETS) if path.exists()]
    if existing:
        raise ValueError(f"{folder}: {', '.join(existing)} are there already; delete the folder, or choose another")
    videos = folder / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    pairs: dict[str, list[object]] = {subset: [] for subset in SUBSETS}
    for index in with_progress(range(num_videos), "toy world, test"):
        name, rng = _video("test", seed, index)
        scene, subset = world.draw(rng), SUBSETS[index % len(SUBSETS)]
        pairs[subset].append(benchmark_pair(scene, f"{name}.mp4", subset, rng))
        (videos / f"{name}.mp4").write_bytes(_video_bytes(scene))
    written = {subset: of_subset for subset, of_subset in pairs.items() if of_subset}
    for name, of_subset in written.items():
        (folder / f"{name}.json").write_text(json.dumps(of_subset, indent=1) + "\n")
    print(f"{num_videos} pairs of questions in {len(written)} subsets: {folder}")


def _video(split: Split, seed: int, index: int) -> tuple[str, random.Random]:
    """A video's name and the random numbers that make it and what is asked about it."""
    # A seed for each video, so that more videos do not change the first ones.
    return f"toy-{split}-{seed}-{index:06d}", random.Random(f"{split}/{seed}/{index}")


def _video_bytes(scene: Scene) -> bytes:
    return encode_mp4(render(scene), scene.facts.fps)
