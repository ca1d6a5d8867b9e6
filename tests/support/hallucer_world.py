"""A small VideoHallucer: two subsets, two videos, and a policy that answers by rule."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.video_hallucer.module import VideoHallucer
from datamodules.questions.video_hallucer import VideoHallucerQuestions
from datamodules.video.codec import encode_mp4
from datamodules.vista.samples import AnswerScores, View
from tests.support.quiet_trainer import quiet_trainer


class Scripted(nn.Module):
    """A policy that says yes when the video is bright or the question asks whether something is there."""

    def __init__(self) -> None:
        super().__init__()
        self._loaded = 0  # with an underscore: no setting that answers depend on
        self._asked: list[str] = []

    def load(self) -> None:
        self._loaded += 1

    def generate(
        self,
        prompts: Sequence[str],
        frames: Sequence[Tensor],
        max_new_tokens: int,
        answer_start: str = "",
        times: Sequence[Tensor] | None = None,
    ) -> list[str]:
        assert len(prompts) == len(frames)
        self._asked += prompts
        return ["Yes." if "there" in prompt else "No, it is not." for prompt in prompts]

    def encode(self, views: Sequence[View]) -> Sequence[View]:
        return views

    def score(self, encoded: Sequence[View]) -> AnswerScores:
        logs = [
            float(view.frames.float().mean() / 10 - 25 * ("absent" in view.prompt)) * (answer == "Yes.")
            for view in encoded
            for answer in view.answers.values()
        ]
        assert [tuple(view.answers.values()) for view in encoded] == [("Yes.", "No.")] * len(encoded)
        return AnswerScores(torch.tensor(logs), torch.ones(len(logs), dtype=torch.long))


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Subset temporal: one bright and one dark pair; subset detail: a question that the script gets wrong."""

    def question(video: str, text: str, answer: str) -> dict[str, str]:
        return {"video": video, "question": text, "answer": answer}

    there = "Is it there?"
    temporal = [
        {
            "basic": question(name, there, "yes"),
            "hallucination": question(name, "Is it absent?", "no"),
            "type": "x",
        }
        for name in ("bright.mp4", "dark.mp4")
    ]
    detail = [{"basic": question("bright.mp4", there, "yes"),
               "hallucination": question("dark.mp4", there, "no")}]  # fmt: skip
    (tmp_path / "questions").mkdir()
    for name, pairs in (("temporal", temporal), ("semantic_detail", detail)):
        (tmp_path / "questions" / f"{name}.json").write_text(json.dumps(pairs))
    (tmp_path / "videos").mkdir()
    for name, value in (("bright", 200), ("dark", 20)):
        frames = np.full((4, 16, 16, 3), value, np.uint8)
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(encode_mp4(frames, fps=4.0))
    return tmp_path


def run_test(module: VideoHallucer, world: Path, **options: Any) -> list[Mapping[str, float]]:
    data = {"questions": str(world / "questions"), "videos": str(world / "videos"), "num_frames": 2, "batch_size": 4}
    return quiet_trainer().test(module, VideoHallucerQuestions(**(data | options)), verbose=False)


def results_of(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results
