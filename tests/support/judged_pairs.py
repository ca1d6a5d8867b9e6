"""Pairs of real mp4 files whose truth is known, and judges that know it, doubt, or talk nonsense."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.dense.latent_space import LatentSpace
from datamodules.dense.rows import LabelRow, PairRow
from datamodules.dense.segments import segment_frames
from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.video.codec import encode_mp4
from lightning_modules.judges.base import Judge, JudgeQuestion
from tests.support.flow_shards import FRAMES_PER_SEGMENT, LABELS, SPACE, VIDEO, WIDTH, pair_row, pair_sample

#: Brightness of a segment of the first video whose label is +1, 0, -1, and of the second one.
BRIGHTNESS = {1: (200, 100), 0: (150, 150), -1: (100, 200)}


def videos(row: PairRow, labels: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Two videos of which the brighter one is better, segment by segment; frame t begins with its number."""
    first = torch.zeros(row.video.frames, 3, row.video.height, row.video.width, dtype=torch.uint8)
    second = first.clone()
    spans = segment_frames(row.video.frames, FRAMES_PER_SEGMENT, row.latent_space.temporal_ratio)
    for span, label in zip(spans, labels, strict=True):
        first[span.start : span.stop], second[span.start : span.stop] = BRIGHTNESS[label]
    number = int("".join(filter(str.isdigit, row.key)) or 0)
    for side, video in enumerate((first, second)):
        video[:, :, 0] = 2 * number + side  # no two videos are equal
        video[:, :, 0, 0] = torch.arange(len(video), dtype=torch.uint8).view(-1, 1)
    return first, second


def write_judged_pairs(
    folder: Path,
    count: int = 5,
    labels: Sequence[Sequence[int]] = LABELS,
    space: LatentSpace = SPACE,
    width: int = WIDTH,
) -> str:
    """Pairs p00, p01 ... with `labels` in turn; the address of their index. For a fit, the policy's space and width."""

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for number in range(count):
            row = pair_row(f"p{number:02d}", space, seeds=(number, number + 100))
            key, members = pair_sample(row, width)
            first, second = videos(row, labels[number % len(labels)])
            shown = {"first.mp4": encode_mp4(first, VIDEO.fps, lossless=True)}
            shown["second.mp4"] = encode_mp4(second, VIDEO.fps, lossless=True)
            yield key, {**members, **shown}

    write_shards(samples(), folder / "pairs", "vidpref/pairs", samples_per_shard=2)
    return str(folder / "pairs.index.json")


def read_labels(path: str | Path) -> dict[str, LabelRow]:
    index = Index.read(path, "vidpref/labels")
    contents = (SampleReader(index).read(position)["json"] for position in range(len(index)))
    return {row.key: row for row in (LabelRow.from_json(json.loads(content)) for content in contents)}


class BrightnessJudge(Judge):
    """Prefers the brighter video; remembers every question. `spoil` may replace a reply."""

    name = "brightness"

    def __init__(self, spoil: Callable[[JudgeQuestion, int], str | None] = lambda question, number: None) -> None:
        self.asked: list[JudgeQuestion] = []
        self.spoil = spoil

    def ask(self, questions: Sequence[JudgeQuestion]) -> list[str]:
        return [self.reply(question) for question in questions]

    def reply(self, question: JudgeQuestion) -> str:
        self.asked.append(question)
        spoiled = self.spoil(question, len(self.asked))
        return truth(question) if spoiled is None else spoiled


class KeenJudge(BrightnessJudge):
    """Prefers the brighter video, however little it is brighter."""

    name = "keen"

    def reply(self, question: JudgeQuestion) -> str:
        return truth(question, least=0.0)


def truth(question: JudgeQuestion, least: float = 20.0) -> str:
    """What a judge says who sees which video is the brighter one, by at least so much."""
    images: Any = question.images
    middle = len(images) // 2
    first, second = (torch.stack(list(part))[:, :, 1:].float().mean() for part in (images[:middle], images[middle:]))
    verdict = "tie" if abs(first - second) < least else "first" if first > second else "second"
    return json.dumps({"reason": "brighter", "verdict": verdict})
