"""Wan's policy against diffusers' own pipeline."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch
from safetensors.torch import load_file, save_file

from lightning_modules.policies.euler import guided_sigmas
from lightning_modules.policies.wan import WanPolicy
from lightning_modules.predict.guided_sampler import guided_latents
from tests.support.tiny_video_llava import save_tiny_video_llava
from tests.support.tiny_wan import LATENTS_MEAN, LATENTS_STD, TEXT_WIDTH, random_video, write_tiny_wan
from tests.support.wan_cases import (
    LORA,
    PROMPT_LENGTH,
    PROMPTS,
    build_policy,
    noisy_batch,
    read_pipeline,
    velocity_of,
    with_schedule,
    write_two_experts,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def policy(path: Path) -> WanPolicy:
    return build_policy(path)


@pytest.fixture
def pipeline(path: Path) -> Any:
    return read_pipeline(path)


def pixels(video: torch.Tensor) -> torch.Tensor:
    return video.transpose(0, 1)[None].float() / 127.5 - 1


@pytest.mark.parametrize(("guidance_scale", "shift"), [(1.0, 1.0), (5.0, 5.66)])
def test_denoising_equals_the_pipelines(policy: WanPolicy, pipeline: Any, guidance_scale: float, shift: float) -> None:
    noise = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    settings = {
        "height": 32, "width": 32, "num_frames": 9, "num_inference_steps": 6, "guidance_scale": guidance_scale,
        "latents": noise, "max_sequence_length": PROMPT_LENGTH,
    }  # fmt: skip
    with_schedule(pipeline, [1 - step / 6 for step in range(6)], shift)
    latents = pipeline(PROMPTS, **settings, output_type="latent").frames
    video = pipeline(PROMPTS, **settings, output_type="pt").frames

    ours = policy.denoise(noise, guided_sigmas(6, 1.0, shift), policy.encode_prompt(PROMPTS), (), guidance_scale)
    torch.testing.assert_close(ours, latents, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(policy._codec.decode(ours), video, rtol=0, atol=1e-4)
    for mine, theirs in zip(policy.decode_video(ours), video, strict=True):
        assert mine.shape == (9, 3, 32, 32)
        assert (mine.float() - theirs * 255).abs().max() <= 0.51, "rounded, not cut"


def test_a_guided_start_and_a_negative_prompt_equal_the_pipelines(policy: WanPolicy, pipeline: Any) -> None:
    clean = policy.encode_video([random_video()])
    start = guided_latents(clean, torch.randn(clean.shape, generator=torch.Generator().manual_seed(2)), 0.75)
    sigmas = guided_sigmas(8, 0.75, 3.0)
    expected = with_schedule(pipeline, sigmas[:-1].tolist())(
        PROMPTS[:1], negative_prompt="blurry", height=32, width=32, num_frames=9, num_inference_steps=len(sigmas) - 1,
        guidance_scale=4.0, latents=start, output_type="latent", max_sequence_length=PROMPT_LENGTH,
    ).frames  # fmt: skip
    prompt, negative = policy.encode_prompt([PROMPTS[0], "blurry"])
    torch.testing.assert_close(
        policy.denoise(start, sigmas, [prompt], (), 4.0, negative), expected, rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(policy.denoise(start, sigmas, [prompt], (), 4.0), expected, atol=1e-2)


def test_time_reaches_the_transformer_in_float32(path: Path, policy: WanPolicy) -> None:
    half = build_policy(path, dtype="bfloat16")
    batch = noisy_batch(1) | {"t": torch.tensor([0.7312])}
    seen = []
    hook = half.base.register_forward_pre_hook(lambda module, args, given: seen.append(given), with_kwargs=True)
    with torch.no_grad():
        velocity = half(**batch)
        expected = policy(**batch)
        moved = policy(**(batch | {"t": torch.tensor([0.732])}))
    hook.remove()
    assert seen[0]["timestep"].dtype == torch.float32
    assert seen[0]["timestep"].item() == pytest.approx(731.2)
    assert seen[0]["hidden_states"].dtype == torch.bfloat16
    assert velocity.dtype == torch.float32
    assert (velocity - expected).norm() < 0.05 * expected.norm()
    assert not torch.equal(moved, expected), "the time matters"
    with pytest.raises(ValueError, match=r"t is torch.bfloat16, in which 731.2 of 1000 is 732"):
        half(**(batch | {"t": batch["t"].bfloat16()}))


def test_half_precision_keeps_what_wan_keeps_and_meta_agrees(path: Path) -> None:
    kept = build_policy(path, dtype="bfloat16", lora=LORA, reference_adapter=True)
    on_meta = WanPolicy(str(path), dtype="bfloat16", lora=LORA, reference_adapter=True, prompt_length=PROMPT_LENGTH)
    on_meta.load(meta=True)
    facts = [
        {
            name: (tensor.dtype, tensor.shape, tensor.requires_grad)
            for name, tensor in (*p.named_parameters(), *p.named_buffers())
        }
        for p in (kept, on_meta)
    ]
    assert facts[0] == facts[1]
    assert {parameter.device.type for parameter in on_meta.parameters()} == {"meta"}
    for name, parameter in kept.named_parameters():
        wide = "lora_" in name or any(part in name for part in ("time_embedder", "norm2", "scale_shift_table"))
        assert parameter.dtype == (torch.float32 if wide else torch.bfloat16), name


def test_videos_are_encoded_as_the_autoencoder_does_it(policy: WanPolicy, pipeline: Any) -> None:
    videos = [random_video(seed=1), random_video(seed=2)]
    with torch.no_grad():
        modes = [pipeline.vae.encode(pixels(video)).latent_dist.mode() for video in videos]
        decoded = [((pipeline.vae.decode(mode).sample + 1) / 2).transpose(1, 2) for mode in modes]
    shape = (1, 4, 1, 1, 1)
    expected = (torch.cat(modes) - torch.tensor(LATENTS_MEAN).view(shape)) / torch.tensor(LATENTS_STD).view(shape)
    latents = policy.encode_video(videos)
    torch.testing.assert_close(latents, expected)
    torch.testing.assert_close(policy._codec.decode(latents), torch.cat(decoded), rtol=0, atol=1e-5)
    space = policy.latent_space
    assert (space.mean, space.std, space.temporal_ratio, space.spatial_ratio) == (LATENTS_MEAN, LATENTS_STD, 4, 8)
    assert latents.shape[1:] == (4, 3, 4, 4)


def test_an_early_checkpoint_means_the_defaults(path: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(path, tmp_path / "early")
    config = json.loads((folder / "vae" / "config.json").read_text())
    for name in ("latents_mean", "latents_std", "scale_factor_temporal", "scale_factor_spatial"):
        del config[name]
    (folder / "vae" / "config.json").write_text(json.dumps(config))
    space = WanPolicy(str(folder)).latent_space
    assert (len(space.mean), space.mean[0], space.std[-1]) == (16, -0.7571, 1.916)
    assert (space.temporal_ratio, space.spatial_ratio) == (4, 8)


def test_autoencoders_of_one_shape_are_told_apart_by_their_weights(path: Path, tmp_path: Path) -> None:
    def space(folder: Path) -> Any:
        return WanPolicy(str(folder)).latent_space

    (fault,) = space(path).faults_against(space(write_tiny_wan(tmp_path / "other", seed=5)))
    assert fault.startswith("weights ")
    half = shutil.copytree(path, tmp_path / "half")
    file = half / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file)
    assert space(half) == space(path), "the same weights in a file of another type"
    file.unlink()
    assert space(half).weights == ""
    assert space(half).faults_against(space(path)) == []


@pytest.mark.parametrize(
    ("videos", "why"),
    [
        ([random_video(8)], r"\(8, 3, 32, 32\).*multiple of 4 plus 1"),
        ([random_video(5).float()], "uint8"),
        ([random_video(5), random_video(9)], "must have one shape"),
        ([random_video(5, 40, 32)], "height must be a multiple of 16"),
    ],
)
def test_what_the_autoencoder_would_spoil_is_refused(policy: WanPolicy, videos: list[Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        policy.encode_video(videos)


def test_unpadded_prompts_give_the_pipelines_velocity(policy: WanPolicy, pipeline: Any) -> None:
    padded, _ = pipeline.encode_prompt(PROMPTS, do_classifier_free_guidance=False, max_sequence_length=PROMPT_LENGTH)
    prompts = policy.encode_prompt(PROMPTS)
    assert [tuple(prompt["embeds"].shape) for prompt in prompts] == [(len(text) + 1, TEXT_WIDTH) for text in PROMPTS]
    assert not padded[1, len(prompts[1]["embeds"]) :].any(), "padding is 0"
    batch = noisy_batch() | {"prompts": prompts}
    with torch.no_grad():
        expected = pipeline.transformer(batch["noisy"], batch["t"] * 1000, padded, return_dict=False)[0]
        cut = pipeline.transformer(batch["noisy"], batch["t"] * 1000, padded[:, :8], return_dict=False)[0]
        velocity = policy(**batch)
    torch.testing.assert_close(velocity, expected)
    assert not torch.allclose(cut, expected, atol=1e-3), "padding takes part in attention"


def test_a_prompt_is_cleaned_cut_and_never_empty(policy: WanPolicy) -> None:
    plain, dirty, long = policy.encode_prompt(["a & b", " a  &amp; b ", "b" * 99])
    torch.testing.assert_close(plain, dirty)
    assert len(long["embeds"]) == PROMPT_LENGTH
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        policy.encode_prompt(["a", " "])
    assert policy.encode_prompt([""], allow_empty=True)[0]["embeds"].shape == (1, TEXT_WIDTH)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"prompts": [{"embeds": torch.zeros(count, TEXT_WIDTH)} for count in (2, PROMPT_LENGTH + 1)]},
            "prompt embedding 1",
        ),
        ({"prompts": [{"embeds": torch.zeros(2, 7)}] * 2}, r"\(2, 7\), this model takes at most \(24, 24\)"),
        ({"noisy": torch.zeros(2, 4, 3, 5, 4)}, "do not divide into patches"),
    ],
)
def test_what_does_not_fit_the_transformer_is_refused(policy: WanPolicy, change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        policy(**(noisy_batch() | change))


def test_training_never_meets_autoencoder_or_text_encoder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import AutoencoderKLWan
    from transformers import UMT5EncoderModel

    with monkeypatch.context() as patch:
        for kind in (AutoencoderKLWan, UMT5EncoderModel):
            # With its signature, from which defaults are read.
            refuse = create_autospec(kind.__init__, side_effect=AssertionError("must not be built"))
            patch.setattr(kind, "__init__", refuse)
        policy = build_policy(path, lora=LORA)
        assert policy.latent_space.name == "AutoencoderKLWan"
        policy(**noisy_batch()).sum().backward()
    policy.encode_prompt(["a"])
    policy.encode_video([random_video(5)])
    assert all(name.startswith(("model", "_place")) for name in policy.state_dict())
    assert {type(part).__name__ for part in policy.modules()}.isdisjoint({"AutoencoderKLWan", "UMT5EncoderModel"})
    copied = copy.deepcopy(policy)
    assert copied._codec is policy._codec
    policy.release()
    assert policy._codec._vae is policy._codec._text is None
    assert policy.encode_prompt(["a"])[0]["embeds"].shape == (2, TEXT_WIDTH)


def test_videos_are_encoded_without_a_transformer(path: Path, policy: WanPolicy) -> None:
    unloaded = WanPolicy(str(path), prompt_length=PROMPT_LENGTH)
    torch.testing.assert_close(unloaded.encode_video([random_video(5)]), policy.encode_video([random_video(5)]))
    assert unloaded.model is None


def test_each_of_two_experts_keeps_to_its_noise_levels(path: Path, tmp_path: Path) -> None:
    other = write_tiny_wan(tmp_path / "other", seed=1)
    folder = write_two_experts(path, other, tmp_path / "both")
    low, high = (build_policy(folder, transformer=name) for name in ("transformer_2", "transformer"))
    assert (low.times, high.times) == ((0.0, 0.875), (0.875, 1.0))
    assert torch.equal(velocity_of(low), velocity_of(build_policy(other)))
    batch = noisy_batch()
    guided = (batch["noisy"], guided_sigmas(4, 0.75), batch["prompts"], (), 1.0)
    assert low.denoise(*guided).isfinite().all()
    with pytest.raises(ValueError, match=r"made for noise levels 0.875 to 1, not for 0.75"):
        high.denoise(*guided)
    with pytest.raises(ValueError, match=r"made for noise levels 0 to 0.875, not for 0.875"):
        low.denoise(batch["noisy"], torch.tensor([0.875, 0.0]), batch["prompts"], (), 1.0)


def test_other_checkpoints_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no model_index.json at"):
        WanPolicy(str(tmp_path))
    with pytest.raises(ValueError, match=r"image_dim 8\), but has no channels for the image"):
        WanPolicy(str(write_tiny_wan(tmp_path / "image", text_to_video=False)))
    with pytest.raises(ValueError, match=r"no model_index.json at"):
        WanPolicy(str(save_tiny_video_llava(tmp_path / "llava")))
    with pytest.raises(ValueError, match=r"no transformer_2/config.json at"):
        WanPolicy(str(path), transformer="transformer_2")
    with pytest.raises(ValueError, match="holds a AutoencoderKLWan"):
        WanPolicy(str(path), weights=str(path / "vae"))
    with pytest.raises(ValueError, match=r"no config.json at"):
        WanPolicy(str(path), weights=str(tmp_path))


@pytest.mark.parametrize(
    ("change", "settings", "why"),
    [
        ({"in_channels": 20}, {}, r"has 20 channels in and 4 out; this policy takes 4 \(text to video\) or 12 \(image"),
        ({"pos_embed_seq_len": 514}, {}, "between a first and a last frame"),
        ({}, {"prompt_length": 24}, "prompt_length is 24, and .* beside exactly 512 tokens of text"),
    ],
)
def test_image_checkpoints_that_are_not_taken_are_refused_before_weights_are_read(
    change: dict[str, Any], settings: dict[str, Any], why: str, path: Path, tmp_path: Path
) -> None:
    """Configurations alone: the folder has weights of text to video."""
    folder = shutil.copytree(path, tmp_path / "image")
    config = json.loads((folder / "transformer" / "config.json").read_text())
    config |= {"in_channels": 12, "image_dim": 8, "added_kv_proj_dim": 36, **change}
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    tower = {"image_size": 8, "patch_size": 4, "hidden_size": 8, "num_attention_heads": 2}
    (folder / "image_encoder").mkdir()
    with pytest.raises(ValueError, match=why if change else "no image_encoder/config.json at"):
        WanPolicy(str(folder))
    (folder / "image_encoder" / "config.json").write_text(json.dumps(tower))
    with pytest.raises(ValueError, match=why):
        WanPolicy(str(folder), **settings)
