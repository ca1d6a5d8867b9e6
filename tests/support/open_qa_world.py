"""A policy, a judge and questions for the open-ended test sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.questions.open_qa import OpenQuestions
from lightning_modules.judges.base import JudgeQuestion


def says(prompt: str, brightness: float) -> str:
    return ("the sun" if brightness > 100 else "moon") if "shining" in prompt else "Two."


def verdict(question: JudgeQuestion) -> str:
    """Right where the answers share a word; nothing readable about numbers."""
    if "Two." in question.text:
        return "I cannot say."
    return "{'pred': 'yes', 'score': 4.8}" if "the sun" in question.text else "Well: {'pred': 'no', 'score': 1}"


def data(world: Path, **options: Any) -> OpenQuestions:
    known = {"answers": str(world / "test_a.json"), "videos": str(world / "videos"), "num_frames": 2, "batch_size": 3}
    return OpenQuestions("activitynet_qa", str(world / "test_q.json"), **(known | options))
