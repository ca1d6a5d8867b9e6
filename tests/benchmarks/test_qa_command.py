"""Question benchmarks as a person runs them: `vidpref test` on the configurations, policy and judge given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import vidpref
from tests.support.qa_world import write_json, write_video
from tests.support.tiny_video_llava import NUM_FRAMES, save_tiny_video_llava


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a video, and a question about it in three formats."""
    folder = tmp_path_factory.mktemp("questions")
    save_tiny_video_llava(folder / "model")
    write_video(folder / "videos" / "v_lamp.mp4", 200)
    write_json(folder / "test_q.json", [{"video_name": "lamp", "question": "is it on", "question_id": "v_lamp_1"}])
    write_json(folder / "test_a.json", [{"answer": "yes", "type": 3, "question_id": "v_lamp_1"}])
    write_json(folder / "generic_qa.json", [{"Q": "What is it?", "A": "A lamp.", "video_name": "v_lamp"}])
    choices = {"video": "v_lamp.mp4", "question": "Is it on?", "candidates": ["yes", "no"], "answer": "yes"}
    write_json(folder / "state_change.json", [choices])
    return folder


def run(world: Path, output: Path, config: str, *more: str) -> dict[str, Any]:
    status = vidpref.main(
        ["test", "--config", f"configs/benchmarks/{config}.yaml",
         "--model.policy.path", str(world / "model"), "--model.policy.num_frames", str(NUM_FRAMES),
         "--model.policy.dtype", "float32", "--model.max_new_tokens", "2", "--model.output", str(output / "test"),
         "--data.videos", str(world / "videos"), "--data.num_frames", str(NUM_FRAMES), "--data.num_workers", "0",
         "--trainer.default_root_dir", str(output), "--trainer.accelerator", "cpu", "--trainer.devices", "1",
         "--trainer.enable_progress_bar", "false", *more]
    )  # fmt: skip
    assert status == 0
    results: dict[str, Any] = json.loads((output / "test" / "results.json").read_text())
    return results


def recorded(path: Path, replies: dict[str, str]) -> list[str]:
    """The options for a judge that gives these replies."""
    path.write_text("".join(json.dumps({"key": key, "reply": reply}) + "\n" for key, reply in replies.items()))
    return ["--model.judge", "lightning_modules.judges.recorded.RecordedJudge",
            "--model.judge.replies", str(path), "--model.judge.name", "gpt-3.5-turbo"]  # fmt: skip


def test_open_questions_with_a_judge(world: Path, tmp_path: Path) -> None:
    judge = recorded(tmp_path / "r.jsonl", {"activitynet_qa/v_lamp_1": "{'pred': 'yes', 'score': 4}"})
    results = run(world, tmp_path, "activitynet_qa", *judge, "--data.questions", str(world / "test_q.json"),
                  "--data.answers", str(world / "test_a.json"), "--data.num_questions", "1")  # fmt: skip
    assert (results["accuracy"], results["average_score"]) == (1, 4)
    assert results["about"]["judge"] == "gpt-3.5-turbo"
    reasons = results["about"]["paper"]["not_comparable"]
    assert not any("judge" in reason for reason in reasons)
    assert any("parameters" in reason for reason in reasons)


def test_video_chatgpts_bench(world: Path, tmp_path: Path) -> None:
    replies = {f"generic/000000/{name}": "{'score': 3}" for name in ("correctness", "detail", "context")}
    results = run(world, tmp_path, "videochatgpt", *recorded(tmp_path / "r.jsonl", replies),
                  "--data.questions", str(world), "--data.parts", "[generic]")  # fmt: skip
    assert results["all"]["average_score"] == 3
    assert [number["ours"] for number in results["about"]["paper"]["numbers"]] == [3, 3, 3, None, None]


def test_multiple_choice(world: Path, tmp_path: Path) -> None:
    results = run(world, tmp_path, "mvbench", "--data.questions", str(world), "--data.tasks", "[state_change]")
    assert results["all"]["tasks"] == 1
    assert results["state_change"]["questions"] == 1
