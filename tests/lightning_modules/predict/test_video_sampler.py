"""Prompts -> files, through the data module and the writer; base model against adapter on equal noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from callbacks.writers.video_folder import VideoFolderWriter
from datamodules.dense.prompts import Prompts
from datamodules.video.codec import decode_frames, encode_mp4, probe
from lightning_modules.policies.euler import guided_sigmas
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.wan import WanPolicy
from lightning_modules.predict.flow_sampler import seeded_noise, video_seed
from lightning_modules.predict.video_sampler import VideoSampler
from tests.support.predict_fakes import predict
from tests.support.tiny_wan import write_tiny_wan

SMALL: dict[str, Any] = {
    "num_frames": 5,
    "height": 16,
    "width": 32,
    "fps": 8.0,
    "num_steps": 3,
    "flow_shift": 3.0,
    "guidance_scale": 2.0,
}
PROMPTS = ["a red square moves left", "a tale of " + "many words and " * 20, "up/down"]


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def sample(wan: Path) -> Callable[..., dict[str, bytes]]:
    """Prompts -> name -> video."""

    def sampled(folder: Path, prompts: list[str], adapter: str | None = None, **settings: Any) -> dict[str, bytes]:
        file = folder / "prompts.txt"
        file.write_text("\n".join(prompts))
        policy = WanPolicy(str(wan), adapter=adapter, prompt_length=32)
        data = Prompts(str(file), num_samples=settings.pop("num_samples", 1), batch_size=settings.pop("batch_size", 1))
        predict(VideoFolderWriter(str(folder / "videos")), VideoSampler(policy, **SMALL, **settings), data)
        return {path.name: path.read_bytes() for path in (folder / "videos").glob("*.mp4")}

    return sampled


@pytest.fixture(scope="module")
def base(sample: Callable[..., dict[str, bytes]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    sample(folder, PROMPTS, num_samples=2, batch_size=4)
    return folder


def videos(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "videos").glob("*.mp4")}


def test_videos_have_their_prompts_names_and_the_size_asked_for(base: Path) -> None:
    made = videos(base)
    manifest = json.loads((base / "videos/manifest.json").read_text())
    assert len(made) == 6
    assert set(made) == set(manifest["videos"])
    assert {video["prompt"] for video in manifest["videos"].values()} == {prompt.strip() for prompt in PROMPTS}
    assert {f"{PROMPTS[0]}-0.mp4", f"{PROMPTS[0]}-1.mp4"} <= set(made)
    facts = probe(made[f"{PROMPTS[0]}-0.mp4"])
    assert (facts.frames, facts.fps, facts.width, facts.height) == (5, 8.0, 32, 16)
    assert manifest["made_from"]["policy"]["class"] == "WanPolicy"
    assert len(set(made.values())) == 6


def test_a_video_is_the_policys_own_from_seeded_noise(base: Path, wan: Path) -> None:
    policy = WanPolicy(str(wan), prompt_length=32)
    policy.load()
    noise = seeded_noise(video_seed(0, PROMPTS[0], "sample/1"), (1, 4, 2, 2, 4))
    latents = policy.denoise(noise, guided_sigmas(3, 1.0, 3.0), policy.encode_prompt([PROMPTS[0]]), (), 2.0)
    assert videos(base)[f"{PROMPTS[0]}-1.mp4"] == encode_mp4(policy.decode_video(latents)[0], 8.0)


def test_lossless_videos_show_exactly_what_was_decoded(
    wan: Path, base: Path, sample: Callable[..., dict[str, bytes]], tmp_path: Path
) -> None:
    policy = WanPolicy(str(wan), prompt_length=32)
    policy.load()
    noise = seeded_noise(video_seed(0, PROMPTS[0], "sample/0"), (1, 4, 2, 2, 4))
    latents = policy.denoise(noise, guided_sigmas(3, 1.0, 3.0), policy.encode_prompt([PROMPTS[0]]), (), 2.0)
    made = sample(tmp_path, [PROMPTS[0]], lossless=True)[f"{PROMPTS[0]}-0.mp4"]
    assert torch.equal(decode_frames(made, range(5)), policy.decode_video(latents)[0])
    settings = [json.loads((folder / "videos/manifest.json").read_text())["made_from"] for folder in (tmp_path, base)]
    assert settings[0]["lossless"] is True
    assert "lossless" not in settings[1], "a run that an earlier release began goes on"


def test_a_video_does_not_depend_on_the_other_prompts(
    base: Path, sample: Callable[..., dict[str, bytes]], tmp_path: Path
) -> None:
    alone = sample(tmp_path, ["a prompt before it", PROMPTS[0]])
    assert alone[f"{PROMPTS[0]}-0.mp4"] == videos(base)[f"{PROMPTS[0]}-0.mp4"]


class DistilledPolicy(WanPolicy):
    """Takes the guidance scale as an input; notes what it is asked."""

    embeds_guidance = True

    def velocity(self, noisy: Any, t: Any, prompts: Any, conditions: Any = ()) -> torch.Tensor:
        self._asked.append((len(noisy), [condition.guidance for condition in conditions]))
        return super().velocity(noisy, t, prompts, conditions)


def test_a_model_that_takes_guidance_as_an_input_gets_it_and_no_second_row(wan: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text(PROMPTS[0])
    policy = DistilledPolicy(str(wan), prompt_length=32)
    policy._asked = []
    sampler = VideoSampler(policy, **{**SMALL, "guidance_scale": 6.0}, negative_prompt="many words " * 40)
    predict(VideoFolderWriter(str(tmp_path / "videos")), sampler, Prompts(str(tmp_path / "prompts.txt")))
    assert policy._asked == [(1, [6.0])] * 3
    assert sampler._negative is None


def test_an_adapter_starts_from_the_same_noise_and_ends_elsewhere(
    base: Path, wan: Path, sample: Callable[..., dict[str, bytes]], tmp_path: Path
) -> None:
    policy = WanPolicy(str(wan), lora=FlowLora(r=2, alpha=4), prompt_length=32)
    policy.load()
    name = f"{PROMPTS[0]}-0.mp4"
    for number, scale in enumerate((0.0, 1.0)):
        with torch.no_grad():
            for parameter_name, parameter in policy.named_parameters():
                if "lora_B" in parameter_name:
                    parameter.copy_(scale * torch.randn_like(parameter))
        policy.export(tmp_path / f"adapter{number}")
        (tmp_path / str(number)).mkdir()
        made = sample(tmp_path / str(number), PROMPTS[:1], adapter=str(tmp_path / f"adapter{number}"))
        assert (made[name] == videos(base)[name]) == (scale == 0.0)


def test_an_adapter_that_was_trained_on_is_another_one(
    wan: Path, sample: Callable[..., dict[str, bytes]], tmp_path: Path
) -> None:
    policy = WanPolicy(str(wan), lora=FlowLora(r=2, alpha=4), prompt_length=32)
    policy.load()
    policy.export(tmp_path / "last")
    sample(tmp_path, PROMPTS[:1], adapter=str(tmp_path / "last"))
    with torch.no_grad():
        next(parameter for parameter in policy.parameters() if parameter.requires_grad).add_(1.0)
    policy.export(tmp_path / "last")
    with pytest.raises(ValueError, match=r"the files that policy\.adapter names have been replaced.*another `folder`"):
        sample(tmp_path, PROMPTS[:1], adapter=str(tmp_path / "last"))


@pytest.mark.parametrize("settings", [{"num_frames": 6}, {"height": 20}, {"width": 33}, {"num_frames": 0}])
def test_a_size_that_the_autoencoder_cannot_make_is_refused(wan: Path, settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="AutoencoderKLWan"):
        VideoSampler(WanPolicy(str(wan)), **{**SMALL, **settings})
