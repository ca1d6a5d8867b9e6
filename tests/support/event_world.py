"""A policy and a judge for EventHallusion, and one run of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, device, nn

from benchmarks.event_hallusion.module import EventHallusion
from datamodules.questions.event_hallusion import EventQuestions
from lightning_modules.judges.base import Judge, JudgeQuestion
from tests.support.quiet_trainer import quiet_trainer


class Scripted(nn.Module):
    """Says no to what it is asked, and of a video how bright it is."""

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
        return [
            f"A picture of {float(video.float().mean()):.0f}." if "describe" in prompt else "No."
            for prompt, video in zip(prompts, frames, strict=True)
        ]


class Bright(Judge):
    """Accepts descriptions of bright videos."""

    def __init__(self) -> None:
        self.asked: list[JudgeQuestion] = []
        self.loaded = 0

    @property
    def name(self) -> str:
        return "bright"

    def load(self, device: device) -> None:
        self.loaded += 1

    def ask(self, questions: Sequence[JudgeQuestion]) -> list[str]:
        self.asked += questions
        return ["**Yes**" if "picture of 2" in question.text else "No." for question in questions]


def record(video: str, answers: list[str]) -> dict[str, Any]:
    return {
        "id": video,
        "event_info": {"caption": f"It is {video}.", "unexpected": f"{video} turns dark."},
        "questions": [{"type": "hallucination", "question": f"Is it {n}?", "answer": a} for n, a in enumerate(answers)],
    }


def run(module: EventHallusion, world: Path, **options: Any) -> dict[str, Any]:
    data = {"questions": str(world / "questions"), "videos": str(world / "videos"), "num_frames": 2, "batch_size": 3}
    quiet_trainer().test(module, EventQuestions(**(data | options)), verbose=False)
    results: dict[str, Any] = json.loads((module.output / "results.json").read_text())
    return results


BOTH = ["binary", "description"]
