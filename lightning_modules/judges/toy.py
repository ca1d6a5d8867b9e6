"""The toy world's judge: it measures the videos that it is shown, and prefers the better made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from datamodules.dense.rows import PairRow
from datamodules.dense.segments import Verdict
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.toy_world.motion_measures import measure
from datamodules.toy_world.motion_world import ShapeMotion, parse_motion
from lightning_modules.judges.base import Judge, JudgeQuestion


class ToyJudge(Judge):
    """Judge that prefers the video whose frames are nearer to clean pictures of what the pair's prompt names.

    How far the shape moves, and how smoothly, does not count, as with the people and models that label artifacts in
    generated videos.

    Args:
        pairs: the index of the pairs that are judged; their rows have the prompts, and their mp4s are lossless.
        margin: a lead in quality, of 1, up to which it is a tie.
    """

    def __init__(self, pairs: str, margin: float = 0.005) -> None:
        if margin < 0:
            raise ValueError(f"margin is {margin}; give 0 or more")
        self.pairs = pairs
        self.margin = margin

    @property
    def name(self) -> str:
        """Who judges."""
        return f"toy:{self.margin:g}"

    def ask(self, questions: Sequence[JudgeQuestion]) -> list[str]:
        """A line of JSON with the verdict for each question.

        Raises:
            ValueError: a question that shows no two toy videos, or is about none of the pairs.
        """
        replies = []
        qualities: dict[tuple[str, bytes], float] = {}  # the same frames come in both orders of showing
        for question in questions:
            motion, videos = self._motion(question.key), _shown(question)
            names = [(question.key, frames.numpy().tobytes()) for frames in videos]
            for name, frames in zip(names, videos, strict=True):
                if name not in qualities:
                    qualities[name] = measure(frames, motion).quality
            lead = qualities[names[0]] - qualities[names[1]]
            verdict: Verdict = "tie" if abs(lead) <= self.margin else "first" if lead > 0 else "second"
            replies.append(json.dumps({"reason": f"the first leads by {lead:.3f} in quality", "verdict": verdict}))
        return replies

    @cached_property
    def _samples(self) -> SampleReader:
        return SampleReader(Index.read(self.pairs, "vidpref/pairs"))

    def _motion(self, key: str) -> ShapeMotion:
        """What a pair's prompt says."""
        position = self._samples.index.positions.get(key)
        if position is None:
            raise ValueError(f"{self.pairs} has no pair {key!r}; give the toy judge the index of the pairs it judges")
        return parse_motion(PairRow.from_json(json.loads(self._samples.read(position, ["json"])["json"])).prompt)


def _shown(question: JudgeQuestion) -> tuple[Tensor, Tensor]:
    """The frames (T, 3, H, W) of the video shown first and of the one shown second."""
    frames = [image for image in question.images if isinstance(image, Tensor)]
    if not frames or len(frames) != len(question.images) or len(frames) % 2:
        raise ValueError(
            f"question {question.key!r} shows {len(question.images)} pictures, {len(frames)} of them as tensors; the "
            "toy judge compares two videos of as many frames"
        )
    half = len(frames) // 2
    return torch.stack(frames[:half]), torch.stack(frames[half:])
