"""Small random shards of pairs, labels and encoded videos for the tests of a video diffusion model, made at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save

from datamodules.dense.latent_space import LatentSpace
from datamodules.dense.rows import LabelRow, LatentRow, PairRow
from datamodules.dense.segments import num_segments
from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from datamodules.video.facts import VideoFacts

#: Four channels, four frames to a latent, eight pixels; nothing to normalise.
SPACE = LatentSpace("tiny", (0.0,) * 4, (1.0,) * 4, temporal_ratio=4, spatial_ratio=8)
#: 13 frames are 4 latent frames; in segments of 4 frames the labels are 3, of 2, 1 and 1 latents.
VIDEO = VideoFacts(frames=13, fps=4.0, width=32, height=16)
FRAMES_PER_SEGMENT = 4
#: Labels of three segments: one in three is all ties, and some have both signs.
LABELS: tuple[tuple[int, ...], ...] = ((1, 1, 0), (0, 0, 0), (-1, 0, 1), (-1, -1, -1), (0, 1, 0), (1, -1, -1))
WIDTH = 6


class FlowShards(NamedTuple):
    """The index files of pairs and of their labels."""

    pairs: str
    labels: str


def random_tensors(key: str, purpose: str, *shape: int) -> torch.Tensor:
    """Of a sample's own; another purpose gives others."""
    seed = int.from_bytes(f"{purpose}/{key}".encode()[-7:], "little")
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair_row(key: str, space: LatentSpace = SPACE, video: VideoFacts = VIDEO, **fields: Any) -> PairRow:
    settings = {"kind": "structural", "eta": 0.75, "seeds": (1, 2), "latent_shape": space.shape(video)} | fields
    return PairRow(key, f"video-{key}", f"A disc moves, {key}.", video, latent_space=space, **settings)


def prompt_bytes(key: str, width: int) -> bytes:
    """Between two and four tokens: prompts of a batch differ in length."""
    tokens = 2 + sum(key.encode()) % 3
    return save({"embeds": random_tensors(key, "prompt", tokens, width)})


def pair_sample(
    row: PairRow, width: int = WIDTH, clean: bool = False, shape: Sequence[int] | None = None
) -> tuple[str, dict[str, bytes]]:
    """A pair as it stands in a shard; its mp4 files are placeholders."""
    names = ("first", "second", "clean") if clean else ("first", "second")
    latents = {name: random_tensors(row.key, name, *(shape or row.latent_shape)) for name in names}
    return row.key, {
        "first.mp4": b"-",
        "second.mp4": b"-",
        "latents.safetensors": save(latents),
        "prompt.safetensors": prompt_bytes(row.key, width),
        "json": json.dumps(row.to_json()).encode(),
    }


def write_pairs(
    folder: Path,
    count: int = 12,
    name: str = "pairs",
    space: LatentSpace = SPACE,
    video: VideoFacts = VIDEO,
    width: int = WIDTH,
    clean: bool = False,
    prefix: str = "p",
    **fields: Any,
) -> str:
    """`count` pairs with keys p00, p01 ..., in shards of four; the address of their index.

    A policy's tests give its own `space`, with a `video` that fits it, and the `width` of its prompt embeddings.
    """
    rows = (pair_row(f"{prefix}{number:02d}", space, video, **fields) for number in range(count))
    write_shards((pair_sample(row, width, clean) for row in rows), folder / name, "vidpref/pairs", samples_per_shard=4)
    return str(folder / f"{name}.index.json")


def write_labels(
    pairs: str,
    labels: Sequence[Sequence[int] | None] | Mapping[str, Sequence[int]] = LABELS,
    name: str = "labels",
    frames_per_segment: int = FRAMES_PER_SEGMENT,
    fingerprint: str | None = None,
    **fields: Any,
) -> str:
    """Labels beside the pairs: by key, or in turn from a sequence (None = no label); the address of their index."""
    index = Index.read(pairs)

    def given(number: int, key: str) -> Sequence[int] | None:
        return labels.get(key) if isinstance(labels, Mapping) else labels[number % len(labels)]

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for number, entry in enumerate(index.entries):
            if (labels_of_pair := given(number, entry.key)) is not None:
                row = LabelRow(entry.key, tuple(labels_of_pair), frames_per_segment, judge="tests", **fields)
                yield row.key, {"json": json.dumps(row.to_json()).encode()}

    made_from = {"fingerprint": fingerprint or index.fingerprint, "judge": "tests"}
    output = Path(pairs).parent / name
    write_shards(samples(), output, "vidpref/labels", made_from=made_from)
    return f"{output}.index.json"


def write_flow_shards(
    folder: Path, count: int = 12, labels: Sequence[Sequence[int] | None] | None = None, **settings: Any
) -> FlowShards:
    """Pairs and their labels: `LABELS` in turn, or random ones where a video has another number of segments."""
    pairs = write_pairs(folder, count, **settings)
    video, space = settings.get("video", VIDEO), settings.get("space", SPACE)
    segments = num_segments(video.frames, FRAMES_PER_SEGMENT, space.temporal_ratio)
    if labels is None and segments != len(LABELS[0]):
        drawn = torch.randint(-1, 2, (count, segments), generator=torch.Generator().manual_seed(0))
        labels = [row.tolist() for row in drawn]
    return FlowShards(pairs, write_labels(pairs, labels or LABELS))


def write_latents(
    folder: Path,
    count: int = 10,
    name: str = "latents",
    space: LatentSpace = SPACE,
    video: VideoFacts = VIDEO,
    width: int = WIDTH,
) -> str:
    """`count` encoded videos with keys v00, v01 ...; the address of their index."""

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for number in range(count):
            key = f"v{number:02d}"
            shape = space.shape(video)
            row = LatentRow(key, f"video-{key}", f"A disc, {key}.", video, latent_shape=shape, latent_space=space)
            yield (
                key,
                {
                    "latents.safetensors": save({"clean": random_tensors(key, "clean", *shape)}),
                    "prompt.safetensors": prompt_bytes(key, width),
                    "json": json.dumps(row.to_json()).encode(),
                },
            )

    write_shards(samples(), folder / name, "vidpref/latents", samples_per_shard=4)
    return str(folder / f"{name}.index.json")
