"""The benchmark as a person runs it: `vidpref test` on a configuration, with a policy, with and without an adapter."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import vidpref
from datamodules.prepare.toy import prepare_toy
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from tests.support.tiny_video_llava import NUM_FRAMES, save_tiny_video_llava


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, an adapter of it that says something else, and eight question pairs."""
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_video_llava(folder / "model")
    policy = VideoLlavaPolicy(str(folder / "model"), lora=LoraSettings(r=2), num_frames=NUM_FRAMES)
    policy.load()
    for name, parameter in policy.named_parameters():
        if "lora_B" in name and parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.5)
    policy.export(folder / "adapter")
    prepare_toy(str(folder / "questions"), split="test", num_videos=8)
    return folder


def run_test(tiny: Path, output: Path, *more: str) -> tuple[dict[str, Any], list[float]]:
    """Details, and the margins of all questions."""
    status = vidpref.main(
        ["test", "--config", "configs/benchmarks/toy_hallucer.yaml", "--seed_everything", "5",
         "--model.policy.path", str(tiny / "model"), "--model.policy.num_frames", str(NUM_FRAMES),
         "--data.questions", str(tiny / "questions"), "--data.videos", str(tiny / "questions" / "videos"),
         "--data.num_frames", str(NUM_FRAMES), "--data.batch_size", "6",
         "--model.output", str(output / "test"), "--trainer.default_root_dir", str(output),
         "--trainer.enable_progress_bar", "false", *more]
    )  # fmt: skip
    assert status == 0
    details = json.loads((output / "test" / "details.json").read_text())
    subsets = [
        json.loads((output / "test" / f"{name}_base.json").read_text()) for name in sorted(details["annotations"])
    ]
    halves = [pair[half] for pairs in subsets for pair in pairs for half in ("basic", "hallucination")]
    assert all(isinstance(half["predict"], str) for half in halves)
    return details, [half["margin"] for half in halves]


@pytest.mark.slow
def test_a_policy_is_tested_with_and_without_an_adapter(tiny: Path, tmp_path: Path) -> None:
    details, plain = run_test(tiny, tmp_path / "plain")
    assert details["seed"] == 5
    assert details["config"]["data"]["init_args"]["num_frames"] == NUM_FRAMES
    assert set(details["annotations"]) == {"object", "relation", "temporal", "detail"}
    assert len(plain) == 16

    # The batch's size and the padding that comes with it move no margin.
    _, singly = run_test(tiny, tmp_path / "singly", "--data.batch_size", "1")
    assert singly == pytest.approx(plain, abs=1e-4)

    _, adapted = run_test(tiny, tmp_path / "adapted", "--model.policy.adapter", str(tiny / "adapter"))
    assert max(abs(score - other) for score, other in zip(plain, adapted, strict=True)) > 0.1
