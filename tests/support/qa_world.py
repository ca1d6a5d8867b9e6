"""Small videos, a policy that answers by rule, and a judge that follows a script."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch import Tensor, device, nn

from benchmarks.base.benchmark import Benchmark
from datamodules.video.codec import encode_mp4
from lightning_modules.judges.base import Judge, JudgeQuestion
from tests.support.quiet_trainer import quiet_trainer


class Scripted(nn.Module):
    """Answers with what `rule` makes of the prompt and the video's mean brightness."""

    def __init__(self, rule: Callable[[str, float], str]) -> None:
        super().__init__()
        self._rule = rule
        self._asked: list[str] = []

    def load(self) -> None:
        """Nothing to load."""

    def generate(
        self,
        prompts: Sequence[str],
        frames: Sequence[Tensor],
        max_new_tokens: int,
        answer_start: str = "",
        times: Sequence[Tensor] | None = None,
    ) -> list[str]:
        self._asked += prompts
        return [self._rule(text, float(video.float().mean())) for text, video in zip(prompts, frames, strict=True)]


class ScriptedJudge(Judge):
    """Replies with what `rule` makes of a question."""

    def __init__(self, rule: Callable[[JudgeQuestion], str], name: str = "scripted") -> None:
        self._rule = rule
        self._name = name
        self.asked: list[JudgeQuestion] = []
        self.loaded = 0

    @property
    def name(self) -> str:
        return self._name

    def load(self, device: device) -> None:
        self.loaded += 1

    def ask(self, questions: Sequence[JudgeQuestion]) -> list[str]:
        self.asked += questions
        return [self._rule(question) for question in questions]


def write_video(path: Path, brightness: int, frames: int = 4, fps: float = 4.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_mp4(np.full((frames, 16, 16, 3), brightness, np.uint8), fps=fps))


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def run_test(module: Benchmark, data: LightningDataModule) -> dict[str, Any]:
    """Test, and read the results."""
    quiet_trainer().test(module, data, verbose=False)
    results: dict[str, Any] = json.loads((module.output / "results.json").read_text())
    return results


def details_of(folder: Path) -> Mapping[str, Any]:
    details: Mapping[str, Any] = json.loads((folder / "details.json").read_text())
    return details
