"""`vidpref ask`: a question about a video, as a person types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import vidpref
from callbacks.adapter_card import RunNumbers, card
from callbacks.cli.verbs import ask
from datamodules.toy_world.render import draw_scene, render
from datamodules.video.codec import decode_frames, encode_mp4, probe
from datamodules.video.frame_indices import uniform_indices
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.token_pooling import TokenPooling
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.vista_dpo import VistaDPO
from tests.support.paths import ROOT

CHECKPOINT = ROOT / "datamodules/toy_world/checkpoints/video_llava"
QUESTION = "Is there a red square in the video?"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    import random

    scene = draw_scene(random.Random(3))
    path = tmp_path / "video.mp4"
    path.write_bytes(encode_mp4(render(scene), scene.facts.fps))
    return path


def expected(video: Path, **settings: Any) -> str:
    """The same by the policy's own methods."""
    policy = VideoLlavaPolicy(str(CHECKPOINT), num_frames=4, **settings)
    policy.load()
    frames = decode_frames(str(video), uniform_indices(0, probe(str(video)).frames - 1, 4))
    with torch.inference_mode():
        return policy.generate([QUESTION], [frames], 32)[0]


def changed_adapter(folder: Path) -> Path:
    """An adapter with which the toy checkpoint says something else."""
    policy = VideoLlavaPolicy(str(CHECKPOINT), lora=LoraSettings(r=2, alpha=64), num_frames=4)
    policy.load()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    policy.export(folder)
    return folder


def test_the_answer_is_all_that_is_printed(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["ask", "--policy", str(CHECKPOINT), "--num_frames", "4", "--max_new_tokens", "32"]
    assert vidpref.main([*command, str(video), QUESTION]) == 0
    base = capsys.readouterr().out
    assert base == f"{expected(video)}\n"
    assert len(base) > 5
    adapter = changed_adapter(tmp_path / "adapter")
    assert vidpref.main([*command, "--adapter", str(adapter), str(video), QUESTION]) == 0
    tuned = capsys.readouterr().out
    assert tuned == f"{expected(video, adapter=str(adapter))}\n"
    assert tuned != base


def test_the_policy_of_a_yaml(video: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command = ["ask", "--policy", "configs/toy/vista.yaml", "--max_new_tokens", "32", str(video), QUESTION]
    assert vidpref.main(command) == 0
    assert capsys.readouterr().out == f"{expected(video)}\n"


def asked_policy(monkeypatch: pytest.MonkeyPatch, video: Path, *flags: str) -> Any:
    """The policy as `vidpref ask` makes it for its answer."""
    seen: list[Any] = []
    monkeypatch.setattr(ask, "answer", lambda policy, *_: seen.append(policy))
    assert vidpref.main(["ask", "--num_frames", "4", *flags, str(video), QUESTION]) == 0
    return seen[0]


@pytest.mark.slow
def test_frames_are_pooled_as_the_yaml_the_flag_or_the_exports_card_says(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 frames of 2 x 2 patches and a class token are 20 tokens, and with one average a frame 8."""
    policy: dict[str, Any] = {"class_path": "VideoLlavaPolicy", "init_args": {"path": str(CHECKPOINT)}}
    whole, pooled = tmp_path / "whole.yaml", tmp_path / "pooled.yaml"
    policy["init_args"]["token_pooling"] = None
    whole.write_text(json.dumps({"model": {"init_args": {"policy": policy}}}))
    policy["init_args"]["token_pooling"] = {"video": 2}
    pooled.write_text(json.dumps({"model": {"init_args": {"policy": policy}}}))
    adapter = changed_adapter(tmp_path / "adapter")
    module = VistaDPO(VideoLlavaPolicy(str(CHECKPOINT), token_pooling=TokenPooling(2, 1, 1)), lambda _: None)
    (adapter / "README.md").write_text(card(adapter, module, RunNumbers(steps=1)))

    def tokens(*flags: str) -> int:
        return int(asked_policy(monkeypatch, video, *flags).num_video_tokens())

    checkpoint = ("--policy", str(CHECKPOINT))
    assert tokens(*checkpoint) == tokens("--policy", str(whole)) == 20
    assert tokens("--policy", str(pooled)) == tokens(*checkpoint, "--token_pooling", "2") == 8
    assert tokens(*checkpoint, "--adapter", str(adapter)) == 8
    assert tokens("--policy", str(whole), "--adapter", str(adapter)) == 8
    assert tokens(*checkpoint, "--adapter", str(adapter), "--token_pooling", "1") == 20
    (adapter / "README.md").write_text("# Someone's\n---\n---")
    assert tokens(*checkpoint, "--adapter", str(adapter)) == 20


@pytest.mark.parametrize(
    ("policy", "video_name", "message"),
    [
        ("configs/toy/wan_sample.yaml", "video.mp4", "WanPolicy"),
        ("configs/strategy/ddp.yaml", "video.mp4", "has no model.init_args.policy"),
        ("elsewhere", "video.mp4", "no checkpoint at 'elsewhere'"),
        ("elsewhere.yaml", "video.mp4", "cannot be read"),
        (str(CHECKPOINT), "absent.mp4", "absent.mp4: no such video file"),
    ],
)
def test_what_cannot_answer(
    policy: str, video_name: str, message: str, video: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(ROOT)
    assert vidpref.main(["ask", "--policy", policy, str(video.parent / video_name), QUESTION]) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_a_question_with_the_policys_video_token_is_refused_before_weights_are_loaded(
    video: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(policy: VideoLlavaPolicy) -> None:
        raise AssertionError("the weights are read")

    monkeypatch.setattr(VideoLlavaPolicy, "load", load)
    assert (
        vidpref.main(["ask", "--policy", str(CHECKPOINT), "--num_frames", "4", str(video), "what <video> is it?"]) == 1
    )
    assert "holds the video token '<video>' 2 times" in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, vidpref\n"
        "vidpref.main(['check', '--help'])\n"
        "try:\n    vidpref.main(['ask', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "vidpref ask" in done.stdout
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "vidpref" in loaded
    assert not loaded & {"torch", "lightning", "transformers", "peft", "jsonargparse", "numpy"}
